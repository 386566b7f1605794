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

/// x · w · (mean(x²) + ε)^-½, w a constant vector or (1 + w).
Value Raiser::matchNorm(Expr e, Expr b, Expr s, Expr c, int64_t channels, Location loc) {
  std::vector<Term> terms = x.terms(e);
  if (terms.size() != 1 || terms[0].coefficient != 1 || terms[0].factors.size() != 3)
    return {};
  Value input;
  Expr weight = nullptr, variance = nullptr;
  double offset = 0;
  for (const Factor &factor : terms[0].factors) {
    if (factor.exponent == -0.5)
      variance = factor.base;
    else if (factor.exponent != 1)
      return {};
    else if (Value activation = activationAt(factor.base, b, s, c))
      input = activation;
    else
      weight = factor.base;
  }
  if (!input || !weight || !variance)
    return {};
  if (std::vector<Term> parts = x.terms(weight); parts.size() == 2 && parts[1].factors.empty()) {
    offset = parts[1].coefficient;
    weight = x.add(weight, -offset);
  }
  // mean + ε
  std::vector<Term> parts = x.terms(variance);
  if (parts.size() != 2 || !parts[1].factors.empty() || parts[0].coefficient != 1 || parts[0].factors.size() != 1 ||
      parts[0].factors[0].exponent != 1)
    return {};
  double epsilon = parts[1].coefficient;
  Expr mean = parts[0].factors[0].base;
  auto reduce = mean->kind == Kind::Load ? mean->tensor.getDefiningOp<NodeOp>() : NodeOp();
  if (!reduce || !Graph::is(reduce, "", "ReduceMean") || mean->args.size() < 2 || mean->args[0] != b ||
      mean->args[1] != s)
    return {};
  Value squares = Graph::operand(reduce, 0);
  const std::optional<Dims> &dims = graph.shape(squares);
  const std::optional<Dims> &reduced = graph.shape(reduce.getResult(0));
  if (!dims || dims->size() != 3 || !reduced || reduced->size() != 3 || !reduced->back()->isNumber(1) ||
      (*reduced)[0] != graph.batch || (*reduced)[1] != graph.length)
    return {};
  Expr k = x.index(dims->back());
  if (graph.element(squares, {b, s, k}) != x.pow(x.load(input, {b, s, k}), 2))
    return {};
  Type element = weight->kind == Kind::Load ? getElementTypeOrSelf(weight->tensor.getType()) : Type();
  Value vector = element ? materialize(weight, {c}, RankedTensorType::get({channels}, element)) : Value();
  if (!vector)
    return {};
  return lm::RMSNormOp::create(builder, loc, input.getType(), input, vector,
                               builder.getF32FloatAttr(static_cast<float>(epsilon)),
                               builder.getF32FloatAttr(static_cast<float>(offset)), builder.getI64IntegerAttr(1));
}

void Raiser::raiseElementwise(NodeOp op) {
  Value result = op.getResult(0);
  Location loc = op.getLoc();
  const std::optional<Dims> &dims = graph.shape(result);
  if (!dims || dims->size() != 3 || (*dims)[0] != graph.batch || (*dims)[1] != graph.length ||
      !isa<FloatType>(getElementTypeOrSelf(result.getType())))
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
  if (Value norm = matchNorm(e, b, s, c, *channels, loc))
    graph.setRaised(result, {norm});
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
  // ONNX's default of the standard operator; onnxruntime's own have 1e-12.
  double epsilon = Graph::getFloat(op, "epsilon", skip ? 1e-12 : 1e-5);
  Value norm = lm::RMSNormOp::create(builder, op.getLoc(), residual.getType(), residual, vector,
                                     builder.getF32FloatAttr(static_cast<float>(epsilon)), builder.getF32FloatAttr(0),
                                     builder.getI64IntegerAttr(1));
  graph.setRaised(op.getResult(0), {norm});
}
