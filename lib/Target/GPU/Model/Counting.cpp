//===- Counting.cpp - kernels, run in part ----------------------------------===//

#include "Counting.h"

#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/SimulatorLibrary.h"

#include <chrono>
#include <cstring>
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
  own->walk([&](gpu::GPUFuncOp kernel) {
    if (auto blocks = kernel->getAttrOfType<IntegerAttr>(kFirstBlocksAttr))
      result.firstBlocks[kernel.getName()] = blocks.getInt();
  });
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
  double often = code.rest.issued > 0 ? rest / code.rest.issued : 0;
  // A loop that is none in machine code is unrolled: each of its instructions is executed once, but for those of pieces
  // that other blocks have. No more are than in PTX.
  if (machine.loopLoads == 0 && code.loopLoads > 0)
    often = std::min(walked.warps, walked.pipes.issued / std::max(machine.rest.issued, 1.0));
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
  // Blocks of first factors, with their place in the grid, and the others.
  sim::LaunchShape firsts = shape, others = shape;
  firsts.count = static_cast<uint32_t>(kernels.firstBlocks.lookup(kernel));
  if (firsts.count) {
    firsts.begin = static_cast<uint32_t>(arguments[1].bits);
    others.begin = firsts.begin ? 0 : firsts.count;
    others.count = shape.grid[0] - firsts.count;
  }
  bool last = firsts.begin > 0; // they find no room before others are done
  int64_t deep = int64_t(shape.grid[1]) * shape.grid[2], beside = firsts.count * deep;
  costs.blocks = shape.grid[0] * deep - beside;
  costs.firstBlocks = last ? 0 : beside;
  costs.threads = int64_t(shape.block[0]) * shape.block[1] * shape.block[2];
  if (options.sample)
    others.sample = {static_cast<uint32_t>(options.sample), kOtherExtents, kOtherExtents};
  // First factors first: then t is there when others look, as it mostly is on a device.
  struct Run {
    sim::Counters counters;
    double scale;
  };
  std::vector<Run> runs;
  auto run = [&](const sim::LaunchShape &part, int64_t blocks) -> Error {
    Expected<sim::Counters> counters = simulated.launch(memory, kernel, part, arguments);
    if (!counters)
      return counters.takeError();
    double scale = static_cast<double>(blocks) / static_cast<double>(counters->blocks);
    runs.push_back({std::move(*counters), scale});
    return Error::success();
  };
  if (firsts.count)
    if (Error error = run(firsts, beside))
      return error;
  if (Error error = run(others, costs.blocks))
    return error;
  auto zeroCounters = [&] {
    if (void *words = firsts.count ? memory.host(arguments[2].bits, kFirstCounters * 4) : nullptr)
      std::memset(words, 0, kFirstCounters * 4);
  };
  // Where all blocks ran, the last one has set the words back.
  if (firsts.count && static_cast<int64_t>(runs.back().counters.blocks) == costs.blocks) {
    Expected<sim::Counters> again = simulated.launch(memory, kernel, firsts, arguments);
    if (!again)
      return again.takeError();
  }
  for (const auto &[counters, scale] : runs) {
    for (const sim::OpCounters &op : counters.ops) {
      double requests = scale * static_cast<double>(op.requests), wavefronts = static_cast<double>(op.wavefronts);
      costs.requests += requests;
      costs.l2Bytes += scale * 32.0 * static_cast<double>(op.sectors);
      costs.sharedClocks += scale * wavefronts;
      // Whoever goes to global memory takes 128 bytes in a clock.
      costs.pipes.memory += scale * wavefronts;
      if (op.sectors)
        costs.pipes.memory += std::max(requests, scale * static_cast<double>(op.bytes) / 128);
      else if (op.kind == "shuffle")
        costs.pipes.memory += requests;
    }
    costs.barriers += scale * static_cast<double>(counters.barriers);
  }
  std::map<uint64_t, uint64_t> weights; // that it is given
  for (const sim::Argument &argument : arguments)
    if (auto place = argument.bytes == 8 ? memory.bufferAt(argument.bits) : std::nullopt)
      if (kindOf(place->name) == BufferKind::Weight)
        weights[place->address] = place->size;
  double given = 0, read = 0, cached = 0;
  for (auto [address, size] : weights)
    given += static_cast<double>(size);
  for (const auto &[counters, scale] : runs)
    for (const sim::BufferCounters &buffer : counters.buffers)
      if (BufferKind kind = kindOf(buffer.name); kind != BufferKind::Other)
        (kind == BufferKind::Weight ? read : cached) += scale * static_cast<double>(buffer.bytesRead);
  // Weights come once, whoever reads them (tests prove that each byte is read), but of a table of embeddings rows.
  costs.memoryBytes = (read < given / 2 ? read : given) + std::min(cached, cacheBytes);

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
  double clocks = costs.pipes.memory, walked = 0, behind = 0; // clocks behind the wait for t
  BlockWalk sum, first;
  sim::LaunchShape chosen = others;
  chosen.sample = {kWalked, 1, 1};
  if (firsts.count) {
    walk.block = {firsts.begin, 0, 0};
    Expected<BlockWalk> result = walkBlock(*code, walk, device);
    if (!result)
      return result.takeError();
    first = *result;
  }
  // Of blocks that share columns, each equally often: some have more of them.
  size_t sharing = shape.grid[2] > 1 ? 2 : 1;
  uint32_t shares = shape.grid[sharing] <= kMostSplits ? shape.grid[sharing] : 1;
  uint32_t blocks = (std::max(chosen.sampledBlocks(0), shares) + shares - 1) / shares * shares;
  for (uint32_t i = 0; i <= blocks; ++i) {
    bool end = i == blocks;
    walk.block = {end ? others.begin + others.extentOf(0) - 1 : chosen.sampled(0, i % chosen.sampledBlocks(0)),
                  end ? shape.grid[1] - 1 : 0, end ? shape.grid[2] - 1 : 0};
    if (!end)
      walk.block[sharing] = i % shares;
    Expected<BlockWalk> result = walkBlock(*code, walk, device);
    if (!result)
      return result.takeError();
    costs.blockClocks = std::max(costs.blockClocks, result->clocks);
    if (result->acquired > 0)
      behind = std::max(behind, result->clocks - result->acquired);
    if (end)
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
  auto pipesOf = [&](const BlockWalk &walk) {
    return costs.exactInstructions ? machineCounts(machine->second, *code, walk) : walk.pipes;
  };
  costs.pipes = pipesOf(sum).scaled(static_cast<double>(costs.blocks) / walked);
  if (firsts.count) {
    costs.pipes += pipesOf(first).scaled(static_cast<double>(beside));
    // Whoever wants t waits until A's blocks have made it; those that make it at their end have that to do still.
    if (last) {
      costs.blockClocks += first.clocks;
      costs.drainLatency += first.clocks;
    } else {
      costs.blockClocks = std::max(costs.blockClocks, first.clocks + behind);
    }
    zeroCounters();
  }
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

void device::addProduct(ModelledLaunches &all, int64_t n, int64_t k, int64_t rows, const DeviceFigures &device) {
  ModelledLaunch launch;
  launch.costs.kernel = "cublas_n" + std::to_string(n) + "_k" + std::to_string(k);
  launch.costs.blocks = device.multiprocessors;
  auto halves = static_cast<double>(n * k + rows * k), products = static_cast<double>(n * k * rows);
  launch.costs.l2Bytes = 2 * halves + static_cast<double>(4 * n * rows);
  Prediction &time = launch.prediction;
  double mma = products / (device.libraryProducts * static_cast<double>(device.multiprocessors) * device.clock);
  // Decoded weights come from L2 as far as they fit.
  double cached = std::min(2 * halves, device.l2Bytes);
  double l2 = cached / device.l2Bandwidth + (2 * halves - cached) / device.readBandwidth();
  time.resources[static_cast<size_t>(Bound::MMA)] = mma * 1e6;
  time.resources[static_cast<size_t>(Bound::L2)] = l2 * 1e6;
  time.bound = mma > l2 ? Bound::MMA : Bound::L2;
  time.kernel = std::max(mma, l2) * 1e6;
  time.microseconds = time.kernel + device.node * 1e6;
  all.microseconds += time.microseconds;
  all.launches.push_back(std::move(launch));
}

void device::addLaunch(ModelledLaunches &all, const LaunchCosts &costs, const DeviceFigures &device) {
  ModelledLaunch launch{costs, predict(device, costs)};
  all.microseconds += launch.prediction.microseconds;
  all.memoryBytes += costs.memoryBytes;
  all.launches.push_back(std::move(launch));
}
