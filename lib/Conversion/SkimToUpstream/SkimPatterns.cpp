//===- SkimPatterns.cpp - skim operations as upstream ones ------------------===//

#include "Emitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "skim/Conversion/SkimToUpstream.h"
#include "skim/Skim/SkimOps.h"

using namespace mlir;
using namespace skim;

void skim::populateWeightTypeConversions(TypeConverter &converter) {
  converter.addConversion([](RankedTensorType type, SmallVectorImpl<Type> &results) -> std::optional<LogicalResult> {
    WeightEncoding term = getEncoding(type);
    if (!term)
      return std::nullopt;
    for (const Component &component : getComponents(term, type.getShape()))
      results.push_back(component.type);
    return success();
  });
}

/// A weight's values, decoded in f32 where it is encoded; null for a foreign term.
static Value plainWeight(Emitter &e, Type type, ValueRange components) {
  WeightEncoding term = getEncoding(type);
  if (!term)
    return components.front();
  return emitDecode(e, term, cast<RankedTensorType>(type).getShape(), components);
}

/// The tensor with elements of another float type.
static Value castElements(Emitter &e, Value tensor, Type elementType) {
  if (getElementTypeOrSelf(tensor) == elementType)
    return tensor;
  return e.generate(e.sizes(tensor), elementType, [&](Emitter &body, ValueRange at) {
    return tensor::ExtractOp::create(body.b, body.loc, tensor, at).getResult();
  });
}

namespace {
struct LowerAssemble : OpConversionPattern<AssembleOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(AssembleOp op, OneToNOpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> components;
    for (ValueRange component : adaptor.getComponents())
      llvm::append_range(components, component);
    rewriter.replaceOpWithMultiple(op, {ValueRange(components)});
    return success();
  }
};

struct LowerDisassemble : OpConversionPattern<DisassembleOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(DisassembleOp op, OneToNOpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    rewriter.replaceOp(op, adaptor.getInput());
    return success();
  }
};

struct LowerConvert : OpConversionPattern<ConvertOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(ConvertOp op, OneToNOpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    auto dense = dyn_cast_if_present<DenseAttr>(getEncoding(op.getType()));
    if (isEncoded(op.getType()) && !dense)
      return rewriter.notifyMatchFailure(op, "quantizes");
    if (isEncoded(op.getInput().getType()) && !getEncoding(op.getInput().getType()))
      return rewriter.notifyMatchFailure(op, "decodes an activation");
    Emitter e(rewriter, op.getLoc());
    Value plain = plainWeight(e, op.getInput().getType(), adaptor.getInput());
    if (!plain)
      return rewriter.notifyMatchFailure(op, "unknown encoding");
    rewriter.replaceOp(op, castElements(e, plain, dense ? dense.getType() : op.getType().getElementType()));
    return success();
  }
};

struct LowerLinear : OpConversionPattern<LinearOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(LinearOp op, OneToNOpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    if (isEncoded(op.getInput().getType()) || isEncoded(op.getType()))
      return rewriter.notifyMatchFailure(op, "encoded activations");
    Emitter e(rewriter, op.getLoc());
    Value w = plainWeight(e, op.getWeight().getType(), adaptor.getWeight());
    if (!w)
      return rewriter.notifyMatchFailure(op, "unknown encoding");
    Value y = e.matmulTransposed(adaptor.getInput().front(), w);
    if (op.getBias()) {
      Value bias = adaptor.getBias().front();
      y = e.generate(e.sizes(y), e.b.getF32Type(), [product = y, bias](Emitter &body, ValueRange at) {
        return body.add(body.load(product, at), body.load(bias, at.back()));
      });
    }
    y = castElements(e, y, cast<RankedTensorType>(op.getType()).getElementType());
    rewriter.replaceOpWithNewOp<tensor::CastOp>(op, op.getType(), y);
    return success();
  }
};

struct LowerEmbed : OpConversionPattern<EmbedOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(EmbedOp op, OneToNOpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Emitter e(rewriter, op.getLoc());
    Value table = plainWeight(e, op.getTable().getType(), adaptor.getTable());
    if (!table)
      return rewriter.notifyMatchFailure(op, "unknown encoding");
    Value ids = adaptor.getIds().front();
    SmallVector<OpFoldResult> sizes = e.sizes(ids);
    sizes.push_back(e.sizes(table).back());
    Type elementType = cast<RankedTensorType>(op.getType()).getElementType();
    Value y = e.generate(sizes, elementType, [&](Emitter &body, ValueRange at) {
      return body.load(table, {body.toIndex(body.load(ids, at.drop_back())), at.back()});
    });
    rewriter.replaceOpWithNewOp<tensor::CastOp>(op, op.getType(), y);
    return success();
  }
};

/// Observing has no effect on what a function computes.
struct DropObserve : OpConversionPattern<ObserveOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult matchAndRewrite(ObserveOp op, OneToNOpAdaptor, ConversionPatternRewriter &rewriter) const override {
    rewriter.eraseOp(op);
    return success();
  }
};
} // namespace

void skim::populateSkimToUpstreamPatterns(TypeConverter &converter, RewritePatternSet &patterns) {
  patterns.add<LowerAssemble, LowerDisassemble, LowerConvert, LowerLinear, LowerEmbed, DropObserve>(
      converter, patterns.getContext());
}
