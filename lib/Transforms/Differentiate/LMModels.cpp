//===- LMModels.cpp - derivatives of the language model operations ----------===//
//
// A few structured operations over affine maps each; attention has a file of
// its own.
//
//===----------------------------------------------------------------------===//

#include "Models.h"
#include "Structured.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "skim/LM/LMOps.h"

#include <limits>

using namespace mlir;
using namespace skim;

using B = ImplicitLocOpBuilder;
static Value add(B &b, Value x, Value y) { return arith::AddFOp::create(b, x, y); }
static Value sub(B &b, Value x, Value y) { return arith::SubFOp::create(b, x, y); }
static Value mul(B &b, Value x, Value y) { return arith::MulFOp::create(b, x, y); }
static Value div(B &b, Value x, Value y) { return arith::DivFOp::create(b, x, y); }
static Value number(B &b, Value like, double value) { return constant(b, like.getType(), value); }
static unsigned rankOf(Value tensor) { return cast<RankedTensorType>(tensor.getType()).getRank(); }

/// With r = 1/√(mean x² + ε), g = dy·(w + offset): dx = r·g − x·r³·mean(g·x), dw = Σ dy·x·r.
static LogicalResult rmsNorm(lm::RMSNormOp op, Adjoints &a) {
  B &b = a.b;
  Value x = a.value(op.getInput()), w = a.value(op.getWeight()), dy = a.get(op);
  int64_t part = cast<RankedTensorType>(w.getType()).getDimSize(0), heads = static_cast<int64_t>(op.getHeads());
  double epsilon = op.getEpsilon().convertToDouble(), offset = op.getOffset().convertToDouble();
  unsigned rank = rankOf(x);
  SmallVector<ReassociationIndices> groups;
  for (unsigned d = 0; d < rank; ++d)
    groups.push_back({d});
  if (heads > 1) { // each head's channels as a dimension of their own
    groups.back().push_back(rank++);
    SmallVector<OpFoldResult> sizes = sizesOf(b, x);
    sizes.back() = b.getIndexAttr(heads);
    sizes.push_back(b.getIndexAttr(part));
    x = expand(b, x, groups, sizes);
    dy = expand(b, dy, groups, sizes);
  }
  Type compute = computeType(x.getType());
  SmallVector<OpFoldResult> sizes = sizesOf(b, dy);
  SmallVector<unsigned> all = loopRange(0, rank), outer = loopRange(0, rank - 1);
  auto scaled = [&](B &body, Value gradient, Value weight) {
    Value sum = offset == 0 ? weight : add(body, weight, number(body, weight, offset));
    return mul(body, gradient, castFloat(body, sum, gradient.getType()));
  };
  auto root = [&](B &body, Value squares) {
    Value mean = div(body, squares, number(body, squares, static_cast<double>(part)));
    return math::RsqrtOp::create(body, add(body, mean, number(body, squares, epsilon))).getResult();
  };
  Value zero = filled(b, ArrayRef(sizes).drop_back(), compute, 0);
  SmallVector<Value> sums = structured(b, rank, {{x, all}, {w, {rank - 1}}, {dy, all}}, {{zero, outer}, {zero, outer}},
                                       [&](B &body, ValueRange at) -> SmallVector<Value> {
                                         Value product = mul(body, scaled(body, at[2], at[1]), at[0]);
                                         return {add(body, at[3], mul(body, at[0], at[0])), add(body, at[4], product)};
                                       });
  if (a.isActive(op.getInput())) {
    Value dx = structured(b, rank, {{x, all}, {w, {rank - 1}}, {dy, all}, {sums[0], outer}, {sums[1], outer}},
                          Indexed{empty(b, sizes, getElementTypeOrSelf(x)), all},
                          [&](B &body, ValueRange at) -> SmallVector<Value> {
                            Value r = root(body, at[3]), share = mul(body, at[4], mul(body, r, r));
                            share = div(body, share, number(body, share, static_cast<double>(part)));
                            Value g = scaled(body, at[2], at[1]);
                            return {mul(body, r, sub(body, g, mul(body, at[0], share)))};
                          })
                   .front();
    a.add(op.getInput(), collapse(b, dx, groups));
  }
  if (a.isActive(op.getWeight())) {
    Value none = filled(b, sizesOf(b, w), compute, 0);
    Value dw = structured(b, rank, {{x, all}, {dy, all}, {sums[0], outer}}, Indexed{none, {rank - 1}},
                          [&](B &body, ValueRange at) -> SmallVector<Value> {
                            return {add(body, at[3], mul(body, mul(body, at[1], at[0]), root(body, at[2])))};
                          })
                   .front();
    a.add(op.getWeight(), castFloat(b, dw, getElementTypeOrSelf(w)));
  }
  return success();
}

/// dx = dy·σ·(1 + x·(1 − σ)).
static LogicalResult silu(lm::SiLUOp op, Adjoints &a) {
  B &b = a.b;
  Value x = a.value(op.getInput()), dy = a.get(op);
  SmallVector<unsigned> all = loopRange(0, rankOf(x));
  Value out = empty(b, sizesOf(b, dy), getElementTypeOrSelf(dy));
  a.add(op.getInput(), structured(b, all.size(), {{x, all}, {dy, all}}, Indexed{out, all},
                                  [](B &body, ValueRange at) -> SmallVector<Value> {
                                    Value one = number(body, at[0], 1);
                                    Value power = math::ExpOp::create(body, arith::NegFOp::create(body, at[0]));
                                    Value sigmoid = div(body, one, add(body, one, power));
                                    Value inner = add(body, one, mul(body, at[0], sub(body, one, sigmoid)));
                                    return {mul(body, at[1], mul(body, sigmoid, inner))};
                                  })
                           .front());
  return success();
}

/// A rotation's transpose turns back.
static LogicalResult rotary(lm::RotaryOp op, Adjoints &a) {
  Value sin = arith::NegFOp::create(a.b, a.value(op.getSin()));
  a.add(op.getInput(), lm::RotaryOp::create(a.b, op.getType(), a.get(op), a.value(op.getCos()), sin, op.getHeadsAttr(),
                                            op.getInterleavedAttr()));
  return success();
}

/// dlogits = dl·(softmax(logits) − onehot(target)).
static LogicalResult crossEntropy(lm::CrossEntropyOp op, Adjoints &a) {
  B &b = a.b;
  Value logits = a.value(op.getLogits()), targets = a.value(op.getTargets()), dl = a.get(op);
  unsigned rank = rankOf(logits);
  Type compute = computeType(logits.getType());
  SmallVector<OpFoldResult> sizes = sizesOf(b, logits);
  ArrayRef<OpFoldResult> rows = ArrayRef(sizes).drop_back();
  SmallVector<unsigned> all = loopRange(0, rank), outer = loopRange(0, rank - 1);
  Value most = structured(b, rank, Indexed{logits, all},
                          Indexed{filled(b, rows, compute, -std::numeric_limits<double>::infinity()), outer},
                          [](B &body, ValueRange at) -> SmallVector<Value> {
                            return {arith::MaximumFOp::create(body, at[1], at[0])};
                          })
                   .front();
  // Exponentials and their sum in one go; the first become the result in place.
  SmallVector<Value> parts = structured(b, rank, {{logits, all}, {most, outer}},
                                        {{empty(b, sizes, compute), all}, {filled(b, rows, compute, 0), outer}},
                                        [](B &body, ValueRange at) -> SmallVector<Value> {
                                          Value power = math::ExpOp::create(body, sub(body, at[0], at[1]));
                                          return {power, add(body, at[3], power)};
                                        });
  Value dlogits = structured(b, rank, {{parts[1], outer}, {targets, outer}, {dl, outer}}, Indexed{parts[0], all},
                             [&](B &body, ValueRange at) -> SmallVector<Value> {
                               Value share = div(body, at[3], at[0]);
                               Value target = arith::IndexCastOp::create(body, body.getIndexType(), at[1]);
                               Value isTarget =
                                   arith::CmpIOp::create(body, arith::CmpIPredicate::eq, target,
                                                         linalg::IndexOp::create(body, rank - 1).getResult());
                               Value rest = sub(body, share, number(body, share, 1));
                               Value gradient = castFloat(body, at[2], compute);
                               Value chosen = arith::SelectOp::create(body, isTarget, rest, share);
                               return {mul(body, gradient, chosen)};
                             })
                      .front();
  a.add(op.getLogits(), castFloat(b, dlogits, getElementTypeOrSelf(logits)));
  return success();
}

/// Rows add to where they came from, one after the other: several may be the same.
static LogicalResult gatherRows(lm::GatherRowsOp op, Adjoints &a) {
  B &b = a.b;
  Value x = a.value(op.getInput()), rows = a.value(op.getRows()), dy = a.get(op);
  SmallVector<OpFoldResult> sizes = sizesOf(b, x);
  OpFoldResult one = b.getIndexAttr(1), zero = b.getIndexAttr(0);
  Value flat = collapse(b, splat(b, 0, x), {{0, 1}, {2}});
  Value count = getValueOrCreateConstantIndexOp(b, b.getLoc(), sizesOf(b, dy).front());
  auto loop = scf::ForOp::create(
      b, arith::ConstantIndexOp::create(b, 0), count, arith::ConstantIndexOp::create(b, 1), flat,
      [&](OpBuilder &nested, Location loc, Value i, ValueRange carried) {
        B body(loc, nested);
        Value number = tensor::ExtractOp::create(body, rows, i);
        OpFoldResult row = arith::IndexCastOp::create(body, body.getIndexType(), number).getResult();
        SmallVector<OpFoldResult> shape{one, sizes[2]}, strides{one, one};
        Value part = tensor::ExtractSliceOp::create(body, dy, ArrayRef<OpFoldResult>{i, zero}, shape, strides);
        Value old = tensor::ExtractSliceOp::create(body, carried[0], ArrayRef<OpFoldResult>{row, zero}, shape, strides);
        Value next = tensor::InsertSliceOp::create(body, add(body, old, part), carried[0],
                                                   ArrayRef<OpFoldResult>{row, zero}, shape, strides);
        scf::YieldOp::create(body, next);
      });
  a.add(op.getInput(), expand(b, loop.getResult(0), {{0, 1}, {2}}, sizes));
  return success();
}

/// What the new tokens wrote is read back sequence by sequence, and is nothing in the cache's own adjoint.
static LogicalResult cacheAppend(lm::CacheAppendOp op, Adjoints &a) {
  B &b = a.b;
  auto cacheType = cast<RankedTensorType>(op.getType());
  Value x = a.value(op.getInput()), dy = a.get(op);
  OpFoldResult one = b.getIndexAttr(1), zero = b.getIndexAttr(0), heads = b.getIndexAttr(cacheType.getDimSize(1)),
               size = b.getIndexAttr(cacheType.getDimSize(3));
  SmallVector<OpFoldResult> sizes = sizesOf(b, x), ones{one, one, one, one};
  Type element = cacheType.getElementType();
  // `step` gets a sequence, how many new tokens it has and where they lie in the cache.
  using Place = ArrayRef<OpFoldResult>;
  using StepFn =
      function_ref<Value(B &, Value carried, OpFoldResult i, OpFoldResult tokens, Place offsets, Place shape)>;
  auto perSequence = [&](Value initial, StepFn step) {
    Value batch = getValueOrCreateConstantIndexOp(b, b.getLoc(), sizes[0]);
    auto loop = scf::ForOp::create(b, arith::ConstantIndexOp::create(b, 0), batch, arith::ConstantIndexOp::create(b, 1),
                                   initial, [&](OpBuilder &nested, Location loc, Value i, ValueRange carried) {
                                     B body(loc, nested);
                                     auto load = [&](Value vector) -> OpFoldResult {
                                       Value number = tensor::ExtractOp::create(body, a.value(vector), i);
                                       Type index = body.getIndexType();
                                       return arith::IndexCastOp::create(body, index, number).getResult();
                                     };
                                     OpFoldResult first = load(op.getStart()), tokens = load(op.getCount());
                                     Value next = step(body, carried[0], i, tokens, {i, zero, first, zero},
                                                       {one, heads, tokens, size});
                                     scf::YieldOp::create(body, next);
                                   });
    return loop.getResult(0);
  };
  if (a.isActive(op.getInput())) {
    Value dx = perSequence(
        filled(b, {sizes[0], sizes[1], heads, size}, element, 0),
        [&](B &body, Value carried, OpFoldResult i, OpFoldResult tokens, Place offsets, Place shape) -> Value {
          Value written = tensor::ExtractSliceOp::create(body, dy, offsets, shape, ones);
          return tensor::InsertSliceOp::create(body, transpose(body, written, {0, 2, 1, 3}), carried,
                                               Place{i, zero, zero, zero}, Place{one, tokens, heads, size}, ones);
        });
    a.add(op.getInput(), castFloat(b, collapse(b, dx, {{0}, {1}, {2, 3}}), getElementTypeOrSelf(x)));
  }
  if (a.isActive(op.getCache()))
    a.add(op.getCache(),
          perSequence(dy, [&](B &body, Value carried, OpFoldResult, OpFoldResult, Place offsets, Place shape) -> Value {
            Value nothing = filled(body, shape, element, 0);
            return tensor::InsertSliceOp::create(body, nothing, carried, offsets, shape, ones);
          }));
  return success();
}

void skim::registerLMModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, lm::LMDialect *) {
    attachAdjoint<lm::RMSNormOp, rmsNorm>(context);
    attachAdjoint<lm::SiLUOp, silu>(context);
    attachAdjoint<lm::RotaryOp, rotary>(context);
    attachAdjoint<lm::CrossEntropyOp, crossEntropy>(context);
    attachAdjoint<lm::GatherRowsOp, gatherRows>(context);
    attachAdjoint<lm::CacheAppendOp, cacheAppend>(context);
    attachAttentionModel(context);
  });
}
