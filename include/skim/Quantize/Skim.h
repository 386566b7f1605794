//===- Skim.h - SKIM as published, and its scaling vector -------*- C++ -*-===//
//
// "SKIM: Any-bit Quantization Pushing The Limits of Post-Training
// Quantization" (ICML 2025): Algorithm 1 is the allocation (allocateRows in
// Allocation.h), Algorithm 2 the scaling vector α over the input columns,
// Algorithm 3 the whole: recordAsPublished, allocateRows, quantizeScaled.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_SKIM_H
#define SKIM_QUANTIZE_SKIM_H

#include "skim/Quantize/LayerCodes.h"

#include <span>
#include <string>
#include <vector>

namespace skim {

/// What the centroids are under frozen labels; the paper does not say.
enum class ScaledCentroids {
  Mean,     ///< plain means of w/α
  Weighted, ///< means weighted with G
  Optimal,  ///< the optimum of Σ G·(w − α·c)² for fixed α: weights G·α²
};

struct ScalingOptions {
  ScaledCentroids centroids = ScaledCentroids::Optimal;
  /// LFull as published, or LossWeighted (guided moment and row weights); the
  /// other two have no use for a common vector and are refused.
  ErrorMeasure measure = ErrorMeasure::LFull;
  int steps = 120;            ///< at most; 0: α stays 1
  float learningRate = 0.01f; ///< Adam (0.9, 0.999, 1e-8)
  int halveEvery = 40;        ///< steps after which the rate halves
  DType table = DType::F16;   ///< as stored
  unsigned threads = 0;       ///< 0: all CPUs; the result does not depend on it
};

/// One linear that reads an input. Linears that read the same input and must
/// stay fused share α.
struct ScaledLinear {
  std::string name;
  MatrixView weights;
  const Sensitivity *sensitivity = nullptr;
  std::span<const uint8_t> bits; ///< [N] width of each row
};

/// Rows whose labels are frozen.
struct FrozenLabels {
  MatrixView weights;
  const Sensitivity *sensitivity = nullptr;
  std::vector<uint8_t> bits;  ///< [N]
  std::vector<uint8_t> codes; ///< [N,K], one a byte
};

/// Exact k-means of each row weighted with G. Fails at NaN or infinity.
Expected<FrozenLabels> freezeLabels(const ScaledLinear &linear, unsigned threads = 0);

/// The loss Σ_i δ_i·M·δ_iᵀ (× row weight) ÷ mean(diag M), M the moment of
/// `options.measure`, δ_ij = α_j·c_i[q_ij] − w_ij with the centroids c(α), and if
/// asked for its gradient [K] (added to what `gradient` holds).
double scalingLoss(const FrozenLabels &labels, std::span<const float> alpha, const ScalingOptions &options,
                   std::vector<double> *gradient = nullptr);

/// Linears with one α.
struct ScaledLayers {
  std::vector<float> alpha;          ///< [K], as stored in f16; empty: ones were best
  std::vector<FinishedLayer> layers; ///< tables and codes of w/α, in the order of the linears
  std::vector<double> losses;        ///< before the first step and after each
};

/// Algorithm 2 (one outer iteration) for linears that read one input: labels by
/// freezeLabels, α by Adam from ones, the α of least loss kept. With `steps = 0`
/// this is SKIM without scaling (SqueezeLLM's rows where all widths are equal).
/// Fails where a table exceeds its type and where shapes differ.
Expected<ScaledLayers> quantizeScaled(std::span<const ScaledLinear> linears, const ScalingOptions &options);

/// E of Algorithm 3, step 1: k-means with G at each width, errors by
/// `options.measure` (L-full as published). No feedback, no LNQ.
Expected<LayerRecord> recordAsPublished(const std::string &name, const MatrixView &weights,
                                        const Sensitivity &sensitivity, RecordOptions options);

} // namespace skim

#endif // SKIM_QUANTIZE_SKIM_H
