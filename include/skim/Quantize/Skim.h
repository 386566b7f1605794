//===- Skim.h - SKIM as published, and its scaling vector -------*- C++ -*-===//
//
// "SKIM: Any-bit Quantization Pushing The Limits of Post-Training
// Quantization" (ICML 2025): Algorithm 1 is the allocation (Allocation.h),
// Algorithm 2 the scaling vector α over the input columns, Algorithm 3 the
// whole: k-means weighted with G, E by L-full, allocation, α with frozen labels.
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
  int steps = 120;
  float learningRate = 0.01f; ///< Adam (0.9, 0.999, 1e-8)
  int halveEvery = 40;
  unsigned threads = 0;
};

/// One linear that reads an input; linears that read the same input and must
/// stay fused share α.
struct ScaledLinear {
  MatrixView weights;
  const Sensitivity *sensitivity = nullptr;
  std::span<const uint8_t> bits; ///< [N] width of each row
};

/// Codes with a scaling vector: weight ≈ table[code]·α.
struct ScaledLayer {
  std::vector<std::vector<uint8_t>> codes; ///< [linears][N·K], one a byte
  std::vector<std::vector<float>> tables;  ///< [linears]: rows' 2^b entries one after another
  std::vector<float> alpha;                ///< [K], rounded to f16
  std::vector<double> losses;              ///< normalised loss before each step, and after the last
};

/// Algorithm 2 for linears with one input (their plain moment is the first's).
Expected<ScaledLayer> trainScaling(const std::string &name, std::span<const ScaledLinear> linears,
                                   const ScalingOptions &options);

/// The loss Σ_i δ_i·H·δ_iᵀ ÷ mean(diag H) at `alpha` under frozen codes, and its
/// gradient [K]. For tests and for trainScaling.
double scalingLoss(const ScaledLinear &linear, std::span<const uint8_t> codes, std::span<const float> alpha,
                   ScaledCentroids centroids, std::vector<double> *gradient, unsigned threads = 0);

/// E of Algorithm 3, step 1: k-means with G at each width, error by
/// `options.measure` (L-full as published). No feedback, no LNQ.
Expected<LayerRecord> recordAsPublished(const std::string &name, const MatrixView &weights,
                                        const Sensitivity &sensitivity, RecordOptions options);

} // namespace skim

#endif // SKIM_QUANTIZE_SKIM_H
