//===- Emitter.cpp - short words for structured operations ------------------===//

#include "Emitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include <numeric>

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

//===----------------------------------------------------------------------===//
// Structured operations: affine maps, no loads
//===----------------------------------------------------------------------===//

AffineMap Emitter::project(unsigned loops, ArrayRef<unsigned> dims) {
  return AffineMap::getMultiDimMapWithTargets(loops, dims, b.getContext());
}

Value Emitter::loop(unsigned i) { return linalg::IndexOp::create(b, loc, i); }

/// Elements of operands as f32 where they are floats.
static SmallVector<Value> asF32(Emitter &body, ValueRange elements) {
  SmallVector<Value> values(elements);
  for (Value &value : values)
    if (isa<FloatType>(value.getType()))
      value = body.cast(value, body.b.getF32Type());
  return values;
}

Value Emitter::map(Sizes sizes, Type elementType, ArrayRef<Operand> operands, MapFn element) {
  Value empty = tensor::EmptyOp::create(b, loc, sizes, elementType);
  SmallVector<Value> tensors;
  SmallVector<AffineMap> maps;
  for (const Operand &operand : operands) {
    tensors.push_back(operand.tensor);
    maps.push_back(operand.map);
  }
  maps.push_back(identity(sizes.size()));
  SmallVector<utils::IteratorType> loops(sizes.size(), utils::IteratorType::parallel);
  return linalg::GenericOp::create(b, loc, empty.getType(), tensors, empty, maps, loops,
                                   [&](OpBuilder &nested, Location at, ValueRange arguments) {
                                     Emitter body(nested, at);
                                     Value value = element(body, asF32(body, arguments.drop_back()));
                                     if (isa<FloatType>(elementType))
                                       value = body.cast(value, elementType);
                                     linalg::YieldOp::create(nested, at, value);
                                   })
      .getResult(0);
}

Value Emitter::reduceLast(Value tensor, Value initial, ArrayRef<Operand> others, MapFn element, CombineFn combine) {
  SmallVector<OpFoldResult> shape = sizes(tensor);
  unsigned rank = shape.size();
  Value empty = tensor::EmptyOp::create(b, loc, Sizes(shape).drop_back(), b.getF32Type());
  Value filled = linalg::FillOp::create(b, loc, initial, empty).getResult(0);
  SmallVector<Value> tensors{tensor};
  SmallVector<AffineMap> maps{identity(rank)};
  for (const Operand &other : others) {
    tensors.push_back(other.tensor);
    maps.push_back(other.map);
  }
  maps.push_back(identity(rank).dropResult(rank - 1));
  SmallVector<utils::IteratorType> loops(rank, utils::IteratorType::parallel);
  loops.back() = utils::IteratorType::reduction;
  return linalg::GenericOp::create(b, loc, filled.getType(), tensors, filled, maps, loops,
                                   [&](OpBuilder &nested, Location at, ValueRange arguments) {
                                     Emitter body(nested, at);
                                     Value value = element(body, asF32(body, arguments.drop_back()));
                                     linalg::YieldOp::create(nested, at, combine(body, value, arguments.back()));
                                   })
      .getResult(0);
}

Value Emitter::contract(Sizes sizes, AffineMap out, Operand x, Operand y) {
  Value empty = tensor::EmptyOp::create(b, loc, sizes, b.getF32Type());
  Value filled = linalg::FillOp::create(b, loc, f32(0), empty).getResult(0);
  SmallVector<utils::IteratorType> loops(out.getNumDims(), utils::IteratorType::reduction);
  for (AffineExpr result : out.getResults())
    loops[llvm::cast<AffineDimExpr>(result).getPosition()] = utils::IteratorType::parallel;
  return linalg::GenericOp::create(b, loc, filled.getType(), ValueRange{x.tensor, y.tensor}, filled,
                                   ArrayRef<AffineMap>{x.map, y.map, out}, loops,
                                   [&](OpBuilder &nested, Location at, ValueRange arguments) {
                                     Emitter body(nested, at);
                                     SmallVector<Value> factors = asF32(body, arguments.drop_back());
                                     linalg::YieldOp::create(nested, at,
                                                             body.add(arguments[2], body.mul(factors[0], factors[1])));
                                   })
      .getResult(0);
}

Value Emitter::split(Value tensor, unsigned dim, ArrayRef<int64_t> parts) {
  auto type = llvm::cast<RankedTensorType>(tensor.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape.erase(shape.begin() + dim);
  shape.insert(shape.begin() + dim, parts.begin(), parts.end());
  SmallVector<OpFoldResult> output = sizes(tensor);
  output.erase(output.begin() + dim);
  for (auto [i, part] : llvm::enumerate(parts))
    output.insert(output.begin() + dim + i, size(part));
  SmallVector<ReassociationIndices> groups(type.getRank());
  for (unsigned d = 0, next = 0; d < groups.size(); ++d)
    for (unsigned i = 0, e = d == dim ? parts.size() : 1; i < e; ++i)
      groups[d].push_back(next++);
  return tensor::ExpandShapeOp::create(b, loc, type.clone(shape), tensor, groups, output);
}

Value Emitter::merge(Value tensor, unsigned dim, unsigned count) {
  auto type = llvm::cast<RankedTensorType>(tensor.getType());
  SmallVector<ReassociationIndices> groups;
  for (unsigned d = 0, e = type.getRank(); d < e;) {
    groups.emplace_back();
    for (unsigned i = 0, n = d == dim ? count : 1; i < n; ++i)
      groups.back().push_back(d++);
  }
  return tensor::CollapseShapeOp::create(b, loc, tensor, groups);
}

Value Emitter::matmulTransposed(Value x, Value w) {
  unsigned lead = llvm::cast<RankedTensorType>(x.getType()).getRank() - 1, n = lead, k = lead + 1;
  SmallVector<OpFoldResult> shape = sizes(x);
  shape.back() = sizes(w).front();
  SmallVector<unsigned> xDims(lead), yDims;
  std::iota(xDims.begin(), xDims.end(), 0u);
  yDims = xDims;
  xDims.push_back(k);
  yDims.push_back(n);
  return contract(shape, project(lead + 2, yDims), {x, project(lead + 2, xDims)}, {w, project(lead + 2, {n, k})});
}
