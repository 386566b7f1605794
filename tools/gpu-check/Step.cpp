// Steps of a model of 7B weights, which are random: how long a token takes, and a prompt.
#include "Check.h"
#include "Code.h"
#include "skim/Support/Resources.h"

#include <algorithm>

using namespace skim;
using namespace skim::gpucheck;

/// The first steps run without a graph and record it.
static constexpr int32_t kWarm = 3, kTimed = 64, kTimedPrompts = 8;

Expected<std::unique_ptr<Step>> Step::load(const std::string &folder, const std::string &chip) {
  std::string stem = folder + "/" + chip + ".step";
  Expected<Json> json = parseJsonFile(stem + ".json");
  if (!json)
    return json.takeError();
  JsonCursor root(*json, stem + ".json");
  constexpr int64_t most = int64_t(1) << 40;
  Error error;
  auto number = [&](const JsonCursor &from, const char *key) {
    Expected<int64_t> value = from.integer(key, 0, most);
    if (!value && !error)
      error = value.takeError();
    return value ? *value : 0;
  };
  std::unique_ptr<Step> step(new Step());
  step->code.chip = chip;
  step->code.vocabulary = number(root, "vocabulary");
  step->code.maxRows = number(root, "max_rows");
  step->context = number(root, "context");
  step->prompt = number(root, "prompt");
  step->capacity = step->context + kWarm + kTimed;
  step->cacheBytes = number(root, "cache_bytes_per_token");
  step->linearBytes = static_cast<uint64_t>(number(root, "linear_bytes"));
  Expected<JsonCursor> launches = root.member("launches"), list = root.member("weights"),
                       predicted = root.member("predicted"), linears = root.member("linears");
  Expected<Code> kernels = readCode(stem);
  Expected<std::string> name = root.string("name");
  for (Error failed : {launches.takeError(), list.takeError(), predicted.takeError(), linears.takeError(),
                       kernels.takeError(), name.takeError()})
    if (failed)
      return failed;
  step->scratch = number(*launches, "scratch");
  step->name = *name;
  step->predicted = predicted->json();
  step->linears = linears->json();
  step->code.launches = dumpJson(launches->json());
  step->code.where = kernels->where;
  step->code.ptx = std::move(kernels->ptx);
  step->code.cubin = std::move(kernels->cubin);
  Expected<std::vector<JsonCursor>> entries = list->elements();
  if (!entries)
    return entries.takeError();
  for (const JsonCursor &entry : *entries)
    step->weights.push_back({static_cast<uint64_t>(number(entry, "bytes")), 0,
                             static_cast<uint32_t>(number(entry, "mask")),
                             static_cast<uint32_t>(number(entry, "base"))});
  if (error)
    return error;
  return step;
}

uint64_t Step::bytes() const {
  uint64_t sum = static_cast<uint64_t>(capacity * cacheBytes + scratch);
  for (const Case::Weight &weight : weights)
    sum += (weight.bytes + 255) / 256 * 256;
  return sum;
}

Expected<Json> Step::time(std::shared_ptr<cuda::Context> device, Cases &cases) {
  std::vector<DeviceWeight> described;
  for (const Case::Weight &weight : weights)
    described.push_back({"weight " + std::to_string(described.size()), nullptr, weight.bytes});
  code.weights = described;
  code.makeWeight = [&](size_t index, uint64_t address) {
    return cases.fill(address, weights[index].bytes, weights[index].mask, weights[index].base,
                      static_cast<uint32_t>(index + 1));
  };
  Expected<std::unique_ptr<DeviceStep>> step = cuda::createStep(device, code);
  if (!step)
    return step.takeError();
  uint64_t room = static_cast<uint64_t>(capacity * cacheBytes);
  Expected<void *> cache = (*step)->allocate(room, "a cache");
  if (!cache)
    return cache.takeError();
  // As if tokens were there already; bytes of 0x3C are the number 0.0115.
  Error error = device->fill(reinterpret_cast<uint64_t>(*cache), 0x3C, room);
  std::vector<int32_t> tokens(static_cast<size_t>(prompt), 1);
  std::array<SampleState, 1> states = {SampleState{0, 0, 1, 0, 0, 0}};
  // Seconds of a step of `count` tokens behind `start` others; each goes on where the one before ended, or `again`.
  auto timeSteps = [&](int32_t count, int32_t start, int32_t steps, bool again) {
    int32_t row = count - 1;
    skim_step_args args{};
    args.batch = args.num_rows = 1;
    args.length = count;
    args.tokens = tokens.data();
    args.start = &start;
    args.count = &count;
    args.rows = &row;
    args.caches = &*cache;
    args.capacity = &capacity;
    Stopwatch watch;
    for (int32_t i = 0; i < kWarm + steps && !error; ++i, start += again ? 0 : count) {
      if (i == kWarm)
        watch = Stopwatch();
      int32_t chosen = 0;
      error = (*step)->sample(args, states, &chosen);
      tokens[0] = chosen;
    }
    return watch.seconds() / steps;
  };
  double seconds = timeSteps(1, static_cast<int32_t>(context), kTimed, false);
  double promptSeconds = timeSteps(static_cast<int32_t>(prompt), 0, kTimedPrompts, true);
  (*step)->release(*cache);
  if (error)
    return error;
  // What a token must read: its linears, and keys and values of all tokens before it.
  double before = static_cast<double>(context) + kWarm + (kTimed + 1) / 2.0;
  return Json{{"name", name},
              {"context", context},
              {"tokens", kTimed},
              {"decode_tokens_per_s", 1 / seconds},
              {"microseconds", seconds * 1e6},
              {"linear_bytes", linearBytes},
              {"bytes_per_token", static_cast<double>(linearBytes) + before * static_cast<double>(cacheBytes)},
              {"predicted", predicted["token"]},
              {"prompt",
               {{"tokens", prompt},
                {"prefill_tokens_per_s", static_cast<double>(prompt) / promptSeconds},
                {"microseconds", promptSeconds * 1e6},
                {"linears", linears},
                {"predicted", predicted["prompt"]}}}};
}
