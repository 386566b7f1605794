//===- AVX512.cpp - lane operations with 512-bit vectors --------------------===//
//
// Permutes read only the index bits that they need (vpermps four, vpermw five,
// vpermb six), so that codes with junk above them need no mask when the table is
// repeated to fill the register.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"

using namespace mlir;
using namespace skim;

namespace {

template <typename Op> struct Pattern : OpRewritePattern<Op> {
  Pattern(MLIRContext *context, const LaneFeatures &features)
      : OpRewritePattern<Op>(context, /*benefit=*/2), features(features) {}
  LaneFeatures features;
};

/// A masked load with a constant mask costs no more than a plain one.
struct LoadAVX512 : Pattern<lane::LoadOp> {
  using Pattern::Pattern;
  LogicalResult matchAndRewrite(lane::LoadOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    int64_t lanes = type.getNumElements(), count = op.getCount();
    unsigned size = type.getElementTypeBitWidth() / 8;
    if (count == lanes)
      return rewriter.notifyMatchFailure(op, "not masked");
    SmallVector<int64_t> bits;
    for (int64_t i = 0; i < lanes; ++i)
      bits.push_back(i < count);
    Value mask = e.constants(e.vec(lanes, rewriter.getI1Type()), bits);
    Type integers = e.vec(lanes, e.integer(size * 8));
    Value zero = e.constant(integers, 0);
    Value loaded = LLVM::MaskedLoadOp::create(rewriter, op.getLoc(), integers, op.getPointer(), mask, zero, size);
    rewriter.replaceOp(op, e.bitcast(loaded, type));
    return success();
  }
};

/// vpermb (or vpermw) brings the bytes of each code to its lane; variable shifts.
struct SpreadAVX512 : Pattern<lane::SpreadOp> {
  using Pattern::Pattern;
  LogicalResult matchAndRewrite(lane::SpreadOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    unsigned width = type.getElementTypeBitWidth();
    int64_t lanes = type.getNumElements(), bits = op.getBits(), total = lanesOf(op.getBytes());
    if (lanes * width != 512 || total > 64 || width == 8)
      return rewriter.notifyMatchFailure(op, "not a 512-bit vector of i16 or i32");
    if (width == 16 && !features.vbmi)
      return rewriter.notifyMatchFailure(op, "words need vbmi");

    VectorType bytes = e.vec(64, e.integer(8));
    SmallVector<int64_t> order, shifts;
    for (int64_t i = 0; i < 64; ++i)
      order.push_back(std::min(i, total - 1));
    Value data = total == 64 ? Value(op.getBytes()) : e.shuffle(op.getBytes(), op.getBytes(), order);
    order.clear();
    Value codes;
    if (features.vbmi) {
      for (int64_t i = 0; i < lanes; ++i) {
        for (unsigned byte = 0; byte < width / 8; ++byte)
          order.push_back(std::min<int64_t>(i * bits / 8 + byte, total - 1));
        shifts.push_back(i * bits % 8);
      }
      codes = e.bitcast(e.call("llvm.x86.avx512.permvar.qi.512", bytes, {data, e.constants(bytes, order)}), type);
    } else {
      VectorType words = e.vec(32, e.integer(16));
      for (int64_t i = 0; i < lanes; ++i) {
        int64_t word = i * bits / 16;
        order.push_back(word);
        order.push_back(std::min<int64_t>(word + 1, (total - 1) / 2));
        shifts.push_back(i * bits % 16);
      }
      codes = e.bitcast(
          e.call("llvm.x86.avx512.permvar.hi.512", words, {e.bitcast(data, words), e.constants(words, order)}), type);
    }
    codes = arith::ShRUIOp::create(rewriter, op.getLoc(), codes, e.constants(type, shifts));
    if (!op.getJunk())
      codes = arith::AndIOp::create(rewriter, op.getLoc(), codes, e.constant(type, (1u << bits) - 1));
    rewriter.replaceOp(op, codes);
    return success();
  }
};

struct LookupAVX512 : Pattern<lane::LookupOp> {
  using Pattern::Pattern;
  LogicalResult matchAndRewrite(lane::LookupOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    int64_t lanes = type.getNumElements();
    unsigned width = type.getElementTypeBitWidth();
    if (lanes * width != 512 || width == 8)
      return rewriter.notifyMatchFailure(op, "not a 512-bit vector of 16 or 32 bits");
    Type words = e.vec(lanes, e.integer(width));
    // The single-table permute of f32 and the words' as integers.
    Type native = width == 32 ? Type(e.vec(lanes, rewriter.getF32Type())) : words;
    StringRef one = width == 32 ? "llvm.x86.avx512.permvar.sf.512" : "llvm.x86.avx512.permvar.hi.512";
    StringRef two = width == 32 ? "llvm.x86.avx512.vpermi2var.ps.512" : "llvm.x86.avx512.vpermi2var.hi.512";
    Value whole = e.bitcast(op.getTable(), e.vec(lanesOf(op.getTable()), getElementTypeOrSelf(native)));
    Value result = lookupByParts(e, whole, op.getCodes(), 2 * lanes, [&](Value table) -> Value {
      if (lanesOf(table) <= lanes)
        return e.call(one, native, {e.repeat(table, lanes), op.getCodes()});
      return e.call(two, native, {e.slice(table, 0, lanes), op.getCodes(), e.slice(table, lanes, lanes)});
    });
    result = e.bitcast(result, type);
    rewriter.replaceOp(op, result);
    return success();
  }
};

struct DotBF16AVX512 : Pattern<lane::DotBF16Op> {
  using Pattern::Pattern;
  LogicalResult matchAndRewrite(lane::DotBF16Op op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    if (!features.bf16 || lanesOf(op.getAcc()) != 16)
      return rewriter.notifyMatchFailure(op, "no instruction");
    rewriter.replaceOp(op,
                       e.call("llvm.x86.avx512bf16.dpbf16ps.512", op.getType(), {op.getAcc(), op.getA(), op.getB()}));
    return success();
  }
};

struct DotU8S8AVX512 : Pattern<lane::DotU8S8Op> {
  using Pattern::Pattern;
  LogicalResult matchAndRewrite(lane::DotU8S8Op op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    if (!features.vnni || lanesOf(op.getAcc()) != 16)
      return rewriter.notifyMatchFailure(op, "no instruction");
    rewriter.replaceOp(op, e.call("llvm.x86.avx512.vpdpbusd.512", op.getType(), {op.getAcc(), op.getA(), op.getB()}));
    return success();
  }
};

struct RoundAVX512 : Pattern<lane::RoundOp> {
  using Pattern::Pattern;
  LogicalResult matchAndRewrite(lane::RoundOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = dyn_cast<VectorType>(op.getType());
    if (!features.bf16 || !type || !type.getElementType().isBF16())
      return rewriter.notifyMatchFailure(op, "no instruction");
    if (type.getNumElements() == 16) {
      rewriter.replaceOp(op, e.call("llvm.x86.avx512bf16.cvtneps2bf16.512", type, {op.getInput()}));
      return success();
    }
    if (type.getNumElements() != 32)
      return rewriter.notifyMatchFailure(op, "not 16 or 32 lanes");
    Value low = e.slice(op.getInput(), 0, 16), high = e.slice(op.getInput(), 16, 16);
    rewriter.replaceOp(op, e.call("llvm.x86.avx512bf16.cvtne2ps2bf16.512", type, {high, low}));
    return success();
  }
};
} // namespace

void skim::populateAVX512LanePatterns(RewritePatternSet &patterns, const LaneFeatures &features) {
  patterns.add<LoadAVX512, SpreadAVX512, LookupAVX512, DotBF16AVX512, DotU8S8AVX512, RoundAVX512>(patterns.getContext(),
                                                                                                  features);
}
