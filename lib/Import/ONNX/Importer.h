//===- Importer.h - walks a wire::Model and builds IR ----------*- C++ -*-===//
#ifndef SKIM_LIB_IMPORT_ONNX_IMPORTER_H
#define SKIM_LIB_IMPORT_ONNX_IMPORTER_H

#include "Operator.h"
#include "skim/Import/ONNX/ImportONNX.h"
#include "skim/Import/ONNX/Wire.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseMap.h"

#include <deque>
#include <functional>

namespace skim::onnx {

class Importer {
public:
  Importer(wire::Model model, const std::string &path, mlir::MLIRContext *context, const ImportONNXOptions &options);

  ImportedONNX run();

private:
  /// Names visible in a graph; an inner graph sees those around it.
  struct Scope {
    Scope *parent = nullptr;
    llvm::StringMap<Info *> names;
  };

  // Before anything is built: Scan.cpp.
  bool readOpsets();
  void scan(const wire::Graph &graph);
  void reportUnsupported();
  int64_t opsetOf(llvm::StringRef domain) const;

  // Values.
  Info *newInfo(Info info);
  Info *lookup(Scope &scope, llvm::StringRef name);
  bool define(Scope &scope, llvm::StringRef name, Info *info, llvm::StringRef where);
  std::optional<Dims> declaredShape(const wire::Type &type);
  mlir::Type tensorType(const Info &info) const;
  /// A constant from its TensorProto; null after a failure.
  Info *makeConstant(const wire::Tensor &tensor, llvm::StringRef name, llvm::StringRef where);
  Info *scalarConstant(mlir::DenseElementsAttr value);
  /// The SSA value of `info`, made now if it is a constant.
  mlir::Value materialize(Info *info);

  // Graphs: Importer.cpp.
  bool importGraph(const wire::Graph &graph, Scope &scope);
  bool importNode(const wire::Node &node, Scope &scope);
  bool importConstant(const wire::Node &node, Scope &scope);
  bool importIf(const wire::Node &node, Scope &scope);
  bool convertAttributes(const wire::Node &node, NodeContext &ctx);
  void setMetadata(NodeContext &ctx, const wire::Node &node);
  bool fail(Failure failure) {
    failures.push_back(std::move(failure));
    return false;
  }

  // Older opsets: Legacy.cpp.
  bool normalizeLegacy(NodeContext &ctx);
  bool attributeToOperand(NodeContext &ctx, llvm::StringRef name, unsigned operand, mlir::Type element);
  bool expandSoftmax(NodeContext &ctx, llvm::SmallVectorImpl<Info *> &results);

  /// Runs the node through its row, emits it unless it folds, and gives its
  /// results. False after a failure.
  bool runNode(NodeContext &ctx, llvm::SmallVectorImpl<Info *> &results);
  mlir::Operation *emit(NodeContext &ctx, unsigned regions);

  wire::Model model;
  wire::ExternalData external;
  std::string path, fileName;
  const ImportONNXOptions &options;
  mlir::MLIRContext *context;
  mlir::OpBuilder builder;
  DimensionTable dims;
  std::function<Info *(mlir::DenseElementsAttr)> makeScalar;
  std::deque<Info> infos;
  std::map<std::string, int64_t> opsets;
  std::vector<Failure> failures;
  /// Constants stand at the top of the function, in order of first use.
  mlir::Block *entry = nullptr;
  mlir::Operation *lastConstant = nullptr;
  llvm::DenseMap<mlir::Attribute, mlir::Value> merged;
  mlir::Value none;
  std::string scopeName;

  struct Unsupported {
    std::string op;
    int64_t opset;
    std::string node;
    uint64_t count = 0;
    bool isFunction = false;
  };
  std::vector<Unsupported> unsupported;
  std::map<std::pair<std::string, std::string>, size_t> unsupportedIndex;
};

/// `ai.onnx` is the empty domain, and a few operators stand in the wrong one.
llvm::StringRef canonicalDomain(const wire::Node &node);
std::string describe(const wire::Node &node);

} // namespace skim::onnx

#endif // SKIM_LIB_IMPORT_ONNX_IMPORTER_H
