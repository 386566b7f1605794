//===- Tiles.h - how weights lie for GPUs -----------------------*- C++ -*-===//
//
// Rows are taken in tiles of 16; the last one is filled up with zeros. A tile takes
// the bytes that 16 rows have in canonical form (SkimEncodings.td); within it, bits
// are moved so that a warp reads 512 consecutive bytes in one request and finds its
// codes where mma.m16n8k16 wants its operand A.
//
// Lane l = 4g + t of a warp has rows g and g + 8 of the tile (half h = 0, 1). A
// *step* is 32 columns, of which a lane has 8t … 8t + 7; it is two products of
// 16 columns, in an order of columns that x shares.
//
// Codes of b ≤ 8 bits, K columns:
//   ⌊K/256⌋ blocks of 8 steps, 512·b bytes: word u (0 … b − 1) of (h, G), G = steps
//     4G … 4G + 3, is at u·512 + l·16 + (2G + h)·4, the step's number s = i mod 4;
//   ⌊(K mod 256)/64⌋ narrow blocks of 2 steps, 128·b bytes: word u is at
//     u·128 + l·4, s = 2h + i;
//   the rest (K mod 64) as 16 canonical rows.
// So four steps' codes (s = 0 … 3) lie in b words:
//   b = 1: bit 4p + s of the word; b = 2: bits 4p + 2(s mod 2) … of word ⌊s/2⌋;
//   b = 3: bits 4p … 4p + 2 of word s, but of s = 3 bit β is bit 4p + 3 of word β;
//   b = 4: bits 4p … 4p + 3 of word s; b > 4: the lower four bits as for 4, the
//   others as for b − 4 in the words behind.
// p is the place of a lane's column j (0 … 7): j (`adjacent`: table lookups take
// four neighbours), ⌊j/2⌋ + 4(j mod 2) (`split`: pairs lie 16 bits apart), or
// 2(j mod 4) + ⌊j/4⌋ (`bytes`: four neighbours lie in as many bytes).
//
// Floats of 16 and 32 bits: ⌊K/64⌋ blocks of 2 steps, units of 512 bytes: column
// j of (h, i) at (2h + i)·512 + l·16 + 2j, with 32 bits at
// (2(2h + i) + ⌊j/4⌋)·512 + l·16 + 4(j mod 4); then the rest as canonical rows.
//
// What there is once a group (scales, zero points of whole bytes, exponents) lies
// [group][row of the tile]. Bit planes lie as codes, at the front of their bytes.
// Whatever else there is is canonical and not filled up.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_GPU_TILES_H
#define SKIM_TARGET_GPU_TILES_H

#include "skim/Skim/SkimEncodings.h"

#include <cstdint>
#include <span>

namespace skim {

inline constexpr int64_t kTileRows = 16, kBlockColumns = 256, kNarrowColumns = 64, kStepColumns = 32;

/// Where a lane's eight columns of a step lie in a word of four bits each.
enum class CodeOrder { Adjacent, Split, Bytes };
/// The place of the lane's column `j` (0 … 7).
int64_t placeOf(CodeOrder order, int64_t j);

/// What becomes of a component.
struct TiledComponent {
  enum Kind {
    Canonical, ///< stored as it is
    Codes,     ///< packed codes or floats, `bits` each
    Planes,    ///< bit planes, stored as codes of `bits` bits
    Groups     ///< elements of `bits` bits, `columns` of them a row
  };
  Kind kind = Canonical;
  int64_t rows = 0, columns = 0, bits = 0;
  CodeOrder order = CodeOrder::Adjacent;

  /// Bytes of a canonical row.
  int64_t rowBytes() const;
  /// Bytes in tiles of what has `canonical` bytes.
  int64_t bytes(int64_t canonical) const;
  bool operator==(const TiledComponent &) const = default;
};

/// Columns of the blocks that codes of `bits` bits lie in.
inline int64_t blockColumns(int64_t bits) { return bits <= 8 ? kBlockColumns : kNarrowColumns; }
/// Of K columns, how many lie behind the last block of any kind.
inline int64_t restColumns(int64_t columns) { return columns % kNarrowColumns; }

/// What becomes of each component of a weight, in the order of getComponents(). A
/// term without a decoder for GPUs stays canonical.
llvm::SmallVector<TiledComponent> tiledComponents(WeightEncoding term, llvm::ArrayRef<int64_t> shape);

/// Of codes of `bits` bits, where bit `b` of place `p` of the step `s` of four is: the word's number among those that
/// the four steps share, and the bit in it.
std::pair<int64_t, int64_t> placeOfBit(int64_t bits, int64_t s, int64_t p, int64_t b);

/// From canonical components to tiles and back; either side has all its bytes
/// (TiledComponent::bytes), and they do not overlap. Deterministic on any number of threads (0: all).
void packTiles(const TiledComponent &component, std::span<const uint8_t> from, std::span<uint8_t> to,
               unsigned threads = 0);
void unpackTiles(const TiledComponent &component, std::span<const uint8_t> from, std::span<uint8_t> to,
                 unsigned threads = 0);

} // namespace skim

#endif // SKIM_TARGET_GPU_TILES_H
