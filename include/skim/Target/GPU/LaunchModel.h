//===- LaunchModel.h - what launches cost, counted --------------*- C++ -*-===//
//
// Runs some blocks of each launch in the simulator and walks through its PTX, and
// scales both by the number of blocks: blocks of a launch do the same. Weights
// are not needed; their memory is zeros that nobody has to provide.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_GPU_LAUNCHMODEL_H
#define SKIM_TARGET_GPU_LAUNCHMODEL_H

#include "skim/Target/Common/LinearPieces.h"
#include "skim/Target/GPU/GPUTarget.h"
#include "skim/Target/GPU/PerformanceModel.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace skim::device {

struct ModelOptions {
  /// Blocks of a grid's first extent that are run, evenly spread; 0: all.
  int64_t sample = 8;
  /// Assemble kernels for their registers where ptxas is.
  bool assemble = true;
  /// Of a step, compile the kernels for any number of rows, to know how long that takes.
  bool wholeStep = false;
};

/// A launch, or several alike.
struct ModelledLaunch {
  LaunchCosts costs;
  Prediction prediction;
  int64_t count = 1;
};

/// What a linear or a step will take.
struct ModelledLaunches {
  std::vector<ModelledLaunch> launches; ///< in order of their first appearance
  double microseconds = 0;              ///< of all
  double memoryBytes = 0;               ///< that all read from the device's memory
  double seconds = 0;                   ///< from IR to PTX, on this machine
  /// Of the time, what reading at the device's bandwidth would take.
  double share(const DeviceFigures &device) const {
    return microseconds > 0 ? memoryBytes / device.readBandwidth() / (microseconds * 1e-6) : 0;
  }
};

/// y = x·Wᵀ for `m` rows of x, W [n, k] in `term`, mode f16 or bf16.
Expected<ModelledLaunches> modelLinear(mlir::MLIRContext &context, const GPUTarget &target, const DeviceFigures &device,
                                       WeightEncoding term, int64_t n, int64_t k, int64_t m, const std::string &mode,
                                       const ModelOptions &options = {});

/// What a step is given.
struct StepShape {
  int64_t sequences = 1, length = 1; ///< new tokens of each, all valid; the last one's logits are wanted
  int64_t context = 512;             ///< tokens in each one's caches behind the step, these included
};
/// `model` is what generateStep takes; it is left as it is.
Expected<ModelledLaunches> modelStep(mlir::ModuleOp model, const GPUTarget &target, const DeviceFigures &device,
                                     const StepShape &shape, const ModelOptions &options = {});

/// A LLaMA by its figures, to be modelled without weights.
struct LlamaShape {
  int64_t hidden = 4096, feedForward = 11008, layers = 32, vocabulary = 32000, heads = 32, cacheHeads = 32;
  std::string format = "k3", head = "f16"; ///< of the linears; of the head
};

/// `@forward` of such a model, whose weights lie in a file that need not exist; mode f16.
Expected<mlir::OwningOpRef<mlir::ModuleOp>> llamaModel(mlir::MLIRContext &context, const LlamaShape &shape);

} // namespace skim::device

#endif // SKIM_TARGET_GPU_LAUNCHMODEL_H
