//===- Compare.cpp - skim compare: methods at equal true bits ---------------===//
//
// Every package is made and judged by the commands that a user would type
// (quantize, compile, eval), each in a process of its own: what is compared is
// what people get, and memory is given back between two models.
//
//===----------------------------------------------------------------------===//

#include "Command.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/Json.h"
#include "skim/Support/Resources.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Program.h"

#include <cstdio>
#include <filesystem>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string model, output, statistics, target = "cpu";
  std::vector<std::string> text, eval;
  std::vector<double> bits = {2.5, 3, 4};
  std::vector<std::string> methods = {"rtn", "gptq", "awq", "kmeans", "skim-as-published", "auto"};
  int64_t length = 0, sequences = 0;
  unsigned threads = 0;
  int tune = 0;
  bool keep = false, json = false, resume = false;
};

/// The programs and the folder of one comparison.
class Comparison {
public:
  explicit Comparison(const Options &options) : options(options) {
    std::error_code code;
    programs = std::filesystem::read_symlink("/proc/self/exe", code).parent_path().string();
  }
  Error run();

private:
  /// Runs `PROGRAM arguments`; its standard output goes to `output`. The error is its last line.
  Error call(const std::string &program, std::vector<std::string> arguments, const std::string &output);
  Error makeStatistics();
  Expected<Json> measure(const std::string &method, double bits);
  Expected<Json> evaluate(const std::string &package);
  Expected<Json> row(const std::string &method, double bits, const std::string &package);
  void print(const Json &row) const;
  Error write();
  void draw();

  const Options &options;
  std::string programs, statistics, base;
  Json rows = Json::array();
};
} // namespace

/// Single formats only come in steps: a baseline gets the largest that exceeds
/// the target by at most this, so that it never has less than what it is
/// compared with, except where it has nothing there.
static constexpr double kBaselineAllowance = 0.14;

Error Comparison::call(const std::string &program, std::vector<std::string> arguments, const std::string &output) {
  std::string path = programs + "/" + program, log = options.output + "/last.log";
  std::vector<llvm::StringRef> words = {path};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::optional<llvm::StringRef> redirects[] = {llvm::StringRef(), llvm::StringRef(output), llvm::StringRef(log)};
  std::string detail;
  // Redirection writes over what is there without cutting it off.
  llvm::sys::fs::remove(log);
  if (!output.empty())
    llvm::sys::fs::remove(output);
  if (llvm::sys::ExecuteAndWait(path, words, std::nullopt, redirects, 0, 0, &detail) == 0)
    return Error::success();
  if (auto buffer = llvm::MemoryBuffer::getFile(log))
    if (llvm::StringRef text = (*buffer)->getBuffer().rtrim(); !text.empty())
      detail = text.rsplit('\n').second.empty() ? text.str() : text.rsplit('\n').second.str();
  llvm::StringRef reason(detail);
  reason.consume_front("skim: error: ");
  return fail(program + " " + arguments.front() + " failed", "", "", reason.str());
}

Error Comparison::makeStatistics() {
  if (!options.statistics.empty()) {
    statistics = options.statistics;
    return Error::success();
  }
  statistics = options.output + "/statistics";
  if (options.resume && llvm::sys::fs::exists(statistics))
    return Error::success();
  std::fprintf(stderr, "calibrating\n");
  std::vector<std::string> arguments = {"calibrate", options.model, "-o", statistics, "--text"};
  arguments.insert(arguments.end(), options.text.begin(), options.text.end());
  return call("skim-compiler", arguments, "");
}

Expected<Json> Comparison::evaluate(const std::string &package) {
  Json result = Json::object();
  for (const std::string &text : options.eval) {
    std::string answer = options.output + "/last.json";
    std::vector<std::string> arguments = {"eval", package, "--text", text, "--json"};
    if (package != base)
      arguments.insert(arguments.end(), {"--against", base});
    if (options.length)
      arguments.insert(arguments.end(), {"--length", std::to_string(options.length)});
    if (options.sequences)
      arguments.insert(arguments.end(), {"--sequences", std::to_string(options.sequences)});
    if (options.threads)
      arguments.insert(arguments.end(), {"--threads", std::to_string(options.threads)});
    if (Error error = call("skim", arguments, answer))
      return error;
    Expected<Json> parsed = parseJsonFile(answer);
    if (!parsed)
      return parsed.takeError();
    result[llvm::sys::path::filename(text).str()] = std::move(*parsed);
  }
  return result;
}

/// What a package is and how good it is.
Expected<Json> Comparison::row(const std::string &method, double bits, const std::string &package) {
  Expected<Json> manifest = parseJsonFile(package + "/manifest.json");
  if (!manifest)
    return manifest.takeError();
  JsonCursor root(*manifest, package + "/manifest.json");
  Expected<double> trueBits = root.number("bits");
  Expected<JsonCursor> bytes = root.member("bytes");
  Expected<int64_t> total = bytes ? bytes->integer("total") : Expected<int64_t>(bytes.takeError());
  Expected<Json> scores = evaluate(package);
  for (Error error : {trueBits.takeError(), total.takeError(), scores.takeError()})
    if (error)
      return error;
  return Json{{"method", method}, {"target", bits}, {"bits", *trueBits}, {"bytes", *total}, {"eval", *scores}};
}

Expected<Json> Comparison::measure(const std::string &method, double bits) {
  char name[64];
  std::snprintf(name, sizeof name, "/%s-%.4g.skim", method.c_str(), bits);
  std::string package = options.output + name;
  bool single = method == "rtn" || method == "gptq" || method == "awq" || method == "kmeans";
  // SKIM's paper, and its ablations.
  bool neither = method == "skim-neither", mixing = method == "skim-mixing", alpha = method == "skim-alpha";
  bool published = method == "skim-as-published" || neither || mixing || alpha;
  std::vector<std::string> arguments = {"quantize", options.model,
                                        "-o",       package,
                                        "--method", published ? "skim" : method,
                                        "--stats",  statistics,
                                        "--bits",   std::to_string(single ? bits + kBaselineAllowance : bits),
                                        "--target", options.target};
  if (published)
    arguments.push_back("--as-published");
  if (neither || alpha)
    arguments.push_back("--no-mixing");
  if (neither || mixing)
    arguments.push_back("--no-alpha");
  if (options.threads)
    arguments.insert(arguments.end(), {"--threads", std::to_string(options.threads)});
  if (options.tune > 0 && method == "auto") {
    arguments.insert(arguments.end(), {"--tune", std::to_string(options.tune), "--text"});
    arguments.insert(arguments.end(), options.text.begin(), options.text.end());
  }
  std::error_code code;
  if (!options.resume || !std::filesystem::exists(package + "/manifest.json", code)) {
    std::filesystem::remove_all(package + ".work", code);
    if (Error error = call("skim-compiler", arguments, ""))
      return error;
  }
  Expected<Json> result = row(method, bits, package);
  if (!options.keep)
    std::filesystem::remove_all(package, code);
  return result;
}

void Comparison::print(const Json &row) const {
  std::FILE *stream = options.json ? stderr : stdout;
  if (row.contains("failure")) {
    std::fprintf(stream, "%-18s %8.3g  %s\n", row["method"].get<std::string>().c_str(), row["target"].get<double>(),
                 row["failure"].get<std::string>().c_str());
    return;
  }
  double target = row["target"].get<double>();
  std::fprintf(stream, "%-18s %8s %9.4f %9.2f", row["method"].get<std::string>().c_str(),
               target > 0 ? (std::to_string(target).substr(0, 5)).c_str() : "", row["bits"].get<double>(),
               row["bytes"].get<double>() / 1048576);
  for (const std::string &text : options.eval) {
    const Json &scores = row["eval"][llvm::sys::path::filename(text).str()];
    std::fprintf(stream, " %12.3f", scores["perplexity"].get<double>());
    if (scores["kl_mean"].is_number())
      std::fprintf(stream, " %9.4f +- %.4f", scores["kl_mean"].get<double>(),
                   scores["kl_standard_error"].is_number() ? scores["kl_standard_error"].get<double>() : 0.0);
    else
      std::fprintf(stream, " %9s    %6s", "0", "");
  }
  std::fprintf(stream, "\n");
  std::fflush(stream);
}

Error Comparison::write() {
  Json document = {{"model", options.model}, {"rows", rows}, {"texts", options.eval}};
  if (Error error = writeFileAtomically(options.output + "/compare.json", dumpJson(document, 1) + "\n"))
    return error;
  std::string csv = "method,target,bits,bytes,text,perplexity,kl,kl_standard_error\n";
  for (const Json &row : rows) {
    if (row.contains("failure"))
      continue;
    for (const auto &[text, scores] : row["eval"].items()) {
      auto number = [&](const char *key) { return scores[key].is_number() ? dumpJson(scores[key]) : std::string(); };
      csv += row["method"].get<std::string>() + "," + dumpJson(row["target"]) + "," + dumpJson(row["bits"]) + "," +
             dumpJson(row["bytes"]) + ",\"" + text + "\"," + number("perplexity") + "," + number("kl_mean") + "," +
             number("kl_standard_error") + "\n";
    }
  }
  return writeFileAtomically(options.output + "/compare.csv", csv);
}

/// The picture is Python's (matplotlib); a comparison without it is still one.
void Comparison::draw() {
  std::string script = programs + "/../python/plot_compare.py", detail;
  std::string arguments[] = {SKIM_PYTHON, script, options.output + "/compare.json", options.output + "/compare.svg"};
  std::vector<llvm::StringRef> words(std::begin(arguments), std::end(arguments));
  std::string log = options.output + "/last.log";
  std::optional<llvm::StringRef> redirects[] = {llvm::StringRef(), llvm::StringRef(log), llvm::StringRef(log)};
  if (llvm::sys::ExecuteAndWait(arguments[0], words, std::nullopt, redirects, 0, 0, &detail) != 0)
    std::fprintf(stderr, "skim: no picture: %s needs Python with matplotlib\n", script.c_str());
}

Error Comparison::run() {
  Stopwatch watch;
  if (std::error_code code = llvm::sys::fs::create_directories(options.output))
    return fail("cannot create folder", options.output, "a folder to write to", code.message());
  if (Error error = makeStatistics())
    return error;
  base = options.output + "/base.skim";
  std::error_code code;
  if (!options.resume || !std::filesystem::exists(base + "/manifest.json", code))
    if (Error error = call("skim-compiler", {"compile", options.model, "-o", base, "--target", options.target}, ""))
      return error;
  std::FILE *stream = options.json ? stderr : stdout;
  std::fprintf(stream, "%-18s %8s %9s %9s", "method", "target", "true bits", "MiB");
  for (const std::string &text : options.eval)
    std::fprintf(stream, " %12s %19s", "perplexity",
                 ("KL " + llvm::sys::path::filename(text).str()).substr(0, 19).c_str());
  std::fprintf(stream, "\n");
  Expected<Json> unquantized = row("16 bit", 0, base);
  if (!unquantized)
    return unquantized.takeError();
  rows.push_back(*unquantized);
  print(rows.back());
  for (double bits : options.bits)
    for (const std::string &method : options.methods) {
      Expected<Json> result = measure(method, bits);
      // One method that cannot reach a width must not lose the others' hours.
      rows.push_back(result ? *result : Json{{"method", method}, {"target", bits}, {"failure", result.message()}});
      print(rows.back());
      if (Error error = write())
        return error;
    }
  if (!options.keep)
    std::filesystem::remove_all(base, code);
  draw();
  for (const char *name : {"last.log", "last.json"})
    std::filesystem::remove(options.output + "/" + name, code);
  std::fprintf(stderr, "%s: compare.csv, compare.json, compare.svg, %.0f s\n", options.output.c_str(), watch.seconds());
  if (options.json)
    std::printf("%s\n", dumpJson(Json{{"rows", rows}}).c_str());
  return Error::success();
}

static Error check(const Options &options) {
  if (options.statistics.empty() && options.text.empty())
    return fail("compare needs calibration", "", "--stats or --text", "neither");
  if (options.tune > 0 && options.text.empty())
    return fail("tuning needs a text", "--tune", "--text", "none");
  return Error::success();
}

static Error run(const Options &options) { return Comparison(options).run(); }

void skim::tool::addCompare(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "compare", "methods at equal true bits", options, run, check);
  command->add_option("model", options->model, "MODEL.onnx")->required();
  command->add_option("-o,--output", options->output, "folder for the table, CSV, JSON and picture")->required();
  command->add_option("--stats", options->statistics, "a statistics file (skim calibrate)");
  command->add_option("--text", options->text, "calibration texts");
  command->add_option("--eval", options->eval, "texts to judge by")->required();
  command->add_option("--bits", options->bits, "true bits")->delimiter(',')->capture_default_str();
  command
      ->add_option("--methods", options->methods,
                   "rtn gptq awq kmeans skim skim-as-published skim-neither skim-mixing skim-alpha auto")
      ->delimiter(',')
      ->check(CLI::IsMember({"rtn", "gptq", "awq", "kmeans", "skim", "skim-as-published", "skim-neither", "skim-mixing",
                             "skim-alpha", "auto"}))
      ->capture_default_str();
  command->add_option("--tune", options->tune, "steps of tuning for auto, on --text")->check(CLI::Range(0, 100000));
  command->add_option("--length", options->length, "tokens of a window")->check(CLI::Range(2, 1 << 30));
  command->add_option("--sequences", options->sequences, "windows of each text")->check(CLI::Range(1, 1 << 30));
  command->add_option("--target", options->target, "target of the packages")->capture_default_str();
  command->add_option("--threads", options->threads, "threads (default: all)")->check(CLI::Range(0, 1024));
  command->add_flag("--keep-packages", options->keep, "leave the packages in the folder");
  command->add_flag("--resume", options->resume, "use what the folder has");
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
