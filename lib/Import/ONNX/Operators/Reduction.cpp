//===- Reduction.cpp - operators along an axis ------------------------------===//
#include "../Operator.h"

#include <cmath>

using namespace mlir;
using namespace skim::onnx;

/// Sum, product, mean, maximum and minimum of all elements: what shape
/// arithmetic asks for.
static void reduceAll(NodeContext &ctx) {
  const Data *in = ctx.data(0);
  if (!in || in->size() == 0 ||
      ctx.outputs[0].shape != std::optional<Dims>(Dims(ctx.outputs[0].shape->size(), ctx.constant(1))))
    return;
  Data out;
  out.isFloat = in->isFloat;
  StringRef op = ctx.op;
  if (in->isFloat) {
    double sum = 0;
    if (op != "ReduceSum" && op != "ReduceMean")
      return;
    for (double x : in->floats)
      sum += x;
    out.floats.push_back(op == "ReduceMean" ? sum / in->size() : sum);
  } else {
    std::optional<Dim> all = in->ints[0];
    for (Dim x : llvm::drop_begin(in->ints)) {
      if (op == "ReduceSum")
        all = ctx.dims.add(*all, x);
      else if (op == "ReduceProd")
        all = ctx.dims.multiply(*all, x);
      else if (op == "ReduceMax" || op == "ReduceMin") {
        std::optional<int> order = ctx.dims.compare(*all, x);
        if (!order)
          return;
        all = (*order >= 0) == (op == "ReduceMax") ? *all : x;
      } else {
        return;
      }
      if (!all)
        return;
    }
    if (op == "ReduceMean" || op == "ReduceL1" || op == "ReduceL2")
      return;
    out.ints.push_back(*all);
  }
  ctx.setData(std::move(out));
}

static bool inferReduce(NodeContext &ctx) {
  SmallVector<int64_t> axes;
  bool found;
  if (!ctx.intsAttribute("axes", 1, axes, found))
    return false;
  bool keep = ctx.getInt("keepdims", 1) != 0, noop = ctx.getInt("noop_with_empty_axes", 0) != 0;
  ctx.attributes.erase("noop_with_empty_axes");
  ctx.setInt("keepdims", keep);
  const Info &in = ctx.in(0);
  if (axes.empty() && noop) {
    ctx.replacement = SmallVector<Info *, 2>{&ctx.in(0)};
    return true;
  }
  if (!in.shape) {
    ctx.set(0, in.element, std::nullopt);
    return true;
  }
  int64_t rank = in.shape->size();
  SmallVector<bool> reduced(rank, axes.empty());
  for (int64_t &axis : axes) {
    if (!ctx.normalizeAxis(axis, rank, "axes"))
      return false;
    reduced[axis] = true;
  }
  Dims out;
  axes.clear();
  for (int64_t i = 0; i < rank; ++i) {
    if (reduced[i])
      axes.push_back(i);
    if (!reduced[i])
      out.push_back((*in.shape)[i]);
    else if (keep)
      out.push_back(ctx.constant(1));
  }
  ctx.setInts("axes", axes);
  ctx.set(0, in.element, out);
  if (static_cast<int64_t>(axes.size()) == rank)
    reduceAll(ctx);
  return true;
}

static bool inferArg(NodeContext &ctx) {
  bool keep = ctx.getInt("keepdims", 1) != 0;
  int64_t axis;
  if (!ctx.axisAttribute(0, ctx.rank(0), axis))
    return false;
  ctx.setInt("keepdims", keep);
  ctx.setInt("select_last_index", ctx.getInt("select_last_index", 0));
  std::optional<Dims> shape = ctx.in(0).shape;
  if (shape && shape->empty())
    return ctx.fail("data of rank 1 or more", "rank 0");
  if (shape && keep)
    (*shape)[axis] = ctx.constant(1);
  else if (shape)
    shape->erase(shape->begin() + axis);
  ctx.set(0, ctx.builder.getI64Type(), shape);
  return true;
}

static bool inferCumSum(NodeContext &ctx) {
  std::optional<SmallVector<int64_t>> axis = ctx.constantInts(1);
  if (!axis || axis->size() != 1)
    return ctx.unsupported("a constant axis", "a computed operand");
  int64_t value = (*axis)[0];
  if (ctx.rank(0) && !ctx.normalizeAxis(value, *ctx.rank(0)))
    return false;
  ctx.setInt("axis", value);
  ctx.setInt("exclusive", ctx.getInt("exclusive", 0));
  ctx.setInt("reverse", ctx.getInt("reverse", 0));
  ctx.inputs.resize(1);
  return inferSameAsFirst(ctx);
}

static bool inferSoftmax(NodeContext &ctx) {
  int64_t axis;
  if (!ctx.axisAttribute(-1, ctx.rank(0), axis))
    return false;
  return inferSameAsFirst(ctx);
}

ArrayRef<Operator> skim::onnx::reductionOperators() {
  static const Operator rows[] = {
      {"", "ReduceMean", 1, 2, 1, inferReduce},
      {"", "ReduceSum", 1, 2, 1, inferReduce},
      {"", "ReduceMax", 1, 2, 1, inferReduce},
      {"", "ReduceMin", 1, 2, 1, inferReduce},
      {"", "ReduceProd", 1, 2, 1, inferReduce},
      {"", "ReduceL1", 1, 2, 1, inferReduce},
      {"", "ReduceL2", 1, 2, 1, inferReduce},
      {"", "ReduceSumSquare", 1, 2, 1, inferReduce},
      {"", "ReduceLogSumExp", 1, 2, 1, inferReduce},
      {"", "ArgMax", 1, 1, 1, inferArg},
      {"", "ArgMin", 1, 1, 1, inferArg},
      {"", "CumSum", 2, 2, 1, inferCumSum},
      {"", "Softmax", 1, 1, 1, inferSoftmax},
      {"", "LogSoftmax", 1, 1, 1, inferSoftmax},
  };
  return rows;
}
