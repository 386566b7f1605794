//===- TuneWeights.h - trains what a weights file holds ---------*- C++ -*-===//
#ifndef SKIM_LIB_PIPELINES_TUNEWEIGHTS_H
#define SKIM_LIB_PIPELINES_TUNEWEIGHTS_H

#include "mlir/IR/BuiltinOps.h"
#include "skim/Calibrate/Tune.h"

#include <string>

namespace skim {

/// Tunes the tables, scales and scaling vectors of all linears of `quantized`, whose
/// externals lie in the file `weights`, and its norms, and writes them there in their stored types.
/// Formats without such numbers (dense, block_float, planes) stay as they are.
/// The linears' errors in the ledger become those of the tuned weights, with
/// `statistics` (a file, or empty) also those of outputs and loss.
Error tuneWeights(mlir::ModuleOp quantized, const std::string &weights, const std::string &statistics,
                  const BlockModel &model, const TuneOptions &options);

} // namespace skim

#endif // SKIM_LIB_PIPELINES_TUNEWEIGHTS_H
