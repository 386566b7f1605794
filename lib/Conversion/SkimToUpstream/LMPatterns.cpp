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
    int64_t part = cast<RankedTensorType>(weight.getType()).getDimSize(0);
    SmallVector<OpFoldResult> sizes = e.sizes(x), groups = sizes;
    groups.back() = e.size(op.getHeads());
    Value squares = e.reduce(
        groups, e.size(part), e.f32(0),
        [&](Emitter &body, ValueRange at) {
          SmallVector<Value> place(at.drop_back());
          place.back() = body.add(body.mul(place.back(), body.index(part)), at.back());
          Value value = body.load(x, place);
          return body.mul(value, value);
        },
        sum);
    Value y = e.generate(sizes, elementTypeOf(x), [&](Emitter &body, ValueRange at) {
      SmallVector<Value> group(at);
      group.back() = body.div(at.back(), part);
      Value mean = divide(body, body.load(squares, group), body.f32(static_cast<float>(part)));
      Value root = math::SqrtOp::create(body.b, body.loc, body.add(mean, body.f32(op.getEpsilon().convertToFloat())));
      Value scale = body.add(body.load(weight, body.rem(at.back(), part)), body.f32(op.getOffset().convertToFloat()));
      return body.mul(divide(body, body.load(x, at), root), scale);
    });
    replace(op, y, rewriter);
    return success();
  }
};

struct LowerSiLU : OpConversionPattern<lm::SiLUOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::SiLUOp op, OpAdaptor adaptor, ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value x = adaptor.getInput();
    Value y = e.generate(e.sizes(x), elementTypeOf(x), [&](Emitter &body, ValueRange at) {
      Value value = body.load(x, at);
      Value minus = arith::NegFOp::create(body.b, body.loc, value);
      return divide(body, value, body.add(body.f32(1), exp(body, minus)));
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
    Value p = e.generate(e.sizes(tokens), elementTypeOf(tokens), [&](Emitter &body, ValueRange at) {
      Value sum = body.add(body.toIndex(body.load(start, at[0])), at[1]);
      return arith::IndexCastOp::create(body.b, body.loc, elementTypeOf(tokens), sum).getResult();
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
    auto table = [&](auto function, Value result) -> Value {
      Value values = e.generate(sizes, elementTypeOf(result), [&](Emitter &body, ValueRange at) {
        Value position =
            arith::SIToFPOp::create(body.b, body.loc, body.b.getF32Type(), body.load(positions, at.drop_back()));
        Value angle = body.mul(position, body.load(frequencies, at.back()));
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

struct LowerRotary : OpConversionPattern<lm::RotaryOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(lm::RotaryOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value x = adaptor.getInput(), cos = adaptor.getCos(), sin = adaptor.getSin();
    int64_t size = cast<RankedTensorType>(x.getType()).getShape().back() / static_cast<int64_t>(op.getHeads());
    int64_t rotated = cast<RankedTensorType>(cos.getType()).getShape().back();
    Value y = e.generate(e.sizes(x), elementTypeOf(x), [&](Emitter &body, ValueRange at) {
      Value c = body.rem(at.back(), size);
      Value isRotated = compare(body, arith::CmpIPredicate::ult, c, body.index(2 * rotated));
      auto pass = [&](Emitter &inner) { return inner.load(x, at); };
      auto rotate = [&](Emitter &inner) {
        Value i, isFirst, distance = inner.index(op.getInterleaved() ? 1 : rotated);
        if (op.getInterleaved()) {
          i = inner.div(c, 2);
          isFirst = compare(inner, arith::CmpIPredicate::eq, inner.rem(c, 2), inner.index(0));
        } else {
          i = inner.rem(c, rotated);
          isFirst = compare(inner, arith::CmpIPredicate::ult, c, inner.index(rotated));
        }
        SmallVector<Value> partner(at), entry(at);
        partner.back() = select(inner, isFirst, inner.add(at.back(), distance), inner.sub(at.back(), distance));
        entry.back() = i;
        Value turned = inner.mul(inner.load(x, partner), inner.load(sin, entry));
        Value minus = arith::NegFOp::create(inner.b, inner.loc, turned);
        return inner.add(inner.mul(inner.load(x, at), inner.load(cos, entry)), select(inner, isFirst, minus, turned));
      };
      return choose(body, isRotated, rotate, pass);
    });
    replace(op, y, rewriter);
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
    Value q = adaptor.getQuery(), k = adaptor.getKeys(), v = adaptor.getValues();
    auto keys = cast<RankedTensorType>(k.getType()), values = cast<RankedTensorType>(v.getType());
    int64_t heads = op.getHeads(), group = heads / keys.getDimSize(1), size = keys.getDimSize(3);
    int64_t valueSize = values.getDimSize(3);
    SmallVector<OpFoldResult> cache = e.sizes(k), tokens = e.sizes(q);
    OpFoldResult batch = tokens[0], length = tokens[1], capacity = cache[2], headCount = e.size(heads);

    // Indices: batch, token, head, cache entry.
    Value products = e.reduce(
        {batch, length, headCount, capacity}, e.size(size), e.f32(0),
        [&](Emitter &body, ValueRange at) {
          Value channel = body.add(body.mul(at[2], body.index(size)), at[4]);
          return body.mul(body.load(q, {at[0], at[1], channel}),
                          body.load(k, {at[0], body.div(at[2], group), at[3], at[4]}));
        },
        sum);
    Value scores =
        e.generate({batch, length, headCount, capacity}, e.b.getF32Type(), [&](Emitter &body, ValueRange at) {
          Value score = body.mul(body.load(products, at), body.f32(op.getScale().convertToFloat()));
          if (op.getSoftcap()) {
            Value cap = body.f32(op.getSoftcap()->convertToFloat());
            score = body.mul(cap, math::TanhOp::create(body.b, body.loc, divide(body, score, cap)));
          }
          Value position = body.add(body.toIndex(body.load(adaptor.getStart(), at[0])), at[1]);
          // Padding may stand behind the cache's end: its rows must be finite.
          Value last = body.sub(body.dim(k, 2), body.index(1));
          position = arith::MinSIOp::create(body.b, body.loc, position, last);
          Value seen = compare(body, arith::CmpIPredicate::sle, at[3], position);
          if (op.getWindow()) {
            Value first = body.sub(position, body.index(*op.getWindow()));
            Value near = compare(body, arith::CmpIPredicate::sgt, at[3], first);
            seen = arith::AndIOp::create(body.b, body.loc, seen, near);
          }
          return select(body, seen, score, body.f32(minusInfinity));
        });
    Value most = e.reduce(
        {batch, length, headCount}, capacity, e.f32(minusInfinity),
        [&](Emitter &body, ValueRange at) { return body.load(scores, at); }, maximum);
    Value weights =
        e.generate({batch, length, headCount, capacity}, e.b.getF32Type(), [&](Emitter &body, ValueRange at) {
          return exp(body, body.sub(body.load(scores, at), body.load(most, at.drop_back())));
        });
    Value total = e.reduce(
        {batch, length, headCount}, capacity, e.f32(0),
        [&](Emitter &body, ValueRange at) { return body.load(weights, at); }, sum);
    Value mixed = e.reduce(
        {batch, length, headCount, e.size(valueSize)}, capacity, e.f32(0),
        [&](Emitter &body, ValueRange at) {
          return body.mul(body.load(weights, {at[0], at[1], at[2], at[4]}),
                          body.load(v, {at[0], body.div(at[2], group), at[4], at[3]}));
        },
        sum);
    Value y = e.generate(
        {batch, length, e.size(heads * valueSize)}, elementTypeOf(op.getResult()), [&](Emitter &body, ValueRange at) {
          Value head = body.div(at[2], valueSize), c = body.rem(at[2], valueSize);
          return divide(body, body.load(mixed, {at[0], at[1], head, c}), body.load(total, {at[0], at[1], head}));
        });
    replace(op, y, rewriter);
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
    SmallVector<OpFoldResult> sizes = e.sizes(logits), rows(sizes.begin(), sizes.end() - 1);
    Value most = e.reduce(
        rows, sizes.back(), e.f32(minusInfinity), [&](Emitter &body, ValueRange at) { return body.load(logits, at); },
        maximum);
    Value total = e.reduce(
        rows, sizes.back(), e.f32(0),
        [&](Emitter &body, ValueRange at) {
          return exp(body, body.sub(body.load(logits, at), body.load(most, at.drop_back())));
        },
        sum);
    Value loss = e.generate(rows, elementTypeOf(op.getResult()), [&](Emitter &body, ValueRange at) {
      SmallVector<Value> place(at);
      place.push_back(body.toIndex(body.load(targets, at)));
      Value log = math::LogOp::create(body.b, body.loc, body.load(total, at));
      return body.sub(body.add(body.load(most, at), log), body.load(logits, place));
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
