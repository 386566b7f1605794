//===- FuseLinears.cpp - marks linears that one kernel call computes --------===//

#include "skim/Transforms/FuseLinears.h"

#include "mlir/Analysis/SliceAnalysis.h"
#include "skim/Skim/SkimOps.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_FUSELINEARS
#include "skim/Transforms/FuseLinears.h.inc"
} // namespace skim

using namespace skim;

/// The operations of the linear's block that its weight and bias need, in block
/// order; failure if one of them depends on an operation with the input's
/// users' results (it could then not be moved before them).
static FailureOr<SetVector<Operation *>> weightSlice(LinearOp linear) {
  SetVector<Operation *> slice;
  BackwardSliceOptions options;
  options.inclusive = true;
  bool movable = true;
  options.filter = [&](Operation *op) {
    movable &= isa<ExternalOp, AssembleOp, ConvertOp>(op) || op->hasTrait<OpTrait::ConstantLike>();
    return movable;
  };
  for (Value value : {linear.getWeight(), linear.getBias()})
    if (value && value.getDefiningOp() && failed(getBackwardSlice(value, &slice, options)))
      return failure();
  if (!movable)
    return failure();
  return slice;
}

/// Numbers the linears that share an input and mode, and moves them behind the first.
static void groupLinears(Block &block) {
  llvm::MapVector<std::pair<Value, Attribute>, SmallVector<LinearOp>> byInput;
  for (LinearOp linear : block.getOps<LinearOp>())
    byInput[{linear.getInput(), linear.getModeAttr()}].push_back(linear);
  Builder builder(block.getParentOp()->getContext());
  int64_t group = 0;
  for (auto &[key, linears] : byInput) {
    SmallVector<LinearOp> members;
    for (LinearOp linear : linears) {
      FailureOr<SetVector<Operation *>> slice = weightSlice(linear);
      if (failed(slice))
        continue;
      if (!members.empty()) {
        // Weights before the first linear, linears behind the last member.
        for (Operation *op : *slice)
          if (members.front()->isBeforeInBlock(op))
            op->moveBefore(members.front());
        linear->moveAfter(members.back());
      }
      members.push_back(linear);
    }
    if (members.size() < 2)
      continue;
    for (LinearOp linear : members)
      linear->setAttr(kGroupAttr, builder.getI64IntegerAttr(group));
    ++group;
  }
}

/// True if `sum` = residual + linear can be computed by the linear in the residual's memory.
static bool isEpilogue(arith::AddFOp sum, Value linearResult, Value residual) {
  auto linear = linearResult.getDefiningOp<LinearOp>();
  if (!linear || !linear->hasOneUse() || linear->hasAttr(kGroupAttr) || linearResult == residual ||
      residual.getType() != linearResult.getType() || !residual.getDefiningOp() ||
      linear->getBlock() != sum->getBlock())
    return false;
  // A constant has no memory to add into.
  if (residual.getDefiningOp()->hasTrait<OpTrait::ConstantLike>() || isa<ExternalOp>(residual.getDefiningOp()))
    return false;
  return llvm::all_of(residual.getUsers(), [&](Operation *user) {
    return user == sum || (user->getBlock() == linear->getBlock() && user->isBeforeInBlock(linear));
  });
}

namespace {
class FuseLinearsPass : public skim::impl::FuseLinearsBase<FuseLinearsPass> {
  void runOnOperation() override {
    getOperation()->walk([](Block *block) { groupLinears(*block); });
    getOperation()->walk([](arith::AddFOp sum) {
      if (isEpilogue(sum, sum.getRhs(), sum.getLhs()) || isEpilogue(sum, sum.getLhs(), sum.getRhs()))
        sum->setAttr(kEpilogueAttr, UnitAttr::get(sum.getContext()));
    });
  }
};
} // namespace
