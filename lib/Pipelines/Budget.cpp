//===- Budget.cpp - what a budget is spent on -------------------------------===//

#include "Budget.h"

#include "skim/Skim/SkimOps.h"
#include "skim/Target/GPU/Tiles.h"
#include "skim/Transforms/AssignEncodings.h"
#include "llvm/ADT/DenseSet.h"

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

uint64_t skim::fillingBytes(mlir::ModuleOp module) {
  uint64_t bytes = 0;
  llvm::DenseSet<mlir::Value> counted;
  module.walk([&](mlir::Operation *op) {
    auto linear = mlir::dyn_cast<LinearOp>(op);
    auto embed = mlir::dyn_cast<EmbedOp>(op);
    auto term = op->getAttrOfType<WeightEncoding>(kEncodingAttr);
    if (!term || (!linear && !embed))
      return;
    mlir::Value weight = linear ? linear.getWeight() : embed.getTable();
    if (!counted.insert(weight).second)
      return;
    llvm::ArrayRef<int64_t> shape = mlir::cast<mlir::RankedTensorType>(weight.getType()).getShape();
    for (auto [tiles, component] : llvm::zip(tiledComponents(term, shape), getComponents(term, shape))) {
      auto canonical = static_cast<int64_t>(component.getBits() / 8);
      bytes += static_cast<uint64_t>(tiles.bytes(canonical) - canonical);
    }
  });
  return bytes;
}
