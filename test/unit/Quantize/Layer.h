//===- Layer.h - made-up layers for the tests of codes ----------*- C++ -*-===//
#ifndef SKIM_TEST_UNIT_QUANTIZE_LAYER_H
#define SKIM_TEST_UNIT_QUANTIZE_LAYER_H

#include "Decode.h"
#include "skim/Quantize/LayerCodes.h"

#include <algorithm>
#include <random>

namespace skim {

/// Weights and the statistics of inputs whose columns are correlated and of
/// very different sizes, as those of language models are.
struct TestLayer {
  int64_t rows, columns;
  std::vector<float> weights, moment, guided, gradients, energy;

  TestLayer(int64_t rows, int64_t columns, unsigned seed = 1) : rows(rows), columns(columns) {
    weights = normalValues(rows * columns, seed);
    const int64_t tokens = 2 * columns, hidden = std::max<int64_t>(2, columns / 4);
    const std::vector<float> basis = normalValues(hidden * columns, seed + 1), own = normalValues(columns, seed + 2);
    std::vector<double> plain(columns * columns), weighted(columns * columns);
    std::vector<float> x(columns);
    std::mt19937 random(seed + 3);
    std::normal_distribution<float> normal;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t k = 0; k < columns; ++k)
        x[k] = 0.4f * normal(random) * std::exp(own[k]);
      for (int64_t h = 0; h < hidden; ++h) {
        const float factor = normal(random) / std::sqrt(float(hidden));
        for (int64_t k = 0; k < columns; ++k)
          x[k] += factor * basis[h * columns + k] * std::exp(own[k]);
      }
      const double s = std::exp(double(normal(random)));
      for (int64_t i = 0; i < columns; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          plain[i * columns + j] += double(x[i]) * x[j];
          weighted[i * columns + j] += s * x[i] * x[j];
        }
      }
    }
    moment.assign(plain.begin(), plain.end());
    guided.assign(weighted.begin(), weighted.end());
    for (float value : normalValues(rows * columns, seed + 4))
      gradients.push_back(value * value);
    for (int64_t n = 0; n < rows; ++n)
      for (int64_t k = 0; k < columns; ++k)
        gradients[n * columns + k] *= guided[k * columns + k];
    for (float value : normalValues(rows, seed + 5))
      energy.push_back(std::exp(value));
  }

  MatrixView view() const { return MatrixView(weights.data(), rows, columns); }
  /// With the guided moment as it is, so that tests can compute errors by themselves.
  Sensitivity sensitivity() const {
    SensitivityOptions options;
    options.plainShare = options.ridge = 0;
    auto result = Sensitivity::fromMatrices(rows, columns, moment, guided, gradients, energy, "layer", options);
    return result ? std::move(*result) : Sensitivity();
  }

  /// δ·M·δᵀ of row n in double.
  double quadratic(const std::vector<float> &m, const std::vector<float> &decoded, int64_t n) const {
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i)
      for (int64_t j = 0; j < columns; ++j)
        sum += (double(decoded[n * columns + i]) - weights[n * columns + i]) * m[i * columns + j] *
               (double(decoded[n * columns + j]) - weights[n * columns + j]);
    return sum;
  }
};

/// A finished layer decoded by the tests' own decoder, in logical order.
inline std::vector<float> decode(const FinishedLayer &layer, DType table, int64_t columns) {
  std::vector<float> out(layer.permutation.size() * columns);
  size_t stored = 0;
  for (const LayerPart &part : layer.parts) {
    const std::vector<float> values = decode(part.matrix, CodebookFormat{part.bits, table, false});
    for (int64_t n = 0; n < part.matrix.rows; ++n)
      std::copy_n(values.begin() + n * columns, columns, out.begin() + layer.permutation[stored++] * columns);
  }
  return out;
}

} // namespace skim

#endif // SKIM_TEST_UNIT_QUANTIZE_LAYER_H
