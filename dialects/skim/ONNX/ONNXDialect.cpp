#include "skim/ONNX/ONNXOps.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

#include "skim/ONNX/ONNXDialect.cpp.inc"

#define GET_OP_CLASSES
#include "skim/ONNX/ONNXOps.cpp.inc"

void skim::onnx::ONNXDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "skim/ONNX/ONNXOps.cpp.inc"
      >();
}

/// node_c2: `shapes` repeats what a result's type says and names the rest.
static LogicalResult verifyShapes(skim::onnx::NodeOp op, ArrayAttr shapes) {
  if (shapes.size() != op.getNumResults())
    return op.emitOpError("expected shapes of ") << op.getNumResults() << " results, got " << shapes.size();
  for (auto [i, entry, type] : llvm::enumerate(shapes, op.getResultTypes())) {
    auto texts = dyn_cast<ArrayAttr>(entry);
    if (!texts || !llvm::all_of(texts, [](Attribute text) { return isa<StringAttr>(text); }))
      return op.emitOpError("expected a list of texts as shape of result #") << i << ", got " << entry;
    auto ranked = dyn_cast<RankedTensorType>(type);
    if (texts.empty() && (!ranked || ranked.getRank() == 0))
      continue;
    if (!ranked || static_cast<int64_t>(texts.size()) != ranked.getRank())
      return op.emitOpError("expected a shape of ") << type << " for result #" << i << ", got " << entry;
    for (auto [text, size] : llvm::zip_equal(texts.getAsValueRange<StringAttr>(), ranked.getShape()))
      if (!ShapedType::isDynamic(size) && text != std::to_string(size))
        return op.emitOpError("expected dimension ") << size << " in the shape of result #" << i << ", got " << text;
  }
  return success();
}

LogicalResult skim::onnx::NodeOp::verify() {
  if (getOpType().empty())
    return emitOpError("expected the name of an operator, got an empty op_type");
  if (ArrayAttr shapes = getShapesAttr())
    if (failed(verifyShapes(*this, shapes)))
      return failure();
  if (ArrayAttr values = getValuesAttr()) {
    auto type = getNumResults() == 1 ? dyn_cast<RankedTensorType>(getResult(0).getType()) : RankedTensorType();
    if (!type || !type.hasStaticShape() || !type.getElementType().isInteger())
      return emitOpError("expected values of one static integer result, got ") << getResultTypes();
    if (type.getNumElements() != static_cast<int64_t>(values.size()))
      return emitOpError("expected ") << type.getNumElements() << " values, got " << values.size();
  }
  for (Region &body : getBodies()) {
    auto yield = body.hasOneBlock() && !body.front().empty() ? dyn_cast<YieldOp>(body.front().back()) : YieldOp();
    if (!yield || yield.getNumOperands() != getNumResults())
      return emitOpError("expected bodies that yield ") << getNumResults() << " values";
  }
  return success();
}

OpFoldResult skim::onnx::ConstantOp::fold(FoldAdaptor) { return getValueAttr(); }
