//===- Elementwise.cpp - norms, activations and residuals -------------------===//

#include "Raiser.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace skim::raise;
using skim::onnx::NodeOp;

/// Residual first, what a layer adds to it second.
Value Raiser::buildAdd(Value a, Value b, Location loc) {
  if (a.getDefiningOp<LinearOp>() && !b.getDefiningOp<LinearOp>())
    std::swap(a, b);
  return arith::AddFOp::create(builder, loc, a, b);
}

bool Raiser::buildNorm(Value value, ArrayRef<Expr> variables, Expr load, Expr weight, double offset, double epsilon,
                       Location loc) {
  Expr d = variables.back();
  std::optional<int64_t> size = d->kind == Kind::Index ? Graph::number(d->args[0]) : std::nullopt;
  // Channels of a token in `value`, and the first of them in the activation.
  Expr all = x.number(1);
  for (Expr dim : *graph.shape(value))
    all = x.mul(all, dim);
  std::optional<Expr> perToken = x.divideExactly(all, x.mul(graph.batch, graph.length));
  std::optional<int64_t> channels = perToken ? Graph::number(*perToken) : std::nullopt;
  Substitution zero;
  for (Expr variable : variables)
    if (variable->kind == Kind::Index)
      zero[variable] = x.number(0);
  std::optional<int64_t> first = Graph::number(x.substitute(load->args[2], zero));
  if (!size || !channels || !first || *channels % *size || weight->kind != Kind::Load)
    return false;
  // Each head lies on a multiple of its size: channel = first + size · head + d.
  Expr head = x.add(x.sub(load->args[2], d), static_cast<double>(-*first));
  bool dependsOnD = false;
  x.walk(head, [&](Expr e) { dependsOnD |= e == d; });
  if (dependsOnD || !x.mod(head, x.number(static_cast<double>(*size)))->isNumber(0))
    return false;
  Value input = load->tensor;
  if (*first != 0 || cast<RankedTensorType>(input.getType()).getShape().back() != *channels)
    input = sliceLinear(input, *first, *channels);
  if (!input)
    return false;
  Type element = getElementTypeOrSelf(weight->tensor.getType());
  Value vector = materialize(weight, {d}, RankedTensorType::get({*size}, element));
  if (!vector)
    return false;
  Value norm = lm::RMSNormOp::create(
      builder, loc, input.getType(), input, vector, builder.getF32FloatAttr(static_cast<float>(epsilon)),
      builder.getF32FloatAttr(static_cast<float>(offset)), builder.getI64IntegerAttr(*channels / *size));
  Expr channel = x.add(load->args[2], static_cast<double>(-*first));
  graph.setRaised(value, Raised(norm, variables, {load->args[0], load->args[1], channel}));
  return true;
}

/// x · w · (mean(x²) + ε)^-½ over the last dimension, w a constant vector or (1 + w).
bool Raiser::matchNorm(Value value, Location loc) {
  Dims variables = graph.variables(*graph.shape(value));
  if (variables.empty())
    return false;
  std::vector<Term> terms = x.terms(graph.element(value, variables));
  if (terms.size() != 1 || terms[0].coefficient != 1 || terms[0].factors.size() != 3)
    return false;
  Expr load = nullptr, weight = nullptr, variance = nullptr;
  double offset = 0;
  for (const Factor &factor : terms[0].factors) {
    if (factor.exponent == -0.5)
      variance = factor.base;
    else if (factor.exponent != 1)
      return false;
    else if (factor.base->kind == Kind::Load && isActivation(factor.base))
      load = factor.base;
    else
      weight = factor.base;
  }
  if (!load || !weight || !variance)
    return false;
  if (std::vector<Term> parts = x.terms(weight); parts.size() == 2 && parts[1].factors.empty()) {
    offset = parts[1].coefficient;
    weight = x.add(weight, -offset);
  }
  // mean + ε
  std::vector<Term> parts = x.terms(variance);
  if (parts.size() != 2 || !parts[1].factors.empty() || parts[0].coefficient != 1 || parts[0].factors.size() != 1 ||
      parts[0].factors[0].exponent != 1)
    return false;
  Expr mean = parts[0].factors[0].base;
  auto reduce = mean->kind == Kind::Load ? mean->tensor.getDefiningOp<NodeOp>() : NodeOp();
  if (!reduce || !Graph::is(reduce, "", "ReduceMean"))
    return false;
  // Over the last dimension, of the squares of the same channels.
  Value squares = Graph::operand(reduce, 0);
  std::optional<Dims> from = graph.shape(squares), to = graph.shape(reduce.getResult(0));
  Expr d = variables.back();
  if (!from || !to || from->empty() || from->size() != to->size() || to->size() != mean->args.size() ||
      !to->back()->isNumber(1) || d->kind != Kind::Index || from->back() != d->args[0] ||
      !std::equal(from->begin(), from->end() - 1, to->begin()))
    return false;
  SmallVector<Expr> at(mean->args.begin(), mean->args.end());
  at.back() = d;
  return graph.element(squares, at) == x.pow(load, 2) &&
         buildNorm(value, variables, load, weight, offset, parts[1].coefficient, loc);
}

void Raiser::raiseElementwise(NodeOp op) {
  Value result = op.getResult(0);
  Location loc = op.getLoc();
  const std::optional<Dims> &dims = graph.shape(result);
  if (!dims || dims->size() < 3 || (*dims)[0] != graph.batch || !isa<FloatType>(getElementTypeOrSelf(result.getType())))
    return;
  if (op.getOpType() == "Mul" && matchNorm(result, loc))
    return;
  if (dims->size() != 3 || (*dims)[1] != graph.length)
    return;
  std::optional<int64_t> channels = Graph::number((*dims)[2]);
  if (!channels || *channels < 2)
    return;
  Expr b = x.index(graph.batch), s = x.index(graph.length), c = x.index((*dims)[2]);
  Expr e = graph.element(result, {b, s, c});
  auto single = [&](const Term &term) {
    return term.coefficient == 1 && term.factors.size() == 1 && term.factors[0].exponent == 1
               ? activationAt(term.factors[0].base, b, s, c)
               : Value();
  };
  std::vector<Term> terms = x.terms(e);
  if (terms.size() == 2) {
    Value left = single(terms[0]), right = single(terms[1]);
    if (left && right)
      return graph.setRaised(result, {buildAdd(left, right, loc)});
    // A linear and its bias.
    for (auto [value, other] : {std::pair(left, terms[1]), std::pair(right, terms[0])}) {
      auto linear = value ? value.getDefiningOp<LinearOp>() : LinearOp();
      if (!linear || linear.getBias() || other.coefficient != 1 || other.factors.size() != 1 ||
          other.factors[0].exponent != 1 || other.factors[0].base->kind != Kind::Load)
        continue;
      Expr load = other.factors[0].base;
      Value bias =
          materialize(load, {c}, RankedTensorType::get({*channels}, getElementTypeOrSelf(load->tensor.getType())));
      if (!bias)
        continue;
      auto biased = LinearOp::create(builder, linear.getLoc(), linear.getType(), linear.getInput(), linear.getWeight(),
                                     bias, linear.getLayerAttr(), linear.getOnnxNameAttr(), StringAttr());
      linears[biased] = linears[linear];
      return graph.setRaised(result, {biased});
    }
    return;
  }
  if (terms.size() != 1 || terms[0].coefficient != 1)
    return;
  ArrayRef<Factor> factors = terms[0].factors;
  if (factors.size() == 2 && factors[0].exponent == 1 && factors[1].exponent == 1) {
    Value left = activationAt(factors[0].base, b, s, c), right = activationAt(factors[1].base, b, s, c);
    if (left && right) {
      // The gate first, whatever the exporter wrote.
      if (right.getDefiningOp<lm::SiLUOp>() && !left.getDefiningOp<lm::SiLUOp>())
        std::swap(left, right);
      return graph.setRaised(result, {arith::MulFOp::create(builder, loc, left, right)});
    }
    for (auto [value, other] : {std::pair(left, factors[1].base), std::pair(right, factors[0].base)})
      if (value && other->kind == Kind::Apply && other->name == "sigmoid" &&
          activationAt(other->args[0], b, s, c) == value)
        return graph.setRaised(result, {lm::SiLUOp::create(builder, loc, value.getType(), value)});
  }
}

/// RMSNormalization, SimplifiedLayerNormalization, SkipSimplifiedLayerNormalization.
void Raiser::raiseNorm(NodeOp op) {
  bool skip = op.getDomain() == "com.microsoft";
  Value weight = Graph::operand(op, skip ? 2 : 1), input = Graph::operand(op, 0);
  const std::optional<Dims> *dims = weight ? &graph.shape(weight) : nullptr;
  std::optional<int64_t> channels = dims && *dims && (*dims)->size() == 1 ? Graph::number((**dims)[0]) : std::nullopt;
  if (!input || !channels) {
    report(op, "a weight of one dimension", "none");
    return;
  }
  const std::optional<Dims> &shape = graph.shape(input);
  int64_t rank = shape ? static_cast<int64_t>(shape->size()) : 3;
  int64_t axis = Graph::getInt(op, "axis", -1);
  if (!skip && axis != -1 && axis != rank - 1) {
    report(op, "the last axis", "axis " + std::to_string(axis));
    return;
  }
  // ONNX's default of the standard operator; onnxruntime's own have 1e-12.
  double epsilon = Graph::getFloat(op, "epsilon", skip ? 1e-12 : 1e-5);
  if (!skip && shape && !shape->empty() && (*shape)[0] == graph.batch && shape->back() == (**dims)[0]) {
    Dims variables = graph.variables(*shape);
    Expr load = graph.element(input, variables);
    if (load->kind == Kind::Load && isActivation(load) &&
        buildNorm(op.getResult(0), variables, load, graph.element(weight, {variables.back()}), 0, epsilon, op.getLoc()))
      return;
  }
  Value residual = require(input, *channels);
  if (skip) {
    Value other = Graph::operand(op, 1);
    if (!other || Graph::operand(op, 3)) {
      report(op, "an input, a skip and a weight", other ? "a bias" : "no skip");
      return;
    }
    residual = buildAdd(residual, require(other, *channels), op.getLoc());
    if (op.getNumResults() > 3 && !isa<NoneType>(op.getResult(3).getType()))
      graph.setRaised(op.getResult(3), {residual});
  }
  Expr c = x.index(x.number(static_cast<double>(*channels)));
  Value vector = materialize(graph.element(weight, {c}), {c},
                             RankedTensorType::get({*channels}, getElementTypeOrSelf(weight.getType())));
  if (!vector) {
    report(op, "a constant weight", x.text(graph.element(weight, {c})));
    vector = UnrealizedConversionCastOp::create(
                 builder, op.getLoc(), Type(RankedTensorType::get({*channels}, builder.getF32Type())), ValueRange())
                 .getResult(0);
  }
  Value norm = lm::RMSNormOp::create(builder, op.getLoc(), residual.getType(), residual, vector,
                                     builder.getF32FloatAttr(static_cast<float>(epsilon)), builder.getF32FloatAttr(0),
                                     builder.getI64IntegerAttr(1));
  graph.setRaised(op.getResult(0), {norm});
}
