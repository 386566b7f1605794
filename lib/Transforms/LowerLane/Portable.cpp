//===- Portable.cpp - lane operations on any CPU ----------------------------===//

#include "Emitter.h"

using namespace mlir;
using namespace skim;

namespace {

/// Loads of 8, 4, 2 and 1 elements' bytes, put together.
struct LowerLoad : OpRewritePattern<lane::LoadOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(lane::LoadOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    unsigned size = type.getElementTypeBitWidth() / 8;
    int64_t left = op.getCount(), lanes = type.getNumElements();
    if (left == lanes) {
      rewriter.replaceOpWithNewOp<LLVM::LoadOp>(op, type, op.getPointer(), size);
      return success();
    }
    Value result = e.constant(e.vec(lanes, e.integer(size * 8)), 0);
    int64_t done = 0;
    for (int64_t piece = llvm::bit_floor(static_cast<uint64_t>(lanes)); piece > 0; piece /= 2)
      for (; left - done >= piece; done += piece) {
        Value from = LLVM::GEPOp::create(rewriter, op.getLoc(), op.getPointer().getType(), rewriter.getI8Type(),
                                         op.getPointer(), ArrayRef<LLVM::GEPArg>{int32_t(done * size)});
        Value part = LLVM::LoadOp::create(rewriter, op.getLoc(), e.vec(piece, e.integer(size * 8)), from, size);
        SmallVector<int64_t> widen(lanes, 0), merge;
        for (int64_t i = 0; i < lanes; ++i) {
          widen[i] = std::min(i, piece - 1);
          merge.push_back(i >= done && i < done + piece ? lanes + i - done : i);
        }
        result = e.shuffle(result, e.shuffle(part, part, widen), merge);
      }
    rewriter.replaceOp(op, e.bitcast(result, type));
    return success();
  }
};

/// The two bytes that a code may touch, side by side, shifted down.
struct LowerSpread : OpRewritePattern<lane::SpreadOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(lane::SpreadOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    int64_t lanes = type.getNumElements(), bits = op.getBits();
    unsigned width = std::max(16u, type.getElementTypeBitWidth());
    VectorType wide = e.vec(lanes, e.integer(width));
    SmallVector<int64_t> lows, highs, shifts;
    bool straddles = false, aligned = true;
    for (int64_t i = 0; i < lanes; ++i) {
      int64_t first = i * bits / 8, last = (i * bits + bits - 1) / 8;
      lows.push_back(first);
      highs.push_back(last);
      shifts.push_back(i * bits % 8);
      straddles |= first != last;
      aligned &= i * bits % 8 == 0;
    }
    auto widen = [&](ArrayRef<int64_t> order) -> Value {
      return arith::ExtUIOp::create(rewriter, op.getLoc(), wide, e.shuffle(op.getBytes(), op.getBytes(), order));
    };
    Value codes = widen(lows);
    if (straddles) {
      Value high = arith::ShLIOp::create(rewriter, op.getLoc(), widen(highs), e.constant(wide, 8));
      codes = arith::OrIOp::create(rewriter, op.getLoc(), codes, high);
    }
    if (!aligned)
      codes = arith::ShRUIOp::create(rewriter, op.getLoc(), codes, e.constants(wide, shifts));
    if (bits < 8)
      codes = arith::AndIOp::create(rewriter, op.getLoc(), codes, e.constant(wide, (1u << bits) - 1));
    if (type != wide)
      codes = arith::TruncIOp::create(rewriter, op.getLoc(), type, codes);
    rewriter.replaceOp(op, codes);
    return success();
  }
};

/// A tree of choices by the codes' bits.
struct LowerLookup : OpRewritePattern<lane::LookupOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(lane::LookupOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    // As integers: without instructions for them, LLVM moves 16-bit floats through f32.
    Type bits = e.integer(type.getElementTypeBitWidth());
    Value table = e.bitcast(op.getTable(), e.vec(lanesOf(op.getTable()), bits));
    Value result = lookupByParts(e, table, op.getCodes(), 1, [&](Value part) -> Value {
      Value entry = vector::ExtractOp::create(rewriter, op.getLoc(), part, ArrayRef<int64_t>{0});
      return vector::BroadcastOp::create(rewriter, op.getLoc(), e.like(type, bits), entry);
    });
    rewriter.replaceOp(op, e.bitcast(result, type));
    return success();
  }
};

struct LowerGather : OpRewritePattern<lane::GatherOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(lane::GatherOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    int64_t lanes = type.getNumElements();
    Type pointers = VectorType::get({lanes}, op.getTable().getType());
    Value places = LLVM::GEPOp::create(rewriter, op.getLoc(), pointers, rewriter.getF32Type(), op.getTable(),
                                       ArrayRef<LLVM::GEPArg>{op.getCodes()});
    Value all = e.constant(e.vec(lanes, rewriter.getI1Type()), 1);
    rewriter.replaceOp(
        op, e.bitcast(LLVM::masked_gather::create(rewriter, op.getLoc(), type, places, all, ValueRange(), 4), type));
    return success();
  }
};

struct LowerDotBF16 : OpRewritePattern<lane::DotBF16Op> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(lane::DotBF16Op op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    VectorType words = e.vec(type.getNumElements(), e.integer(32));
    // A bf16 is the upper half of an f32: even elements are moved there, odd ones are there.
    auto part = [&](Value pairs, bool odd) {
      Value bits = e.bitcast(pairs, words);
      if (odd)
        bits = arith::AndIOp::create(rewriter, op.getLoc(), bits, e.constant(words, 0xffff0000u));
      else
        bits = arith::ShLIOp::create(rewriter, op.getLoc(), bits, e.constant(words, 16));
      return e.bitcast(bits, type);
    };
    Value sum = op.getAcc();
    for (bool odd : {false, true})
      sum = LLVM::FMulAddOp::create(rewriter, op.getLoc(), part(op.getA(), odd), part(op.getB(), odd), sum);
    rewriter.replaceOp(op, sum);
    return success();
  }
};

struct LowerDotU8S8 : OpRewritePattern<lane::DotU8S8Op> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(lane::DotU8S8Op op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    Value sum = op.getAcc();
    for (int64_t j = 0; j < 4; ++j) {
      SmallVector<int64_t> order;
      for (int64_t i = 0; i < type.getNumElements(); ++i)
        order.push_back(4 * i + j);
      Value a = arith::ExtUIOp::create(rewriter, op.getLoc(), type, e.shuffle(op.getA(), op.getA(), order));
      Value b = arith::ExtSIOp::create(rewriter, op.getLoc(), type, e.shuffle(op.getB(), op.getB(), order));
      sum = arith::AddIOp::create(rewriter, op.getLoc(), sum, arith::MulIOp::create(rewriter, op.getLoc(), a, b));
    }
    rewriter.replaceOp(op, sum);
    return success();
  }
};

struct LowerFMA : OpRewritePattern<lane::FMAOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(lane::FMAOp op, PatternRewriter &rewriter) const override {
    // Not llvm.intr.fma: without the instruction that would be a call of fmaf.
    rewriter.replaceOpWithNewOp<LLVM::FMulAddOp>(op, op.getA(), op.getB(), op.getC());
    return success();
  }
};

struct LowerReduce : OpRewritePattern<lane::ReduceOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(lane::ReduceOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    Value sum = op.getVector();
    for (int64_t lanes = lanesOf(sum) / 2; lanes > 0; lanes /= 2)
      sum = arith::AddFOp::create(rewriter, op.getLoc(), e.slice(sum, 0, lanes), e.slice(sum, lanes, lanes));
    rewriter.replaceOpWithNewOp<vector::ExtractOp>(op, sum, ArrayRef<int64_t>{0});
    return success();
  }
};

struct LowerExtend : OpRewritePattern<lane::ExtendOp> {
  LowerExtend(MLIRContext *context, bool native) : OpRewritePattern(context), native(native) {}
  LogicalResult matchAndRewrite(lane::ExtendOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    Location loc = op.getLoc();
    if (elementOf(op.getInput()).isF16() && native) {
      rewriter.replaceOpWithNewOp<arith::ExtFOp>(op, op.getType(), op.getInput());
      return success();
    }
    Type words = e.like(op.getType(), e.integer(32));
    Value half = e.bitcast(op.getInput(), e.like(op.getType(), e.integer(16)));
    Value bits = arith::ExtUIOp::create(rewriter, loc, words, half);
    if (elementOf(op.getInput()).isBF16()) {
      Value moved = arith::ShLIOp::create(rewriter, loc, bits, e.constant(words, 16));
      rewriter.replaceOp(op, e.bitcast(moved, op.getType()));
      return success();
    }
    // Exponent and fraction in their f32 places, then the bias corrected by a
    // product, which also normalizes subnormal numbers.
    Value sign = arith::AndIOp::create(rewriter, loc, bits, e.constant(words, 0x8000));
    sign = arith::ShLIOp::create(rewriter, loc, sign, e.constant(words, 16));
    Value rest = arith::AndIOp::create(rewriter, loc, bits, e.constant(words, 0x7fff));
    rest = arith::ShLIOp::create(rewriter, loc, rest, e.constant(words, 13));
    Value scale = e.bitcast(e.constant(words, 0x77800000), op.getType()); // 2^112
    Value value = e.bitcast(arith::MulFOp::create(rewriter, loc, e.bitcast(rest, op.getType()), scale), words);
    Value special =
        arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::uge, rest, e.constant(words, 0x0f800000));
    Value infinite = arith::OrIOp::create(rewriter, loc, rest, e.constant(words, 0x7f800000));
    value = e.select(special, infinite, value);
    rewriter.replaceOp(op, e.bitcast(arith::OrIOp::create(rewriter, loc, value, sign), op.getType()));
    return success();
  }
  bool native;
};

struct LowerRound : OpRewritePattern<lane::RoundOp> {
  LowerRound(MLIRContext *context, bool native) : OpRewritePattern(context), native(native) {}
  LogicalResult matchAndRewrite(lane::RoundOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    Location loc = op.getLoc();
    if (elementOf(op.getResult()).isF16() && native) {
      rewriter.replaceOpWithNewOp<arith::TruncFOp>(op, op.getType(), op.getInput());
      return success();
    }
    Type words = e.like(op.getType(), e.integer(32)), halves = e.like(op.getType(), e.integer(16));
    auto c = [&](uint64_t value) { return e.constant(words, value); };
    auto shr = [&](Value a, uint64_t n) -> Value { return arith::ShRUIOp::create(rewriter, loc, a, c(n)); };
    auto add = [&](Value a, Value b) -> Value { return arith::AddIOp::create(rewriter, loc, a, b); };
    auto bitAnd = [&](Value a, uint64_t n) -> Value { return arith::AndIOp::create(rewriter, loc, a, c(n)); };
    auto atLeast = [&](Value a, uint64_t n) -> Value {
      return arith::CmpIOp::create(rewriter, loc, arith::CmpIPredicate::uge, a, c(n));
    };
    Value bits = e.bitcast(op.getInput(), words), rounded;
    if (elementOf(op.getResult()).isBF16()) {
      rounded = shr(add(bits, add(bitAnd(shr(bits, 16), 1), c(0x7fff))), 16);
    } else {
      Value rest = bitAnd(bits, 0x7fffffff);
      Value normal = shr(add(add(rest, c(0xc8000fff)), bitAnd(shr(rest, 13), 1)), 13);
      // Below 2^-14: adding 0.5 leaves the subnormal's bits at the bottom, rounded.
      Value half = e.bitcast(c(0x3f000000), op.getInput().getType());
      Value moved = arith::AddFOp::create(rewriter, loc, e.bitcast(rest, op.getInput().getType()), half);
      Value tiny = arith::SubIOp::create(rewriter, loc, e.bitcast(moved, words), c(0x3f000000));
      rounded = e.select(atLeast(rest, 0x38800000), normal, tiny);
      rounded = e.select(atLeast(rest, 0x47800000), c(0x7c00), rounded);
      rounded = arith::OrIOp::create(rewriter, loc, rounded, bitAnd(shr(bits, 16), 0x8000));
    }
    Value narrow = arith::TruncIOp::create(rewriter, loc, halves, rounded);
    rewriter.replaceOp(op, e.bitcast(narrow, op.getType()));
    return success();
  }
  bool native;
};
} // namespace

void skim::populatePortableLanePatterns(RewritePatternSet &patterns, const LaneFeatures &features) {
  patterns.add<LowerLoad, LowerSpread, LowerLookup, LowerGather, LowerDotBF16, LowerDotU8S8, LowerFMA, LowerReduce>(
      patterns.getContext());
  patterns.add<LowerExtend, LowerRound>(patterns.getContext(), features.f16c);
}
