//===- Budget.h - what a planned model will store ---------------*- C++ -*-===//
#ifndef SKIM_LIB_PIPELINES_BUDGET_H
#define SKIM_LIB_PIPELINES_BUDGET_H

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <string>
#include <vector>

namespace skim {

/// What a module stores once its plan (`skim.encoding`) is carried out.
struct PlannedBytes {
  uint64_t linearWeights = 0; ///< weights of the linears, the head not counted
  uint64_t linears = 0;       ///< their bytes
  uint64_t others = 0;        ///< embeddings, head, norms

  double bits() const { return linearWeights ? 8.0 * linears / linearWeights : 0; }
  uint64_t total() const { return linears + others; }
};
PlannedBytes plannedBytes(mlir::ModuleOp module);

/// The single formats that `rtn`, `gptq`, `awq` and `kmeans` choose among for a
/// budget.
std::vector<std::string> singleFormats(const std::string &method);

} // namespace skim

#endif // SKIM_LIB_PIPELINES_BUDGET_H
