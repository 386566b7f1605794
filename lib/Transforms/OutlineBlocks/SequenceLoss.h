//===- SequenceLoss.h - the loss of one whole sequence ----------*- C++ -*-===//
#ifndef SKIM_LIB_TRANSFORMS_OUTLINEBLOCKS_SEQUENCELOSS_H
#define SKIM_LIB_TRANSFORMS_OUTLINEBLOCKS_SEQUENCELOSS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace skim {

/// Replaces the model's function by `(tokens [1,?], targets [?]) -> loss [?]` of
/// one sequence without caches. Fails, having reported it, on a function that is
/// no model or holds what one sequence has no meaning for.
llvm::FailureOr<mlir::func::FuncOp> makeSequenceLoss(mlir::func::FuncOp model);

} // namespace skim

#endif // SKIM_LIB_TRANSFORMS_OUTLINEBLOCKS_SEQUENCELOSS_H
