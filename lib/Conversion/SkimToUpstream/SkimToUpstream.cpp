//===- SkimToUpstream.cpp - lowers skim and lm to upstream dialects ---------===//

#include "skim/Conversion/SkimToUpstream.h"

#include "Emitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/Transforms/FuncConversions.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Patterns.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimOps.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_SKIMTOUPSTREAM
#include "skim/Conversion/SkimToUpstream.h.inc"
} // namespace skim

using namespace skim;

namespace {
class SkimToUpstreamPass : public skim::impl::SkimToUpstreamBase<SkimToUpstreamPass> {
  void runOnOperation() override {
    MLIRContext *context = &getContext();
    // By name, before patterns could only say that an operation stays illegal.
    WalkResult known = getOperation()->walk([](Operation *op) -> WalkResult {
      if (!isa<LinearOp, EmbedOp, ConvertOp>(op))
        return WalkResult::advance();
      for (Type type : op->getOperandTypes())
        if (WeightEncoding term = getEncoding(type))
          if (WeightEncoding leaf = leafWithoutDecode(term))
            return op->emitOpError("expected encodings that the upstream lowering knows, got ") << leaf;
      return WalkResult::advance();
    });
    if (known.wasInterrupted())
      return signalPassFailure();
    TypeConverter converter;
    converter.addConversion([](Type type) -> std::optional<Type> {
      // Activation encodings have no components of static type.
      return isEncoded(type) ? std::optional<Type>(Type()) : type;
    });
    populateWeightTypeConversions(converter);

    RewritePatternSet patterns(context);
    populateSkimToUpstreamPatterns(converter, patterns);
    populateLMToUpstreamPatterns(converter, patterns);
    populateFunctionOpInterfaceTypeConversionPattern<func::FuncOp>(patterns, converter);
    populateCallOpTypeConversionPattern(patterns, converter);
    populateReturnOpTypeConversionPattern(patterns, converter);

    ConversionTarget target(*context);
    target.addLegalDialect<arith::ArithDialect, linalg::LinalgDialect, math::MathDialect, tensor::TensorDialect>();
    target.addIllegalDialect<SkimDialect, lm::LMDialect>();
    target.addLegalOp<ExternalOp, ModuleOp>();
    target.addDynamicallyLegalOp<func::FuncOp>([&](func::FuncOp op) {
      return converter.isSignatureLegal(op.getFunctionType()) && converter.isLegal(&op.getBody());
    });
    target.markUnknownOpDynamicallyLegal([&](Operation *op) { return converter.isLegal(op); });
    scf::populateSCFStructuralTypeConversionsAndLegality(converter, patterns, target);
    if (failed(applyPartialConversion(getOperation(), target, std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
