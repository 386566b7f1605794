//===- AVX2.cpp - lane operations with 256-bit vectors ----------------------===//

#include "Emitter.h"

using namespace mlir;
using namespace skim;

namespace {

/// Eight codes (at most eight bytes) in both 128-bit halves; vpshufb brings
/// the two bytes of each code to its lane; variable shifts.
struct SpreadAVX2 : OpRewritePattern<lane::SpreadOp> {
  SpreadAVX2(MLIRContext *context) : OpRewritePattern(context, /*benefit=*/2) {}
  LogicalResult matchAndRewrite(lane::SpreadOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    int64_t bits = op.getBits();
    if (type.getNumElements() != 8 || !type.getElementType().isInteger(32))
      return rewriter.notifyMatchFailure(op, "not eight codes in i32");
    Type bytes = e.vec(32, e.integer(8));
    SmallVector<int64_t> both, order, shifts;
    for (int64_t i = 0; i < 32; ++i)
      both.push_back(std::min(i % 16, lanesOf(op.getBytes()) - 1));
    Value data = e.shuffle(op.getBytes(), op.getBytes(), both);
    for (int64_t i = 0; i < 8; ++i) {
      int64_t first = i * bits / 8, last = (i * bits + bits - 1) / 8;
      for (int64_t byte : {first, last == first ? int64_t(0x80) : last, int64_t(0x80), int64_t(0x80)})
        order.push_back(byte);
      shifts.push_back(i * bits % 8);
    }
    Value words = e.call("llvm.x86.avx2.pshuf.b", bytes, {data, e.constants(cast<VectorType>(bytes), order)});
    Value codes = arith::ShRUIOp::create(rewriter, op.getLoc(), e.bitcast(words, type), e.constants(type, shifts));
    if (!op.getJunk() && bits < 8)
      codes = arith::AndIOp::create(rewriter, op.getLoc(), codes, e.constant(type, (1u << bits) - 1));
    rewriter.replaceOp(op, codes);
    return success();
  }
};

/// vpermps on eight entries; more by blends.
struct LookupAVX2 : OpRewritePattern<lane::LookupOp> {
  LookupAVX2(MLIRContext *context) : OpRewritePattern(context, /*benefit=*/2) {}
  LogicalResult matchAndRewrite(lane::LookupOp op, PatternRewriter &rewriter) const override {
    Emitter e{rewriter, op.getLoc()};
    auto type = cast<VectorType>(op.getType());
    if (type.getNumElements() != 8 || !type.getElementType().isF32())
      return rewriter.notifyMatchFailure(op, "not eight f32");
    rewriter.replaceOp(op, lookupByParts(e, op.getTable(), op.getCodes(), 8, [&](Value table) {
                         return e.call("llvm.x86.avx2.permps", type, {e.repeat(table, 8), op.getCodes()});
                       }));
    return success();
  }
};
} // namespace

void skim::populateAVX2LanePatterns(RewritePatternSet &patterns, const LaneFeatures &features) {
  patterns.add<SpreadAVX2, LookupAVX2>(patterns.getContext());
}
