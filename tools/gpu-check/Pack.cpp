//===- Pack.cpp - kernels and expectations for a machine with a GPU ---------===//
//
//   skim-gpu-pack -o DIR [--chip sm_80]… [--quick] [--no-model] [--simulator FILE]
//
// DIR/reference.bin has checked linears' weights, x and results (References.cpp).
// For each chip, DIR/CHIP.ptx.gz, DIR/CHIP.cubin where ptxas is there, and
// DIR/CHIP.json: what there is to launch, with the performance model's answers.
// Weights of timed linears are no files: `fill` makes them on the device.
// DIR/CHIP.step.* is the same of a step of a LLaMA of 7B weights.
//
//===----------------------------------------------------------------------===//

#include "Pack.h"
#include "Code.h"
#include "Command.h"

#include "skim/InitAll.h"
#include "skim/Pipelines/Phases.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/Threads.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/LaunchModel.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/SimulatorLibrary.h"
#include "skim/Target/GPU/Step.h"

#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace skim;
using namespace skim::gpucheck;
using device::DeviceFigures;

namespace {
struct Options {
  std::string output, simulator;
  std::vector<std::string> chips;
  bool quick = false, noModel = false;
};
/// Tokens in the caches of the step that is timed.
constexpr int64_t kContext = 512, kQuickContext = 16;
} // namespace

/// The linears that are timed: the shapes of the table in docs/gpu.md.
static Json timedCases(bool quick) {
  Json cases = Json::array();
  auto add = [&](const char *format, int64_t n, int64_t k, std::initializer_list<int64_t> batches) {
    for (int64_t rows : batches)
      cases.push_back({{"format", format}, {"n", n}, {"k", k}, {"rows", rows}, {"check", false}});
  };
  if (quick) {
    add("w4g128", 64, 256, {1, 16});
    add("k3+r32", 64, 256, {1});
    return cases;
  }
  for (const char *format : {"w4g128", "k4", "w3g128", "k3"})
    for (auto [n, k] : {std::pair<int64_t, int64_t>{8192, 8192}, {4096, 14336}})
      add(format, n, k, {1, 16, 256});
  for (const char *format : {"w2", "k2"})
    add(format, 8192, 8192, {1, 16, 256});
  for (const char *format : {"w2-a8", "w4g128-a8", "k4i-a8"})
    add(format, 8192, 8192, {1, 64});
  for (const char *format : {"w4g128+r32", "k3+r32"})
    add(format, 8192, 8192, {1, 16});
  return cases;
}

/// Emits the kernels of a case; what there is to launch is added to it.
static Error addLaunches(OpBuilder &builder, gpu::GPUModuleOp module, const GPUTarget &target, Json &one) {
  int64_t n = one["n"], k = one["k"], rows = one["rows"];
  Expected<Term> term = termOf(*builder.getContext(), one["format"].get<std::string>());
  if (!term)
    return term.takeError();
  LinearCall call;
  call.k = k;
  call.mode = term->mode;
  LinearPanel panel;
  panel.term = term->weight;
  panel.n = n;
  Json weights = Json::array();
  int64_t bytes = 0;
  for (auto [component, tiles] : llvm::zip(getComponents(panel.term, {n, k}), tiledComponents(panel.term, {n, k}))) {
    panel.weights.push_back(static_cast<int64_t>(panel.weights.size()));
    Fill fill = fillOf(component);
    auto canonical = static_cast<int64_t>(component.getBits() / 8);
    bytes += canonical;
    weights.push_back({{"bytes", tiles.bytes(canonical)}, {"mask", fill.mask}, {"base", fill.base}});
  }
  if (!one.contains("weights"))
    one["weights"] = std::move(weights);
  call.panels.push_back(panel);
  Expected<device::LinearPlan> plan = device::emitLinear(builder, module.getLoc(), module, target, call, rows);
  if (!plan)
    return plan.takeError();
  Json launches = Json::array();
  for (const device::LinearLaunch &launch : plan->launches) {
    Json arguments = Json::array();
    for (const device::LaunchArgument &argument : launch.arguments) {
      switch (argument.kind) {
      case device::LaunchArgument::X:
        arguments.push_back({"x", 0, argument.offset});
        break;
      case device::LaunchArgument::Y:
      case device::LaunchArgument::Gate: // there is none
        arguments.push_back({"y", 0, argument.offset});
        break;
      case device::LaunchArgument::Scratch:
        arguments.push_back({"scratch", 0, argument.offset});
        break;
      case device::LaunchArgument::Weight:
        arguments.push_back({"weight", argument.value, argument.offset});
        break;
      case device::LaunchArgument::Rows:
        arguments.push_back({"number", rows, 0});
        break;
      case device::LaunchArgument::Stride:
        arguments.push_back({"number", n, 0});
        break;
      case device::LaunchArgument::Constant:
        arguments.push_back({"number", argument.value, 0});
        break;
      default: // what else there is holds zeros before a launch
        arguments.push_back({"zeros", 0, argument.offset});
        break;
      }
    }
    launches.push_back({{"kernel", launch.kernel},
                        {"grid", launch.extents(rows)},
                        {"threads", launch.threads},
                        {"arguments", std::move(arguments)}});
  }
  one["weight_bytes"] = bytes;
  one["scratch"] = plan->scratchBytes;
  one["launches"] = std::move(launches);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// What the performance model says
//===----------------------------------------------------------------------===//

/// The devices of a chip.
static std::vector<DeviceFigures> devicesOf(const GPUTarget &target, const Options &options) {
  std::vector<DeviceFigures> devices;
  for (const DeviceFigures &figures : device::deviceTable())
    if (figures.runs(target.chip) && !options.noModel)
      devices.push_back(figures);
  return devices;
}

static Json predictionJson(const device::ModelledLaunches &launches) {
  const device::ModelledLaunch *longest = nullptr;
  auto time = [](const device::ModelledLaunch &launch) {
    return launch.prediction.microseconds * static_cast<double>(launch.count);
  };
  for (const device::ModelledLaunch &launch : launches.launches)
    if (!longest || time(launch) > time(*longest))
      longest = &launch;
  return {{"microseconds", launches.microseconds},
          {"memory_bytes", launches.memoryBytes},
          {"bound", longest ? std::string(device::spell(longest->prediction.bound)) : "launch"}};
}

static Error predictCase(MLIRContext &context, const GPUTarget &target, const std::vector<DeviceFigures> &devices,
                         Json &one) {
  one["predicted"] = Json::object();
  for (const DeviceFigures &figures : devices) {
    Expected<Term> term = termOf(context, one["format"].get<std::string>());
    if (!term)
      return term.takeError();
    Expected<device::ModelledLaunches> launches =
        device::modelLinear(context, target, figures, term->weight, one["n"], one["k"], one["rows"], term->mode);
    if (!launches)
      return launches.takeError();
    one["predicted"][figures.key] = predictionJson(*launches);
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

/// PTX, and machine code where ptxas is there.
static Error writeKernels(ModuleOp module, const char *name, const GPUTarget &target, const std::string &stem) {
  Expected<std::string> ptx = emitPTX(module, name, target);
  if (!ptx)
    return ptx.takeError();
  if (!findPtxas())
    return writeCode(stem, *ptx, "");
  Expected<std::string> cubin = assemble(*ptx, target);
  return cubin ? writeCode(stem, *ptx, *cubin) : cubin.takeError();
}

/// A step of a whole model, whose weights the runner makes.
static Error packStep(MLIRContext &context, const Options &options, const GPUTarget &target, const std::string &stem) {
  device::LlamaShape shape;
  if (options.quick)
    shape = {64, 96, 1, 128, 2, 2, "k3", "f16"};
  int64_t tokens = options.quick ? kQuickContext : kContext;
  Expected<OwningOpRef<ModuleOp>> model = device::llamaModel(context, shape);
  if (!model)
    return model.takeError();
  PassManager passes(&context);
  buildFusePipeline(passes, "f32");
  if (failed(passes.run(**model)))
    return fail("cannot fuse model", "a LLaMA in " + shape.format);
  Json predicted = {{"token", Json::object()}, {"prompt", Json::object()}};
  for (const DeviceFigures &figures : devicesOf(target, options))
    for (auto [what, length] : {std::pair<const char *, int64_t>{"token", 1}, {"prompt", tokens}}) {
      Expected<device::ModelledLaunches> launches =
          device::modelStep(**model, target, figures, {.length = length, .context = tokens});
      if (!launches)
        return launches.takeError();
      predicted[what][figures.key] = predictionJson(*launches);
    }
  OwningOpRef<ModuleOp> code;
  Expected<device::StepProgram> program = device::generateStep(**model, target, code);
  if (!program)
    return program.takeError();
  Json weights = Json::array();
  int64_t read = 0, cacheBytes = 0;
  for (const device::StepWeight &weight : program->weights) {
    Fill fill = fillOf({"", ComponentKind::Data, weight.type});
    weights.push_back({{"bytes", weight.bytes()}, {"mask", fill.mask}, {"base", fill.base}});
    read += weight.encoded ? weight.canonicalBytes() : 0; // of the table of embeddings only a row
  }
  for (const ProgramCache &cache : program->caches)
    cacheBytes += cache.heads * cache.dim * cache.bytesPerElement;
  if (!options.simulator.empty()) {
    OwningOpRef<ModuleOp> copy = code->clone();
    if (Error error = emitSimulation(*copy, options.simulator + ".step"))
      return error;
  }
  if (Error error = writeKernels(*code, "step", target, stem))
    return error;
  std::string name = "LLaMA " + std::to_string(shape.hidden) + "x" + std::to_string(shape.feedForward) + "x" +
                     std::to_string(shape.layers) + " in " + shape.format + ", head in " + shape.head;
  Json entry = {{"version", 1},
                {"name", name},
                {"launches", *parseJson(program->launches, "launches")},
                {"weights", std::move(weights)},
                {"cache_bytes_per_token", cacheBytes},
                {"context", tokens},
                {"prompt", tokens},
                // As a library would multiply them, with what has the same input in one product: n, k and how many.
                {"linears",
                 {{shape.hidden + 2 * shape.hidden / shape.heads * shape.cacheHeads, shape.hidden, shape.layers},
                  {shape.hidden, shape.hidden, shape.layers},
                  {2 * shape.feedForward, shape.hidden, shape.layers},
                  {shape.hidden, shape.feedForward, shape.layers}}},
                {"vocabulary", program->vocabulary},
                {"max_rows", program->maxRows},
                {"linear_bytes", read},
                {"predicted", std::move(predicted)}};
  return writeFileAtomically(stem + ".json", dumpJson(entry) + "\n");
}

/// Everything of a chip; `checked` are the cases of reference.bin.
static Error packChip(const Options &options, const std::string &chip, const Json &checked) {
  Expected<GPUTarget> target = parseGPUTarget("nvidia:" + chip);
  if (!target)
    return target.takeError();
  DialectRegistry registry;
  registerAllDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  prepareGPUEmission(context);
  prepareSimulation(context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "check");
  addHelperKernels(builder, kernels);
  Json cases = checked;
  for (const Json &one : timedCases(options.quick))
    cases.push_back(one);
  Json known = Json::array();
  std::vector<DeviceFigures> devices = devicesOf(*target, options);
  for (const DeviceFigures &figures : devices)
    known.push_back({{"key", figures.key}, {"name", figures.name}, {"read_gbps", figures.readBandwidth() * 1e-9}});
  for (Json &one : cases) {
    if (Error error = addLaunches(builder, kernels, *target, one))
      return error;
    if (!one["check"].get<bool>())
      if (Error error = predictCase(context, *target, devices, one))
        return error;
  }
  if (!options.simulator.empty()) {
    OwningOpRef<ModuleOp> copy = module->clone();
    if (Error error = emitSimulation(*copy, options.simulator))
      return error;
  }
  std::string stem = options.output + "/" + chip;
  if (Error error = writeKernels(*module, "check", *target, stem))
    return error;
  Json file = {{"version", 1}, {"devices", std::move(known)}, {"cases", cases}};
  if (Error error = writeFileAtomically(stem + ".json", dumpJson(file) + "\n"))
    return error;
  if (Error error = packStep(context, options, *target, stem + ".step"))
    return error;
  std::fprintf(stderr, "%s: %zu linears and a step\n", chip.c_str(), cases.size());
  return Error::success();
}

static Error pack(const Options &options) {
  if (!options.simulator.empty() && options.chips.size() != 1)
    return fail("kernels for the simulator need one chip", "--simulator", "one --chip",
                std::to_string(options.chips.size()));
  if (std::error_code code = llvm::sys::fs::create_directories(options.output))
    return fail("cannot create folder", options.output, "a folder to write to", code.message());
  std::string data;
  Json checked;
  {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    context.loadDialect<SkimDialect>();
    Expected<Json> cases = makeReferences(context, options.quick, data);
    if (!cases)
      return cases.takeError();
    checked = std::move(*cases);
  }
  if (Error error = writeFileAtomically(options.output + "/reference.bin", data))
    return error;
  const std::vector<std::string> &chips = options.chips;
  return parallelForWithErrors(chips.size(), 1, 0, [&](size_t begin, size_t end, unsigned) -> Error {
    for (size_t i = begin; i < end; ++i)
      if (Error error = packChip(options, chips[i], checked))
        return error;
    return Error::success();
  });
}

int main(int argc, char **argv) {
  CLI::App app("kernels for scripts/gpu-check");
  Options options;
  app.add_option("-o,--output", options.output, "folder")->required();
  app.add_option("--chip", options.chips, "sm_80 and the like")->required();
  app.add_option("--simulator", options.simulator, "also the kernels for the simulator, as shared objects (one chip)");
  app.add_flag("--quick", options.quick, "few and small cases, for tests");
  app.add_flag("--no-model", options.noModel, "without predictions");
  CLI11_PARSE(app, argc, argv);
  if (Error error = pack(options)) {
    std::fprintf(stderr, "skim: error: %s\n", error.message().c_str());
    return 1;
  }
  return 0;
}
