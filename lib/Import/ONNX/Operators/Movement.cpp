//===- Movement.cpp - operators that move elements --------------------------===//
#include "../Operator.h"

using namespace mlir;
using namespace skim::onnx;

static bool inferConcat(NodeContext &ctx) {
  Type element = ctx.in(0).element;
  std::optional<int64_t> rank;
  bool known = true;
  for (unsigned i = 0; i < ctx.inputs.size(); ++i) {
    if (ctx.in(i).element != element)
      return ctx.fail("operands of one type", ctx.text(ctx.in(0)) + " and " + ctx.text(ctx.in(i)));
    if (!ctx.rank(i))
      known = false;
    else if (rank && *rank != *ctx.rank(i))
      return ctx.fail("operands of one rank", ctx.text(ctx.in(0)) + " and " + ctx.text(ctx.in(i)));
    else
      rank = ctx.rank(i);
  }
  if (!ctx.getInt("axis"))
    return ctx.fail("attribute 'axis'", "none");
  int64_t axis;
  if (!ctx.axisAttribute(0, rank, axis))
    return false;
  if (!known) {
    ctx.set(0, element, std::nullopt);
    return true;
  }
  Dims out = *ctx.in(0).shape;
  for (unsigned i = 1; i < ctx.inputs.size(); ++i)
    for (int64_t d = 0; d < *rank; ++d) {
      Dim dim = (*ctx.in(i).shape)[d];
      if (d == axis) {
        out[d] = ctx.addOrUnknown(out[d], dim);
        continue;
      }
      std::optional<int64_t> a = ctx.number(out[d]), b = ctx.number(dim);
      if (a && b && *a != *b)
        return ctx.fail("equal dimensions beside axis " + std::to_string(axis),
                        std::to_string(*a) + " and " + std::to_string(*b));
      if (!a)
        out[d] = b ? dim : out[d];
    }
  ctx.set(0, element, out);
  if (ctx.inputs.size() == 1) {
    ctx.replacement = SmallVector<Info *, 2>{&ctx.in(0)};
    return true;
  }
  // Contents: rank 1 is the shape arithmetic of every exporter; others go by rows.
  std::optional<SmallVector<int64_t>> shape = ctx.numbers(out);
  if (!shape)
    return true;
  int64_t outer = 1, count = 1;
  for (int64_t d = 0; d < *rank; ++d) {
    if (__builtin_mul_overflow(count, (*shape)[d], &count))
      return true;
    outer *= d < axis ? (*shape)[d] : 1;
  }
  if (count > static_cast<int64_t>(kFoldElements))
    return true;
  Data data;
  data.isFloat = isa<FloatType>(element);
  for (int64_t row = 0; row < outer; ++row)
    for (unsigned i = 0; i < ctx.inputs.size(); ++i) {
      const Data *part = ctx.data(i);
      if (!part)
        return true;
      size_t run = part->size() / std::max<int64_t>(outer, 1);
      for (size_t k = row * run; k < (row + 1) * run; ++k)
        if (data.isFloat)
          data.floats.push_back(part->floats[k]);
        else
          data.ints.push_back(part->ints[k]);
    }
  ctx.setData(std::move(data));
  return true;
}

static bool inferSplit(NodeContext &ctx) {
  SmallVector<int64_t> sizes;
  bool found;
  if (!ctx.intsAttribute("split", 1, sizes, found))
    return false;
  const Info &in = ctx.in(0);
  int64_t axis, parts = ctx.outputs.size();
  if (!ctx.axisAttribute(0, ctx.rank(0), axis))
    return false;
  if (std::optional<int64_t> count = ctx.getInt("num_outputs"); count && *count != parts)
    return ctx.fail(std::to_string(*count) + " outputs", std::to_string(parts));
  ctx.attributes.erase("num_outputs");
  if (found && static_cast<int64_t>(sizes.size()) != parts)
    return ctx.fail(std::to_string(parts) + " sizes in split", std::to_string(sizes.size()));
  std::optional<int64_t> total = in.shape ? ctx.number((*in.shape)[axis]) : std::nullopt;
  if (!found && total) {
    int64_t chunk = *total / parts + (*total % parts != 0);
    for (int64_t i = 0; i < parts; ++i)
      sizes.push_back(std::clamp<int64_t>(*total - i * chunk, 0, chunk));
    ctx.setInts("split", sizes);
    found = true;
  }
  int64_t sum = 0;
  for (int64_t size : sizes)
    if (size < 0 || __builtin_add_overflow(sum, size, &sum))
      return ctx.fail("sizes of at least 0 in split", std::to_string(size));
  if (found && total && sum != *total)
    return ctx.fail("sizes that add up to " + std::to_string(*total), std::to_string(sum));
  for (int64_t i = 0; i < parts; ++i) {
    std::optional<Dims> shape = in.shape;
    if (shape)
      (*shape)[axis] = found ? ctx.constant(sizes[i]) : ctx.dims.unknown();
    ctx.set(i, in.element, shape);
  }
  return true;
}

/// Start and end of a slice of `dim`, in the element order of ONNX.
static void sliceBounds(int64_t dim, int64_t start, int64_t end, int64_t step, int64_t &from, int64_t &count) {
  auto wrap = [&](int64_t value) { return value < 0 ? (value < -dim ? -1 : value + dim) : value; };
  from = wrap(start);
  int64_t to = wrap(end);
  if (step > 0) {
    from = std::clamp<int64_t>(from, 0, dim);
    to = std::clamp<int64_t>(to, 0, dim);
    count = to > from ? (to - from - 1) / step + 1 : 0;
  } else {
    from = std::clamp<int64_t>(from, -1, dim - 1);
    to = std::clamp<int64_t>(to, -1, dim - 1);
    count = from > to ? (from - to - 1) / -step + 1 : 0;
  }
}

/// The length of x[start:end] where a bound or the size is symbolic, step 1.
static std::optional<Dim> symbolicLength(NodeContext &ctx, Dim size, Dim start, Dim end) {
  auto resolve = [&](Dim bound) -> std::optional<Dim> {
    if (std::optional<int64_t> value = ctx.number(bound)) {
      if (*value >= INT32_MAX)
        return size;
      if (*value >= 0)
        return bound;
      std::optional<Dim> sum = ctx.dims.add(size, bound);
      return sum && ctx.dims.nonNegative(*sum) ? sum : std::nullopt;
    }
    return ctx.dims.nonNegative(bound) ? std::optional<Dim>(bound) : std::nullopt;
  };
  std::optional<Dim> from = resolve(start), to = resolve(end);
  if (!from || !to)
    return std::nullopt;
  // The end is cut to the size, so it must be known not to exceed it.
  std::optional<Dim> slack = ctx.dims.subtract(size, *to), length = ctx.dims.subtract(*to, *from);
  if (!slack || !length || !ctx.dims.nonNegative(*slack) || !ctx.dims.nonNegative(*length))
    return std::nullopt;
  return length;
}

static bool inferSlice(NodeContext &ctx) {
  const Info &in = ctx.in(0);
  const Data *starts = ctx.data(1), *ends = ctx.data(2);
  std::optional<SmallVector<int64_t>> axes, steps;
  bool known = in.shape.has_value();
  if (ctx.has(3))
    known &= (axes = ctx.constantInts(3)).has_value();
  if (ctx.has(4))
    known &= (steps = ctx.constantInts(4)).has_value();
  if (!known) {
    // Which axes shrink is not known.
    std::optional<Dims> shape;
    if (in.shape) {
      shape.emplace();
      for (size_t i = 0; i < in.shape->size(); ++i)
        shape->push_back(ctx.dims.unknown());
    }
    ctx.set(0, in.element, shape);
    return true;
  }
  int64_t rank = in.shape->size();
  size_t count = 0;
  if (axes)
    count = axes->size();
  else if (starts)
    count = starts->size();
  else if (ctx.rank(1) == 1 && ctx.number((*ctx.in(1).shape)[0]))
    count = *ctx.number((*ctx.in(1).shape)[0]);
  else
    count = rank;
  if ((starts && starts->size() != count) || (ends && ends->size() != count) || (steps && steps->size() != count) ||
      static_cast<int64_t>(count) > rank)
    return ctx.fail("starts, ends, axes and steps of one length, at most the rank", std::to_string(count));
  Dims out = *in.shape;
  SmallVector<int64_t> from(rank, 0), by(rank, 1);
  bool allNumbers = true, same = true;
  for (size_t i = 0; i < count; ++i) {
    int64_t axis = axes ? (*axes)[i] : static_cast<int64_t>(i), step = steps ? (*steps)[i] : 1;
    if (!ctx.normalizeAxis(axis, rank, "axes"))
      return false;
    if (step == 0 || step == INT64_MIN)
      return ctx.fail("steps other than 0", std::to_string(step));
    by[axis] = step;
    Dim size = (*in.shape)[axis];
    std::optional<int64_t> dim = ctx.number(size);
    std::optional<int64_t> start = starts && !starts->isFloat ? ctx.number(starts->ints[i]) : std::nullopt;
    std::optional<int64_t> end = ends && !ends->isFloat ? ctx.number(ends->ints[i]) : std::nullopt;
    if (dim && start && end) {
      int64_t length;
      sliceBounds(*dim, *start, *end, step, from[axis], length);
      out[axis] = ctx.constant(length);
      same &= step == 1 && length == *dim;
      continue;
    }
    allNumbers = false;
    if (step == 1 && start == 0 && end && *end >= INT32_MAX)
      continue; // all of it
    std::optional<Dim> length;
    if (step == 1 && starts && ends && !starts->isFloat && !ends->isFloat)
      length = symbolicLength(ctx, size, starts->ints[i], ends->ints[i]);
    out[axis] = length ? *length : ctx.dims.unknown();
    same &= length && *length == size;
  }
  ctx.set(0, in.element, out);
  if (same) {
    ctx.replacement = SmallVector<Info *, 2>{&ctx.in(0)};
    return true;
  }
  const Data *data = ctx.data(0);
  std::optional<SmallVector<int64_t>> shape = ctx.numbers(out), source = ctx.numbers(in.shape);
  if (!data || !shape || !source || !allNumbers)
    return true;
  SmallVector<int64_t> strides = stridesOf(*source);
  ctx.setData(gather(*data, *shape, [&](ArrayRef<int64_t> index) {
    int64_t flat = 0;
    for (size_t i = 0; i < index.size(); ++i)
      flat += (from[i] + index[i] * by[i]) * strides[i];
    return flat;
  }));
  return true;
}

static bool inferGather(NodeContext &ctx) {
  const Info &in = ctx.in(0), &indices = ctx.in(1);
  int64_t axis;
  if (!ctx.axisAttribute(0, ctx.rank(0), axis))
    return false;
  if (!in.shape || !indices.shape) {
    ctx.set(0, in.element, std::nullopt);
    return true;
  }
  if (in.shape->empty())
    return ctx.fail("data of rank 1 or more", "rank 0");
  Dims out(in.shape->begin(), in.shape->begin() + axis);
  out.append(indices.shape->begin(), indices.shape->end());
  out.append(in.shape->begin() + axis + 1, in.shape->end());
  ctx.set(0, in.element, out);
  std::optional<SmallVector<int64_t>> at = ctx.constantInts(1);
  std::optional<SmallVector<int64_t>> shape = ctx.numbers(out), source = ctx.numbers(in.shape),
                                      indexShape = ctx.numbers(indices.shape);
  if (!at || !source)
    return true;
  for (int64_t &i : *at) {
    if (i < -(*source)[axis] || i >= (*source)[axis])
      return ctx.fail("indices within " + std::to_string((*source)[axis]), std::to_string(i));
    i += i < 0 ? (*source)[axis] : 0;
  }
  const Data *data = ctx.data(0);
  int64_t count = 1;
  if (!data || !shape || !indexShape)
    return true;
  for (int64_t dim : *shape)
    if (__builtin_mul_overflow(count, dim, &count) || count > static_cast<int64_t>(kFoldElements))
      return true;
  SmallVector<int64_t> strides = stridesOf(*source), indexStrides = stridesOf(*indexShape);
  size_t ranks = indexShape->size();
  ctx.setData(gather(*data, *shape, [&](ArrayRef<int64_t> index) {
    int64_t flat = 0, which = 0;
    for (int64_t i = 0; i < axis; ++i)
      flat += index[i] * strides[i];
    for (size_t i = 0; i < ranks; ++i)
      which += index[axis + i] * indexStrides[i];
    flat += (*at)[which] * strides[axis];
    for (size_t i = axis + ranks; i < index.size(); ++i)
      flat += index[i] * strides[i - ranks + 1];
    return flat;
  }));
  return true;
}

static bool inferGatherElements(NodeContext &ctx) {
  int64_t axis;
  if (!ctx.axisAttribute(0, ctx.rank(0), axis))
    return false;
  ctx.set(0, ctx.in(0).element, ctx.in(1).shape);
  return true;
}

static bool inferGatherND(NodeContext &ctx) {
  const Info &in = ctx.in(0), &indices = ctx.in(1);
  int64_t batch = ctx.getInt("batch_dims", 0);
  ctx.setInt("batch_dims", batch);
  std::optional<int64_t> depth;
  if (indices.shape && !indices.shape->empty())
    depth = ctx.number(indices.shape->back());
  if (!in.shape || !depth) {
    ctx.set(0, in.element, std::nullopt);
    return true;
  }
  int64_t rank = in.shape->size(), indexRank = indices.shape->size();
  if (batch < 0 || batch >= indexRank || *depth < 1 || *depth > rank - batch)
    return ctx.fail("batch_dims and an index depth within " + ctx.text(in),
                    std::to_string(batch) + " and " + std::to_string(*depth));
  Dims out(indices.shape->begin(), indices.shape->end() - 1);
  out.append(in.shape->begin() + batch + *depth, in.shape->end());
  ctx.set(0, in.element, out);
  return true;
}

static bool inferScatter(NodeContext &ctx) {
  if (ctx.op == "ScatterElements") {
    int64_t axis;
    if (!ctx.axisAttribute(0, ctx.rank(0), axis))
      return false;
  }
  ctx.setString("reduction", ctx.getString("reduction", "none"));
  return inferSameAsFirst(ctx);
}

static bool inferTranspose(NodeContext &ctx) {
  const Info &in = ctx.in(0);
  std::optional<SmallVector<int64_t>> perm = ctx.getInts("perm");
  if (!in.shape) {
    std::optional<Dims> shape;
    if (perm) {
      shape.emplace();
      for (size_t i = 0; i < perm->size(); ++i)
        shape->push_back(ctx.dims.unknown());
    }
    ctx.set(0, in.element, shape);
    return true;
  }
  int64_t rank = in.shape->size();
  if (!perm) {
    perm.emplace();
    for (int64_t i = rank; i-- > 0;)
      perm->push_back(i);
  }
  if (static_cast<int64_t>(perm->size()) != rank)
    return ctx.fail("a permutation of " + std::to_string(rank) + " axes", std::to_string(perm->size()));
  SmallVector<bool> seen(rank, false);
  Dims out;
  bool same = true;
  for (auto [i, axis] : llvm::enumerate(*perm)) {
    if (axis < 0 || axis >= rank || seen[axis])
      return ctx.fail("a permutation of the axes", "axis " + std::to_string(axis));
    seen[axis] = true;
    same &= static_cast<int64_t>(i) == axis;
    out.push_back((*in.shape)[axis]);
  }
  ctx.setInts("perm", *perm);
  ctx.set(0, in.element, out);
  if (same) {
    ctx.replacement = SmallVector<Info *, 2>{&ctx.in(0)};
    return true;
  }
  const Data *data = ctx.data(0);
  std::optional<SmallVector<int64_t>> shape = ctx.numbers(out), source = ctx.numbers(in.shape);
  if (!data || !shape || !source)
    return true;
  SmallVector<int64_t> strides = stridesOf(*source);
  ctx.setData(gather(*data, *shape, [&](ArrayRef<int64_t> index) {
    int64_t flat = 0;
    for (size_t i = 0; i < index.size(); ++i)
      flat += index[i] * strides[(*perm)[i]];
    return flat;
  }));
  return true;
}

static bool inferTile(NodeContext &ctx) {
  SmallVector<int64_t> repeats;
  bool found;
  const Info &in = ctx.in(0);
  if (ctx.has(1) && !ctx.constantInts(1)) {
    // Computed repeats stay an operand.
    std::optional<Dims> shape = in.shape;
    const Data *data = ctx.data(1);
    if (shape)
      for (size_t i = 0; i < shape->size(); ++i) {
        std::optional<Dim> product;
        if (data && !data->isFloat && i < data->size())
          product = ctx.dims.multiply((*shape)[i], data->ints[i]);
        (*shape)[i] = product && ctx.dims.nonNegative(*product) ? *product : ctx.dims.unknown();
      }
    ctx.set(0, in.element, shape);
    return true;
  }
  if (!ctx.intsAttribute("repeats", 1, repeats, found))
    return false;
  std::optional<Dims> shape = in.shape;
  if (shape) {
    if (repeats.size() != shape->size())
      return ctx.fail(std::to_string(shape->size()) + " repeats", std::to_string(repeats.size()));
    for (size_t i = 0; i < shape->size(); ++i)
      (*shape)[i] =
          ctx.dims.multiply((*shape)[i], ctx.constant(std::max<int64_t>(repeats[i], 0))).value_or(ctx.dims.unknown());
  }
  ctx.set(0, in.element, shape);
  return true;
}

static bool inferTrilu(NodeContext &ctx) {
  ctx.setInt("upper", ctx.getInt("upper", 1));
  return inferSameAsFirst(ctx);
}

static bool inferPad(NodeContext &ctx) {
  const Info &in = ctx.in(0);
  ctx.setString("mode", ctx.getString("mode", "constant"));
  std::optional<Dims> shape = in.shape;
  const Data *pads = ctx.data(1);
  if (shape)
    for (size_t i = 0; i < shape->size(); ++i) {
      size_t rank = shape->size();
      std::optional<Dim> sum;
      if (pads && !pads->isFloat && pads->size() == 2 * rank && !ctx.has(3)) {
        sum = ctx.dims.add((*shape)[i], pads->ints[i]);
        sum = sum ? ctx.dims.add(*sum, pads->ints[i + rank]) : sum;
      }
      (*shape)[i] = sum && ctx.dims.nonNegative(*sum) ? *sum : ctx.dims.unknown();
    }
  ctx.set(0, in.element, shape);
  return true;
}

ArrayRef<Operator> skim::onnx::movementOperators() {
  static const Operator rows[] = {
      {"", "Concat", 1, kAny, 1, inferConcat},
      {"", "Split", 1, 2, kAny, inferSplit},
      {"", "Slice", 3, 5, 1, inferSlice},
      {"", "Gather", 2, 2, 1, inferGather},
      {"", "GatherElements", 2, 2, 1, inferGatherElements},
      {"", "GatherND", 2, 2, 1, inferGatherND},
      {"", "ScatterND", 3, 3, 1, inferScatter},
      {"", "ScatterElements", 3, 3, 1, inferScatter},
      {"", "Transpose", 1, 1, 1, inferTranspose},
      {"", "Tile", 2, 2, 1, inferTile},
      {"", "Trilu", 1, 2, 1, inferTrilu},
      {"", "Pad", 2, 4, 1, inferPad},
  };
  return rows;
}
