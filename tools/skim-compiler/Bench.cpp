//===- Bench.cpp - skim bench --shape: a format's kernel by itself -----------===//
//
// The kernel that a package would hold, on weights of random codes. Copies of
// the weight together exceed the caches, as the weights of a model do, and the
// read bandwidth is measured in turns with the kernel, over as many bytes.
//
//===----------------------------------------------------------------------===//

#include "Command.h"
#include "skim/InitAll.h"
#include "skim/Runtime/Bandwidth.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Json.h"
#include "skim/Support/Resources.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Target/CPU/LinearLibrary.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

using namespace mlir;
using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string package, shape, target = "cpu", activations;
  std::vector<std::string> formats;
  std::vector<int64_t> batches = {1};
  int threads = 0;
  bool json = false;
};

/// A kernel to measure and what came out.
struct Measurement {
  std::string format, mode;
  int64_t batch;
  uint64_t bytes; // of the weight
  double microseconds = 1e30;
};

/// Copies of an encoded weight, behind one another in memory.
class Weights {
public:
  Weights(WeightEncoding term, int64_t n, int64_t k, uint64_t atLeast);
  size_t copies() const { return count; }
  /// Pointers to the components of a copy, 64-byte aligned.
  std::vector<const void *> copy(size_t index) const;

private:
  std::vector<uint64_t> offsets; // of components in a copy
  uint64_t stride = 0;
  size_t count = 0;
  std::vector<char> storage;
  char *base = nullptr;
};
} // namespace

static constexpr int rounds = 4;

/// Bytes of a component that a kernel may read: finite floats, valid rows.
static void fillComponent(const Component &component, char *data, std::mt19937 &random) {
  Type type = component.type.getElementType();
  int64_t count = component.type.getNumElements();
  if (component.kind == ComponentKind::Permutation) {
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(data + i * type.getIntOrFloatBitWidth() / 8, &i, type.getIntOrFloatBitWidth() / 8);
    return;
  }
  if (component.kind == ComponentKind::Exponents) {
    std::memset(data, 120, count);
    return;
  }
  std::uniform_real_distribution<float> values(0.001f, 0.05f);
  for (int64_t i = 0; i < count; ++i) {
    if (type.isF32()) {
      float value = values(random);
      std::memcpy(data + 4 * i, &value, 4);
    } else if (type.isF16() || type.isBF16()) {
      uint16_t value = type.isF16() ? f32ToF16(values(random)) : f32ToBF16(values(random));
      std::memcpy(data + 2 * i, &value, 2);
    } else {
      data[i] = static_cast<char>(random());
    }
  }
}

Weights::Weights(WeightEncoding term, int64_t n, int64_t k, uint64_t atLeast) {
  SmallVector<Component> components = getComponents(term, {n, k});
  for (const Component &component : components) {
    offsets.push_back(stride);
    stride += llvm::alignTo(component.getBits() / 8, 64);
  }
  count = std::clamp<uint64_t>((atLeast + stride - 1) / stride, 1, 4096);
  storage.resize(count * stride + 64);
  base = storage.data() + (-reinterpret_cast<uintptr_t>(storage.data()) & 63);
  std::mt19937 random(1);
  for (auto [component, offset] : llvm::zip(components, offsets))
    fillComponent(component, base + offset, random);
  for (size_t i = 1; i < count; ++i)
    std::memcpy(base + i * stride, base, stride);
}

std::vector<const void *> Weights::copy(size_t index) const {
  std::vector<const void *> pointers;
  for (uint64_t offset : offsets)
    pointers.push_back(base + index * stride + offset);
  return pointers;
}

/// `4096x14336` as N and K.
static Error parseShape(const std::string &text, int64_t &n, int64_t &k) {
  auto [first, second] = StringRef(text).split('x');
  if (first.getAsInteger(10, n) || second.getAsInteger(10, k) || n < 1 || k < 1 || n > 1 << 20 || k > 1 << 20)
    return fail("invalid shape", "--shape", "NxK, each from 1 to 1048576", text);
  return Error::success();
}

static Error measureFormat(const Options &options, const TargetInfo &target, const std::string &format, int64_t n,
                           int64_t k, MLIRContext &context, ThreadPool &pool, double &bandwidth,
                           std::vector<Measurement> &results) {
  std::string activations, message;
  WeightEncoding term = parseTerm(format, &context, activations, message);
  if (!term)
    return fail("invalid format", "--format", "a term such as w4g128, k3 or #skim....", format, message);
  std::vector<std::string> modes = {"f32"};
  if (!options.activations.empty())
    modes = {options.activations};
  else if (!activations.empty())
    modes = {activations};
  else if (target.defaultMode() != "f32")
    modes.push_back(target.defaultMode());

  std::vector<LinearCase> cases;
  for (const std::string &mode : modes) {
    LinearCase one;
    one.term = term;
    one.n = n;
    one.k = k;
    one.mode = mode;
    cases.push_back(one);
  }
  Expected<std::unique_ptr<LinearLibrary>> library = LinearLibrary::build(context, target, cases);
  if (!library)
    return library.takeError();

  Expected<Bandwidth> probe = measureReadBandwidth(pool, 0, 1);
  if (!probe)
    return probe.takeError();
  Weights weights(term, n, k, probe->bytes);
  uint64_t bytes = getStoredBits(term, {n, k}) / 8;
  int64_t most = *std::max_element(options.batches.begin(), options.batches.end());
  std::vector<float> x(most * k, 0.25f), y(most * n);
  ThreadTeam team(pool.threads());

  size_t first = results.size();
  for (const std::string &mode : modes)
    for (int64_t batch : options.batches)
      results.push_back({format, mode, batch, bytes});
  for (int round = 0; round < rounds; ++round) {
    Expected<Bandwidth> read = measureReadBandwidth(pool, 0, 2);
    if (!read)
      return read.takeError();
    bandwidth = std::max(bandwidth, read->gigabytesPerSecond);
    for (size_t i = first; i < results.size(); ++i) {
      Measurement &result = results[i];
      size_t index = (i - first) / options.batches.size();
      // One sweep over all copies, or as much of it as half a second allows.
      Stopwatch watch;
      size_t done = 0;
      for (; done < weights.copies() && (done < 2 || watch.seconds() < 0.5); ++done) {
        LinearRun run{x.data(), y.data(), result.batch, weights.copy(done)};
        (*library)->run(index, run, team);
      }
      result.microseconds = std::min(result.microseconds, watch.seconds() / done * 1e6);
    }
  }
  return Error::success();
}

static Error run(const Options &options) {
  if (!options.package.empty())
    return fail("too much to measure at once", options.package, "a package or --shape", "both");
  if (options.formats.empty())
    return fail("bench of a shape needs a format", "", "--format TERM", "none");
  int64_t n = 0, k = 0;
  if (Error error = parseShape(options.shape, n, k))
    return error;
  Expected<TargetInfo> target = parseCPUTarget(options.target);
  if (!target)
    return target.takeError();
  DialectRegistry registry;
  registerAllDialects(registry);
  MLIRContext context(registry);
  prepareEmission(context);
  context.loadAllAvailableDialects();

  ThreadPool pool({.threads = static_cast<unsigned>(options.threads)});
  double bandwidth = 0;
  std::vector<Measurement> results;
  for (const std::string &format : options.formats)
    if (Error error = measureFormat(options, *target, format, n, k, context, pool, bandwidth, results))
      return error;

  Json kernels = Json::array();
  for (const Measurement &result : results) {
    double gbps = static_cast<double>(result.bytes) / result.microseconds * 1e-3;
    kernels.push_back({{"format", result.format},
                       {"mode", result.mode},
                       {"n", n},
                       {"k", k},
                       {"batch", result.batch},
                       {"microseconds", result.microseconds},
                       {"bytes", result.bytes},
                       {"gbps", gbps},
                       {"fraction_of_bandwidth", gbps / bandwidth}});
  }
  if (options.json) {
    Json json = {{"cpu", cpuName()},
                 {"threads", pool.threads()},
                 {"target", target->name},
                 {"read_bandwidth_gbps", bandwidth},
                 {"kernels", kernels},
                 {"prefill_tokens_per_s", nullptr},
                 {"decode_tokens_per_s", nullptr},
                 {"bytes_per_token", nullptr}};
    std::printf("%s\n", dumpJson(json).c_str());
    return Error::success();
  }
  std::printf("%s, %d threads, %s; reads %.1f GB/s\n", cpuName().c_str(), pool.threads(), target->name.c_str(),
              bandwidth);
  std::printf("%-14s %-5s %6s %12s %10s %10s\n", "format", "mode", "batch", "us", "GB/s", "bandwidth");
  for (const Json &kernel : kernels)
    std::printf("%-14s %-5s %6lld %12.1f %10.2f %9.0f%%\n", kernel["format"].get<std::string>().c_str(),
                kernel["mode"].get<std::string>().c_str(), static_cast<long long>(kernel["batch"].get<int64_t>()),
                kernel["microseconds"].get<double>(), kernel["gbps"].get<double>(),
                100 * kernel["fraction_of_bandwidth"].get<double>());
  return Error::success();
}

void skim::tool::addBench(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command =
      addCommand(app, action, "bench", "speed of a package, or of a format's kernel on a shape", options, run);
  command->add_option("package", options->package, "OUT.skim");
  command->add_option("--shape", options->shape, "NxK: a kernel by itself")->required();
  command->add_option("--format", options->formats, "the kernel's term (w4g128, k3, ...); may be repeated")
      ->allow_extra_args(false);
  command->add_option("--batch", options->batches, "rows at once (1,4,16)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t(1), int64_t(512)));
  command->add_option("--activations", options->activations, "activation mode (default: f32 and the target's)")
      ->check(CLI::IsMember({"f32", "bf16", "a8"}));
  command->add_option("--target", options->target, "a target that this machine runs")->capture_default_str();
  command->add_option("--threads", options->threads, "threads (default: all)")->check(CLI::Range(0, 1024));
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
