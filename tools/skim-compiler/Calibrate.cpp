//===- Calibrate.cpp - skim calibrate: statistics of a model ------------------===//

#include "skim/Pipelines/Calibrate.h"
#include "Command.h"
#include "SelfGenerated.h"
#include "skim/Quantize/Statistics.h"
#include "skim/Support/Resources.h"

#include <cstdio>
#include <unistd.h>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  CalibrateModelOptions calibrate;
  std::string tokenIds;
  std::vector<std::string> merge;
  bool noGradients = false, selfGenerated = false;
};
} // namespace

static Error check(const Options &options) {
  const CalibrateModelOptions &calibrate = options.calibrate;
  if (!options.merge.empty()) {
    if (!calibrate.model.empty() || !calibrate.text.empty() || !options.tokenIds.empty())
      return fail("--merge takes statistics alone", "", "no model and no text", "one");
    return Error::success();
  }
  if (calibrate.model.empty())
    return fail("calibrate needs a model", "", "MODEL.onnx, or --merge", "none");
  if (int given = !calibrate.text.empty() + !options.tokenIds.empty() + options.selfGenerated; given != 1)
    return fail("calibrate needs a text", "", "one of --text, --token-ids and --self-generated",
                given ? "several" : "none");
  return Error::success();
}

static void printProgress(const CalibrateProgress &step, const Stopwatch &watch) {
  double seconds = watch.seconds();
  if (isatty(2)) {
    int filled = static_cast<int>(30 * step.index / step.count);
    std::fprintf(stderr, "\r\033[K[%.*s%*s] %zu/%zu  ETA %.0f s  %s %s", filled, "##############################",
                 30 - filled, "", step.index, step.count, seconds / step.index * (step.count - step.index), step.phase,
                 step.part.c_str());
    if (step.index == step.count)
      std::fputc('\n', stderr);
    return;
  }
  std::fprintf(stderr, "[%3zu/%zu] %-8s %s  %.1f s\n", step.index, step.count, step.phase, step.part.c_str(), seconds);
}

static Error run(const Options &given) {
  if (!given.merge.empty())
    return mergeStatistics(given.merge, given.calibrate.calibrate.output);
  Stopwatch watch;
  AnonymousMemorySampler memory;
  CalibrateModelOptions options = given.calibrate;
  options.calibrate.gradients = !given.noGradients;
  if (!given.tokenIds.empty()) {
    Expected<std::vector<std::vector<int32_t>>> lines = readTokenIds(given.tokenIds);
    if (!lines)
      return lines.takeError();
    options.tokenIds = std::move(*lines);
  }
  if (given.selfGenerated) {
    Expected<std::vector<std::vector<int32_t>>> sequences = generateSequences(options);
    if (!sequences)
      return sequences.takeError();
    options.tokenIds = std::move(*sequences);
  }
  options.calibrate.progress = [&](const CalibrateProgress &step) { printProgress(step, watch); };
  CalibrateReport report;
  std::vector<Failure> failures;
  if (!calibrateModel(options, report, failures)) {
    for (size_t i = 0; i + 1 < failures.size(); ++i)
      std::fprintf(stderr, "skim: error: %s\n", failures[i].message().c_str());
    return failures.empty() ? Error(fail("calibration failed")) : Error(failures.back());
  }
  std::fprintf(stderr,
               "products: %.3f TFLOP, %.1f s of sgemm; calibration took %.1f s, %.2f times that (%.2f times in CPU "
               "time, %.1f s)\n",
               report.flops / 1e12, report.productSeconds, report.seconds, report.seconds / report.productSeconds,
               report.cpuSeconds / report.productCpuSeconds, report.cpuSeconds);
  std::fprintf(stderr, "%s: %llu tokens in %llu sequences, %.1f s, %.0f MiB peak anonymous memory\n",
               options.calibrate.output.c_str(), static_cast<unsigned long long>(report.tokens),
               static_cast<unsigned long long>(report.sequences), watch.seconds(), memory.peakBytes() / 1048576.0);
  return Error::success();
}

void skim::tool::addCalibrate(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "calibrate", "statistics of a model over text", options, run, check);
  CalibrateModelOptions &calibrate = options->calibrate;
  command->add_option("model", calibrate.model, "MODEL.onnx");
  command->add_option("-o,--output", calibrate.calibrate.output, "the statistics file")->required();
  command->add_option("--text", calibrate.text, "UTF-8 text, tokenized whole; may be repeated");
  command->add_option("--token-ids", options->tokenIds, "one sequence of ids a line");
  command->add_flag("--self-generated", options->selfGenerated, "text that the model itself samples");
  command->add_option("--sequences", calibrate.sequences, "sequences (default: 32, or all token ids)")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 24));
  command->add_option("--length", calibrate.length, "tokens of a sequence (default: 512, or the model's context)")
      ->check(CLI::Range(int64_t(2), int64_t(1) << 24));
  command->add_option("--seed", calibrate.seed, "which windows of the text (0: the first)");
  command->add_flag("--no-gradients", options->noGradients, "moments of the inputs only");
  command
      ->add_option("--labels", calibrate.calibrate.labels,
                   "whose next tokens gradients are for: text (default), or model (what a divergence is made of)")
      ->transform(CLI::Transformer(std::map<std::string, Labels>{{"text", Labels::Text}, {"model", Labels::Model}}));
  command->add_option("--groups", calibrate.calibrate.groups, "guided moments a layer")->check(CLI::Range(1, 64));
  command->add_option("--tokenizer", calibrate.tokenizer, "tokenizer file or folder (default: beside the model)");
  command->add_option("--threads", calibrate.calibrate.threads, "threads (default: all)")->check(CLI::Range(0, 1024));
  command->add_flag("--resume", calibrate.calibrate.resume, "continue interrupted work");
  command->add_option("--merge", options->merge, "statistics files to add up");
}
