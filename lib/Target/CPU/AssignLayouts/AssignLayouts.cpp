//===- AssignLayouts.cpp - decides how a target's weights lie ---------------===//

#include "skim/Target/CPU/AssignLayouts.h"

#include "skim/Skim/SkimOps.h"
#include "skim/Target/CPU/Layout.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_ASSIGNLAYOUTS
#include "skim/Target/CPU/AssignLayouts.h.inc"
} // namespace skim

using namespace skim;

/// What two weights have in common if a package stores them once: the place of
/// their first component, else the value itself.
using Storage = std::pair<const void *, int64_t>;
static Storage storageOf(Value weight) {
  auto assemble = weight.getDefiningOp<AssembleOp>();
  auto external =
      assemble && !assemble.getComponents().empty() ? assemble.getComponents()[0].getDefiningOp<ExternalOp>() : nullptr;
  if (!external)
    return {weight.getAsOpaquePointer(), -1};
  return {external.getFileAttr().getAsOpaquePointer(), static_cast<int64_t>(external.getOffset())};
}

namespace {
class AssignLayoutsPass : public skim::impl::AssignLayoutsBase<AssignLayoutsPass> {
public:
  using AssignLayoutsBase::AssignLayoutsBase;

  void runOnOperation() override {
    Expected<TargetInfo> parsed = parseCPUTarget(target.getValue());
    if (!parsed) {
      getOperation().emitError() << parsed.message();
      return signalPassFailure();
    }
    if (layout != "auto" && layout != "rows" && layout != "turned") {
      getOperation().emitError() << "option 'layout': expected auto, rows or turned, got '" << layout << "'";
      return signalPassFailure();
    }
    llvm::MapVector<Storage, SmallVector<LinearOp>> linears;
    llvm::DenseSet<Storage> tables;
    getOperation().walk([&](Operation *op) {
      if (auto linear = dyn_cast<LinearOp>(op))
        linears[storageOf(linear.getWeight())].push_back(linear);
      else if (auto embed = dyn_cast<EmbedOp>(op))
        tables.insert(storageOf(embed.getTable()));
    });
    for (auto &[storage, users] : linears) {
      LayoutAttr common = tables.contains(storage) ? LayoutAttr() : layoutOf(users.front(), *parsed);
      if (llvm::any_of(users, [&](LinearOp user) { return layoutOf(user, *parsed) != common; }))
        common = {};
      for (LinearOp user : users) {
        if (common)
          user->setAttr(kLayoutAttr, common);
        else
          user->removeAttr(kLayoutAttr);
      }
    }
  }

private:
  LayoutAttr layoutOf(LinearOp linear, const TargetInfo &info) {
    auto type = cast<RankedTensorType>(linear.getWeight().getType());
    WeightEncoding term = getEncoding(type);
    StringRef mode = linear.getMode().value_or("f32");
    if (!term || layout == "rows")
      return {};
    if (layout == "auto")
      return chooseLayout(info, term, type.getShape(), mode);
    LayoutAttr turned = turnedLayout(&getContext(), info, mode);
    bool turns = llvm::any_of(turnedCodes(term, type.getShape(), turned),
                              [](const TurnedCodes &codes) { return codes.block != 0; });
    return turns ? turned : LayoutAttr();
  }
};
} // namespace
