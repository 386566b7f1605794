//===- StepGenerator.h - walks a model function and plans its step -*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_CPU_STEP_STEPGENERATOR_H
#define SKIM_LIB_TARGET_CPU_STEP_STEPGENERATOR_H

#include "Plan.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Target/CPU/Linear.h"
#include "skim/Target/CPU/Step.h"
#include "skim/Target/Common/ModelValues.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringSet.h"

namespace skim::step {

/// A weight as a kernel takes it.
struct Weight {
  WeightEncoding term;
  mlir::RankedTensorType type;
  llvm::SmallVector<int64_t> indices; // in ProgramInfo.weights
};

class StepGenerator {
public:
  StepGenerator(mlir::func::FuncOp forward, const TargetInfo &target) : forward(forward), target(target) {}
  Expected<ProgramInfo> run(mlir::ModuleOp code);

private:
  // Signature.
  Error readSignature();
  Error expectArgument(mlir::Operation *op, mlir::Value value, unsigned argument, const char *name);

  // Operations, in program order: each adds tasks and the views of its results.
  Error lower(mlir::Operation *op);
  Error lowerLinear(LinearOp op);
  Error lowerEmbed(EmbedOp op);
  Error lowerNorm(lm::RMSNormOp op);
  Error lowerRotaryTable(lm::RotaryTableOp op);
  Error lowerRotary(lm::RotaryOp op);
  Error lowerCacheAppend(lm::CacheAppendOp op);
  Error lowerAttention(lm::AttentionOp op);
  Error lowerGatherRows(lm::GatherRowsOp op);
  Error lowerElementwise(mlir::Operation *op);
  /// Operations whose result is columns of their operand's memory.
  Error lowerAlias(mlir::Operation *op, mlir::Value source, int64_t column);
  Error lowerReturn(mlir::func::ReturnOp op);

  // Elementwise trees.
  /// True if the operation is computed as part of its only user.
  bool isInlined(mlir::Operation *op);
  Error buildExpression(mlir::Value value, bool root, Expression &expression, llvm::SmallVectorImpl<View> &inputs,
                        llvm::SmallVectorImpl<mlir::Value> &leaves);

  // Values.
  Expected<View> viewOf(mlir::Operation *op, mlir::Value value);
  /// Memory for a result: its own rows, or the logits where it is returned as such.
  View newResult(mlir::Value value, bool gathered);
  void bind(mlir::Value value, View view);
  /// The view, or that of a contiguous copy which a task makes.
  View contiguous(View view);
  void addCopy(View from, View to);
  Rows rows(Emitter &e, const StepValues &s, const View &view);
  Val rowCount(const StepValues &s, const View &view) { return view.gathered ? s.numRows : s.rows; }

  // Weights.
  /// `layout`: of the packed codes, as the kernel reads them.
  Expected<Weight> resolveWeight(mlir::Operation *user, mlir::Value value, llvm::StringRef layer,
                                 LayoutAttr layout = {});
  /// A vector of parameters, read as f32: its index in ProgramInfo.weights.
  Expected<int64_t> resolveVector(mlir::Operation *user, mlir::Value value, llvm::StringRef layer);
  int64_t addWeight(ProgramWeight weight);
  Val weightPointer(Emitter &e, const StepValues &s, int64_t index);

  Error emit(mlir::ModuleOp code);

  mlir::func::FuncOp forward;
  TargetInfo target;
  Plan plan;
  ProgramInfo info;
  llvm::DenseMap<mlir::Value, View> views;
  /// Cache values → number of the cache.
  llvm::DenseMap<mlir::Value, unsigned> caches;
  llvm::SmallVector<CacheTensor> cacheTensors;
  llvm::SmallVector<int> cacheBuffers;
  llvm::DenseSet<mlir::Operation *> done;
  /// By the constant (without its name) and the type that is read.
  llvm::DenseMap<std::pair<mlir::Attribute, mlir::Type>, int64_t> weightIndices;
  llvm::StringSet<> weightNames;
  mlir::Value logits;
  int logitsBuffer = -1, sharedBuffer = -1;
  int64_t sharedFixed = 0, sharedPerRow = 0, perThread = 0;
};

} // namespace skim::step

#endif // SKIM_LIB_TARGET_CPU_STEP_STEPGENERATOR_H
