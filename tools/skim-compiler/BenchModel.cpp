//===- BenchModel.cpp - skim bench --model: what a GPU will take --------------===//
//
// Kernels are compiled for the target, counted in the simulator and timed by the
// performance model (docs/gpu.md). No GPU is needed and none is looked for.
//
//===----------------------------------------------------------------------===//

#include "BenchModel.h"

#include "skim/Import/ONNX/ImportONNX.h"
#include "skim/InitAll.h"
#include "skim/Pipelines/PackageModel.h"
#include "skim/Pipelines/Phases.h"
#include "skim/Support/Json.h"
#include "skim/Target/GPU/LaunchModel.h"

#include "mlir/Pass/PassManager.h"

#include <cstdio>

using namespace mlir;
using namespace skim;
using namespace skim::tool;
using skim::device::DeviceFigures;
using skim::device::ModelledLaunch;
using skim::device::ModelledLaunches;

namespace {
/// One line of the report with the launches that it is made of.
struct Modelled {
  Json facts;        ///< what was modelled
  std::string title; ///< the same for people
  int64_t rows;
  enum { Kernel, Decode, Prefill } kind;
  ModelledLaunches launches;
};
} // namespace

static Json launchJson(const ModelledLaunch &launch, const DeviceFigures &device) {
  const device::LaunchCosts &costs = launch.costs;
  const device::Prediction &time = launch.prediction;
  Json resources = Json::object();
  for (size_t i = 0; i < time.resources.size(); ++i)
    resources[std::string(spell(static_cast<device::Bound>(i)))] = time.resources[i];
  return {{"kernel", costs.kernel},
          {"count", launch.count},
          {"blocks", costs.blocks},
          {"threads", costs.threads},
          {"registers", costs.registers},
          {"registers_estimated", !costs.exactRegisters},
          {"shared_bytes", costs.shared},
          {"blocks_per_multiprocessor", time.blocksPerMultiprocessor},
          {"waves", time.waves},
          {"bytes", costs.memoryBytes},
          {"l2_bytes", costs.l2Bytes},
          {"requests", costs.requests},
          {"barriers", costs.barriers},
          {"shared_wavefronts", costs.sharedClocks},
          {"warp_instructions", costs.pipes.issued},
          {"bytes_in_flight_a_block", costs.loadsInFlight},
          {"block_microseconds", costs.blockClocks / device.clock * 1e6},
          {"microseconds", time.microseconds},
          {"kernel_microseconds", time.kernel},
          {"exposed_microseconds", time.exposed},
          {"bound", std::string(spell(time.bound))},
          {"fraction_of_bandwidth", time.share},
          {"resources", std::move(resources)}};
}

static void printLaunches(const ModelledLaunches &launches) {
  std::printf("  %-44s %5s %7s %5s %10s %8s %-11s %9s\n", "launch", "times", "blocks", "regs", "bytes", "us", "bound",
              "bandwidth");
  for (const ModelledLaunch &launch : launches.launches) {
    const device::LaunchCosts &costs = launch.costs;
    std::printf("  %-44s %5lld %7lld %4lld%s %10.0f %8.2f %-11s %8.0f%%\n", costs.kernel.c_str(),
                static_cast<long long>(launch.count), static_cast<long long>(costs.blocks),
                static_cast<long long>(costs.registers), costs.exactRegisters ? " " : "~", costs.memoryBytes,
                launch.prediction.microseconds, std::string(spell(launch.prediction.bound)).c_str(),
                100 * launch.prediction.share);
  }
}

static void report(const std::vector<Modelled> &all, const DeviceFigures &device, bool json) {
  Json kinds[] = {Json::array(), Json::array(), Json::array()};
  if (!json)
    std::printf("%s (%s), predicted, nothing measured; reads %.0f GB/s\n", device.name.c_str(), device.chip.c_str(),
                device.readBandwidth() * 1e-9);
  for (const Modelled &one : all) {
    double share = one.launches.share(device), time = one.launches.microseconds;
    double perSecond = static_cast<double>(one.rows) * 1e6 / time;
    if (!json) {
      std::printf("%s\n", one.title.c_str());
      printLaunches(one.launches);
      std::printf("  all: %.2f us, %.1f MB, %.0f%% of bandwidth", time, one.launches.memoryBytes * 1e-6, 100 * share);
      if (one.kind != Modelled::Kernel)
        std::printf(", %.1f tokens/s; compiled in %.1f s", perSecond, one.launches.seconds);
      std::printf("\n");
      continue;
    }
    Json entry = one.facts, launches = Json::array();
    for (const ModelledLaunch &launch : one.launches.launches)
      launches.push_back(launchJson(launch, device));
    entry.update({{"microseconds", time},
                  {"bytes", one.launches.memoryBytes},
                  {"gbps", one.launches.memoryBytes / time * 1e-3},
                  {"fraction_of_bandwidth", share},
                  {"compile_seconds", one.launches.seconds},
                  {"launches", std::move(launches)}});
    if (one.kind != Modelled::Kernel)
      entry.update({{"tokens_per_s", perSecond}});
    kinds[one.kind].push_back(std::move(entry));
  }
  if (!json)
    return;
  const auto &[kernels, decode, prefill] = kinds;
  Json result = {{"device", device.name},
                 {"chip", device.chip},
                 {"predicted", true},
                 {"read_bandwidth_gbps", device.readBandwidth() * 1e-9},
                 {"kernels", kernels},
                 {"decode", decode},
                 {"prefill", prefill},
                 {"prefill_tokens_per_s", nullptr},
                 {"decode_tokens_per_s", nullptr},
                 {"bytes_per_token", nullptr}};
  if (!decode.empty()) {
    result["decode_tokens_per_s"] = decode[0]["tokens_per_s"];
    result["bytes_per_token"] = decode[0]["bytes"];
  }
  if (!prefill.empty())
    result["prefill_tokens_per_s"] = prefill[0]["tokens_per_s"];
  std::printf("%s\n", dumpJson(result).c_str());
}

/// What a package of this function would run: kernels of `model`, whose weights nobody needs.
static Error addSteps(ModuleOp model, const std::string &title, const Json &facts, const BenchModelOptions &options,
                      const GPUTarget &target, const DeviceFigures &device, std::vector<Modelled> &all) {
  PassManager manager(model.getContext());
  buildFusePipeline(manager, "f32");
  if (failed(manager.run(model)))
    return fail("cannot fuse model", title);
  for (int64_t sequences : options.batches) {
    device::ModelOptions how;
    how.wholeStep = options.wholeStep;
    Expected<ModelledLaunches> launches =
        modelStep(model, target, device, {sequences, options.prompt, options.context}, how);
    if (!launches)
      return launches.takeError();
    Json entry = facts;
    entry.update({{"batch", sequences}, {"prompt", options.prompt}, {"context", options.context}});
    std::string what = title + ", " + std::to_string(sequences) + " sequences, ";
    if (options.prompt > 1)
      what += std::to_string(options.prompt) + " new ones of ";
    all.push_back({entry, what + std::to_string(options.context) + " tokens", sequences * options.prompt,
                   options.prompt > 1 ? Modelled::Prefill : Modelled::Decode, std::move(*launches)});
  }
  return Error::success();
}

static Expected<device::LlamaShape> llamaShape(const BenchModelOptions &options) {
  device::LlamaShape shape;
  SmallVector<StringRef> parts;
  StringRef(options.llama).split(parts, 'x');
  int64_t *figures[] = {&shape.hidden, &shape.feedForward, &shape.layers};
  bool fine = parts.size() == std::size(figures);
  for (size_t i = 0; fine && i < parts.size(); ++i)
    fine = !parts[i].getAsInteger(10, *figures[i]) && *figures[i] > 0 && *figures[i] <= 1 << 20;
  if (!fine || shape.hidden % 128)
    return fail("invalid shape of a model", "--llama", "HIDDENxFFxLAYERS with a width of heads of 128", options.llama);
  shape.heads = shape.hidden / 128;
  shape.cacheHeads = options.cacheHeads ? options.cacheHeads : shape.heads;
  shape.vocabulary = options.vocabulary;
  shape.head = options.head;
  return shape;
}

Error tool::benchModel(const BenchModelOptions &options) {
  int given = !options.package.empty() + !options.shape.empty() + !options.llama.empty();
  if (given != 1)
    return fail("bench needs one thing to model", "", "a package, --shape NxK or --llama HIDDENxFFxLAYERS",
                given ? "several" : "none");
  if (options.package.empty() == options.formats.empty())
    return fail("bench of a shape needs a format", "", options.package.empty() ? "--format TERM" : "no --format",
                options.package.empty() ? "none" : "a package and --format");
  Expected<GPUTarget> target = parseGPUTarget(options.target);
  if (!target)
    return target.takeError();
  Expected<DeviceFigures> device = device::findDevice(options.gpu.empty() ? target->chip : options.gpu);
  if (!device)
    return device.takeError();
  if (!device->runs(target->chip))
    return fail("device of another target", "--gpu", "one of " + target->chip, device->key + ", " + device->chip);
  DialectRegistry registry;
  registerAllDialects(registry);
  registerImportONNXDialects(registry); // what functions of models are made of
  MLIRContext context(registry);
  context.loadAllAvailableDialects();

  std::vector<Modelled> all;
  if (!options.package.empty()) {
    Expected<OwningOpRef<ModuleOp>> model = readPackageModel(options.package, context);
    if (!model)
      return model.takeError();
    if (Error error =
            addSteps(**model, options.package, {{"package", options.package}}, options, *target, *device, all))
      return error;
    report(all, *device, options.json);
    return Error::success();
  }
  for (const std::string &format : options.formats) {
    std::string activations, message;
    WeightEncoding term = parseTerm(format, &context, activations, message);
    if (!term)
      return fail("invalid format", "--format", "a term such as w4g128, k3 or #skim....", format, message);
    if (!options.llama.empty()) {
      Expected<device::LlamaShape> shape = llamaShape(options);
      if (!shape)
        return shape.takeError();
      shape->format = format;
      Expected<OwningOpRef<ModuleOp>> model = llamaModel(context, *shape);
      if (!model)
        return model.takeError();
      if (Error error = addSteps(**model, "LLaMA " + options.llama + " in " + format + ", head in " + options.head,
                                 {{"llama", options.llama}, {"format", format}, {"head", options.head}}, options,
                                 *target, *device, all))
        return error;
      continue;
    }
    int64_t n = 0, k = 0;
    if (Error error = parseShape(options.shape, n, k))
      return error;
    std::string mode = options.activations.empty() ? "f16" : options.activations;
    for (int64_t rows : options.batches) {
      Expected<ModelledLaunches> launches = modelLinear(context, *target, *device, term, n, k, rows, mode);
      if (!launches)
        return launches.takeError();
      all.push_back({{{"format", format}, {"mode", mode}, {"n", n}, {"k", k}, {"batch", rows}},
                     format + " " + options.shape + ", " + mode + ", " + std::to_string(rows) + " rows",
                     rows,
                     Modelled::Kernel,
                     std::move(*launches)});
    }
  }
  report(all, *device, options.json);
  return Error::success();
}
