//===- Inspect.cpp - skim inspect: what is in an ONNX model ------------------===//

#include "Command.h"
#include "skim/Pipelines/Build.h"
#include "skim/Quantize/Statistics.h"
#include "skim/Support/Json.h"
#include "skim/Support/MappedFile.h"

#include <cstdio>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string path;
  bool verify = false, json = false;
};
} // namespace

/// A safetensors file begins with the length of its header, then `{`.
static bool looksLikeSafetensors(const std::string &path) {
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
  return file && (*file)->span().size() > 8 && (*file)->span()[8] == '{';
}

static Error inspectStatistics(const Options &options) {
  Expected<Statistics> statistics = Statistics::open(options.path);
  if (!statistics)
    return statistics.takeError();
  Json layers = Json::array();
  for (const auto &[name, layer] : statistics->layers()) {
    double energy = 0;
    for (float value : layer.outputSquaredGradient)
      energy += value;
    double trace = 0;
    for (int64_t k = 0; k < layer.columns; ++k)
      trace += layer.secondMoment[triangleIndex(layer.columns, k, k)];
    double mean = statistics->tokens() && layer.columns ? trace / double(statistics->tokens()) / layer.columns : 0;
    layers.push_back({{"name", name},
                      {"input", layer.input},
                      {"shape", {layer.rows, layer.columns}},
                      {"input_mean_square", mean},
                      {"output_gradient_energy", layer.outputSquaredGradient.empty() ? Json(nullptr) : Json(energy)}});
  }
  if (options.json) {
    std::printf("%s\n", dumpJson({{"tokens", statistics->tokens()},
                                  {"sequences", statistics->sequences()},
                                  {"model_hash", statistics->modelHash()},
                                  {"gradients", statistics->hasGradients()},
                                  {"layers", layers}})
                            .c_str());
    return Error::success();
  }
  std::printf("%-40s %-40s %-14s %12s %12s\n", "layer", "input of", "shape", "mean x^2", "gradient^2");
  for (const Json &layer : layers) {
    std::string shape = dumpJson(layer["shape"][0]) + "x" + dumpJson(layer["shape"][1]);
    char energy[32] = "-";
    if (layer["output_gradient_energy"].is_number())
      std::snprintf(energy, sizeof energy, "%.3e", layer["output_gradient_energy"].get<double>());
    std::printf("%-40s %-40s %-14s %12.4e %12s\n", layer["name"].get<std::string>().c_str(),
                layer["input"].get<std::string>().c_str(), shape.c_str(), layer["input_mean_square"].get<double>(),
                energy);
  }
  std::printf("%llu tokens in %llu sequences, %s gradients, model %s\n",
              static_cast<unsigned long long>(statistics->tokens()),
              static_cast<unsigned long long>(statistics->sequences()), statistics->hasGradients() ? "with" : "without",
              statistics->modelHash().c_str());
  return Error::success();
}

static Error run(const Options &options) {
  if (options.verify)
    return fail("nothing to verify", options.path, "a package (a folder)", "a file");
  if (looksLikeSafetensors(options.path))
    return inspectStatistics(options);
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
