#include "skim/Quantize/Skim.h"
#include "Blas.h"
#include "StoredRows.h"
#include "TableRounding.h"
#include "skim/Quantize/KMeans.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace skim;

static constexpr int64_t tileRows = 64;

//===----------------------------------------------------------------------===//
// Labels
//===----------------------------------------------------------------------===//

static Error checkLinear(const ScaledLinear &linear) {
  const auto shape = [](int64_t rows, int64_t columns) {
    return std::to_string(rows) + " x " + std::to_string(columns);
  };
  const Sensitivity &sensitivity = *linear.sensitivity;
  if (linear.weights.rows != sensitivity.rows() || linear.weights.columns != sensitivity.columns())
    return fail("sensitivities do not fit the weight", linear.name, shape(linear.weights.rows, linear.weights.columns),
                shape(sensitivity.rows(), sensitivity.columns()));
  if (linear.bits.size() != size_t(linear.weights.rows))
    return fail("widths do not fit the layer", linear.name, std::to_string(linear.weights.rows) + " rows",
                std::to_string(linear.bits.size()));
  for (size_t n = 0; n < linear.bits.size(); ++n)
    if (linear.bits[n] < 1 || linear.bits[n] > 8)
      return fail("invalid width", linear.name + ", row " + std::to_string(n), "1 to 8 bits",
                  std::to_string(linear.bits[n]));
  return checkWeights(linear.name, linear.weights);
}

Expected<FrozenLabels> skim::freezeLabels(const ScaledLinear &linear, unsigned threads) {
  if (Error error = checkLinear(linear))
    return error;
  const int64_t rows = linear.weights.rows, columns = linear.weights.columns;
  FrozenLabels labels{linear.weights, linear.sensitivity, {linear.bits.begin(), linear.bits.end()}, {}};
  labels.codes.resize(rows * columns);
  const MatrixView element = linear.sensitivity->elementWeights();
  parallelFor(rows, tileRows, threads, [&](size_t begin, size_t end, unsigned) {
    KMeans1D solver;
    for (size_t n = begin; n < end; ++n) {
      std::vector<float> table(size_t(1) << labels.bits[n]);
      solver.fit(std::span(linear.weights.row(n), columns), element.row(n), unsigned(table.size()), true);
      solver.centroids(unsigned(table.size()), table.data());
      solver.assign(table, labels.codes.data() + n * columns);
    }
  });
  return labels;
}

//===----------------------------------------------------------------------===//
// The loss
//===----------------------------------------------------------------------===//

namespace {

/// One row's centroids as a function of α.
struct Centroids {
  std::vector<double> value, weight; ///< weight: Σ of the means' weights

  Centroids(const float *w, const float *g, const uint8_t *codes, std::span<const float> alpha, unsigned bits,
            ScaledCentroids kind)
      : value(size_t(1) << bits), weight(size_t(1) << bits), plain(size_t(1) << bits), count(size_t(1) << bits) {
    for (size_t k = 0; k < alpha.size(); ++k) {
      const double m = share(g[k], alpha[k], kind), u = double(w[k]) / alpha[k];
      weight[codes[k]] += m;
      value[codes[k]] += m * u;
      plain[codes[k]] += u;
      ++count[codes[k]];
    }
    for (size_t q = 0; q < value.size(); ++q)
      if (weight[q] > 0)
        value[q] /= weight[q];
      else if (count[q])
        value[q] = plain[q] / double(count[q]); // no column that matters
  }

  static double share(float g, float alpha, ScaledCentroids kind) {
    return kind == ScaledCentroids::Mean ? 1.0
                                         : (kind == ScaledCentroids::Weighted ? double(g) : double(g) * alpha * alpha);
  }

  /// ∂c/∂α of a column of code q.
  double slope(float w, float g, float alpha, uint8_t q, ScaledCentroids kind) const {
    if (weight[q] <= 0)
      return -double(w) / (double(alpha) * alpha * double(count[q]));
    if (kind == ScaledCentroids::Optimal) // c = Σ g·α·w / Σ g·α²
      return double(g) * (w - 2 * value[q] * alpha) / weight[q];
    return -share(g, alpha, kind) * w / (double(alpha) * alpha * weight[q]);
  }

private:
  std::vector<double> plain;
  std::vector<size_t> count;
};

double meanDiagonal(const std::vector<float> &moment, int64_t columns) {
  double sum = 0;
  for (int64_t k = 0; k < columns; ++k)
    sum += moment[k * columns + k];
  return sum > 0 ? sum / double(columns) : 1.0;
}

} // namespace

double skim::scalingLoss(const FrozenLabels &labels, std::span<const float> alpha, const ScalingOptions &options,
                         std::vector<double> *gradient) {
  useOneBlasThread();
  const Sensitivity &sensitivity = *labels.sensitivity;
  const int64_t rows = labels.weights.rows, columns = labels.weights.columns;
  const bool weighted = options.measure == ErrorMeasure::LossWeighted;
  const MatrixView element = sensitivity.elementWeights();
  const int64_t groups = weighted ? sensitivity.groups() : 1;
  double total = 0;
  for (int64_t group = 0; group < groups; ++group) {
    const std::vector<float> &moment = weighted ? sensitivity.objective(group) : sensitivity.plain();
    const double scale = 1 / meanDiagonal(moment, columns);
    const int64_t first = weighted ? sensitivity.groupBegin(group) : 0,
                  last = weighted ? sensitivity.groupEnd(group) : rows;
    const int64_t tiles = (last - first + tileRows - 1) / tileRows;
    std::vector<double> losses(tiles, 0.0), slopes(gradient ? tiles * columns : 0, 0.0);
    auto tileLoss = [&](size_t begin, size_t end, unsigned) {
      std::vector<float> delta(tileRows * columns, 0.0f), product(tileRows * columns);
      std::vector<Centroids> centroids;
      for (size_t i = begin; i < end; ++i) {
        const int64_t n = first + int64_t(i);
        const uint8_t *codes = labels.codes.data() + n * columns;
        centroids.emplace_back(labels.weights.row(n), element.row(n), codes, alpha, labels.bits[n], options.centroids);
        for (int64_t k = 0; k < columns; ++k)
          delta[(i - begin) * columns + k] =
              float(double(alpha[k]) * centroids.back().value[codes[k]] - labels.weights.row(n)[k]);
      }
      gemm(tileRows, columns, columns, 1.0f, delta.data(), columns, false, moment.data(), columns, 0.0f, product.data(),
           columns);
      double *slope = gradient ? slopes.data() + begin / tileRows * columns : nullptr;
      for (size_t i = begin; i < end; ++i) {
        const int64_t n = first + int64_t(i);
        const uint8_t *codes = labels.codes.data() + n * columns;
        const float *w = labels.weights.row(n), *g = element.row(n);
        const float *d = delta.data() + (i - begin) * columns, *p = product.data() + (i - begin) * columns;
        const double factor = scale * (weighted ? sensitivity.rowWeights()[n] : 1.0f);
        const Centroids &c = centroids[i - begin];
        double sum = 0;
        for (int64_t k = 0; k < columns; ++k)
          sum += double(d[k]) * p[k];
        losses[begin / tileRows] += factor * sum;
        if (!slope)
          continue;
        std::vector<double> ofCentroid(c.value.size(), 0.0);
        for (int64_t k = 0; k < columns; ++k)
          ofCentroid[codes[k]] += 2 * factor * p[k] * alpha[k];
        for (int64_t k = 0; k < columns; ++k)
          slope[k] += 2 * factor * p[k] * c.value[codes[k]] +
                      ofCentroid[codes[k]] * c.slope(w[k], g[k], alpha[k], codes[k], options.centroids);
      }
    };
    parallelFor(last - first, tileRows, options.threads, tileLoss);
    for (double loss : losses)
      total += loss;
    for (size_t i = 0; i < slopes.size(); ++i)
      (*gradient)[i % columns] += slopes[i];
  }
  return total;
}

//===----------------------------------------------------------------------===//
// Training
//===----------------------------------------------------------------------===//

/// Adam from ones; returns the α of least loss, rounded to f16.
static std::vector<float> trainAlpha(const std::vector<FrozenLabels> &labels, const ScalingOptions &options,
                                     std::vector<double> &losses) {
  const int64_t columns = labels.front().weights.columns;
  std::vector<float> alpha(columns, 1.0f), best = alpha;
  std::vector<double> first(columns, 0.0), second(columns, 0.0), gradient(columns);
  const double beta1 = 0.9, beta2 = 0.999;
  double power1 = 1, power2 = 1, least = INFINITY;
  for (int step = 0; step <= options.steps; ++step) {
    std::fill(gradient.begin(), gradient.end(), 0.0);
    double loss = 0;
    for (const FrozenLabels &one : labels)
      loss += scalingLoss(one, alpha, options, step < options.steps ? &gradient : nullptr);
    losses.push_back(loss);
    if (loss < least) {
      least = loss;
      best = alpha;
    }
    if (step == options.steps)
      break;
    const double rate = options.learningRate * std::pow(0.5, step / std::max(1, options.halveEvery));
    power1 *= beta1;
    power2 *= beta2;
    for (int64_t k = 0; k < columns; ++k) {
      first[k] = beta1 * first[k] + (1 - beta1) * gradient[k];
      second[k] = beta2 * second[k] + (1 - beta2) * gradient[k] * gradient[k];
      const double change = rate * first[k] / (1 - power1) / (std::sqrt(second[k] / (1 - power2)) + 1e-8);
      // Steps are a hundredth: α leaves this range only where the loss does not care.
      alpha[k] = float(std::clamp(alpha[k] - change, 0.05, 20.0));
    }
  }
  for (float &value : best)
    value = roundToF16(value);
  return best;
}

/// Tables and codes of frozen labels at α, rows by width.
static Expected<FinishedLayer> storeFrozen(const std::string &name, const FrozenLabels &labels,
                                           const std::vector<float> &alpha, const ScalingOptions &options) {
  const int64_t rows = labels.weights.rows, columns = labels.weights.columns;
  const MatrixView element = labels.sensitivity->elementWeights();
  FinishedLayer result;
  std::vector<float> decoded(rows * columns);
  for (unsigned b = 1; b <= 8; ++b) {
    const int64_t count = std::count(labels.bits.begin(), labels.bits.end(), b);
    if (!count)
      continue;
    LayerPart part{uint8_t(b), emptyCodebook(b, options.table, count, columns)};
    int64_t stored = 0;
    for (int64_t n = 0; n < rows; ++n) {
      if (labels.bits[n] != b)
        continue;
      std::vector<uint8_t> codes(labels.codes.begin() + n * columns, labels.codes.begin() + (n + 1) * columns);
      const Centroids centroids(labels.weights.row(n), element.row(n), codes.data(), alpha, b, options.centroids);
      // Ascending entries; labels that are not used stand with the first.
      std::vector<uint8_t> order(centroids.value.size()), rank(order.size());
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](uint8_t a, uint8_t c) {
        return centroids.value[a] != centroids.value[c] ? centroids.value[a] < centroids.value[c] : a < c;
      });
      std::vector<float> values(order.size());
      float largest = 0;
      for (size_t q = 0; q < order.size(); ++q) {
        rank[order[q]] = uint8_t(q);
        values[q] = float(centroids.value[order[q]]);
        largest = std::max(largest, std::abs(values[q]));
      }
      const float scale = options.table == DType::I8 ? tableScaleFor(largest) : 0.0f;
      if (!std::isfinite(scale) || (options.table == DType::F16 && largest > f16Max))
        return fail("weight exceeds the range of its table", name + ", row " + std::to_string(n),
                    std::string("entries within ") + dtypeName(options.table), std::to_string(largest),
                    "keep this layer in 16 bits");
      roundEntries(options.table, scale, values);
      for (uint8_t &code : codes)
        code = rank[code];
      storeRow(part.matrix, stored++, b, options.table, codes, values, scale);
      for (int64_t k = 0; k < columns; ++k)
        decoded[n * columns + k] = values[codes[k]] * alpha[k];
      addSquares(part.matrix, labels.weights.row(n), decoded.data() + n * columns);
      result.permutation.push_back(uint32_t(n));
    }
    result.parts.push_back(std::move(part));
  }
  const MatrixView approximation(decoded.data(), rows, columns);
  result.errors =
      labels.sensitivity->rowErrors(labels.weights, approximation, ErrorMeasure::LossWeighted, options.threads);
  result.lFull = labels.sensitivity->rowErrors(labels.weights, approximation, ErrorMeasure::LFull, options.threads);
  return result;
}

Expected<ScaledLayers> skim::quantizeScaled(std::span<const ScaledLinear> linears, const ScalingOptions &options) {
  ScaledLayers result;
  if (linears.empty())
    return result;
  if (options.measure == ErrorMeasure::LDiag || options.measure == ErrorMeasure::SDiag)
    return fail("unsuitable measure of a scaling vector", linears.front().name, "LFull or LossWeighted", "a diagonal");
  std::vector<FrozenLabels> labels;
  for (const ScaledLinear &linear : linears) {
    if (linear.weights.columns != linears.front().weights.columns)
      return fail("linears do not share an input", linear.name,
                  std::to_string(linears.front().weights.columns) + " columns", std::to_string(linear.weights.columns));
    auto frozen = freezeLabels(linear, options.threads);
    if (!frozen)
      return frozen.takeError();
    labels.push_back(std::move(*frozen));
  }
  const std::vector<float> alpha = trainAlpha(labels, options, result.losses);
  for (size_t i = 0; i < labels.size(); ++i) {
    auto layer = storeFrozen(linears[i].name, labels[i], alpha, options);
    if (!layer)
      return layer.takeError();
    result.layers.push_back(std::move(*layer));
  }
  if (std::any_of(alpha.begin(), alpha.end(), [](float a) { return a != 1; }))
    result.alpha = alpha;
  return result;
}

Expected<LayerRecord> skim::recordAsPublished(const std::string &name, const MatrixView &weights,
                                              const Sensitivity &sensitivity, RecordOptions options) {
  options.clusterByGradients = true;
  options.feedback = false;
  options.rounds = 0;
  return recordLayer(name, weights, sensitivity, options);
}
