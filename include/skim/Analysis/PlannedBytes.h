//===- PlannedBytes.h - what a planned model will store ---------*- C++ -*-===//
#ifndef SKIM_ANALYSIS_PLANNEDBYTES_H
#define SKIM_ANALYSIS_PLANNEDBYTES_H

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>

namespace skim {

/// What a target maps once the module's plan (`skim.encoding`) is carried out.
struct PlannedBytes {
  uint64_t linearWeights = 0; ///< weights of the linears, the head not counted
  uint64_t linears = 0;       ///< their bytes
  uint64_t others = 0;        ///< embeddings, head, norms
  /// Weights that nobody gave an encoding yet, with their linears and embeddings,
  /// in the order of the module; not among the bytes, but among `linearWeights`.
  llvm::SmallVector<std::pair<mlir::Value, llvm::SmallVector<mlir::Operation *>>> open;

  double bits() const { return linearWeights ? 8.0 * linears / linearWeights : 0; }
  uint64_t total() const { return linears + others; }
};
PlannedBytes plannedBytes(mlir::ModuleOp module);

} // namespace skim

#endif // SKIM_ANALYSIS_PLANNEDBYTES_H
