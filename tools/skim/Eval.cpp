//===- Eval.cpp - skim eval: perplexity and KL divergence -------------------===//

#include "Command.h"
#include "Model.h"
#include "skim/Support/Json.h"
#include "skim/Support/MappedFile.h"
#include "skim/Support/Resources.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::vector<std::string> packages;
  std::string text, tokenIds, against;
  int64_t length = 0, sequences = 0;
  bool bos = false, json = false;
  Model::Options model;
};

/// Sums over scored tokens, in order, so that threads do not change them.
struct Scores {
  double nll = 0;
  int64_t tokens = 0;
  std::vector<double> divergences;
  std::vector<double> windowMeans; // of the divergence
  int64_t agreements = 0;
};

/// What one row of logits gives.
struct RowScore {
  double nll = 0, divergence = 0;
  bool agrees = false;
};

/// The base's answers to a block of tokens: made once, then all packages are
/// held against them.
struct BaseRows {
  std::vector<float> logProbabilities, probabilities; // [rows, vocabulary]
  std::vector<int64_t> top;
  void reserve(int64_t rows, int64_t vocabulary) {
    logProbabilities.resize(rows * vocabulary);
    probabilities.resize(rows * vocabulary);
    top.resize(rows);
  }
};

/// All models of one evaluation; the base, if there is one, is the last.
struct Evaluation {
  std::vector<Model> models;
  bool hasBase = false;
  int64_t vocabulary = 0;
  unsigned threads = 0;
  std::vector<Scores> scores; // of the models
  Error scoreWindow(std::span<const int32_t> window);
};
} // namespace

static constexpr int64_t rowsAtOnce = 64;

static double logSumExp(const float *row, int64_t count) {
  float most = *std::max_element(row, row + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum += std::exp(row[i] - most);
  return most + std::log(sum);
}

/// Turns row i of logits into probabilities.
static RowScore scoreBaseRow(BaseRows &base, int64_t i, int64_t vocabulary, int32_t target) {
  float *row = base.logProbabilities.data() + i * vocabulary, *probability = base.probabilities.data() + i * vocabulary;
  RowScore score;
  double normalizer = logSumExp(row, vocabulary);
  score.nll = normalizer - row[target];
  score.agrees = true;
  base.top[i] = std::max_element(row, row + vocabulary) - row;
  for (int64_t k = 0; k < vocabulary; ++k) {
    row[k] = static_cast<float>(row[k] - normalizer);
    probability[k] = std::exp(row[k]);
  }
  return score;
}

static RowScore scoreRow(const float *row, const BaseRows *base, int64_t i, int64_t vocabulary, int32_t target) {
  RowScore score;
  double normalizer = logSumExp(row, vocabulary);
  score.nll = normalizer - row[target];
  if (base) {
    // KL(base ‖ this) = Σ p·(log p − log q).
    const float *logP = base->logProbabilities.data() + i * vocabulary,
                *probability = base->probabilities.data() + i * vocabulary;
    double sum = 0;
    for (int64_t k = 0; k < vocabulary; ++k)
      sum += probability[k] * (logP[k] - (row[k] - normalizer));
    score.divergence = std::max(0.0, sum);
    score.agrees = std::max_element(row, row + vocabulary) - row == base->top[i];
  }
  return score;
}

/// Scores every token of a window but the first, in every model.
Error Evaluation::scoreWindow(std::span<const int32_t> window) {
  const int64_t count = static_cast<int64_t>(window.size());
  std::vector<Session> sessions;
  for (const Model &model : models) {
    Expected<Session> session = model.session(count);
    if (!session)
      return session.takeError();
    sessions.push_back(std::move(*session));
  }
  std::vector<float> logits(rowsAtOnce * vocabulary);
  BaseRows base;
  if (hasBase)
    base.reserve(rowsAtOnce, vocabulary);
  std::vector<RowScore> rowScores(rowsAtOnce);
  std::vector<double> divergence(models.size());
  for (int64_t begin = 0; begin < count - 1; begin += rowsAtOnce) {
    int64_t rows = std::min(rowsAtOnce, count - 1 - begin);
    // From the last: the base comes before those that are held against it.
    for (size_t m = models.size(); m-- > 0;) {
      bool isBase = hasBase && m + 1 == models.size();
      float *out = isBase ? base.logProbabilities.data() : logits.data();
      if (Error error = sessions[m].prefill(window.data() + begin, rows, SKIM_RT_LOGITS_ALL, out))
        return error;
      parallelFor(rows, 1, threads, [&](size_t first, size_t end, unsigned) {
        for (size_t i = first; i < end; ++i) {
          int32_t target = window[begin + i + 1];
          rowScores[i] = isBase ? scoreBaseRow(base, i, vocabulary, target)
                                : scoreRow(out + i * vocabulary, hasBase ? &base : nullptr, i, vocabulary, target);
        }
      });
      Scores &sums = scores[m];
      for (int64_t i = 0; i < rows; ++i) {
        sums.nll += rowScores[i].nll;
        sums.divergences.push_back(rowScores[i].divergence);
        sums.agreements += rowScores[i].agrees;
        divergence[m] += rowScores[i].divergence;
      }
      sums.tokens += rows;
    }
  }
  for (size_t m = 0; m < models.size(); ++m)
    scores[m].windowMeans.push_back(divergence[m] / double(count - 1));
  return Error::success();
}

/// Of the mean of windows; null of a single one.
static Json standardError(const std::vector<double> &values) {
  if (values.size() < 2)
    return nullptr;
  double mean = 0, squares = 0;
  for (double value : values)
    mean += value / double(values.size());
  for (double value : values)
    squares += (value - mean) * (value - mean);
  return std::sqrt(squares / double(values.size() - 1) / double(values.size()));
}

/// The lines of the id file, or the text's tokens cut into windows.
static Expected<std::vector<std::vector<int32_t>>> readWindows(const Options &options,
                                                               const std::vector<Model> &models) {
  std::vector<std::vector<int32_t>> windows;
  const Model &model = models.front();
  int64_t context = model.info().context;
  for (const Model &other : models)
    context = std::min<int64_t>(context, other.info().context);
  if (!options.tokenIds.empty()) {
    Expected<std::vector<std::vector<int32_t>>> lines = readTokenIds(options.tokenIds);
    if (!lines)
      return lines.takeError();
    // The last id of a line is only scored, never given to the model, which would check it.
    int32_t vocabulary = static_cast<int32_t>(model.info().vocabulary);
    for (std::vector<int32_t> &line : *lines) {
      for (int32_t id : line)
        if (id < 0 || id >= vocabulary)
          return fail("token out of range", options.tokenIds, "ids from 0 to " + std::to_string(vocabulary - 1),
                      std::to_string(id));
      if (options.length > 0 && static_cast<int64_t>(line.size()) > options.length)
        line.resize(options.length);
      windows.push_back(std::move(line));
    }
  } else {
    Expected<std::string> text = readTextFile(options.text);
    if (!text)
      return text.takeError();
    if (text->empty())
      return fail("empty text", options.text, "some text", "0 bytes");
    Expected<std::vector<int32_t>> ids = model.tokenize(*text, options.bos ? SKIM_RT_ADD_BEGIN : 0);
    if (!ids)
      return ids.takeError();
    int64_t length = options.length > 0 ? options.length : std::min<int64_t>(2048, context);
    for (size_t begin = 0; begin < ids->size(); begin += length)
      windows.emplace_back(ids->begin() + begin, ids->begin() + std::min(ids->size(), begin + length));
  }
  // A window needs a token to score.
  std::erase_if(windows, [](const std::vector<int32_t> &window) { return window.size() < 2; });
  if (windows.empty())
    return fail("too little text", options.text.empty() ? options.tokenIds : options.text, "at least 2 tokens",
                "fewer");
  if (options.sequences > 0 && static_cast<int64_t>(windows.size()) > options.sequences)
    windows.resize(options.sequences);
  for (const std::vector<int32_t> &window : windows)
    if (static_cast<int64_t>(window.size()) > context)
      return fail("sequence longer than the model's context", options.packages.front(),
                  "at most " + std::to_string(context) + " tokens", std::to_string(window.size()), "use --length");
  return windows;
}

static Error check(const Options &options) {
  if (options.text.empty() == options.tokenIds.empty())
    return fail("eval needs a text", "", "either --text or --token-ids", options.text.empty() ? "none" : "both");
  return Error::success();
}

/// Opens the packages, then the base.
static Error openModels(const Options &options, Evaluation &evaluation) {
  auto open = [&](const std::string &path, const Model::Options &how) -> Error {
    Expected<Model> model = Model::open(path, how);
    if (!model)
      return model.takeError();
    int64_t vocabulary = model->info().vocabulary;
    if (!evaluation.models.empty() && vocabulary != evaluation.vocabulary)
      return fail("different models", path, "a vocabulary of " + std::to_string(evaluation.vocabulary),
                  std::to_string(vocabulary));
    evaluation.vocabulary = vocabulary;
    evaluation.models.push_back(std::move(*model));
    return Error::success();
  };
  for (const std::string &path : options.packages)
    if (Error error = open(path, options.model))
      return error;
  evaluation.hasBase = !options.against.empty();
  if (evaluation.hasBase) {
    Model::Options how = options.model;
    how.target.clear();
    if (Error error = open(options.against, how))
      return error;
  }
  evaluation.threads = evaluation.models.front().info().threads;
  evaluation.scores.resize(evaluation.models.size());
  return Error::success();
}

static Json describe(const Scores &scores, bool against) {
  double nll = scores.nll / scores.tokens;
  Json result = {{"perplexity", std::exp(nll)}, {"nll", nll}, {"tokens", scores.tokens}};
  for (const char *key : {"kl_mean", "kl_p99", "top1_agreement", "kl_windows", "kl_standard_error"})
    result[key] = nullptr;
  if (!against)
    return result;
  double sum = 0;
  for (double value : scores.divergences)
    sum += value;
  std::vector<double> sorted = scores.divergences;
  std::sort(sorted.begin(), sorted.end());
  size_t p99 = std::min(sorted.size() - 1, static_cast<size_t>(std::ceil(0.99 * sorted.size())) - 1);
  result["kl_mean"] = sum / scores.tokens;
  result["kl_p99"] = sorted[p99];
  result["top1_agreement"] = double(scores.agreements) / scores.tokens;
  result["kl_windows"] = scores.windowMeans;
  result["kl_standard_error"] = standardError(scores.windowMeans);
  return result;
}

static void print(const Scores &scores, const Json &result) {
  std::printf("perplexity  %.4f over %lld tokens (nll %.5f)\n", result["perplexity"].get<double>(),
              static_cast<long long>(scores.tokens), result["nll"].get<double>());
  if (!result["kl_mean"].is_number())
    return;
  const Json &error = result["kl_standard_error"];
  char deviation[32] = "";
  if (error.is_number())
    std::snprintf(deviation, sizeof deviation, " +- %.5f", error.get<double>());
  std::printf("KL          mean %.5f%s, p99 %.4f nats; same top token %.2f%%\n", result["kl_mean"].get<double>(),
              deviation, result["kl_p99"].get<double>(), 100 * result["top1_agreement"].get<double>());
}

static Error run(const Options &options) {
  Stopwatch watch;
  Evaluation evaluation;
  if (Error error = openModels(options, evaluation))
    return error;
  Expected<std::vector<std::vector<int32_t>>> windows = readWindows(options, evaluation.models);
  if (!windows)
    return windows.takeError();
  for (size_t i = 0; i < windows->size(); ++i) {
    if (Error error = evaluation.scoreWindow((*windows)[i]))
      return error;
    std::fprintf(stderr, "[%3zu/%zu] perplexity", i + 1, windows->size());
    for (size_t m = 0; m < options.packages.size(); ++m)
      std::fprintf(stderr, " %.4f", std::exp(evaluation.scores[m].nll / evaluation.scores[m].tokens));
    std::fprintf(stderr, "\n");
  }

  // Of one package an object; of several the list of them, and the base's own.
  std::vector<Json> results;
  for (const Scores &scores : evaluation.scores)
    results.push_back(describe(scores, evaluation.hasBase));
  const size_t count = options.packages.size();
  if (options.json) {
    Json document = results.front();
    if (count > 1) {
      document = {{"packages", Json::array()}};
      for (size_t m = 0; m < count; ++m) {
        results[m]["package"] = options.packages[m];
        document["packages"].push_back(results[m]);
      }
    }
    if (evaluation.hasBase)
      document["base"] = {{"perplexity", results.back()["perplexity"]}, {"nll", results.back()["nll"]}};
    document["seconds"] = watch.seconds();
    std::printf("%s\n", dumpJson(document).c_str());
    return Error::success();
  }
  for (size_t m = 0; m < count; ++m) {
    if (count > 1)
      std::printf("%s\n", options.packages[m].c_str());
    print(evaluation.scores[m], results[m]);
  }
  return Error::success();
}

void skim::tool::addEval(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command =
      addCommand(app, action, "eval", "perplexity of a text, KL against another package", options, run, check);
  command->add_option("packages", options->packages, "OUT.skim; several are held against the base in one pass")
      ->required();
  command->add_option("--text", options->text, "UTF-8 text, tokenized whole");
  command->add_option("--token-ids", options->tokenIds, "one sequence of ids a line");
  command->add_option("--length", options->length, "tokens of a window (default: 2048 or the context)")
      ->check(CLI::Range(int64_t(2), int64_t(1) << 30));
  command->add_option("--sequences", options->sequences, "only the first windows")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 30));
  command->add_flag("--bos", options->bos, "begin with the model's begin token");
  command->add_option("--against", options->against, "the base package for KL(base, this)");
  command->add_option("--target", options->model.target, "target of the package");
  command->add_option("--device", options->model.device, "which NVIDIA device")->check(CLI::Range(0, 1 << 16));
  command->add_option("--threads", options->model.threads, "threads (default: all)");
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
