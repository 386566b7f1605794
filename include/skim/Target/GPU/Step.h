//===- Step.h - from a model function to a device's kernels -----*- C++ -*-===//
#ifndef SKIM_TARGET_GPU_STEP_H
#define SKIM_TARGET_GPU_STEP_H

#include "skim/Support/Error.h"
#include "skim/Target/Common/StepTensors.h"
#include "skim/Target/GPU/GPUTarget.h"
#include "skim/Target/GPU/Tiles.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>
#include <vector>

namespace skim::device {

/// One of the program's weights; its type is what kernels read, before it is tiled.
struct StepWeight : StepTensor {
  /// How its bytes lie in the package.
  TiledComponent tiles;

  int64_t canonicalBytes() const { return type.getNumElements() * type.getElementTypeBitWidth() / 8; }
  /// Of the package's tensor.
  int64_t bytes() const { return tiles.bytes(canonicalBytes()); }
};

/// What a runtime must know about a step on a device.
struct StepProgram {
  std::vector<StepWeight> weights;
  std::vector<ProgramCache> caches;
  int64_t vocabulary = 0;
  /// Most tokens that a sequence may have: the function's `skim.context`, or 0 where it has none.
  int64_t context = 0;
  /// Most rows (batch · length) of a step.
  int64_t maxRows = 512;
  /// The launches, as include/skim/Runtime/DeviceStep.h reads them (JSON).
  std::string launches;
};

/// Compiles `@forward` of `model` (tokens, start, count, rows, caches → logits,
/// caches) for a device: `code` becomes a module with one gpu.module `step` of
/// kernels. Values in the result belong to `model`. Linears compute in their mode,
/// f16 where it is none of the device's. Fails on an operation that has no kernel
/// and on a function of another shape.
Expected<StepProgram> generateStep(mlir::ModuleOp model, const GPUTarget &target,
                                   mlir::OwningOpRef<mlir::ModuleOp> &code);

} // namespace skim::device

#endif // SKIM_TARGET_GPU_STEP_H
