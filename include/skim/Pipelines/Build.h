//===- Build.h - from a model to a package ----------------------*- C++ -*-===//
#ifndef SKIM_PIPELINES_BUILD_H
#define SKIM_PIPELINES_BUILD_H

#include "skim/Pipelines/Calibrate.h"
#include "skim/Pipelines/Phases.h"
#include "skim/Support/Error.h"
#include "skim/Transforms/QuantizeWeights.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace skim {

struct BuildOptions {
  std::string model;     ///< MODEL.onnx
  std::string output;    ///< OUT.skim
  std::string tokenizer; ///< file or folder; empty: beside the model
  AllocateOptions allocate;
  std::string method;     ///< rtn, gptq, awq, kmeans, skim; empty: the best for the budget
  std::string statistics; ///< a statistics file; empty: made from `calibration` where that has texts
  /// Texts or token ids for statistics and tuning.
  CalibrateModelOptions calibration;
  /// Steps of end-to-end tuning. Negative: what the method does, defaultTuneSteps for `auto` if there is a text.
  int tuneSteps = -1;
  float tuneRate = 0; ///< see TuneOptions::rate; 0: its default
  std::vector<std::string> targets = {"cpu"};
  /// Compiling a package: leave out the targets that it has and `targets` does not name.
  bool onlyTargets = false;
  std::string layout = "auto"; ///< of the codes: auto, rows or turned
  std::string mode;            ///< activation mode of the linears; empty: the target's default
  int64_t context = 0;         ///< most tokens of a text; 0: what the model says
  unsigned threads = 0;
  bool resume = false;
  /// Stop after this phase; the IR goes to `output` (or standard output for "-").
  std::optional<Phase> compileTo;
  /// Only plan: everything up to the allocation, whose result the report tells; nothing is written but the record
  /// beside the statistics.
  bool dryRun = false;
  /// Folder for the IR after every phase; empty: none.
  std::string dumpPhasesTo;
  QuantizeProgress progress;
  RecordProgress recordProgress;
  std::function<void(int step, int steps, double divergence)> tuneProgress;
};

/// What a build says at its end.
struct BuildReport {
  double bits = 0;          ///< true bits of the linears
  uint64_t bytes = 0;       ///< all weights
  uint64_t linearBytes = 0; ///< linears
  uint64_t otherBytes = 0;  ///< embeddings, head, norms
  int64_t parameters = 0;
  /// Of a dry run: what would be stored, linears and embeddings in the model's order.
  struct Planned {
    std::string name, format; ///< short name of the encoding
    int64_t rows = 0, columns = 0;
    uint64_t bytes = 0;
  };
  std::vector<Planned> planned;
};

/// Runs the phases. On failure `failures` has one entry a problem (unsupported
/// nodes are reported all at once) and nothing is left behind.
bool buildPackage(const BuildOptions &options, BuildReport &report, std::vector<Failure> &failures);

/// The linears and embeddings of a model.
struct ModelSummary {
  struct Layer {
    std::string name, onnxName, format;
    int64_t rows = 0, columns = 0;
  };
  std::vector<Layer> layers;
  int64_t parameters = 0;
};

/// Imports and raises `model` (ONNX) and lists what is in it.
bool summarizeModel(const std::string &model, ModelSummary &summary, std::vector<Failure> &failures);

/// `skim import`: the model as IR, weights left in the ONNX files. `output`
/// ending in `.mlirbc` is bytecode, "-" standard output.
bool importModel(const std::string &model, const std::string &output, bool raise, std::vector<Failure> &failures);

} // namespace skim

#endif // SKIM_PIPELINES_BUILD_H
