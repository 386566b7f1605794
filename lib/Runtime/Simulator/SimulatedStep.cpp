#include "skim/Runtime/SimulatedStep.h"
#include "skim/Runtime/SimulatedProduct.h"

#include <algorithm>
#include <cstring>

using namespace skim;
using namespace skim::sim;

using Source = LaunchList::Source;

Expected<std::unique_ptr<SimulatedStep>> SimulatedStep::create(std::unique_ptr<Module> kernels,
                                                               std::string_view launches,
                                                               std::span<const sim::StepWeight> weights,
                                                               int64_t vocabulary, int64_t cacheBytesPerToken) {
  std::vector<std::string> names = kernels->kernels();
  Expected<LaunchList> list = LaunchList::parse(launches, weights.size(), [&](const std::string &name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  });
  if (!list)
    return list.takeError();
  std::unique_ptr<SimulatedStep> step(new SimulatedStep());
  step->list = std::move(*list);
  step->kernels = std::move(kernels);
  step->vocabulary = vocabulary;
  step->cacheBytesPerToken = cacheBytesPerToken;
  for (const sim::StepWeight &weight : weights)
    step->weights.push_back(step->device.map(weight.name, weight.data, weight.bytes));
  // Launches count blocks in it from zero on; rows that a step does not have are read and go nowhere.
  step->scratch = step->device.allocate("scratch", static_cast<uint64_t>(step->list.scratch), Device::Content::Zero);
  return step;
}

Error SimulatedStep::launch(std::span<const LaunchList::Launch> launches, const LaunchValues &values) {
  for (const LaunchList::Launch &one : launches) {
    if (one.product) {
      if (Error error = multiply(one, values))
        return error;
      continue;
    }
    LaunchShape shape{values.grid(one), {one.threads, 1, 1}, one.shared};
    if (shape.grid[0] == 0)
      continue;
    std::vector<Argument> arguments;
    for (const LaunchList::Argument &argument : one.arguments) {
      uint64_t value = values.of(argument);
      arguments.push_back(LaunchValues::isPointer(argument.source) ? Argument::pointer(value)
                                                                   : Argument::i32(static_cast<int32_t>(value)));
    }
    if (runner) {
      if (Error error = runner(*kernels, device, one.kernel, shape, arguments))
        return error;
      continue;
    }
    Expected<Counters> counters = kernels->launch(device, one.kernel, shape, arguments);
    if (!counters)
      return counters.takeError();
    if (trace)
      trace->push_back(std::move(*counters));
  }
  return Error::success();
}

Error SimulatedStep::multiply(const LaunchList::Launch &launch, const LaunchValues &values) {
  int64_t rows = values.productRows(launch);
  if (productRunner)
    return rows ? productRunner(*launch.product, rows) : Error::success();
  auto at = [&](size_t i) { return values.of(launch.arguments[i]); };
  auto [n, k, bf16, add] = *launch.product;
  return sim::multiply(device, {n, k, rows, static_cast<int64_t>(at(3)), bf16, add}, at(0), at(1), at(2));
}

Error SimulatedStep::step(const skim_step_args &args, std::span<SampleState> states, int32_t *chosen) {
  LaunchValues values;
  values.rows = args.batch * args.length;
  values.wantedRows = args.num_rows;
  values.length = args.length;
  values.weights = weights;
  Expected<const LaunchList::Variant *> variant = list.choose(values.rows);
  if (!variant)
    return variant.takeError();

  // What lives for this step alone.
  std::vector<Address> temporary;
  auto keep = [&](Address address) { return temporary.emplace_back(address); };
  auto put = [&](const char *name, const void *data, int64_t bytes) {
    return keep(device.allocate(name, data, static_cast<uint64_t>(bytes)));
  };
  values.at(Source::Tokens) = put("tokens", args.tokens, values.rows * 4);
  values.at(Source::Start) = put("start", args.start, args.batch * 4);
  values.at(Source::Count) = put("count", args.count, args.batch * 4);
  values.at(Source::Wanted) = put("wanted rows", args.rows, args.num_rows * 4);
  std::vector<Address> blocks;
  for (int64_t b = 0; b < args.batch; ++b)
    blocks.push_back(
        keep(device.share("cache", args.caches[b], static_cast<uint64_t>(args.capacity[b] * cacheBytesPerToken))));
  values.at(Source::Caches) = put("caches", blocks.data(), args.batch * 8);
  values.at(Source::Capacity) = put("capacities", args.capacity, args.batch * 8);
  values.at(Source::Scratch) = scratch;
  uint64_t logitBytes = static_cast<uint64_t>(args.num_rows * vocabulary * 4);
  values.at(Source::Logits) =
      keep(states.empty() ? device.share("logits", args.logits, logitBytes) : device.allocate("logits", logitBytes));

  Error error = launch((*variant)->launches, values);
  if (!error && !states.empty()) {
    values.at(Source::Sampling) = put("sampling", states.data(), static_cast<int64_t>(states.size_bytes()));
    values.at(Source::Chosen) = keep(device.allocate("chosen", states.size() * 4));
    error = launch(list.sampling, values);
    if (!error)
      error = device.copyOut(chosen, values.at(Source::Chosen), states.size() * 4);
    if (!error)
      error = device.copyOut(states.data(), values.at(Source::Sampling), states.size_bytes());
  }
  for (Address address : temporary)
    device.release(address);
  return error;
}

Error SimulatedStep::run(const skim_step_args &args) { return step(args, {}, nullptr); }

Error SimulatedStep::sample(const skim_step_args &args, std::span<SampleState> states, int32_t *tokens) {
  return step(args, states, tokens);
}

Error SimulatedStep::copy(std::span<const Copy> copies) {
  for (const Copy &piece : copies)
    std::memcpy(piece.to, piece.from, piece.bytes);
  return Error::success();
}
