//===- LinalgToSkim.cpp - raises products to skim.linear --------------------===//

#include "skim/Conversion/LinalgToSkim.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "skim/Skim/SkimOps.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_LINALGTOSKIM
#include "skim/Conversion/LinalgToSkim.h.inc"
} // namespace skim

using namespace skim;

/// The loops that a map's results run over, in order; nothing if any result is no plain loop.
static std::optional<SmallVector<unsigned>> loopsOf(AffineMap map) {
  SmallVector<unsigned> loops;
  for (AffineExpr expr : map.getResults()) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    if (!dim || llvm::is_contained(loops, dim.getPosition()))
      return std::nullopt;
    loops.push_back(dim.getPosition());
  }
  return loops;
}

/// True if the body is `accumulated + x·w`, in the floats' own types.
static bool isMultiplyAdd(linalg::LinalgOp op) {
  Block &body = *op.getBlock();
  auto yield = body.getTerminator();
  if (yield->getNumOperands() != 1 || body.getOperations().size() != 3)
    return false;
  auto add = yield->getOperand(0).getDefiningOp<arith::AddFOp>();
  if (!add)
    return false;
  for (auto [product, accumulated] : {std::pair(add.getLhs(), add.getRhs()), std::pair(add.getRhs(), add.getLhs())}) {
    auto mul = product.getDefiningOp<arith::MulFOp>();
    if (mul && accumulated == body.getArgument(2) &&
        ((mul.getLhs() == body.getArgument(0) && mul.getRhs() == body.getArgument(1)) ||
         (mul.getLhs() == body.getArgument(1) && mul.getRhs() == body.getArgument(0))))
      return true;
  }
  return false;
}

/// A constant matrix, perhaps behind a transpose: true if raising finds its data.
static bool isWeight(Value value) {
  if (auto transpose = value.getDefiningOp<linalg::TransposeOp>())
    value = transpose.getInput();
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || type.getRank() != 2 || !isa<FloatType>(type.getElementType()) || isEncoded(type))
    return false;
  return value.getDefiningOp<ExternalOp>() || value.getDefiningOp<ConvertOp>() || matchPattern(value, m_Constant());
}

/// The transposed matrix, without moving data of an external.
static Value transposed(Value value, PatternRewriter &rewriter) {
  if (auto transpose = value.getDefiningOp<linalg::TransposeOp>())
    return transpose.getInput();
  auto type = cast<RankedTensorType>(value.getType());
  auto result = RankedTensorType::get({type.getDimSize(1), type.getDimSize(0)}, type.getElementType());
  if (auto external = value.getDefiningOp<ExternalOp>()) {
    SmallVector<int64_t> strides{type.getDimSize(1), 1};
    if (external.getStrides())
      strides.assign(external.getStrides()->begin(), external.getStrides()->end());
    // The hash is of the elements in row-major order, which has changed.
    return ExternalOp::create(rewriter, external.getLoc(), result, external.getFileAttr(), external.getOffsetAttr(),
                              rewriter.getDenseI64ArrayAttr({strides[1], strides[0]}), StringAttr(),
                              external.getNameAttr());
  }
  DenseElementsAttr elements;
  if (!matchPattern(value, m_Constant(&elements)))
    return {};
  if (elements.isSplat())
    return arith::ConstantOp::create(rewriter, value.getLoc(), elements.resizeSplat(result));
  SmallVector<APFloat> all(elements.getValues<APFloat>()), swapped;
  int64_t rows = type.getDimSize(0), columns = type.getDimSize(1);
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i)
      swapped.push_back(all[i * columns + j]);
  return arith::ConstantOp::create(rewriter, value.getLoc(), DenseElementsAttr::get(result, swapped));
}

/// A vector of N that was broadcast along the last dimension of `init`.
static Value broadcastVector(Value init) {
  auto broadcast = init.getDefiningOp<linalg::BroadcastOp>();
  if (!broadcast)
    return {};
  auto type = cast<RankedTensorType>(init.getType());
  auto source = cast<RankedTensorType>(broadcast.getInput().getType());
  bool keepsLast = !llvm::is_contained(broadcast.getDimensions(), type.getRank() - 1);
  return source.getRank() == 1 && keepsLast ? broadcast.getInput() : Value();
}

static bool isZero(Value init) {
  if (auto fill = init.getDefiningOp<linalg::FillOp>())
    init = fill.getInputs().front();
  return matchPattern(init, m_AnyZeroFloat());
}

namespace {
struct RaiseContraction : OpInterfaceRewritePattern<linalg::LinalgOp> {
  using OpInterfaceRewritePattern::OpInterfaceRewritePattern;

  LogicalResult matchAndRewrite(linalg::LinalgOp op, PatternRewriter &rewriter) const override {
    if (!op.hasPureTensorSemantics() || op.getNumDpsInputs() != 2 || op.getNumDpsInits() != 1)
      return rewriter.notifyMatchFailure(op, "not of two tensors into one");
    if (op.getNumReductionLoops() != 1 || !isMultiplyAdd(op))
      return rewriter.notifyMatchFailure(op, "not a sum of products over one loop");
    SmallVector<AffineMap> maps = op.getIndexingMapsArray();
    std::optional<SmallVector<unsigned>> out = loopsOf(maps[2]);
    if (!out || out->empty())
      return rewriter.notifyMatchFailure(op, "the result is not indexed by plain loops");
    SmallVector<unsigned> reductions;
    op.getReductionDims(reductions);
    unsigned k = reductions.front(), n = out->back();

    for (unsigned side : {1u, 0u}) {
      Value weight = op.getDpsInputs()[side], x = op.getDpsInputs()[1 - side];
      std::optional<SmallVector<unsigned>> wLoops = loopsOf(maps[side]), xLoops = loopsOf(maps[1 - side]);
      if (!wLoops || !xLoops || !isWeight(weight))
        continue;
      // x runs over the result's leading loops, then k.
      SmallVector<unsigned> expected(out->begin(), out->end() - 1);
      expected.push_back(k);
      if (*xLoops != expected || wLoops->size() != 2)
        continue;
      if (*wLoops == ArrayRef<unsigned>{k, n})
        weight = transposed(weight, rewriter);
      else if (*wLoops != ArrayRef<unsigned>{n, k})
        continue;
      else if (auto transpose = weight.getDefiningOp<linalg::TransposeOp>())
        weight = transposed(transpose.getInput(), rewriter);
      if (!weight)
        return rewriter.notifyMatchFailure(op, "the weight cannot be transposed where it is");
      raise(op, x, weight, rewriter);
      return success();
    }
    return rewriter.notifyMatchFailure(op, "no side is a constant matrix indexed by n and k");
  }

private:
  static void raise(linalg::LinalgOp op, Value x, Value weight, PatternRewriter &rewriter) {
    Value init = op.getDpsInits()[0];
    Value bias = broadcastVector(init);
    Type type = op->getResult(0).getType();
    Value y = LinearOp::create(rewriter, op.getLoc(), type, x, weight, bias, op->getAttrOfType<StringAttr>("layer"),
                               op->getAttrOfType<StringAttr>("onnx_name"), StringAttr());
    if (!bias && !isZero(init))
      y = arith::AddFOp::create(rewriter, op.getLoc(), y, init);
    rewriter.replaceOp(op, y);
  }
};

class LinalgToSkimPass : public skim::impl::LinalgToSkimBase<LinalgToSkimPass> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    populateLinalgToSkimPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace

void skim::populateLinalgToSkimPatterns(RewritePatternSet &patterns) {
  patterns.add<RaiseContraction>(patterns.getContext());
}
