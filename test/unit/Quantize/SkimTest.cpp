#include "skim/Quantize/Skim.h"
#include "Layer.h"
#include "skim/Quantize/Allocation.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <numeric>

using namespace skim;

namespace {

FrozenLabels frozen(const TestLayer &layer, const Sensitivity &sensitivity, const std::vector<uint8_t> &bits) {
  auto labels = freezeLabels({"layer", layer.view(), &sensitivity, bits});
  EXPECT_TRUE(labels) << labels.message();
  return std::move(*labels);
}

TEST(Skim, ScalingGradientIsThatOfFiniteDifferences) {
  const TestLayer layer(70, 24, 31);
  const Sensitivity sensitivity = layer.sensitivity();
  std::vector<uint8_t> bits(layer.rows);
  for (int64_t n = 0; n < layer.rows; ++n)
    bits[n] = uint8_t(1 + n % 3);
  const FrozenLabels labels = frozen(layer, sensitivity, bits);
  std::vector<float> alpha(layer.columns);
  const std::vector<float> noise = normalValues(alpha.size(), 5);
  for (size_t k = 0; k < alpha.size(); ++k)
    alpha[k] = 1 + 0.1f * noise[k];
  for (ScaledCentroids kind : {ScaledCentroids::Mean, ScaledCentroids::Weighted, ScaledCentroids::Optimal}) {
    for (ErrorMeasure measure : {ErrorMeasure::LFull, ErrorMeasure::LossWeighted}) {
      ScalingOptions options;
      options.centroids = kind;
      options.measure = measure;
      std::vector<double> gradient(alpha.size(), 0.0);
      const double loss = scalingLoss(labels, alpha, options, &gradient);
      const double norm = std::sqrt(std::inner_product(gradient.begin(), gradient.end(), gradient.begin(), 0.0));
      EXPECT_GT(norm, 1e-3 * loss);
      for (size_t k = 0; k < alpha.size(); ++k) {
        std::vector<float> above = alpha, below = alpha;
        above[k] += 1e-2f;
        below[k] -= 1e-2f;
        const double slope =
            (scalingLoss(labels, above, options) - scalingLoss(labels, below, options)) / (double(above[k]) - below[k]);
        EXPECT_NEAR(gradient[k], slope, 5e-3 * norm) << k;
      }
    }
  }
}

//===----------------------------------------------------------------------===//
// The paper, written down once more
//===----------------------------------------------------------------------===//

struct Paper {
  const TestLayer &layer;
  int64_t rows = layer.rows, columns = layer.columns;

  double g(int64_t n, int64_t k) const { return layer.gradients[n * columns + k]; }
  double w(int64_t n, int64_t k) const { return layer.weights[n * columns + k]; }

  /// Labels of row n: the best way to cut its sorted values into at most 2^b pieces.
  std::vector<int> labels(int64_t n, int b) const {
    std::vector<int> order(columns);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int i, int j) { return w(n, i) < w(n, j); });
    const int pieces = 1 << b;
    std::vector<std::vector<double>> best(pieces + 1, std::vector<double>(columns + 1, INFINITY));
    std::vector<std::vector<int>> from(pieces + 1, std::vector<int>(columns + 1, 0));
    best[0][0] = 0;
    for (int p = 1; p <= pieces; ++p)
      for (int end = 0; end <= columns; ++end)
        for (int begin = 0; begin <= end; ++begin) {
          double weight = 0, sum = 0, cost = 0;
          for (int i = begin; i < end; ++i) {
            weight += g(n, order[i]);
            sum += g(n, order[i]) * w(n, order[i]);
          }
          for (int i = begin; i < end; ++i)
            cost += g(n, order[i]) * std::pow(w(n, order[i]) - sum / weight, 2);
          if (best[p - 1][begin] + cost < best[p][end]) {
            best[p][end] = best[p - 1][begin] + cost;
            from[p][end] = begin;
          }
        }
    std::vector<int> result(columns);
    for (int p = pieces, end = int(columns); p > 0; end = from[p--][end])
      for (int i = from[p][end]; i < end; ++i)
        result[order[i]] = p - 1;
    return result;
  }

  /// Decoded row: α·c(α) with weighted means of w/α.
  std::vector<double> decode(int64_t n, const std::vector<int> &q, const std::vector<double> &alpha) const {
    std::vector<double> sum(256), weight(256), result(columns);
    for (int64_t k = 0; k < columns; ++k) {
      sum[q[k]] += g(n, k) * w(n, k) / alpha[k];
      weight[q[k]] += g(n, k);
    }
    for (int64_t k = 0; k < columns; ++k)
      result[k] = alpha[k] * sum[q[k]] / weight[q[k]];
    return result;
  }

  double lFull(int64_t n, const std::vector<double> &decoded) const {
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i)
      for (int64_t j = 0; j < columns; ++j)
        sum += (decoded[i] - w(n, i)) * layer.moment[i * columns + j] * (decoded[j] - w(n, j));
    return sum;
  }
};

TEST(Skim, AsPublishedIsThePaper) {
  const TestLayer layer(10, 14, 37);
  const Paper paper{layer};
  const Sensitivity sensitivity = layer.sensitivity();
  const std::vector<double> ones(layer.columns, 1.0);

  // Step 1 of Algorithm 3, and Algorithm 1.
  RecordOptions options;
  options.minBits = 1;
  options.maxBits = 3;
  options.table = DType::F16;
  options.measure = ErrorMeasure::LFull;
  auto record = recordAsPublished("layer", layer.view(), sensitivity, options);
  ASSERT_TRUE(record) << record.message();
  std::vector<std::vector<double>> errors(layer.rows);
  for (int64_t n = 0; n < layer.rows; ++n)
    for (int b = 1; b <= 3; ++b) {
      errors[n].push_back(paper.lFull(n, paper.decode(n, paper.labels(n, b), ones)));
      EXPECT_NEAR(record->error(n, b), errors[n].back(), 0.02 * errors[n].back()) << n << " " << b;
    }
  const double target = 2.3;
  std::vector<uint8_t> expected(layer.rows, 1);
  for (int left = int(layer.rows * target) - int(layer.rows); left > 0; --left) {
    int64_t best = -1;
    double gain = -INFINITY;
    for (int64_t n = 0; n < layer.rows; ++n)
      if (expected[n] < 3 && errors[n][expected[n] - 1] - errors[n][expected[n]] > gain) {
        best = n;
        gain = errors[n][expected[n] - 1] - errors[n][expected[n]];
      }
    ++expected[best];
  }
  RowAllocationOptions allocation;
  allocation.minBits = 1;
  allocation.maxBits = 3;
  auto bits =
      allocateRows(std::vector<double>(record->errors.begin(), record->errors.end()), layer.rows, target, allocation);
  ASSERT_TRUE(bits) << bits.message();
  EXPECT_EQ(*bits, expected);

  // Algorithm 2, with the gradient by differences of the paper's loss.
  ScalingOptions scaling;
  scaling.centroids = ScaledCentroids::Weighted;
  scaling.steps = 25;
  scaling.halveEvery = 10;
  const std::vector<ScaledLinear> linears = {{"layer", layer.view(), &sensitivity, *bits}};
  auto scaled = quantizeScaled(linears, scaling);
  ASSERT_TRUE(scaled) << scaled.message();
  double trace = 0;
  for (int64_t k = 0; k < layer.columns; ++k)
    trace += layer.moment[k * layer.columns + k] / double(layer.columns);
  std::vector<std::vector<int>> labels;
  for (int64_t n = 0; n < layer.rows; ++n)
    labels.push_back(paper.labels(n, (*bits)[n]));
  auto loss = [&](const std::vector<double> &alpha) {
    double sum = 0;
    for (int64_t n = 0; n < layer.rows; ++n)
      sum += paper.lFull(n, paper.decode(n, labels[n], alpha)) / trace;
    return sum;
  };
  std::vector<double> alpha = ones, m(layer.columns), v(layer.columns);
  for (int step = 0; step <= scaling.steps; ++step) {
    EXPECT_NEAR(scaled->losses[step], loss(alpha), 1e-3 * loss(alpha)) << step;
    std::vector<double> gradient(layer.columns);
    for (int64_t k = 0; k < layer.columns; ++k) {
      std::vector<double> above = alpha, below = alpha;
      above[k] += 1e-4;
      below[k] -= 1e-4;
      gradient[k] = (loss(above) - loss(below)) / 2e-4;
    }
    for (int64_t k = 0; k < layer.columns; ++k) {
      m[k] = 0.9 * m[k] + 0.1 * gradient[k];
      v[k] = 0.999 * v[k] + 0.001 * gradient[k] * gradient[k];
      alpha[k] -= 0.01 * std::pow(0.5, step / 10) * (m[k] / (1 - std::pow(0.9, step + 1))) /
                  (std::sqrt(v[k] / (1 - std::pow(0.999, step + 1))) + 1e-8);
    }
  }
  EXPECT_LT(scaled->losses.back(), scaled->losses.front());

  // What is stored has the least of these losses.
  ASSERT_EQ(scaled->alpha.size(), size_t(layer.columns));
  std::vector<float> decoded = decode(scaled->layers[0], DType::F16, layer.columns);
  double stored = 0;
  for (size_t i = 0; i < decoded.size(); ++i)
    decoded[i] *= scaled->alpha[i % layer.columns];
  for (int64_t n = 0; n < layer.rows; ++n)
    stored += layer.quadratic(layer.moment, decoded, n) / trace;
  const double least = *std::min_element(scaled->losses.begin(), scaled->losses.end());
  EXPECT_NEAR(stored, least, 0.01 * least);
  EXPECT_NEAR(std::accumulate(scaled->layers[0].lFull.begin(), scaled->layers[0].lFull.end(), 0.0), stored * trace,
              1e-3 * stored * trace);
}

TEST(Skim, LinearsShareAnInputAndThreadsDoNotMatter) {
  const TestLayer one(100, 40, 41), two(30, 40, 43);
  const Sensitivity first = one.sensitivity(), second = two.sensitivity();
  const std::vector<uint8_t> three(100, 3), mixed(30, 2);
  const std::vector<ScaledLinear> linears = {{"q", one.view(), &first, three}, {"k", two.view(), &second, mixed}};
  ScalingOptions options;
  options.steps = 10;
  options.measure = ErrorMeasure::LossWeighted;
  options.table = DType::I8;
  std::vector<float> alpha;
  std::vector<uint8_t> tables;
  for (unsigned threads : {1u, 2u, 7u}) {
    options.threads = threads;
    auto scaled = quantizeScaled(linears, options);
    ASSERT_TRUE(scaled) << scaled.message();
    ASSERT_EQ(scaled->layers.size(), 2u);
    EXPECT_LT(scaled->losses.back(), scaled->losses.front());
    if (threads == 1) {
      alpha = scaled->alpha;
      tables = scaled->layers[1].parts[0].matrix.components[1].bytes;
    }
    EXPECT_EQ(scaled->alpha, alpha);
    EXPECT_EQ(scaled->layers[1].parts[0].matrix.components[1].bytes, tables);
  }
  options.steps = 0;
  auto plain = quantizeScaled(linears, options);
  ASSERT_TRUE(plain) << plain.message();
  EXPECT_TRUE(plain->alpha.empty());
  EXPECT_EQ(plain->losses.size(), 1u);
}

TEST(Skim, DegenerateRowsAndBadInput) {
  TestLayer layer(4, 20, 47);
  std::fill_n(layer.weights.begin(), 20, 0.0f);
  std::fill_n(layer.weights.begin() + 20, 20, 2.5f);
  for (int64_t k = 0; k < 10; ++k)
    layer.gradients[40 + k] = 0; // a code without sensitivity
  const Sensitivity sensitivity = layer.sensitivity();
  const std::vector<uint8_t> bits(4, 2), wrong = {2, 9, 2, 2}, few = {2};
  std::vector<ScaledLinear> linears = {{"layer", layer.view(), &sensitivity, bits}};
  for (ScaledCentroids kind : {ScaledCentroids::Mean, ScaledCentroids::Weighted, ScaledCentroids::Optimal}) {
    ScalingOptions options;
    options.centroids = kind;
    options.steps = 5;
    auto scaled = quantizeScaled(linears, options);
    ASSERT_TRUE(scaled) << scaled.message();
    for (float value : decode(scaled->layers[0], DType::F16, 20))
      ASSERT_TRUE(std::isfinite(value));
    for (double loss : scaled->losses)
      ASSERT_TRUE(std::isfinite(loss));
  }
  linears[0].bits = wrong;
  EXPECT_NE(quantizeScaled(linears, {}).message().find("row 1: expected 1 to 8 bits, got 9"), std::string::npos);
  linears[0].bits = few;
  EXPECT_NE(quantizeScaled(linears, {}).message().find("expected 4 rows, got 1"), std::string::npos);
  layer.weights[50] = NAN;
  linears[0].bits = bits;
  EXPECT_NE(quantizeScaled(linears, {}).message().find("row 2, column 10"), std::string::npos);
}

} // namespace
