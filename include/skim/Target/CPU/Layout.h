//===- Layout.h - how a target's packages store codes -----------*- C++ -*-===//
//
// Components in IR are canonical: rows of codes, LSB first. A target may read
// them in another order (#skim.layout), which moves bits within a row and keeps
// sizes and types: no padding, and every layout has an inverse.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_CPU_LAYOUT_H
#define SKIM_TARGET_CPU_LAYOUT_H

#include "skim/Skim/SkimEncodings.h"
#include "skim/Target/CPU/TargetInfo.h"

#include <cstdint>
#include <span>
#include <vector>

namespace skim {

/// On a skim.linear: the order in which the target's kernel reads the weight's
/// codes (#skim.layout; absent: rows). The weight in IR is canonical all the same.
inline constexpr llvm::StringLiteral kLayoutAttr = "skim.layout";

/// Columns of a block of codes of `bits` bits (1 to 8), or 0 where such codes lie
/// in rows: no layout, other bits, fewer columns than a block, or groups of
/// columns (0: none) that end inside of one.
int64_t layoutBlock(LayoutAttr layout, int64_t bits, int64_t group, int64_t columns);

/// The codes of a component that a layout turns.
struct TurnedCodes {
  int64_t rows = 0, columns = 0, bits = 0;
  /// Columns of a block; 0: the component is stored as it is.
  int64_t block = 0;
  /// The layout's.
  int64_t word = 0, lanes = 0;

  bool operator==(const TurnedCodes &) const = default;
};

/// What a layout does to each component of a weight, in the order of getComponents().
llvm::SmallVector<TurnedCodes> turnedCodes(WeightEncoding term, llvm::ArrayRef<int64_t> shape, LayoutAttr layout);

/// Rows of codes from the canonical form to the layout's, and back: `from` and
/// `to` hold `codes.rows` rows of ⌈columns·bits/8⌉ bytes and do not overlap.
/// Deterministic on any number of threads (0: all).
void packCodes(const TurnedCodes &codes, std::span<const uint8_t> from, std::span<uint8_t> to, unsigned threads = 0);
void unpackCodes(const TurnedCodes &codes, std::span<const uint8_t> from, std::span<uint8_t> to, unsigned threads = 0);

/// The layout whose vectors are as wide as the target's, in the words that an
/// activation mode computes on.
LayoutAttr turnedLayout(mlir::MLIRContext *context, const TargetInfo &target, llvm::StringRef mode);

/// The layout that a linear's kernel is fastest with (docs/measurements.md); null: rows.
LayoutAttr chooseLayout(const TargetInfo &target, WeightEncoding term, llvm::ArrayRef<int64_t> shape,
                        llvm::StringRef mode);

} // namespace skim

#endif // SKIM_TARGET_CPU_LAYOUT_H
