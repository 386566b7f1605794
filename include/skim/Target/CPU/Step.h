//===- Step.h - from a model function to a step's code ----------*- C++ -*-===//
#ifndef SKIM_TARGET_CPU_STEP_H
#define SKIM_TARGET_CPU_STEP_H

#include "skim/Support/Error.h"
#include "skim/Target/CPU/Layout.h"
#include "skim/Target/CPU/TargetInfo.h"
#include "skim/Target/Common/StepTensors.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>
#include <vector>

namespace skim {

/// One entry of skim_step_args.weights.
struct ProgramWeight : StepTensor {
  /// How its codes lie in the package; `block` = 0: as they are.
  TurnedCodes codes = {};
};

/// What a runtime must know about a step's code: the manifest's "program".
struct ProgramInfo {
  std::vector<ProgramWeight> weights;
  std::vector<ProgramCache> caches;
  int64_t vocabulary = 0;
  /// Most tokens that a sequence may have: the function's `skim.context`, or 0 where it has none.
  int64_t context = 0;
  /// Most rows (batch · length) of a step.
  int64_t maxRows = 512;
  /// Bytes of scratch: fixed + perRow · batch · length + perThread · threads.
  int64_t scratchFixed = 0, scratchPerRow = 0, scratchPerThread = 0;
  int64_t sampleScratch = 0;
  /// Barriers in a step.
  int64_t barriers = 0;
};

/// Compiles `@forward` of `model` (see docs/architecture.md: tokens, start, count,
/// rows, caches → logits, caches) for a target: `code` becomes a module of kernels
/// (func, scf, arith, math, vector, lane, llvm) with the functions of
/// include/skim-rt/abi.h, ready for emitSharedObject. Marks of skim-fuse-linears
/// are obeyed and not required. Values in the result belong to `model`.
/// Fails on an operation that has no kernel and on a function of another shape.
Expected<ProgramInfo> generateStep(mlir::ModuleOp model, const TargetInfo &target,
                                   mlir::OwningOpRef<mlir::ModuleOp> &code);

/// Adds `skim_sample` and `skim_abi_version` (include/skim-rt/abi.h) alone, for
/// code whose step runs elsewhere; returns the bytes of scratch that it needs.
int64_t generateSampler(mlir::ModuleOp code, const TargetInfo &host, int64_t vocabulary);

} // namespace skim

#endif // SKIM_TARGET_CPU_STEP_H
