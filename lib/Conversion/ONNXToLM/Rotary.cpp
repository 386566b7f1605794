//===- Rotary.cpp - rotary embedding, from formulas and from tables ---------===//

#include "Raiser.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <cmath>

using namespace mlir;
using namespace skim::raise;
using skim::onnx::NodeOp;

/// start + s: the position ids by definition of the interface, or past + s.
bool Raiser::isPosition(Expr e, Expr b, Expr s) {
  if (e == x.add(graph.past, s))
    return true;
  return graph.positionIds && e == x.load(graph.positionIds, {b, s});
}

std::pair<Value, Value> Raiser::tables(ArrayRef<float> frequencies, double scale) {
  auto &entry = tableCache[{frequencies.vec(), scale}];
  if (entry.first)
    return entry;
  Location loc = forward.getLoc();
  if (!positionsValue)
    positionsValue = lm::PositionsOp::create(builder, loc, tokens.getType(), tokens, start);
  int64_t half = static_cast<int64_t>(frequencies.size());
  auto type = RankedTensorType::get({half}, builder.getF32Type());
  Value constant = arith::ConstantOp::create(builder, loc, DenseElementsAttr::get(type, frequencies));
  auto op = lm::RotaryTableOp::create(builder, loc, activationType(half), activationType(half), positionsValue,
                                      constant, builder.getF32FloatAttr(static_cast<float>(scale)));
  return entry = {op.getCos(), op.getSin()};
}

Value Raiser::buildRotary(const Heads &match, int64_t number, Location loc) {
  if (!match.cosine)
    return match.value;
  return lm::RotaryOp::create(builder, loc, match.value.getType(), match.value, match.cosine, match.sine,
                              builder.getI64IntegerAttr(number),
                              match.interleaved ? builder.getUnitAttr() : UnitAttr());
}

/// The frequencies of which `cosine` and `sine` [positions, half] are tables.
/// p·f is exact in floats where p is a power of two, so that each doubling of p
/// refines f, down to the very float that the exporter multiplied with. Every
/// entry is then compared.
bool Raiser::frequenciesOfTable(Value cosine, Value sine, int64_t half, std::vector<float> &frequencies, double &scale,
                                std::string &why) {
  auto type = cast<RankedTensorType>(cosine.getType());
  if (type.getRank() != 2 || sine.getType() != type || type.getDimSize(1) < half || type.getDimSize(0) < 2) {
    why = "tables of another shape";
    return false;
  }
  int64_t count = type.getDimSize(0);
  auto at = [&](Value table, int64_t row, int64_t column) {
    return constants.element(table, {row, column}).value_or(std::nan(""));
  };
  scale = at(cosine, 0, 0);
  if (!(scale > 0)) {
    why = "a table that does not begin with a positive cosine";
    return false;
  }
  // Half a unit in the last place of an entry, with some room, and of the product.
  double entry = type.getElementType().isF32() ? 0x1p-22 : type.getElementType().isF16() ? 0x1p-10 : 0x1p-7;
  for (int64_t i = 0; i < half; ++i) {
    double f = std::atan2(at(sine, 1, i), at(cosine, 1, i));
    for (int64_t p = 2; p < count; p *= 2) {
      double phase = std::atan2(at(sine, p, i), at(cosine, p, i));
      double turns = std::round((f * static_cast<double>(p) - phase) / (2 * M_PI));
      f = (phase + 2 * M_PI * turns) / static_cast<double>(p);
    }
    frequencies.push_back(static_cast<float>(f));
    for (int64_t p = 0; p < count; ++p) {
      double phase = static_cast<float>(static_cast<float>(p) * frequencies.back());
      double tolerance = scale * (entry + std::fabs(phase) * 0x1p-22);
      if (!(std::fabs(at(cosine, p, i) - scale * std::cos(phase)) <= tolerance) ||
          !(std::fabs(at(sine, p, i) - scale * std::sin(phase)) <= tolerance)) {
        why = "a table whose row " + std::to_string(p) + ", column " + std::to_string(i) +
              " is no cosine and sine of the position times " + std::to_string(frequencies.back());
        return false;
      }
    }
  }
  tableRows = std::max(tableRows, count);
  return true;
}

/// cosine(b, s, column) and sine: a scale times the functions of position ×
/// frequency, or elements of constant tables at the position.
bool Raiser::rotaryTable(Expr cosine, Expr sine, Expr b, Expr s, Expr column, int64_t half, Heads &match,
                         std::string &why) {
  auto single = [&](Expr e, double &coefficient) -> Expr {
    std::vector<Term> terms = x.terms(e);
    if (terms.size() != 1 || terms[0].factors.size() != 1 || terms[0].factors[0].exponent != 1)
      return nullptr;
    coefficient = terms[0].coefficient;
    return terms[0].factors[0].base;
  };
  double scale = 0, sineScale = 0;
  Expr c = single(cosine, scale), sn = single(sine, sineScale);
  why = "a factor " + x.text(cosine) + " with " + x.text(sine);
  if (!c || !sn || scale != sineScale)
    return false;
  std::vector<float> frequencies;
  if (c->kind == Kind::Apply && c->name == "cos" && sn->kind == Kind::Apply && sn->name == "sin" &&
      c->args[0] == sn->args[0]) {
    std::vector<Term> angle = x.terms(c->args[0]);
    if (angle.size() != 1)
      return false;
    Expr frequency = nullptr;
    for (const Factor &factor : angle[0].factors)
      if (factor.exponent == 1 && isPosition(factor.base, b, s))
        frequency = x.mul(c->args[0], x.pow(factor.base, -1));
    if (!frequency) {
      why = "an angle " + x.text(c->args[0]) + " that is no position times a frequency";
      return false;
    }
    for (int64_t i = 0; i < half; ++i) {
      Expr value = x.substitute(frequency, {{column, x.number(static_cast<double>(i))}});
      if (!value->isNumber()) {
        why = "a frequency " + x.text(value) + " that is no constant";
        return false;
      }
      frequencies.push_back(static_cast<float>(value->number));
    }
  } else if (c->kind == Kind::Load && sn->kind == Kind::Load && Constants::isConstant(c->tensor) &&
             Constants::isConstant(sn->tensor) && c->args.size() == 2 && c->args == sn->args && c->args[1] == column) {
    if (!isPosition(c->args[0], b, s)) {
      why = "a table read at " + x.text(c->args[0]);
      return false;
    }
    double inner = 1;
    if (!frequenciesOfTable(c->tensor, sn->tensor, half, frequencies, inner, why))
      return false;
    // 1 ± the rounding of the table.
    scale *= std::fabs(inner - 1) < 1e-6 ? 1 : inner;
  } else {
    return false;
  }
  // A factor on everything belongs to the attention's scale.
  match.coefficient = scale;
  std::tie(match.cosine, match.sine) = tables(frequencies, 1);
  return true;
}

std::optional<Heads> Raiser::matchRotary(NodeOp op, Expr e, Expr b, Expr h, Expr s, Expr d, int64_t number,
                                         int64_t size, int64_t half, bool interleaved, Value input, int64_t offset,
                                         std::string &why) {
  Expr column = x.index(x.number(static_cast<double>(half)));
  auto scaled = [&](Expr a, int64_t factor) { return x.mul(a, x.number(static_cast<double>(factor))); };
  Expr firstAt = interleaved ? scaled(column, 2) : column;
  Expr secondAt = x.add(firstAt, static_cast<double>(interleaved ? 1 : half));
  Expr first = x.substitute(e, {{d, firstAt}}), second = x.substitute(e, {{d, secondAt}});
  auto in = [&](Expr at) {
    return x.load(input, {b, s, x.add(x.add(scaled(h, size), at), static_cast<double>(offset))});
  };
  Expr a = in(firstAt), c = in(secondAt);
  // first = a·cos − c·sin, second = c·cos + a·sin.
  auto split = [&](Expr whole, Expr &ofA, Expr &ofC) {
    ofA = ofC = x.number(0);
    for (const Term &term : x.terms(whole)) {
      Expr *target = nullptr;
      Term rest = term;
      for (auto [i, factor] : llvm::enumerate(term.factors))
        if (factor.exponent == 1 && (factor.base == a || factor.base == c)) {
          target = factor.base == a ? &ofA : &ofC;
          rest.factors.erase(rest.factors.begin() + i);
          break;
        }
      if (!target)
        return false;
      *target = x.add(*target, x.sum({rest}));
    }
    return true;
  };
  Expr cosine, minusSine, cosine2, sine;
  if (!split(first, cosine, minusSine) || !split(second, sine, cosine2)) {
    why = x.text(first);
    return std::nullopt;
  }
  if (cosine != cosine2 || minusSine != x.neg(sine)) {
    why = "a rotation by " + x.text(cosine) + " and " + x.text(sine);
    return std::nullopt;
  }
  Heads match;
  match.value = input;
  match.interleaved = interleaved;
  if (!rotaryTable(cosine, sine, b, s, column, half, match, why))
    return std::nullopt;
  if (2 * half < size) {
    // What lies behind the rotated channels passes unchanged.
    Expr rest = x.index(x.number(static_cast<double>(size - 2 * half)));
    Expr at = x.add(rest, static_cast<double>(2 * half));
    if (match.coefficient != 1 || x.substitute(e, {{d, at}}) != in(at)) {
      why = "channels behind the rotated ones that change";
      return std::nullopt;
    }
  }
  return match;
}

std::optional<Heads> Raiser::matchHeads(NodeOp op, Expr e, Expr b, Expr h, Expr s, Expr d, int64_t number, int64_t size,
                                        StringRef what) {
  // The one activation that it reads.
  Value input;
  bool several = false;
  SmallVector<Expr> loads;
  x.walk(e, [&](Expr inner) {
    if (inner->kind != Kind::Load || !isActivation(inner))
      return;
    several |= input && input != inner->tensor;
    input = inner->tensor;
    loads.push_back(inner);
  });
  std::string why = several ? "several activations" : x.text(e);
  if (!input || several) {
    report(op, what.str() + " of one linear layer", why);
    return std::nullopt;
  }
  // Channels h·size + d + offset, plain …
  Expr channel = x.add(x.mul(h, x.number(static_cast<double>(size))), d);
  std::optional<Heads> match;
  int64_t offset = 0;
  std::vector<Term> terms = x.terms(e);
  if (terms.size() == 1 && terms[0].factors.size() == 1 && terms[0].factors[0].exponent == 1 &&
      terms[0].factors[0].base->kind == Kind::Load) {
    Expr load = loads[0];
    std::optional<int64_t> shift = Graph::number(x.sub(load->args[2], channel));
    if (load->args[0] == b && load->args[1] == s && shift) {
      match = Heads{input, terms[0].coefficient, {}, {}, false};
      offset = *shift;
    }
  } else {
    // … or rotated. The least channel of head 0 is the offset.
    std::optional<int64_t> least;
    Substitution zero{{h, x.number(0)}, {d, x.number(0)}};
    x.walk(x.substitute(e, zero), [&](Expr inner) {
      if (inner->kind == Kind::Load && inner->tensor == input)
        if (std::optional<int64_t> at = Graph::number(inner->args[2]); at && (!least || *at < *least))
          least = *at;
    });
    offset = least.value_or(0);
    // Half the head first; then what conditions on the channel suggest.
    SmallVector<int64_t> halves{size / 2};
    x.walk(e, [&](Expr inner) {
      if (inner->kind == Kind::NonNegative)
        for (double sign : {1.0, -1.0})
          if (std::optional<int64_t> bound = Graph::number(x.sub(inner->args[0], x.mul(d, x.number(sign)))))
            for (int64_t half : {std::abs(*bound), std::abs(*bound) + 1})
              if (half > 0 && 2 * half < size && !llvm::is_contained(halves, half))
                halves.push_back(half);
    });
    std::string firstWhy;
    for (bool interleaved : {false, true})
      for (int64_t half : halves)
        if (!match && half > 0) {
          match = matchRotary(op, e, b, h, s, d, number, size, half, interleaved, input, offset, why);
          if (firstWhy.empty())
            firstWhy = why;
        }
    why = firstWhy;
  }
  if (match) {
    // A packed linear gives each its part.
    Value part = offset >= 0 && offset + number * size <= cast<RankedTensorType>(input.getType()).getShape().back()
                     ? sliceLinear(input, offset, number * size)
                     : Value();
    if (part) {
      match->value = part;
      return match;
    }
    if (offset == 0 && cast<RankedTensorType>(input.getType()).getShape().back() == number * size)
      return match; // no linear: a norm of queries, say
    why = "channels " + std::to_string(offset) + " and on of what no linear layer computes";
  }
  report(op, what.str() + " of a linear layer, rotated or not", why);
  return std::nullopt;
}
