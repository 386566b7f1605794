//===- Tiles.cpp - how weights lie for GPUs ---------------------------------===//

#include "skim/Target/GPU/Tiles.h"

#include "skim/Support/Threads.h"
#include "skim/Target/GPU/Decoder.h"

#include <cstring>

using namespace mlir;
using namespace skim;

int64_t TiledComponent::rowBytes() const {
  return kind == Planes ? bits * ((columns + 7) / 8) : (columns * bits + 7) / 8;
}

int64_t TiledComponent::bytes(int64_t canonical) const {
  if (kind == Canonical)
    return canonical;
  return static_cast<int64_t>(llvm::alignTo(rows, kTileRows)) * rowBytes();
}

static void tileTerm(Attribute term, int64_t rows, int64_t columns, SmallVectorImpl<TiledComponent> &all) {
  if (auto lowRank = dyn_cast<LowRankAttr>(term)) {
    tileTerm(lowRank.getBase(), rows, columns, all);
    tileTerm(lowRank.getFactors(), lowRank.getRank(), columns, all);
    tileTerm(lowRank.getFactors(), rows, lowRank.getRank(), all);
  } else if (auto scaled = dyn_cast<ScaledAttr>(term)) {
    tileTerm(scaled.getInner(), rows, columns, all);
    all.emplace_back();
  } else if (auto parts = dyn_cast<RowsAttr>(term)) {
    for (auto [part, count] : llvm::zip(parts.getParts(), parts.getCounts()))
      tileTerm(part, count, columns, all);
    all.emplace_back();
  } else {
    auto leaf = cast<WeightEncoding>(term);
    size_t count = getComponents(leaf, {rows, columns}).size();
    // Layouts are the same for all targets and modes.
    SmallVector<TiledComponent> own;
    if (std::unique_ptr<device::Decoder> decoder = device::makeDecoder(leaf, {columns, false}))
      own = decoder->components(rows);
    own.resize(count);
    all.append(own);
  }
}

SmallVector<TiledComponent> skim::tiledComponents(WeightEncoding term, ArrayRef<int64_t> shape) {
  SmallVector<TiledComponent> all;
  tileTerm(term, shape[0], shape[1], all);
  return all;
}

int64_t skim::placeOf(CodeOrder order, int64_t j) {
  switch (order) {
  case CodeOrder::Adjacent:
    return j;
  case CodeOrder::Split:
    return j / 2 + 4 * (j % 2);
  case CodeOrder::Bytes:
    return 2 * (j % 4) + j / 4;
  }
}

std::pair<int64_t, int64_t> skim::placeOfBit(int64_t bits, int64_t s, int64_t p, int64_t b) {
  if (bits > 4) {
    if (b < 4)
      return {s, 4 * p + b};
    auto [word, bit] = placeOfBit(bits - 4, s, p, b - 4);
    return {4 + word, bit};
  }
  switch (bits) {
  case 1:
    return {0, 4 * p + s};
  case 2:
    return {s / 2, 4 * p + 2 * (s % 2) + b};
  case 3:
    return s < 3 ? std::pair{s, 4 * p + b} : std::pair{b, 4 * p + 3};
  default:
    return {s, 4 * p + b};
  }
}

namespace {
bool bitAt(const uint8_t *bytes, int64_t bit) { return bytes[bit / 8] >> (bit % 8) & 1; }
void setBit(uint8_t *bytes, int64_t bit) { bytes[bit / 8] |= static_cast<uint8_t>(1u << (bit % 8)); }

/// The place of bit `b` of row `row` of a tile, column `column`, from the tile's first bit.
int64_t placeInTile(const TiledComponent &c, int64_t row, int64_t column, int64_t b) {
  int64_t g = row % 8, h = row / 8, block = blockColumns(c.bits);
  int64_t rest = restColumns(c.columns), blocks = c.columns / block;
  if (column >= c.columns - rest) {
    int64_t restBytes = (rest * c.bits + 7) / 8;
    int64_t before = (c.columns - rest) * c.bits * kTileRows / 8;
    return 8 * (before + row * restBytes) + (column - (c.columns - rest)) * c.bits + b;
  }
  bool narrow = column >= blocks * block;
  int64_t width = narrow ? kNarrowColumns : block;
  int64_t start = narrow ? blocks * block + (column - blocks * block) / width * width : column / width * width;
  int64_t base = start * c.bits * kTileRows / 8;
  int64_t i = (column - start) / kStepColumns, t = column % kStepColumns / 8, j = column % 8, lane = 4 * g + t;
  if (c.bits == 16)
    return 8 * (base + (2 * h + i) * 512 + lane * 16 + 2 * j) + b;
  if (c.bits == 32)
    return 8 * (base + (2 * (2 * h + i) + j / 4) * 512 + lane * 16 + 4 * (j % 4)) + b;
  int64_t place = placeOf(c.order, j);
  auto [word, bit] = placeOfBit(c.bits, narrow ? 2 * h + i : i % 4, place, b);
  int64_t byte = narrow ? word * 128 + lane * 4 : word * 512 + lane * 16 + (2 * (i / 4) + h) * 4;
  return 8 * (base + byte) + bit;
}

template <bool packing>
void moveCodes(const TiledComponent &c, std::span<const uint8_t> from, std::span<uint8_t> to, unsigned threads) {
  int64_t rowBytes = c.rowBytes(), tiles = (c.rows + kTileRows - 1) / kTileRows;
  parallelFor(tiles, 4, threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t tile = begin; tile < end; ++tile) {
      int64_t first = tile * kTileRows, rows = std::min(kTileRows, c.rows - first);
      const uint8_t *source = from.data() + first * rowBytes;
      uint8_t *target = to.data() + first * rowBytes;
      std::memset(target, 0, (packing ? kTileRows : rows) * rowBytes);
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < c.columns; ++column)
          for (int64_t b = 0; b < c.bits; ++b) {
            int64_t canonical =
                8 * row * rowBytes +
                (c.kind == TiledComponent::Planes ? 8 * b * ((c.columns + 7) / 8) + column : column * c.bits + b);
            int64_t tiled = placeInTile(c, row, column, b);
            if (bitAt(source, packing ? canonical : tiled))
              setBit(target, packing ? tiled : canonical);
          }
    }
  });
}

template <bool packing> void moveGroups(const TiledComponent &c, std::span<const uint8_t> from, std::span<uint8_t> to) {
  int64_t size = c.bits / 8;
  if (packing)
    std::memset(to.data(), 0, to.size());
  for (int64_t row = 0; row < c.rows; ++row) {
    int64_t first = row / kTileRows * kTileRows;
    for (int64_t group = 0; group < c.columns; ++group) {
      int64_t canonical = size * (row * c.columns + group);
      int64_t tiled = size * (first * c.columns + group * kTileRows + row - first);
      std::memcpy(&to[packing ? tiled : canonical], &from[packing ? canonical : tiled], size);
    }
  }
}

template <bool packing>
void move(const TiledComponent &c, std::span<const uint8_t> from, std::span<uint8_t> to, unsigned threads) {
  switch (c.kind) {
  case TiledComponent::Canonical:
    std::memcpy(to.data(), from.data(), from.size());
    break;
  case TiledComponent::Codes:
  case TiledComponent::Planes:
    moveCodes<packing>(c, from, to, threads);
    break;
  case TiledComponent::Groups:
    moveGroups<packing>(c, from, to);
    break;
  }
}
} // namespace

void skim::packTiles(const TiledComponent &component, std::span<const uint8_t> from, std::span<uint8_t> to,
                     unsigned threads) {
  move<true>(component, from, to, threads);
}

void skim::unpackTiles(const TiledComponent &component, std::span<const uint8_t> from, std::span<uint8_t> to,
                       unsigned threads) {
  move<false>(component, from, to, threads);
}
