//===- TensorModels.cpp - derivatives of the tensor dialect -----------------===//

#include "Models.h"
#include "Structured.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace skim;

static LogicalResult castOf(tensor::CastOp op, Adjoints &a) {
  a.add(op.getSource(), tensor::CastOp::create(a.b, op.getSource().getType(), a.get(op)));
  return success();
}

static LogicalResult expandShape(tensor::ExpandShapeOp op, Adjoints &a) {
  a.add(op.getSrc(), collapse(a.b, a.get(op), op.getReassociationIndices()));
  return success();
}

static LogicalResult collapseShape(tensor::CollapseShapeOp op, Adjoints &a) {
  a.add(op.getSrc(), expand(a.b, a.get(op), op.getReassociationIndices(), sizesOf(a.b, a.value(op.getSrc()))));
  return success();
}

static LogicalResult reshape(tensor::ReshapeOp op, Adjoints &a) {
  SmallVector<Value> sizes;
  for (OpFoldResult size : sizesOf(a.b, a.value(op.getSource())))
    sizes.push_back(getValueOrCreateConstantIndexOp(a.b, a.b.getLoc(), size));
  Value shape = tensor::FromElementsOp::create(a.b, sizes);
  a.add(op.getSource(), tensor::ReshapeOp::create(a.b, op.getSource().getType(), a.get(op), shape));
  return success();
}

static LogicalResult extractSlice(tensor::ExtractSliceOp op, Adjoints &a) {
  Value zero = splat(a.b, 0, a.value(op.getSource()));
  a.add(op.getSource(), tensor::InsertSliceOp::create(a.b, a.get(op), zero, a.value(op.getMixedOffsets()),
                                                      a.value(op.getMixedSizes()), a.value(op.getMixedStrides())));
  return success();
}

static LogicalResult insertSlice(tensor::InsertSliceOp op, Adjoints &a) {
  SmallVector<OpFoldResult> offsets = a.value(op.getMixedOffsets()), sizes = a.value(op.getMixedSizes()),
                            strides = a.value(op.getMixedStrides());
  if (a.isActive(op.getSource()))
    a.add(op.getSource(), tensor::ExtractSliceOp::create(a.b, op.getSourceType(), a.get(op), offsets, sizes, strides));
  if (a.isActive(op.getDest())) {
    Value zero = splat(a.b, 0, a.value(op.getSource()));
    a.add(op.getDest(), tensor::InsertSliceOp::create(a.b, zero, a.get(op), offsets, sizes, strides));
  }
  return success();
}

static LogicalResult concat(tensor::ConcatOp op, Adjoints &a) {
  int64_t dim = static_cast<int64_t>(op.getDim());
  SmallVector<OpFoldResult> offsets(op.getResultType().getRank(), a.b.getIndexAttr(0)),
      strides(op.getResultType().getRank(), a.b.getIndexAttr(1));
  Value offset = arith::ConstantIndexOp::create(a.b, 0);
  for (Value input : op.getInputs()) {
    SmallVector<OpFoldResult> sizes = sizesOf(a.b, a.value(input));
    offsets[dim] = offset;
    if (a.isActive(input)) {
      // The result type follows from the sizes.
      Value slice = tensor::ExtractSliceOp::create(a.b, a.get(op), offsets, sizes, strides);
      a.add(input, slice);
    }
    offset = a.b.createOrFold<arith::AddIOp>(offset, getValueOrCreateConstantIndexOp(a.b, a.b.getLoc(), sizes[dim]));
  }
  return success();
}

static LogicalResult pad(tensor::PadOp op, Adjoints &a) {
  SmallVector<OpFoldResult> strides(op.getResultType().getRank(), a.b.getIndexAttr(1));
  a.add(op.getSource(), tensor::ExtractSliceOp::create(a.b, a.get(op), a.value(op.getMixedLowPad()),
                                                       sizesOf(a.b, a.value(op.getSource())), strides));
  return success();
}

static LogicalResult extract(tensor::ExtractOp op, Adjoints &a) {
  SmallVector<Value> indices;
  for (Value index : op.getIndices())
    indices.push_back(a.value(index));
  Value zero = splat(a.b, 0, a.value(op.getTensor()));
  a.add(op.getTensor(), tensor::InsertOp::create(a.b, a.get(op), zero, indices));
  return success();
}

static LogicalResult insert(tensor::InsertOp op, Adjoints &a) {
  SmallVector<Value> indices;
  for (Value index : op.getIndices())
    indices.push_back(a.value(index));
  a.add(op.getScalar(), tensor::ExtractOp::create(a.b, a.get(op), indices));
  Value zero = constant(a.b, op.getScalar().getType(), 0);
  a.add(op.getDest(), tensor::InsertOp::create(a.b, zero, a.get(op), indices));
  return success();
}

static LogicalResult fromElements(tensor::FromElementsOp op, Adjoints &a) {
  SmallVector<int64_t> index(op.getType().getRank(), 0);
  for (Value element : op.getElements()) {
    SmallVector<Value> indices;
    for (int64_t i : index)
      indices.push_back(arith::ConstantIndexOp::create(a.b, i));
    a.add(element, tensor::ExtractOp::create(a.b, a.get(op), indices));
    for (int64_t d = op.getType().getRank() - 1; d >= 0 && ++index[d] == op.getType().getDimSize(d); --d)
      index[d] = 0;
  }
  return success();
}

/// The sum of all elements, a scalar.
static Value sumOf(ImplicitLocOpBuilder &b, Value tensor) {
  auto type = cast<RankedTensorType>(tensor.getType());
  unsigned rank = type.getRank();
  Value zero = filled(b, {}, type.getElementType(), 0);
  Value sum = structured(b, rank, Indexed{tensor, loopRange(0, rank)}, Indexed{zero, {}},
                         [](ImplicitLocOpBuilder &body, ValueRange at) -> SmallVector<Value> {
                           return {arith::AddFOp::create(body, at[1], at[0])};
                         })
                  .front();
  return tensor::ExtractOp::create(b, sum, ValueRange());
}

static LogicalResult splatOf(tensor::SplatOp op, Adjoints &a) {
  a.add(op.getInput(), sumOf(a.b, a.get(op)));
  return success();
}

void skim::registerTensorModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, tensor::TensorDialect *) {
    attachAdjoint<tensor::CastOp, castOf>(context);
    attachAdjoint<tensor::ExpandShapeOp, expandShape>(context);
    attachAdjoint<tensor::CollapseShapeOp, collapseShape>(context);
    attachAdjoint<tensor::ReshapeOp, reshape>(context);
    attachAdjoint<tensor::ExtractSliceOp, extractSlice>(context);
    attachAdjoint<tensor::InsertSliceOp, insertSlice>(context);
    attachAdjoint<tensor::ConcatOp, concat>(context);
    attachAdjoint<tensor::PadOp, pad>(context);
    attachAdjoint<tensor::ExtractOp, extract>(context);
    attachAdjoint<tensor::InsertOp, insert>(context);
    attachAdjoint<tensor::FromElementsOp, fromElements>(context);
    attachAdjoint<tensor::SplatOp, splatOf>(context);
  });
}
