//===- TensorPasses.h - the steps of compiling tensor functions -*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_CPU_TENSOR_TENSORPASSES_H
#define SKIM_LIB_TARGET_CPU_TENSOR_TENSORPASSES_H

#include "mlir/Pass/Pass.h"

namespace skim {

// Symbols by which compiled code reaches its host.
inline constexpr llvm::StringLiteral kHostGlobal = "skim_tensor_host";
inline constexpr llvm::StringLiteral kSetHost = "skim_tensor_set_host";
inline constexpr llvm::StringLiteral kProduct = "skim_tensor_product";

/// Fuses elementwise operations where the fused loops are the consumer's own:
/// nothing is computed twice.
std::unique_ptr<mlir::Pass> createFuseElementwise();
/// Each buffer is freed behind its last use.
std::unique_ptr<mlir::Pass> createReleaseBuffers();
/// Products of matrices become calls of the host's BLAS.
std::unique_ptr<mlir::Pass> createCallProducts();
/// What is left of linalg becomes loops, sums in registers; copies likewise.
std::unique_ptr<mlir::Pass> createLowerToLoops();
/// exp, log, tanh, sin, … of scalars as polynomials, so that loops vectorise.
std::unique_ptr<mlir::Pass> createExpandMath();
/// Adds the host's functions, and a wrapper around every public function that
/// takes an array of pointers.
std::unique_ptr<mlir::Pass> createWrapForHost();

/// From lm, skim and tensor level to loops and calls of the host, in the LLVM dialect.
void buildTensorPipeline(mlir::OpPassManager &manager);

} // namespace skim

#endif // SKIM_LIB_TARGET_CPU_TENSOR_TENSORPASSES_H
