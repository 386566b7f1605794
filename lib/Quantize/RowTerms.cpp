#include "skim/Quantize/RowTerms.h"
#include "skim/Quantize/Allocation.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <span>

using namespace skim;

namespace {
/// What a kind of grids is.
struct GridKind {
  RowTerm kind;
  int64_t group;
  bool affine;
};
constexpr GridKind gridKinds[] = {
    {UniformRow, 0, false}, {AffineRow, 0, true}, {Uniform64Row, 64, false}, {Affine64Row, 64, true}};

/// The letter of one bit of each kind; seven follow it.
struct Letter {
  RowTerm kind;
  char first;
};
constexpr Letter letters[] = {{CodebookRow, '1'}, {UniformRow, 'a'},   {AffineRow, 'A'},  {SharedRow, 'i'},
                              {HalfRow, 'I'},     {Uniform64Row, 'q'}, {Affine64Row, 'Q'}};

const GridKind *gridKind(uint8_t term) {
  auto found = std::find_if(std::begin(gridKinds), std::end(gridKinds),
                            [&](const GridKind &grid) { return grid.kind == kindOf(term); });
  return found == std::end(gridKinds) ? nullptr : found;
}

/// Longest rows whose terms are chosen by what they store beside their codes.
constexpr int64_t shortRow = 256;
/// Longest rows for which a table of their own is still a twentieth of them.
constexpr int64_t mediumRow = 512;
/// Shortest rows where f16 tables may be worth their bytes.
constexpr int64_t longRow = 2048;
} // namespace

bool skim::isUniform(uint8_t term) { return gridKind(term); }

UniformFormat skim::uniformFormatOf(uint8_t term) {
  UniformFormat format;
  format.bits = bitsOf(term);
  if (const GridKind *grid = gridKind(term)) {
    format.group = grid->group;
    format.asymmetric = format.floatZero = grid->affine;
  }
  return format;
}

DType skim::tableOf(uint8_t term, DType table) { return kindOf(term) == CodebookRow ? table : DType::F16; }

CodebookFormat skim::codebookFormatOf(uint8_t term, DType table) {
  return {bitsOf(term), tableOf(term, table), kindOf(term) == SharedRow};
}

uint64_t skim::storedRowBytes(uint8_t term, DType table, int64_t columns) {
  return isUniform(term) ? storedRowBytes(uniformFormatOf(term), columns)
                         : storedRowBytes(codebookFormatOf(term, table), columns);
}

uint64_t skim::sharedTableBytes(uint8_t term) {
  return kindOf(term) == SharedRow ? dtypeSize(DType::F16) << bitsOf(term) : 0;
}

char skim::letterOf(uint8_t term) {
  for (const Letter &letter : letters)
    if (letter.kind == kindOf(term))
      return static_cast<char>(letter.first + bitsOf(term) - 1);
  return '?';
}

std::optional<uint8_t> skim::termOfLetter(char letter) {
  for (const Letter &of : letters)
    if (letter >= of.first && letter < of.first + 8)
      return uint8_t(of.kind + 1 + (letter - of.first));
  return std::nullopt;
}

namespace {
using Terms = std::vector<uint8_t>;

void add(Terms &terms, RowTerm kind, std::initializer_list<unsigned> widths) {
  for (unsigned bits : widths)
    terms.push_back(uint8_t(kind + bits));
}

/// Terms that each family has.
Terms commonTerms(int64_t columns) {
  Terms terms;
  const bool isShort = columns <= shortRow;
  add(terms, UniformRow,
      isShort ? std::initializer_list<unsigned>{2, 3, 4, 5, 6, 8} : std::initializer_list<unsigned>{8});
  add(terms, AffineRow, isShort ? std::initializer_list<unsigned>{2, 3, 4, 5, 6} : std::initializer_list<unsigned>{6});
  if (columns >= longRow)
    add(terms, HalfRow, {4, 5});
  return terms;
}

/// Terms of which a family has a few.
Terms sharedTerms(int64_t columns) {
  Terms terms;
  if (columns <= shortRow)
    add(terms, SharedRow, {1, 2, 3, 4, 5});
  else if (columns <= mediumRow)
    add(terms, SharedRow, {2, 3, 4});
  return terms;
}

Terms groupedTerms(int64_t columns) {
  Terms terms;
  if (columns > shortRow) {
    add(terms, Uniform64Row, {3, 4, 5});
    add(terms, Affine64Row, {4});
  }
  return terms;
}

Terms joined(const Terms &a, std::span<const uint8_t> b) {
  Terms all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}
} // namespace

std::vector<uint8_t> skim::furtherTerms(int64_t columns) {
  return joined(joined(commonTerms(columns), sharedTerms(columns)), groupedTerms(columns));
}

std::vector<std::vector<uint8_t>> skim::termFamilies(int64_t columns, unsigned minBits, unsigned maxBits) {
  Terms own;
  for (unsigned bits = minBits; bits <= maxBits; ++bits)
    own.push_back(uint8_t(bits));
  own = joined(own, commonTerms(columns));
  std::vector<Terms> families = {own};
  // A table that hardly any row uses is not worth its bytes: neighbouring widths, at most three.
  const Terms shared = sharedTerms(columns);
  for (size_t count = 1; count <= std::min<size_t>(3, shared.size()); ++count)
    for (size_t first = 0; first + count <= shared.size(); ++first)
      families.push_back(joined(own, std::span(shared).subspan(first, count)));
  if (const Terms grouped = groupedTerms(columns); !grouped.empty())
    families.push_back(joined(own, grouped));
  return families;
}

double skim::familyMargin(std::span<const uint8_t> family) {
  const bool groups = std::any_of(family.begin(), family.end(),
                                  [](uint8_t term) { return isUniform(term) && uniformFormatOf(term).group != 0; });
  return groups ? 1.15 : 1.0;
}
