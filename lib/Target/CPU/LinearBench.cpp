//===- LinearBench.cpp - how fast linear kernels are ------------------------===//

#include "skim/Target/CPU/LinearBench.h"

#include "skim/Support/Float16.h"
#include "skim/Support/Resources.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Target/CPU/Layout.h"

#include <cstring>
#include <random>
#include <sys/mman.h>

using namespace mlir;
using namespace skim;

namespace {
/// Memory from the system.
class Pages {
public:
  explicit Pages(size_t bytes) : size(bytes) {
    data = static_cast<uint8_t *>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }
  ~Pages() {
    if (data != MAP_FAILED)
      munmap(data, size);
  }
  bool valid() const { return data != MAP_FAILED; }
  uint8_t *data;
  size_t size;
};
} // namespace

static void fillComponent(const Component &component, uint8_t *bytes, std::mt19937_64 &random) {
  Type type = component.type.getElementType();
  size_t size = component.getBits() / 8;
  if (isa<FloatType>(type)) {
    std::normal_distribution<float> normal(0, 0.02f);
    for (int64_t i = 0; i < component.type.getNumElements(); ++i) {
      float value = normal(random);
      uint16_t half = type.isBF16() ? f32ToBF16(value) : f32ToF16(value);
      if (type.isF32())
        std::memcpy(bytes + 4 * i, &value, 4);
      else
        std::memcpy(bytes + 2 * i, &half, 2);
    }
    return;
  }
  if (component.kind == ComponentKind::Exponents) {
    std::memset(bytes, 120, size);
    return;
  }
  if (component.kind == ComponentKind::Permutation) {
    unsigned width = type.getIntOrFloatBitWidth() / 8;
    for (int64_t i = 0; i < component.type.getNumElements(); ++i)
      std::memcpy(bytes + i * width, &i, width);
    return;
  }
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<uint8_t>(random());
}

Expected<LinearBenchResult> skim::benchLinear(MLIRContext &context, const TargetInfo &target,
                                              const LinearBenchOptions &options, ThreadTeam &team, ReadProbe &probe,
                                              llvm::function_ref<void()> between) {
  prepareEmission(context);
  std::string activations, detail;
  LinearCase info;
  info.term = parseTerm(options.format, &context, activations, detail);
  if (!info.term)
    return fail("unknown format", options.format, "", detail);
  info.n = options.n;
  info.k = options.k;
  info.mode = options.mode.empty() ? target.defaultMode() : options.mode;
  if (failed(info.term.verifyWeight({info.n, info.k}, Float16Type::get(&context),
                                    [&] { return emitError(UnknownLoc::get(&context)); })))
    return fail("format does not fit", options.format, "", "a weight of another shape");
  if (options.layout.empty())
    info.layout = chooseLayout(target, info.term, {info.n, info.k}, info.mode);
  else if (options.layout == "turned")
    info.layout = turnedLayout(&context, target, info.mode);
  else if (options.layout != "rows")
    return fail("unknown layout", options.layout, "rows or turned", options.layout);
  auto library = LinearLibrary::build(context, target, info);
  if (!library)
    return library.takeError();

  LinearBenchResult result;
  result.format = options.format;
  result.mode = info.mode;
  result.n = options.n;
  result.k = options.k;
  result.batch = options.batch;
  SmallVector<Component> components = getComponents(info.term, {info.n, info.k});
  size_t copyBytes = 0;
  for (const Component &component : components) {
    result.bytes += component.getBits() / 8;
    copyBytes += (component.getBits() / 8 + 63) / 64 * 64;
  }
  // One copy for batches: they are bound by arithmetic.
  size_t copies = options.batch > 16 ? 1 : std::max<size_t>(1, options.workingSet / std::max<size_t>(copyBytes, 1));
  Pages pages(copies * copyBytes);
  if (!pages.valid())
    return fail("out of memory", options.format, std::to_string(copies * copyBytes) + " bytes", "none");
  std::mt19937_64 random(1);
  std::vector<size_t> offsets;
  size_t offset = 0;
  for (const Component &component : components) {
    offsets.push_back(offset);
    fillComponent(component, pages.data + offset, random);
    offset += (component.getBits() / 8 + 63) / 64 * 64;
  }
  for (size_t copy = 1; copy < copies; ++copy)
    std::memcpy(pages.data + copy * copyBytes, pages.data, copyBytes);

  std::vector<float> x(options.batch * options.k), y(options.batch * options.n);
  std::normal_distribution<float> normal;
  for (float &value : x)
    value = normal(random);
  LinearRun run{x.data(), y.data(), options.batch, {}, nullptr};
  double best = 1e30, bestRead = 1e30;
  size_t copy = 0;
  Stopwatch total;
  do {
    // As many calls as make the probe's cost small, but at least one.
    for (size_t i = 0; i < std::max<size_t>(1, copies); ++i) {
      run.components.clear();
      for (size_t place : offsets)
        run.components.push_back(pages.data + copy * copyBytes + place);
      copy = (copy + 1) % copies;
      Stopwatch watch;
      (*library)->run(0, run, team);
      best = std::min(best, watch.seconds());
    }
    if (between)
      between();
    bestRead = std::min(bestRead, probe.run(team, result.checksum));
  } while (total.seconds() < options.seconds);
  for (float value : y)
    result.checksum += std::bit_cast<uint32_t>(value) & 1;
  result.microseconds = best * 1e6;
  result.gbps = result.bytes / best / 1e9;
  result.readBandwidthGbps = probe.bytes() / bestRead / 1e9;
  result.fractionOfBandwidth = result.gbps / result.readBandwidthGbps;
  return result;
}
