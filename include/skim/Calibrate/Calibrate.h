//===- Calibrate.h - statistics of a model over sequences -------*- C++ -*-===//
#ifndef SKIM_CALIBRATE_CALIBRATE_H
#define SKIM_CALIBRATE_CALIBRATE_H

#include "skim/Calibrate/BlockModel.h"

#include <functional>

namespace skim {

/// A step that is done, for progress.
struct CalibrateProgress {
  const char *phase;   ///< "forward", "head" or "backward"
  size_t index, count; ///< of all steps, from 1
  std::string part;    ///< the first layer of the part
};

/// Whose next tokens gradients are for.
enum class Labels {
  Text,  ///< the text's: squared gradients as SKIM and GuidedQuant take them
  Model, ///< what the model expects: the Fisher of its own distribution, which is what a divergence from it is made of
};

struct CalibrateOptions {
  std::string output;
  /// Token ids, at least two each: the last is only a target.
  std::vector<std::vector<int32_t>> sequences;
  bool gradients = true;
  Labels labels = Labels::Text;
  /// Groups of a layer's outputs with a guided moment each.
  int groups = 1;
  unsigned threads = 0;
  bool resume = false;
  /// For the metadata; a run resumes only with the same ones. `description`: a JSON object.
  std::string modelHash, description = "{}";
  std::function<void(const CalibrateProgress &)> progress;
};

/// What a run says at its end.
struct CalibrateReport {
  uint64_t tokens = 0, sequences = 0;
  double seconds = 0, cpuSeconds = 0;
  /// Floating-point operations of BLAS products in this run, and how long they
  /// take by sgemm of the model's size on the same threads.
  double flops = 0, productSeconds = 0, productCpuSeconds = 0;
};

/// Fails at a sequence of fewer than two tokens and at an id outside of the vocabulary.
Error checkSequences(const std::vector<std::vector<int32_t>> &sequences, int64_t vocabulary);
/// Fails where unfinished work lies in the way and `resume` does not ask for it.
Error checkWork(const CalibrateOptions &options);

/// Runs the model over the sequences, block by block, with hidden states on
/// disk, and writes a statistics file. Unfinished work lies in `OUTPUT.work`.
/// Fails on token ids out of range, on activations or gradients that are no
/// numbers (naming the layer), and on other options than those of the work that
/// is to be resumed.
Error calibrate(const BlockModel &model, const CalibrateOptions &options, CalibrateReport &report);

} // namespace skim

#endif // SKIM_CALIBRATE_CALIBRATE_H
