//===- Structured.cpp - short words for what adjoints are made of -----------===//

#include "Structured.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimOps.h"

using namespace mlir;
using namespace skim;

static RankedTensorType typeOf(Value tensor) { return cast<RankedTensorType>(tensor.getType()); }

Type skim::computeType(Type type) {
  Type element = getElementTypeOrSelf(type);
  return element.isF64() ? element : Float32Type::get(type.getContext());
}

Value skim::castFloat(ImplicitLocOpBuilder &b, Value value, Type elementType) {
  Type from = getElementTypeOrSelf(value);
  if (from == elementType)
    return value;
  auto withElements = [&](Type element) -> Type {
    auto tensor = dyn_cast<RankedTensorType>(value.getType());
    return tensor ? tensor.clone(element) : element;
  };
  if (from.getIntOrFloatBitWidth() < elementType.getIntOrFloatBitWidth())
    return arith::ExtFOp::create(b, withElements(elementType), value);
  if (from.getIntOrFloatBitWidth() > elementType.getIntOrFloatBitWidth())
    return arith::TruncFOp::create(b, withElements(elementType), value);
  return castFloat(b, castFloat(b, value, b.getF32Type()), elementType); // between f16 and bf16
}

Value skim::toCompute(ImplicitLocOpBuilder &b, Value value) {
  return castFloat(b, value, computeType(value.getType()));
}

OpFoldResult skim::sizeOf(ImplicitLocOpBuilder &b, Value tensor, int64_t d) {
  RankedTensorType type = typeOf(tensor);
  if (!type.isDynamicDim(d))
    return b.getIndexAttr(type.getDimSize(d));
  if (auto result = dyn_cast<OpResult>(tensor)) {
    Operation *op = result.getOwner();
    if (auto made = dyn_cast<tensor::EmptyOp>(op))
      return made.getMixedSizes()[d];
    if (auto expanded = dyn_cast<tensor::ExpandShapeOp>(op))
      return expanded.getMixedOutputShape()[d];
    if (auto collapsed = dyn_cast<tensor::CollapseShapeOp>(op)) {
      ArrayRef<int64_t> shape = collapsed.getSrcType().getShape();
      SmallVector<int64_t> others;
      for (int64_t part : collapsed.getReassociationIndices()[d])
        if (shape[part] != 1)
          others.push_back(part);
      if (others.size() == 1)
        return sizeOf(b, collapsed.getSrc(), others.front());
    }
    if (auto destination = dyn_cast<DestinationStyleOpInterface>(op))
      return sizeOf(b, destination.getTiedOpOperand(result)->get(), d);
    if (isa<lm::RMSNormOp, lm::SiLUOp, lm::RotaryOp, LinearOp, tensor::CastOp>(op) ||
        op->hasTrait<OpTrait::Elementwise>())
      for (Value operand : op->getOperands()) // a select's condition may be a scalar
        if (isa<RankedTensorType>(operand.getType()))
          return sizeOf(b, operand, d);
  }
  return tensor::DimOp::create(b, tensor, d).getResult();
}

SmallVector<OpFoldResult> skim::sizesOf(ImplicitLocOpBuilder &b, Value tensor) {
  SmallVector<OpFoldResult> sizes;
  for (int64_t d = 0; d < typeOf(tensor).getRank(); ++d)
    sizes.push_back(sizeOf(b, tensor, d));
  return sizes;
}

Value skim::empty(ImplicitLocOpBuilder &b, Sizes sizes, Type elementType) {
  return tensor::EmptyOp::create(b, sizes, elementType);
}

Value skim::constant(ImplicitLocOpBuilder &b, Type type, double value) {
  return arith::ConstantOp::create(b, b.getFloatAttr(type, value));
}

Value skim::filled(ImplicitLocOpBuilder &b, Sizes sizes, Type elementType, double value) {
  return linalg::FillOp::create(b, constant(b, elementType, value), empty(b, sizes, elementType)).getResult(0);
}

Value skim::splat(ImplicitLocOpBuilder &b, double value, Value like) {
  if (!isa<RankedTensorType>(like.getType()))
    return constant(b, like.getType(), value);
  return filled(b, sizesOf(b, like), typeOf(like).getElementType(), value);
}

Value skim::collapse(ImplicitLocOpBuilder &b, Value tensor, ArrayRef<ReassociationIndices> groups) {
  if (static_cast<int64_t>(groups.size()) == typeOf(tensor).getRank())
    return tensor;
  return tensor::CollapseShapeOp::create(b, tensor, groups);
}

Value skim::expand(ImplicitLocOpBuilder &b, Value tensor, ArrayRef<ReassociationIndices> groups, Sizes sizes) {
  if (static_cast<int64_t>(sizes.size()) == typeOf(tensor).getRank())
    return tensor;
  SmallVector<int64_t> shape;
  SmallVector<Value> dynamic;
  dispatchIndexOpFoldResults(sizes, dynamic, shape);
  auto type = RankedTensorType::get(shape, typeOf(tensor).getElementType());
  return tensor::ExpandShapeOp::create(b, type, tensor, groups, sizes);
}

Value skim::transpose(ImplicitLocOpBuilder &b, Value tensor, ArrayRef<int64_t> permutation) {
  SmallVector<OpFoldResult> from = sizesOf(b, tensor), to;
  for (int64_t d : permutation)
    to.push_back(from[d]);
  Value init = empty(b, to, typeOf(tensor).getElementType());
  return linalg::TransposeOp::create(b, tensor, init, permutation)->getResult(0);
}

Value skim::matmul(ImplicitLocOpBuilder &b, Value lhs, bool transposeLhs, Value rhs, bool transposeRhs) {
  unsigned batch = typeOf(lhs).getRank() == 3, row = batch, column = batch + 1, inner = batch + 2;
  SmallVector<OpFoldResult> left = sizesOf(b, lhs), right = sizesOf(b, rhs), sizes(left.begin(), left.begin() + batch);
  sizes.push_back(left[transposeLhs ? batch + 1 : batch]);
  sizes.push_back(right[transposeRhs ? batch : batch + 1]);
  Value zero = filled(b, sizes, typeOf(lhs).getElementType(), 0);
  auto map = [&](unsigned first, unsigned second, bool transposed) -> Attribute {
    SmallVector<AffineExpr> dims;
    if (batch)
      dims.push_back(b.getAffineDimExpr(0));
    if (transposed)
      std::swap(first, second);
    dims.push_back(b.getAffineDimExpr(first));
    dims.push_back(b.getAffineDimExpr(second));
    return AffineMapAttr::get(AffineMap::get(batch + 3, 0, dims, b.getContext()));
  };
  ArrayAttr maps = b.getArrayAttr(
      {map(row, inner, transposeLhs), map(inner, column, transposeRhs), map(row, column, /*transposed=*/false)});
  if (batch) {
    auto op = linalg::BatchMatmulOp::create(b, zero.getType(), ValueRange{lhs, rhs}, ValueRange{zero});
    op.setIndexingMapsAttr(maps);
    return op.getResult(0);
  }
  auto op = linalg::MatmulOp::create(b, zero.getType(), ValueRange{lhs, rhs}, ValueRange{zero});
  op.setIndexingMapsAttr(maps);
  return op.getResult(0);
}

SmallVector<unsigned> skim::loopRange(unsigned begin, unsigned end) {
  return llvm::to_vector(llvm::seq<unsigned>(begin, end));
}

SmallVector<Value> skim::structured(ImplicitLocOpBuilder &b, unsigned loops, ArrayRef<Indexed> inputs,
                                    ArrayRef<Indexed> outputs, BodyFn body) {
  SmallVector<Value> ins, outs;
  SmallVector<AffineMap> maps;
  SmallVector<utils::IteratorType> iterators(loops, utils::IteratorType::parallel);
  auto addMap = [&](const Indexed &operand) {
    SmallVector<AffineExpr> dims;
    for (unsigned loop : operand.loops)
      dims.push_back(b.getAffineDimExpr(loop));
    maps.push_back(AffineMap::get(loops, 0, dims, b.getContext()));
  };
  for (const Indexed &input : inputs) {
    ins.push_back(input.tensor);
    addMap(input);
  }
  for (const Indexed &output : outputs) {
    outs.push_back(output.tensor);
    addMap(output);
    for (unsigned loop = 0; loop < loops; ++loop)
      if (!llvm::is_contained(output.loops, loop))
        iterators[loop] = utils::IteratorType::reduction;
  }
  auto generic = linalg::GenericOp::create(
      b, TypeRange(ValueRange(outs)), ins, outs, maps, iterators,
      [&](OpBuilder &nested, Location loc, ValueRange elements) {
        ImplicitLocOpBuilder inner(loc, nested);
        SmallVector<Value> numbers;
        for (Value element : elements)
          numbers.push_back(isa<FloatType>(element.getType()) ? toCompute(inner, element) : element);
        SmallVector<Value> stored = body(inner, numbers);
        for (auto [value, out] : llvm::zip(stored, outs))
          value = castFloat(inner, value, getElementTypeOrSelf(out));
        linalg::YieldOp::create(inner, stored);
      });
  return llvm::to_vector_of<Value>(generic.getResults());
}
