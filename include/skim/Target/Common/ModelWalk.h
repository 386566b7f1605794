//===- ModelWalk.h - walks a model function, for any kind of step -*- C++ -*-===//
//
// What the generators of steps have in common: the signature of `@forward`
// (tokens, start, count, rows, caches → logits, caches), which operation is what,
// where values live, and the trees of elementwise operations. A generator says
// what each operation becomes.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_COMMON_MODELWALK_H
#define SKIM_TARGET_COMMON_MODELWALK_H

#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Target/Common/StepTensors.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

#include <string>
#include <vector>

namespace skim {

/// Columns of rows of f32 in one of a step's buffers.
struct View {
  int buffer = -1;
  int64_t column = 0, stride = 0, channels = 0;
  /// One row for each wanted row rather than each token.
  bool gathered = false;
  bool contiguous() const { return stride == channels; }
};

/// Where a cache tensor lies inside a sequence's block: `prefix` bytes for each
/// token of capacity before it; then [heads, capacity, size] f32.
struct CacheTensor {
  int64_t prefix, heads, size;
};

/// An expression over rows of equal width: leaves are inputs, splat constants.
struct Expression {
  enum Kind { Input, Constant, Apply } kind = Input;
  unsigned input = 0;               // Input
  double constant = 0;              // Constant
  std::string operation;            // Apply: `arith.addf`, `lm.silu`, `math.exp`, …
  std::vector<Expression> operands; // Apply
  /// Letters, digits and underscores that name the expression; equal texts compute the same.
  std::string spell() const;
};

/// The channels of an activation.
inline int64_t channelsOf(mlir::Value value) {
  return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape().back();
}

class ModelWalk {
public:
  virtual ~ModelWalk() = default;

protected:
  explicit ModelWalk(mlir::func::FuncOp forward) : forward(forward) {}

  /// Reads the signature; then begin(), all operations in program order.
  Error walk();

  // What a generator does. Each operation adds work and the views of its results.
  /// After the signature was read: sets `logitsBuffer`.
  virtual void begin() = 0;
  virtual Error lowerLinear(LinearOp op) = 0;
  virtual Error lowerEmbed(EmbedOp op) = 0;
  virtual Error lowerNorm(lm::RMSNormOp op) = 0;
  virtual Error lowerRotaryTable(lm::RotaryTableOp op) = 0;
  virtual Error lowerRotary(lm::RotaryOp op) = 0;
  /// `op` appends rows `x` to a cache, turned by `rotary` on the way if there is one.
  virtual Error lowerAppend(lm::CacheAppendOp op, unsigned cache, const View &x, lm::RotaryOp rotary) = 0;
  virtual Error lowerAttention(lm::AttentionOp op, const View &query, unsigned keys, unsigned values) = 0;
  virtual Error lowerGatherRows(lm::GatherRowsOp op, const View &x) = 0;
  virtual Error lowerElementwise(mlir::Operation *op, const Expression &expression, llvm::ArrayRef<View> inputs) = 0;
  /// True if expressions may hold the operation.
  virtual bool isElementwise(llvm::StringRef operation) const = 0;
  /// Rows in a buffer of their own.
  virtual View addRows(int64_t channels, bool gathered) = 0;
  virtual void addCopy(const View &from, const View &to) = 0;
  /// Before the end.
  virtual void finish() {}

  // What it may ask.
  Expected<View> viewOf(mlir::Operation *op, mlir::Value value);
  /// Memory for a result: its own rows, or the logits where it is returned as such.
  View newResult(mlir::Value value, bool gathered);
  void bind(mlir::Value value, const View &view);
  /// The view, or that of a contiguous copy.
  View contiguous(const View &view);
  Error expectArgument(mlir::Operation *op, mlir::Value value, unsigned argument, const char *name);
  /// The rotary whose only use is an append: it is computed into the cache.
  static lm::RotaryOp fusedRotary(mlir::Value value);
  /// True if the operation is computed as part of its only user.
  bool isInlined(mlir::Operation *op) const;
  /// The linears that one call computes together with this one: those of its group.
  llvm::SmallVector<LinearOp> callOf(LinearOp op) const;
  /// The sum that the linear's only use is, if it can be made in the memory of its other operand, the residual:
  /// nothing else lives there, and what else reads it is done. The residual's view becomes the sum's.
  mlir::Operation *takeResidual(LinearOp op, View &residual);
  /// Whether the operation's work, asked for before, has been added.
  virtual bool isDone(mlir::Operation *op) const { return done.contains(op) && !isInlined(op); }

  mlir::func::FuncOp forward;
  int logitsBuffer = -1;
  mlir::Value logits;
  std::vector<ProgramCache> programCaches;
  std::vector<CacheTensor> cacheTensors;
  int64_t vocabulary = 0;
  int64_t context = 0; ///< the function's `skim.context`, or 0
  llvm::DenseSet<mlir::Operation *> done;

private:
  Error readSignature();
  Error lower(mlir::Operation *op);
  Error lowerCacheAppend(lm::CacheAppendOp op);
  Error lowerCachedAttention(lm::AttentionOp op);
  Error lowerTree(mlir::Operation *op);
  Error buildExpression(mlir::Value value, bool root, Expression &expression, llvm::SmallVectorImpl<View> &inputs,
                        llvm::SmallVectorImpl<mlir::Value> &leaves);
  /// Operations whose result is columns of their operand's memory.
  Error lowerAlias(mlir::Operation *op, mlir::Value source, int64_t column);
  Error lowerReturn(mlir::func::ReturnOp op);
  Expected<unsigned> cacheOf(mlir::Operation *op, mlir::Value value) const;

  llvm::DenseMap<mlir::Value, View> views;
  llvm::DenseMap<int, int64_t> valuesIn; // by buffer
  /// Cache values → number of the cache.
  llvm::DenseMap<mlir::Value, unsigned> caches;
};

} // namespace skim

#endif // SKIM_TARGET_COMMON_MODELWALK_H
