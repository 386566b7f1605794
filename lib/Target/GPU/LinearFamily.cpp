//===- LinearFamily.cpp - calls whose launches share kernels ----------------===//

#include "skim/Target/GPU/LinearFamily.h"

#include "Schedule/Schedules.h"

#include <map>

using namespace mlir;
using namespace skim;
using namespace skim::device;

/// Kinds of pieces in all kernels of one shape, as far as unions bring them down to it. Each is code of its own, of
/// which a step has about five times as much as here; a kernel that has more than it needs may take more registers.
static constexpr int64_t kMostKinds = 12;

PieceKind::PieceKind(const LinearPiece &piece)
    : leaf(piece.leaf), permutation(piece.permutation >= 0 ? piece.permutationType : Type()),
      partial(permutation || piece.n % kTileRows != 0), scaled(piece.alpha >= 0), biased(piece.bias >= 0) {}

/// Kinds with the longest rows come first: their blocks take longest.
static bool isBefore(const PieceKind &a, const PieceKind &b) {
  auto keyOf = [](const PieceKind &kind) {
    int64_t bits = 0;
    for (const Component &component : getComponents(kind.leaf, {kTileRows, 4096}))
      bits += component.getBits();
    return std::tuple(-bits, kind.leaf.getShortName(), kind.permutation ? kind.permutation.getIntOrFloatBitWidth() : 0,
                      kind.partial, kind.scaled, kind.biased);
  };
  return keyOf(a) < keyOf(b);
}

SmallVector<const LinearPiece *> device::byKind(const LinearPieces &parts) {
  SmallVector<const LinearPiece *> pieces;
  for (const LinearPiece &piece : parts.pieces)
    pieces.push_back(&piece);
  llvm::sort(pieces, [](const LinearPiece *a, const LinearPiece *b) {
    PieceKind first(*a), second(*b);
    return isBefore(first, second) || (first == second && a < b);
  });
  return pieces;
}

using Kinds = SmallVector<PieceKind>;

static Kinds kindsOf(const LinearPieces &parts) {
  Kinds kinds;
  for (const LinearPiece *piece : byKind(parts))
    kinds.emplace_back(*piece);
  return kinds;
}

/// As many of each kind as the one has that has more.
static Kinds unite(const Kinds &a, const Kinds &b) {
  Kinds all;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all), isBefore);
  return all;
}

static int64_t different(const Kinds &kinds) {
  int64_t count = 0;
  for (size_t i = 0; i < kinds.size(); ++i)
    count += i == 0 || !(kinds[i] == kinds[i - 1]);
  return count;
}

/// Unites the pairs that save most, until kernels have few enough kinds or unions save nothing.
static void unitePairs(std::vector<Kinds> &kernels) {
  for (;;) {
    int64_t all = 0, most = 0;
    for (const Kinds &kernel : kernels)
      all += different(kernel);
    if (all <= kMostKinds)
      return;
    std::pair<size_t, size_t> best;
    for (size_t i = 0; i < kernels.size(); ++i)
      for (size_t j = i + 1; j < kernels.size(); ++j) {
        Kinds both = unite(kernels[i], kernels[j]);
        int64_t saved = different(kernels[i]) + different(kernels[j]) - different(both);
        if (saved > most && both.size() <= kMostPieces) {
          most = saved;
          best = {i, j};
        }
      }
    if (most == 0)
      return;
    kernels[best.first] = unite(kernels[best.first], kernels[best.second]);
    kernels.erase(kernels.begin() + static_cast<ptrdiff_t>(best.second));
  }
}

LinearFamilies::Shape LinearFamilies::shapeOf(const LinearCall &call, const LinearPieces &parts) const {
  Shape shape = {call.k, call.mode, {}, hasWgmma};
  for (const LinearPanel &panel : call.panels)
    shape.rows.push_back(panel.n);
  for (const LinearPiece &piece : parts.pieces) {
    std::unique_ptr<Decoder> decoder = makeDecoder(piece.leaf, {call.k, call.mode == "bf16"});
    shape.wide = shape.wide && decoder && fitsWide(*decoder, call.k);
  }
  return shape;
}

const LinearFamilies::Member *LinearFamilies::memberOf(const Shape &shape, const Kinds &kinds) const {
  auto found =
      llvm::find_if(members, [&](const Member &member) { return member.shape == shape && member.kinds == kinds; });
  return found == members.end() ? nullptr : &*found;
}

LinearFamilies::LinearFamilies(ArrayRef<LinearCall> calls, const GPUTarget &target) : hasWgmma(target.hasWgmma()) {
  std::vector<Shape> shapes;
  std::vector<LinearPieces> apart;
  for (const LinearCall &call : calls) {
    LinearPieces parts = takeApart(call);
    if (!parts.pairs.empty())
      continue;
    shapes.push_back(shapeOf(call, parts));
    apart.push_back(std::move(parts));
    if (Kinds kinds = kindsOf(apart.back()); !memberOf(shapes.back(), kinds))
      members.push_back({shapes.back(), kinds, 0});
  }
  for (size_t i = 0; i < members.size(); ++i) {
    const Shape &shape = members[i].shape;
    auto isSame = [&](const Member &member) { return member.shape == shape; };
    if (llvm::find_if(members, isSame) != members.begin() + static_cast<ptrdiff_t>(i))
      continue;
    std::vector<Kinds> kernels;
    for (const Member &member : llvm::make_filter_range(members, isSame))
      kernels.push_back(member.kinds);
    unitePairs(kernels);
    for (Member &member : llvm::make_filter_range(members, isSame)) {
      auto has = [&](const Kinds &kernel) { return unite(kernel, member.kinds).size() == kernel.size(); };
      // Of those that have all kinds, the smallest: a union may hold another list whole.
      auto smallest = kernels.end();
      for (auto at = kernels.begin(); at != kernels.end(); ++at)
        if (has(*at) && (smallest == kernels.end() || at->size() < smallest->size()))
          smallest = at;
      member.family = families.size() + static_cast<size_t>(smallest - kernels.begin());
    }
    for (const Kinds &kernel : kernels) {
      families.emplace_back();
      for (const PieceKind &kind : kernel)
        families.back().slots.push_back({kind});
    }
  }
  std::vector<int64_t> sizes(families.size());
  for (auto [shape, parts] : llvm::zip(shapes, apart)) {
    size_t index = memberOf(shape, kindsOf(parts))->family;
    ++sizes[index];
    LinearFamily &family = families[index];
    auto slot = family.slots.begin();
    for (const LinearPiece *piece : byKind(parts)) {
      while (!(slot->kind == PieceKind(*piece)))
        ++slot;
      slot->typical += piece->n; // of all, so far
      slot->most = std::max(slot->most, piece->n);
      ++slot;
    }
  }
  for (auto [family, size] : llvm::zip(families, sizes))
    for (LinearFamily::Slot &slot : family.slots)
      slot.typical = size ? (slot.typical + size / 2) / size : 0;
}

const LinearFamily *LinearFamilies::find(const LinearCall &call) const {
  LinearPieces parts = takeApart(call);
  if (!parts.pairs.empty())
    return nullptr;
  const Member *member = memberOf(shapeOf(call, parts), kindsOf(parts));
  return member ? &families[member->family] : nullptr;
}
