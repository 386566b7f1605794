//===- Expression.cpp - normal forms of element expressions -----------------===//

#include "Expression.h"

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <numeric>

using namespace mlir;
using namespace skim::raise;

/// Terms of one sum; beyond this a sum is no normal form but a burden.
static constexpr size_t kMaxTerms = 4096;

static bool isInteger(double value) { return std::isfinite(value) && value == std::floor(value); }

/// A positive number that is one.
static std::optional<int64_t> wholeNumber(Expr e) {
  if (!e->isNumber() || !e->integer || e->number < 1 || e->number >= 0x1p53)
    return std::nullopt;
  return static_cast<int64_t>(e->number);
}

Expressions::Expressions() {
  number(0);
  number(1);
}

//===----------------------------------------------------------------------===//
// Interning
//===----------------------------------------------------------------------===//

namespace {
/// Appends the bytes of values to a key.
struct Key {
  std::string bytes;
  template <typename T> void add(T value) { bytes.append(reinterpret_cast<const char *>(&value), sizeof(value)); }
};
} // namespace

Expr Expressions::intern(Node node) {
  Key key;
  key.add(node.kind);
  key.add(node.number);
  key.add(node.name.size());
  key.bytes += node.name;
  key.add(node.tensor.getAsOpaquePointer());
  for (Expr arg : node.args)
    key.add(arg->id);
  for (const Term &term : node.terms) {
    key.add(term.coefficient);
    key.add(term.factors.size());
    for (const Factor &factor : term.factors) {
      key.add(factor.base->id);
      key.add(factor.exponent);
    }
  }
  auto [it, inserted] = table.try_emplace(std::move(key.bytes), nullptr);
  if (inserted) {
    node.id = static_cast<unsigned>(nodes.size());
    node.integer |= node.boolean;
    nodes.push_back(std::move(node));
    it->second = &nodes.back();
  }
  return it->second;
}

Expr Expressions::number(double value) {
  Node node(Kind::Number);
  node.number = value == 0 ? 0 : value; // one zero
  node.integer = isInteger(value);
  node.boolean = value == 0 || value == 1;
  return intern(std::move(node));
}

Expr Expressions::symbol(StringRef name, int64_t least) {
  Node node(Kind::Symbol);
  node.name = name.str();
  node.number = static_cast<double>(least);
  node.integer = true;
  return intern(std::move(node));
}

Expr Expressions::index(Expr bound) {
  if (bound->isNumber(1))
    return number(0);
  Node node(Kind::Index);
  node.name = "i" + std::to_string(variables++);
  node.args = {bound};
  node.integer = true;
  return intern(std::move(node));
}

Expr Expressions::load(Value tensor, ArrayRef<Expr> position) {
  if (constantElement && llvm::all_of(position, [](Expr e) { return e->isNumber(); })) {
    SmallVector<int64_t> numbers;
    for (Expr e : position)
      numbers.push_back(static_cast<int64_t>(e->number));
    if (std::optional<double> value = constantElement(tensor, numbers))
      return number(*value);
  }
  Node node(Kind::Load);
  node.tensor = tensor;
  node.args.assign(position.begin(), position.end());
  Type element = getElementTypeOrSelf(tensor.getType());
  node.integer = element.isIntOrIndex();
  node.boolean = element.isInteger(1);
  return intern(std::move(node));
}

//===----------------------------------------------------------------------===//
// Sums of products
//===----------------------------------------------------------------------===//

std::vector<Term> Expressions::terms(Expr e) {
  if (e->kind == Kind::Sum)
    return e->terms;
  if (e->isNumber())
    return e->number == 0 ? std::vector<Term>{} : std::vector<Term>{{e->number, {}}};
  return {{1, {{e, 1}}}};
}

/// Sorts factors by id and unites equal bases.
static void normalize(Term &term) {
  llvm::sort(term.factors, [](const Factor &a, const Factor &b) { return a.base->id < b.base->id; });
  SmallVector<Factor, 2> out;
  for (const Factor &factor : term.factors) {
    if (!out.empty() && out.back().base == factor.base)
      out.back().exponent += factor.exponent;
    else
      out.push_back(factor);
  }
  llvm::erase_if(out, [](const Factor &f) { return f.exponent == 0; });
  term.factors = std::move(out);
}

/// An order of products: constants last, then by ids.
static int compare(const Term &a, const Term &b) {
  size_t count = std::min(a.factors.size(), b.factors.size());
  for (size_t i = 0; i < count; ++i) {
    if (a.factors[i].base->id != b.factors[i].base->id)
      return a.factors[i].base->id < b.factors[i].base->id ? -1 : 1;
    if (a.factors[i].exponent != b.factors[i].exponent)
      return a.factors[i].exponent > b.factors[i].exponent ? -1 : 1;
  }
  if (a.factors.size() == b.factors.size())
    return 0;
  return a.factors.size() > b.factors.size() ? -1 : 1;
}

Expr Expressions::sum(std::vector<Term> input) {
  std::vector<Term> all;
  for (Term &term : input) {
    normalize(term);
    // What remains of a product may be a sum again.
    if (term.factors.size() == 1 && term.factors[0].exponent == 1 && term.factors[0].base->kind == Kind::Sum) {
      for (Term inner : term.factors[0].base->terms) {
        inner.coefficient *= term.coefficient;
        all.push_back(std::move(inner));
      }
      continue;
    }
    all.push_back(std::move(term));
  }
  // Insertion keeps equal products in order; sums are short.
  std::vector<const Term *> order;
  for (const Term &term : all)
    order.insert(std::upper_bound(order.begin(), order.end(), &term,
                                  [](const Term *a, const Term *b) { return compare(*a, *b) < 0; }),
                 &term);
  Node node(Kind::Sum);
  for (const Term *term : order) {
    if (!node.terms.empty() && compare(node.terms.back(), *term) == 0)
      node.terms.back().coefficient += term->coefficient;
    else
      node.terms.push_back(*term);
  }
  llvm::erase_if(node.terms, [](const Term &term) { return term.coefficient == 0; });
  if (node.terms.empty())
    return number(0);
  if (node.terms.size() == 1) {
    const Term &term = node.terms[0];
    if (term.factors.empty())
      return number(term.coefficient);
    if (term.coefficient == 1 && term.factors.size() == 1 && term.factors[0].exponent == 1)
      return term.factors[0].base;
  }
  node.integer = llvm::all_of(node.terms, [](const Term &term) {
    return isInteger(term.coefficient) && llvm::all_of(term.factors, [](const Factor &f) {
             return f.base->integer && f.exponent > 0 && isInteger(f.exponent);
           });
  });
  return intern(std::move(node));
}

Expr Expressions::combine(Expr a, Expr b, double factor) {
  if (a->isNumber() && b->isNumber())
    return number(a->number + factor * b->number);
  std::vector<Term> all = terms(a);
  for (Term term : terms(b)) {
    term.coefficient *= factor;
    all.push_back(std::move(term));
  }
  return sum(std::move(all));
}

Expr Expressions::mul(Expr a, Expr b) {
  if (a->isNumber() && b->isNumber())
    return number(a->number * b->number);
  if (a->isNumber(0) || b->isNumber(0))
    return number(0);
  std::vector<Term> left = terms(a), right = terms(b);
  // Index arithmetic is multiplied out. Sums of floats stay whole: they would
  // explode, and recognisers want to see them.
  bool expand = a->isNumber() || b->isNumber() || (left.size() == 1 && right.size() == 1) ||
                (a->integer && b->integer && left.size() * right.size() <= kMaxTerms);
  if (!expand) {
    if (left.size() > 1)
      left = {{1, {{a, 1}}}};
    if (right.size() > 1)
      right = {{1, {{b, 1}}}};
  }
  std::vector<Term> all;
  for (const Term &x : left)
    for (const Term &y : right) {
      Term term = x;
      term.coefficient *= y.coefficient;
      term.factors.append(y.factors.begin(), y.factors.end());
      all.push_back(std::move(term));
    }
  return sum(std::move(all));
}

Expr Expressions::pow(Expr a, double exponent) {
  if (exponent == 1)
    return a;
  if (exponent == 0)
    return number(1);
  if (a->isNumber())
    return number(std::pow(a->number, exponent));
  std::vector<Term> all = terms(a);
  // (x^a)^b is x^(ab) for integer b only.
  bool single = all.size() == 1 && (isInteger(exponent) || (all[0].coefficient == 1 && all[0].factors.size() == 1 &&
                                                            all[0].factors[0].exponent == 1));
  if (!single)
    return sum({{1, {{a, exponent}}}});
  Term term = all[0];
  term.coefficient = std::pow(term.coefficient, exponent);
  for (Factor &factor : term.factors)
    factor.exponent *= exponent;
  return sum({std::move(term)});
}

/// x / y if every factor of y is in x with at least its exponent.
static std::optional<Term> divide(const Term &x, const Term &y, bool integral) {
  Term out = x;
  out.coefficient /= y.coefficient;
  if (integral && !isInteger(out.coefficient))
    return std::nullopt;
  for (const Factor &factor : y.factors) {
    auto *it = llvm::find_if(out.factors, [&](const Factor &f) { return f.base == factor.base; });
    if (it == out.factors.end() || it->exponent < factor.exponent)
      return std::nullopt;
    it->exponent -= factor.exponent;
  }
  llvm::erase_if(out.factors, [](const Factor &f) { return f.exponent == 0; });
  return out;
}

std::optional<Expr> Expressions::divideExactly(Expr a, Expr b) {
  if (b->isNumber(0))
    return std::nullopt;
  std::vector<Term> divisor = terms(b);
  Expr quotient = number(0);
  // Each step removes a term that the divisor's first term divides; the first
  // term is the greatest in the order of `compare`, so this ends.
  for (unsigned step = 0; step < 64 && !a->isNumber(0); ++step) {
    std::optional<Term> part;
    for (const Term &term : terms(a))
      if ((part = divide(term, divisor[0], /*integral=*/true)))
        break;
    if (!part)
      return std::nullopt;
    Expr piece = sum({*part});
    quotient = add(quotient, piece);
    a = sub(a, mul(piece, b));
  }
  return a->isNumber(0) ? std::optional<Expr>(quotient) : std::nullopt;
}

Expr Expressions::floorDiv(Expr a, Expr b) {
  if (b->isNumber(1))
    return a;
  if (a->isNumber() && b->isNumber() && b->number != 0)
    return number(std::floor(a->number / b->number));
  std::vector<Term> divisor = terms(b);
  Expr quotient = number(0), rest = a;
  if (!divisor.empty()) {
    for (unsigned step = 0; step < 64; ++step) {
      std::optional<Term> part;
      for (const Term &term : terms(rest))
        if (!(term.factors.empty() && b->isNumber()) && (part = divide(term, divisor[0], /*integral=*/true)))
          break;
      if (!part)
        break;
      Expr piece = sum({*part});
      quotient = add(quotient, piece);
      rest = sub(rest, mul(piece, b));
    }
  }
  if (alwaysNonNegative(rest) && alwaysNonNegative(add(sub(b, rest), -1)))
    return quotient;
  if (rest->isNumber() && b->isNumber() && b->number != 0)
    return add(quotient, std::floor(rest->number / b->number));
  // floor((g·a + r) / (g·m)) is floor(a / m) for 0 <= r < g.
  if (std::optional<int64_t> divisor = wholeNumber(b); divisor && rest->integer) {
    int64_t unit = *divisor;
    for (const Term &term : terms(rest))
      if (std::fabs(term.coefficient) > 1 && std::fabs(term.coefficient) < 0x1p53)
        unit = std::gcd(unit, static_cast<int64_t>(term.coefficient));
    std::vector<Term> whole, part;
    for (Term term : terms(rest)) {
      bool divides = std::fmod(term.coefficient, static_cast<double>(unit)) == 0;
      term.coefficient /= divides ? static_cast<double>(unit) : 1;
      (divides ? whole : part).push_back(std::move(term));
    }
    Expr r = sum(std::move(part));
    if (unit > 1 && alwaysNonNegative(r) && alwaysNonNegative(sub(number(static_cast<double>(unit - 1)), r)))
      return add(quotient, floorDiv(sum(std::move(whole)), number(static_cast<double>(*divisor / unit))));
  }
  Node node(Kind::Div);
  node.args = {rest, b};
  node.integer = true;
  return add(quotient, intern(std::move(node)));
}

//===----------------------------------------------------------------------===//
// Functions and conditions
//===----------------------------------------------------------------------===//

Expr Expressions::apply(StringRef function, ArrayRef<Expr> args) {
  if (args.size() == 1 && args[0]->isNumber()) {
    double x = args[0]->number;
    std::optional<double> value = llvm::StringSwitch<std::optional<double>>(function)
                                      .Case("cos", std::cos(x))
                                      .Case("sin", std::sin(x))
                                      .Case("exp", std::exp(x))
                                      .Case("log", std::log(x))
                                      .Case("tanh", std::tanh(x))
                                      .Case("sigmoid", 1 / (1 + std::exp(-x)))
                                      .Case("erf", std::erf(x))
                                      .Case("floor", std::floor(x))
                                      .Case("ceil", std::ceil(x))
                                      .Case("trunc", std::trunc(x))
                                      .Case("abs", std::fabs(x))
                                      .Case("isnan", std::isnan(x) ? 1 : 0)
                                      .Default(std::nullopt);
    if (value)
      return number(*value);
  }
  if ((function == "trunc" || function == "floor" || function == "ceil") && args[0]->integer)
    return args[0];
  if (function == "max" || function == "min") {
    Expr difference = function == "max" ? sub(args[0], args[1]) : sub(args[1], args[0]);
    if (alwaysNonNegative(difference))
      return args[0];
    if (alwaysNonNegative(neg(difference)))
      return args[1];
  }
  Node node(Kind::Apply);
  node.name = function.str();
  node.args.assign(args.begin(), args.end());
  node.boolean = function == "isnan";
  node.integer = function == "trunc" || function == "floor" || function == "ceil";
  return intern(std::move(node));
}

Expr Expressions::nonNegative(Expr a) {
  if (a->isNumber())
    return number(a->number >= 0);
  if (alwaysNonNegative(a))
    return number(1);
  if (a->integer) {
    Expr opposite = add(neg(a), -1);
    if (alwaysNonNegative(opposite))
      return number(0);
    // One of a condition and its negation is the canonical one.
    if (terms(a)[0].coefficient < 0)
      return logicalNot(nonNegative(opposite));
  }
  Node node(Kind::NonNegative);
  node.args = {a};
  node.boolean = true;
  return intern(std::move(node));
}

Expr Expressions::isZero(Expr a) {
  if (a->isNumber())
    return number(a->number == 0);
  if (a->boolean)
    return logicalNot(a);
  if (a->integer && (alwaysNonNegative(add(a, -1)) || alwaysNonNegative(add(neg(a), -1))))
    return number(0);
  if (terms(a)[0].coefficient < 0)
    return isZero(neg(a));
  Node node(Kind::Zero);
  node.args = {a};
  node.boolean = true;
  return intern(std::move(node));
}

Expr Expressions::logicalNot(Expr a) {
  if (a->isNumber())
    return number(a->number == 0);
  if (a->kind == Kind::Not)
    return a->args[0];
  Node node(Kind::Not);
  node.args = {a};
  node.boolean = true;
  return intern(std::move(node));
}

Expr Expressions::logicalAnd(Expr a, Expr b) {
  if (a->isNumber())
    return a->number ? b : a;
  if (b->isNumber())
    return b->number ? a : b;
  if (a == b)
    return a;
  if (b->id < a->id)
    std::swap(a, b);
  Node node(Kind::And);
  node.args = {a, b};
  node.boolean = true;
  return intern(std::move(node));
}

Expr Expressions::logicalOr(Expr a, Expr b) { return logicalNot(logicalAnd(logicalNot(a), logicalNot(b))); }

Expr Expressions::select(Expr condition, Expr a, Expr b) {
  if (condition->isNumber())
    return condition->number ? a : b;
  if (a == b)
    return a;
  if (condition->kind == Kind::Not)
    return select(condition->args[0], b, a);
  if (a->isNumber(1) && b->isNumber(0))
    return condition;
  if (a->isNumber(0) && b->isNumber(1))
    return logicalNot(condition);
  Node node(Kind::Select);
  node.args = {condition, a, b};
  node.boolean = a->boolean && b->boolean;
  node.integer = a->integer && b->integer;
  return intern(std::move(node));
}

//===----------------------------------------------------------------------===//
// Bounds
//===----------------------------------------------------------------------===//

std::optional<Expr> Expressions::factorUpper(Expr e) {
  if (e->kind == Kind::Index)
    return bound(add(e->args[0], -1), /*upper=*/true);
  if (e->boolean)
    return number(1);
  if (e->kind == Kind::Div && e->args[1]->isNumber() && e->args[1]->number > 0) {
    std::optional<Expr> upper = bound(e->args[0], /*upper=*/true);
    if (upper && (*upper)->isNumber())
      return number(std::floor((*upper)->number / e->args[1]->number));
  }
  return std::nullopt;
}

std::optional<Expr> Expressions::bound(Expr e, bool upper) {
  if (!e->integer)
    return std::nullopt;
  Expr out = number(0);
  for (const Term &term : terms(e)) {
    Expr product = number(term.coefficient);
    bool vanishes = false;
    for (const Factor &factor : term.factors) {
      if (factor.base->kind == Kind::Symbol) {
        product = mul(product, pow(factor.base, factor.exponent));
        continue;
      }
      // Every other factor that is known to be at least 0 has 0 as its least value.
      bool fromZero = factor.base->kind == Kind::Index || factor.base->boolean ||
                      (factor.base->kind == Kind::Div && alwaysNonNegative(factor.base->args[0]) &&
                       alwaysNonNegative(factor.base->args[1]));
      if (!fromZero)
        return std::nullopt;
      if ((term.coefficient > 0) != upper) {
        vanishes = true;
        continue;
      }
      std::optional<Expr> largest = factorUpper(factor.base);
      if (!largest)
        return std::nullopt;
      product = mul(product, pow(*largest, factor.exponent));
    }
    if (!vanishes)
      out = add(out, product);
  }
  return out;
}

bool Expressions::alwaysNonNegative(Expr a) {
  if (a->isNumber())
    return a->number >= 0;
  std::optional<Expr> lower = bound(a, /*upper=*/false);
  if (!lower)
    return false;
  // Sizes from 0: each size is its least value and something more.
  Substitution map;
  walk(*lower, [&](Expr e) {
    if (e->kind == Kind::Symbol && e->number > 0)
      map[e] = add(e, e->number);
  });
  Expr shifted = map.empty() ? *lower : substitute(*lower, map);
  return llvm::all_of(terms(shifted), [](const Term &term) { return term.coefficient > 0; });
}

//===----------------------------------------------------------------------===//
// Traversal
//===----------------------------------------------------------------------===//

Expr Expressions::substitute(Expr root, const Substitution &map) {
  llvm::DenseMap<Expr, Expr> done;
  std::function<Expr(Expr)> visit = [&](Expr e) -> Expr {
    if (auto it = map.find(e); it != map.end())
      return it->second;
    if (e->kind == Kind::Number || e->kind == Kind::Symbol || e->kind == Kind::Index)
      return e;
    if (auto it = done.find(e); it != done.end())
      return it->second;
    SmallVector<Expr> args;
    if (e->kind == Kind::Select) {
      // Only the branch that is taken may be looked at: the other may not make sense.
      Expr condition = visit(e->args[0]);
      Expr out = condition->isNumber() ? visit(e->args[condition->number ? 1 : 2])
                                       : select(condition, visit(e->args[1]), visit(e->args[2]));
      return done[e] = out;
    }
    for (Expr arg : e->args)
      args.push_back(visit(arg));
    Expr out = e;
    switch (e->kind) {
    case Kind::Sum: {
      out = number(0);
      for (const Term &term : e->terms) {
        Expr product = number(term.coefficient);
        for (const Factor &factor : term.factors)
          product = mul(product, pow(visit(factor.base), factor.exponent));
        out = add(out, product);
      }
      break;
    }
    case Kind::Load:
      out = load(e->tensor, args);
      break;
    case Kind::Div:
      out = floorDiv(args[0], args[1]);
      break;
    case Kind::Apply:
      out = apply(e->name, args);
      break;
    case Kind::NonNegative:
      out = nonNegative(args[0]);
      break;
    case Kind::Zero:
      out = isZero(args[0]);
      break;
    case Kind::Not:
      out = logicalNot(args[0]);
      break;
    case Kind::And:
      out = logicalAnd(args[0], args[1]);
      break;
    default:
      break;
    }
    return done[e] = out;
  };
  return visit(root);
}

void Expressions::walk(Expr root, llvm::function_ref<void(Expr)> visit) {
  llvm::DenseSet<Expr> seen;
  SmallVector<Expr> work{root};
  while (!work.empty()) {
    Expr e = work.pop_back_val();
    if (!seen.insert(e).second)
      continue;
    visit(e);
    if (e->kind == Kind::Index)
      continue; // its bound is no part of the value
    work.append(e->args.begin(), e->args.end());
    for (const Term &term : e->terms)
      for (const Factor &factor : term.factors)
        work.push_back(factor.base);
  }
}

std::string Expressions::text(Expr e, unsigned depth) {
  if (depth == 0)
    return "…";
  std::string out;
  llvm::raw_string_ostream os(out);
  auto list = [&](StringRef name) {
    os << name << "(";
    llvm::interleaveComma(e->args, os, [&](Expr arg) { os << text(arg, depth - 1); });
    os << ")";
  };
  switch (e->kind) {
  case Kind::Number:
    os << llvm::format("%.9g", e->number);
    break;
  case Kind::Symbol:
  case Kind::Index:
    os << e->name;
    break;
  case Kind::Sum:
    for (auto [i, term] : llvm::enumerate(e->terms)) {
      if (i == 8) {
        os << " + …";
        break;
      }
      os << (i ? " + " : "");
      if (term.coefficient != 1 || term.factors.empty())
        os << llvm::format("%.9g", term.coefficient) << (term.factors.empty() ? "" : "·");
      llvm::interleave(
          term.factors, os,
          [&](const Factor &f) {
            os << (f.base->kind == Kind::Sum ? "(" + text(f.base, depth - 1) + ")" : text(f.base, depth - 1));
            if (f.exponent != 1)
              os << "^" << llvm::format("%g", f.exponent);
          },
          "·");
    }
    break;
  case Kind::Load:
    os << (tensorName ? tensorName(e->tensor) : "element") << "[";
    llvm::interleaveComma(e->args, os, [&](Expr arg) { os << text(arg, depth - 1); });
    os << "]";
    break;
  case Kind::Div:
    list("div");
    break;
  case Kind::Apply:
    list(e->name);
    break;
  case Kind::NonNegative:
    os << text(e->args[0], depth) << " >= 0";
    break;
  case Kind::Zero:
    os << text(e->args[0], depth) << " == 0";
    break;
  case Kind::Not:
    list("not");
    break;
  case Kind::And:
    list("and");
    break;
  case Kind::Select:
    list("select");
    break;
  }
  return out;
}
