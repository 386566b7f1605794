//===- Tune.h - tables trained on the divergence from the model -*- C++ -*-===//
//
// Codes frozen, the tables of all linears (or scales of groups), their scaling
// vectors and the norms are trained end to end on KL(model ‖ quantized model),
// as PV-Tuning and EfficientQAT do. The gradient is that of the compiled decoder
// blocks (BlockModel); head and embeddings stay as they are.
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

/// What is trained, and after it what was found.
struct TunedModel {
  /// By layer name; layers that are not there keep the model's weights.
  std::map<std::string, TunableWeight> weights;
  /// By part and number in BlockModel::norms(): [channels], or empty for a norm that stays as it is.
  std::vector<std::vector<std::vector<float>>> norms;
};

struct TuneOptions {
  /// Token ids; a step takes `batch` of them, in an order that `seed` shuffles.
  std::vector<std::vector<int32_t>> sequences;
  int steps = defaultTuneSteps;
  int batch = 2;
  /// Adam's (0.9, 0.95), in units of the root mean square of its row's quantization
  /// error times the mean relative error of the model's layers (0.38 at 2.5 bits,
  /// 0.16 at 4): about how far a value moves in a step. Rows of many bits are exact
  /// already, and models of many bits have little to gain in the gradients' noise.
  /// Norms and scaling vectors have their own value times their block's relative
  /// error for the row's. Falls by a cosine to a tenth.
  float rate = 0.026f;
  uint64_t seed = 0;
  unsigned threads = 0; ///< 0: all CPUs; the result does not depend on it
  /// Told after every step: its number from 1 and the mean divergence of its tokens before it.
  std::function<void(int step, double divergence)> progress;
};

/// Trains `tuned`. `model` has Reverse::Norms. All stays as it was if the first
/// step's sequences diverge more in the end. Fails where a divergence is no number.
Error tune(const BlockModel &model, TunedModel &tuned, const TuneOptions &options);

} // namespace skim

#endif // SKIM_CALIBRATE_TUNE_H
