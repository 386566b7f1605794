// Whole models: their tokens and logits against those of a CPU, of the machine that made the folder. Not by the
// runtime's C interface, whose tokenizers need libraries that a machine may not have.
#include "Check.h"
#include "Device.h"
#include "skim/Support/Resources.h"
#include "skim/Support/Safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace skim;
using namespace skim::gpucheck;

namespace {
/// One text on a package's device target.
class Text {
public:
  static Expected<std::unique_ptr<Text>> open(const std::string &folder, int device);
  ~Text() {
    if (cache)
      step->release(cache);
  }
  /// Appends tokens; the one that follows.
  Expected<int32_t> next(const std::vector<int32_t> &tokens);
  /// Forgets everything; the logits of all of `tokens`.
  Expected<std::vector<float>> logits(const std::vector<int32_t> &tokens);
  const Program &program() const { return manifest.program; }

private:
  Text(Manifest manifest, SafetensorsFile weights) : manifest(std::move(manifest)), weights(std::move(weights)) {}
  /// A step's arguments for these tokens and rows.
  skim_step_args describe(const std::vector<int32_t> &tokens, const std::vector<int32_t> &rows);

  Manifest manifest;
  SafetensorsFile weights;
  std::unique_ptr<DeviceStep> step;
  void *cache = nullptr;
  int64_t capacity = 0;
  int32_t used = 0, count = 0;
};
} // namespace

Expected<std::unique_ptr<Text>> Text::open(const std::string &folder, int device) {
  Expected<std::string> target = rt::chooseTarget(folder, "nvidia", device);
  if (!target)
    return target.takeError();
  Expected<Manifest> manifest = readManifest(folder, *target);
  if (!manifest)
    return manifest.takeError();
  Expected<SafetensorsFile> file = SafetensorsFile::open(manifest->path(manifest->program.weightsFile));
  if (!file)
    return file.takeError();
  std::unique_ptr<Text> text(new Text(std::move(*manifest), std::move(*file)));
  const Program &program = text->program();
  std::vector<DeviceWeight> weights;
  for (size_t i = 0; i < program.weights.size(); ++i) {
    Expected<const TensorInfo *> info = text->weights.get(program.weights[i]);
    if (!info)
      return info.takeError();
    if ((*info)->bytes != static_cast<uint64_t>(program.weightBytes[i]))
      return fail("code and weights disagree", program.weights[i]);
    weights.push_back({program.weights[i], text->weights.file().begin() + (*info)->offset, (*info)->bytes});
  }
  Expected<std::unique_ptr<DeviceStep>> step = rt::openDevice(text->manifest, weights, device);
  if (!step)
    return step.takeError();
  text->step = std::move(*step);
  text->capacity = std::min<int64_t>(program.context, 2048);
  Expected<void *> cache =
      text->step->allocate(static_cast<uint64_t>(text->capacity * program.cacheBytesPerToken()), "a cache");
  if (!cache)
    return cache.takeError();
  text->cache = *cache;
  return text;
}

skim_step_args Text::describe(const std::vector<int32_t> &tokens, const std::vector<int32_t> &rows) {
  count = static_cast<int32_t>(tokens.size());
  skim_step_args args{};
  args.batch = 1;
  args.length = count;
  args.tokens = tokens.data();
  args.start = &used;
  args.count = &count;
  args.num_rows = static_cast<int64_t>(rows.size());
  args.rows = rows.data();
  args.caches = &cache;
  args.capacity = &capacity;
  return args;
}

static Error checkLength(int64_t length, int64_t most) {
  return length <= most ? Error::success()
                        : Error(fail("text too long", "expected.json", "at most " + std::to_string(most) + " tokens",
                                     std::to_string(length)));
}

Expected<int32_t> Text::next(const std::vector<int32_t> &tokens) {
  std::vector<int32_t> rows = {static_cast<int32_t>(tokens.size()) - 1};
  if (Error error = checkLength(used + static_cast<int64_t>(tokens.size()), capacity))
    return error;
  std::array<SampleState, 1> states = {SampleState{0, 0, 1, 0, 0, 0}};
  int32_t token = 0;
  if (Error error = step->sample(describe(tokens, rows), states, &token))
    return error;
  used += count;
  return token;
}

Expected<std::vector<float>> Text::logits(const std::vector<int32_t> &tokens) {
  used = 0;
  if (Error error = checkLength(static_cast<int64_t>(tokens.size()), std::min(capacity, program().maxRows)))
    return error;
  std::vector<int32_t> rows;
  for (size_t i = 0; i < tokens.size(); ++i)
    rows.push_back(static_cast<int32_t>(i));
  std::vector<float> values(tokens.size() * static_cast<size_t>(program().vocabulary));
  skim_step_args args = describe(tokens, rows);
  args.logits = values.data();
  if (Error error = step->run(args))
    return error;
  return values;
}

/// A CPU's logits, a row for each token of the text.
static Expected<std::vector<float>> readLogits(const std::string &path, size_t count) {
  Expected<SafetensorsFile> file = SafetensorsFile::open(path);
  if (!file)
    return file.takeError();
  Expected<const TensorInfo *> info = file->get("0");
  if (!info)
    return info.takeError();
  if ((*info)->bytes != count * 4)
    return fail("damaged expectation", path, std::to_string(count * 4) + " bytes", std::to_string((*info)->bytes));
  std::vector<float> values(count);
  std::memcpy(values.data(), file->file().begin() + (*info)->offset, count * 4);
  return values;
}

/// What f16 may change of logits, in units of the largest one: weights, x and sums of a few layers, 2^−11 each.
static constexpr double kAllowed = 5e-3;

/// `prompt` and then `wanted` are a CPU's greedy text, whose logits lie in the file (of all tokens but the last).
static Expected<Json> comparePackage(Text &text, const std::vector<int32_t> &prompt, const std::vector<int32_t> &wanted,
                                     const std::string &path) {
  std::vector<int32_t> tokens, next = prompt;
  double seconds = 0;
  while (tokens.size() < wanted.size()) {
    Stopwatch watch;
    Expected<int32_t> token = text.next(next);
    if (!token)
      return token.takeError();
    // The first three read the prompt, run once without a graph and record it.
    if (tokens.size() >= 3)
      seconds += watch.seconds();
    tokens.push_back(*token);
    next.assign(1, *token);
  }
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), wanted.begin(), wanted.end() - 1);
  size_t vocabulary = static_cast<size_t>(text.program().vocabulary);
  Expected<std::vector<float>> expected = readLogits(path, all.size() * vocabulary);
  if (!expected)
    return expected.takeError();
  Expected<std::vector<float>> got = text.logits(all);
  if (!got)
    return got.takeError();
  double worst = 0, size = 0;
  for (size_t i = 0; i < expected->size(); ++i) {
    double error = std::abs(double((*got)[i]) - (*expected)[i]);
    worst = error <= worst ? worst : error; // also NaN
    size = std::max(size, std::abs(double((*expected)[i])));
  }
  worst /= size;
  size_t same = 0;
  while (same < tokens.size() && tokens[same] == wanted[same])
    ++same;
  // Another token may be chosen where the CPU's two are as near as what is allowed of both; from there on texts differ.
  bool good = same == tokens.size();
  if (!good && tokens[same] >= 0 && static_cast<size_t>(tokens[same]) < vocabulary) {
    const float *row = expected->data() + (prompt.size() - 1 + same) * vocabulary;
    good = row[wanted[same]] - row[tokens[same]] <= 2 * kAllowed * size;
  }
  return Json{{"target", text.program().target},
              {"tokens", tokens.size()},
              {"same_tokens", same},
              {"logits_error", std::isfinite(worst) ? Json(worst) : Json("not a number")},
              {"logits_allowed", kAllowed},
              {"correct", good && worst <= kAllowed},
              {"decode_tokens_per_s", tokens.size() > 3 ? static_cast<double>(tokens.size() - 3) / seconds : 0}};
}

static Expected<Json> checkPackage(const std::string &folder, const JsonCursor &entry, int device) {
  Expected<std::string> name = entry.string("name");
  if (!name)
    return name.takeError();
  std::vector<int32_t> prompt, wanted;
  for (auto [key, list] : {std::pair("prompt", &prompt), std::pair("tokens", &wanted)}) {
    Expected<JsonCursor> member = entry.member(key);
    if (!member)
      return member.takeError();
    Expected<std::vector<int64_t>> ids = member->integers(0, INT32_MAX);
    if (!ids)
      return ids.takeError();
    if (ids->empty())
      return member->mismatch("tokens");
    list->assign(ids->begin(), ids->end());
  }
  Expected<std::unique_ptr<Text>> text = Text::open(folder + "/" + *name + ".skim", device);
  if (!text)
    return text.takeError();
  if (std::any_of(wanted.begin(), wanted.end(), [&](int32_t id) { return id >= (*text)->program().vocabulary; }))
    return entry.mismatch("tokens of the vocabulary");
  Expected<Json> result = comparePackage(**text, prompt, wanted, folder + "/" + *name + ".safetensors");
  if (result)
    (*result)["name"] = *name;
  return result;
}

Expected<Json> gpucheck::checkPackages(const std::string &folder, int device) {
  std::string packages = folder + "/packages", path = packages + "/expected.json";
  Expected<Json> json = parseJsonFile(path);
  if (!json)
    return json.takeError();
  Expected<std::vector<JsonCursor>> entries = JsonCursor(*json, path).elements();
  if (!entries)
    return entries.takeError();
  Json results = Json::array();
  for (const JsonCursor &entry : *entries) {
    Expected<Json> result = checkPackage(packages, entry, device);
    if (!result)
      return result;
    results.push_back(std::move(*result));
  }
  return results;
}
