//===- Normalization.cpp - layer and root mean square norms -----------------===//
#include "../Operator.h"

using namespace mlir;
using namespace skim::onnx;

/// LayerNormalization, RMSNormalization and onnxruntime's
/// SimplifiedLayerNormalization; results 1 and 2 are mean and 1/deviation.
static bool inferNorm(NodeContext &ctx) {
  int64_t axis;
  if (!ctx.axisAttribute(-1, ctx.rank(0), axis))
    return false;
  ctx.setFloat("epsilon", ctx.getFloat("epsilon", 1e-5));
  ctx.attributes.erase("stash_type");
  const Info &in = ctx.in(0);
  ctx.set(0, in.element, in.shape);
  std::optional<Dims> statistics = in.shape;
  if (statistics)
    for (size_t i = axis; i < statistics->size(); ++i)
      (*statistics)[i] = ctx.constant(1);
  ctx.set(1, ctx.builder.getF32Type(), statistics);
  ctx.set(2, ctx.builder.getF32Type(), statistics);
  return true;
}

/// input + skip (+ bias), normalized; result 3 is the sum.
static bool inferSkipNorm(NodeContext &ctx) {
  ctx.setFloat("epsilon", ctx.getFloat("epsilon", ctx.op == "SkipLayerNormalization" ? 1e-12 : 1e-5));
  const Info &in = ctx.in(0);
  if (ctx.in(1).element != in.element)
    return ctx.fail("operands of one type", ctx.text(in) + " and " + ctx.text(ctx.in(1)));
  ctx.set(0, in.element, in.shape);
  ctx.set(1, ctx.builder.getF32Type(), std::nullopt);
  ctx.set(2, ctx.builder.getF32Type(), std::nullopt);
  ctx.set(3, in.element, in.shape);
  return true;
}

ArrayRef<Operator> skim::onnx::normalizationOperators() {
  static const Operator rows[] = {
      {"", "LayerNormalization", 2, 3, 3, inferNorm},
      {"", "RMSNormalization", 2, 2, 1, inferNorm},
      {"", "SimplifiedLayerNormalization", 2, 2, 2, inferNorm},
      {"com.microsoft", "SkipLayerNormalization", 3, 5, 4, inferSkipNorm},
      {"com.microsoft", "SkipSimplifiedLayerNormalization", 3, 4, 4, inferSkipNorm},
  };
  return rows;
}
