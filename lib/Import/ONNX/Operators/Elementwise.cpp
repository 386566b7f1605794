//===- Elementwise.cpp - arithmetic, comparison, logic, casts ---------------===//
#include "../Operator.h"

#include "llvm/ADT/StringSwitch.h"

#include <cmath>

using namespace mlir;
using namespace skim::onnx;

//===----------------------------------------------------------------------===//
// One operand
//===----------------------------------------------------------------------===//

using UnaryFunction = double (*)(double);

static UnaryFunction unaryFunction(StringRef op) {
  return llvm::StringSwitch<UnaryFunction>(op)
      .Case("Neg", [](double x) { return -x; })
      .Case("Abs", [](double x) { return std::fabs(x); })
      .Case("Sqrt", [](double x) { return std::sqrt(x); })
      .Case("Reciprocal", [](double x) { return 1 / x; })
      .Case("Exp", [](double x) { return std::exp(x); })
      .Case("Log", [](double x) { return std::log(x); })
      .Case("Sin", [](double x) { return std::sin(x); })
      .Case("Cos", [](double x) { return std::cos(x); })
      .Case("Tanh", [](double x) { return std::tanh(x); })
      .Case("Erf", [](double x) { return std::erf(x); })
      .Case("Floor", [](double x) { return std::floor(x); })
      .Case("Ceil", [](double x) { return std::ceil(x); })
      .Case("Round", [](double x) { return std::nearbyint(x); })
      .Case("Relu", [](double x) { return x > 0 ? x : 0; })
      .Case("Sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); })
      .Case("Sign", [](double x) { return x > 0   ? 1.0
                                          : x < 0 ? -1.0
                                                  : 0.0; })
      .Default(nullptr);
}

static bool inferUnary(NodeContext &ctx) {
  inferSameAsFirst(ctx);
  const Data *in = ctx.data(0);
  if (!in)
    return true;
  Data out;
  out.isFloat = in->isFloat;
  if (in->isFloat) {
    UnaryFunction function = unaryFunction(ctx.op);
    if (!function)
      return true;
    for (double x : in->floats)
      out.floats.push_back(function(x));
  } else {
    Dim zero = ctx.constant(0);
    for (Dim x : in->ints) {
      bool keep = ctx.op == "Abs" && ctx.dims.nonNegative(x);
      std::optional<Dim> negative = ctx.dims.subtract(zero, x);
      if (!negative || (ctx.op == "Abs" && !keep && !ctx.dims.nonNegative(*negative)) ||
          (ctx.op != "Abs" && ctx.op != "Neg"))
        return true;
      out.ints.push_back(keep ? x : *negative);
    }
  }
  ctx.setData(std::move(out));
  return true;
}

/// Gelu's `approximate` and com.microsoft's spellings of it.
static bool inferGelu(NodeContext &ctx) {
  if (ctx.domain.empty())
    ctx.setString("approximate", ctx.getString("approximate", "none"));
  return inferSameAsFirst(ctx);
}

static bool inferToBool(NodeContext &ctx) {
  ctx.set(0, ctx.builder.getI1Type(), ctx.in(0).shape);
  bool positive = ctx.getInt("detect_positive", 1) != 0, negative = ctx.getInt("detect_negative", 1) != 0;
  if (ctx.op == "IsInf") {
    ctx.setInt("detect_positive", positive);
    ctx.setInt("detect_negative", negative);
  }
  if (ctx.op == "Not" && !ctx.in(0).element.isInteger(1))
    return ctx.fail("an operand of BOOL", ctx.text(ctx.in(0)));
  const Data *in = ctx.data(0);
  if (!in)
    return true;
  Data out;
  if (in->isFloat) {
    for (double x : in->floats)
      out.ints.push_back(
          ctx.constant(ctx.op == "IsNaN" ? std::isnan(x) : std::isinf(x) && (x > 0 ? positive : negative)));
  } else {
    for (Dim x : in->ints) {
      std::optional<int64_t> value = ctx.number(x);
      if (!value || ctx.op != "Not")
        return true;
      out.ints.push_back(ctx.constant(!*value));
    }
  }
  ctx.setData(std::move(out));
  return true;
}

//===----------------------------------------------------------------------===//
// Two and more operands
//===----------------------------------------------------------------------===//

static std::optional<Dim> integerBinary(NodeContext &ctx, Dim a, Dim b) {
  StringRef op = ctx.op;
  if (op == "Add")
    return ctx.dims.add(a, b);
  if (op == "Sub")
    return ctx.dims.subtract(a, b);
  if (op == "Mul")
    return ctx.dims.multiply(a, b);
  if (op == "Div")
    return ctx.dims.divide(a, b);
  std::optional<int> order = ctx.dims.compare(a, b);
  if (op == "Max" || op == "Min") {
    if (!order)
      return std::nullopt;
    return (*order >= 0) == (op == "Max") ? a : b;
  }
  std::optional<int64_t> va = ctx.number(a), vb = ctx.number(b);
  if (op == "Mod") {
    if (!va || !vb || *vb == 0 || *vb == -1)
      return std::nullopt;
    int64_t rest = *va % *vb; // the sign of the divisor, unless fmod
    bool adjust = ctx.getInt("fmod", 0) == 0 && rest != 0 && (rest < 0) != (*vb < 0);
    return ctx.constant(adjust ? rest + *vb : rest);
  }
  if (op == "Pow") {
    if (!vb || *vb < 0 || *vb > 8)
      return std::nullopt;
    std::optional<Dim> out = ctx.constant(1);
    for (int64_t i = 0; i < *vb && out; ++i)
      out = ctx.dims.multiply(*out, a);
    return out;
  }
  if (op == "And" || op == "Or" || op == "Xor") {
    if (!va || !vb)
      return std::nullopt;
    return ctx.constant(op == "And" ? *va && *vb : op == "Or" ? *va || *vb : *va != *vb);
  }
  if (!order) {
    // Sizes are never negative, which is what `Equal(shape, -1)` asks.
    return std::nullopt;
  }
  return ctx.constant(llvm::StringSwitch<bool>(op)
                          .Case("Equal", *order == 0)
                          .Case("Less", *order < 0)
                          .Case("LessOrEqual", *order <= 0)
                          .Case("Greater", *order > 0)
                          .Default(*order >= 0));
}

static std::optional<double> floatBinary(NodeContext &ctx, double a, double b) {
  StringRef op = ctx.op;
  if (op == "Pow")
    return std::pow(a, b);
  if (op == "Mod")
    return std::fmod(a, b);
  if (op == "Max")
    return std::isnan(a) || a > b ? a : b;
  if (op == "Min")
    return std::isnan(a) || a < b ? a : b;
  return llvm::StringSwitch<std::optional<double>>(op)
      .Cases({"Add", "Sum"}, a + b)
      .Case("Sub", a - b)
      .Case("Mul", a * b)
      .Case("Div", a / b)
      .Default(std::nullopt);
}

static bool compareFloats(StringRef op, double a, double b) {
  return llvm::StringSwitch<bool>(op)
      .Case("Equal", a == b)
      .Case("Less", a < b)
      .Case("LessOrEqual", a <= b)
      .Case("Greater", a > b)
      .Default(a >= b);
}

/// Flat index into an operand of `shape` of the element `index` of a result that
/// it broadcasts to.
static int64_t broadcastIndex(ArrayRef<int64_t> shape, ArrayRef<int64_t> strides, ArrayRef<int64_t> index) {
  int64_t flat = 0;
  size_t skip = index.size() - shape.size();
  for (size_t i = 0; i < shape.size(); ++i)
    flat += shape[i] == 1 ? 0 : index[i + skip] * strides[i];
  return flat;
}

/// Broadcasts operand `i` to the static shape `shape`; nullopt if not known.
static std::optional<Data> broadcastData(NodeContext &ctx, unsigned i, ArrayRef<int64_t> shape) {
  const Data *data = ctx.data(i);
  std::optional<SmallVector<int64_t>> from = ctx.numbers(ctx.in(i).shape);
  if (!data || !from)
    return std::nullopt;
  SmallVector<int64_t> strides = stridesOf(*from);
  return gather(*data, shape, [&](ArrayRef<int64_t> index) { return broadcastIndex(*from, strides, index); });
}

static std::optional<size_t> countOf(const std::optional<SmallVector<int64_t>> &shape) {
  if (!shape)
    return std::nullopt;
  size_t count = 1;
  for (int64_t dim : *shape)
    if (__builtin_mul_overflow(count, static_cast<size_t>(dim), &count) || count > kFoldElements)
      return std::nullopt;
  return count;
}

/// Shapes broadcast over all operands; `result` as element type.
static bool inferBroadcast(NodeContext &ctx, Type result, unsigned first = 0) {
  for (unsigned i = first + 1; i < ctx.inputs.size(); ++i)
    if (ctx.in(i).element != ctx.in(first).element)
      return ctx.fail("operands of one type", ctx.text(ctx.in(first)) + " and " + ctx.text(ctx.in(i)));
  std::optional<Dims> shape = ctx.in(0).shape;
  for (unsigned i = 1; i < ctx.inputs.size() && shape; ++i) {
    if (!ctx.in(i).shape) {
      shape = std::nullopt;
      break;
    }
    Dims next;
    if (!ctx.broadcast(*shape, *ctx.in(i).shape, next))
      return false;
    shape = next;
  }
  ctx.set(0, result, shape);
  return true;
}

static bool inferBinary(NodeContext &ctx) {
  bool compares = llvm::StringSwitch<bool>(ctx.op)
                      .Cases({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}, true)
                      .Default(false);
  Type element = ctx.in(0).element;
  if (ctx.op == "Pow") {
    // The exponent may have another type; only shapes are joined.
    if (ctx.in(0).shape && ctx.in(1).shape) {
      Dims out;
      if (!ctx.broadcast(*ctx.in(0).shape, *ctx.in(1).shape, out))
        return false;
      ctx.set(0, element, out);
    } else {
      ctx.set(0, element, std::nullopt);
    }
  } else if (!inferBroadcast(ctx, compares ? ctx.builder.getI1Type() : element)) {
    return false;
  }
  std::optional<SmallVector<int64_t>> shape = ctx.numbers(ctx.outputs[0].shape);
  if (!countOf(shape))
    return true;
  std::optional<Data> all = broadcastData(ctx, 0, *shape);
  for (unsigned i = 1; i < ctx.inputs.size() && all; ++i) {
    std::optional<Data> next = broadcastData(ctx, i, *shape);
    if (!next || (next->isFloat != all->isFloat))
      return true;
    Data out;
    out.isFloat = all->isFloat && !compares;
    for (size_t k = 0; k < all->size(); ++k) {
      if (!all->isFloat) {
        std::optional<Dim> value = integerBinary(ctx, all->ints[k], next->ints[k]);
        if (!value)
          return true;
        out.ints.push_back(*value);
      } else if (compares) {
        out.ints.push_back(ctx.constant(compareFloats(ctx.op, all->floats[k], next->floats[k])));
      } else {
        std::optional<double> value = floatBinary(ctx, all->floats[k], next->floats[k]);
        if (!value)
          return true;
        out.floats.push_back(roundTo(element, *value));
      }
    }
    all = std::move(out);
  }
  if (all)
    ctx.setData(std::move(*all));
  return true;
}

static bool inferMean(NodeContext &ctx) { return inferBroadcast(ctx, ctx.in(0).element); }

static bool inferWhere(NodeContext &ctx) {
  if (!ctx.in(0).element.isInteger(1))
    return ctx.fail("a condition of BOOL", ctx.text(ctx.in(0)));
  if (!inferBroadcast(ctx, ctx.in(1).element, 1))
    return false;
  std::optional<SmallVector<int64_t>> shape = ctx.numbers(ctx.outputs[0].shape);
  if (!countOf(shape))
    return true;
  std::optional<Data> condition = broadcastData(ctx, 0, *shape), yes = broadcastData(ctx, 1, *shape),
                      no = broadcastData(ctx, 2, *shape);
  if (!condition || condition->isFloat)
    return true;
  std::optional<bool> one; // all elements choose the same side
  bool uniform = true;
  for (Dim dim : condition->ints) {
    std::optional<int64_t> value = ctx.number(dim);
    if (!value)
      return true;
    uniform &= !one || *one == (*value != 0);
    one = *value != 0;
  }
  if (!yes || !no) {
    // A constant condition over one of two computed operands of the result's shape.
    Info &chosen = ctx.in(one.value_or(true) ? 1 : 2);
    if (one && uniform && chosen.shape && *chosen.shape == *ctx.outputs[0].shape)
      ctx.replacement = SmallVector<Info *, 2>{&chosen};
    return true;
  }
  Data out;
  out.isFloat = yes->isFloat;
  for (size_t i = 0; i < condition->size(); ++i) {
    bool take = *ctx.number(condition->ints[i]) != 0;
    if (out.isFloat)
      out.floats.push_back(take ? yes->floats[i] : no->floats[i]);
    else
      out.ints.push_back(take ? yes->ints[i] : no->ints[i]);
  }
  ctx.setData(std::move(out));
  return true;
}

//===----------------------------------------------------------------------===//
// Casts and bounds
//===----------------------------------------------------------------------===//

static bool castData(NodeContext &ctx, Type to) {
  const Data *in = ctx.data(0);
  if (!in || !to.isIntOrFloat())
    return true;
  Data out;
  out.isFloat = isa<FloatType>(to);
  auto integer = dyn_cast<IntegerType>(to);
  for (size_t i = 0; i < in->size(); ++i) {
    std::optional<int64_t> number = in->isFloat ? std::nullopt : ctx.number(in->ints[i]);
    if (out.isFloat) {
      if (!in->isFloat && !number)
        return true;
      out.floats.push_back(roundTo(to, in->isFloat ? in->floats[i] : static_cast<double>(*number)));
    } else if (to.isInteger(1)) {
      if (!in->isFloat && !number)
        return true;
      out.ints.push_back(ctx.constant(in->isFloat ? in->floats[i] != 0 : *number != 0));
    } else if (in->isFloat) {
      double value = std::trunc(in->floats[i]);
      if (!(std::fabs(value) < 0x1p31))
        return true; // out of range: not ours to define
      out.ints.push_back(ctx.constant(static_cast<int64_t>(value)));
    } else {
      // Symbolic sizes are taken to fit; numbers must.
      unsigned width = integer.getWidth();
      if (number && width < 64 &&
          (integer.isUnsigned() ? *number < 0 || *number >> width : *number >> (width - 1) != *number >> 63))
        return true;
      out.ints.push_back(in->ints[i]);
    }
  }
  ctx.setData(std::move(out));
  return true;
}

static bool inferCast(NodeContext &ctx) {
  // The importer has put the type that `to` names into `to` as a TypeAttr.
  Type to;
  if (ctx.op == "CastLike") {
    to = ctx.in(1).element;
    ctx.inputs.resize(1);
    ctx.op = "Cast";
  } else {
    auto attr = dyn_cast_or_null<TypeAttr>(ctx.attributes.get("to"));
    if (!attr)
      return ctx.fail("attribute 'to' with a type", "none");
    to = attr.getValue();
  }
  ctx.attributes.erase("to");
  ctx.attributes.erase("saturate");
  if (to == ctx.in(0).element) {
    ctx.replacement = SmallVector<Info *, 2>{&ctx.in(0)};
    return true;
  }
  ctx.set(0, to, ctx.in(0).shape);
  return castData(ctx, to);
}

static bool inferClip(NodeContext &ctx) {
  // Bounds were attributes before opset 11; they are operands now, which the
  // importer has arranged.
  return inferSameAsFirst(ctx);
}

ArrayRef<Operator> skim::onnx::elementwiseOperators() {
  static const Operator rows[] = {
      {"", "Neg", 1, 1, 1, inferUnary},
      {"", "Abs", 1, 1, 1, inferUnary},
      {"", "Sqrt", 1, 1, 1, inferUnary},
      {"", "Reciprocal", 1, 1, 1, inferUnary},
      {"", "Exp", 1, 1, 1, inferUnary},
      {"", "Log", 1, 1, 1, inferUnary},
      {"", "Sin", 1, 1, 1, inferUnary},
      {"", "Cos", 1, 1, 1, inferUnary},
      {"", "Tanh", 1, 1, 1, inferUnary},
      {"", "Erf", 1, 1, 1, inferUnary},
      {"", "Floor", 1, 1, 1, inferUnary},
      {"", "Ceil", 1, 1, 1, inferUnary},
      {"", "Round", 1, 1, 1, inferUnary},
      {"", "Relu", 1, 1, 1, inferUnary},
      {"", "Sigmoid", 1, 1, 1, inferUnary},
      {"", "Sign", 1, 1, 1, inferUnary},
      {"", "Softplus", 1, 1, 1, inferSameAsFirst},
      {"", "LeakyRelu", 1, 1, 1, inferSameAsFirst},
      {"", "Elu", 1, 1, 1, inferSameAsFirst},
      {"", "HardSigmoid", 1, 1, 1, inferSameAsFirst},
      {"", "HardSwish", 1, 1, 1, inferSameAsFirst},
      {"", "Mish", 1, 1, 1, inferSameAsFirst},
      {"", "Swish", 1, 1, 1, inferSameAsFirst},
      {"", "Gelu", 1, 1, 1, inferGelu},
      {"com.microsoft", "Gelu", 1, 1, 1, inferGelu},
      {"com.microsoft", "FastGelu", 1, 2, 1, inferGelu},
      {"com.microsoft", "BiasGelu", 2, 2, 1, inferGelu},
      {"com.microsoft", "QuickGelu", 1, 1, 1, inferGelu},
      {"", "Not", 1, 1, 1, inferToBool},
      {"", "IsNaN", 1, 1, 1, inferToBool},
      {"", "IsInf", 1, 1, 1, inferToBool},
      {"", "Add", 2, 2, 1, inferBinary},
      {"", "Sub", 2, 2, 1, inferBinary},
      {"", "Mul", 2, 2, 1, inferBinary},
      {"", "Div", 2, 2, 1, inferBinary},
      {"", "Pow", 2, 2, 1, inferBinary},
      {"", "Mod", 2, 2, 1, inferBinary},
      {"", "Equal", 2, 2, 1, inferBinary},
      {"", "Less", 2, 2, 1, inferBinary},
      {"", "LessOrEqual", 2, 2, 1, inferBinary},
      {"", "Greater", 2, 2, 1, inferBinary},
      {"", "GreaterOrEqual", 2, 2, 1, inferBinary},
      {"", "And", 2, 2, 1, inferBinary},
      {"", "Or", 2, 2, 1, inferBinary},
      {"", "Xor", 2, 2, 1, inferBinary},
      {"", "Max", 1, kAny, 1, inferBinary},
      {"", "Min", 1, kAny, 1, inferBinary},
      {"", "Sum", 1, kAny, 1, inferBinary},
      {"", "Mean", 1, kAny, 1, inferMean},
      {"", "Where", 3, 3, 1, inferWhere},
      {"", "Cast", 1, 1, 1, inferCast},
      {"", "CastLike", 2, 2, 1, inferCast},
      {"", "Clip", 1, 3, 1, inferClip},
  };
  return rows;
}
