//===- Budget.cpp - what a planned model will store -------------------------===//

#include "Budget.h"

#include "skim/Analysis/WeightReader.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Transforms/AssignEncodings.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace skim;

PlannedBytes skim::plannedBytes(ModuleOp module) {
  PlannedBytes result;
  llvm::MapVector<Value, WeightEncoding> weights;
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
    auto planned = op->getAttrOfType<WeightEncoding>(kEncodingAttr);
    weights[weight] = planned ? planned : getEncoding(weight.getType());
  });
  for (auto &[weight, encoding] : weights) {
    auto type = cast<RankedTensorType>(weight.getType());
    uint64_t bits = encoding ? getStoredBits(encoding, type.getShape())
                             : static_cast<uint64_t>(type.getNumElements()) * type.getElementTypeBitWidth();
    if (outside.contains(weight)) {
      result.others += bits / 8;
    } else {
      result.linears += bits / 8;
      result.linearWeights += type.getNumElements();
    }
  }
  // Norms and biases.
  module.walk([&](Operation *op) {
    if (isStored(op) && !weights.contains(op->getResult(0)) && llvm::none_of(op->getUsers(), llvm::IsaPred<AssembleOp>))
      result.others += plainBytes(op);
  });
  return result;
}

std::vector<std::string> skim::singleFormats(const std::string &method) {
  std::vector<std::string> formats;
  for (int bits = 1; bits <= 8; ++bits) {
    if (method == "kmeans") {
      formats.push_back("k" + std::to_string(bits));
      formats.push_back("k" + std::to_string(bits) + "i");
      continue;
    }
    // A symmetric grid of one bit has no value but 0 and one more.
    if (bits == 1)
      continue;
    for (const char *group : {"", "g128", "g64", "g32"})
      formats.push_back("w" + std::to_string(bits) + group);
  }
  if (method == "awq")
    for (std::string &format : formats) {
      // `scaled` has no short name.
      std::string bits = format.substr(1, 1), group = format.size() > 2 ? format.substr(3) : "";
      format = "#skim.scaled<#skim.uniform<bits = " + bits + (group.empty() ? "" : ", group = " + group) + ">>";
    }
  return formats;
}
