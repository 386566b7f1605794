//===- LowerLane.cpp - lowers lane operations to an instruction set ---------===//

#include "skim/Transforms/LowerLane.h"

#include "mlir/Transforms/DialectConversion.h"
#include "skim/Lane/LaneOps.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_LOWERLANE
#include "skim/Transforms/LowerLane.h.inc"
} // namespace skim

using namespace skim;

namespace {
struct LowerLane : public skim::impl::LowerLaneBase<LowerLane> {
  using LowerLaneBase::LowerLaneBase;

  LogicalResult initialize(MLIRContext *context) override {
    LaneFeatures have;
    for (const std::string &feature : features) {
      bool *flag = llvm::StringSwitch<bool *>(feature)
                       .Case("f16c", &have.f16c)
                       .Case("vbmi", &have.vbmi)
                       .Case("bf16", &have.bf16)
                       .Case("vnni", &have.vnni)
                       .Default(nullptr);
      if (!flag)
        return emitError(UnknownLoc::get(context)) << "expected features f16c, vbmi, bf16 or vnni, got " << feature;
      *flag = true;
    }
    RewritePatternSet all(context);
    populatePortableLanePatterns(all, have);
    if (isa == "avx2")
      populateAVX2LanePatterns(all, have);
    else if (isa == "avx512")
      populateAVX512LanePatterns(all, have);
    else if (isa != "portable")
      return emitError(UnknownLoc::get(context)) << "expected isa = portable, avx2 or avx512, got " << isa;
    patterns = std::move(all);
    return success();
  }

  void runOnOperation() override {
    ConversionTarget target(getContext());
    target.addIllegalDialect<lane::LaneDialect>();
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
    if (failed(applyPartialConversion(getOperation(), target, patterns)))
      signalPassFailure();
  }

  FrozenRewritePatternSet patterns;
};
} // namespace
