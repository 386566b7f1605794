//===- Interpreter.cpp - runs functions, slowly and obviously ---------------===//

#include "skim/Reference/Interpreter.h"

#include "Frame.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace skim;
using namespace skim::reference;

SmallVector<int64_t> skim::reference::stridesOf(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size(), 1);
  for (int64_t i = static_cast<int64_t>(shape.size()) - 2; i >= 0; --i)
    strides[i] = strides[i + 1] * shape[i + 1];
  return strides;
}

bool skim::reference::advance(MutableArrayRef<int64_t> index, ArrayRef<int64_t> shape) {
  for (int64_t i = static_cast<int64_t>(shape.size()) - 1; i >= 0; --i) {
    if (++index[i] < shape[i])
      return true;
    index[i] = 0;
  }
  return false;
}

static std::string toString(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

/// A value fits its static type: element type, rank and every static size.
static bool fits(Type type, const Tensor &tensor) {
  auto ranked = dyn_cast<RankedTensorType>(type);
  if (!ranked)
    return tensor.getRank() == 0 && tensor.getElementType() == type;
  if (ranked.getElementType() != tensor.getElementType() || ranked.getRank() != tensor.getRank() ||
      skim::getEncoding(type) != tensor.getEncoding())
    return false;
  for (auto [expected, got] : llvm::zip(ranked.getShape(), tensor.getShape()))
    if (!ShapedType::isDynamic(expected) && expected != got)
      return false;
  return true;
}

Failure Frame::fail(Operation &op, std::string expected, std::string got) const {
  std::string where;
  llvm::raw_string_ostream stream(where);
  if (auto layer = op.getAttrOfType<StringAttr>("layer"))
    stream << layer.getValue() << ' ';
  stream << op.getLoc();
  return skim::fail("cannot interpret " + op.getName().getStringRef().str(), where, std::move(expected),
                    std::move(got));
}

Error Frame::runOperation(Operation &op) {
  static constexpr Handled (*families[])(Operation &, Frame &) = {
      interpretElementwise, interpretSkim, interpretLM, interpretTensor, interpretLinalg, interpretControl};
  for (auto family : families) {
    Handled handled = family(op, *this);
    if (!handled)
      return handled.takeError();
    if (!*handled)
      continue;
    for (Value result : op.getResults())
      if (!fits(result.getType(), get(result)))
        return fail(op, "a result of type " + toString(result.getType()), get(result).describe());
    return Error::success();
  }
  return fail(op, "an operation that the reference knows");
}

Expected<std::vector<Tensor>> Frame::run(Block &block, ArrayRef<Tensor> arguments) {
  for (auto [argument, tensor] : llvm::zip(block.getArguments(), arguments))
    set(argument, tensor);
  for (Operation &op : block.without_terminator())
    if (Error error = runOperation(op))
      return error;
  std::vector<Tensor> results;
  for (Value operand : block.getTerminator()->getOperands())
    results.push_back(get(operand));
  return results;
}

Handled skim::reference::interpretControl(Operation &op, Frame &frame) {
  auto assign = [&](Expected<std::vector<Tensor>> values) -> Handled {
    if (!values)
      return values.takeError();
    for (auto [result, value] : llvm::zip(op.getResults(), *values))
      frame.set(result, value);
    return true;
  };
  if (auto call = dyn_cast<func::CallOp>(op)) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(call, call.getCalleeAttr());
    if (!callee)
      return frame.fail(op, "a function of that name");
    std::vector<Tensor> arguments;
    for (Value operand : call.getOperands())
      arguments.push_back(frame.get(operand));
    return assign(interpret(callee, arguments, frame.getOptions()));
  }
  if (auto branch = dyn_cast<scf::IfOp>(op)) {
    Region &region = frame.get(branch.getCondition()).intAt(0) ? branch.getThenRegion() : branch.getElseRegion();
    if (region.empty())
      return true;
    return assign(frame.run(region.front(), {}));
  }
  if (auto loop = dyn_cast<scf::ForOp>(op)) {
    int64_t lower = frame.get(loop.getLowerBound()).intAt(0), upper = frame.get(loop.getUpperBound()).intAt(0);
    int64_t step = frame.get(loop.getStep()).intAt(0);
    if (step < 1)
      return frame.fail(op, "a positive step", std::to_string(step));
    std::vector<Tensor> carried;
    for (Value value : loop.getInitArgs())
      carried.push_back(frame.get(value));
    Type inductionType = loop.getInductionVar().getType();
    for (int64_t i = lower; i < upper; i += step) {
      std::vector<Tensor> arguments{Tensor(inductionType, {})};
      arguments.front().setInt(0, i);
      llvm::append_range(arguments, carried);
      Expected<std::vector<Tensor>> next = frame.run(*loop.getBody(), arguments);
      if (!next)
        return next.takeError();
      carried = std::move(*next);
    }
    return assign(std::move(carried));
  }
  return false;
}

Expected<std::vector<Tensor>> skim::reference::interpret(func::FuncOp function, ArrayRef<Tensor> arguments,
                                                         const InterpreterOptions &options) {
  std::string name = "@" + function.getName().str();
  if (function.isExternal() || !function.getBody().hasOneBlock())
    return skim::fail("cannot interpret " + name, "", "a function with one block");
  if (arguments.size() != function.getNumArguments())
    return skim::fail("cannot interpret " + name, "", std::to_string(function.getNumArguments()) + " arguments",
                      std::to_string(arguments.size()));
  for (auto [i, type] : llvm::enumerate(function.getArgumentTypes()))
    if (!fits(type, arguments[i]))
      return skim::fail("cannot interpret " + name, "argument " + std::to_string(i), toString(type),
                        arguments[i].describe());
  Frame frame(options);
  return frame.run(function.getBody().front(), arguments);
}
