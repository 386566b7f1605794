//===- InterpretLinalg.cpp - the reference of structured operations ---------===//
//
// Every linalg operation states its meaning by indexing maps and a scalar body;
// both are followed literally.
//
//===----------------------------------------------------------------------===//

#include "Frame.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"

using namespace mlir;
using namespace skim;
using namespace skim::reference;

static int64_t evaluate(AffineExpr expr, ArrayRef<int64_t> dims) {
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return dims[dim.getPosition()];
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return constant.getValue();
  auto both = cast<AffineBinaryOpExpr>(expr); // indexing maps have no symbols
  int64_t a = evaluate(both.getLHS(), dims), b = evaluate(both.getRHS(), dims);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return a + b;
  case AffineExprKind::Mul:
    return a * b;
  case AffineExprKind::Mod:
    return ((a % b) + b) % b;
  case AffineExprKind::FloorDiv:
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
  default: // CeilDiv
    return a / b + (a % b != 0 && (a < 0) == (b < 0));
  }
}

/// linalg.index is what it says; everything else in a body is an ordinary operation.
static void bindIndices(Block &body, ArrayRef<int64_t> loops, Frame &frame) {
  for (auto index : body.getOps<linalg::IndexOp>())
    frame.set(index.getResult(), Tensor::index(index.getContext(), loops[index.getDim()]));
}

Handled skim::reference::interpretLinalg(Operation &operation, Frame &frame) {
  if (isa<linalg::IndexOp>(operation))
    return true; // bound by the structured operation around it
  auto op = dyn_cast<linalg::LinalgOp>(operation);
  if (!op)
    return false;
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  SmallVector<int64_t> loops(op.getNumLoops(), -1);
  for (OpOperand &operand : operation.getOpOperands()) {
    const Tensor &value = frame.get(operand.get());
    AffineMap map = maps[operand.getOperandNumber()];
    if (value.getEncoding())
      return frame.fail(operation, "plain tensors", "an encoded one");
    for (unsigned d = 0; d < map.getNumResults(); ++d)
      if (auto dim = dyn_cast<AffineDimExpr>(map.getResult(d))) {
        int64_t &size = loops[dim.getPosition()];
        if (size >= 0 && size != value.getDim(d))
          return frame.fail(operation, "a size of " + std::to_string(size) + " in dimension " + std::to_string(d),
                            value.describe());
        size = value.getDim(d);
      }
  }
  if (llvm::is_contained(loops, -1))
    return frame.fail(operation, "every loop's size among the operands' dimensions");

  std::vector<Tensor> results;
  for (OpOperand &init : op.getDpsInitsMutable()) {
    const Tensor &initial = frame.get(init.get());
    Tensor result(initial.getElementType(), initial.getShape());
    for (int64_t i = 0, e = initial.getNumElements(); i < e; ++i)
      initial.isFloat() ? result.set(i, initial.at(i)) : result.setInt(i, initial.intAt(i));
    results.push_back(result);
  }
  // An accumulator of f16 or f32 is rounded at every step, as the body says.
  Block &body = *op.getBlock();
  unsigned inputs = op.getNumDpsInputs();
  SmallVector<int64_t> index(loops.size(), 0);
  if (llvm::is_contained(loops, 0)) {
    for (auto [result, value] : llvm::zip(operation.getResults(), results))
      frame.set(result, value);
    return true;
  }
  do {
    bindIndices(body, index, frame);
    std::vector<Tensor> arguments;
    SmallVector<int64_t> positions;
    for (OpOperand &operand : operation.getOpOperands()) {
      unsigned number = operand.getOperandNumber();
      const Tensor &value = number < inputs ? frame.get(operand.get()) : results[number - inputs];
      int64_t position = 0;
      for (auto [d, expr] : llvm::enumerate(maps[number].getResults())) {
        int64_t i = evaluate(expr, index);
        if (i < 0 || i >= value.getDim(static_cast<int64_t>(d)))
          return frame.fail(operation, "an index inside " + value.describe(), std::to_string(i));
        position = position * value.getDim(static_cast<int64_t>(d)) + i;
      }
      positions.push_back(position);
      Tensor element(value.getElementType(), {});
      value.isFloat() ? element.set(0, value.at(position)) : element.setInt(0, value.intAt(position));
      arguments.push_back(element);
    }
    Expected<std::vector<Tensor>> yielded = frame.run(body, arguments);
    if (!yielded)
      return yielded.takeError();
    for (auto [r, value] : llvm::enumerate(*yielded))
      value.isFloat() ? results[r].set(positions[inputs + r], value.at(0))
                      : results[r].setInt(positions[inputs + r], value.intAt(0));
  } while (advance(index, loops));
  for (auto [result, value] : llvm::zip(operation.getResults(), results))
    frame.set(result, value);
  return true;
}
