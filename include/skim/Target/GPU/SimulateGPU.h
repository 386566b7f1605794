//===- SimulateGPU.h - GPU kernels as functions of the host -----*- C++ -*-===//
#ifndef SKIM_TARGET_GPU_SIMULATEGPU_H
#define SKIM_TARGET_GPU_SIMULATEGPU_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Target/GPU/SimulateGPU.h.inc"

} // namespace skim

#endif // SKIM_TARGET_GPU_SIMULATEGPU_H
