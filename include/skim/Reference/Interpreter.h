//===- Interpreter.h - runs functions, slowly and obviously -----*- C++ -*-===//
#ifndef SKIM_REFERENCE_INTERPRETER_H
#define SKIM_REFERENCE_INTERPRETER_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "skim/Reference/Tensor.h"
#include "skim/Support/Error.h"

#include <functional>

namespace skim::reference {

struct InterpreterOptions {
  /// What the `file` of a skim.external is relative to.
  std::string baseDirectory = ".";
  /// Called by skim.observe with the layer's name and the activation.
  std::function<void(llvm::StringRef layer, const Tensor &)> observe;
};

/// Calls `function` on `arguments` and returns its results. Knows skim, lm, func
/// and, from upstream, those of arith, math, tensor, linalg and scf that models
/// use. Elements are stored in their own type, sums run in double. Fails, naming
/// the operation, on arguments that do not fit the function's types, on sizes
/// that disagree at run time and on operations that it does not know.
Expected<std::vector<Tensor>> interpret(mlir::func::FuncOp function, llvm::ArrayRef<Tensor> arguments,
                                        const InterpreterOptions &options = {});

} // namespace skim::reference

#endif // SKIM_REFERENCE_INTERPRETER_H
