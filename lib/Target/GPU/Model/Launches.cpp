//===- Launches.cpp - linears and steps, modelled ---------------------------===//

#include "Counting.h"
#include "skim/Runtime/SimulatedStep.h"
#include "skim/Support/Json.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/SimulatorLibrary.h"
#include "skim/Target/GPU/Step.h"

#include "llvm/ADT/StringExtras.h"

#include <chrono>
#include <map>

using namespace mlir;
using namespace skim;
using namespace skim::device;

Expected<ModelledLaunches> device::modelLinear(MLIRContext &context, const GPUTarget &target,
                                               const DeviceFigures &device, WeightEncoding term, int64_t n, int64_t k,
                                               int64_t m, const std::string &mode, const ModelOptions &options) {
  prepareGPUEmission(context);
  prepareSimulation(context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "kernels");
  LinearCall call;
  call.k = k;
  call.mode = mode;
  LinearPanel panel;
  panel.term = term;
  panel.n = n;
  auto components = getComponents(term, {n, k});
  for (size_t i = 0; i < components.size(); ++i)
    panel.weights.push_back(static_cast<int64_t>(i));
  call.panels.push_back(panel);
  Expected<LinearPlan> plan = emitLinear(builder, module->getLoc(), kernels, target, call, m);
  if (!plan)
    return plan.takeError();
  llvm::StringSet<> used;
  for (const LinearLaunch &launch : plan->launches)
    if (!launch.product)
      used.insert(launch.kernel);
  Expected<CountedKernels> compiled = compileKernels(*module, "kernels", used, target, options);
  if (!compiled)
    return compiled.takeError();

  sim::Device memory;
  std::vector<std::unique_ptr<ZeroPages>> pages;
  bool room = true;
  auto zeros = [&](const std::string &name, int64_t bytes) {
    pages.push_back(std::make_unique<ZeroPages>(static_cast<uint64_t>(bytes)));
    room &= pages.back()->data() != nullptr;
    return memory.share(name, pages.back()->data(), static_cast<uint64_t>(bytes));
  };
  sim::Address x = zeros("x", m * k * 4), y = zeros("y", m * n * 4), gate = zeros("gate", m * n * 4);
  sim::Address scratch = zeros("scratch", std::max<int64_t>(plan->scratchBytes, 1));
  sim::Address counters = zeros("counters", std::max<int64_t>(plan->counters, 1) * 4);
  std::vector<sim::Address> weights;
  for (auto [component, tiles] : llvm::zip(components, tiledComponents(term, {n, k})))
    weights.push_back(zeros("weight " + component.name, tiles.bytes(static_cast<int64_t>(component.getBits() / 8))));
  if (!room)
    return fail("too large to model", std::to_string(n) + "x" + std::to_string(k), "room for it in the address space");
  ModelledLaunches all;
  all.seconds = compiled->seconds;
  for (const LinearLaunch &launch : plan->launches) {
    if (launch.product) {
      addProduct(all, launch.product->n, launch.product->k, m, device);
      continue;
    }
    std::vector<sim::Argument> arguments;
    for (const LaunchArgument &argument : launch.arguments) {
      auto pointer = [&](sim::Address base) {
        arguments.push_back(sim::Argument::pointer(base + static_cast<uint64_t>(argument.offset)));
      };
      auto number = [&](int64_t value) { arguments.push_back(sim::Argument::i32(static_cast<int32_t>(value))); };
      switch (argument.kind) {
      case LaunchArgument::X:
        pointer(x);
        break;
      case LaunchArgument::Y:
        pointer(y);
        break;
      case LaunchArgument::Gate:
        pointer(gate);
        break;
      case LaunchArgument::Scratch:
        pointer(scratch);
        break;
      case LaunchArgument::Weight:
        pointer(weights[static_cast<size_t>(argument.value)]);
        break;
      case LaunchArgument::Rows:
        number(m);
        break;
      case LaunchArgument::Stride:
        number(n);
        break;
      case LaunchArgument::Constant:
        number(argument.value);
        break;
      case LaunchArgument::Counters:
        pointer(counters);
        break;
      }
    }
    sim::LaunchShape shape;
    for (int i = 0; i < 3; ++i)
      shape.grid[i] = static_cast<uint32_t>(launch.extents(m)[i]);
    shape.block[0] = static_cast<uint32_t>(launch.threads);
    Expected<LaunchCosts> costs =
        countLaunch(*compiled, *compiled->simulated, memory, launch.kernel, shape, arguments, device, 0, options);
    if (!costs)
      return costs.takeError();
    addLaunch(all, *costs, device);
  }
  return all;
}

Expected<ModelledLaunches> device::modelStep(ModuleOp model, const GPUTarget &target, const DeviceFigures &device,
                                             const StepShape &shape, const ModelOptions &options) {
  prepareSimulation(*model.getContext());
  OwningOpRef<ModuleOp> code;
  auto begin = std::chrono::steady_clock::now();
  Expected<StepProgram> program = generateStep(model, target, code);
  if (!program)
    return program.takeError();
  if (options.wholeStep) {
    OwningOpRef<ModuleOp> whole = code->clone();
    if (Expected<std::string> ptx = emitPTX(*whole, "step", target); !ptx)
      return ptx.takeError();
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  auto [sequences, length, context] = shape;
  int64_t most = program->maxRows;
  if (sequences < 1 || sequences > most || length < 1 || length > most || sequences * length > most || context < length)
    return fail("cannot model step", "", "1 to " + std::to_string(most) + " rows and a context that has them",
                std::to_string(sequences) + " sequences of " + std::to_string(length) + " tokens, a context of " +
                    std::to_string(context));
  int64_t rows = sequences * length;
  // Only the kernels of the variant that runs.
  Expected<Json> launches = parseJson(program->launches, "launches");
  if (!launches)
    return launches.takeError();
  launches->erase("sampling"); // not modelled
  llvm::StringSet<> used;
  for (Json &variant : (*launches)["variants"]) {
    if (variant["rows"].get<int64_t>() < rows)
      continue;
    for (const Json &launch : variant["launches"])
      if (launch.contains("kernel"))
        used.insert(launch["kernel"].get<std::string>());
    Json only = Json::array({variant});
    (*launches)["variants"] = std::move(only);
    break;
  }
  Expected<CountedKernels> compiled = compileKernels(*code, "step", used, target, options);
  if (!compiled)
    return compiled.takeError();

  std::vector<std::unique_ptr<ZeroPages>> pages;
  auto zeros = [&](int64_t bytes) {
    pages.push_back(std::make_unique<ZeroPages>(static_cast<uint64_t>(bytes)));
    return pages.back()->data();
  };
  std::vector<sim::StepWeight> weights;
  for (const StepWeight &weight : program->weights) {
    weights.push_back({"weight " + weight.name, zeros(weight.bytes()), static_cast<uint64_t>(weight.bytes())});
  }
  int64_t perToken = 0;
  for (const ProgramCache &cache : program->caches)
    perToken += cache.heads * cache.dim * cache.bytesPerElement;
  std::vector<int32_t> tokens(static_cast<size_t>(rows)), start(sequences, static_cast<int32_t>(context - length)),
      count(sequences, static_cast<int32_t>(length)), wanted;
  std::vector<int64_t> capacities(sequences, context);
  std::vector<void *> caches;
  for (int64_t i = 0; i < sequences; ++i) {
    wanted.push_back(static_cast<int32_t>((i + 1) * length - 1));
    caches.push_back(zeros(perToken * context));
  }
  void *logits = zeros(sequences * program->vocabulary * 4);
  for (const auto &page : pages)
    if (!page->data())
      return fail("too large to model", "", "room for the weights in the address space");
  Expected<std::unique_ptr<sim::SimulatedStep>> step = sim::SimulatedStep::create(
      std::move(compiled->simulated), dumpJson(*launches), weights, program->vocabulary, perToken);
  if (!step)
    return step.takeError();

  // A sequence's block has the keys and values of every layer.
  double cachePerLayer =
      static_cast<double>(perToken * context) / static_cast<double>(std::max<size_t>(program->caches.size() / 2, 1));
  ModelledLaunches all;
  all.seconds = seconds + (options.wholeStep ? 0 : compiled->seconds);
  std::map<std::string, size_t> known;
  (*step)->runner = [&](sim::Module &simulated, sim::Device &memory, const std::string &kernel,
                        const sim::LaunchShape &shape, const std::vector<sim::Argument> &arguments) -> Error {
    std::string key = kernel;
    for (uint32_t extent : shape.grid)
      key += " " + std::to_string(extent);
    for (const sim::Argument &argument : arguments)
      if (auto place = argument.bytes == 8 ? memory.bufferAt(argument.bits) : std::nullopt)
        key += " " + std::to_string(place->size);
    auto [at, fresh] = known.try_emplace(key, all.launches.size());
    if (!fresh) {
      ModelledLaunch &launch = all.launches[at->second];
      ++launch.count;
      all.microseconds += launch.prediction.microseconds;
      all.memoryBytes += launch.costs.memoryBytes;
      return Error::success();
    }
    Expected<LaunchCosts> costs =
        countLaunch(*compiled, simulated, memory, kernel, shape, arguments, device, cachePerLayer, options);
    if (!costs)
      return costs.takeError();
    addLaunch(all, *costs, device);
    return Error::success();
  };
  (*step)->productRunner = [&](const LaunchList::Product &product, int64_t productRows) -> Error {
    addProduct(all, product.n, product.k, productRows, device);
    return Error::success();
  };
  skim_step_args args = {};
  args.batch = sequences;
  args.length = length;
  args.tokens = tokens.data();
  args.start = start.data();
  args.count = count.data();
  args.num_rows = sequences;
  args.rows = wanted.data();
  args.caches = caches.data();
  args.capacity = capacities.data();
  args.logits = static_cast<float *>(logits);
  if (Error error = (*step)->run(args))
    return error;
  return all;
}
