//===- DifferentiableOpInterface.h - reverse mode, op by op -----*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_DIFFERENTIABLEOPINTERFACE_H
#define SKIM_TRANSFORMS_DIFFERENTIABLEOPINTERFACE_H

#include "mlir/IR/IRMapping.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/OpDefinition.h"
#include "llvm/ADT/DenseSet.h"

namespace skim {

/// Reverse mode over the operations of one block. The values of the block that
/// is differentiated are called originals; their values and adjoints are computed at the
/// builder, elsewhere. Adjoints have their originals' types.
class Adjoints {
public:
  /// `values` maps whatever the block reads from outside, its arguments included.
  Adjoints(mlir::ImplicitLocOpBuilder &builder, mlir::IRMapping &values) : b(builder), values(values) {}

  /// Where operations are added, at the location of the one that is differentiated.
  mlir::ImplicitLocOpBuilder &b;

  //===--- for models -----------------------------------------------------===//

  /// Whether the adjoint of an original is wanted. Adding to others does nothing.
  bool isActive(mlir::Value original) const { return active.contains(original); }
  /// What an original is at the builder.
  mlir::Value value(mlir::Value original) const { return values.lookupOrDefault(original); }
  llvm::SmallVector<mlir::OpFoldResult> value(llvm::ArrayRef<mlir::OpFoldResult> originals) const;
  const mlir::IRMapping &getValues() const { return values; }
  /// The adjoint of a result; null where nothing depends on it.
  mlir::Value get(mlir::Value original) const { return adjoints.lookup(original); }
  /// Adds to an operand's adjoint; once for each operand. `adjoint` is of its
  /// type, but for static sizes.
  void add(mlir::Value original, mlir::Value adjoint);
  /// Says that the results do not depend on the operand's value.
  void addZero(mlir::Value original) { ++added[original]; }
  /// What emitPrimal kept of the operation.
  llvm::ArrayRef<mlir::Value> saved(mlir::Operation *op) const;
  /// Clones an original operation and maps its results.
  void clone(mlir::Operation *op) { b.clone(*op, values); }
  /// Maps a result to what was computed for it, of its type but for static sizes.
  void map(mlir::Value original, mlir::Value value);

  //===--- for who differentiates -----------------------------------------===//

  /// Decides what is active: what depends on `inputs` (values of any kind) and
  /// `outputs` depend on, through values of float type.
  void analyze(mlir::Block &block, mlir::ValueRange inputs, mlir::ValueRange outputs);
  /// Computes all operations of the block but the terminator.
  void emitPrimal(mlir::Block &block);
  /// Visits them backwards. Outputs' adjoints have been added before. Fails,
  /// having reported it, at an operation without a derivative.
  llvm::LogicalResult emitAdjoints(mlir::Block &block);

private:
  /// The operands and what the operation's regions read from around it.
  llvm::SmallVector<mlir::Value> readBy(mlir::Operation *op) const;

  mlir::IRMapping &values;
  llvm::DenseSet<mlir::Value> active;
  llvm::DenseMap<mlir::Value, mlir::Value> adjoints;
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<mlir::Value>> kept;
  /// How often the current model has added to each value.
  llvm::DenseMap<mlir::Value, unsigned> added;
};

/// Whether adjoints of such values exist: floats and plain tensors of them.
bool isDifferentiable(mlir::Type type);

} // namespace skim

#include "skim/Transforms/DifferentiableOpInterface.h.inc"

#endif // SKIM_TRANSFORMS_DIFFERENTIABLEOPINTERFACE_H
