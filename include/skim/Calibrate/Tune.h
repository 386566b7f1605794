//===- Tune.h - tables trained on the divergence from the model -*- C++ -*-===//
//
// Codes frozen, the tables of all linears (or scales of groups) are trained end
// to end on KL(model ‖ quantized model), as PV-Tuning and EfficientQAT do. The
// gradient is that of the compiled decoder blocks (BlockModel); head,
// embeddings and norms stay as they are.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_CALIBRATE_TUNE_H
#define SKIM_CALIBRATE_TUNE_H

#include "skim/Calibrate/BlockModel.h"
#include "skim/Quantize/TunableWeight.h"

#include <functional>
#include <map>

namespace skim {

/// Steps that quality is worth by default: most of the gain is there after 20, what is left below 3 bits after 100.
constexpr int defaultTuneSteps = 100;

struct TuneOptions {
  /// Token ids; a step takes `batch` of them, in an order that `seed` shuffles.
  std::vector<std::vector<int32_t>> sequences;
  int steps = defaultTuneSteps;
  int batch = 2;
  /// Adam's (0.9, 0.95), in units of the root mean square of its row's quantization
  /// error: about as far as a value moves in a step. Rows of many bits are exact
  /// already, and move little. Falls by a cosine to a tenth. Ten times the
  /// default spoils a model of 135M at once, and does not recover in 30 steps.
  float rate = 0.005f;
  uint64_t seed = 0;
  unsigned threads = 0; ///< 0: all CPUs; the result does not depend on it
  /// Told after every step: its number from 1 and the mean divergence of its tokens before it.
  std::function<void(int step, double divergence)> progress;
};

/// Trains the values of `weights`, by layer name; layers that are not there keep
/// the model's weights. The values stay as they were if the first step's
/// sequences diverge more in the end. Fails where a divergence is no number.
Error tune(const BlockModel &model, std::map<std::string, TunableWeight> &weights, const TuneOptions &options);

} // namespace skim

#endif // SKIM_CALIBRATE_TUNE_H
