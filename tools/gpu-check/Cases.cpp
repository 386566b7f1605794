#include "Check.h"
#include "Code.h"
#include "Format.h"
#include "skim/Support/MappedFile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

using namespace skim;
using namespace skim::gpucheck;

std::string Case::name() const {
  return format + " " + std::to_string(n) + "x" + std::to_string(k) + ", " + std::to_string(rows) +
         (rows == 1 ? " row" : " rows");
}

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

namespace {
/// The value, or the first failure in `error`.
template <typename T> T take(Expected<T> value, Error &error) {
  if (value)
    return std::move(*value);
  if (!error)
    error = value.takeError();
  return T();
}
/// True if the driver's name of a device (`NVIDIA H100 80GB HBM3`) is the model's (`H100 SXM 80 GB`): by the words
/// before the memory's kind. A card of the same name with other memory shows by what it reads.
bool isDevice(const std::string &driver, const std::string &model) {
  std::string wanted = model.substr(0, model.find(" SXM"));
  size_t at = driver.find(wanted);
  auto inWord = [&](size_t i) { return i < driver.size() && std::isalnum(static_cast<unsigned char>(driver[i])); };
  return at != std::string::npos && !(at && inWord(at - 1)) && !inWord(at + wanted.size());
}
} // namespace

Expected<std::unique_ptr<Cases>> Cases::load(std::shared_ptr<cuda::Context> context, const std::string &folder) {
  std::vector<std::string> targets;
  std::error_code code;
  for (const auto &entry : std::filesystem::directory_iterator(folder, code))
    if (entry.path().extension() == ".json" && entry.path().stem().extension().empty())
      targets.push_back("nvidia:" + entry.path().stem().string());
  std::sort(targets.begin(), targets.end());
  std::string best = cuda::bestTarget(targets, context->device().capability);
  if (best.empty())
    return fail("no kernels for the device", folder, "some that run on " + context->device().describe(),
                targets.empty() ? "none" : "kernels for newer ones", "sm_80 and newer devices are supported");
  std::unique_ptr<Cases> cases(new Cases());
  cases->context = context;
  cases->name = best.substr(best.find(':') + 1);
  const std::string stem = folder + "/" + cases->name;
  Expected<Code> kernels = readCode(stem);
  Expected<std::string> references = readTextFile(folder + "/reference.bin");
  Expected<Json> json = parseJsonFile(stem + ".json");
  for (Error error : {kernels.takeError(), references.takeError(), json.takeError()})
    if (error)
      return error;
  cases->references = std::move(*references);
  Expected<std::unique_ptr<cuda::Module>> module =
      context->load(kernels->ptx, kernels->cubin, cases->name, kernels->where);
  if (!module)
    return module.takeError();
  cases->module = std::move(*module);
  for (auto [kernel, to] : {std::pair("fill", &cases->fillKernel), std::pair("read", &cases->readKernel),
                            std::pair("nothing", &cases->nothingKernel)}) {
    Expected<cuda::Function> function = cases->module->function(kernel);
    if (!function)
      return function.takeError();
    *to = *function;
  }
  Error error;
  JsonCursor root(*json, stem + ".json");
  std::optional<JsonCursor> list = root.find("cases"), devices = root.find("devices");
  if (!list || !devices)
    return root.mismatch("an object with cases and devices");
  for (const JsonCursor &value : take(devices->elements(), error)) {
    std::string known = take(value.string("name"), error);
    if (!error && isDevice(context->device().name, known))
      cases->figures = value.json();
  }
  for (const JsonCursor &value : take(list->elements(), error))
    if (!error)
      error = cases->readCase(value);
  if (error)
    return error;
  return cases;
}

Error Cases::readCase(const JsonCursor &value) {
  Error error;
  constexpr int64_t most = int64_t(1) << 40;
  auto number = [&](const JsonCursor &from, const char *key) { return take(from.integer(key, 0, most), error); };
  Case one;
  one.format = take(value.string("format"), error);
  one.n = number(value, "n");
  one.k = number(value, "k");
  one.rows = number(value, "rows");
  one.check = take(value.boolean("check"), error);
  one.weightBytes = static_cast<uint64_t>(number(value, "weight_bytes"));
  one.scratchBytes = static_cast<uint64_t>(number(value, "scratch"));
  one.expected = static_cast<uint64_t>(take(value.integerOr("expected", 0, 0, most), error));
  std::optional<JsonCursor> weights = value.find("weights"), launches = value.find("launches");
  if (!weights || !launches)
    return value.mismatch("a case with weights and launches");
  for (const JsonCursor &weight : take(weights->elements(), error)) {
    uint64_t bytes = static_cast<uint64_t>(number(weight, "bytes"));
    if (!one.check) {
      one.weights.push_back(
          {bytes, 0, static_cast<uint32_t>(number(weight, "mask")), static_cast<uint32_t>(number(weight, "base"))});
      continue;
    }
    one.weights.push_back({bytes, static_cast<uint64_t>(number(weight, "at")), 0, 0});
    if (!error && one.weights.back().at + bytes > references.size())
      return weight.mismatch("bytes in the file of references");
  }
  if (std::optional<JsonCursor> predicted = value.find("predicted"))
    one.predicted = predicted->json();
  for (const JsonCursor &entry : take(launches->elements(), error)) {
    Launch launch{};
    std::string kernel = take(entry.string("kernel"), error);
    launch.threads = static_cast<uint32_t>(number(entry, "threads"));
    std::optional<JsonCursor> grid = entry.find("grid"), arguments = entry.find("arguments");
    if (!grid || !arguments || error)
      return error ? error : Error(entry.mismatch("a launch with a grid and arguments"));
    std::vector<int64_t> extents = take(grid->integers(1, INT32_MAX), error);
    if (extents.size() != 3)
      return error ? error : Error(grid->mismatch("three extents"));
    for (size_t i = 0; i < 3; ++i)
      launch.grid[i] = static_cast<uint32_t>(extents[i]);
    for (const JsonCursor &argument : take(arguments->elements(), error)) {
      std::vector<JsonCursor> parts = take(argument.elements(), error);
      if (parts.size() != 3)
        return error ? error : Error(argument.mismatch("a kind, a value and an offset"));
      std::string kind = take(parts[0].string(), error);
      using Kind = Launch::Argument::Kind;
      Kind known = kind == "x"         ? Kind::X
                   : kind == "y"       ? Kind::Y
                   : kind == "scratch" ? Kind::Scratch
                   : kind == "weight"  ? Kind::Weight
                   : kind == "zeros"   ? Kind::Zeros
                                       : Kind::Number;
      int64_t limit = known == Kind::Weight ? static_cast<int64_t>(one.weights.size()) - 1 : INT32_MAX;
      launch.arguments.push_back(
          {known, take(parts[1].integer(0, limit), error), static_cast<uint64_t>(take(parts[2].integer(0), error))});
    }
    Expected<cuda::Function> function = module->function(kernel);
    if (!function)
      return function.takeError();
    launch.function = *function;
    one.launches.push_back(std::move(launch));
  }
  if (one.check && (one.expected + static_cast<uint64_t>(one.rows * one.n) * 8 > references.size() ||
                    static_cast<uint64_t>(one.rows * one.k) * 4 > references.size()))
    return value.mismatch("x and results in the file of references");
  cases.push_back(std::move(one));
  return error;
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

Error Cases::fill(uint64_t address, uint64_t bytes, uint32_t mask, uint32_t base, uint32_t seed) {
  // In pieces, since words are counted in 32 bits.
  constexpr uint64_t most = uint64_t(1) << 30;
  for (uint64_t at = 0; at < bytes; at += most) {
    uint64_t words = (std::min(most, bytes - at) + 3) / 4;
    std::array<uint64_t, 6> arguments = {address + at, words, at / 4, seed, mask, base};
    uint32_t blocks = static_cast<uint32_t>((words + kHelperThreads - 1) / kHelperThreads);
    if (Error error = context->launch(fillKernel, {blocks, 1, 1}, kHelperThreads, 0, arguments))
      return error;
  }
  return Error::success();
}

/// What a plan keeps between its launches lies in memory of zeros beside its scratch memory.
static constexpr uint64_t kZeros = 1 << 20;

Expected<Cases::Loaded> Cases::prepare(const Case &one, uint64_t copies) {
  Loaded loaded{};
  uint32_t seed = 0;
  Error error;
  auto allocate = [&](uint64_t bytes, const char *what) {
    Expected<cuda::Memory> memory = context->allocate(std::max<uint64_t>((bytes + 3) / 4 * 4, 4), what);
    if (!memory) {
      error = memory.takeError();
      return uint64_t(0);
    }
    loaded.memory.push_back(std::move(*memory));
    return loaded.memory.back().address();
  };
  for (uint64_t copy = 0; copy < copies && !error; ++copy) {
    std::vector<uint64_t> &addresses = loaded.copies.emplace_back();
    seed = 0;
    for (const Case::Weight &weight : one.weights) {
      addresses.push_back(allocate(weight.bytes, "weights"));
      if (error)
        return error;
      error = one.check ? context->copyIn(addresses.back(), references.data() + weight.at, weight.bytes)
                        : fill(addresses.back(), weight.bytes, weight.mask, weight.base, ++seed);
    }
  }
  uint64_t xBytes = static_cast<uint64_t>(one.rows * one.k) * 4;
  uint64_t yBytes = static_cast<uint64_t>(one.rows * one.n) * 4;
  if (!error)
    loaded.x = allocate(xBytes, "x");
  if (!error) // ±[0.5, 1)
    error = one.check ? context->copyIn(loaded.x, references.data(), xBytes)
                      : fill(loaded.x, xBytes, 0x807FFFFF, 0x3F000000, ++seed);
  if (!error)
    loaded.y = allocate(yBytes, "y");
  if (!error)
    error = context->fill(loaded.y, 0xFF, yBytes); // NaN: what is not written shows
  if (!error)
    loaded.scratch = allocate(one.scratchBytes, "scratch memory");
  if (!error)
    error = context->fill(loaded.scratch, 0, loaded.memory.back().size());
  if (!error)
    loaded.zeros = allocate(kZeros, "counters");
  if (!error)
    error = context->fill(loaded.zeros, 0, kZeros);
  if (!error)
    error = context->wait();
  if (error)
    return error;
  return loaded;
}

Error Cases::launch(const Case &one, const Loaded &loaded, size_t copy) {
  for (const Launch &launch : one.launches) {
    std::vector<uint64_t> values;
    for (const Launch::Argument &argument : launch.arguments) {
      using Kind = Launch::Argument::Kind;
      uint64_t at = argument.kind == Kind::X         ? loaded.x
                    : argument.kind == Kind::Y       ? loaded.y
                    : argument.kind == Kind::Scratch ? loaded.scratch
                    : argument.kind == Kind::Zeros   ? loaded.zeros
                    : argument.kind == Kind::Weight  ? loaded.copies[copy][static_cast<size_t>(argument.value)]
                                                     : static_cast<uint64_t>(argument.value);
      values.push_back(argument.kind == Kind::Number ? at : at + argument.offset);
    }
    if (Error error = context->launch(launch.function, launch.grid, launch.threads, 0, values))
      return error;
  }
  return Error::success();
}

Expected<Json> Cases::compare(const Case &one) {
  Expected<Loaded> loaded = prepare(one, 1);
  if (!loaded)
    return loaded.takeError();
  std::vector<float> got(static_cast<size_t>(one.rows * one.n)), wanted(got.size()), allowed(got.size());
  if (Error error = launch(one, *loaded, 0))
    return error;
  if (Error error = context->copyOut(got.data(), loaded->y, got.size() * 4))
    return error;
  if (Error error = context->wait())
    return error;
  std::memcpy(wanted.data(), references.data() + one.expected, wanted.size() * 4);
  std::memcpy(allowed.data(), references.data() + one.expected + wanted.size() * 4, wanted.size() * 4);
  double worst = 0; // in units of what is allowed
  for (size_t i = 0; i < got.size(); ++i) {
    double error = std::abs(double(got[i]) - wanted[i]) / allowed[i];
    worst = error <= worst ? worst : error; // also NaN
  }
  return Json{{"case", one.name()},
              {"error_of_allowed", std::isfinite(worst) ? Json(worst) : Json("not a number")},
              {"correct", worst <= 1}};
}

Expected<Json> Cases::check() {
  Json results = Json::array();
  for (const Case &one : cases) {
    if (!one.check)
      continue;
    Expected<Json> result = compare(one);
    if (!result)
      return result;
    results.push_back(std::move(*result));
  }
  return results;
}

Expected<double> gpucheck::timeGraph(cuda::Context &context, const std::function<Error()> &body) {
  Expected<std::unique_ptr<cuda::Graph>> graph = context.record(body);
  if (!graph)
    return graph.takeError();
  Expected<std::unique_ptr<cuda::Context::Event>> begin = context.event(true), end = context.event(true);
  if (!begin || !end)
    return begin ? end.takeError() : begin.takeError();
  double best = INFINITY;
  for (int turn = 0; turn < 7; ++turn) { // the first two warm up
    Error error = context.mark(**begin);
    if (!error)
      error = context.launch(**graph);
    if (!error)
      error = context.mark(**end);
    if (!error)
      error = context.wait();
    if (error)
      return error;
    Expected<double> time = context.elapsed(**begin, **end);
    if (!time)
      return time;
    if (turn >= 2)
      best = std::min(best, *time);
  }
  return best;
}

uint64_t gpucheck::copiesFor(const cuda::DeviceInfo &device, uint64_t bytes, int nodes) {
  uint64_t wanted = 4 * static_cast<uint64_t>(std::max(device.l2Bytes, 1)) / std::max<uint64_t>(bytes, 1) + 1;
  uint64_t room = device.bytes / 10 / std::max<uint64_t>(bytes, 1) + 1;
  return std::clamp<uint64_t>(wanted, 2, std::max<uint64_t>(2, std::min<uint64_t>(room, static_cast<uint64_t>(nodes))));
}

Expected<Json> Cases::time(int nodes) {
  Json results = Json::array();
  for (const Case &one : cases) {
    if (one.check)
      continue;
    Expected<Loaded> loaded = prepare(one, copiesFor(context->device(), one.weightBytes, nodes));
    if (!loaded)
      return loaded.takeError();
    Expected<double> time = timeGraph(*context, [&] {
      Error error;
      for (int node = 0; node < nodes && !error; ++node)
        error = launch(one, *loaded, static_cast<size_t>(node) % loaded->copies.size());
      return error;
    });
    if (!time)
      return time.takeError();
    double microseconds = *time * 1000 / nodes;
    results.push_back({{"format", one.format},
                       {"n", one.n},
                       {"k", one.k},
                       {"batch", one.rows},
                       {"microseconds", microseconds},
                       {"bytes", one.weightBytes},
                       {"copies", loaded->copies.size()},
                       {"predicted", one.predicted},
                       {"launches", one.launches.size()},
                       {"gbps", static_cast<double>(one.weightBytes) / microseconds * 1e-3}});
  }
  return results;
}
