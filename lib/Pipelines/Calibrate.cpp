//===- Calibrate.cpp - from a model and text to statistics -------------------===//

#include "skim/Pipelines/Calibrate.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "skim/Import/ONNX/ImportONNX.h"
#include "skim/InitAll.h"
#include "skim/Pipelines/Phases.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/Json.h"
#include "skim/Support/Sha256.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Tokenizer/Tokenizer.h"
#include "llvm/Support/ConvertUTF.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <filesystem>

using namespace mlir;
using namespace skim;

static constexpr int64_t defaultSequences = 32, defaultLength = 512;

namespace {
/// A raised model, before anything is compiled.
class RaisedModel {
public:
  explicit RaisedModel(const std::string &path) : path(path) {
    DialectRegistry registry;
    registerAllDialects(registry);
    registerImportONNXDialects(registry);
    mlir.appendDialectRegistry(registry);
    mlir.disableMultithreading();
    mlir.loadAllAvailableDialects();
    prepareEmission(mlir);
    base = llvm::sys::path::parent_path(path).str();
    if (base.empty())
      base = ".";
  }

  bool raise(std::vector<Failure> &failures) {
    ImportedONNX imported = importONNX(path, &mlir);
    if (!imported) {
      failures = std::move(imported.failures);
      return false;
    }
    module = std::move(imported.module);
    ScopedDiagnosticHandler handler(&mlir, [&](Diagnostic &diagnostic) {
      if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
        failures.push_back(fail(diagnostic.str()));
      return success();
    });
    PassManager manager(&mlir);
    buildRaisePipeline(manager, {base, 0});
    if (succeeded(manager.run(*module)))
      return true;
    if (failures.empty())
      failures.push_back(fail("a pass failed without saying why", path));
    return false;
  }

  /// The most tokens of a text.
  int64_t context() const {
    auto facts = (*module)->getAttrOfType<DictionaryAttr>("skim.model");
    auto most = facts ? facts.getAs<IntegerAttr>("context") : IntegerAttr();
    return most && most.getInt() > 0 ? most.getInt() : 2048;
  }

  std::unique_ptr<BlockModel> compile(Reverse reverse, std::vector<Failure> &failures) {
    Expected<std::unique_ptr<BlockModel>> model = BlockModel::build(*module, base, reverse);
    if (model)
      return std::move(*model);
    failures.push_back(model.failure());
    return nullptr;
  }

  /// Fails at an id that the embedding does not have.
  Error checkIds(const std::vector<std::vector<int32_t>> &sequences) {
    int64_t vocabulary = INT32_MAX;
    module->walk([&](EmbedOp op) { vocabulary = cast<RankedTensorType>(op.getTable().getType()).getDimSize(0); });
    return checkSequences(sequences, vocabulary);
  }

private:
  std::string path, base;
  MLIRContext mlir;
  OwningOpRef<ModuleOp> module;
};
} // namespace

std::unique_ptr<BlockModel> skim::openBlockModel(const std::string &path, Reverse reverse,
                                                 std::vector<Failure> &failures, int64_t *context) {
  RaisedModel raised(path);
  if (!raised.raise(failures))
    return nullptr;
  if (context)
    *context = raised.context();
  return raised.compile(reverse, failures);
}

Error skim::checkUtf8(std::string_view text, const std::string &where) {
  auto *at = reinterpret_cast<const llvm::UTF8 *>(text.data()), *end = at + text.size();
  if (llvm::isLegalUTF8String(&at, end))
    return Error::success();
  char shown[8];
  std::snprintf(shown, sizeof(shown), "0x%02X", *at);
  return fail("text in another encoding", where + " byte " + std::to_string(at - end + text.size()), "UTF-8", shown,
              "convert it, e.g. with iconv -t UTF-8");
}

std::vector<std::vector<int32_t>> skim::chooseWindows(const std::vector<std::vector<int32_t>> &texts, size_t count,
                                                      size_t length, uint64_t seed) {
  std::vector<std::span<const int32_t>> all;
  for (const std::vector<int32_t> &text : texts)
    for (size_t begin = 0; begin + length <= text.size(); begin += length)
      all.push_back(std::span(text).subspan(begin, length));
  count = std::min(count, all.size());
  std::vector<std::vector<int32_t>> chosen;
  uint64_t state = seed;
  size_t next = 0;
  for (size_t i = 0; i < count; ++i) {
    size_t window = i;
    if (seed != 0) {
      // SplitMix64: a place inside of the i-th stretch.
      uint64_t bits = state += 0x9E3779B97F4A7C15u;
      bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
      bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
      bits ^= bits >> 31;
      double place = static_cast<double>(bits >> 11) * 0x1.0p-53;
      window = static_cast<size_t>((static_cast<double>(i) + place) * static_cast<double>(all.size()) /
                                   static_cast<double>(count));
      window = std::clamp(window, next, all.size() - (count - i));
      next = window + 1;
    }
    chosen.emplace_back(all[window].begin(), all[window].end());
  }
  return chosen;
}

/// The tokenizer named, or the one beside the model.
static Expected<std::unique_ptr<Tokenizer>> openTokenizer(const CalibrateModelOptions &options) {
  std::string place = options.tokenizer;
  if (place.empty()) {
    place = llvm::sys::path::parent_path(options.model).str();
    if (place.empty())
      place = ".";
    std::error_code ignored;
    if (!std::filesystem::exists(place + "/tokenizer.json", ignored) &&
        !std::filesystem::exists(place + "/tokenizer.model", ignored))
      return fail("model without a tokenizer", place, "tokenizer.json or tokenizer.model beside the model", "neither",
                  "use --tokenizer or --token-ids");
  }
  return Tokenizer::load(place);
}

Expected<std::vector<std::vector<int32_t>>> skim::calibrationSequences(const CalibrateModelOptions &options,
                                                                       int64_t context) {
  if (options.length > context)
    return fail("sequence longer than the model's context", "--length",
                "at most " + std::to_string(context) + " tokens", std::to_string(options.length));
  if (options.text.empty()) {
    std::vector<std::vector<int32_t>> sequences = options.tokenIds;
    if (options.sequences > 0 && static_cast<int64_t>(sequences.size()) > options.sequences)
      sequences.resize(options.sequences);
    for (std::vector<int32_t> &sequence : sequences) {
      if (options.length > 0 && static_cast<int64_t>(sequence.size()) > options.length)
        sequence.resize(options.length);
      if (static_cast<int64_t>(sequence.size()) > context)
        return fail("sequence longer than the model's context", "the token ids",
                    "at most " + std::to_string(context) + " tokens", std::to_string(sequence.size()), "use --length");
    }
    return sequences;
  }
  Expected<std::unique_ptr<Tokenizer>> tokenizer = openTokenizer(options);
  if (!tokenizer)
    return tokenizer.takeError();
  int64_t length = options.length > 0 ? options.length : std::min(defaultLength, context);
  int64_t count = options.sequences > 0 ? options.sequences : defaultSequences;
  std::vector<std::vector<int32_t>> texts;
  size_t windows = 0, tokens = 0;
  for (const std::string &path : options.text) {
    Expected<std::string> text = readTextFile(path);
    if (!text)
      return text.takeError();
    if (Error error = checkUtf8(*text, path))
      return error;
    Expected<std::vector<int32_t>> ids = (*tokenizer)->encode(*text);
    if (!ids)
      return ids.takeError();
    tokens += ids->size();
    windows += ids->size() / static_cast<size_t>(length);
    texts.push_back(std::move(*ids));
  }
  // Without --sequences, a shorter text gives fewer.
  size_t wanted = options.sequences > 0 ? static_cast<size_t>(count) : 1;
  if (windows < wanted)
    return fail("text too short", options.text.front(),
                std::to_string(wanted) + " windows of " + std::to_string(length) + " tokens",
                std::to_string(tokens) + " tokens", "use more text, or a smaller --length or --sequences");
  return chooseWindows(texts, static_cast<size_t>(count), static_cast<size_t>(length), options.seed);
}

bool skim::calibrateModel(const CalibrateModelOptions &options, CalibrateReport &report,
                          std::vector<Failure> &failures) {
  auto failed = [&](Error error) {
    if (error)
      failures.push_back(error.get());
    return static_cast<bool>(error);
  };
  // What the input may lack shows before anything is compiled.
  Expected<std::string> hash = sha256OfFile(options.model);
  if (!hash)
    return !failed(hash.takeError());
  RaisedModel raised(options.model);
  if (!raised.raise(failures))
    return false;
  Expected<std::vector<std::vector<int32_t>>> sequences = calibrationSequences(options, raised.context());
  if (!sequences)
    return !failed(sequences.takeError());
  if (failed(raised.checkIds(*sequences)) || failed(checkWork(options.calibrate)))
    return false;
  std::unique_ptr<BlockModel> model =
      raised.compile(options.calibrate.gradients ? Reverse::Hidden : Reverse::None, failures);
  if (!model)
    return false;
  CalibrateOptions calibrateOptions = options.calibrate;
  calibrateOptions.sequences = std::move(*sequences);
  calibrateOptions.modelHash = *hash;
  calibrateOptions.description = dumpJson(Json{{"sequences", options.sequences},
                                               {"length", options.length},
                                               {"seed", options.seed},
                                               {"gradients", options.calibrate.gradients},
                                               {"labels", options.calibrate.labels == Labels::Model ? "model" : "text"},
                                               {"groups", options.calibrate.groups}});
  return !failed(calibrate(*model, calibrateOptions, report));
}
