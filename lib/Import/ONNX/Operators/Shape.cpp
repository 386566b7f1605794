//===- Shape.cpp - operators that look at or change only the shape ----------===//
#include "../Operator.h"

using namespace mlir;
using namespace skim::onnx;

static bool inferShape(NodeContext &ctx) {
  Type i64 = ctx.builder.getI64Type();
  std::optional<int64_t> rank = ctx.rank(0);
  if (!rank) {
    ctx.set(0, i64, Dims{ctx.dims.unknown()});
    return true;
  }
  auto clamp = [&](int64_t value) { return std::clamp<int64_t>(value < 0 ? value + *rank : value, 0, *rank); };
  int64_t start = clamp(ctx.getInt("start", 0)), end = clamp(ctx.getInt("end", *rank));
  end = std::max(start, end);
  ctx.setInt("start", start);
  ctx.setInt("end", end);
  ctx.set(0, i64, Dims{ctx.constant(end - start)});
  Data data;
  data.ints.assign(ctx.in(0).shape->begin() + start, ctx.in(0).shape->begin() + end);
  ctx.setData(std::move(data));
  return true;
}

static bool inferSize(NodeContext &ctx) {
  ctx.set(0, ctx.builder.getI64Type(), Dims{});
  if (ctx.in(0).shape) {
    Data data;
    data.ints.push_back(ctx.product(*ctx.in(0).shape));
    ctx.setData(std::move(data));
  }
  return true;
}

/// Passes the contents on: only the shape changes.
static void keepData(NodeContext &ctx) {
  if (const Data *data = ctx.data(0))
    ctx.setData(*data);
}

/// A shape operand's length, if static.
static std::optional<int64_t> lengthOf(NodeContext &ctx, unsigned i) {
  if (ctx.rank(i) != 1)
    return std::nullopt;
  return ctx.number((*ctx.in(i).shape)[0]);
}

/// Writes the shape operand as numbers, with 0 for a dimension that stays where
/// it is and at most one -1: exporters compute it from Shape, Gather and Concat,
/// and all of that dies here.
static void simplifyReshape(NodeContext &ctx, const Dims &shape) {
  SmallVector<int64_t> target;
  bool inferred = false;
  for (size_t i = 0; i < shape.size(); ++i) {
    std::optional<int64_t> value = ctx.number(shape[i]);
    if (value && *value > 0) {
      target.push_back(*value);
    } else if (ctx.in(0).shape && i < ctx.in(0).shape->size() && (*ctx.in(0).shape)[i] == shape[i]) {
      target.push_back(0);
    } else if (!inferred && !value) {
      inferred = true;
      target.push_back(-1);
    } else {
      return;
    }
  }
  ctx.setInt("allowzero", 0);
  ctx.setVector(1, target);
}

static bool inferReshape(NodeContext &ctx) {
  if (ctx.rank(1) && *ctx.rank(1) != 1)
    return ctx.fail("a shape of rank 1", ctx.text(ctx.in(1)));
  bool allowZero = ctx.getInt("allowzero", 0) != 0;
  ctx.setInt("allowzero", allowZero);
  const Info &in = ctx.in(0);
  const Data *wanted = ctx.data(1);
  if (!wanted) {
    std::optional<int64_t> length = lengthOf(ctx, 1);
    if (!length || *length > 64) {
      ctx.set(0, in.element, std::nullopt);
      return true;
    }
    Dims shape;
    for (int64_t i = 0; i < *length; ++i)
      shape.push_back(ctx.dims.unknown());
    ctx.set(0, in.element, shape);
    return true;
  }
  Dims shape;
  std::optional<size_t> inferred;
  for (Dim dim : wanted->ints) {
    std::optional<int64_t> value = ctx.number(dim);
    if (value == -1) {
      if (inferred)
        return ctx.fail("at most one -1 in the shape", "several");
      inferred = shape.size();
      dim = ctx.constant(1);
    } else if (value == 0 && !allowZero) {
      if (!in.shape) {
        dim = ctx.dims.unknown();
      } else {
        if (shape.size() >= in.shape->size())
          return ctx.fail("a shape whose zeros copy dimensions of " + ctx.text(in),
                          "rank " + std::to_string(wanted->size()));
        dim = (*in.shape)[shape.size()];
      }
    } else if (value && *value < 0) {
      return ctx.fail("dimensions of at least -1", std::to_string(*value));
    } else if (!value && !ctx.dims.nonNegative(dim)) {
      dim = ctx.dims.unknown(); // might be -1
    }
    shape.push_back(dim);
  }
  Dim total = in.shape ? ctx.product(*in.shape) : ctx.dims.unknown(), rest = ctx.product(shape);
  if (inferred) {
    std::optional<int64_t> n = ctx.number(total), d = ctx.number(rest);
    if (n && d && (*d == 0 || *n % *d != 0))
      return ctx.fail("a shape of " + std::to_string(*n) + " elements", "a multiple of " + std::to_string(*d));
    std::optional<Dim> quotient = ctx.dims.divide(total, rest);
    shape[*inferred] = quotient ? *quotient : ctx.dims.unknown();
  } else if (std::optional<int> order = ctx.dims.compare(total, rest); order && *order != 0) {
    return ctx.fail("a shape of " + ctx.dims.text(total) + " elements", ctx.dims.text(rest));
  }
  ctx.set(0, in.element, shape);
  keepData(ctx);
  simplifyReshape(ctx, shape);
  return true;
}

static bool inferFlatten(NodeContext &ctx) {
  std::optional<int64_t> rank = ctx.rank(0);
  int64_t axis = ctx.getInt("axis", 1);
  if (!rank) {
    ctx.setInt("axis", axis);
    ctx.set(0, ctx.in(0).element, Dims{ctx.dims.unknown(), ctx.dims.unknown()});
    return true;
  }
  if (axis < -*rank || axis > *rank)
    return ctx.fail("axis in [" + std::to_string(-*rank) + ", " + std::to_string(*rank) + "]", std::to_string(axis));
  if (axis < 0)
    axis += *rank;
  ctx.setInt("axis", axis);
  ArrayRef<Dim> shape = *ctx.in(0).shape;
  ctx.set(0, ctx.in(0).element, Dims{ctx.product(shape.take_front(axis)), ctx.product(shape.drop_front(axis))});
  keepData(ctx);
  return true;
}

static bool inferSqueeze(NodeContext &ctx) {
  SmallVector<int64_t> axes;
  bool found;
  if (!ctx.intsAttribute("axes", 1, axes, found))
    return false;
  const Info &in = ctx.in(0);
  if (!in.shape) {
    ctx.set(0, in.element, std::nullopt);
    return true;
  }
  int64_t rank = in.shape->size();
  SmallVector<bool> drop(rank, false);
  if (!found) {
    // All dimensions of 1: which ones must be known.
    for (int64_t i = 0; i < rank; ++i) {
      std::optional<int64_t> value = ctx.number((*in.shape)[i]);
      if (!value) {
        ctx.set(0, in.element, std::nullopt);
        return true;
      }
      drop[i] = *value == 1;
    }
  }
  for (int64_t &axis : axes) {
    if (!ctx.normalizeAxis(axis, rank, "axes"))
      return false;
    std::optional<int64_t> value = ctx.number((*in.shape)[axis]);
    if (value && *value != 1)
      return ctx.fail("a dimension of 1 at axis " + std::to_string(axis), std::to_string(*value));
    drop[axis] = true;
  }
  Dims out;
  SmallVector<int64_t> explicitAxes;
  for (int64_t i = 0; i < rank; ++i) {
    if (drop[i])
      explicitAxes.push_back(i);
    else
      out.push_back((*in.shape)[i]);
  }
  ctx.setInts("axes", explicitAxes);
  ctx.set(0, in.element, out);
  keepData(ctx);
  return true;
}

static bool inferUnsqueeze(NodeContext &ctx) {
  SmallVector<int64_t> axes;
  bool found;
  if (!ctx.intsAttribute("axes", 1, axes, found))
    return false;
  if (!found)
    return ctx.fail("axes", "none");
  const Info &in = ctx.in(0);
  if (!in.shape) {
    ctx.set(0, in.element, std::nullopt);
    return true;
  }
  int64_t rank = in.shape->size() + axes.size();
  SmallVector<bool> added(rank, false);
  for (int64_t &axis : axes) {
    if (!ctx.normalizeAxis(axis, rank, "axes"))
      return false;
    if (added[axis])
      return ctx.fail("each axis once", std::to_string(axis) + " twice");
    added[axis] = true;
  }
  Dims out;
  SmallVector<int64_t> sorted;
  size_t next = 0;
  for (int64_t i = 0; i < rank; ++i) {
    if (added[i])
      sorted.push_back(i);
    out.push_back(added[i] ? ctx.constant(1) : (*in.shape)[next++]);
  }
  ctx.setInts("axes", sorted);
  ctx.set(0, in.element, out);
  keepData(ctx);
  return true;
}

/// Writes the shape operand as numbers, with 1 for a dimension that stays.
static void simplifyExpand(NodeContext &ctx, const Dims &shape) {
  SmallVector<int64_t> target;
  size_t added = shape.size() - ctx.in(0).shape->size();
  for (size_t i = 0; i < shape.size(); ++i) {
    std::optional<int64_t> value = ctx.number(shape[i]);
    if (i >= added && (*ctx.in(0).shape)[i - added] == shape[i])
      target.push_back(1);
    else if (value)
      target.push_back(*value);
    else
      return;
  }
  ctx.setVector(1, target);
}

static bool inferExpand(NodeContext &ctx) {
  const Info &in = ctx.in(0);
  const Data *wanted = ctx.data(1);
  if (!wanted || !in.shape) {
    std::optional<int64_t> length = lengthOf(ctx, 1);
    if (!length || !in.shape || *length > 64) {
      ctx.set(0, in.element, std::nullopt);
      return true;
    }
    Dims shape;
    int64_t rank = std::max<int64_t>(*length, in.shape->size());
    for (int64_t i = 0; i < rank; ++i)
      shape.push_back(ctx.dims.unknown());
    ctx.set(0, in.element, shape);
    return true;
  }
  Dims to(wanted->ints.begin(), wanted->ints.end()), out;
  for (Dim &dim : to)
    if (!ctx.dims.nonNegative(dim)) {
      if (std::optional<int64_t> value = ctx.number(dim))
        return ctx.fail("dimensions of at least 0", std::to_string(*value));
      dim = ctx.dims.unknown();
    }
  if (!ctx.broadcast(*in.shape, to, out))
    return false;
  ctx.set(0, in.element, out);
  if (out == *in.shape) {
    ctx.replacement = SmallVector<Info *, 2>{&ctx.in(0)};
    return true;
  }
  simplifyExpand(ctx, out);
  const Data *data = ctx.data(0);
  std::optional<SmallVector<int64_t>> from = ctx.numbers(in.shape), shape = ctx.numbers(out);
  if (!data || !from || !shape)
    return true;
  size_t count = 1;
  for (int64_t dim : *shape)
    if (__builtin_mul_overflow(count, static_cast<size_t>(dim), &count) || count > kFoldElements)
      return true;
  SmallVector<int64_t> strides = stridesOf(*from);
  size_t skip = shape->size() - from->size();
  ctx.setData(gather(*data, *shape, [&](ArrayRef<int64_t> index) {
    int64_t flat = 0;
    for (size_t i = 0; i < from->size(); ++i)
      flat += (*from)[i] == 1 ? 0 : index[i + skip] * strides[i];
    return flat;
  }));
  return true;
}

static bool inferConstantOfShape(NodeContext &ctx) {
  Type element = ctx.builder.getF32Type();
  Data one;
  one.isFloat = true;
  one.floats.push_back(0);
  if (auto value = dyn_cast_or_null<DenseElementsAttr>(ctx.attributes.get("value"))) {
    if (value.getNumElements() != 1)
      return ctx.fail("a value of one element", std::to_string(value.getNumElements()));
    element = value.getElementType();
    if (!element.isIntOrFloat())
      return ctx.unsupported("a real value", "a complex one");
    one = Data();
    one.isFloat = isa<FloatType>(element);
    if (one.isFloat)
      one.floats.push_back(value.getValues<APFloat>()[0].convertToDouble());
    else if (element.isInteger(1))
      one.ints.push_back(ctx.constant(value.getValues<bool>()[0]));
    else
      one.ints.push_back(ctx.constant(value.getValues<APInt>()[0].getSExtValue()));
  } else {
    ctx.attributes.set("value", DenseElementsAttr::get(RankedTensorType::get({1}, element), 0.0f));
  }
  const Data *wanted = ctx.data(0);
  if (!wanted) {
    std::optional<int64_t> length = lengthOf(ctx, 0);
    if (!length || *length > 64) {
      ctx.set(0, element, std::nullopt);
      return true;
    }
    Dims shape;
    for (int64_t i = 0; i < *length; ++i)
      shape.push_back(ctx.dims.unknown());
    ctx.set(0, element, shape);
    return true;
  }
  Dims shape(wanted->ints.begin(), wanted->ints.end());
  for (Dim &dim : shape)
    if (!ctx.dims.nonNegative(dim)) {
      if (std::optional<int64_t> value = ctx.number(dim))
        return ctx.fail("dimensions of at least 0", std::to_string(*value));
      dim = ctx.dims.unknown();
    }
  ctx.set(0, element, shape);
  if (std::optional<SmallVector<int64_t>> numbers = ctx.numbers(shape)) {
    size_t count = 1;
    for (int64_t dim : *numbers)
      if (__builtin_mul_overflow(count, static_cast<size_t>(dim), &count) || count > kFoldElements)
        return true;
    ctx.setData(gather(one, *numbers, [](ArrayRef<int64_t>) { return 0; }));
  }
  return true;
}

static bool inferRange(NodeContext &ctx) {
  Type element = ctx.in(0).element;
  const Data *start = ctx.data(0), *limit = ctx.data(1), *step = ctx.data(2);
  Dim length = ctx.dims.unknown();
  bool integers = start && limit && step && !start->isFloat && !limit->isFloat && !step->isFloat;
  if (integers && start->size() == 1 && limit->size() == 1 && step->size() == 1) {
    std::optional<int64_t> by = ctx.number(step->ints[0]);
    if (by == 0)
      return ctx.fail("a step other than 0", "0");
    std::optional<Dim> span = ctx.dims.subtract(limit->ints[0], start->ints[0]);
    std::optional<int64_t> n = span ? ctx.number(*span) : std::nullopt;
    if (span && by == 1 && !n && ctx.dims.nonNegative(*span)) {
      length = *span;
    } else if (n && by) {
      if (*by == INT64_MIN || *n == INT64_MIN)
        return ctx.fail("a range within 63 bits", std::to_string(*n));
      int64_t count = (*by > 0) == (*n > 0) && *n != 0 ? (*n / *by) + (*n % *by != 0) : 0;
      length = ctx.constant(count);
      std::optional<int64_t> first = ctx.number(start->ints[0]);
      ctx.set(0, element, Dims{length});
      if (first && count <= static_cast<int64_t>(kFoldElements)) {
        Data data;
        for (int64_t i = 0; i < count; ++i)
          data.ints.push_back(ctx.constant(*first + i * *by));
        ctx.setData(std::move(data));
      }
      return true;
    }
  }
  ctx.set(0, element, Dims{length});
  return true;
}

static bool inferIdentity(NodeContext &ctx) {
  ctx.replacement = SmallVector<Info *, 2>{&ctx.in(0)};
  return true;
}

/// Inference only: the input; its mask is not computed by anyone.
static bool inferDropout(NodeContext &ctx) {
  if (ctx.wants(1))
    return ctx.unsupported("Dropout without its mask", "a used mask");
  if (ctx.has(2) && ctx.constantInts(2) != SmallVector<int64_t>{0})
    return ctx.unsupported("Dropout for inference", "training_mode", "export the model in evaluation mode");
  ctx.replacement = SmallVector<Info *, 2>{&ctx.in(0)};
  return true;
}

ArrayRef<Operator> skim::onnx::shapeOperators() {
  static const Operator rows[] = {
      {"", "Shape", 1, 1, 1, inferShape},     {"", "Size", 1, 1, 1, inferSize},
      {"", "Reshape", 2, 2, 1, inferReshape}, {"", "Flatten", 1, 1, 1, inferFlatten},
      {"", "Squeeze", 1, 2, 1, inferSqueeze}, {"", "Unsqueeze", 1, 2, 1, inferUnsqueeze},
      {"", "Expand", 2, 2, 1, inferExpand},   {"", "ConstantOfShape", 1, 1, 1, inferConstantOfShape},
      {"", "Range", 3, 3, 1, inferRange},     {"", "Identity", 1, 1, 1, inferIdentity},
      {"", "Dropout", 1, 3, 2, inferDropout},
  };
  return rows;
}
