//===- Legacy.cpp - operators of older opsets as their newest versions ------===//
//
// What differs in spelling only (axes as attribute or operand) is settled by the
// table rows; here is what changes operands or meaning.
//
//===----------------------------------------------------------------------===//
#include "Importer.h"

using namespace mlir;
using namespace skim;
using namespace skim::onnx;

/// Moves attribute `name` to operand `operand`, as a constant: a vector of i64 or,
/// with `element`, a scalar of that type.
bool Importer::attributeToOperand(NodeContext &ctx, StringRef name, unsigned operand, Type element) {
  Attribute value = ctx.attributes.get(name);
  if (!value)
    return true;
  ctx.attributes.erase(name);
  DenseElementsAttr dense;
  if (auto ints = dyn_cast<DenseI64ArrayAttr>(value)) {
    dense = DenseElementsAttr::get(RankedTensorType::get({static_cast<int64_t>(ints.size())}, builder.getI64Type()),
                                   ints.asArrayRef());
  } else if (auto number = dyn_cast<FloatAttr>(value); number && element && isa<FloatType>(element)) {
    Data data;
    data.isFloat = true;
    data.floats.push_back(number.getValueAsDouble());
    dense = denseFrom(data, element, {}, dims);
  } else {
    return ctx.fail("attribute '" + name.str() + "' of another type");
  }
  if (ctx.inputs.size() <= operand)
    ctx.inputs.resize(operand + 1, nullptr);
  ctx.inputs[operand] = scalarConstant(dense);
  return true;
}

bool Importer::normalizeLegacy(NodeContext &ctx) {
  if (!ctx.domain.empty())
    return true;
  if (ctx.op == "Clip" && ctx.opset < 11 && ctx.has(0))
    return attributeToOperand(ctx, "min", 1, ctx.in(0).element) && attributeToOperand(ctx, "max", 2, ctx.in(0).element);
  if (ctx.op == "Slice" && ctx.opset < 10)
    return attributeToOperand(ctx, "starts", 1, {}) && attributeToOperand(ctx, "ends", 2, {}) &&
           attributeToOperand(ctx, "axes", 3, {});
  if (ctx.op == "Pad" && ctx.opset < 11 && ctx.has(0))
    return attributeToOperand(ctx, "pads", 1, {}) && attributeToOperand(ctx, "value", 2, ctx.in(0).element);
  // Broadcasting is always implicit from opset 7 on.
  ctx.attributes.erase("consumed_inputs");
  return true;
}

/// Softmax before opset 13 flattens to a matrix at `axis` (default 1) first.
bool Importer::expandSoftmax(NodeContext &ctx, SmallVectorImpl<Info *> &results) {
  Info *input = &ctx.in(0);
  std::optional<int64_t> rank = ctx.rank(0);
  int64_t axis = ctx.getInt("axis", 1);
  if (!rank)
    return ctx.fail("an operand of known rank before opset 13", ctx.text(*input));
  if (!ctx.normalizeAxis(axis, *rank))
    return false;
  StringRef op = ctx.op;
  if (axis == *rank - 1) {
    ctx.setInt("axis", axis);
    return runNode(ctx, results);
  }
  Info *last = input, *shape = nullptr;
  auto step = [&](StringRef stepOp, ArrayRef<Info *> operands, StringRef output, int64_t stepAxis) -> Info * {
    NodeContext inner(dims, builder, makeScalar);
    inner.op = stepOp;
    inner.name = ctx.name;
    inner.opset = 13;
    inner.inputs.assign(operands.begin(), operands.end());
    inner.outputs.resize(1);
    inner.outputs[0].name = output;
    if (stepAxis >= 0)
      inner.setInt("axis", stepAxis);
    SmallVector<Info *, 1> made;
    if (!runNode(inner, made)) {
      ctx.failure = inner.failure;
      return nullptr;
    }
    return made[0];
  };
  StringRef name = ctx.outputs[0].name;
  if (!(shape = step("Shape", {input}, name, -1)) || !(last = step("Flatten", {last}, name, axis)) ||
      !(last = step(op, {last}, name, 1)) || !(last = step("Reshape", {last, shape}, name, -1)))
    return false;
  results.push_back(last);
  return true;
}
