//===- Compare.cpp - skim compare: methods at equal true bits ---------------===//
//
// Every package is made and judged by the commands that a user would type
// (quantize, compile, eval), each in a process of its own: what is compared is
// what people get, and memory is given back between two models. The packages of
// one width are judged in one pass over the texts, window by window, so that
// the unquantized model answers once for all of them.
//
//===----------------------------------------------------------------------===//

#include "ChildProcess.h"
#include "Command.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/PackageManifest.h"
#include "skim/Support/Resources.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

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
  int tune = -1; // what the method does
  bool keep = false, json = false, resume = false;
};

/// The programs and the folder of one comparison.
class Comparison {
public:
  explicit Comparison(const Options &options) : options(options) {
    for (const std::string &text : options.eval) {
      std::string name = llvm::sys::path::filename(text).str();
      bool taken = std::count_if(options.eval.begin(), options.eval.end(), [&](const std::string &other) {
                     return llvm::sys::path::filename(other) == name;
                   }) > 1;
      texts.push_back(taken ? text : name);
    }
  }
  Error run();

private:
  /// Runs a program; its standard output goes to `output`. If it fails: its last line of errors.
  std::optional<std::string> execute(const std::string &path, const std::vector<std::string> &arguments,
                                     const std::string &output) const {
    return runChild(path, arguments, output, options.output + "/last.log");
  }
  /// The same of one of ours, as an error.
  Error call(const std::string &program, std::vector<std::string> arguments, const std::string &output);
  /// The statistics file of a method, calibrated where there is none yet.
  Expected<std::string> statisticsFor(bool published);
  std::string packageOf(const std::string &method, double bits) const;
  Error make(const std::string &method, double bits);
  /// Scores by text: of each package, then of the base.
  Expected<std::vector<Json>> evaluate(const std::vector<std::string> &packages);
  Expected<Json> row(const std::string &method, double bits, const std::string &package, Json scores) const;
  Error compareAt(double bits);
  void comparePairs(std::vector<Json> &group) const;
  void printHead() const;
  void print(const Json &row) const;
  Error write();
  bool draw();

  const Options &options;
  const std::string programs = programFolder();
  std::string base;
  std::set<std::string> made;
  std::vector<std::string> texts; // what the columns are called
  Json rows = Json::array();
};
} // namespace

/// Single formats only come in steps: a baseline gets the largest that exceeds
/// the target by at most this, so that it never has less than what it is
/// compared with, except where it has nothing there.
static constexpr double kBaselineAllowance = 0.14;

Error Comparison::call(const std::string &program, std::vector<std::string> arguments, const std::string &output) {
  std::optional<std::string> failed = execute(programs + "/" + program, arguments, output);
  if (!failed)
    return Error::success();
  llvm::StringRef reason(*failed);
  reason.consume_front("skim: error: ");
  return fail(program + " " + arguments.front() + " failed", "", "", reason.str());
}

Expected<std::string> Comparison::statisticsFor(bool published) {
  if (!options.statistics.empty())
    return options.statistics;
  // As `skim quantize` would calibrate for each.
  std::string labels = published ? "text" : "model", path = options.output + "/statistics-" + labels;
  if (made.count(path) || (options.resume && llvm::sys::fs::exists(path)))
    return path;
  std::fprintf(stderr, "calibrating, labels of the %s\n", labels.c_str());
  std::vector<std::string> arguments = {"calibrate", options.model, "-o", path, "--labels", labels, "--text"};
  arguments.insert(arguments.end(), options.text.begin(), options.text.end());
  if (Error error = call("skim-compiler", arguments, ""))
    return error;
  made.insert(path);
  return path;
}

Expected<std::vector<Json>> Comparison::evaluate(const std::vector<std::string> &packages) {
  std::vector<Json> result(packages.size() + 1, Json::object());
  for (size_t t = 0; t < texts.size(); ++t) {
    std::string answer = options.output + "/last.json";
    std::vector<std::string> arguments = {"eval"};
    arguments.insert(arguments.end(), packages.begin(), packages.end());
    arguments.insert(arguments.end(), {"--text", options.eval[t], "--json", "--against", base});
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
    Json none = {{"kl_mean", nullptr}, {"kl_standard_error", nullptr}, {"kl_windows", nullptr}};
    none.update((*parsed)["base"]);
    result.back()[texts[t]] = std::move(none);
    for (size_t i = 0; i < packages.size(); ++i) {
      Json scores = packages.size() == 1 ? *parsed : (*parsed)["packages"][i];
      for (const char *key : {"base", "package", "seconds"})
        scores.erase(key);
      result[i][texts[t]] = std::move(scores);
    }
  }
  return result;
}

/// What a package is and how good it is.
Expected<Json> Comparison::row(const std::string &method, double bits, const std::string &package, Json scores) const {
  Expected<Json> manifest = readPackageManifest(package);
  if (!manifest)
    return manifest.takeError();
  JsonCursor root(*manifest, manifestPath(package));
  Expected<double> trueBits = root.number("bits");
  Expected<JsonCursor> bytes = root.member("bytes");
  Expected<int64_t> total = bytes ? bytes->integer("total") : Expected<int64_t>(bytes.takeError());
  for (Error error : {trueBits.takeError(), total.takeError()})
    if (error)
      return error;
  return Json{
      {"method", method}, {"target", bits}, {"bits", *trueBits}, {"bytes", *total}, {"eval", std::move(scores)}};
}

std::string Comparison::packageOf(const std::string &method, double bits) const {
  char name[64];
  std::snprintf(name, sizeof name, "/%s-%.4g.skim", method.c_str(), bits);
  return options.output + name;
}

Error Comparison::make(const std::string &method, double bits) {
  std::string package = packageOf(method, bits);
  std::error_code code;
  if (options.resume && std::filesystem::exists(manifestPath(package), code))
    return Error::success();
  std::fprintf(stderr, "%s at %.4g bits\n", method.c_str(), bits);
  bool single = method == "rtn" || method == "gptq" || method == "awq" || method == "kmeans";
  // SKIM's paper, and its ablations.
  bool neither = method == "skim-neither", mixing = method == "skim-mixing", alpha = method == "skim-alpha";
  bool published = method == "skim-as-published" || neither || mixing || alpha;
  Expected<std::string> statistics = statisticsFor(published);
  if (!statistics)
    return statistics.takeError();
  std::vector<std::string> arguments = {"quantize", options.model,
                                        "-o",       package,
                                        "--method", published ? "skim" : method,
                                        "--stats",  *statistics,
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
  if (method == "auto" && !options.text.empty()) {
    if (options.tune >= 0)
      arguments.insert(arguments.end(), {"--tune", std::to_string(options.tune)});
    arguments.push_back("--text");
    arguments.insert(arguments.end(), options.text.begin(), options.text.end());
  }
  std::filesystem::remove_all(package + ".work", code);
  return call("skim-compiler", arguments, "");
}

/// The methods at one width: all packages, then one pass over each text.
Error Comparison::compareAt(double bits) {
  std::vector<std::string> packages;
  std::vector<Json> group;
  for (const std::string &method : options.methods) {
    // One method that cannot reach a width must not lose the others' hours.
    Error error = make(method, bits);
    group.push_back({{"method", method}, {"target", bits}});
    if (error)
      group.back()["failure"] = error.message();
    else
      packages.push_back(packageOf(method, bits));
  }
  if (!packages.empty() || rows.empty()) {
    Expected<std::vector<Json>> scores = evaluate(packages.empty() ? std::vector<std::string>{base} : packages);
    if (!scores)
      return scores.takeError();
    if (rows.empty()) {
      Expected<Json> unquantized = row("16 bit", 0, base, std::move(scores->back()));
      if (!unquantized)
        return unquantized.takeError();
      rows.push_back(std::move(*unquantized));
      print(rows.back());
    }
    size_t next = 0;
    for (Json &entry : group) {
      if (entry.contains("failure"))
        continue;
      Expected<Json> full = row(entry["method"], bits, packages[next], std::move((*scores)[next]));
      if (!full)
        return full.takeError();
      entry = std::move(*full);
      ++next;
    }
  }
  comparePairs(group);
  for (Json &entry : group) {
    print(entry);
    rows.push_back(std::move(entry));
  }
  std::error_code code;
  for (const std::string &package : packages)
    if (!options.keep)
      std::filesystem::remove_all(package, code);
  return write();
}

/// For every text the best method, and how much worse the others are, window by
/// window: `kl_over_best`, `kl_over_best_standard_error`.
void Comparison::comparePairs(std::vector<Json> &group) const {
  for (const std::string &text : texts) {
    const Json *best = nullptr;
    for (const Json &entry : group)
      if (!entry.contains("failure") &&
          (!best || entry["eval"][text]["kl_mean"].get<double>() < (*best)["eval"][text]["kl_mean"].get<double>()))
        best = &entry;
    if (!best)
      return;
    const auto reference = (*best)["eval"][text]["kl_windows"].get<std::vector<double>>();
    for (Json &entry : group) {
      if (entry.contains("failure"))
        continue;
      Json &scores = entry["eval"][text];
      scores["kl_over_best"] = nullptr;
      scores["kl_over_best_standard_error"] = nullptr;
      if (&entry == best)
        continue;
      const auto own = scores["kl_windows"].get<std::vector<double>>();
      const double count = double(own.size());
      double mean = 0, squares = 0;
      for (size_t i = 0; i < own.size(); ++i)
        mean += (own[i] - reference[i]) / count;
      for (size_t i = 0; i < own.size(); ++i)
        squares += (own[i] - reference[i] - mean) * (own[i] - reference[i] - mean);
      scores["kl_over_best"] = mean;
      if (own.size() > 1)
        scores["kl_over_best_standard_error"] = std::sqrt(squares / (count - 1) / count);
    }
  }
}

void Comparison::printHead() const {
  std::FILE *stream = options.json ? stderr : stdout;
  std::fprintf(stream, "%-18s %8s %9s %9s", "method", "target", "true bits", "MiB");
  for (const std::string &text : texts)
    std::fprintf(stream, " %12s %19s %19s", "perplexity", ("KL " + text).substr(0, 19).c_str(), "over the best");
  std::fprintf(stream, "\n");
}

/// `value +- error` in 19 columns, or `otherwise`.
static std::string spellWithError(const Json &value, const Json &error, const char *otherwise) {
  char text[64];
  if (!value.is_number())
    std::snprintf(text, sizeof text, "%19s", otherwise);
  else if (error.is_number())
    std::snprintf(text, sizeof text, "%9.4f +- %.4f", value.get<double>(), error.get<double>());
  else
    std::snprintf(text, sizeof text, "%9.4f%10s", value.get<double>(), "");
  return text;
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
  for (const std::string &text : texts) {
    const Json &scores = row["eval"][text];
    auto at = [&](const char *key) { return scores.contains(key) ? scores[key] : Json(nullptr); };
    std::fprintf(
        stream, " %12.3f %s %s", scores["perplexity"].get<double>(),
        spellWithError(at("kl_mean"), at("kl_standard_error"), "0").c_str(),
        spellWithError(at("kl_over_best"), at("kl_over_best_standard_error"), target > 0 ? "best" : "").c_str());
  }
  std::fprintf(stream, "\n");
  std::fflush(stream);
}

Error Comparison::write() {
  Json document = {{"model", options.model}, {"rows", rows}, {"texts", texts}};
  if (Error error = writeFileAtomically(options.output + "/compare.json", dumpJson(document, 1) + "\n"))
    return error;
  const char *numbers[] = {"perplexity", "kl_mean", "kl_standard_error", "kl_over_best", "kl_over_best_standard_error"};
  std::string csv = "method,target,bits,bytes,text,perplexity,kl,kl_standard_error,kl_over_best,"
                    "kl_over_best_standard_error,kl_windows\n";
  for (const Json &row : rows) {
    if (row.contains("failure"))
      continue;
    for (const auto &[text, scores] : row["eval"].items()) {
      csv += row["method"].get<std::string>() + "," + dumpJson(row["target"]) + "," + dumpJson(row["bits"]) + "," +
             dumpJson(row["bytes"]) + ",\"" + text + "\"";
      for (const char *key : numbers)
        csv += "," + (scores.contains(key) && scores[key].is_number() ? dumpJson(scores[key]) : std::string());
      csv += ",";
      // Of every window, for differences between any two rows.
      const Json &windows = scores["kl_windows"];
      for (size_t i = 0; windows.is_array() && i < windows.size(); ++i)
        csv += (i ? " " : "") + dumpJson(windows[i]);
      csv += "\n";
    }
  }
  return writeFileAtomically(options.output + "/compare.csv", csv);
}

/// The picture is Python's (matplotlib); a comparison without it is still one. False, and why, where there is none.
bool Comparison::draw() {
  std::string script = programs + "/../python/plot_compare.py";
  std::optional<std::string> failed =
      execute(SKIM_PYTHON, {script, options.output + "/compare.json", options.output + "/compare.svg"}, "");
  if (failed)
    std::fprintf(stderr, "skim: no picture from %s %s: %s\n", SKIM_PYTHON, script.c_str(), failed->c_str());
  return !failed;
}

Error Comparison::run() {
  Stopwatch watch;
  if (std::error_code code = llvm::sys::fs::create_directories(options.output))
    return fail("cannot create folder", options.output, "a folder to write to", code.message());
  base = options.output + "/base.skim";
  std::error_code code;
  if (!options.resume || !std::filesystem::exists(manifestPath(base), code))
    if (Error error = call("skim-compiler", {"compile", options.model, "-o", base, "--target", options.target}, ""))
      return error;
  printHead();
  for (double bits : options.bits)
    if (Error error = compareAt(bits))
      return error;
  if (!options.keep)
    std::filesystem::remove_all(base, code);
  const bool drawn = draw();
  for (const char *name : {"last.log", "last.json"})
    std::filesystem::remove(options.output + "/" + name, code);
  std::fprintf(stderr, "%s: compare.csv, compare.json, %s%.0f s\n", options.output.c_str(),
               drawn ? "compare.svg, " : "", watch.seconds());
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
  command->add_option("--tune", options->tune, "steps of tuning for auto, on --text (default: as skim quantize)")
      ->check(CLI::Range(0, 100000));
  command->add_option("--length", options->length, "tokens of a window")->check(CLI::Range(2, 1 << 30));
  command->add_option("--sequences", options->sequences, "windows of each text")->check(CLI::Range(1, 1 << 30));
  command->add_option("--target", options->target, "target of the packages")->capture_default_str();
  command->add_option("--threads", options->threads, "threads (default: all)")->check(CLI::Range(0, 1024));
  command->add_flag("--keep-packages", options->keep, "leave the packages in the folder");
  command->add_flag("--resume", options->resume, "use what the folder has");
  command->add_flag("--json", options->json, "one JSON object on standard output");
}
