//===- Differentiate.h - adds the reverse mode of a function ----*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_DIFFERENTIATE_H
#define SKIM_TRANSFORMS_DIFFERENTIATE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"

namespace skim {

/// On a result of a vjp function: the shared input of linears, by the name of
/// the first layer that reads it.
inline constexpr llvm::StringLiteral kInputAttr = "skim.input";
/// On a result of a vjp function: the adjoint of this layer's output.
inline constexpr llvm::StringLiteral kOutputAdjointAttr = "skim.output_adjoint";

/// Adds `@f_vjp` behind `function` and returns it, as the pass's description
/// says. Fails, having reported it, on numbers of arguments that are wrong and
/// on operations without a derivative; the module is then as it was.
llvm::FailureOr<mlir::func::FuncOp> differentiate(mlir::func::FuncOp function, llvm::ArrayRef<int64_t> wrt,
                                                  bool observe);

/// Attaches the derivatives of arith, math, linalg, tensor, lm and skim.
void registerDifferentiableModels(mlir::DialectRegistry &registry);

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/Differentiate.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_DIFFERENTIATE_H
