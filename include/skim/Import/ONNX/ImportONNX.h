//===- ImportONNX.h - an ONNX file as onnx.node IR -------------*- C++ -*-===//
#ifndef SKIM_IMPORT_ONNX_IMPORTONNX_H
#define SKIM_IMPORT_ONNX_IMPORTONNX_H

#include "skim/Support/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>
#include <vector>

namespace mlir {
class DialectRegistry;
class MLIRContext;
} // namespace mlir

namespace skim {

struct ImportONNXOptions {
  /// Put before every file name of `skim.external`: the model's folder as seen
  /// from the folder of the IR ("" or ending in "/").
  std::string filePrefix;
  /// Constants of more bytes stay in their files as `skim.external`.
  uint64_t inlineBytes = 1024;
  /// Store the SHA-256 of every external constant (reads all weights).
  bool hash = false;
  /// Name of the function.
  std::string function = "main";
};

/// The model, or every reason why it cannot be imported (unsupported operators
/// of the whole graph, in order of first use, before anything else is looked at).
struct ImportedONNX {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::vector<Failure> failures;
  explicit operator bool() const { return static_cast<bool>(module); }
};

/// Imports the ONNX model at `path`. Tensor data over `inlineBytes` is neither
/// copied nor read (unless `hash`): it becomes `skim.external` on the file and
/// offset where it lies, inside model.onnx or in external data.
///
/// The module has one function of `onnx.node`, `onnx.none`, `arith.constant`,
/// `onnx.constant` (element types that arith does not know) and `skim.external`:
/// - arguments: the graph's inputs without initializers, in the graph's order,
///   with `onnx.name` and `onnx.dims`, the symbolic dimensions as polynomials of
///   the graph's symbols: ["batch", "past + sequence", "64"]; results likewise;
/// - `node_name`, and `scope`, the PyTorch module path, where metadata holds one;
/// - `shapes`: per result the symbolic dimensions, where one is dynamic
///   (`?3`: an unknown dimension; equal text is an equal number);
/// - `values`: the contents of an integer result (shape data), where they are
///   known symbolically though not constant: ["batch", "sequence", "9", "64"].
///
/// Opsets end here. A node has the meaning of its operator in opset 23, and
/// - Constant, Identity, Dropout and dead nodes are gone, and all that depends on
///   constants and static shapes only is folded (up to 1024 elements);
/// - what is an attribute in some opset and an operand in another is an attribute
///   if it is a constant in every model that we import: `axes` of Squeeze,
///   Unsqueeze and Reduce*, `split` of Split, `repeats` of Tile, `axis` of CumSum
///   (Clip's bounds, Slice's, Reshape's and Expand's operands stay operands);
/// - `axis`, `axes`, `perm`, `keepdims`, `epsilon`, `start`, `end` … are explicit
///   and, where a rank is known, not negative; Cast has no `to` (its result type
///   says it);
/// - Reshape's shape, where its result's is known up to one dimension, is a constant
///   of numbers, 0 for a dynamic dimension that stays in its place and at most one
///   -1; Expand's has 1 for dimensions that stay: no Shape chain leads there;
/// - Softmax and LogSoftmax before opset 13 become Flatten, Softmax, Reshape;
/// - SimplifiedLayerNormalization is domain "" whatever the file says;
///   com.microsoft operators keep their domain.
///
/// The context needs the dialects of `registerImportONNXDialects`.
ImportedONNX importONNX(const std::string &path, mlir::MLIRContext *context, const ImportONNXOptions &options = {});

/// The way from the folder of `output` ("-": the current one) to the folder of
/// the model, as `filePrefix`: "" or ending in "/".
Expected<std::string> externalPrefix(const std::string &model, const std::string &output);

/// Puts `prefix` before the file name of every `skim.external`: for a module that
/// is written elsewhere than beside its weights.
void prefixExternals(mlir::ModuleOp module, const std::string &prefix);

/// The dialects that imported IR uses.
void registerImportONNXDialects(mlir::DialectRegistry &registry);

/// Registers `--import-onnx` in skim-translate: a model file to a module.
void registerImportONNXTranslation();

} // namespace skim

#endif // SKIM_IMPORT_ONNX_IMPORTONNX_H
