#include "skim/Runtime/SimulatedStep.h"
#include "skim/Support/Json.h"

#include <algorithm>
#include <iterator>

using namespace skim;
using namespace skim::sim;

static constexpr std::string_view kSources[] = {"scratch",     "logits", "weight", "tokens",   "start",
                                                "count",       "wanted", "caches", "capacity", "rows",
                                                "wanted_rows", "length", "number"};

namespace skim::sim {
/// Reads the list of launches. The first failure stays.
struct StepParser {
  SimulatedStep &step;
  size_t weights;
  std::vector<std::string> kernels;
  Error error;

  /// The value, or one of its type and a failure.
  template <typename T> T take(Expected<T> value, T otherwise = T()) {
    if (value)
      return std::move(*value);
    if (!error)
      error = value.takeError();
    return otherwise;
  }
  std::vector<JsonCursor> list(const JsonCursor &object, std::string_view key) {
    Expected<JsonCursor> member = object.member(key);
    if (!member) {
      if (!error)
        error = member.takeError();
      return {};
    }
    return take(member->elements());
  }

  void argument(const JsonCursor &value, SimulatedStep::Launch &launch) {
    std::vector<JsonCursor> parts = take(value.elements());
    if (error)
      return;
    if (parts.size() != 3) {
      error = value.mismatch("a kind, a value and an offset");
      return;
    }
    std::string kind = take(parts[0].string());
    int64_t number = take(parts[1].integer(INT32_MIN, INT32_MAX)), offset = take(parts[2].integer(0, INT64_MAX / 2));
    const auto *known = std::find(std::begin(kSources), std::end(kSources), kind);
    if (error)
      return;
    if (known == std::end(kSources))
      error = parts[0].mismatch("a kind of argument");
    auto source = static_cast<SimulatedStep::Source>(known - kSources);
    if (source == SimulatedStep::Source::Weight && (number < 0 || static_cast<uint64_t>(number) >= weights))
      error = parts[1].mismatch("a weight below " + std::to_string(weights));
    launch.arguments.push_back({source, number, offset});
  }

  void launch(const JsonCursor &value, SimulatedStep::Variant &variant) {
    SimulatedStep::Launch launch;
    launch.kernel = take(value.string("kernel"));
    launch.threads = static_cast<uint32_t>(take(value.integer("threads", 1, 1024)));
    launch.wanted = take(value.booleanOr("wanted", false));
    std::vector<JsonCursor> grid = list(value, "grid"), arguments = list(value, "arguments");
    if (error)
      return;
    if (grid.size() != 3 || std::find(kernels.begin(), kernels.end(), launch.kernel) == kernels.end()) {
      error = value.mismatch("a kernel that there is, and a grid of three extents");
      return;
    }
    for (size_t i = 0; i < 3; ++i)
      launch.grid[i] = static_cast<uint32_t>(take(grid[i].integer(i == 0 ? 0 : 1, INT32_MAX)));
    for (const JsonCursor &element : arguments)
      argument(element, launch);
    variant.launches.push_back(std::move(launch));
  }

  int64_t read(const JsonCursor &root) {
    int64_t version = take(root.integer("version")), scratch = take(root.integer("scratch", 0, int64_t(1) << 40));
    if (!error && version != 1)
      error = fail("launches for another runtime", root.place(), "version 1", std::to_string(version));
    for (const JsonCursor &value : list(root, "variants")) {
      SimulatedStep::Variant variant;
      variant.rows = take(value.integer("rows", 1, INT32_MAX));
      for (const JsonCursor &element : list(value, "launches"))
        launch(element, variant);
      step.variants.push_back(std::move(variant));
    }
    std::sort(step.variants.begin(), step.variants.end(), [](const auto &a, const auto &b) { return a.rows < b.rows; });
    if (!error && step.variants.empty())
      error = root.mismatch("at least one variant");
    return scratch;
  }
};
} // namespace skim::sim

Expected<std::unique_ptr<SimulatedStep>> SimulatedStep::create(std::unique_ptr<Module> kernels,
                                                               std::string_view launches,
                                                               std::span<const sim::StepWeight> weights,
                                                               int64_t vocabulary, int64_t cacheBytesPerToken) {
  Expected<Json> json = parseJson(launches, "launches");
  if (!json)
    return json.takeError();
  std::unique_ptr<SimulatedStep> step(new SimulatedStep());
  StepParser parser{*step, weights.size(), kernels->kernels(), {}};
  int64_t scratch = parser.read(JsonCursor(*json, "launches"));
  if (parser.error)
    return parser.error;
  step->kernels = std::move(kernels);
  step->vocabulary = vocabulary;
  step->cacheBytesPerToken = cacheBytesPerToken;
  for (const sim::StepWeight &weight : weights)
    step->weights.push_back(step->device.map(weight.name, weight.data, weight.bytes));
  // Rows that a step does not have are read and go nowhere.
  step->scratch = step->device.allocate("scratch", static_cast<uint64_t>(scratch), Device::Content::Zero);
  return step;
}

Error SimulatedStep::run(const skim_step_args &args) {
  int64_t rows = args.batch * args.length;
  auto variant = std::find_if(variants.begin(), variants.end(), [&](const Variant &one) { return one.rows >= rows; });
  if (variant == variants.end())
    return fail("too many rows in a step", "", std::to_string(variants.back().rows), std::to_string(rows));

  // What lives for this step alone.
  std::vector<Address> temporary;
  auto put = [&](const char *name, const void *data, int64_t bytes) {
    temporary.push_back(device.allocate(name, data, static_cast<uint64_t>(bytes)));
    return temporary.back();
  };
  std::array<Address, std::size(kSources)> pointers = {};
  auto at = [&](Source source) -> Address & { return pointers[static_cast<size_t>(source)]; };
  at(Source::Tokens) = put("tokens", args.tokens, rows * 4);
  at(Source::Start) = put("start", args.start, args.batch * 4);
  at(Source::Count) = put("count", args.count, args.batch * 4);
  at(Source::Wanted) = put("wanted rows", args.rows, args.num_rows * 4);
  std::vector<Address> blocks;
  for (int64_t b = 0; b < args.batch; ++b) {
    blocks.push_back(
        device.share("cache", args.caches[b], static_cast<uint64_t>(args.capacity[b] * cacheBytesPerToken)));
    temporary.push_back(blocks.back());
  }
  at(Source::Caches) = put("caches", blocks.data(), args.batch * 8);
  at(Source::Capacity) = put("capacities", args.capacity, args.batch * 8);
  at(Source::Scratch) = scratch;
  at(Source::Logits) = device.share("logits", args.logits, static_cast<uint64_t>(args.num_rows * vocabulary * 4));
  temporary.push_back(at(Source::Logits));

  Error error;
  for (const Launch &launch : variant->launches) {
    int64_t own = launch.wanted ? args.num_rows : rows;
    if (own == 0)
      continue;
    LaunchShape shape{launch.grid, {launch.threads, 1, 1}};
    if (!shape.grid[0])
      shape.grid[0] = static_cast<uint32_t>(own);
    std::vector<Argument> arguments;
    for (const Value &value : launch.arguments) {
      switch (value.source) {
      case Source::Weight:
        arguments.push_back(
            Argument::pointer(weights[static_cast<size_t>(value.value)] + static_cast<uint64_t>(value.offset)));
        break;
      case Source::Rows:
        arguments.push_back(Argument::i32(static_cast<int32_t>(rows)));
        break;
      case Source::WantedRows:
        arguments.push_back(Argument::i32(static_cast<int32_t>(args.num_rows)));
        break;
      case Source::Length:
        arguments.push_back(Argument::i32(static_cast<int32_t>(args.length)));
        break;
      case Source::Number:
        arguments.push_back(Argument::i32(static_cast<int32_t>(value.value)));
        break;
      default:
        arguments.push_back(Argument::pointer(at(value.source) + static_cast<uint64_t>(value.offset)));
        break;
      }
    }
    if (runner) {
      error = runner(*kernels, device, launch.kernel, shape, arguments);
      if (error)
        break;
      continue;
    }
    Expected<Counters> counters = kernels->launch(device, launch.kernel, shape, arguments);
    if (!counters) {
      error = counters.takeError();
      break;
    }
    if (trace)
      trace->push_back(std::move(*counters));
  }
  for (Address address : temporary)
    device.release(address);
  return error;
}
