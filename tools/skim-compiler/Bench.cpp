//===- Bench.cpp - skim bench --shape: a format's kernel by itself -----------===//
//
// The kernel that a package would hold, on weights of random codes, in turns
// with a probe of the read bandwidth.
//
//===----------------------------------------------------------------------===//

#include "BenchModel.h"
#include "Command.h"
#include "skim/InitAll.h"
#include "skim/Support/Json.h"
#include "skim/Support/Resources.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Target/CPU/LinearBench.h"

#include <algorithm>
#include <cstdio>
#include <thread>

using namespace mlir;
using namespace skim;
using namespace skim::tool;

namespace {
struct Options : BenchModelOptions {
  int threads = 0;
  bool model = false;
};
} // namespace

/// Bytes that weights and probe each go through: beyond the caches.
static constexpr size_t workingSet = size_t(640) << 20;

Error tool::parseShape(const std::string &text, int64_t &n, int64_t &k) {
  auto [first, second] = StringRef(text).split('x');
  if (first.getAsInteger(10, n) || second.getAsInteger(10, k) || n < 1 || k < 1 || n > 1 << 20 || k > 1 << 20)
    return fail("invalid shape", "--shape", "NxK, each from 1 to 1048576", text);
  return Error::success();
}

/// The modes to measure a format in: those asked for, else f32 and the target's own.
static Expected<std::vector<std::string>> modesOf(const Options &options, const std::string &format,
                                                  const TargetInfo &target, MLIRContext &context) {
  std::string activations, message;
  if (!parseTerm(format, &context, activations, message))
    return fail("invalid format", "--format", "a term such as w4g128, k3 or #skim....", format, message);
  if (!options.activations.empty())
    return std::vector<std::string>{options.activations};
  if (!activations.empty())
    return std::vector<std::string>{activations};
  if (target.defaultMode() == "f32")
    return std::vector<std::string>{"f32"};
  return std::vector<std::string>{"f32", target.defaultMode()};
}

static Error run(const Options &options) {
  if (options.model)
    return benchModel(options);
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

  unsigned threads = options.threads ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  ThreadTeam team(static_cast<int32_t>(threads));
  ReadProbe probe(workingSet);
  double bandwidth = 0;
  Json kernels = Json::array();
  for (const std::string &format : options.formats) {
    Expected<std::vector<std::string>> modes = modesOf(options, format, *target, context);
    if (!modes)
      return modes.takeError();
    for (const std::string &mode : *modes)
      for (int64_t batch : options.batches) {
        LinearBenchOptions bench;
        bench.format = format;
        bench.mode = mode;
        bench.n = n;
        bench.k = k;
        bench.batch = batch;
        bench.threads = static_cast<int32_t>(threads);
        bench.workingSet = workingSet;
        Expected<LinearBenchResult> result = benchLinear(context, *target, bench, team, probe);
        if (!result)
          return result.takeError();
        bandwidth = std::max(bandwidth, result->readBandwidthGbps);
        kernels.push_back({{"format", format},
                           {"mode", result->mode},
                           {"n", n},
                           {"k", k},
                           {"batch", batch},
                           {"microseconds", result->microseconds},
                           {"bytes", result->bytes},
                           {"gbps", result->gbps},
                           {"fraction_of_bandwidth", result->fractionOfBandwidth},
                           {"checksum", result->checksum}});
      }
  }
  if (options.json) {
    Json json = {{"cpu", cpuName()},
                 {"threads", threads},
                 {"target", target->name},
                 {"read_bandwidth_gbps", bandwidth},
                 {"kernels", kernels},
                 {"prefill_tokens_per_s", nullptr},
                 {"decode_tokens_per_s", nullptr},
                 {"bytes_per_token", nullptr}};
    std::printf("%s\n", dumpJson(json).c_str());
    return Error::success();
  }
  std::printf("%s, %u threads, %s; reads %.1f GB/s\n", cpuName().c_str(), threads, target->name.c_str(), bandwidth);
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
  options->target = "cpu";
  CLI::App *command =
      addCommand(app, action, "bench", "speed of a package, or of a format's kernel on a shape", options, run);
  command->add_option("package", options->package, "OUT.skim");
  command->add_option("--shape", options->shape, "NxK: a kernel by itself");
  command->add_option("--format", options->formats, "the kernel's term (w4g128, k3, ...); may be repeated")
      ->allow_extra_args(false);
  command->add_option("--batch", options->batches, "rows at once (1,4,16)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t(1), int64_t(512)));
  command->add_option("--activations", options->activations, "activation mode (default: f32 and the target's)")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "a8"}));
  command->add_option("--target", options->target, "a target that this machine runs, or with --model nvidia:sm_90")
      ->capture_default_str();
  command->add_option("--threads", options->threads, "threads (default: all)")->check(CLI::Range(0, 1024));
  command->add_flag("--model", options->model, "predict for a GPU, which need not be here");
  command->add_option("--gpu", options->gpu, "the GPU (h100, h200, rtx4090, ...; default: by target)");
  command->add_flag("--time-compile", options->wholeStep, "of a modelled step: compile all of its kernels");
  command->add_option("--llama", options->llama, "HIDDENxFFxLAYERS: a model's step, without weights");
  command->add_option("--head", options->head, "of --llama: the head's term")->capture_default_str();
  command->add_option("--cache-heads", options->cacheHeads, "of --llama: heads of keys (default: all of 128)")
      ->check(CLI::PositiveNumber);
  command->add_option("--vocabulary", options->vocabulary, "of --llama")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--context", options->context, "tokens in the caches of a modelled step")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--prompt", options->prompt, "new tokens of each sequence in a modelled step, of these")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
