//===- SkimEncodingSyntax.cpp - how encodings are written and called --------===//

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/DialectImplementation.h"
#include "skim/Skim/SkimEncodings.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace skim;

//===----------------------------------------------------------------------===//
// Syntax
//===----------------------------------------------------------------------===//

namespace {
/// Reads `<key = value, flag, …>`: every key at most once, unknown keys named.
class TermParser {
public:
  TermParser(AsmParser &parser) : parser(parser) {}

  using Handler = llvm::function_ref<ParseResult(StringRef key)>;

  /// `handler` consumes the value (after `=`) of a key, or the flag.
  ParseResult parse(Handler handler) {
    if (parser.parseLess())
      return failure();
    if (succeeded(parser.parseOptionalGreater()))
      return success();
    llvm::StringSet<> seen;
    do {
      SMLoc loc = parser.getCurrentLocation();
      StringRef key;
      if (parser.parseKeyword(&key))
        return failure();
      if (!seen.insert(key).second)
        return parser.emitError(loc, "'") << key << "' is given twice";
      if (handler(key))
        return failure();
    } while (succeeded(parser.parseOptionalComma()));
    return parser.parseGreater();
  }

  ParseResult integer(int64_t &value) {
    return failure(failed(parser.parseEqual()) || failed(parser.parseInteger(value)));
  }
  ParseResult unsignedInteger(unsigned &value) {
    int64_t wide = 0;
    SMLoc loc = parser.getCurrentLocation();
    if (integer(wide))
      return failure();
    if (wide < 0 || wide > 1 << 20)
      return parser.emitError(loc, "expected a small positive integer, got ") << wide;
    value = static_cast<unsigned>(wide);
    return success();
  }
  ParseResult type(Type &value) { return failure(failed(parser.parseEqual()) || failed(parser.parseType(value))); }
  ParseResult keyword(StringRef &value) {
    return failure(failed(parser.parseEqual()) || failed(parser.parseKeyword(&value)));
  }
  ParseResult attribute(Attribute &value) {
    return failure(failed(parser.parseEqual()) || failed(parser.parseAttribute(value)));
  }
  ParseResult unknown(StringRef key, StringRef known) {
    return parser.emitError(parser.getCurrentLocation(), "unknown parameter '")
           << key << "', expected one of " << known;
  }

private:
  AsmParser &parser;
};

template <typename AttrT, typename... Args> Attribute makeChecked(AsmParser &parser, SMLoc loc, Args... args) {
  return AttrT::getChecked([&] { return parser.emitError(loc); }, parser.getContext(), args...);
}
} // namespace

Attribute DenseAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  Type type;
  if (parser.parseLess() || parser.parseType(type) || parser.parseGreater())
    return {};
  return makeChecked<DenseAttr>(parser, loc, type);
}
void DenseAttr::print(AsmPrinter &printer) const { printer << "<" << getType() << ">"; }

Attribute UniformAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0;
  int64_t group = 0;
  bool asymmetric = false;
  Type zero, scale = Float16Type::get(parser.getContext());
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "group")
          return fields.integer(group);
        if (key == "asymmetric") {
          asymmetric = true;
          return success();
        }
        if (key == "zero")
          return fields.type(zero);
        if (key == "scale")
          return fields.type(scale);
        return fields.unknown(key, "bits, group, asymmetric, zero, scale");
      }))
    return {};
  return makeChecked<UniformAttr>(parser, loc, bits, group, asymmetric, zero, scale);
}
void UniformAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits();
  if (getGroup())
    printer << ", group = " << getGroup();
  if (getAsymmetric())
    printer << ", asymmetric";
  if (getZeroType())
    printer << ", zero = " << getZeroType();
  if (!getScaleType().isF16())
    printer << ", scale = " << getScaleType();
  printer << ">";
}

Attribute CodebookAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0;
  Type table = Float16Type::get(parser.getContext());
  bool tensorScope = false;
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "table")
          return fields.type(table);
        if (key == "scope") {
          StringRef scope;
          if (fields.keyword(scope))
            return failure();
          if (scope != "tensor" && scope != "row")
            return parser.emitError(loc, "expected scope = row or tensor, got ") << scope;
          tensorScope = scope == "tensor";
          return success();
        }
        return fields.unknown(key, "bits, table, scope");
      }))
    return {};
  return makeChecked<CodebookAttr>(parser, loc, bits, table, tensorScope);
}
void CodebookAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits();
  if (!getTable().isF16())
    printer << ", table = " << getTable();
  if (getTensorScope())
    printer << ", scope = tensor";
  printer << ">";
}

static StringRef spell(BlockElement element) {
  switch (element) {
  case BlockElement::Int:
    return "int";
  case BlockElement::OcpInt:
    return "ocp_int";
  case BlockElement::E2M1:
    return "e2m1";
  }
  return "int";
}

Attribute BlockFloatAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0;
  int64_t block = 16;
  BlockElement element = BlockElement::Int;
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "block")
          return fields.integer(block);
        if (key == "element") {
          StringRef name;
          if (fields.keyword(name))
            return failure();
          for (BlockElement candidate : {BlockElement::Int, BlockElement::OcpInt, BlockElement::E2M1})
            if (spell(candidate) == name) {
              element = candidate;
              return success();
            }
          return parser.emitError(loc, "expected element = int, ocp_int or e2m1, got ") << name;
        }
        return fields.unknown(key, "bits, block, element");
      }))
    return {};
  return makeChecked<BlockFloatAttr>(parser, loc, bits, block, element);
}
void BlockFloatAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits() << ", block = " << getBlock();
  if (getElement() != BlockElement::Int)
    printer << ", element = " << spell(getElement());
  printer << ">";
}

Attribute PlanesAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0, levels = 0;
  int64_t group = 0;
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "levels")
          return fields.unsignedInteger(levels);
        if (key == "group")
          return fields.integer(group);
        return fields.unknown(key, "bits, levels, group");
      }))
    return {};
  if (levels == 0 && bits < 16)
    levels = 1u << bits;
  return makeChecked<PlanesAttr>(parser, loc, bits, levels, group);
}
void PlanesAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits();
  if (getLevels() != 1u << getBits())
    printer << ", levels = " << getLevels();
  if (getGroup())
    printer << ", group = " << getGroup();
  printer << ">";
}

/// The text of a part up to its colon: brackets balance in it.
static StringRef partText(const char *begin) {
  int depth = 0;
  const char *end = begin;
  for (; *end; ++end) {
    if (StringRef("<[({").contains(*end))
      ++depth;
    else if (StringRef(">])}").contains(*end) && depth-- == 0)
      break;
    else if (depth == 0 && (*end == ':' || *end == ','))
      break;
  }
  return StringRef(begin, end - begin).rtrim();
}

/// `#skim.codebook<bits = 2> : 16`, or an alias in place of the term. MLIR's own
/// parser reads `: 16` after a dialect's attribute as that attribute's type, so
/// such a term is parsed from its text; then the tokens are passed over by
/// letting MLIR's parser fail at the count, silently.
static ParseResult parsePart(AsmParser &parser, Attribute &part, int64_t &count) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef text = partText(loc.getPointer());
  if (!text.starts_with("#") || !text.take_until([](char c) { return c == '<'; }).contains('.') ||
      text.end()[0] == ',' || text.end()[0] == ']')
    return failure(parser.parseAttribute(part) || parser.parseColon() || parser.parseInteger(count));
  std::string message;
  {
    ScopedDiagnosticHandler handler(parser.getContext(), [&](Diagnostic &diagnostic) {
      if (message.empty())
        message = diagnostic.str();
      return success();
    });
    part = parseAttribute(text, parser.getContext());
    Attribute ignored;
    (void)parser.parseAttribute(ignored);
  }
  if (!part)
    return parser.emitError(loc) << message;
  return parser.parseInteger(count);
}

Attribute RowsAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  SmallVector<Attribute> parts;
  SmallVector<int64_t> counts;
  if (parser.parseLess() ||
      parser.parseCommaSeparatedList(
          AsmParser::Delimiter::Square,
          [&]() -> ParseResult { return parsePart(parser, parts.emplace_back(), counts.emplace_back()); }) ||
      parser.parseGreater())
    return {};
  return makeChecked<RowsAttr>(parser, loc, ArrayRef<Attribute>(parts), ArrayRef<int64_t>(counts));
}
void RowsAttr::print(AsmPrinter &printer) const {
  printer << "<[";
  llvm::interleaveComma(llvm::zip(getParts(), getCounts()), printer,
                        [&](auto pair) { printer << std::get<0>(pair) << " : " << std::get<1>(pair); });
  printer << "]>";
}

Attribute ScaledAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  Attribute inner;
  if (parser.parseLess() || parser.parseAttribute(inner) || parser.parseGreater())
    return {};
  return makeChecked<ScaledAttr>(parser, loc, inner);
}
void ScaledAttr::print(AsmPrinter &printer) const { printer << "<" << getInner() << ">"; }

Attribute LowRankAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  Attribute base, factors;
  int64_t rank = 0;
  if (parser.parseLess() || parser.parseAttribute(base) || parser.parseComma() || parser.parseKeyword("rank") ||
      parser.parseEqual() || parser.parseInteger(rank) || parser.parseComma() || parser.parseKeyword("factors") ||
      parser.parseEqual() || parser.parseAttribute(factors) || parser.parseGreater())
    return {};
  return makeChecked<LowRankAttr>(parser, loc, base, rank, factors);
}
void LowRankAttr::print(AsmPrinter &printer) const {
  printer << "<" << getBase() << ", rank = " << getRank() << ", factors = " << getFactors() << ">";
}

Attribute PerTokenAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0;
  bool asymmetric = false;
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "asymmetric") {
          asymmetric = true;
          return success();
        }
        return fields.unknown(key, "bits, asymmetric");
      }))
    return {};
  return makeChecked<PerTokenAttr>(parser, loc, bits, asymmetric);
}
void PerTokenAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits() << (getAsymmetric() ? ", asymmetric>" : ">");
}

//===----------------------------------------------------------------------===//
// Short names
//===----------------------------------------------------------------------===//

static std::string spellAttribute(Attribute attr) {
  std::string text;
  llvm::raw_string_ostream(text) << attr;
  return text;
}

std::string DenseAttr::getShortName() const { return spellAttribute(*this); }

std::string UniformAttr::getShortName() const {
  if (getZeroType() || !getScaleType().isF16())
    return spellAttribute(*this);
  std::string name = "w" + std::to_string(getBits());
  if (getGroup())
    name += "g" + std::to_string(getGroup());
  return getAsymmetric() ? name + "a" : name;
}

std::string CodebookAttr::getShortName() const {
  if (getTensorScope() || getTable().isBF16())
    return spellAttribute(*this);
  return "k" + std::to_string(getBits()) + (getTable().isInteger(8) ? "i" : "");
}

std::string BlockFloatAttr::getShortName() const {
  if (getElement() != BlockElement::Int || getBlock() != 16)
    return spellAttribute(*this);
  return "mx" + std::to_string(getBits());
}

std::string PlanesAttr::getShortName() const {
  if (getGroup())
    return spellAttribute(*this);
  return "p" + std::to_string(getBits()) + (getLevels() != 1u << getBits() ? "b" : "");
}

std::string RowsAttr::getShortName() const { return spellAttribute(*this); }
std::string ScaledAttr::getShortName() const { return spellAttribute(*this); }

std::string LowRankAttr::getShortName() const {
  std::string base = cast<WeightEncoding>(getBase()).getShortName();
  if (base.front() == '#' || cast<WeightEncoding>(getFactors()).getShortName() != "mx8")
    return spellAttribute(*this);
  return base + "+r" + std::to_string(getRank());
}
