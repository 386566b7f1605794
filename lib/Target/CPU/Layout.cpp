//===- Layout.cpp - how a target's packages store codes ---------------------===//

#include "skim/Target/CPU/Layout.h"

#include "skim/Support/Threads.h"
#include "skim/Target/CPU/Decoder.h"

#include <cstring>
#include <numeric>

using namespace mlir;
using namespace skim;

int64_t skim::layoutBlock(LayoutAttr layout, int64_t bits, int64_t group, int64_t columns) {
  if (!layout || bits < 1 || bits > 8)
    return 0;
  int64_t word = layout.getWord(), block = layout.getLanes() * word / std::gcd(word, bits);
  bool cut = group > 0 && group < columns && group % block != 0;
  return cut || columns < block ? 0 : block;
}

/// Appends what a leaf's components become.
static void turnLeaf(WeightEncoding leaf, int64_t rows, int64_t columns, LayoutAttr layout,
                     SmallVectorImpl<TurnedCodes> &all) {
  // What a layout needs to know of a leaf is the same on every target.
  TargetInfo target;
  std::unique_ptr<Decoder> decoder = makeDecoder(leaf, {target, columns, decodeLanes(target), true, layout});
  size_t first = all.size();
  all.resize(first + getComponents(leaf, {rows, columns}).size());
  if (int64_t block = decoder ? decoder->block() : 0)
    all[first] = {rows, columns, decoder->bitsPerColumn(), block, layout.getWord(), layout.getLanes()};
}

static void turnTerm(Attribute term, int64_t rows, int64_t columns, LayoutAttr layout,
                     SmallVectorImpl<TurnedCodes> &all) {
  if (auto lowRank = dyn_cast<LowRankAttr>(term)) {
    turnTerm(lowRank.getBase(), rows, columns, layout, all);
    turnTerm(lowRank.getFactors(), lowRank.getRank(), columns, layout, all);
    turnTerm(lowRank.getFactors(), rows, lowRank.getRank(), layout, all);
  } else if (auto scaled = dyn_cast<ScaledAttr>(term)) {
    turnTerm(scaled.getInner(), rows, columns, layout, all);
    all.emplace_back();
  } else if (auto parts = dyn_cast<RowsAttr>(term)) {
    for (auto [part, count] : llvm::zip(parts.getParts(), parts.getCounts()))
      turnTerm(part, count, columns, layout, all);
    all.emplace_back();
  } else {
    turnLeaf(cast<WeightEncoding>(term), rows, columns, layout, all);
  }
}

SmallVector<TurnedCodes> skim::turnedCodes(WeightEncoding term, ArrayRef<int64_t> shape, LayoutAttr layout) {
  SmallVector<TurnedCodes> all;
  turnTerm(term, shape[0], shape[1], layout, all);
  return all;
}

namespace {
/// Bits of a row of bytes, LSB first.
unsigned bitsAt(const uint8_t *row, int64_t bit, unsigned count) {
  unsigned value = row[bit / 8] >> (bit % 8);
  if (bit % 8 + count > 8)
    value |= unsigned(row[bit / 8 + 1]) << (8 - bit % 8);
  return value & ((1u << count) - 1);
}
void putBits(uint8_t *row, int64_t bit, unsigned count, unsigned value) {
  row[bit / 8] |= static_cast<uint8_t>(value << (bit % 8));
  if (bit % 8 + count > 8)
    row[bit / 8 + 1] |= static_cast<uint8_t>(value >> (8 - bit % 8));
}

/// Where the words of a block are.
struct TurnedBlock {
  explicit TurnedBlock(const TurnedCodes &codes)
      : word(codes.word), lanes(codes.lanes), bits(codes.bits), columns(codes.block) {}
  int64_t word, lanes, bits, columns;

  /// The bit of lane `lane`'s string at `position`, from the block's first.
  int64_t bit(int64_t lane, int64_t position) const {
    return (position / word * lanes + lane) * word + position % word;
  }
  /// Calls `body(canonical, turned, count)` for runs of bits of each code: one, or two where it is cut by a word.
  template <typename BodyT> void forEachRun(BodyT body) const {
    for (int64_t column = 0; column < columns; ++column) {
      int64_t lane = column % lanes, position = column / lanes * bits;
      int64_t fits = std::min(bits, word - position % word);
      body(column * bits, bit(lane, position), fits);
      if (fits < bits)
        body(column * bits + fits, bit(lane, position + fits), bits - fits);
    }
  }
};
} // namespace

/// Rows with their blocks turned in one of the two directions.
template <bool packing>
static void turn(const TurnedCodes &codes, std::span<const uint8_t> from, std::span<uint8_t> to, unsigned threads) {
  int64_t rowBytes = (codes.columns * codes.bits + 7) / 8, blockBytes = codes.block * codes.bits / 8;
  int64_t turnedBytes = codes.columns / codes.block * blockBytes;
  TurnedBlock block(codes);
  parallelFor(codes.rows, 64, threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t row = begin; row < end; ++row) {
      const uint8_t *source = from.data() + row * rowBytes;
      uint8_t *target = to.data() + row * rowBytes;
      std::memset(target, 0, turnedBytes);
      for (int64_t at = 0; at < turnedBytes; at += blockBytes)
        block.forEachRun([&](int64_t canonical, int64_t turned, int64_t count) {
          int64_t read = packing ? canonical : turned, write = packing ? turned : canonical;
          putBits(target + at, write, count, bitsAt(source + at, read, count));
        });
      std::memcpy(target + turnedBytes, source + turnedBytes, rowBytes - turnedBytes);
    }
  });
}

void skim::packCodes(const TurnedCodes &codes, std::span<const uint8_t> from, std::span<uint8_t> to, unsigned threads) {
  turn<true>(codes, from, to, threads);
}

void skim::unpackCodes(const TurnedCodes &codes, std::span<const uint8_t> from, std::span<uint8_t> to,
                       unsigned threads) {
  turn<false>(codes, from, to, threads);
}

LayoutAttr skim::turnedLayout(MLIRContext *context, const TargetInfo &target, StringRef mode) {
  // Pairs of bf16 fill a vector with twice as many codes as floats do.
  unsigned lanes = static_cast<unsigned>(decodeLanes(target));
  return mode == "bf16" ? LayoutAttr::get(context, 16, 2 * lanes) : LayoutAttr::get(context, 32, lanes);
}

LayoutAttr skim::chooseLayout(const TargetInfo &target, WeightEncoding term, ArrayRef<int64_t> shape, StringRef mode) {
  // AVX2 spreads codes of few bits in several steps that one shift replaces. AVX-512's permute of bytes is as fast, in
  // whole models faster; narrower vectors were not measured.
  if (target.vectorBits != 256)
    return {};
  LayoutAttr layout = turnedLayout(term.getContext(), target, mode);
  bool turns = false;
  for (const TurnedCodes &codes : turnedCodes(term, shape, layout)) {
    if (!codes.block)
      continue;
    if (codes.bits > 3)
      return {};
    turns = true;
  }
  return turns ? layout : LayoutAttr();
}
