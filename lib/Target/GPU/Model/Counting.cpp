//===- Counting.cpp - kernels, run in part ----------------------------------===//

#include "Counting.h"

#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/SimulatorLibrary.h"

#include <chrono>
#include <map>
#include <sys/mman.h>

using namespace mlir;
using namespace skim;
using namespace skim::device;

ZeroPages::ZeroPages(uint64_t bytes) : size(std::max<uint64_t>(bytes, 1)) {
  void *mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  memory = mapped == MAP_FAILED ? nullptr : mapped;
}

ZeroPages::~ZeroPages() {
  if (memory)
    ::munmap(memory, size);
}

Expected<CountedKernels> device::compileKernels(ModuleOp module, StringRef name, const llvm::StringSet<> &used,
                                                const GPUTarget &target, const ModelOptions &options) {
  OwningOpRef<ModuleOp> own = module.clone();
  if (auto source = own->lookupSymbol<gpu::GPUModuleOp>(name))
    for (gpu::GPUFuncOp kernel : llvm::make_early_inc_range(source.getOps<gpu::GPUFuncOp>()))
      if (!used.contains(kernel.getName()))
        kernel.erase();
  OwningOpRef<ModuleOp> second = own->clone();
  CountedKernels result;
  auto start = std::chrono::steady_clock::now();
  Expected<std::string> ptx = emitPTX(*second, name, target);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!ptx)
    return ptx.takeError();
  Expected<std::vector<PtxKernel>> parsed = parsePtx(*ptx);
  if (!parsed)
    return parsed.takeError();
  result.ptx = std::move(*parsed);
  if (options.assemble && findPtxas()) {
    // A ptxas that is older than the chip leaves estimates.
    Expected<std::string> cubin = assemble(*ptx, target, &result.usage);
    std::optional<std::string> text = cubin ? disassemble(*cubin) : std::nullopt;
    if (text)
      result.sass = readSass(*text);
  }
  Expected<std::unique_ptr<sim::Module>> simulated = simulateKernels(*own);
  if (!simulated)
    return simulated.takeError();
  result.simulated = std::move(*simulated);
  return std::move(result);
}

/// Blocks of the other extents that are run (all that share a tile, which leaves their counter at zero), and of the
/// first that are walked through.
static constexpr uint32_t kOtherExtents = kMostParts, kWalked = 4;

namespace {
enum class BufferKind { Weight, Cache, Other };
}

static BufferKind kindOf(StringRef name) {
  return name.starts_with("weight ") ? BufferKind::Weight : name == "cache" ? BufferKind::Cache : BufferKind::Other;
}

/// What was walked through in PTX, as instructions of the machine: turns of loops
/// by the weights that a turn loads, all else in proportion to PTX.
static PipeCounts machineCounts(const SassKernel &machine, const PtxKernel &code, const BlockWalk &walked) {
  double rest = walked.pipes.issued - walked.loops.issued;
  // A loop that is none in machine code is unrolled: each of its instructions is executed once.
  double often = machine.loopLoads == 0 && code.loopLoads > 0 ? walked.warps
                 : code.rest.issued > 0                       ? rest / code.rest.issued
                                                              : 0;
  PipeCounts counts = machine.rest.scaled(often);
  if (machine.loopLoads > 0 && code.loopLoads > 0)
    counts += machine.loops.scaled(walked.loops.issued / code.loops.issued * code.loopLoads / machine.loopLoads);
  // ptxas neither adds nor removes any of these.
  counts.products = walked.pipes.products;
  counts.wgmma = walked.pipes.wgmma;
  return counts;
}

Expected<LaunchCosts> device::countLaunch(const CountedKernels &kernels, sim::Module &simulated, sim::Device &memory,
                                          const std::string &kernel, sim::LaunchShape shape,
                                          const std::vector<sim::Argument> &arguments, const DeviceFigures &device,
                                          double cacheBytes, const ModelOptions &options) {
  LaunchCosts costs;
  costs.kernel = kernel;
  costs.blocks = int64_t(shape.grid[0]) * shape.grid[1] * shape.grid[2];
  costs.threads = int64_t(shape.block[0]) * shape.block[1] * shape.block[2];
  if (options.sample)
    shape.sample = {static_cast<uint32_t>(options.sample), kOtherExtents, kOtherExtents};
  Expected<sim::Counters> counters = simulated.launch(memory, kernel, shape, arguments);
  if (!counters)
    return counters.takeError();
  double scale = static_cast<double>(costs.blocks) / static_cast<double>(counters->blocks);
  for (const sim::OpCounters &op : counters->ops) {
    costs.requests += static_cast<double>(op.requests);
    costs.l2Bytes += 32.0 * static_cast<double>(op.sectors);
    costs.sharedClocks += static_cast<double>(op.wavefronts);
    // Whoever goes to global memory takes 128 bytes in a clock.
    double requests = static_cast<double>(op.requests);
    costs.pipes.memory += static_cast<double>(op.wavefronts);
    if (op.sectors)
      costs.pipes.memory += std::max(requests, static_cast<double>(op.bytes) / 128);
    else if (op.kind == "shuffle")
      costs.pipes.memory += requests;
  }
  std::map<uint64_t, uint64_t> weights; // that it is given
  for (const sim::Argument &argument : arguments)
    if (auto place = argument.bytes == 8 ? memory.bufferAt(argument.bits) : std::nullopt)
      if (kindOf(place->name) == BufferKind::Weight)
        weights[place->address] = place->size;
  double given = 0, read = 0, cached = 0;
  for (auto [address, size] : weights)
    given += static_cast<double>(size);
  for (const sim::BufferCounters &buffer : counters->buffers)
    if (BufferKind kind = kindOf(buffer.name); kind != BufferKind::Other)
      (kind == BufferKind::Weight ? read : cached) += scale * static_cast<double>(buffer.bytesRead);
  // Weights come once, whoever reads them (tests prove that each byte is read), but of a table of embeddings rows.
  costs.memoryBytes = (read < given / 2 ? read : given) + std::min(cached, cacheBytes);
  costs.barriers = static_cast<double>(counters->barriers) * scale;
  for (double *count : {&costs.requests, &costs.l2Bytes, &costs.sharedClocks, &costs.pipes.memory})
    *count *= scale;

  auto code = llvm::find_if(kernels.ptx, [&](const PtxKernel &one) { return one.name == kernel; });
  if (code == kernels.ptx.end())
    return fail("no such kernel in PTX", kernel);
  WalkLaunch walk;
  walk.grid = shape.grid;
  walk.threads = static_cast<uint32_t>(costs.threads);
  for (const sim::Argument &argument : arguments)
    walk.arguments.push_back(argument.bits);
  auto look = [&](uint64_t address, uint64_t bytes) -> WalkMemory {
    auto place = memory.bufferAt(address);
    return {place && kindOf(place->name) != BufferKind::Other,
            static_cast<const uint8_t *>(memory.host(address, bytes))};
  };
  walk.memory = look;
  // The last block too: it may have a tile of fewer rows.
  double clocks = costs.pipes.memory, walked = 0;
  BlockWalk sum;
  sim::LaunchShape chosen = shape;
  chosen.sample = {kWalked, 1, 1};
  for (uint32_t i = 0; i <= chosen.sampledBlocks(0); ++i) {
    bool last = i == chosen.sampledBlocks(0);
    walk.block = {last ? shape.grid[0] - 1 : chosen.sampled(0, i), last ? shape.grid[1] - 1 : 0,
                  last ? shape.grid[2] - 1 : 0};
    Expected<BlockWalk> result = walkBlock(*code, walk, device);
    if (!result)
      return result.takeError();
    costs.blockClocks = std::max(costs.blockClocks, result->clocks);
    if (last)
      break;
    ++walked;
    sum.pipes += result->pipes;
    sum.loops += result->loops;
    sum.warps += result->warps;
    costs.loadsInFlight = std::max(costs.loadsInFlight, result->inFlight);
    if (result->firstUse > costs.firstUse) {
      costs.firstRequest = result->firstRequest;
      costs.firstUse = result->firstUse;
      costs.bytesBefore = result->bytesBefore;
    }
    if (result->lastUse > 0) {
      costs.drainWork = std::max(costs.drainWork, result->workBehind);
      costs.drainLatency =
          std::max(costs.drainLatency, result->clocks - result->lastUse - result->sharing * result->workBehind);
    }
  }
  auto machine = kernels.sass.find(kernel);
  costs.exactInstructions = machine != kernels.sass.end();
  costs.pipes = costs.exactInstructions ? machineCounts(machine->second, *code, sum) : sum.pipes;
  costs.pipes = costs.pipes.scaled(static_cast<double>(costs.blocks) / walked);
  costs.pipes.memory = clocks;

  costs.registers = estimateRegisters(*code);
  auto known = llvm::find_if(kernels.usage, [&](const KernelUsage &one) { return one.kernel == kernel; });
  if (known != kernels.usage.end()) {
    costs.registers = known->registers;
    costs.exactRegisters = true;
  }
  costs.shared = static_cast<int64_t>(simulated.sharedBytes(kernel)) + shape.dynamicShared;
  return costs;
}

void device::addLaunch(ModelledLaunches &all, const LaunchCosts &costs, const DeviceFigures &device) {
  ModelledLaunch launch{costs, predict(device, costs)};
  all.microseconds += launch.prediction.microseconds;
  all.memoryBytes += costs.memoryBytes;
  all.launches.push_back(std::move(launch));
}
