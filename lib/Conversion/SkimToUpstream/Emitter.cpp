//===- Emitter.cpp - short words for structured operations ------------------===//

#include "Emitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace skim;

Value Emitter::index(int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); }
Value Emitter::f32(float value) { return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value)); }
Value Emitter::i32(int64_t value) { return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(value)); }

Value Emitter::toIndex(Value integer) { return arith::IndexCastOp::create(b, loc, b.getIndexType(), integer); }

Value Emitter::zeroExtend(Value integer, Type type) {
  if (type.isIndex())
    return arith::IndexCastUIOp::create(b, loc, type, integer);
  return integer.getType() == type ? integer : arith::ExtUIOp::create(b, loc, type, integer);
}

Value Emitter::cast(Value number, Type type) {
  if (number.getType() == type)
    return number;
  unsigned from = number.getType().getIntOrFloatBitWidth(), to = type.getIntOrFloatBitWidth();
  if (from < to)
    return arith::ExtFOp::create(b, loc, type, number);
  if (from > to)
    return arith::TruncFOp::create(b, loc, type, number);
  // Between f16 and bf16.
  return cast(cast(number, b.getF32Type()), type);
}

Value Emitter::add(Value x, Value y) {
  if (isa<FloatType>(x.getType()))
    return arith::AddFOp::create(b, loc, x, y);
  return arith::AddIOp::create(b, loc, x, y);
}
Value Emitter::sub(Value x, Value y) {
  if (isa<FloatType>(x.getType()))
    return arith::SubFOp::create(b, loc, x, y);
  return arith::SubIOp::create(b, loc, x, y);
}
Value Emitter::mul(Value x, Value y) {
  if (isa<FloatType>(x.getType()))
    return arith::MulFOp::create(b, loc, x, y);
  return arith::MulIOp::create(b, loc, x, y);
}
Value Emitter::div(Value x, int64_t y) { return y == 1 ? x : arith::DivUIOp::create(b, loc, x, index(y)); }
Value Emitter::rem(Value x, int64_t y) { return y == 1 ? index(0) : arith::RemUIOp::create(b, loc, x, index(y)); }

Value Emitter::load(Value tensor, ValueRange indices) {
  Value element = tensor::ExtractOp::create(b, loc, tensor, indices);
  return isa<FloatType>(element.getType()) ? cast(element, b.getF32Type()) : element;
}

Value Emitter::dim(Value tensor, int64_t i) {
  return getValueOrCreateConstantIndexOp(b, loc, tensor::getMixedSize(b, loc, tensor, i));
}
SmallVector<OpFoldResult> Emitter::sizes(Value tensor) { return tensor::getMixedSizes(b, loc, tensor); }

/// The indices of a structured operation's loops.
static SmallVector<Value> loopIndices(OpBuilder &b, Location loc, size_t count) {
  SmallVector<Value> indices;
  for (size_t i = 0; i < count; ++i)
    indices.push_back(linalg::IndexOp::create(b, loc, i));
  return indices;
}

Value Emitter::generate(Sizes sizes, Type elementType, ElementFn element) {
  Value empty = tensor::EmptyOp::create(b, loc, sizes, elementType);
  AffineMap map = b.getMultiDimIdentityMap(sizes.size());
  SmallVector<utils::IteratorType> loops(sizes.size(), utils::IteratorType::parallel);
  return linalg::GenericOp::create(b, loc, empty.getType(), ValueRange(), empty, map, loops,
                                   [&](OpBuilder &nested, Location at, ValueRange) {
                                     Emitter inner(nested, at);
                                     Value value = element(inner, loopIndices(nested, at, sizes.size()));
                                     if (isa<FloatType>(elementType))
                                       value = inner.cast(value, elementType);
                                     linalg::YieldOp::create(nested, at, value);
                                   })
      .getResult(0);
}

Value Emitter::reduce(Sizes outer, Sizes inner, Value initial, ElementFn element, CombineFn combine) {
  Value empty = tensor::EmptyOp::create(b, loc, outer, b.getF32Type());
  Value filled = linalg::FillOp::create(b, loc, initial, empty).getResult(0);
  // The reduced sizes come from an operand that is not read.
  Value extent = tensor::EmptyOp::create(b, loc, inner, b.getI1Type());
  unsigned loops = outer.size() + inner.size();
  SmallVector<AffineExpr> outerDims, innerDims;
  for (unsigned d = 0; d < loops; ++d)
    (d < outer.size() ? outerDims : innerDims).push_back(b.getAffineDimExpr(d));
  SmallVector<AffineMap> maps{AffineMap::get(loops, 0, innerDims, b.getContext()),
                              AffineMap::get(loops, 0, outerDims, b.getContext())};
  SmallVector<utils::IteratorType> iterators(outer.size(), utils::IteratorType::parallel);
  iterators.append(inner.size(), utils::IteratorType::reduction);
  return linalg::GenericOp::create(b, loc, filled.getType(), extent, filled, maps, iterators,
                                   [&](OpBuilder &nested, Location at, ValueRange arguments) {
                                     Emitter body(nested, at);
                                     Value value = element(body, loopIndices(nested, at, loops));
                                     linalg::YieldOp::create(nested, at, combine(body, value, arguments[1]));
                                   })
      .getResult(0);
}

Value Emitter::matmulTransposed(Value x, Value w) {
  auto type = llvm::cast<RankedTensorType>(x.getType());
  unsigned lead = type.getRank() - 1, n = lead, k = lead + 1;
  SmallVector<OpFoldResult> shape = sizes(x);
  shape.back() = sizes(w).front();
  Value empty = tensor::EmptyOp::create(b, loc, shape, b.getF32Type());
  Value filled = linalg::FillOp::create(b, loc, f32(0), empty).getResult(0);
  SmallVector<AffineExpr> xDims, yDims;
  for (unsigned d = 0; d < lead; ++d)
    xDims.push_back(b.getAffineDimExpr(d));
  yDims = xDims;
  xDims.push_back(b.getAffineDimExpr(k));
  yDims.push_back(b.getAffineDimExpr(n));
  MLIRContext *context = b.getContext();
  SmallVector<AffineMap> maps{AffineMap::get(lead + 2, 0, xDims, context),
                              AffineMap::get(lead + 2, 0, {b.getAffineDimExpr(n), b.getAffineDimExpr(k)}, context),
                              AffineMap::get(lead + 2, 0, yDims, context)};
  SmallVector<utils::IteratorType> iterators(lead + 1, utils::IteratorType::parallel);
  iterators.push_back(utils::IteratorType::reduction);
  return linalg::GenericOp::create(b, loc, filled.getType(), ValueRange{x, w}, filled, maps, iterators,
                                   [&](OpBuilder &nested, Location at, ValueRange arguments) {
                                     Emitter body(nested, at);
                                     Value product = body.mul(body.cast(arguments[0], nested.getF32Type()),
                                                              body.cast(arguments[1], nested.getF32Type()));
                                     linalg::YieldOp::create(nested, at, body.add(arguments[2], product));
                                   })
      .getResult(0);
}
