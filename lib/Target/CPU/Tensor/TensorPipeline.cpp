//===- TensorPipeline.cpp - from tensors to the LLVM dialect ----------------===//

#include "TensorPasses.h"
#include "skim/Conversion/SkimToUpstream.h"
#include "skim/Target/CPU/TensorLibrary.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/Transforms/BufferViewFlowAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace {
class FuseElementwise : public PassWrapper<FuseElementwise, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(FuseElementwise)
  StringRef getName() const override { return "FuseElementwise"; }

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    linalg::populateElementwiseOpsFusionPatterns(patterns, [](OpOperand *operand) {
      auto producer = operand->get().getDefiningOp<linalg::GenericOp>();
      auto consumer = dyn_cast<linalg::GenericOp>(operand->getOwner());
      if (!producer || !consumer || !producer->hasOneUse())
        return false;
      // A value that many loops of the consumer read is computed once, in its own loops.
      return consumer.getMatchingIndexingMap(operand).isPermutation();
    });
    linalg::FillOp::getCanonicalizationPatterns(patterns, &getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

class ReleaseBuffers : public PassWrapper<ReleaseBuffers, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ReleaseBuffers)
  StringRef getName() const override { return "ReleaseBuffers"; }

  void runOnOperation() override {
    for (func::FuncOp function : getOperation().getOps<func::FuncOp>()) {
      BufferViewFlowAnalysis views(function);
      function.walk([&](memref::AllocOp op) { release(op, views); });
    }
  }

private:
  /// Frees a buffer behind the last operation of its block that may touch it.
  void release(memref::AllocOp op, const BufferViewFlowAnalysis &views) {
    Operation *last = op;
    for (Value view : views.resolve(op.getResult()))
      for (Operation *user : view.getUsers()) {
        Operation *ancestor = op->getBlock()->findAncestorOpInBlock(*user);
        if (ancestor && last->isBeforeInBlock(ancestor))
          last = ancestor;
      }
    if (last->hasTrait<OpTrait::IsTerminator>())
      return;
    OpBuilder b(op->getContext());
    b.setInsertionPointAfter(last);
    memref::DeallocOp::create(b, op.getLoc(), op.getResult());
  }
};

/// sin and cos of large angles: reduced to one period in f64 first, since the
/// polynomials reduce in f32.
template <typename Op> struct ReduceAngle : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    if (!op.getType().isF32() || op->hasAttr(reduced))
      return failure();
    Type f64 = rewriter.getF64Type();
    auto constant = [&](double value) -> Value {
      return arith::ConstantOp::create(rewriter, loc, rewriter.getF64FloatAttr(value));
    };
    constexpr double period = 6.283185307179586476925;
    Value angle = arith::ExtFOp::create(rewriter, loc, f64, op.getOperand());
    Value turns = arith::MulFOp::create(rewriter, loc, angle, constant(1 / period));
    Value whole = math::FloorOp::create(rewriter, loc, arith::AddFOp::create(rewriter, loc, turns, constant(0.5)));
    Value rest =
        arith::SubFOp::create(rewriter, loc, angle, arith::MulFOp::create(rewriter, loc, whole, constant(period)));
    Value small = arith::TruncFOp::create(rewriter, loc, op.getType(), rest);
    rewriter.modifyOpInPlace(op, [&] {
      op->setOperand(0, small);
      op->setAttr(reduced, rewriter.getUnitAttr());
    });
    return success();
  }
  static constexpr StringLiteral reduced = "reduced";
};

class ExpandMath : public PassWrapper<ExpandMath, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(ExpandMath)
  StringRef getName() const override { return "ExpandMath"; }
  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<vector::VectorDialect, math::MathDialect, arith::ArithDialect>();
  }

  void runOnOperation() override {
    RewritePatternSet angles(&getContext());
    angles.add<ReduceAngle<math::SinOp>, ReduceAngle<math::CosOp>>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(angles))))
      return signalPassFailure();
    RewritePatternSet patterns(&getContext());
    math::populateExpansionPatterns(patterns, {"powf", "rsqrt", "sinh", "cosh"});
    auto all = [](StringRef) { return true; };
    populateMathF32ExpansionPatterns(patterns, all);
    populateMathPolynomialApproximationPatterns(patterns, all);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace

std::unique_ptr<Pass> skim::createFuseElementwise() { return std::make_unique<FuseElementwise>(); }
std::unique_ptr<Pass> skim::createReleaseBuffers() { return std::make_unique<ReleaseBuffers>(); }
std::unique_ptr<Pass> skim::createExpandMath() { return std::make_unique<ExpandMath>(); }

void skim::buildTensorPipeline(OpPassManager &manager) {
  manager.addPass(createSkimToUpstream());
  manager.addPass(createConvertElementwiseToLinalgPass());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createFuseElementwise());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());

  bufferization::OneShotBufferizePassOptions bufferize;
  bufferize.bufferizeFunctionBoundaries = true;
  bufferize.functionBoundaryTypeConversion = bufferization::LayoutMapOption::IdentityLayoutMap;
  manager.addPass(bufferization::createEmptyTensorEliminationPass());
  manager.addPass(bufferization::createOneShotBufferizePass(bufferize));
  bufferization::BufferResultsToOutParamsPassOptions results;
  results.modifyPublicFunctions = results.hoistStaticAllocs = results.hoistDynamicAllocs = true;
  manager.addPass(bufferization::createBufferResultsToOutParamsPass(results));
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createReleaseBuffers());

  manager.addPass(createWrapForHost());
  manager.addPass(createCallProducts());
  manager.addPass(createLowerToLoops());
  manager.addPass(createExpandMath());
  manager.addPass(memref::createExpandStridedMetadataPass());
  manager.addPass(createLowerAffinePass());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createSCFToControlFlowPass());
  manager.addPass(createConvertMathToLLVMPass());
  manager.addPass(createArithToLLVMConversionPass());
  manager.addPass(createConvertIndexToLLVMPass());
  FinalizeMemRefToLLVMConversionPassOptions memory;
  memory.useGenericFunctions = true;
  manager.addPass(createFinalizeMemRefToLLVMConversionPass(memory));
  manager.addPass(createConvertControlFlowToLLVMPass());
  manager.addPass(createConvertFuncToLLVMPass());
  manager.addPass(createUBToLLVMConversionPass());
  manager.addPass(createReconcileUnrealizedCastsPass());
}
