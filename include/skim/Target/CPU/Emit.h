//===- Emit.h - from a module to a shared object ----------------*- C++ -*-===//
#ifndef SKIM_TARGET_CPU_EMIT_H
#define SKIM_TARGET_CPU_EMIT_H

#include "skim/Support/Error.h"
#include "skim/Target/CPU/TargetInfo.h"

#include "mlir/IR/BuiltinOps.h"

#include <string>

namespace skim {

/// Loads the dialects that kernels are written in and registers what emission
/// needs. To be called before building kernels; harmless to repeat.
void prepareEmission(mlir::MLIRContext &context);

/// Textual pipeline that lowers a module of kernels (func, scf, arith, math,
/// vector, lane, llvm) to the LLVM dialect for a target.
std::string loweringPipeline(const TargetInfo &target);

/// Lowers `module` (consumed: it holds LLVM dialect afterwards), optimizes,
/// and writes an ELF shared object without undefined symbols to `path`. Public
/// functions are exported. Fails if the code would call anything outside, or
/// the linker is missing.
Error emitSharedObject(mlir::ModuleOp module, const TargetInfo &target, const std::string &path);

/// Like emitSharedObject for a module that is in the LLVM dialect already.
Error emitLoweredSharedObject(mlir::ModuleOp module, const TargetInfo &target, const std::string &path);

/// Like emitSharedObject, but stops at the target's assembly text; for tests
/// and for reading what was generated.
Expected<std::string> emitAssembly(mlir::ModuleOp module, const TargetInfo &target);

} // namespace skim

#endif // SKIM_TARGET_CPU_EMIT_H
