//===- Expression.h - elements of tensors as symbolic expressions -*- C++ -*-===//
//
// What stands at one position of a tensor, as an expression over index
// variables, sizes and elements of other tensors. Expressions are interned: equal
// pointers are equal expressions, and sums of products have one normal form, so
// that graphs which compute the same thing in different words meet here. Floats
// are treated as real numbers.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_CONVERSION_ONNXTOLM_EXPRESSION_H
#define SKIM_LIB_CONVERSION_ONNXTOLM_EXPRESSION_H

#include "mlir/IR/Value.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>

namespace skim::raise {

struct Node;
using Expr = const Node *;

enum class Kind {
  Number,
  Symbol,      ///< a size
  Index,       ///< a variable in [0, args[0])
  Load,        ///< the element args of `tensor`
  Sum,         ///< Σ coefficient · Π factor^exponent
  Div,         ///< floor(args[0] / args[1]) of integers
  Apply,       ///< a function by name
  NonNegative, ///< args[0] >= 0
  Zero,        ///< args[0] == 0
  Not,
  And,    ///< "or" is written with Not
  Select, ///< args[0] ? args[1] : args[2]
};

struct Factor {
  Expr base;
  double exponent;
};

/// coefficient · Π base^exponent, bases in the order of their ids.
struct Term {
  double coefficient;
  llvm::SmallVector<Factor, 2> factors;
};

struct Node {
  explicit Node(Kind kind) : kind(kind) {}
  Kind kind;
  unsigned id = 0;
  /// Number: the value. Symbol: its least value.
  double number = 0;
  std::string name;
  mlir::Value tensor;
  llvm::SmallVector<Expr, 3> args;
  std::vector<Term> terms;
  /// Certainly an integer; certainly 0 or 1 (booleans are these numbers).
  bool integer = false, boolean = false;

  bool isNumber() const { return kind == Kind::Number; }
  bool isNumber(double value) const { return kind == Kind::Number && number == value; }
};

using Substitution = llvm::SmallDenseMap<Expr, Expr, 8>;

class Expressions {
public:
  Expressions();

  /// Elements of constant tensors at constant positions, if set.
  std::function<std::optional<double>(mlir::Value, llvm::ArrayRef<int64_t>)> constantElement;

  /// What messages call a tensor, if set.
  std::function<std::string(mlir::Value)> tensorName;

  Expr number(double value);
  Expr symbol(llvm::StringRef name, int64_t least);
  /// A new variable in [0, bound); 0 where that is all.
  Expr index(Expr bound);
  Expr load(mlir::Value tensor, llvm::ArrayRef<Expr> position);
  Expr add(Expr a, Expr b) { return combine(a, b, 1); }
  Expr sub(Expr a, Expr b) { return combine(a, b, -1); }
  Expr add(Expr a, double b) { return add(a, number(b)); }
  Expr neg(Expr a) { return mul(a, number(-1)); }
  Expr mul(Expr a, Expr b);
  Expr pow(Expr a, double exponent);
  /// Integers, rounding down.
  Expr floorDiv(Expr a, Expr b);
  Expr mod(Expr a, Expr b) { return sub(a, mul(b, floorDiv(a, b))); }
  Expr apply(llvm::StringRef function, llvm::ArrayRef<Expr> args);
  Expr nonNegative(Expr a);
  Expr isZero(Expr a);
  Expr logicalNot(Expr a);
  Expr logicalAnd(Expr a, Expr b);
  Expr logicalOr(Expr a, Expr b);
  Expr select(Expr condition, Expr a, Expr b);

  /// a / b if it divides without remainder as a polynomial.
  std::optional<Expr> divideExactly(Expr a, Expr b);
  /// Replaces nodes, and simplifies.
  Expr substitute(Expr e, const Substitution &map);
  /// a >= 0 for all values of variables and sizes; false: not known.
  bool alwaysNonNegative(Expr a);
  /// Calls `visit` once on every node of `e`.
  void walk(Expr e, llvm::function_ref<void(Expr)> visit);
  /// The terms of any expression.
  std::vector<Term> terms(Expr e);
  /// The value of an expression made of terms (any order, with repetitions).
  Expr sum(std::vector<Term> terms);
  /// For messages.
  std::string text(Expr e, unsigned depth = 6);

private:
  Expr intern(Node node);
  Expr combine(Expr a, Expr b, double factor);
  /// A polynomial of sizes that is never above (below, for `upper`) `e`.
  std::optional<Expr> bound(Expr e, bool upper);
  /// Largest value of a factor that is no size, where known.
  std::optional<Expr> factorUpper(Expr e);

  std::deque<Node> nodes;
  std::unordered_map<std::string, Expr> table;
  unsigned variables = 0;
};

} // namespace skim::raise

#endif // SKIM_LIB_CONVERSION_ONNXTOLM_EXPRESSION_H
