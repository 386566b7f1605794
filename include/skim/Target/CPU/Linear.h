//===- Linear.h - kernels of linear layers on CPUs --------------*- C++ -*-===//
//
// y[m, yColumn + n] = Σ_k x[m, k]·W[n, k] + bias[n], W in any encoding.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_CPU_LINEAR_H
#define SKIM_TARGET_CPU_LINEAR_H

#include "skim/Support/Error.h"
#include "skim/Target/CPU/TargetInfo.h"
#include "skim/Target/Common/LinearPieces.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace skim {

struct KernelValues {
  mlir::Value x;               // ptr: f32 [rows, k], contiguous
  mlir::Value y;               // ptr: f32
  mlir::Value yStride;         // i64: elements between rows of y
  mlir::Value rows;            // i64
  mlir::Value shared;          // ptr: scratch common to all threads, 64-byte aligned
  mlir::Value priv;            // ptr: this thread's scratch, 64-byte aligned
  mlir::Value args;            // ptr: skim_step_args
  mlir::Value thread, threads; // i32
};

/// Bytes of scratch that a call needs.
struct LinearScratch {
  int64_t sharedPerRow = 0, sharedFixed = 0, perThread = 0;
};
LinearScratch linearScratch(const TargetInfo &target, const LinearCall &call);

/// Emits calls of the linear's kernels at the builder's insertion point and,
/// in `module`, the kernels that are not there yet. Every thread executes the
/// calls; they end without a barrier, and y must not be read before one. Fails
/// if a term has no kernel.
Error emitLinear(mlir::OpBuilder &builder, mlir::Location loc, mlir::ModuleOp module, const TargetInfo &target,
                 const LinearCall &call, const KernelValues &values);

/// y[r, :] = W[tokens[r], :] for r < rows: tokens i32, y f32 [rows, channels].
Error emitEmbed(mlir::OpBuilder &builder, mlir::Location loc, mlir::ModuleOp module, const TargetInfo &target,
                WeightEncoding term, int64_t vocabulary, int64_t channels, llvm::ArrayRef<int64_t> weights,
                mlir::Value tokens, mlir::Value y, mlir::Value rows, mlir::Value args, mlir::Value thread,
                mlir::Value threads);

} // namespace skim

#endif // SKIM_TARGET_CPU_LINEAR_H
