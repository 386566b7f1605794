//===- Budget.cpp - what a budget is spent on -------------------------------===//

#include "Budget.h"
#include "Manifest.h"

#include "skim/Analysis/PlannedBytes.h"
#include "skim/Analysis/WeightReader.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Target/GPU/Tiles.h"
#include "skim/Transforms/AssignEncodings.h"
#include "llvm/ADT/DenseSet.h"

using namespace mlir;
using namespace skim;

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

/// Calls `visit` with every weight of the module once: its type, its layer (the first that uses it) and its term or
/// null.
static void forEachWeight(
    ModuleOp module,
    llvm::function_ref<void(Value weight, RankedTensorType type, StringRef layer, WeightEncoding term)> visit) {
  llvm::DenseSet<Value> seen;
  module.walk([&](Operation *op) {
    auto linear = dyn_cast<LinearOp>(op);
    auto embed = dyn_cast<EmbedOp>(op);
    if (!linear && !embed)
      return;
    Value weight = linear ? linear.getWeight() : embed.getTable();
    if (seen.insert(weight).second)
      visit(weight, cast<RankedTensorType>(weight.getType()),
            (linear ? linear.getLayer() : embed.getLayer()).value_or(""),
            op->getAttrOfType<WeightEncoding>(kEncodingAttr));
  });
}

uint64_t skim::fillingBytes(ModuleOp module) {
  uint64_t bytes = 0;
  forEachWeight(module, [&](Value, RankedTensorType type, StringRef, WeightEncoding term) {
    if (!term)
      return;
    for (auto [tiles, component] :
         llvm::zip(tiledComponents(term, type.getShape()), getComponents(term, type.getShape()))) {
      auto canonical = static_cast<int64_t>(component.getBits() / 8);
      bytes += static_cast<uint64_t>(tiles.bytes(canonical) - canonical);
    }
  });
  return bytes;
}

void skim::reportPlan(ModuleOp module, BuildReport &report) {
  PlannedBytes planned = plannedBytes(module);
  forEachWeight(module, [&](Value weight, RankedTensorType type, StringRef layer, WeightEncoding term) {
    uint64_t bytes = term ? getStoredBits(term, type.getShape()) / 8 : 0;
    // Without a term it stays as the model has it.
    if (Operation *source = weight.getDefiningOp(); !term && source && isStored(source))
      bytes = plainBytes(source);
    report.planned.push_back(
        {layer.str(), term ? term.getShortName() : formatName(type), type.getDimSize(0), type.getDimSize(1), bytes});
    report.parameters += type.getNumElements();
  });
  report.bits = planned.bits();
  report.bytes = planned.total();
  report.linearBytes = planned.linears;
  report.otherBytes = planned.others;
}
