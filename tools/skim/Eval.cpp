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
  std::string package, text, tokenIds, against;
  int64_t length = 0, sequences = 0;
  bool bos = false, json = false;
  Model::Options model;
};

/// Sums over scored tokens, in order, so that threads do not change them.
struct Scores {
  double nll = 0;
  int64_t tokens = 0;
  std::vector<double> divergences;
  int64_t agreements = 0;
};

/// What one row of logits gives.
struct RowScore {
  double nll = 0, divergence = 0;
  bool agrees = false;
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

static RowScore scoreRow(const float *row, const float *base, int64_t vocabulary, int32_t target) {
  RowScore score;
  double normalizer = logSumExp(row, vocabulary);
  score.nll = normalizer - row[target];
  if (base) {
    // KL(base ‖ this) = Σ p·(log p − log q).
    double baseNormalizer = logSumExp(base, vocabulary), sum = 0;
    for (int64_t i = 0; i < vocabulary; ++i) {
      float logP = static_cast<float>(base[i] - baseNormalizer);
      sum += std::exp(logP) * (logP - (row[i] - normalizer));
    }
    score.divergence = std::max(0.0, sum);
    score.agrees = std::max_element(row, row + vocabulary) - row == std::max_element(base, base + vocabulary) - base;
  }
  return score;
}

/// Scores every token of a window but the first.
static Error scoreWindow(const Model &model, const Model *base, std::span<const int32_t> window, Scores &scores) {
  int64_t vocabulary = model.info().vocabulary, count = static_cast<int64_t>(window.size());
  Expected<Session> session = model.session(count);
  if (!session)
    return session.takeError();
  std::optional<Session> baseSession;
  if (base) {
    Expected<Session> created = base->session(count);
    if (!created)
      return created.takeError();
    baseSession.emplace(std::move(*created));
  }
  std::vector<float> logits(rowsAtOnce * vocabulary), baseLogits(base ? rowsAtOnce * vocabulary : 0);
  std::vector<RowScore> rowScores(rowsAtOnce);
  for (int64_t begin = 0; begin < count - 1; begin += rowsAtOnce) {
    int64_t rows = std::min(rowsAtOnce, count - 1 - begin);
    if (Error error = session->prefill(window.data() + begin, rows, SKIM_RT_LOGITS_ALL, logits.data()))
      return error;
    if (base)
      if (Error error = baseSession->prefill(window.data() + begin, rows, SKIM_RT_LOGITS_ALL, baseLogits.data()))
        return error;
    parallelFor(rows, 1, model.info().threads, [&](size_t first, size_t end, unsigned) {
      for (size_t i = first; i < end; ++i)
        rowScores[i] = scoreRow(logits.data() + i * vocabulary, base ? baseLogits.data() + i * vocabulary : nullptr,
                                vocabulary, window[begin + i + 1]);
    });
    for (int64_t i = 0; i < rows; ++i) {
      scores.nll += rowScores[i].nll;
      if (base) {
        scores.divergences.push_back(rowScores[i].divergence);
        scores.agreements += rowScores[i].agrees;
      }
    }
    scores.tokens += rows;
  }
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
static Expected<std::vector<std::vector<int32_t>>> readWindows(const Options &options, const Model &model) {
  std::vector<std::vector<int32_t>> windows;
  int64_t context = model.info().context;
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
      return fail("sequence longer than the model's context", options.package,
                  "at most " + std::to_string(context) + " tokens", std::to_string(window.size()), "use --length");
  return windows;
}

static Error check(const Options &options) {
  if (options.text.empty() == options.tokenIds.empty())
    return fail("eval needs a text", "", "either --text or --token-ids", options.text.empty() ? "none" : "both");
  return Error::success();
}

static Error run(const Options &options) {
  Stopwatch watch;
  Expected<Model> model = Model::open(options.package, options.model);
  if (!model)
    return model.takeError();
  std::optional<Model> base;
  if (!options.against.empty()) {
    Model::Options baseOptions = options.model;
    baseOptions.target.clear();
    Expected<Model> opened = Model::open(options.against, baseOptions);
    if (!opened)
      return opened.takeError();
    if (opened->info().vocabulary != model->info().vocabulary)
      return fail("different models", options.against, "a vocabulary of " + std::to_string(model->info().vocabulary),
                  std::to_string(opened->info().vocabulary));
    base.emplace(std::move(*opened));
  }
  Expected<std::vector<std::vector<int32_t>>> windows = readWindows(options, *model);
  if (!windows)
    return windows.takeError();

  Scores scores;
  std::vector<double> windowMeans; // of the divergence
  for (size_t i = 0; i < windows->size(); ++i) {
    size_t before = scores.divergences.size();
    if (Error error = scoreWindow(*model, base ? &*base : nullptr, (*windows)[i], scores))
      return error;
    double sum = 0;
    for (size_t j = before; j < scores.divergences.size(); ++j)
      sum += scores.divergences[j];
    if (base)
      windowMeans.push_back(sum / double(scores.divergences.size() - before));
    std::fprintf(stderr, "[%3zu/%zu] perplexity %.4f\n", i + 1, windows->size(), std::exp(scores.nll / scores.tokens));
  }

  double nll = scores.nll / scores.tokens;
  Json result = {{"perplexity", std::exp(nll)}, {"nll", nll}, {"tokens", scores.tokens}};
  if (base) {
    double sum = 0;
    for (double value : scores.divergences)
      sum += value;
    std::vector<double> sorted = scores.divergences;
    std::sort(sorted.begin(), sorted.end());
    size_t p99 = std::min(sorted.size() - 1, static_cast<size_t>(std::ceil(0.99 * sorted.size())) - 1);
    result["kl_mean"] = sum / scores.tokens;
    result["kl_p99"] = sorted[p99];
    result["top1_agreement"] = double(scores.agreements) / scores.tokens;
    result["kl_windows"] = windowMeans;
    result["kl_standard_error"] = standardError(windowMeans);
  } else {
    for (const char *key : {"kl_mean", "kl_p99", "top1_agreement", "kl_windows", "kl_standard_error"})
      result[key] = nullptr;
  }
  result["seconds"] = watch.seconds();
  if (options.json) {
    std::printf("%s\n", dumpJson(result).c_str());
    return Error::success();
  }
  std::printf("perplexity  %.4f over %lld tokens (nll %.5f)\n", std::exp(nll), static_cast<long long>(scores.tokens),
              nll);
  if (base)
    std::printf("KL          mean %.5f, p99 %.4f nats; same top token %.2f%%\n", result["kl_mean"].get<double>(),
                result["kl_p99"].get<double>(), 100 * result["top1_agreement"].get<double>());
  return Error::success();
}

void skim::tool::addEval(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command =
      addCommand(app, action, "eval", "perplexity of a text, KL against another package", options, run, check);
  command->add_option("package", options->package, "OUT.skim")->required();
  command->add_option("--text", options->text, "UTF-8 text, tokenized whole");
  command->add_option("--token-ids", options->tokenIds, "one sequence of ids a line");
  command->add_option("--length", options->length, "tokens of a window (default: 2048 or the context)")
      ->check(CLI::Range(int64_t(2), int64_t(1) << 30));
  command->add_option("--sequences", options->sequences, "only the first windows")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 30));
  command->add_flag("--bos", options->bos, "begin with the model's begin token");
  command->add_option("--against", options->against, "the base package for KL(base, this)");
  command->add_option("--target", options->model.target, "target of the package");
  command->add_option("--threads", options->model.threads, "threads (default: all)");
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
