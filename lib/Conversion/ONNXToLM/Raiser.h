//===- Raiser.h - from an ONNX graph to @forward ----------------*- C++ -*-===//
#ifndef SKIM_LIB_CONVERSION_ONNXTOLM_RAISER_H
#define SKIM_LIB_CONVERSION_ONNXTOLM_RAISER_H

#include "Graph.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "skim/LM/LMOps.h"
#include "llvm/ADT/MapVector.h"

#include <map>

namespace skim::raise {

/// What an attention's mask was proven to be.
struct Mask {
  double scale = 1;
  std::optional<double> softcap;
  std::optional<int64_t> window;
};

/// Heads [b, h, s, d] as channels h·D + d of an activation, maybe rotated.
struct Heads {
  mlir::Value value;
  double coefficient = 1;
  mlir::Value cosine, sine;
  bool interleaved = false;
};

/// Builds @forward out of the graph, one node after the other in the graph's
/// order. A node whose result is an activation [batch, length, channels] is
/// recognised by the expression of its element; all others are looked through.
class Raiser {
public:
  Raiser(mlir::ModuleOp module, mlir::func::FuncOp source, Constants &constants, int64_t context);

  /// Replaces the graph by @forward; failure with every reason emitted.
  mlir::LogicalResult run();

private:
  // ONNXToLM.cpp: the interface and the order of things.
  void dispatch(onnx::NodeOp op);
  mlir::LogicalResult finish();
  mlir::LogicalResult finishLogits(mlir::Value logits, mlir::Value &result);
  void finishPresent(mlir::Value present, Input output, mlir::Location loc);
  void sortBody();
  void setAttributes();
  mlir::LogicalResult flushReports();
  /// Notes a reason; equal reasons of one operator become one line.
  void report(mlir::Operation *op, std::string expected, std::string got);
  /// Reports what keeps `value` from being an activation.
  void reportCause(mlir::Value value, std::string expected);

  /// The activation that `value` is; after a report a stand-in, so that the rest is still looked at.
  mlir::Value require(mlir::Value value, int64_t channels);
  /// The activation whose element [b, s, c] is `e` (c a variable over all of its channels), or null.
  mlir::Value activationAt(Expr e, Expr b, Expr s, Expr c);
  /// Whether an element is one of the new function's values.
  bool isActivation(Expr load);
  mlir::RankedTensorType activationType(int64_t channels);

  // Elementwise.cpp: norms, activations, residuals.
  void raiseElementwise(onnx::NodeOp op);
  void raiseNorm(onnx::NodeOp op);
  /// Whether `value` is a norm in small operators; if so it is raised.
  bool matchNorm(mlir::Value value, mlir::Location loc);
  /// Raises `value`, whose element at `variables` is the normalized `load` (an element of an
  /// activation) times weight + offset: over all channels, or over those of a head.
  bool buildNorm(mlir::Value value, llvm::ArrayRef<Expr> variables, Expr load, Expr weight, double offset,
                 double epsilon, mlir::Location loc);
  mlir::Value buildAdd(mlir::Value a, mlir::Value b, mlir::Location loc);

  // Weights.cpp: linears, embeddings, their weights and names.
  bool raiseLinear(onnx::NodeOp op);
  void raiseMatMulNBits(onnx::NodeOp op);
  void raiseEmbedding(onnx::NodeOp op);
  void raiseQuantizedEmbedding(onnx::NodeOp op);
  /// The tensor of `type` whose element at `position` (one variable each) is `e`; null if `e` is
  /// no element of a constant with constant strides.
  mlir::Value materialize(Expr e, llvm::ArrayRef<Expr> position, mlir::RankedTensorType type);
  mlir::Value external(llvm::StringRef file, int64_t offset, llvm::ArrayRef<int64_t> strides, mlir::StringAttr name,
                       mlir::RankedTensorType type);
  mlir::Value assembleBlocks(onnx::NodeOp op, mlir::Value codes, mlir::Value scales, mlir::Value zeros, int64_t n,
                             int64_t k, int64_t bits, int64_t block);
  mlir::Value buildLinear(mlir::Value input, mlir::Value weight, mlir::Value bias, onnx::NodeOp op,
                          llvm::StringRef weightName);
  /// Columns [begin, begin + count) of a linear's result, by taking those rows of its weight.
  mlir::Value sliceLinear(mlir::Value linear, int64_t begin, int64_t count);
  mlir::Value sliceRows(mlir::Value weight, int64_t begin, int64_t count);
  void nameLayers();
  void tieEmbedding();

  // Attention.cpp, Mask.cpp, Rotary.cpp.
  void raiseSoftmaxAttention(onnx::NodeOp op);
  void raiseAttentionNode(onnx::NodeOp op);
  void raiseGroupQueryAttention(onnx::NodeOp op);
  struct AttentionMatch {
    onnx::NodeOp op;
    int64_t heads, size;
    Expr b, h, i, j, d;
    /// Elements at [b, h, i, d] and twice [b, h, j, d].
    Expr query, key, value;
    Mask mask;
  };
  void buildAttention(const AttentionMatch &match);
  struct CacheMatch {
    int64_t layer = -1, heads = 0;
    double coefficient = 1;
    /// Element of what is appended at [b, g, s, d], and of the whole at [b, g, j, d].
    Expr g, s, added, whole;
  };
  std::optional<CacheMatch> matchCache(const AttentionMatch &match, Expr e, Role role);
  std::optional<Mask> proveMask(onnx::NodeOp op, Expr scores, Expr product, Expr i, Expr j);
  std::optional<Heads> matchHeads(onnx::NodeOp op, Expr e, Expr b, Expr h, Expr s, Expr d, int64_t heads, int64_t size,
                                  llvm::StringRef what);
  std::optional<Heads> matchRotary(onnx::NodeOp op, Expr e, Expr b, Expr h, Expr s, Expr d, int64_t heads, int64_t size,
                                   int64_t half, bool interleaved, mlir::Value input, int64_t offset, std::string &why);
  bool rotaryTable(Expr cosine, Expr sine, Expr b, Expr s, Expr column, int64_t half, Heads &heads, std::string &why);
  bool frequenciesOfTable(mlir::Value cosine, mlir::Value sine, int64_t half, std::vector<float> &frequencies,
                          double &scale, std::string &why);
  bool isPosition(Expr e, Expr b, Expr s);
  mlir::Value buildRotary(const Heads &heads, int64_t count, mlir::Location loc);
  std::pair<mlir::Value, mlir::Value> tables(llvm::ArrayRef<float> frequencies, double scale);

  struct Cache {
    mlir::BlockArgument key, value;
    mlir::Value newKey, newValue;
    /// Elements at [b, g, j, d] of the graph's own key and value tensors.
    Expr b = nullptr, g = nullptr, j = nullptr, d = nullptr;
    Expr keyElement = nullptr, valueElement = nullptr;
    /// Results of a fused node.
    mlir::Value presentKey, presentValue;
  };
  Cache &cacheOf(int64_t layer, int64_t heads, int64_t size);

  struct LinearInfo {
    std::string scope, weightName;
    bool sliced = false;
  };

  mlir::ModuleOp module;
  mlir::func::FuncOp source, forward;
  mlir::OpBuilder builder;
  Constants &constants;
  Graph graph;
  Expressions &x;
  int64_t context, tableRows = 0;
  mlir::Value tokens, start, count, rows, positionsValue;
  std::map<int64_t, Cache> caches;
  int64_t attentions = 0, heads = 0;
  std::map<std::string, mlir::Value> externals;
  std::map<std::vector<void *>, mlir::Value> assembled;
  std::map<std::tuple<void *, int64_t, int64_t>, mlir::Value> slices;
  std::map<std::pair<std::vector<float>, double>, std::pair<mlir::Value, mlir::Value>> tableCache;
  llvm::DenseMap<mlir::Operation *, LinearInfo> linears;
  llvm::MapVector<mlir::Operation *, llvm::SmallVector<std::string, 1>> reports;
};

} // namespace skim::raise

#endif // SKIM_LIB_CONVERSION_ONNXTOLM_RAISER_H
