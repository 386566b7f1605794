//===- Bench.cpp - skim bench: tokens a second of a package --------------------===//
//
// The limit of decoding is memory: every token reads every weight once. So the
// read bandwidth is measured in the same run, in turns with the model, and the
// best turn of each counts: what a machine does when nobody else uses it.
//
//===----------------------------------------------------------------------===//

#include "Command.h"
#include "Model.h"
#include "skim/Runtime/Bandwidth.h"
#include "skim/Support/PackageManifest.h"
#include "skim/Support/Resources.h"

#include <algorithm>
#include <cstdio>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string package, shape, format, activations;
  std::vector<int64_t> batches = {1};
  bool json = false;
  bool predict = false; // the compiler's business: skim.cpp
  Model::Options model;
};

/// Tokens a second of decoding `batch` sessions together.
struct Decoded {
  int64_t batch;
  double tokensPerSecond;
};
} // namespace

static constexpr int rounds = 4;
static constexpr int64_t promptTokens = 16, decodedTokens = 32, prefillTokens = 512;

/// Ids from all over the vocabulary, the same in every run.
static std::vector<int32_t> someTokens(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> ids(count);
  for (int64_t i = 0; i < count; ++i)
    ids[i] = static_cast<int32_t>((static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u >> 33) % vocabulary);
  return ids;
}

/// Bytes of weights that a token reads: every linear, the head among them, but
/// of a table of embeddings only a row.
static Expected<int64_t> bytesPerToken(const std::string &package) {
  Expected<Json> json = readPackageManifest(package);
  if (!json)
    return json.takeError();
  Expected<JsonCursor> layers = JsonCursor(*json, manifestPath(package)).member("layers");
  if (!layers)
    return layers.takeError();
  auto items = layers->elements();
  if (!items)
    return items.takeError();
  int64_t sum = 0;
  for (const JsonCursor &layer : *items) {
    Expected<std::string> kind = layer.stringOr("kind", "linear");
    Expected<int64_t> bytes = layer.integer("bytes", 0, int64_t(1) << 50);
    if (!kind || !bytes)
      return kind ? bytes.takeError() : kind.takeError();
    if (*kind != "embedding")
      sum += *bytes;
  }
  return sum;
}

/// One turn of decoding: each of `batch` sessions gets `decodedTokens` tokens.
static Expected<double> decodeTurn(const Model &model, int64_t batch, int64_t count) {
  int64_t vocabulary = model.info().vocabulary;
  std::vector<int32_t> prompt = someTokens(promptTokens, vocabulary);
  std::vector<Session> sessions;
  std::vector<skim_rt_session *> handles;
  for (int64_t i = 0; i < batch; ++i) {
    Expected<Session> session = model.session(promptTokens + count + 1);
    if (!session)
      return session.takeError();
    if (Error error = session->prefill(prompt.data(), promptTokens, SKIM_RT_LOGITS_NONE, nullptr))
      return error;
    sessions.push_back(std::move(*session));
    handles.push_back(sessions.back().get());
  }
  std::vector<float> logits(batch * vocabulary);
  std::vector<int32_t> tokens(batch, prompt[0]);
  auto step = [&]() -> Error {
    if (skim_rt_decode(handles.data(), tokens.data(), handles.size(), logits.data()))
      return runtimeError();
    for (int64_t i = 0; i < batch; ++i)
      if (skim_rt_sample(model.get(), logits.data() + i * vocabulary, nullptr, nullptr, &tokens[i]))
        return runtimeError();
    return Error::success();
  };
  if (Error error = step()) // the first one warms up
    return error;
  Stopwatch watch;
  for (int64_t i = 0; i < count; ++i)
    if (Error error = step())
      return error;
  return static_cast<double>(batch * count) / watch.seconds();
}

/// One turn of prefill: tokens a second of one text of `count` tokens.
static Expected<double> prefillTurn(const Model &model, int64_t count) {
  std::vector<int32_t> ids = someTokens(count, model.info().vocabulary);
  std::vector<float> logits(model.info().vocabulary);
  Expected<Session> session = model.session(count);
  if (!session)
    return session.takeError();
  Stopwatch watch;
  if (Error error = session->prefill(ids.data(), count, SKIM_RT_LOGITS_LAST, logits.data()))
    return error;
  return static_cast<double>(count) / watch.seconds();
}

static Error run(const Options &options) {
  if (!options.format.empty())
    return fail("bench of a format needs a shape", "", "--shape NxK beside --format", "--format alone");
  if (options.package.empty())
    return fail("bench needs something to measure", "", "a package, or --shape NxK with --format TERM", "neither");
  Expected<int64_t> bytes = bytesPerToken(options.package);
  if (!bytes)
    return bytes.takeError();
  Expected<Model> model = Model::open(options.package, options.model);
  if (!model)
    return model.takeError();
  const skim_rt_info &info = model->info();
  int64_t longest = std::min(prefillTokens, info.context);
  int64_t decoded = std::min(decodedTokens, info.context - promptTokens - 1);
  if (decoded < 1)
    return fail("context too short to measure", options.package, "at least " + std::to_string(promptTokens + 2),
                std::to_string(info.context));

  ThreadPool pool({.threads = static_cast<unsigned>(info.threads)});
  double bandwidth = 0, prefill = 0;
  uint64_t checksum = 0;
  std::vector<Decoded> decodes;
  decodes.push_back({1, 0});
  for (int64_t batch : options.batches)
    if (batch != 1)
      decodes.push_back({batch, 0});
  for (int round = 0; round < rounds; ++round) {
    Expected<Bandwidth> read = measureReadBandwidth(pool, 0, 3);
    if (!read)
      return read.takeError();
    bandwidth = std::max(bandwidth, read->gigabytesPerSecond);
    checksum = read->checksum;
    for (Decoded &decode : decodes) {
      Expected<double> rate = decodeTurn(*model, decode.batch, decoded);
      if (!rate)
        return rate.takeError();
      decode.tokensPerSecond = std::max(decode.tokensPerSecond, *rate);
    }
    Expected<double> rate = prefillTurn(*model, longest);
    if (!rate)
      return rate.takeError();
    prefill = std::max(prefill, *rate);
  }

  double limit = bandwidth * 1e9 / static_cast<double>(*bytes);
  if (options.json) {
    Json all = Json::array();
    for (const Decoded &decode : decodes)
      all.push_back({{"batch", decode.batch}, {"tokens_per_s", decode.tokensPerSecond}});
    Json result = {{"cpu", cpuName()},
                   {"threads", info.threads},
                   {"target", info.target},
                   {"read_bandwidth_gbps", bandwidth},
                   {"read_checksum", checksum},
                   {"kernels", Json::array()},
                   {"prefill_tokens", longest},
                   {"prefill_tokens_per_s", prefill},
                   {"decode_tokens_per_s", decodes.front().tokensPerSecond},
                   {"decode", all},
                   {"decode_fraction_of_bandwidth", decodes.front().tokensPerSecond / limit},
                   {"bytes_per_token", *bytes}};
    std::printf("%s\n", dumpJson(result).c_str());
    return Error::success();
  }
  std::printf("%s, %d threads, %s; reads %.1f GB/s (checksum %016llx)\n", cpuName().c_str(), info.threads, info.target,
              bandwidth, static_cast<unsigned long long>(checksum));
  std::printf("prefill  %8.1f tokens/s (%lld tokens)\n", prefill, static_cast<long long>(longest));
  for (const Decoded &decode : decodes)
    std::printf("decode   %8.1f tokens/s (batch %lld): %.0f%% of bandwidth / %.1f MB a step\n", decode.tokensPerSecond,
                static_cast<long long>(decode.batch), 100 * decode.tokensPerSecond / limit / decode.batch,
                static_cast<double>(*bytes) * 1e-6);
  return Error::success();
}

void skim::tool::addBench(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command =
      addCommand(app, action, "bench", "speed of a package, or of a format's kernel on a shape", options, run);
  command->add_option("package", options->package, "OUT.skim");
  command->add_option("--shape", options->shape, "NxK: a kernel by itself");
  command->add_option("--format", options->format, "the kernel's term (w4g128, k3, ...)");
  command->add_option("--batch", options->batches, "sequences, or rows, at once (1,4,16)")
      ->delimiter(',')
      ->check(CLI::Range(int64_t(1), int64_t(512)));
  command->add_option("--activations", options->activations, "the kernel's activation mode");
  command->add_option("--target", options->model.target, "target of the package");
  command->add_option("--device", options->model.device, "which NVIDIA device")->check(CLI::Range(0, 1 << 16));
  command->add_option("--threads", options->model.threads, "threads (default: all)")->check(CLI::Range(0, 1024));
  command->add_flag("--model", options->predict, "predict for --target nvidia:sm_90 ..., which need not be here");
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
