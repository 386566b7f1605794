//===- Frame.h - the state of an interpretation -----------------*- C++ -*-===//
#ifndef SKIM_LIB_REFERENCE_FRAME_H
#define SKIM_LIB_REFERENCE_FRAME_H

#include "skim/Reference/Interpreter.h"
#include "llvm/ADT/DenseMap.h"

namespace skim::reference {

/// What became of an operation: a failure, or whether the family knows it.
using Handled = Expected<bool>;

/// The values of one function's activation, and what every operation family
/// needs. Regions see the values around them.
class Frame {
public:
  Frame(const InterpreterOptions &options) : options(options) {}

  const Tensor &get(mlir::Value value) const { return values.find(value)->second; }
  void set(mlir::Value value, Tensor tensor) { values[value] = std::move(tensor); }
  const InterpreterOptions &getOptions() const { return options; }

  /// Runs a block to its terminator and returns the terminator's operands.
  Expected<std::vector<Tensor>> run(mlir::Block &block, llvm::ArrayRef<Tensor> arguments);

  /// An error that names the operation and its place.
  Failure fail(mlir::Operation &op, std::string expected, std::string got = {}) const;

private:
  Error runOperation(mlir::Operation &op);

  const InterpreterOptions &options;
  llvm::DenseMap<mlir::Value, Tensor> values;
};

/// The result's type with the sizes found at run time: a fresh tensor, zero.
inline Tensor makeResult(mlir::Value result, llvm::ArrayRef<int64_t> shape) {
  return Tensor(mlir::getElementTypeOrSelf(result.getType()), shape);
}

/// Row-major strides of a shape.
llvm::SmallVector<int64_t> stridesOf(llvm::ArrayRef<int64_t> shape);
/// Moves a multi-index on by one in row-major order; false after the last.
bool advance(llvm::MutableArrayRef<int64_t> index, llvm::ArrayRef<int64_t> shape);

Handled interpretSkim(mlir::Operation &op, Frame &frame);
Handled interpretLM(mlir::Operation &op, Frame &frame);
/// arith and math, element by element.
Handled interpretElementwise(mlir::Operation &op, Frame &frame);
Handled interpretTensor(mlir::Operation &op, Frame &frame);
/// Structured operations of linalg, through their maps and bodies.
Handled interpretLinalg(mlir::Operation &op, Frame &frame);
/// scf and calls.
Handled interpretControl(mlir::Operation &op, Frame &frame);

} // namespace skim::reference

#endif // SKIM_LIB_REFERENCE_FRAME_H
