//===- Graph.h - shapes and elements of an ONNX graph's tensors -*- C++ -*-===//
//
// Answers two questions for every value of the graph: its shape, in sizes of the
// interface (batch, length, past), and what stands at a position. Movement of
// data (Reshape, Transpose, Slice, Concat, Gather, Expand …) becomes index
// arithmetic, shape computations become numbers and sizes, casts between floats
// vanish. A product, a reduction, a normalization ends an expression: its element
// is a Load of that value.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_CONVERSION_ONNXTOLM_GRAPH_H
#define SKIM_LIB_CONVERSION_ONNXTOLM_GRAPH_H

#include "Constants.h"
#include "Expression.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "skim/ONNX/ONNXOps.h"

#include <map>
#include <tuple>

namespace skim::raise {

using Dims = llvm::SmallVector<Expr, 5>;

/// What an argument of the graph means.
enum class Role { Unknown, Tokens, AttentionMask, PositionIds, PastKey, PastValue };

struct Input {
  Role role = Role::Unknown;
  /// Of a cache.
  int64_t layer = 0;
};

/// Role of a graph's input (`past_key_values.3.key`) or output (`present.3.key`), by its name.
Input classify(llvm::StringRef name);

/// A value that is raised: an activation [batch, length, channels] of the new function.
struct Raised {
  Raised() = default;
  Raised(mlir::Value value, llvm::ArrayRef<Expr> variables = {}, llvm::ArrayRef<Expr> position = {})
      : value(value), variables(variables), position(position) {}
  mlir::Value value;
  /// The graph's tensor has another shape (heads, say): its element at `variables`
  /// is the activation's at `position`. Empty: the same shape.
  llvm::SmallVector<Expr, 4> variables, position;
};

class Graph {
public:
  Graph(mlir::func::FuncOp function, Constants &constants);

  Expressions expressions;
  Expr batch, length, past, total;
  /// The attention mask, the position ids and the tokens, or null.
  mlir::Value attentionMask, positionIds, tokens;
  bool hasCache = false;

  /// Name of a graph's argument.
  static llvm::StringRef nameOf(mlir::BlockArgument argument);
  Input inputOf(mlir::Value value) const;

  /// nullopt: not known, with a reason (see `reasonFor`).
  const std::optional<Dims> &shape(mlir::Value value);
  Expr element(mlir::Value value, llvm::ArrayRef<Expr> position);
  /// A new variable for each dimension.
  Dims variables(llvm::ArrayRef<Expr> shape);
  /// The elements of a list of integers (a shape, axes); nullopt if unknown.
  std::optional<llvm::SmallVector<Expr>> list(mlir::Value value);
  std::optional<llvm::SmallVector<int64_t>> numbers(mlir::Value value);
  /// A dimension as a number.
  static std::optional<int64_t> number(Expr e);

  void setRaised(mlir::Value value, Raised raised);
  const Raised *getRaised(mlir::Value value) const {
    auto it = raisedValues.find(value);
    return it == raisedValues.end() ? nullptr : &it->second;
  }

  /// Attributes of a node.
  static int64_t getInt(onnx::NodeOp op, llvm::StringRef name, int64_t otherwise);
  static double getFloat(onnx::NodeOp op, llvm::StringRef name, double otherwise);
  static std::optional<llvm::SmallVector<int64_t>> getInts(onnx::NodeOp op, llvm::StringRef name);
  /// An operand, or null where it is omitted.
  static mlir::Value operand(onnx::NodeOp op, unsigned index);
  static bool is(onnx::NodeOp op, llvm::StringRef domain, llvm::StringRef name) {
    return op.getDomain() == domain && op.getOpType() == name;
  }
  /// Why nothing is known of a node's shape, if so.
  std::string reasonFor(onnx::NodeOp op) const;

private:
  std::optional<Dims> inferShape(mlir::Value value);
  std::optional<Dims> inferNode(onnx::NodeOp op, unsigned result);
  std::optional<Dims> inferReshape(onnx::NodeOp op);
  std::optional<Dims> inferSlice(onnx::NodeOp op);
  std::optional<Dims> broadcast(std::optional<Dims> a, std::optional<Dims> b);
  Expr computeElement(mlir::Value value, llvm::ArrayRef<Expr> position);
  /// Null: no rule, the element is a Load.
  Expr nodeElement(onnx::NodeOp op, unsigned result, llvm::ArrayRef<Expr> position);
  Expr arithmeticElement(onnx::NodeOp op, llvm::ArrayRef<Expr> position);
  Expr movementElement(onnx::NodeOp op, unsigned result, llvm::ArrayRef<Expr> position);
  Expr reshapeElement(mlir::Value input, llvm::ArrayRef<Expr> outShape, llvm::ArrayRef<Expr> position);
  Expr rotaryElement(onnx::NodeOp op, llvm::ArrayRef<Expr> position);
  /// Element of an operand that is broadcast to the position's rank.
  Expr broadcastElement(mlir::Value input, llvm::ArrayRef<Expr> position);
  struct SliceAxis {
    Expr start, size;
    int64_t step;
  };
  std::optional<llvm::SmallVector<SliceAxis>> sliceAxes(onnx::NodeOp op);
  std::optional<llvm::SmallVector<int64_t>> axesOf(onnx::NodeOp op, unsigned operandIndex, int64_t rank);

  mlir::func::FuncOp function;
  llvm::DenseMap<mlir::Value, Input> inputs;
  llvm::DenseMap<mlir::Value, std::optional<Dims>> shapes;
  llvm::DenseMap<mlir::Value, Raised> raisedValues;
  std::map<std::pair<void *, llvm::SmallVector<Expr, 5>>, Expr> elements;
  /// Past this many nested nodes an element is a Load of the tensor itself, and a
  /// shape unknown: recursion must not end in a signal, whatever the graph.
  static constexpr unsigned kMaxDepth = 300;
  unsigned depth = 0;
};

} // namespace skim::raise

#endif // SKIM_LIB_CONVERSION_ONNXTOLM_GRAPH_H
