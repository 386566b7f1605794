//===- Scan.cpp - all that is unsupported, before any weight is touched -----===//
#include "Importer.h"

using namespace mlir;
using namespace skim;
using namespace skim::onnx;

/// Versions of ai.onnx whose operators the table and Legacy.cpp know.
static constexpr int64_t kOldest = 7, kNewest = 25;

StringRef skim::onnx::canonicalDomain(const wire::Node &node) {
  // onnxruntime's own normalization stands in "" as well as in com.microsoft.
  if (node.domain == "ai.onnx" || node.op == "SimplifiedLayerNormalization")
    return "";
  return node.domain;
}

std::string skim::onnx::describe(const wire::Node &node) {
  if (!node.name.empty())
    return "node '" + std::string(node.name) + "'";
  for (std::string_view output : node.outputs)
    if (!output.empty())
      return "node of '" + std::string(output) + "'";
  return "unnamed node";
}

int64_t Importer::opsetOf(StringRef domain) const {
  auto it = opsets.find(domain.str());
  return it == opsets.end() ? 0 : it->second;
}

bool Importer::readOpsets() {
  for (const wire::OpsetImport &import : model.opsets)
    opsets[import.domain == "ai.onnx" ? "" : std::string(import.domain)] = import.version;
  if (!opsets.count(""))
    return fail(skim::fail("unsupported ONNX model", path, "an opset of ai.onnx", "none"));
  int64_t opset = opsets[""];
  if (opset < kOldest || opset > kNewest)
    return fail(skim::fail("unsupported ONNX model", path,
                           "opset " + std::to_string(kOldest) + " to " + std::to_string(kNewest) + " of ai.onnx",
                           "opset " + std::to_string(opset), "export again with a supported opset"));
  if (model.graph.sparseInitializers)
    return fail(skim::fail("unsupported ONNX model", path, "dense initializers",
                           std::to_string(model.graph.sparseInitializers) + " sparse ones"));
  return true;
}

void Importer::scan(const wire::Graph &graph) {
  for (const wire::Node &node : graph.nodes) {
    StringRef domain = canonicalDomain(node);
    bool driver = domain.empty() && (node.op == "Constant" || node.op == "If");
    if (!driver && !OperatorTable::get().find(domain, node.op)) {
      auto [it, isNew] = unsupportedIndex.try_emplace({domain.str(), std::string(node.op)}, unsupported.size());
      if (isNew) {
        bool isFunction = llvm::any_of(model.functions, [&](const wire::Function &function) {
          return function.name == node.op && function.domain == node.domain;
        });
        std::string name = domain.empty() ? "ai.onnx" : domain.str();
        unsupported.push_back({name + "::" + std::string(node.op), opsetOf(domain), describe(node), 0, isFunction});
      }
      ++unsupported[it->second].count;
    }
    for (const wire::Attribute &attribute : node.attributes)
      for (const wire::Graph &inner : attribute.graphs)
        scan(inner);
  }
}

void Importer::reportUnsupported() {
  for (const Unsupported &entry : unsupported) {
    std::string times = std::to_string(entry.count) + (entry.count == 1 ? " occurrence" : " occurrences");
    fail(skim::fail("unsupported " + entry.op + " (opset " + std::to_string(entry.opset) + ")",
                    entry.node + ", " + times, {}, {},
                    entry.isFunction ? "a function of the model: inline functions before import" : ""));
  }
}
