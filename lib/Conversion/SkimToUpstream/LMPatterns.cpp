//===- LMPatterns.cpp - language model operations as upstream ones ----------===//

#include "Emitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "skim/Conversion/SkimToUpstream.h"
#include "skim/LM/LMOps.h"

#include <limits>

using namespace mlir;
using namespace skim;

static Type elementTypeOf(Value value) { return getElementTypeOrSelf(value.getType()); }
static Value maximum(Emitter &e, Value a, Value b) { return arith::MaximumFOp::create(e.b, e.loc, a, b); }
static Value sum(Emitter &e, Value a, Value b) { return e.add(a, b); }
static Value exp(Emitter &e, Value a) { return math::ExpOp::create(e.b, e.loc, a); }
static Value divide(Emitter &e, Value a, Value b) { return arith::DivFOp::create(e.b, e.loc, a, b); }
static Value compare(Emitter &e, arith::CmpIPredicate predicate, Value a, Value b) {
  return arith::CmpIOp::create(e.b, e.loc, predicate, a, b);
}
static Value select(Emitter &e, Value condition, Value yes, Value no) {
  return arith::SelectOp::create(e.b, e.loc, condition, yes, no);
}
static const float minusInfinity = -std::numeric_limits<float>::infinity();

/// `yes` or `no`, only one of which is computed.
static Value choose(Emitter &e, Value condition, llvm::function_ref<Value(Emitter &)> yes,
                    llvm::function_ref<Value(Emitter &)> no) {
  auto branch = [&](llvm::function_ref<Value(Emitter &)> side) {
    return [side](OpBuilder &builder, Location loc) {
      Emitter inner(builder, loc);
      scf::YieldOp::create(builder, loc, side(inner));
    };
  };
  return scf::IfOp::create(e.b, e.loc, condition, branch(yes), branch(no)).getResult(0);
}

/// Replaces the operation by a tensor whose static sizes may be known better or worse.
static void replace(Operation *op, Value value, ConversionPatternRewriter &rewriter) {
  Value cast = tensor::CastOp::create(rewriter, op->getLoc(), op->getResult(0).getType(), value);
  rewriter.replaceOp(op, cast);
}

namespace {
struct LowerRMSNorm : OpConversionPattern<lm::RMSNormOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::RMSNormOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value x = adaptor.getInput(), weight = adaptor.getWeight();
    int64_t part = cast<RankedTensorType>(weight.getType()).getDimSize(0), heads = op.getHeads();
    unsigned last = cast<RankedTensorType>(x.getType()).getRank() - 1;
    if (heads > 1)
      x = e.split(x, last, {heads, part});
    Value squares =
        e.reduceLast(x, e.f32(0), {}, [](Emitter &body, ValueRange in) { return body.mul(in[0], in[0]); }, sum);
    unsigned rank = cast<RankedTensorType>(x.getType()).getRank();
    AffineMap row = e.identity(rank).dropResult(rank - 1);
    Value roots = e.map(e.sizes(squares), e.b.getF32Type(), {{squares, e.identity(rank - 1)}},
                        [&](Emitter &body, ValueRange in) -> Value {
                          Value mean = divide(body, in[0], body.f32(static_cast<float>(part)));
                          Value shifted = body.add(mean, body.f32(op.getEpsilon().convertToFloat()));
                          return math::SqrtOp::create(body.b, body.loc, shifted);
                        });
    Value y = e.map(e.sizes(x), elementTypeOf(x),
                    {{x, e.identity(rank)}, {roots, row}, {weight, e.project(rank, {rank - 1})}},
                    [&](Emitter &body, ValueRange in) {
                      Value scale = body.add(in[2], body.f32(op.getOffset().convertToFloat()));
                      return body.mul(divide(body, in[0], in[1]), scale);
                    });
    if (heads > 1)
      y = e.merge(y, last, 2);
    replace(op, y, rewriter);
    return success();
  }
};

struct LowerSiLU : OpConversionPattern<lm::SiLUOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::SiLUOp op, OpAdaptor adaptor, ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value x = adaptor.getInput();
    unsigned rank = cast<RankedTensorType>(x.getType()).getRank();
    Value y = e.map(e.sizes(x), elementTypeOf(x), {{x, e.identity(rank)}}, [&](Emitter &body, ValueRange in) {
      Value minus = arith::NegFOp::create(body.b, body.loc, in[0]);
      return divide(body, in[0], body.add(body.f32(1), exp(body, minus)));
    });
    replace(op, y, rewriter);
    return success();
  }
};

struct LowerPositions : OpConversionPattern<lm::PositionsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::PositionsOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value tokens = adaptor.getTokens(), start = adaptor.getStart();
    Type type = elementTypeOf(tokens);
    Value p = e.map(e.sizes(tokens), type, {{start, e.project(2, {0})}}, [&](Emitter &body, ValueRange in) -> Value {
      Value sum = body.add(body.toIndex(in[0]), body.loop(1));
      return arith::IndexCastOp::create(body.b, body.loc, type, sum);
    });
    replace(op, p, rewriter);
    return success();
  }
};

struct LowerRotaryTable : OpConversionPattern<lm::RotaryTableOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::RotaryTableOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value positions = adaptor.getPositions(), frequencies = adaptor.getFrequencies();
    SmallVector<OpFoldResult> sizes = e.sizes(positions);
    sizes.push_back(e.sizes(frequencies).front());
    unsigned rank = sizes.size();
    auto table = [&](auto function, Value result) -> Value {
      Value values =
          e.map(sizes, elementTypeOf(result),
                {{positions, e.identity(rank).dropResult(rank - 1)}, {frequencies, e.project(rank, {rank - 1})}},
                [&](Emitter &body, ValueRange in) {
                  Value position = arith::SIToFPOp::create(body.b, body.loc, body.b.getF32Type(), in[0]);
                  Value angle = body.mul(position, in[1]);
                  return body.mul(function(body, angle), body.f32(op.getScale().convertToFloat()));
                });
      return tensor::CastOp::create(rewriter, op.getLoc(), result.getType(), values);
    };
    Value cos =
        table([](Emitter &body, Value a) -> Value { return math::CosOp::create(body.b, body.loc, a); }, op.getCos());
    Value sin =
        table([](Emitter &body, Value a) -> Value { return math::SinOp::create(body.b, body.loc, a); }, op.getSin());
    rewriter.replaceOp(op, {cos, sin});
    return success();
  }
};

/// The channels are seen as heads × (part, pair) or, interleaved, heads × (pair,
/// part): each element meets its partner, which is the other part of its pair.
struct LowerRotary : OpConversionPattern<lm::RotaryOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::RotaryOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value x = adaptor.getInput();
    unsigned last = cast<RankedTensorType>(x.getType()).getRank() - 1;
    int64_t heads = op.getHeads(), size = cast<RankedTensorType>(x.getType()).getShape().back() / heads;
    int64_t pairs = cast<RankedTensorType>(op.getCos().getType()).getShape().back();
    Value parts = e.split(x, last, {heads, size}), whole = parts;
    SmallVector<OpFoldResult> offsets(last + 2, e.size(0)), strides(last + 2, e.size(1)), sizes = e.sizes(parts);
    sizes.back() = e.size(2 * pairs);
    if (2 * pairs < size)
      parts = tensor::ExtractSliceOp::create(e.b, e.loc, parts, offsets, sizes, strides);
    bool interleaved = op.getInterleaved();
    parts = e.split(parts, last + 1, interleaved ? ArrayRef<int64_t>{pairs, 2} : ArrayRef<int64_t>{2, pairs});
    unsigned loops = last + 3, part = interleaved ? last + 2 : last + 1, pair = interleaved ? last + 1 : last + 2;
    SmallVector<AffineExpr> partner, entry;
    for (unsigned d = 0; d < loops; ++d) {
      AffineExpr expr = e.b.getAffineDimExpr(d);
      partner.push_back(d == part ? 1 - expr : expr);
      if (d < last || d == pair)
        entry.push_back(expr);
    }
    AffineMap table = AffineMap::get(loops, 0, entry, e.b.getContext());
    Value y = e.map(e.sizes(parts), elementTypeOf(x),
                    {{parts, e.identity(loops)},
                     {parts, AffineMap::get(loops, 0, partner, e.b.getContext())},
                     {adaptor.getCos(), table},
                     {adaptor.getSin(), table}},
                    [&](Emitter &body, ValueRange in) {
                      Value isFirst = compare(body, arith::CmpIPredicate::eq, body.loop(part), body.index(0));
                      Value turned = body.mul(in[1], in[3]);
                      Value minus = arith::NegFOp::create(body.b, body.loc, turned);
                      return body.add(body.mul(in[0], in[2]), select(body, isFirst, minus, turned));
                    });
    y = e.merge(y, last + 1, 2);
    if (2 * pairs < size)
      y = tensor::InsertSliceOp::create(e.b, e.loc, y, whole, offsets, sizes, strides);
    replace(op, e.merge(y, last, 2), rewriter);
    return success();
  }
};

struct LowerCacheAppend : OpConversionPattern<lm::CacheAppendOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::CacheAppendOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    if (isEncoded(op.getCache().getType()))
      return rewriter.notifyMatchFailure(op, "encoded cache");
    Emitter e(rewriter, op.getLoc());
    Value x = adaptor.getInput(), cache = adaptor.getCache();
    int64_t size = cast<RankedTensorType>(cache.getType()).getDimSize(3);
    Value y = e.generate(e.sizes(cache), elementTypeOf(cache), [&](Emitter &body, ValueRange at) {
      Value start = body.toIndex(body.load(adaptor.getStart(), at[0]));
      Value count = body.toIndex(body.load(adaptor.getCount(), at[0]));
      Value token = body.sub(at[2], start);
      // Unsigned: entries before `start` are far beyond `count`.
      Value isNew = compare(body, arith::CmpIPredicate::ult, token, count);
      auto fresh = [&](Emitter &inner) {
        Value channel = inner.add(inner.mul(at[1], inner.index(size)), at[3]);
        return inner.load(x, {at[0], token, channel});
      };
      return choose(body, isNew, fresh, [&](Emitter &inner) { return inner.load(cache, at); });
    });
    replace(op, y, rewriter);
    return success();
  }
};

struct LowerAttention : OpConversionPattern<lm::AttentionOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::AttentionOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    if (isEncoded(op.getKeys().getType()) || isEncoded(op.getValues().getType()))
      return rewriter.notifyMatchFailure(op, "encoded cache");
    Emitter e(rewriter, op.getLoc());
    Value k = adaptor.getKeys(), v = adaptor.getValues();
    auto keys = cast<RankedTensorType>(k.getType());
    int64_t kvHeads = keys.getDimSize(1), group = static_cast<int64_t>(op.getHeads()) / kvHeads;
    Value q = e.split(adaptor.getQuery(), 2, {kvHeads, group, keys.getDimSize(3)});
    SmallVector<OpFoldResult> query = e.sizes(q), cache = e.sizes(k);

    // Loops: batch, kv head, query head of it, token, cache entry.
    SmallVector<OpFoldResult> sizes{query[0], query[2], query[3], query[1], cache[2]};
    Value products = e.contract(sizes, e.project(6, {0, 1, 2, 3, 4}), {q, e.project(6, {0, 3, 1, 2, 5})},
                                {k, e.project(6, {0, 1, 4, 5})});
    Value last = e.b.createOrFold<arith::SubIOp>(e.loc, e.dim(k, 2), e.index(1));
    Value scores = e.map(sizes, e.b.getF32Type(), {{products, e.identity(5)}, {adaptor.getStart(), e.project(5, {0})}},
                         [&](Emitter &body, ValueRange in) {
                           Value score = body.mul(in[0], body.f32(op.getScale().convertToFloat()));
                           if (op.getSoftcap()) {
                             Value cap = body.f32(op.getSoftcap()->convertToFloat());
                             score = body.mul(cap, math::TanhOp::create(body.b, body.loc, divide(body, score, cap)));
                           }
                           // Padding may stand behind the cache's end: its rows must be finite.
                           Value position = body.add(body.toIndex(in[1]), body.loop(3)), entry = body.loop(4);
                           position = arith::MinSIOp::create(body.b, body.loc, position, last);
                           Value seen = compare(body, arith::CmpIPredicate::sle, entry, position);
                           if (op.getWindow()) {
                             Value first = body.sub(position, body.index(*op.getWindow()));
                             Value near = compare(body, arith::CmpIPredicate::sgt, entry, first);
                             seen = arith::AndIOp::create(body.b, body.loc, seen, near);
                           }
                           return select(body, seen, score, body.f32(minusInfinity));
                         });
    auto same = [](Emitter &, ValueRange in) { return in[0]; };
    Value most = e.reduceLast(scores, e.f32(minusInfinity), {}, same, maximum);
    AffineMap row = e.project(5, {0, 1, 2, 3});
    Value weights = e.map(sizes, e.b.getF32Type(), {{scores, e.identity(5)}, {most, row}},
                          [&](Emitter &body, ValueRange in) { return exp(body, body.sub(in[0], in[1])); });
    Value total = e.reduceLast(weights, e.f32(0), {}, same, sum);
    // Loops: batch, kv head, query head of it, token, channel, cache entry.
    Value mixed = e.contract({query[0], query[1], query[2], query[3], e.sizes(v)[3]}, e.project(6, {0, 3, 1, 2, 4}),
                             {weights, e.project(6, {0, 1, 2, 3, 5})}, {v, e.project(6, {0, 1, 5, 4})});
    Value y = e.map(e.sizes(mixed), elementTypeOf(op.getResult()),
                    {{mixed, e.identity(5)}, {total, e.project(5, {0, 2, 3, 1})}},
                    [&](Emitter &body, ValueRange in) { return divide(body, in[0], in[1]); });
    replace(op, e.merge(y, 2, 3), rewriter);
    return success();
  }
};

struct LowerGatherRows : OpConversionPattern<lm::GatherRowsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::GatherRowsOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value x = adaptor.getInput(), rows = adaptor.getRows();
    Value y = e.generate({e.sizes(rows)[0], e.sizes(x)[2]}, elementTypeOf(x), [&](Emitter &body, ValueRange at) {
      Value row = body.toIndex(body.load(rows, at[0])), length = body.dim(x, 1);
      Value b = arith::DivUIOp::create(body.b, body.loc, row, length);
      Value s = arith::RemUIOp::create(body.b, body.loc, row, length);
      return body.load(x, {b, s, at[1]});
    });
    replace(op, y, rewriter);
    return success();
  }
};

struct LowerCrossEntropy : OpConversionPattern<lm::CrossEntropyOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::CrossEntropyOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value logits = adaptor.getLogits(), targets = adaptor.getTargets();
    unsigned rank = cast<RankedTensorType>(logits.getType()).getRank();
    Value most =
        e.reduceLast(logits, e.f32(minusInfinity), {}, [](Emitter &, ValueRange in) { return in[0]; }, maximum);
    Value total = e.reduceLast(
        logits, e.f32(0), {{most, e.identity(rank).dropResult(rank - 1)}},
        [](Emitter &body, ValueRange in) { return exp(body, body.sub(in[0], in[1])); }, sum);
    AffineMap row = e.identity(rank - 1);
    Value loss = e.map(e.sizes(targets), elementTypeOf(op.getResult()), {{targets, row}, {most, row}, {total, row}},
                       [&](Emitter &body, ValueRange in) {
                         SmallVector<Value> place;
                         for (unsigned d = 0; d + 1 < rank; ++d)
                           place.push_back(body.loop(d));
                         place.push_back(body.toIndex(in[0]));
                         Value log = math::LogOp::create(body.b, body.loc, in[2]);
                         return body.sub(body.add(in[1], log), body.load(logits, place));
                       });
    replace(op, loss, rewriter);
    return success();
  }
};
} // namespace

void skim::populateLMToUpstreamPatterns(TypeConverter &converter, RewritePatternSet &patterns) {
  patterns.add<LowerRMSNorm, LowerSiLU, LowerPositions, LowerRotaryTable, LowerRotary, LowerCacheAppend, LowerAttention,
               LowerGatherRows, LowerCrossEntropy>(converter, patterns.getContext());
}
