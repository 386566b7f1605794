//===- SkimOps.cpp - verifiers and folders of the skim operations -----------===//

#include "skim/Skim/SkimOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"

using namespace mlir;
using namespace skim;

#define GET_OP_CLASSES
#include "skim/Skim/SkimOps.cpp.inc"

LogicalResult ExternalOp::verify() {
  if (getOffset() < 0)
    return emitOpError("expected an offset of at least 0, got ") << getOffset();
  if (isEncoded(getType()))
    return emitOpError("expected a plain tensor (components are assembled), got ") << getType();
  if (std::optional<ArrayRef<int64_t>> strides = getStrides()) {
    if (static_cast<int64_t>(strides->size()) != cast<RankedTensorType>(getType()).getRank())
      return emitOpError("expected a stride for each dimension of ") << getType() << ", got " << strides->size();
    for (int64_t stride : *strides)
      if (stride < 0)
        return emitOpError("expected strides of at least 0, got ") << stride;
  }
  return success();
}

/// assemble and disassemble: the values are the encoding's components.
static LogicalResult verifyComponents(Operation *op, Type type, TypeRange values) {
  WeightEncoding encoding = getEncoding(type);
  if (!encoding)
    return op->emitOpError("expected an encoded weight, got ") << type;
  SmallVector<Component> components = getComponents(encoding, cast<RankedTensorType>(type).getShape());
  if (components.size() != values.size())
    return op->emitOpError("expected ") << components.size() << " components, got " << values.size();
  for (auto [component, value] : llvm::zip(components, values))
    if (component.type != value)
      return op->emitOpError("expected component '")
             << component.name << "' of type " << component.type << ", got " << value;
  return success();
}

LogicalResult AssembleOp::verify() { return verifyComponents(*this, getType(), getComponents().getTypes()); }
LogicalResult DisassembleOp::verify() { return verifyComponents(*this, getInput().getType(), getResultTypes()); }

LogicalResult DisassembleOp::fold(FoldAdaptor, SmallVectorImpl<OpFoldResult> &results) {
  auto assemble = getInput().getDefiningOp<AssembleOp>();
  if (!assemble)
    return failure();
  llvm::append_range(results, assemble.getComponents());
  return success();
}

LogicalResult ConvertOp::verify() {
  auto from = cast<RankedTensorType>(getInput().getType()), to = cast<RankedTensorType>(getType());
  if (from.getShape() != to.getShape())
    return emitOpError("expected equal shapes, got ") << from << " and " << to;
  return success();
}

OpFoldResult ConvertOp::fold(FoldAdaptor) {
  return getInput().getType() == getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

LogicalResult LinearOp::verify() {
  auto input = cast<RankedTensorType>(getInput().getType());
  auto weight = cast<RankedTensorType>(getWeight().getType());
  auto result = cast<RankedTensorType>(getType());
  if (weight.getRank() != 2)
    return emitOpError("expected a weight of rank 2 (rows, columns), got ") << weight;
  if (input.getRank() < 1 || result.getRank() != input.getRank())
    return emitOpError("expected input and result of equal rank, got ") << input << " and " << result;
  int64_t n = weight.getDimSize(0), k = weight.getDimSize(1);
  if (input.getShape().back() != k)
    return emitOpError("expected an input of ") << k << " columns, got " << input;
  if (result.getShape().back() != n)
    return emitOpError("expected a result of ") << n << " columns, got " << result;
  if (input.getShape().drop_back() != result.getShape().drop_back())
    return emitOpError("expected equal leading dimensions, got ") << input << " and " << result;
  if (Value bias = getBias()) {
    auto type = cast<RankedTensorType>(bias.getType());
    if (type.getShape() != ArrayRef<int64_t>(n))
      return emitOpError("expected a bias of ") << n << " elements, got " << type;
  }
  if (std::optional<StringRef> mode = getMode(); mode && *mode != "f32" && *mode != "bf16" && *mode != "a8")
    return emitOpError("expected mode f32, bf16 or a8, got ") << *mode;
  return success();
}

LogicalResult EmbedOp::verify() {
  auto ids = cast<RankedTensorType>(getIds().getType());
  auto table = cast<RankedTensorType>(getTable().getType());
  auto result = cast<RankedTensorType>(getType());
  if (!ids.getElementType().isInteger(32) && !ids.getElementType().isInteger(64))
    return emitOpError("expected ids of i32 or i64, got ") << ids;
  if (table.getRank() != 2)
    return emitOpError("expected a table of rank 2, got ") << table;
  SmallVector<int64_t> shape(ids.getShape());
  shape.push_back(table.getDimSize(1));
  if (result.getShape() != ArrayRef<int64_t>(shape))
    return emitOpError("expected a result of shape ") << RankedTensorType::get(shape, result.getElementType())
                                                      << ", got " << result;
  return success();
}
