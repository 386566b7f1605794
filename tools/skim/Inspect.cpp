//===- Inspect.cpp - skim inspect: what is in a package -----------------------===//

#include "Command.h"
#include "skim/Support/MappedFile.h"
#include "skim/Support/PackageManifest.h"

#include <algorithm>
#include <cstdio>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string path;
  bool verify = false, json = false;
};
} // namespace

/// Every file of the manifest against its size and hash, and no file besides.
static Error verifyFiles(const std::string &folder, const JsonCursor &manifest) {
  Expected<JsonCursor> files = manifest.member("files");
  if (!files)
    return files.takeError();
  auto members = files->members();
  if (!members)
    return members.takeError();
  for (const auto &[name, facts] : *members) {
    if (name.empty() || name.front() == '/' || name.find("..") != std::string::npos)
      return fail("damaged manifest", manifestPath(folder), "file names inside the package", name);
    if (Error error = checkPackageFile(manifest, folder, name))
      return error;
  }
  return Error::success();
}

/// The layers that cost most of the loss, with their part of what all cost.
static void printWorst(std::vector<std::pair<double, std::string>> losses) {
  if (losses.empty())
    return;
  double total = 0;
  for (const auto &[loss, name] : losses)
    total += loss;
  std::sort(losses.rbegin(), losses.rend());
  std::printf("worst by loss:");
  for (size_t i = 0; i < std::min<size_t>(5, losses.size()); ++i)
    std::printf("%s %s %.1f%%", i ? "," : "", losses[i].second.c_str(), 100 * losses[i].first / total);
  std::printf("\n");
}

static Error inspectPackage(const Options &options) {
  Expected<Json> json = readPackageManifest(options.path);
  if (!json)
    return json.takeError();
  JsonCursor manifest(*json, manifestPath(options.path));
  if (options.verify)
    if (Error error = verifyFiles(options.path, manifest))
      return error;
  Expected<int64_t> parameters = manifest.integer("parameters");
  Expected<double> bits = manifest.number("bits");
  Expected<JsonCursor> bytes = manifest.member("bytes"), layers = manifest.member("layers");
  for (Error error : {parameters.takeError(), bits.takeError(), bytes.takeError(), layers.takeError()})
    if (error)
      return error;
  if (options.json) {
    Json result = {{"parameters", *parameters}, {"bits", *bits}, {"bytes", bytes->json()}, {"layers", layers->json()}};
    if (options.verify)
      result["verified"] = true;
    std::printf("%s\n", dumpJson(result).c_str());
    return Error::success();
  }

  auto items = layers->elements();
  if (!items)
    return items.takeError();
  std::printf("%-40s %-16s %-14s %8s %12s %10s %10s %10s\n", "layer", "format", "shape", "bits", "bytes", "error",
              "output", "loss");
  std::vector<std::pair<double, std::string>> losses;
  for (const JsonCursor &layer : *items) {
    Expected<std::string> name = layer.string("name"), format = layer.string("format");
    Expected<std::vector<int64_t>> shape = [&]() -> Expected<std::vector<int64_t>> {
      Expected<JsonCursor> member = layer.member("shape");
      return member ? member->integers(0) : Expected<std::vector<int64_t>>(member.takeError());
    }();
    Expected<double> layerBits = layer.number("bits");
    Expected<int64_t> layerBytes = layer.integer("bytes", 0);
    for (Error error :
         {name.takeError(), format.takeError(), shape.takeError(), layerBits.takeError(), layerBytes.takeError()})
      if (error)
        return error;
    std::string errors[3];
    for (auto [index, key] : {std::pair(0, "error"), {1, "output_error"}, {2, "loss_error"}}) {
      Expected<double> error = layer.numberOr(key, -1);
      char text[32] = "-";
      if (error && *error >= 0)
        std::snprintf(text, sizeof text, "%.2e", *error);
      errors[index] = text;
      if (index == 2 && error && *error > 0)
        losses.emplace_back(*error, *name);
    }
    std::string shapeText;
    for (int64_t size : *shape)
      shapeText += (shapeText.empty() ? "" : "x") + std::to_string(size);
    std::printf("%-40s %-16s %-14s %8.4f %12lld %10s %10s %10s\n", name->c_str(), shortFormat(*format).c_str(),
                shapeText.c_str(), *layerBits, static_cast<long long>(*layerBytes), errors[0].c_str(),
                errors[1].c_str(), errors[2].c_str());
  }
  printWorst(std::move(losses));
  std::printf("%lld parameters, %.4f true bits a linear weight; bytes:", static_cast<long long>(*parameters), *bits);
  auto groups = bytes->members();
  if (!groups)
    return groups.takeError();
  for (const auto &[name, count] : *groups) {
    Expected<int64_t> value = count.integer();
    if (!value)
      return value.takeError();
    std::printf(" %s %lld", name.c_str(), static_cast<long long>(*value));
  }
  std::printf("%s\n", options.verify ? "; all hashes match" : "");
  return Error::success();
}

static Error run(const Options &options) { return inspectPackage(options); }

void skim::tool::addInspect(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "inspect", "layers, bits and bytes of a model or package", options, run);
  command->add_option("path", options->path, "MODEL.onnx or OUT.skim")->required();
  command->add_flag("--verify", options->verify, "check the hash of every file of a package");
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
