//===- PlannedBytes.cpp - what a planned model will store -------------------===//

#include "skim/Analysis/PlannedBytes.h"

#include "skim/Analysis/WeightReader.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Transforms/AssignEncodings.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace skim;

PlannedBytes skim::plannedBytes(ModuleOp module) {
  PlannedBytes result;
  llvm::MapVector<Value, SmallVector<Operation *>> weights; // with their users
  llvm::DenseSet<Value> outside;
  module.walk([&](Operation *op) {
    Value weight;
    if (auto linear = dyn_cast<LinearOp>(op)) {
      weight = linear.getWeight();
      if (linear.getLayer().value_or("") == "lm_head")
        outside.insert(weight);
    } else if (auto embed = dyn_cast<EmbedOp>(op)) {
      weight = embed.getTable();
      outside.insert(weight);
    } else {
      return;
    }
    weights[weight].push_back(op);
  });
  for (auto &[weight, users] : weights) {
    auto encoding = users.front()->getAttrOfType<WeightEncoding>(kEncodingAttr);
    auto type = cast<RankedTensorType>(weight.getType());
    bool isLinear = !outside.contains(weight);
    if (isLinear)
      result.linearWeights += type.getNumElements();
    if (encoding)
      (isLinear ? result.linears : result.others) += getStoredBits(encoding, type.getShape()) / 8;
    else
      result.open.emplace_back(weight, users);
  }
  // Norms, biases and components of what arrived quantized.
  module.walk([&](Operation *op) {
    if (isStored(op) && !weights.contains(op->getResult(0)) && llvm::none_of(op->getUsers(), llvm::IsaPred<AssembleOp>))
      result.others += plainBytes(op);
  });
  return result;
}
