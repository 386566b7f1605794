//===- Dimension.h - symbolic dimensions -----------------------*- C++ -*-===//
//
// Dimensions and integer shape data as polynomials with integer coefficients
// over the graph's symbols, interned: equal polynomials are equal handles.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_IMPORT_ONNX_DIMENSION_H
#define SKIM_LIB_IMPORT_ONNX_DIMENSION_H

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace skim::onnx {

/// A handle into a DimensionTable.
struct Dim {
  uint32_t id = 0;
  friend bool operator==(Dim a, Dim b) { return a.id == b.id; }
};

class DimensionTable {
public:
  Dim constant(int64_t value);
  /// A named symbol; symbols are sizes, thus at least 0.
  Dim symbol(llvm::StringRef name);
  /// A new size that nothing is known of. With `signedValue` it may be negative.
  Dim unknown(bool signedValue = false);
  /// `dim_param`: sums, differences and products of names and numbers, with
  /// parentheses; anything else is one symbol with that whole name.
  Dim parse(llvm::StringRef text);

  std::optional<int64_t> value(Dim dim) const;
  std::string text(Dim dim) const;

  /// nullopt: overflow.
  std::optional<Dim> add(Dim a, Dim b);
  std::optional<Dim> subtract(Dim a, Dim b);
  std::optional<Dim> multiply(Dim a, Dim b);
  /// a / b if b divides a as a polynomial (or both are numbers: towards zero).
  std::optional<Dim> divide(Dim a, Dim b);

  /// Certainly a >= 0 (no coefficient is negative and no symbol may be).
  bool nonNegative(Dim a) const;
  /// a - b in its sign, where that is certain: <0, 0, >0.
  std::optional<int> compare(Dim a, Dim b);

private:
  /// Symbols with multiplicity, sorted; empty: the constant term.
  using Monomial = std::vector<uint32_t>;
  using Polynomial = std::map<Monomial, int64_t>;
  struct Symbol {
    std::string name;
    bool isSigned;
  };
  Dim intern(Polynomial polynomial);
  std::optional<Dim> combine(Dim a, Dim b, int64_t factor);
  bool parseSum(llvm::StringRef &text, Dim &out, unsigned depth);
  bool parseProduct(llvm::StringRef &text, Dim &out, unsigned depth);

  std::vector<Symbol> symbols;
  llvm::StringMap<uint32_t> byName;
  std::vector<Polynomial> table;
  std::map<Polynomial, uint32_t> index;
};

} // namespace skim::onnx

#endif // SKIM_LIB_IMPORT_ONNX_DIMENSION_H
