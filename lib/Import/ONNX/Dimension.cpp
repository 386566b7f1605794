#include "Dimension.h"

#include <algorithm>

using namespace skim::onnx;
using llvm::StringRef;

/// Polynomials with more terms are treated as unknown: no shape needs them, and
/// products of hostile dim_params would grow without bound.
static constexpr size_t kMaxTerms = 64, kMaxDegree = 8;

Dim DimensionTable::intern(Polynomial polynomial) {
  for (auto it = polynomial.begin(); it != polynomial.end();)
    it = it->second == 0 ? polynomial.erase(it) : std::next(it);
  auto [it, isNew] = index.try_emplace(polynomial, static_cast<uint32_t>(table.size()));
  if (isNew)
    table.push_back(std::move(polynomial));
  return Dim{it->second};
}

Dim DimensionTable::constant(int64_t value) { return intern(Polynomial{{{}, value}}); }

Dim DimensionTable::symbol(StringRef name) {
  auto [it, isNew] = byName.try_emplace(name, static_cast<uint32_t>(symbols.size()));
  if (isNew)
    symbols.push_back({name.str(), false});
  return intern(Polynomial{{{it->second}, 1}});
}

Dim DimensionTable::unknown(bool signedValue) {
  uint32_t id = static_cast<uint32_t>(symbols.size());
  symbols.push_back({"?" + std::to_string(id), signedValue});
  return intern(Polynomial{{{id}, 1}});
}

std::optional<int64_t> DimensionTable::value(Dim dim) const {
  const Polynomial &p = table[dim.id];
  if (p.empty())
    return 0;
  if (p.size() == 1 && p.begin()->first.empty())
    return p.begin()->second;
  return std::nullopt;
}

std::string DimensionTable::text(Dim dim) const {
  const Polynomial &p = table[dim.id];
  if (p.empty())
    return "0";
  std::string out;
  // The constant term sorts first but reads better last.
  auto append = [&](const Monomial &monomial, int64_t factor) {
    bool negative = factor < 0;
    uint64_t size = negative ? 0 - static_cast<uint64_t>(factor) : static_cast<uint64_t>(factor);
    out += out.empty() ? (negative ? "-" : "") : (negative ? " - " : " + ");
    if (monomial.empty() || size != 1)
      out += std::to_string(size);
    bool first = monomial.empty() || size == 1;
    for (uint32_t symbol : monomial) {
      if (!first)
        out += "*";
      first = false;
      out += symbols[symbol].name;
    }
  };
  for (const auto &[monomial, factor] : p)
    if (!monomial.empty())
      append(monomial, factor);
  if (auto it = p.find({}); it != p.end())
    append({}, it->second);
  return out;
}

std::optional<Dim> DimensionTable::combine(Dim a, Dim b, int64_t factor) {
  Polynomial sum = table[a.id];
  for (const auto &[monomial, coefficient] : table[b.id]) {
    int64_t term, &slot = sum[monomial];
    if (__builtin_mul_overflow(coefficient, factor, &term) || __builtin_add_overflow(slot, term, &slot))
      return std::nullopt;
  }
  if (sum.size() > kMaxTerms)
    return std::nullopt;
  return intern(std::move(sum));
}

std::optional<Dim> DimensionTable::add(Dim a, Dim b) { return combine(a, b, 1); }
std::optional<Dim> DimensionTable::subtract(Dim a, Dim b) { return combine(a, b, -1); }

std::optional<Dim> DimensionTable::multiply(Dim a, Dim b) {
  Polynomial product;
  for (const auto &[ma, ca] : table[a.id])
    for (const auto &[mb, cb] : table[b.id]) {
      Monomial monomial;
      std::merge(ma.begin(), ma.end(), mb.begin(), mb.end(), std::back_inserter(monomial));
      int64_t term;
      if (monomial.size() > kMaxDegree || __builtin_mul_overflow(ca, cb, &term))
        return std::nullopt;
      int64_t &slot = product[monomial];
      if (__builtin_add_overflow(slot, term, &slot) || product.size() > kMaxTerms)
        return std::nullopt;
    }
  return intern(std::move(product));
}

std::optional<Dim> DimensionTable::divide(Dim a, Dim b) {
  std::optional<int64_t> va = value(a), vb = value(b);
  if (vb && *vb == 0)
    return std::nullopt;
  if (va && vb)
    return *va == INT64_MIN && *vb == -1 ? std::nullopt : std::optional(constant(*va / *vb));
  if (a == b)
    return constant(1); // a size that is divided by is not 0
  const Polynomial &divisor = table[b.id];
  if (divisor.size() != 1)
    return std::nullopt;
  const auto &[divide, factor] = *divisor.begin();
  Polynomial quotient;
  for (const auto &[monomial, coefficient] : table[a.id]) {
    Monomial rest;
    std::set_difference(monomial.begin(), monomial.end(), divide.begin(), divide.end(), std::back_inserter(rest));
    if (rest.size() + divide.size() != monomial.size() || coefficient % factor != 0 || factor == -1)
      return std::nullopt;
    quotient[rest] = coefficient / factor;
  }
  return intern(std::move(quotient));
}

bool DimensionTable::nonNegative(Dim a) const {
  for (const auto &[monomial, factor] : table[a.id]) {
    if (factor < 0)
      return false;
    for (uint32_t symbol : monomial)
      if (symbols[symbol].isSigned)
        return false;
  }
  return true;
}

std::optional<int> DimensionTable::compare(Dim a, Dim b) {
  std::optional<Dim> difference = subtract(a, b);
  if (!difference)
    return std::nullopt;
  if (std::optional<int64_t> number = value(*difference))
    return *number < 0 ? -1 : *number > 0;
  // A certain sign needs a constant term: symbols may be 0.
  auto certain = [&](Dim d) {
    const Polynomial &p = table[d.id];
    return nonNegative(d) && p.count({}) != 0;
  };
  if (certain(*difference))
    return 1;
  if (std::optional<Dim> opposite = subtract(b, a); opposite && certain(*opposite))
    return -1;
  return std::nullopt;
}

bool DimensionTable::parseProduct(StringRef &text, Dim &out, unsigned depth) {
  auto factor = [&](Dim &value) {
    text = text.ltrim();
    if (text.consume_front("(")) {
      if (depth > 32 || !parseSum(text, value, depth + 1))
        return false;
      text = text.ltrim();
      return text.consume_front(")");
    }
    size_t length = text.take_while([](char c) { return llvm::isAlnum(c) || c == '_' || c == '.'; }).size();
    StringRef word = text.take_front(length);
    text = text.drop_front(length);
    int64_t number;
    if (word.empty() || !(llvm::isDigit(word[0]) || llvm::isAlpha(word[0]) || word[0] == '_'))
      return false;
    if (llvm::isDigit(word[0])) {
      if (word.getAsInteger(10, number))
        return false;
      value = constant(number);
    } else {
      value = symbol(word);
    }
    return true;
  };
  if (!factor(out))
    return false;
  while ((text = text.ltrim()).consume_front("*")) {
    Dim right;
    if (!factor(right))
      return false;
    std::optional<Dim> product = multiply(out, right);
    if (!product)
      return false;
    out = *product;
  }
  return true;
}

bool DimensionTable::parseSum(StringRef &text, Dim &out, unsigned depth) {
  if (!parseProduct(text, out, depth))
    return false;
  for (;;) {
    text = text.ltrim();
    bool plus = text.consume_front("+");
    if (!plus && !text.consume_front("-"))
      return true;
    Dim right;
    if (!parseProduct(text, right, depth))
      return false;
    std::optional<Dim> sum = plus ? add(out, right) : subtract(out, right);
    if (!sum)
      return false;
    out = *sum;
  }
}

Dim DimensionTable::parse(StringRef text) {
  // Names with spaces or operators of other exporters stay one symbol; try first
  // without leaving symbols of a failed parse behind.
  StringRef rest = text;
  Dim out;
  size_t before = symbols.size();
  if (text.size() < 1000 && parseSum(rest, out, 0) && rest.trim().empty())
    return out;
  for (size_t i = before; i < symbols.size(); ++i)
    byName.erase(symbols[i].name);
  return symbol(text);
}
