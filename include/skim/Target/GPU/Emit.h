//===- Emit.h - from a gpu.module to PTX and cubin --------------*- C++ -*-===//
#ifndef SKIM_TARGET_GPU_EMIT_H
#define SKIM_TARGET_GPU_EMIT_H

#include "skim/Support/Error.h"
#include "skim/Target/GPU/GPUTarget.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

#include <optional>
#include <string>
#include <vector>

namespace skim {

/// Loads the dialects that GPU kernels are written in and registers what
/// emission needs. To be called before building kernels; harmless to repeat.
void prepareGPUEmission(mlir::MLIRContext &context);

/// Textual pipeline, to be run on a module, that lowers the gpu.modules in it to
/// the NVVM and LLVM dialects.
std::string gpuLoweringPipeline();

/// Fails where a kernel of `module` has an operation that the target's chip does not: wgmma is sm_90a's.
Error checkInstructions(mlir::ModuleOp module, const GPUTarget &target);

/// Lowers the gpu.modules of `module` (consumed) and compiles the one named
/// `name` to PTX, in this process and without CUDA. The text is for the oldest
/// PTX version that knows the chip.
Expected<std::string> emitPTX(mlir::ModuleOp module, llvm::StringRef name, const GPUTarget &target);

/// Where ptxas is: on PATH, in $CUDA_HOME/bin, or where CMake found it; nothing if nowhere.
std::optional<std::string> findPtxas();

/// What ptxas says of a kernel.
struct KernelUsage {
  std::string kernel;
  int registers = 0, sharedBytes = 0, stackBytes = 0, spillStores = 0, spillLoads = 0;
  /// What ptxas did to wgmma (serialised it, put a fence in), with its reason; empty if it is as it was written.
  std::string wgmma;
};

/// Assembles PTX to a cubin; `usage`, if given, takes what every kernel uses.
/// Fails where ptxas is missing or refuses, with its first line.
Expected<std::string> assemble(const std::string &ptx, const GPUTarget &target,
                               std::vector<KernelUsage> *usage = nullptr);

} // namespace skim

#endif // SKIM_TARGET_GPU_EMIT_H
