//===- Inspect.cpp - skim inspect: what is in an ONNX model ------------------===//

#include "Command.h"
#include "skim/Pipelines/Build.h"
#include "skim/Support/Json.h"

#include <cstdio>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string path;
  bool verify = false, json = false;
};
} // namespace

static Error run(const Options &options) {
  if (options.verify)
    return fail("nothing to verify", options.path, "a package (a folder)", "a file");
  ModelSummary summary;
  std::vector<Failure> failures;
  if (!summarizeModel(options.path, summary, failures)) {
    for (size_t i = 0; i + 1 < failures.size(); ++i)
      std::fprintf(stderr, "skim: error: %s\n", failures[i].message().c_str());
    return failures.back();
  }
  if (options.json) {
    Json layers = Json::array();
    for (const ModelSummary::Layer &layer : summary.layers)
      layers.push_back({{"name", layer.name},
                        {"onnx_name", layer.onnxName},
                        {"format", layer.format},
                        {"shape", {layer.rows, layer.columns}}});
    std::printf("%s\n", dumpJson({{"parameters", summary.parameters}, {"layers", layers}}).c_str());
    return Error::success();
  }
  std::printf("%-40s %-10s %-14s %s\n", "layer", "format", "shape", "ONNX node");
  for (const ModelSummary::Layer &layer : summary.layers)
    std::printf("%-40s %-10s %-14s %s\n", layer.name.c_str(), layer.format.c_str(),
                (std::to_string(layer.rows) + "x" + std::to_string(layer.columns)).c_str(), layer.onnxName.c_str());
  std::printf("%lld parameters\n", static_cast<long long>(summary.parameters));
  return Error::success();
}

void skim::tool::addInspect(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "inspect", "layers, bits and bytes of a model or package", options, run);
  command->add_option("path", options->path, "MODEL.onnx or OUT.skim")->required();
  command->add_flag("--verify", options->verify, "check the hash of every file of a package");
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
