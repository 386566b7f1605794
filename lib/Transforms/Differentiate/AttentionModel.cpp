//===- AttentionModel.cpp - the derivative of attention ---------------------===//
//
// The heads that share keys are stacked: with G query heads a key head, the
// queries of a key head are G·S rows of one matrix. So no key is copied, and the
// products add up the keys' adjoints over the group by themselves. Everything
// is products of batches [batch·key heads, rows, columns] and element by element.
//
//===----------------------------------------------------------------------===//

#include "Models.h"
#include "Structured.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimOps.h"

#include <limits>

using namespace mlir;
using namespace skim;

using B = ImplicitLocOpBuilder;
static Value sub(B &b, Value x, Value y) { return arith::SubFOp::create(b, x, y); }
static Value mul(B &b, Value x, Value y) { return arith::MulFOp::create(b, x, y); }
static Value number(B &b, Value like, double value) { return constant(b, like.getType(), value); }

/// The operand's values; an encoded cache is read as floats here only.
static Value decoded(Value original, Adjoints &a) {
  Value value = a.value(original);
  auto type = cast<RankedTensorType>(value.getType());
  if (!isEncoded(type))
    return value;
  return ConvertOp::create(a.b, RankedTensorType::get(type.getShape(), type.getElementType()), value);
}

namespace {
/// The sizes of one attention: queries [batch, length, heads·D], caches [batch, keyHeads, capacity, D].
struct Sized {
  Sized(lm::AttentionOp op, Adjoints &a) : b(a.b) {
    Value query = a.value(op.getQuery()), keys = decoded(op.getKeys(), a);
    auto keyType = cast<RankedTensorType>(keys.getType());
    auto valueType = cast<RankedTensorType>(op.getValues().getType());
    batch = sizesOf(b, query)[0];
    length = sizesOf(b, query)[1];
    keyHeads = b.getIndexAttr(keyType.getDimSize(1));
    group = b.getIndexAttr(static_cast<int64_t>(op.getHeads()) / keyType.getDimSize(1));
    capacity = sizesOf(b, keys)[2];
    size = b.getIndexAttr(keyType.getDimSize(3));
    valueSize = b.getIndexAttr(valueType.getDimSize(3));
  }

  /// [batch, length, heads·width] as [batch·keyHeads, group·length, width].
  Value stack(Value rows, OpFoldResult width) {
    Value split = expand(b, rows, {{0}, {1}, {2, 3, 4}}, {batch, length, keyHeads, group, width});
    return collapse(b, transpose(b, split, {0, 2, 3, 1, 4}), {{0, 1}, {2, 3}, {4}});
  }
  Value unstack(Value stacked, OpFoldResult width) {
    Value split = expand(b, stacked, {{0, 1}, {2, 3}, {4}}, {batch, keyHeads, group, length, width});
    return collapse(b, transpose(b, split, {0, 3, 1, 2, 4}), {{0}, {1}, {2, 3, 4}});
  }
  /// [batch, keyHeads, capacity, width] as a batch of matrices.
  Value flatten(Value cache) { return collapse(b, cache, {{0, 1}, {2}, {3}}); }
  Value unflatten(Value flat, OpFoldResult width) {
    return expand(b, flat, {{0, 1}, {2}, {3}}, {batch, keyHeads, capacity, width});
  }

  B &b;
  OpFoldResult batch, length, keyHeads, group, capacity, size, valueSize;
};

/// What the forward pass keeps, in this order.
enum Kept { Queries, Keys, Values, Weights, Mixed, Scores };
} // namespace

/// Whether the query of loops (batch, key head, group, s, j) sees entry j of the cache.
static Value isVisible(B &body, lm::AttentionOp op, Value start, Value lastEntry) {
  using P = arith::CmpIPredicate;
  Value s = linalg::IndexOp::create(body, 3), j = linalg::IndexOp::create(body, 4);
  Value first = arith::IndexCastOp::create(body, body.getIndexType(), start);
  // Padding may stand behind the cache's end; its rows must be finite.
  Value position = arith::MinSIOp::create(body, arith::AddIOp::create(body, first, s), lastEntry);
  Value visible = arith::CmpIOp::create(body, P::sle, j, position);
  if (!op.getWindow())
    return visible;
  Value window = arith::ConstantIndexOp::create(body, static_cast<int64_t>(*op.getWindow()));
  Value near = arith::CmpIOp::create(body, P::sgt, j, arith::SubIOp::create(body, position, window));
  return arith::AndIOp::create(body, visible, near);
}

/// The attention with its softmax kept. The weights are made in the memory of
/// the products: scores, exponentials, weights.
static SmallVector<Value> emitForward(lm::AttentionOp op, Adjoints &a) {
  B &b = a.b;
  Sized sized(op, a);
  Type compute = computeType(op.getType());
  auto operand = [&](Value original) { return castFloat(b, decoded(original, a), compute); };
  Value q = sized.stack(operand(op.getQuery()), sized.size);
  Value k = sized.flatten(operand(op.getKeys())), v = sized.flatten(operand(op.getValues()));
  SmallVector<OpFoldResult> all{sized.batch, sized.keyHeads, sized.group, sized.length, sized.capacity};
  ArrayRef<OpFoldResult> rows = ArrayRef(all).drop_back();
  SmallVector<unsigned> each = loopRange(0, 5), row = loopRange(0, 4);
  SmallVector<ReassociationIndices> groups{{0, 1}, {2, 3}, {4}};

  Value products = matmul(b, q, /*transposeLhs=*/false, k, /*transposeRhs=*/true);
  Value capacity = getValueOrCreateConstantIndexOp(b, b.getLoc(), sized.capacity);
  Value lastEntry = arith::SubIOp::create(b, capacity, arith::ConstantIndexOp::create(b, 1));
  double infinity = std::numeric_limits<double>::infinity();
  SmallVector<Value> scores =
      structured(b, 5, Indexed{a.value(op.getStart()), {0}},
                 {{expand(b, products, groups, all), each}, {filled(b, rows, compute, -infinity), row}},
                 [&](B &body, ValueRange at) -> SmallVector<Value> {
                   Value score = mul(body, at[1], number(body, at[1], op.getScale().convertToDouble()));
                   if (op.getSoftcap()) {
                     Value cap = number(body, score, op.getSoftcap()->convertToDouble());
                     score = mul(body, cap, math::TanhOp::create(body, arith::DivFOp::create(body, score, cap)));
                   }
                   Value visible = isVisible(body, op, at[0], lastEntry);
                   score = arith::SelectOp::create(body, visible, score, number(body, score, -infinity));
                   return {score, arith::MaximumFOp::create(body, at[2], score)};
                 });
  SmallVector<Value> powers =
      structured(b, 5, Indexed{scores[1], row}, {{scores[0], each}, {filled(b, rows, compute, 0), row}},
                 [](B &body, ValueRange at) -> SmallVector<Value> {
                   Value power = math::ExpOp::create(body, sub(body, at[1], at[0]));
                   return {power, arith::AddFOp::create(body, at[2], power)};
                 });
  Value weights = structured(b, 5, Indexed{powers[1], row}, Indexed{powers[0], each},
                             [](B &body, ValueRange at) -> SmallVector<Value> {
                               return {arith::DivFOp::create(body, at[1], at[0])};
                             })
                      .front();
  weights = collapse(b, weights, groups);
  Value mixed = matmul(b, weights, /*transposeLhs=*/false, v, /*transposeRhs=*/false);
  a.map(op, castFloat(b, sized.unstack(mixed, sized.valueSize), getElementTypeOrSelf(op.getType())));
  SmallVector<Value> kept{q, k, v, weights, mixed};
  if (op.getSoftcap())
    kept.push_back(collapse(b, scores[0], groups));
  return kept;
}

/// With P the weights, y = P·v: dv = Pᵀ·dy, ds = P∘(dy·vᵀ − rowsum(dy∘y)),
/// dq = ds·k and dk = dsᵀ·q, where ds has the derivative of the scores' scale and cap.
static LogicalResult emitBackward(lm::AttentionOp op, Adjoints &a) {
  B &b = a.b;
  ArrayRef<Value> kept = a.saved(op);
  Sized sized(op, a);
  Type compute = computeType(op.getType());
  Value dy = sized.stack(castFloat(b, a.get(op), compute), sized.valueSize);
  auto give = [&](Value operand, Value adjoint) {
    a.add(operand, castFloat(b, adjoint, getElementTypeOrSelf(operand)));
  };
  if (a.isActive(op.getValues())) {
    Value dv = matmul(b, kept[Weights], /*transposeLhs=*/true, dy, /*transposeRhs=*/false);
    give(op.getValues(), sized.unflatten(dv, sized.valueSize));
  }
  if (!a.isActive(op.getQuery()) && !a.isActive(op.getKeys()))
    return success();

  SmallVector<unsigned> each = loopRange(0, 3), row = loopRange(0, 2);
  SmallVector<OpFoldResult> dySizes = sizesOf(b, dy);
  Value inner = structured(b, 3, {{dy, each}, {kept[Mixed], each}},
                           Indexed{filled(b, ArrayRef(dySizes).drop_back(), compute, 0), row},
                           [](B &body, ValueRange at) -> SmallVector<Value> {
                             return {arith::AddFOp::create(body, at[2], mul(body, at[0], at[1]))};
                           })
                    .front();
  Value dweights = matmul(b, dy, /*transposeLhs=*/false, kept[Values], /*transposeRhs=*/true);
  SmallVector<Indexed> inputs{{inner, row}, {kept[Weights], each}};
  if (op.getSoftcap())
    inputs.push_back({kept[Scores], each});
  Value dscores = structured(b, 3, inputs, Indexed{dweights, each}, [&](B &body, ValueRange at) -> SmallVector<Value> {
                    Value weight = at[1];
                    Value slope = mul(body, weight, number(body, weight, op.getScale().convertToDouble()));
                    if (op.getSoftcap()) {
                      // 1 − (score/cap)², where the entry is visible: −∞ stands for one that is not.
                      Value part =
                          arith::DivFOp::create(body, at[2], number(body, at[2], op.getSoftcap()->convertToDouble()));
                      Value bent = mul(body, slope, sub(body, number(body, part, 1), mul(body, part, part)));
                      Value zero = number(body, weight, 0);
                      Value seen = arith::CmpFOp::create(body, arith::CmpFPredicate::OGT, weight, zero);
                      slope = arith::SelectOp::create(body, seen, bent, zero);
                    }
                    return {mul(body, slope, sub(body, at.back(), at[0]))};
                  }).front();
  if (a.isActive(op.getQuery())) {
    Value dq = matmul(b, dscores, /*transposeLhs=*/false, kept[Keys], /*transposeRhs=*/false);
    give(op.getQuery(), sized.unstack(dq, sized.size));
  }
  if (a.isActive(op.getKeys())) {
    Value dk = matmul(b, dscores, /*transposeLhs=*/true, kept[Queries], /*transposeRhs=*/false);
    give(op.getKeys(), sized.unflatten(dk, sized.size));
  }
  return success();
}

namespace {
struct AttentionModel : DifferentiableOpInterface::ExternalModel<AttentionModel, lm::AttentionOp> {
  SmallVector<Value> emitPrimal(Operation *op, Adjoints &adjoints) const {
    return emitForward(cast<lm::AttentionOp>(op), adjoints);
  }
  LogicalResult emitAdjoint(Operation *op, Adjoints &adjoints) const {
    return emitBackward(cast<lm::AttentionOp>(op), adjoints);
  }
};
} // namespace

void skim::attachAttentionModel(MLIRContext *context) { lm::AttentionOp::attachInterface<AttentionModel>(*context); }
