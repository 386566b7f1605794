//===- Build.cpp - skim import, quantize and compile -------------------------===//

#include "skim/Pipelines/Build.h"
#include "Command.h"
#include "skim/Calibrate/Tune.h"
#include "skim/Support/ByteSize.h"
#include "skim/Support/Resources.h"

#include <cstdio>
#include <filesystem>
#include <optional>
#include <unistd.h>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  BuildOptions build;
  std::string size, method = "auto", activations, kv, compileTo;
  std::string tokenIds;
  std::optional<unsigned> minBits, maxBits;
  std::optional<std::string> table;
  bool noMixing = false, alpha = false, noAlpha = false;
  bool dryRun = false, raise = false;
};
} // namespace

/// Prints all but the last failure, which becomes the command's error.
static Error reportAll(const std::vector<Failure> &failures) {
  for (size_t i = 0; i + 1 < failures.size(); ++i)
    std::fprintf(stderr, "skim: error: %s\n", failures[i].message().c_str());
  return failures.empty() ? Error(fail("the build failed")) : Error(failures.back());
}

static double mebibytes(uint64_t bytes) { return bytes / 1048576.0; }

/// A bar on a terminal, a line a layer elsewhere.
static void printProgress(const QuantizedLayer &layer, const Stopwatch &watch) {
  double bits = 8.0 * layer.storedBytes / (double(layer.rows) * layer.columns);
  if (isatty(2)) {
    double seconds = watch.seconds(), left = seconds / layer.index * (layer.count - layer.index);
    int filled = static_cast<int>(30 * layer.index / layer.count);
    std::fprintf(stderr, "\r\033[K[%.*s%*s] %zu/%zu  %.1f layers/s  ETA %.0f s  %s", filled,
                 "##############################", 30 - filled, "", layer.index, layer.count, layer.index / seconds,
                 left, layer.name.c_str());
    if (layer.index == layer.count)
      std::fputc('\n', stderr);
    return;
  }
  std::fprintf(stderr, "[%3zu/%zu] %s [%lldx%lld] %.2f -> %.2f MiB (%s, %.2f b/w, error %.1e)\n", layer.index,
               layer.count, layer.name.c_str(), static_cast<long long>(layer.rows),
               static_cast<long long>(layer.columns), mebibytes(layer.sourceBytes), mebibytes(layer.storedBytes),
               shortFormat(layer.format).c_str(), bits, layer.error);
}

static Error build(const BuildOptions &given, const std::string &compileTo) {
  Stopwatch watch;
  AnonymousMemorySampler memory;
  BuildOptions options = given;
  if (!compileTo.empty())
    options.compileTo = parsePhase(compileTo);
  options.progress = [&](const QuantizedLayer &layer) { printProgress(layer, watch); };
  options.calibration.calibrate.progress = [&](const CalibrateProgress &step) {
    if (step.index % 16 == 0 || step.index == step.count)
      std::fprintf(stderr, "[%3zu/%zu] calibrating: %s, %.0f s\n", step.index, step.count, step.phase, watch.seconds());
  };
  options.tuneProgress = [&](int step, int steps, double divergence) {
    std::fprintf(stderr, "[%3d/%d] tuning: KL %.4f, %.0f s\n", step, steps, divergence, watch.seconds());
  };
  options.recordProgress = [&](const RecordedLayer &layer) {
    std::fprintf(stderr, "[%3zu/%zu] errors of %s [%lldx%lld], %.0f s\n", layer.index, layer.count, layer.name.c_str(),
                 static_cast<long long>(layer.rows), static_cast<long long>(layer.columns), watch.seconds());
  };
  BuildReport report;
  std::vector<Failure> failures;
  if (!buildPackage(options, report, failures))
    return reportAll(failures);
  for (const BuildReport::Planned &layer : report.planned)
    std::printf("%s [%lldx%lld] %s, %.2f b/w, %llu bytes\n", layer.name.c_str(), static_cast<long long>(layer.rows),
                static_cast<long long>(layer.columns), shortFormat(layer.format).c_str(),
                8.0 * static_cast<double>(layer.bytes) / static_cast<double>(layer.rows * layer.columns),
                static_cast<unsigned long long>(layer.bytes));
  if (report.parameters)
    std::fprintf(stderr,
                 "%s: %.4f true bits a weight, %llu bytes (linears %.2f MiB, others %.2f MiB), %.1f s, %.0f MiB "
                 "peak anonymous memory\n",
                 options.output.c_str(), report.bits, static_cast<unsigned long long>(report.bytes),
                 mebibytes(report.linearBytes), mebibytes(report.otherBytes), watch.seconds(),
                 mebibytes(memory.peakBytes()));
  return Error::success();
}

static Error runImport(const Options &options) {
  std::vector<Failure> failures;
  std::string output = options.build.output.empty() ? "-" : options.build.output;
  return importModel(options.build.model, output, options.raise, failures) ? Error::success() : reportAll(failures);
}

static Error checkPhase(const Options &options) {
  if (!options.compileTo.empty() && !parsePhase(options.compileTo))
    return fail("unknown phase", "--compile-to", phaseNames(), options.compileTo);
  return Error::success();
}

static Error checkQuantize(const Options &options) {
  const AllocateOptions &allocate = options.build.allocate;
  int given = !allocate.format.empty() + (allocate.bits > 0) + !options.size.empty() + !allocate.plan.empty();
  if (given != 1)
    return fail("quantize needs a format or a budget", "",
                "one of --format (w4g128, k4, k3, ...), --bits, --size and --plan", given ? "several" : "none");
  return checkPhase(options);
}

/// What the contract promises and later versions hold.
static Error notYet(const char *option, const char *instead) {
  return fail("option not in this version", option, instead, option);
}

/// Methods are those of formats.
static Error checkMethod(const BuildOptions &build) {
  const AllocateOptions &allocate = build.allocate;
  if (build.method.empty())
    return Error::success();
  if (build.method == "lqer" || build.method == "l2qer" || build.method == "qera" || build.method == "abq")
    return fail("method not in this version", "--method", "auto, rtn, gptq, awq, kmeans or skim", build.method);
  if (!allocate.format.empty()) {
    const std::string &format = allocate.format;
    bool codebook = format.find("codebook") != std::string::npos || format[0] == 'k';
    bool fits = codebook ? build.method == "kmeans" || build.method == "skim"
                         : build.method == "rtn" || build.method == "gptq" || build.method == "awq";
    if (!fits)
      return fail("method does not make this format", "--method",
                  std::string(codebook ? "auto, kmeans or skim" : "auto, rtn, gptq or awq") + " for " + format,
                  build.method);
  }
  return Error::success();
}

static Error runQuantize(const Options &options) {
  if (!options.kv.empty())
    return notYet("--kv", "no --kv");
  BuildOptions build = options.build;
  build.dryRun = options.dryRun;
  if (!options.tokenIds.empty()) {
    Expected<std::vector<std::vector<int32_t>>> lines = readTokenIds(options.tokenIds);
    if (!lines)
      return lines.takeError();
    build.calibration.tokenIds = std::move(*lines);
  }
  if (build.tuneSteps > 0 && build.calibration.text.empty() && build.calibration.tokenIds.empty())
    return fail("tuning needs a text", "--tune", "--text or --token-ids", "neither");
  if (!options.size.empty()) {
    Expected<uint64_t> size = parseByteSize(options.size);
    if (!size)
      return size.takeError();
    build.allocate.size = *size;
    // 8 bits cost nothing measurable there, 16 would be most of a small model. The head finds its own bits.
    if (build.allocate.head.empty() && build.allocate.embeddings.empty()) {
      bool open = options.method == "auto" && !build.allocate.asPublished;
      (open ? build.allocate.embeddings : build.allocate.head) = "w8";
      build.allocate.openHead = open;
    }
  }
  AllocateOptions &allocate = build.allocate;
  bool published = allocate.asPublished;
  allocate.minBits = options.minBits.value_or(published ? 2 : allocate.minBits);
  allocate.maxBits = options.maxBits.value_or(published ? 4 : allocate.maxBits);
  allocate.table = options.table.value_or(published ? "f16" : allocate.table);
  allocate.mixing = !options.noMixing;
  allocate.scaling = !options.noAlpha && (options.alpha || published);
  if (options.method != "auto")
    build.method = options.method;
  allocate.allTerms = build.method.empty() && !published && !allocate.scaling;
  if (Error error = checkMethod(build))
    return error;
  std::error_code code;
  if (std::filesystem::is_directory(options.build.model, code))
    return fail("quantize needs a model", options.build.model, "an ONNX file", "a folder",
                "a package's code is rebuilt by skim compile");
  build.mode = options.activations;
  // `k3i-a8`: weights, and what x is.
  if (std::string &format = allocate.format; format.ends_with("-a8")) {
    if (!build.mode.empty() && build.mode != "a8")
      return fail("two activation modes", "--format, --activations", "one", format + ", " + build.mode);
    format.resize(format.size() - 3);
    build.mode = "a8";
  }
  return ::build(build, options.compileTo);
}

static Error runCompile(const Options &options) { return ::build(options.build, options.compileTo); }

static void addCommon(CLI::App *command, Options &options) {
  command
      ->add_option(
          "--target", options.build.targets,
          "cpu, cpu:x86-64-v3, cpu:x86-64-v4, cpu-sim:..., nvidia:sm_90a, nvidia:sm_100+cublas, nvidia-sim:sm_80")
      ->capture_default_str();
  command->add_option("--layout", options.build.layout, "of the codes in the package: auto, rows or turned")
      ->check(CLI::IsMember({"auto", "rows", "turned"}))
      ->capture_default_str();
  command->add_option("--compile-to", options.compileTo, "stop after a phase: " + phaseNames());
  command->add_option("--dump-phases-to", options.build.dumpPhasesTo, "folder for the IR after every phase");
  command->add_option("--tokenizer", options.build.tokenizer, "tokenizer file or folder (default: beside the model)");
  command->add_option("--context", options.build.context, "most tokens of a text (default: the model's)")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 24));
  command->add_option("--threads", options.build.threads, "threads (default: all)")->check(CLI::Range(0, 1024));
  command->add_flag("--resume", options.build.resume, "continue interrupted work");
}

void skim::tool::addImport(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "import", "an ONNX model as IR", options, runImport);
  command->add_option("model", options->build.model, "MODEL.onnx")->required();
  command->add_option("-o,--output", options->build.output, "OUT.mlir or OUT.mlirbc (default: standard output)");
  command->add_flag("--raise", options->raise, "as language model operations");
}

void skim::tool::addQuantize(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "quantize", "an ONNX model to a package of fewer bits", options,
                                 runQuantize, checkQuantize);
  command->add_option("model", options->build.model, "MODEL.onnx")->required();
  command->add_option("-o,--output", options->build.output, "OUT.skim")->required();
  command->add_option("--format", options->build.allocate.format, "term for the linears: w4g128, k3, #skim....");
  AllocateOptions &allocate = options->build.allocate;
  command->add_option("--bits", allocate.bits, "true bits a weight: all that linears store")
      ->check(CLI::Range(0.01, 16.0));
  command->add_option("--size", options->size, "bytes of all weights");
  command->add_option("--plan", allocate.plan, "a plan that allocation wrote");
  command->add_option("--method", options->method, "rtn gptq awq kmeans skim lqer l2qer qera abq auto")
      ->check(CLI::IsMember({"rtn", "gptq", "awq", "kmeans", "skim", "lqer", "l2qer", "qera", "abq", "auto"}))
      ->capture_default_str();
  command->add_option("--stats", options->build.statistics, "a statistics file (skim calibrate)");
  command->add_option("--min-bits", options->minBits, "least width of a row under a budget (default: 1)")
      ->check(CLI::Range(1, 8));
  command->add_option("--max-bits", options->maxBits, "largest width of a row under a budget (default: 5)")
      ->check(CLI::Range(1, 8));
  command->add_option("--table", options->table, "type of codebooks' tables under a budget (default: i8)")
      ->check(CLI::IsMember({"i8", "f16", "bf16"}));
  command->add_flag("--as-published", allocate.asPublished,
                    "SKIM as its paper has it: widths 2 to 4, tables in f16, mixing and alpha");
  command->add_option("--pareto", allocate.pareto, "CSV file for the allocator's best error at every size");
  command->add_flag("--no-mixing", options->noMixing, "with --as-published: one width for all rows");
  command->add_flag("--alpha", options->alpha, "a trained scaling vector over the columns of each linear");
  command->add_flag("--no-alpha", options->noAlpha, "with --as-published: none");
  command->add_option("--text", options->build.calibration.text, "calibration texts");
  command
      ->add_option("--activations", options->activations,
                   "activation mode: f32, bf16 or, on GPUs, a8 (default: the target's)")
      ->check(CLI::IsMember({"f32", "bf16", "a8"}));
  command->add_option("--kv", options->kv, "term for the cache");
  command->add_option("--quantize-head", options->build.allocate.head, "term for the head (default: 16 bits)");
  command->add_option("--quantize-embeddings", options->build.allocate.embeddings,
                      "term for the embeddings (default: 16 bits)");
  command->add_option("--keep", options->build.allocate.keep, "REGEX=TERM: these layers get TERM");
  command->add_flag("--requantize", options->build.allocate.requantize, "also layers that arrive quantized");
  command->add_option("--token-ids", options->tokenIds, "calibration sequences of ids, one a line");
  command
      ->add_option("--tune", options->build.tuneSteps,
                   "steps of training tables, norms and scaling vectors on --text or --token-ids (default: " +
                       std::to_string(defaultTuneSteps) + " for auto, 0: none)")
      ->check(CLI::Range(0, 100000));
  command
      ->add_option("--tune-rate", options->build.tuneRate,
                   "how far a value moves in a step, of its row's error times the model's relative one")
      ->check(CLI::Range(1e-6f, 1.0f));
  command->add_option("--seed", options->build.calibration.seed, "which windows of the texts (0: the first)");
  command->add_flag("--dry-run", options->dryRun, "only say what would be stored: a line a layer on standard output");
  addCommon(command, *options);
}

void skim::tool::addCompile(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "compile", "code for more targets of a package, or for a model", options,
                                 runCompile, checkPhase);
  command->add_option("model", options->build.model, "MODEL.onnx or IN.skim")->required();
  command->add_option("-o,--output", options->build.output, "OUT.skim")->required();
  command->add_flag("--only", options->build.onlyTargets, "leave out the package's other targets");
  command
      ->add_option("--activations", options->build.mode,
                   "activation mode: f32, bf16 or, on GPUs, a8 (default: the target's)")
      ->check(CLI::IsMember({"f32", "bf16", "a8"}));
  addCommon(command, *options);
}
