//===- Adjoints.cpp - reverse mode over a block -----------------------------===//

#include "skim/Transforms/DifferentiableOpInterface.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Transforms/RegionUtils.h"
#include "skim/Skim/SkimEncodings.h"

using namespace mlir;
using namespace skim;

#include "skim/Transforms/DifferentiableOpInterface.cpp.inc"

bool skim::isDifferentiable(Type type) {
  if (auto tensor = dyn_cast<RankedTensorType>(type))
    return isa<FloatType>(tensor.getElementType()) && !isEncoded(tensor);
  return isa<FloatType>(type);
}

/// Floats carry dependence even where they are encoded and have no adjoints:
/// to leave these out would make gradients that are silently zero.
static bool isFloat(Type type) { return isa<FloatType>(getElementTypeOrSelf(type)); }

/// The value with the type's static sizes.
static Value castSizes(ImplicitLocOpBuilder &b, Value value, Type type) {
  return value.getType() == type ? value : tensor::CastOp::create(b, type, value).getResult();
}

SmallVector<OpFoldResult> Adjoints::value(ArrayRef<OpFoldResult> originals) const {
  return llvm::map_to_vector(originals, [&](OpFoldResult original) -> OpFoldResult {
    if (auto dynamic = dyn_cast<Value>(original))
      return value(dynamic);
    return original;
  });
}

void Adjoints::add(Value original, Value adjoint) {
  ++added[original];
  if (!isActive(original))
    return;
  adjoint = castSizes(b, adjoint, original.getType());
  Value &sum = adjoints[original];
  sum = sum ? arith::AddFOp::create(b, sum, adjoint).getResult() : adjoint;
}

ArrayRef<Value> Adjoints::saved(Operation *op) const {
  auto it = kept.find(op);
  return it == kept.end() ? ArrayRef<Value>() : ArrayRef<Value>(it->second);
}

void Adjoints::map(Value original, Value value) { values.map(original, castSizes(b, value, original.getType())); }

SmallVector<Value> Adjoints::readBy(Operation *op) const {
  SmallVector<Value> read(op->getOperands());
  SetVector<Value> captured;
  getUsedValuesDefinedAbove(op->getRegions(), captured);
  llvm::append_range(read, captured);
  return read;
}

void Adjoints::analyze(Block &block, ValueRange inputs, ValueRange outputs) {
  DenseSet<Value> varied(inputs.begin(), inputs.end()), useful(outputs.begin(), outputs.end());
  for (Operation &op : block.without_terminator())
    if (llvm::any_of(readBy(&op), [&](Value value) { return varied.contains(value); }))
      for (Value result : op.getResults())
        if (isFloat(result.getType()))
          varied.insert(result);
  for (Operation &op : llvm::reverse(block.without_terminator()))
    if (llvm::any_of(op.getResults(), [&](Value value) { return useful.contains(value); }))
      for (Value value : readBy(&op))
        if (isFloat(value.getType()))
          useful.insert(value);
  for (Value value : varied)
    if (useful.contains(value))
      active.insert(value);
}

void Adjoints::emitPrimal(Block &block) {
  auto isActiveValue = [&](Value value) { return isActive(value); };
  for (Operation &op : block.without_terminator()) {
    b.setLoc(op.getLoc());
    auto model = dyn_cast<DifferentiableOpInterface>(op);
    if (model && llvm::any_of(op.getOperands(), isActiveValue) && llvm::any_of(op.getResults(), isActiveValue))
      kept[&op] = model.emitPrimal(*this);
    else
      clone(&op);
  }
}

LogicalResult Adjoints::emitAdjoints(Block &block) {
  for (Operation &op : llvm::reverse(block.without_terminator())) {
    SmallVector<Value> read = readBy(&op);
    if (llvm::none_of(read, [&](Value value) { return isActive(value); }) ||
        llvm::none_of(op.getResults(), [&](Value result) { return get(result); }))
      continue;
    b.setLoc(op.getLoc());
    auto model = dyn_cast<DifferentiableOpInterface>(op);
    if (!model)
      return op.emitOpError("has no derivative");
    for (auto [i, value] : llvm::enumerate(read)) {
      if (isActive(value) && i >= op.getNumOperands())
        return op.emitOpError("has no derivative with respect to a value that its region reads");
      if (isActive(value) && !isDifferentiable(value.getType()))
        return op.emitOpError("has no derivative with respect to operand #") << i << ", which is encoded";
    }
    added.clear();
    if (failed(model.emitAdjoint(*this)))
      return failure();
    // Once for each operand, also where several are the same value.
    for (auto [i, value] : llvm::enumerate(op.getOperands()))
      if (isActive(value) && added[value]-- == 0)
        return op.emitOpError("has no derivative with respect to operand #") << i;
  }
  return success();
}
