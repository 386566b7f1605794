//===- DeviceCode.h - a GPU's program as files ------------------*- C++ -*-===//
#ifndef SKIM_LIB_PIPELINES_DEVICECODE_H
#define SKIM_LIB_PIPELINES_DEVICECODE_H

#include "Manifest.h"
#include "skim/Support/AtomicOutput.h"

namespace skim {

/// Writes code for the host alone that chooses tokens to `path`; returns its
/// scratch memory (program.sample_scratch).
Expected<int64_t> emitSampler(mlir::MLIRContext &context, const TargetInfo &host, int64_t vocabulary,
                              const std::string &path);

/// Writes the kernels of `code` (consumed) into `folder` of the package: PTX, and
/// machine code where ptxas is there and takes it.
Error emitKernels(mlir::ModuleOp code, const GPUTarget &target, const AtomicDirectory &work, const std::string &folder,
                  DeviceFiles &files);

/// What devices have no kernels for shall not show after hours of quantizing: fails at the first linear of the plan
/// (`skim.encoding`) that they cannot multiply in this mode ("": f32).
Error checkKernels(mlir::ModuleOp module, llvm::StringRef mode);

} // namespace skim

#endif // SKIM_LIB_PIPELINES_DEVICECODE_H
