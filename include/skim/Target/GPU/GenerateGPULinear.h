//===- GenerateGPULinear.h - emits the GPU kernels of linear layers -*- C++ -*-===//
#ifndef SKIM_TARGET_GPU_GENERATEGPULINEAR_H
#define SKIM_TARGET_GPU_GENERATEGPULINEAR_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/Pass.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Target/GPU/GenerateGPULinear.h.inc"

/// Registers the pipeline `skim-lower-gpu`: gpuLoweringPipeline() of Emit.h.
void registerLowerGPUPipeline();

} // namespace skim

#endif // SKIM_TARGET_GPU_GENERATEGPULINEAR_H
