#include "skim/Runtime/DeviceStep.h"
#include "skim/Support/Json.h"

#include <algorithm>
#include <iterator>

using namespace skim;

static constexpr std::string_view kNames[] = {"scratch", "logits", "weight",      "tokens",   "start",
                                              "count",   "wanted", "caches",      "capacity", "sampling",
                                              "chosen",  "rows",   "wanted_rows", "length",   "number"};
static_assert(std::size(kNames) == LaunchList::kSources);

namespace {
/// Reads the list of launches. The first failure stays.
struct Parser {
  LaunchList &list;
  size_t weights;
  const std::function<bool(const std::string &)> &hasKernel;
  Error error;

  /// The value, or one of its type and a failure.
  template <typename T> T take(Expected<T> value, T otherwise = T()) {
    if (value)
      return std::move(*value);
    if (!error)
      error = value.takeError();
    return otherwise;
  }
  std::vector<JsonCursor> elements(const JsonCursor &object, std::string_view key) {
    Expected<JsonCursor> member = object.member(key);
    if (!member) {
      if (!error)
        error = member.takeError();
      return {};
    }
    return take(member->elements());
  }

  void argument(const JsonCursor &value, LaunchList::Launch &launch) {
    std::vector<JsonCursor> parts = take(value.elements());
    if (error)
      return;
    if (parts.size() != 3) {
      error = value.mismatch("a kind, a value and an offset");
      return;
    }
    std::string kind = take(parts[0].string());
    int64_t number = take(parts[1].integer(INT32_MIN, INT32_MAX)), offset = take(parts[2].integer(0, INT64_MAX / 2));
    const auto *known = std::find(std::begin(kNames), std::end(kNames), kind);
    if (error)
      return;
    if (known == std::end(kNames)) {
      error = parts[0].mismatch("a kind of argument");
      return;
    }
    auto source = static_cast<LaunchList::Source>(known - kNames);
    if (source == LaunchList::Source::Weight && (number < 0 || static_cast<uint64_t>(number) >= weights))
      error = parts[1].mismatch("a weight below " + std::to_string(weights));
    launch.arguments.push_back({source, number, offset});
  }

  void product(const JsonCursor &value, LaunchList::Launch &launch) {
    std::string library = take(value.string("library")), type = take(value.string("type"));
    std::vector<JsonCursor> shape = elements(value, "shape");
    if (error)
      return;
    if (library != "cublas" || (type != "f16" && type != "bf16") || shape.size() != 2) {
      error = value.mismatch("a product of cublas, of f16 or bf16, and its two extents");
      return;
    }
    int64_t n = take(shape[0].integer(1, INT32_MAX)), k = take(shape[1].integer(1, INT32_MAX));
    launch.product = LaunchList::Product{n, k, type == "bf16", take(value.booleanOr("add", false))};
    launch.wanted = take(value.booleanOr("wanted", false));
    launch.threads = launch.shared = 0;
    launch.grid = {0, 1, 1};
    for (const JsonCursor &element : elements(value, "arguments"))
      argument(element, launch);
    auto isNumber = [&](size_t i) { return launch.arguments[i].source == LaunchList::Source::Number; };
    if (!error && (launch.arguments.size() != 4 || isNumber(0) || isNumber(1) || isNumber(2) || !isNumber(3) ||
                   launch.arguments[3].value < n))
      error = value.mismatch("two factors, a result and the elements between its rows");
  }

  void launch(const JsonCursor &value, std::vector<LaunchList::Launch> &launches) {
    LaunchList::Launch launch;
    if (value.find("library")) {
      product(value, launch);
      launches.push_back(std::move(launch));
      return;
    }
    launch.kernel = take(value.string("kernel"));
    launch.threads = static_cast<uint32_t>(take(value.integer("threads", 1, 1024)));
    launch.shared = static_cast<uint32_t>(take(value.integerOr("shared", 0, 0, 1 << 20)));
    launch.wanted = take(value.booleanOr("wanted", false));
    std::vector<JsonCursor> grid = elements(value, "grid"), arguments = elements(value, "arguments");
    if (error)
      return;
    if (grid.size() != 3 || !hasKernel(launch.kernel)) {
      error = value.mismatch("a kernel that there is, and a grid of three extents");
      return;
    }
    for (size_t i = 0; i < 3; ++i)
      launch.grid[i] = take(grid[i].integer(i == 2 ? 1 : -65535, i == 0 ? INT32_MAX : 65535));
    if (!error && launch.grid[1] == 0)
      error = grid[1].mismatch("1 or more, or rows of a block");
    if (value.find("lengths")) {
      std::vector<JsonCursor> lengths = elements(value, "lengths");
      if (!error && lengths.size() != 2)
        error = value.mismatch("a least and a most length");
      if (error)
        return;
      launch.leastLength = take(lengths[0].integer(1, INT32_MAX));
      launch.mostLength = take(lengths[1].integer(0, INT32_MAX));
    }
    for (const JsonCursor &element : arguments)
      argument(element, launch);
    launches.push_back(std::move(launch));
  }

  void read(const JsonCursor &root) {
    int64_t version = take(root.integer("version"));
    list.scratch = take(root.integer("scratch", 0, int64_t(1) << 40));
    if (!error && version != 1)
      error = fail("launches for another runtime", root.place(), "version 1", std::to_string(version));
    for (const JsonCursor &value : elements(root, "variants")) {
      LaunchList::Variant variant;
      variant.rows = take(value.integer("rows", 1, INT32_MAX));
      for (const JsonCursor &element : elements(value, "launches"))
        launch(element, variant.launches);
      list.variants.push_back(std::move(variant));
    }
    if (std::optional<JsonCursor> sampling = root.find("sampling"))
      for (const JsonCursor &element : take(sampling->elements()))
        launch(element, list.sampling);
    std::sort(list.variants.begin(), list.variants.end(), [](const auto &a, const auto &b) { return a.rows < b.rows; });
    if (!error && list.variants.empty())
      error = root.mismatch("at least one variant");
  }
};
} // namespace

Expected<LaunchList> LaunchList::parse(std::string_view text, size_t weights,
                                       const std::function<bool(const std::string &)> &hasKernel) {
  Expected<Json> json = parseJson(text, "launches");
  if (!json)
    return json.takeError();
  LaunchList list;
  Parser parser{list, weights, hasKernel, {}};
  parser.read(JsonCursor(*json, "launches"));
  if (parser.error)
    return parser.error;
  return list;
}

Expected<const LaunchList::Variant *> LaunchList::choose(int64_t rows) const {
  for (const Variant &variant : variants)
    if (variant.rows >= rows)
      return &variant;
  return fail("too many rows in a step", "", std::to_string(variants.back().rows), std::to_string(rows));
}

uint64_t LaunchValues::of(const LaunchList::Argument &argument) const {
  switch (argument.source) {
  case LaunchList::Source::Weight:
    return weights[static_cast<size_t>(argument.value)] + static_cast<uint64_t>(argument.offset);
  case LaunchList::Source::Rows:
    return static_cast<uint64_t>(rows);
  case LaunchList::Source::WantedRows:
    return static_cast<uint64_t>(wantedRows);
  case LaunchList::Source::Length:
    return static_cast<uint64_t>(length);
  case LaunchList::Source::Number:
    return static_cast<uint64_t>(argument.value);
  default:
    return pointers[static_cast<size_t>(argument.source)] + static_cast<uint64_t>(argument.offset);
  }
}

bool LaunchList::hasProducts() const {
  return std::any_of(variants.begin(), variants.end(), [](const Variant &variant) {
    return std::any_of(variant.launches.begin(), variant.launches.end(),
                       [](const Launch &launch) { return launch.product.has_value(); });
  });
}

int64_t LaunchValues::productRows(const LaunchList::Launch &launch) const { return launch.wanted ? wantedRows : rows; }

std::array<uint32_t, 3> LaunchValues::grid(const LaunchList::Launch &launch) const {
  auto [x, y, z] = launch.grid;
  int64_t own = launch.wanted ? wantedRows : rows;
  bool isLeftOut = own == 0 || length < launch.leastLength || (launch.mostLength && length > launch.mostLength);
  auto upTo = [](int64_t count, int64_t each) { return (count + each - 1) / each; };
  if (isLeftOut || x == 0)
    x = isLeftOut ? 0 : own;
  else if (x < 0)
    x = rows / length * upTo(length, -x);
  if (y < 0)
    y = upTo(own, -y);
  return {static_cast<uint32_t>(x), static_cast<uint32_t>(y), static_cast<uint32_t>(z)};
}
