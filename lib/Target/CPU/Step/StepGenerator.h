//===- StepGenerator.h - walks a model function and plans its step -*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_CPU_STEP_STEPGENERATOR_H
#define SKIM_LIB_TARGET_CPU_STEP_STEPGENERATOR_H

#include "Plan.h"
#include "skim/Target/CPU/Linear.h"
#include "skim/Target/CPU/Step.h"

namespace skim::step {

/// A weight as a kernel takes it.
struct Weight {
  WeightEncoding term;
  mlir::RankedTensorType type;
  llvm::SmallVector<int64_t> indices; // in ProgramInfo.weights
};

/// Plans the tasks of a step, and emits its code.
class StepGenerator : public ModelWalk {
public:
  StepGenerator(mlir::func::FuncOp forward, const TargetInfo &target) : ModelWalk(forward), target(target) {}
  Expected<ProgramInfo> run(mlir::ModuleOp code);

private:
  void begin() override;
  Error lowerLinear(LinearOp op) override;
  Error lowerEmbed(EmbedOp op) override;
  Error lowerNorm(lm::RMSNormOp op) override;
  Error lowerRotaryTable(lm::RotaryTableOp op) override;
  Error lowerRotary(lm::RotaryOp op) override;
  Error lowerAppend(lm::CacheAppendOp op, unsigned cache, const View &x, lm::RotaryOp rotary) override;
  Error lowerAttention(lm::AttentionOp op, const View &query, unsigned keys, unsigned values) override;
  Error lowerGatherRows(lm::GatherRowsOp op, const View &x) override;
  Error lowerElementwise(mlir::Operation *op, const Expression &expression, llvm::ArrayRef<View> inputs) override;
  bool isElementwise(llvm::StringRef operation) const override { return step::isElementwise(operation); }
  View addRows(int64_t channels, bool gathered) override { return plan.addRows(channels, gathered); }
  /// A task that copies.
  void addCopy(const View &from, const View &to) override;

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

  TargetInfo target;
  Plan plan;
  ProgramInfo info;
  llvm::SmallVector<int> cacheBuffers;
  TensorNumbers numbers;
  int sharedBuffer = -1;
  int64_t sharedFixed = 0, sharedPerRow = 0, perThread = 0;
};

} // namespace skim::step

#endif // SKIM_LIB_TARGET_CPU_STEP_STEPGENERATOR_H
