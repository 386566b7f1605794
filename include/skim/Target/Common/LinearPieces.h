//===- LinearPieces.h - a linear layer taken apart --------------*- C++ -*-===//
//
// y[m, yColumn + n] = Σ_k x[m, k]·W[n, k] + bias[n], W in any encoding. The
// terms' combinators are taken apart here, the same for every target, so that
// schedules see leaves: `rows` becomes a piece for each part, `scaled` a factor
// on x, `low_rank` two more products.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_COMMON_LINEARPIECES_H
#define SKIM_TARGET_COMMON_LINEARPIECES_H

#include "skim/Skim/SkimEncodings.h"

#include <string>

namespace skim {

/// Weights that read the same x: one linear, or one of a merged group.
struct LinearPanel {
  WeightEncoding term;
  /// Output rows.
  int64_t n = 0;
  /// Index into the step's weights (skim_step_args.weights) of each component, in the order of getComponents().
  llvm::SmallVector<int64_t> weights;
  /// Index of an f32 bias [n], or −1.
  int64_t biasWeight = -1;
  /// First column of y that it writes.
  int64_t yColumn = 0;
  /// Of the packed codes on a CPU; null: rows.
  LayoutAttr layout = {};
};

/// What is done with a result: y = result, y += result (residual), or
/// y = silu(gate)·result with gate in y's shape (GPU only).
enum class LinearEpilogue { Store, Add, Gate };

struct LinearCall {
  int64_t k = 0;
  /// Activation mode: `f32`, `f16`, `bf16` or `a8`; which of them there are is the target's.
  std::string mode = "f32";
  llvm::SmallVector<LinearPanel> panels;
  LinearEpilogue epilogue = LinearEpilogue::Store;
};

/// A leaf with what the combinators around it said; indices into the step's
/// weights, −1 for none.
struct LinearPiece {
  WeightEncoding leaf;
  int64_t n = 0;
  llvm::SmallVector<int64_t> components;
  int64_t alpha = -1, bias = -1;
  int64_t permutation = -1, firstRow = 0; // permutation's entries from firstRow on
  mlir::Type permutationType;
  int64_t yColumn = 0;
  LayoutAttr layout;
};

/// A low-rank pair: y += B·(A·x).
struct LowRankPair {
  WeightEncoding factors;
  int64_t rank, n, yColumn;
  llvm::SmallVector<int64_t> a, b;
  LayoutAttr layout;
};

/// A call's panels taken apart.
struct LinearPieces {
  llvm::SmallVector<LinearPiece> pieces;
  llvm::SmallVector<LowRankPair> pairs;
};
LinearPieces takeApart(const LinearCall &call);

/// One of a pair's two products as a call of its own: A·x, stored from column 0
/// on, or (`second`) B·t, added to y.
LinearCall factorCall(const LowRankPair &pair, const LinearCall &call, bool second);

} // namespace skim

#endif // SKIM_TARGET_COMMON_LINEARPIECES_H
