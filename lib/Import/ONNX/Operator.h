//===- Operator.h - one table row per ONNX operator ------------*- C++ -*-===//
#ifndef SKIM_LIB_IMPORT_ONNX_OPERATOR_H
#define SKIM_LIB_IMPORT_ONNX_OPERATOR_H

#include "Dimension.h"
#include "skim/Support/Error.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/StringMap.h"

#include <optional>
#include <vector>

namespace skim::onnx {

using Dims = llvm::SmallVector<Dim, 6>;

/// Contents of a small tensor, row major: integers and booleans (symbolic), or
/// floats.
struct Data {
  bool isFloat = false;
  std::vector<Dim> ints;
  std::vector<double> floats;
  size_t size() const { return isFloat ? floats.size() : ints.size(); }
};

/// A weight that stays in its file.
struct ExternalWeight {
  std::string file;
  uint64_t offset = 0;
  llvm::StringRef bytes;
};

/// What is known of an ONNX value.
struct Info {
  /// Null: an omitted operand or result.
  mlir::Type element;
  /// nullopt: the rank is unknown.
  std::optional<Dims> shape;
  /// Known contents, symbolic or not.
  std::optional<Data> data;
  /// Constants as the file has them; `value` is made at the first use.
  mlir::DenseElementsAttr dense;
  std::optional<ExternalWeight> external;
  llvm::StringRef name;
  /// A graph's initializer, whose name may say which layer it is of: never merged
  /// with an equal constant.
  bool isInitializer = false;
  mlir::Value value;
  bool isConstant() const { return dense || external; }
};

/// Elements of tensors that are folded or followed symbolically.
inline constexpr size_t kFoldElements = 1024;

/// A node on its way through its table row: normalised in place, then inferred.
class NodeContext {
public:
  using MakeConstant = llvm::function_ref<Info *(mlir::DenseElementsAttr)>;
  NodeContext(DimensionTable &dims, mlir::Builder &builder, MakeConstant makeConstant)
      : dims(dims), builder(builder), makeConstant(makeConstant) {}

  DimensionTable &dims;
  mlir::Builder &builder;
  MakeConstant makeConstant;
  llvm::StringRef domain, op, name;
  int64_t opset = 0;
  llvm::SmallVector<Info *, 8> inputs;
  llvm::SmallVector<Info, 4> outputs;
  mlir::NamedAttrList attributes;
  std::optional<Failure> failure;
  /// Set by a row: the results are these operands, there is no node.
  std::optional<llvm::SmallVector<Info *, 2>> replacement;

  // Operands.
  bool has(unsigned i) const { return i < inputs.size() && inputs[i] && inputs[i]->element; }
  bool wants(unsigned i) const { return i < outputs.size() && outputs[i].name.size(); }
  Info &in(unsigned i) const { return *inputs[i]; }
  /// Rank, or nullopt.
  std::optional<int64_t> rank(unsigned i) const {
    return has(i) && in(i).shape ? std::optional<int64_t>(in(i).shape->size()) : std::nullopt;
  }
  /// Contents of operand `i`, if known and at most kFoldElements; loads constants.
  const Data *data(unsigned i);
  /// Contents as numbers.
  std::optional<llvm::SmallVector<int64_t>> constantInts(unsigned i);
  bool allConstant(const Data &data) const;

  // Attributes. Setters replace.
  std::optional<int64_t> getInt(llvm::StringRef name) const;
  int64_t getInt(llvm::StringRef name, int64_t otherwise) const { return getInt(name).value_or(otherwise); }
  double getFloat(llvm::StringRef name, double otherwise) const;
  std::optional<llvm::SmallVector<int64_t>> getInts(llvm::StringRef name) const;
  llvm::StringRef getString(llvm::StringRef name, llvm::StringRef otherwise) const;
  void setInt(llvm::StringRef name, int64_t value) { attributes.set(name, builder.getI64IntegerAttr(value)); }
  void setFloat(llvm::StringRef name, double value) {
    attributes.set(name, builder.getF32FloatAttr(static_cast<float>(value)));
  }
  void setInts(llvm::StringRef name, llvm::ArrayRef<int64_t> value) {
    attributes.set(name, builder.getDenseI64ArrayAttr(value));
  }
  void setString(llvm::StringRef name, llvm::StringRef value) { attributes.set(name, builder.getStringAttr(value)); }

  // Results.
  /// A node that breaks ONNX's rules.
  bool fail(std::string expected, std::string got = {}, std::string hint = {});
  /// A node that ONNX allows and we do not.
  bool unsupported(std::string expected, std::string got = {}, std::string hint = {});
  /// Element type and shape of result `i` (nothing if the node has fewer).
  void set(unsigned i, mlir::Type element, std::optional<Dims> shape);
  /// Known contents of result 0; dropped if over kFoldElements.
  void setData(Data data);

  // Shapes.
  Dim constant(int64_t value) const { return dims.constant(value); }
  std::optional<int64_t> number(Dim dim) const { return dims.value(dim); }
  /// Numpy broadcasting; false after fail().
  bool broadcast(const Dims &a, const Dims &b, Dims &out);
  /// Puts an axis of [-rank, rank) into [0, rank); false after fail().
  bool normalizeAxis(int64_t &axis, int64_t rank, llvm::StringRef what = "axis");
  /// Replaces operand `i` by a constant vector.
  void setVector(unsigned i, llvm::ArrayRef<int64_t> values);
  /// Attribute `axis`, made explicit and non-negative where the rank is known.
  bool axisAttribute(int64_t otherwise, std::optional<int64_t> rank, int64_t &axis);
  /// Ints of attribute `name`, or of the constant operand `operand`, which then
  /// becomes the attribute and leaves the operands. False after fail(); `found`
  /// tells whether there was either.
  bool intsAttribute(llvm::StringRef name, unsigned operand, llvm::SmallVector<int64_t> &value, bool &found);
  /// Product of all dims, or a new unknown.
  Dim product(llvm::ArrayRef<Dim> shape);
  Dim addOrUnknown(Dim a, Dim b) { return dims.add(a, b).value_or(dims.unknown()); }
  /// The numbers of a static shape.
  std::optional<llvm::SmallVector<int64_t>> numbers(const std::optional<Dims> &shape) const;
  std::string text(const Info &info) const;
};

/// A row: arity (the first `minInputs` operands may not be omitted, of a variadic
/// operator none), inference, and, inside it, normalisation. `infer` returns false
/// after ctx.fail().
struct Operator {
  const char *domain;
  const char *name;
  unsigned minInputs, maxInputs;
  unsigned maxOutputs;
  bool (*infer)(NodeContext &ctx);
};

class OperatorTable {
public:
  void add(llvm::ArrayRef<Operator> rows);
  /// Null: unsupported.
  const Operator *find(llvm::StringRef domain, llvm::StringRef op) const;
  /// All families.
  static const OperatorTable &get();

private:
  llvm::StringMap<const Operator *> rows;
};

inline constexpr unsigned kAny = ~0u;

// One per family, in Operators/.
llvm::ArrayRef<Operator> elementwiseOperators();
llvm::ArrayRef<Operator> shapeOperators();
llvm::ArrayRef<Operator> movementOperators();
llvm::ArrayRef<Operator> reductionOperators();
llvm::ArrayRef<Operator> linearOperators();
llvm::ArrayRef<Operator> normalizationOperators();
llvm::ArrayRef<Operator> attentionOperators();

/// Shapes that several families share.
bool inferSameAsFirst(NodeContext &ctx);

// Fold.cpp: contents <-> attributes.
std::optional<Data> readData(mlir::Type element, llvm::StringRef raw, size_t count, DimensionTable &dims);
/// Null unless every element is a number that the type holds.
mlir::DenseElementsAttr denseFrom(const Data &data, mlir::Type element, llvm::ArrayRef<int64_t> shape,
                                  const DimensionTable &dims);
/// `value` as a number of the float type `element` (round to nearest even).
double roundTo(mlir::Type element, double value);
/// Row-major strides.
llvm::SmallVector<int64_t> stridesOf(llvm::ArrayRef<int64_t> shape);
/// out[i] = in[source(i)] over the elements of `shape`; `source` maps a
/// multi-index to a flat one.
Data gather(const Data &in, llvm::ArrayRef<int64_t> shape, llvm::function_ref<int64_t(llvm::ArrayRef<int64_t>)> source);

} // namespace skim::onnx

#endif // SKIM_LIB_IMPORT_ONNX_OPERATOR_H
