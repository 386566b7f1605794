//===- FeedbackTest.cpp - GPTQ and AWQ beside plain implementations -------===//
#include "Decode.h"
#include "skim/Quantize/Awq.h"
#include "skim/Quantize/Gptq.h"
#include "skim/Quantize/RoundToNearest.h"
#include "skim/Support/Float16.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <tuple>

using namespace skim;

namespace {

/// Σ x·xᵀ of inputs whose columns are correlated and of different sizes.
std::vector<float> correlatedMoment(int64_t columns, int64_t tokens, unsigned seed) {
  std::vector<float> noise = normalValues(tokens * columns, seed), sizes = normalValues(columns, seed + 1);
  std::vector<double> sum(columns * columns);
  std::vector<double> x(columns);
  for (int64_t t = 0; t < tokens; ++t) {
    double state = 0;
    for (int64_t k = 0; k < columns; ++k) {
      state = 0.9 * state + noise[t * columns + k];
      x[k] = state * std::exp(sizes[k]);
    }
    for (int64_t i = 0; i < columns; ++i)
      for (int64_t j = 0; j < columns; ++j)
        sum[i * columns + j] += x[i] * x[j];
  }
  return {sum.begin(), sum.end()};
}

std::vector<float> identity(int64_t columns) {
  std::vector<float> out(columns * columns);
  for (int64_t k = 0; k < columns; ++k)
    out[k * columns + k] = 1;
  return out;
}

/// Σ over rows of δ·H·δᵀ.
double outputError(const std::vector<float> &weights, const std::vector<float> &decoded, const std::vector<float> &h,
                   int64_t columns) {
  double sum = 0;
  for (size_t row = 0; row < weights.size(); row += columns)
    for (int64_t i = 0; i < columns; ++i)
      for (int64_t j = 0; j < columns; ++j)
        sum += double(weights[row + i] - decoded[row + i]) * h[i * columns + j] *
               double(weights[row + j] - decoded[row + j]);
  return sum;
}

void expectSameBytes(const QuantizedMatrix &a, const QuantizedMatrix &b) {
  ASSERT_EQ(a.components.size(), b.components.size());
  for (size_t i = 0; i < a.components.size(); ++i)
    EXPECT_EQ(a.components[i].bytes, b.components[i].bytes) << a.components[i].spec.name;
  // Summed in another order.
  EXPECT_NEAR(a.squaredError, b.squaredError, 1e-12 * b.squaredError);
}

std::vector<double> inverse(std::vector<double> a, int64_t n) {
  std::vector<double> out(n * n);
  for (int64_t i = 0; i < n; ++i)
    out[i * n + i] = 1;
  for (int64_t i = 0; i < n; ++i) {
    double pivot = a[i * n + i];
    for (int64_t j = 0; j < n; ++j) {
      a[i * n + j] /= pivot;
      out[i * n + j] /= pivot;
    }
    for (int64_t r = 0; r < n; ++r) {
      double factor = a[r * n + i];
      for (int64_t j = 0; r != i && j < n; ++j) {
        a[r * n + j] -= factor * a[i * n + j];
        out[r * n + j] -= factor * out[i * n + j];
      }
    }
  }
  return out;
}

/// The same rows by the book: a full inverse that shrinks by a column a step
/// (optimal brain surgeon), no Cholesky factor, no blocks. The grid of each
/// element is read from `result`.
std::vector<float> textbook(const std::vector<float> &weights, const std::vector<float> &h, int64_t columns,
                            const UniformFormat &format, bool actOrder, double damping, const QuantizedMatrix &result) {
  std::vector<double> damped(h.begin(), h.end());
  double mean = 0;
  for (int64_t k = 0; k < columns; ++k)
    mean += h[k * columns + k] / double(columns);
  for (int64_t k = 0; k < columns; ++k)
    damped[k * columns + k] += damping * mean;
  std::vector<int64_t> order(columns);
  std::iota(order.begin(), order.end(), 0);
  if (actOrder)
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return std::tuple(-h[a * columns + a], a) < std::tuple(-h[b * columns + b], b);
    });
  std::vector<double> hinv = inverse(damped, columns), x(weights.begin(), weights.end());
  std::vector<float> out(weights.size());
  const int64_t rows = int64_t(weights.size()) / columns, size = format.group ? format.group : columns;
  const int64_t groups = (columns + size - 1) / size;
  for (int64_t j : order) {
    for (int64_t n = 0; n < rows; ++n) {
      const int64_t g = j / size;
      double scale = readFloat(format.scale, result.find("scales")->bytes, n * groups + g), zero = 0;
      double low = format.asymmetric ? 0 : -double(1 << (format.bits - 1)), high = low + (1 << format.bits) - 1;
      if (format.asymmetric && format.floatZero)
        zero = readFloat(DType::F16, result.find("zeros")->bytes, n * groups + g);
      else if (format.asymmetric)
        zero = readCode(result.find("zeros")->bytes, n * ((groups * format.bits + 7) / 8), g, format.bits);
      double q = scale == 0 ? zero : std::clamp(std::nearbyint(x[n * columns + j] / scale + zero), low, high);
      out[n * columns + j] = float(scale * (q - zero));
      double error = (x[n * columns + j] - out[n * columns + j]) / hinv[j * columns + j];
      for (int64_t k = 0; k < columns; ++k)
        x[n * columns + k] -= error * hinv[j * columns + k];
    }
    std::vector<double> row(hinv.begin() + j * columns, hinv.begin() + (j + 1) * columns);
    for (int64_t a = 0; a < columns; ++a)
      for (int64_t b = 0; b < columns; ++b)
        hinv[a * columns + b] -= row[a] * row[b] / row[j];
  }
  return out;
}

std::vector<UniformFormat> someFormats() {
  return {{3}, {2, 0, true}, {4, 32}, {3, 50, true}, {4, 64, true, true}, {8, 0, false, false, DType::F32}};
}

std::string describe(const UniformFormat &format) {
  return std::to_string(format.bits) + " bits, group " + std::to_string(format.group) +
         (format.asymmetric ? ", asymmetric" : "");
}

} // namespace

//===----------------------------------------------------------------------===//
// GPTQ
//===----------------------------------------------------------------------===//

TEST(Gptq, LosesLessThanRounding) {
  const int64_t rows = 70, columns = 200;
  for (unsigned seed = 0; seed < 3; ++seed) {
    std::vector<float> weights = normalValues(rows * columns, seed), h = correlatedMoment(columns, 1000, 10 * seed);
    std::vector<float> diagonal;
    for (int64_t k = 0; k < columns; ++k)
      diagonal.push_back(h[k * columns + k]);
    MatrixView block(weights.data(), rows, columns);
    for (const UniformFormat &format : someFormats()) {
      for (bool actOrder : {false, true}) {
        GptqOptions options;
        options.actOrder = actOrder;
        auto factor = factorGptq(h, columns, options);
        ASSERT_TRUE(factor) << factor.message();
        EXPECT_EQ(factor->damping, 0.01);
        auto feedback = quantizeGptq(block, *factor, format, options);
        ASSERT_TRUE(feedback) << feedback.message();
        UniformOptions plain;
        plain.searchClipping = true;
        plain.clippingWeights = diagonal;
        auto rounded = quantizeUniform(block, format, plain);
        ASSERT_TRUE(rounded) << rounded.message();
        // The same grids, other codes.
        EXPECT_EQ(feedback->find("scales")->bytes, rounded->find("scales")->bytes);
        double with = outputError(weights, decode(*feedback, format), h, columns);
        double without = outputError(weights, decode(*rounded, format), h, columns);
        EXPECT_LT(with, 0.7 * without) << describe(format);
        double squares = 0;
        std::vector<float> decoded = decode(*feedback, format);
        for (size_t i = 0; i < weights.size(); ++i)
          squares += std::pow(double(weights[i]) - decoded[i], 2);
        EXPECT_NEAR(feedback->squaredError, squares, 1e-6 * squares);
      }
    }
  }
}

TEST(Gptq, IsRoundingForTheIdentity) {
  const int64_t rows = 9, columns = 150;
  std::vector<float> weights = normalValues(rows * columns, 4);
  MatrixView block(weights.data(), rows, columns);
  std::vector<float> zeros(columns * columns);
  for (const UniformFormat &format : someFormats()) {
    UniformOptions plain;
    plain.searchClipping = true;
    auto rounded = quantizeUniform(block, format, plain);
    // A layer that calibration never reached is rounded too.
    for (const std::vector<float> &h : {identity(columns), zeros}) {
      auto factor = factorGptq(h, columns, {});
      ASSERT_TRUE(factor);
      auto feedback = quantizeGptq(block, *factor, format, {});
      ASSERT_TRUE(feedback);
      expectSameBytes(*feedback, *rounded);
    }
  }
}

TEST(Gptq, IsWhatTheBookSays) {
  const int64_t rows = 6, columns = 180;
  std::vector<float> weights = normalValues(rows * columns, 1), h = correlatedMoment(columns, 1000, 2);
  for (const UniformFormat &format : someFormats()) {
    for (bool actOrder : {false, true}) {
      GptqOptions options;
      options.actOrder = actOrder;
      auto result =
          quantizeGptq(MatrixView(weights.data(), rows, columns), *factorGptq(h, columns, options), format, options);
      ASSERT_TRUE(result);
      std::vector<float> got = decode(*result, format);
      std::vector<float> expected = textbook(weights, h, columns, format, actOrder, 0.01, *result);
      // 8 bits: a value between two codes may fall either way in float, and what follows differs by a step.
      size_t same = 0;
      for (size_t i = 0; i < got.size(); ++i)
        same += got[i] == expected[i];
      EXPECT_GE(double(same), (format.bits == 8 ? 0.97 : 0.998) * double(got.size())) << describe(format);
      double error = outputError(weights, expected, h, columns);
      EXPECT_NEAR(outputError(weights, got, h, columns), error, 0.01 * error) << describe(format);
    }
  }
}

TEST(Gptq, DeadColumnsAndSingularMoments) {
  const int64_t rows = 5, columns = 140;
  std::vector<float> weights = normalValues(rows * columns, 7);
  MatrixView block(weights.data(), rows, columns);
  UniformFormat format{3, 20};
  auto rounded = decode(*quantizeUniform(block, format, {}), format);
  GptqOptions options;
  options.searchClipping = false;
  // Columns without inputs neither give nor take feedback.
  std::vector<float> h = correlatedMoment(columns, 1000, 3);
  for (int64_t dead : {0, 50, 139})
    for (int64_t k = 0; k < columns; ++k)
      h[dead * columns + k] = h[k * columns + dead] = 0;
  auto factor = factorGptq(h, columns, options);
  ASSERT_TRUE(factor);
  EXPECT_EQ(factor->damping, 0.01);
  auto decoded = decode(*quantizeGptq(block, *factor, format, options), format);
  for (int64_t n = 0; n < rows; ++n)
    for (int64_t dead : {0, 50, 139})
      EXPECT_EQ(decoded[n * columns + dead], rounded[n * columns + dead]);

  // Fewer tokens than columns, and no damping to help: it grows until there is a factor.
  std::vector<float> singular = correlatedMoment(columns, 12, 5);
  options.damping = 0;
  factor = factorGptq(singular, columns, options);
  ASSERT_TRUE(factor);
  EXPECT_GT(factor->damping, 0);
  EXPECT_LE(factor->damping, 1e-3);
  for (float value : factor->feedback)
    ASSERT_TRUE(std::isfinite(value));
  auto feedback = quantizeGptq(block, *factor, format, options);
  ASSERT_TRUE(feedback);
  EXPECT_LT(outputError(weights, decode(*feedback, format), singular, columns),
            outputError(weights, rounded, singular, columns));
  // One column, no column, no row.
  EXPECT_TRUE(quantizeGptq(MatrixView(weights.data(), 3, 1), *factorGptq(std::vector<float>{2}, 1, {}), format, {}));
  EXPECT_TRUE(quantizeGptq(MatrixView(weights.data(), 0, columns), *factor, format, {}));
}

TEST(Gptq, ThreadsDoNotMatter) {
  const int64_t rows = 300, columns = 160;
  std::vector<float> weights = normalValues(rows * columns, 8), h = correlatedMoment(columns, 300, 9);
  GptqOptions options;
  options.threads = 1;
  auto factor = factorGptq(h, columns, options);
  auto one = quantizeGptq(MatrixView(weights.data(), rows, columns), *factor, {3, 64, true}, options);
  for (unsigned threads : {2, 7}) {
    options.threads = threads;
    auto several = quantizeGptq(MatrixView(weights.data(), rows, columns), *factor, {3, 64, true}, options);
    expectSameBytes(*one, *several);
  }
}

TEST(Gptq, BadInputsAreNamed) {
  std::vector<float> weights = normalValues(4 * 8, 1), h = identity(8);
  auto factor = factorGptq(h, 8, {});
  MatrixView block(weights.data(), 4, 8);
  weights[10] = NAN;
  EXPECT_EQ(quantizeGptq(block, *factor, {4}, {}).message(),
            "weight is not finite at row 1, column 2: expected finite numbers, got nan");
  weights[10] = 1e38f;
  EXPECT_NE(quantizeGptq(block, *factor, {4}, {}).message().find("weight exceeds the range of its scales at row 1"),
            std::string::npos);
  EXPECT_EQ(quantizeGptq(MatrixView(weights.data(), 2, 4), *factor, {4}, {}).message(),
            "second moment does not fit the weight: expected 4 columns, got 8");
  h[9] = -1;
  EXPECT_EQ(factorGptq(h, 8, {}).message(),
            "second moment has a negative diagonal at column 1: expected sums of squares, got -1");
  h[9] = INFINITY;
  EXPECT_EQ(factorGptq(h, 8, {}).message(),
            "second moment is not finite at row 1, column 1: expected finite numbers, got inf");
  EXPECT_EQ(factorGptq(h, 7, {}).message(), "second moment does not fit the weight: expected 7 x 7, got 64 numbers");
  GptqOptions options;
  options.damping = -1;
  EXPECT_FALSE(factorGptq(identity(8), 8, options));
}

//===----------------------------------------------------------------------===//
// AWQ
//===----------------------------------------------------------------------===//

/// quantizeScaledUniform's result by the definition of #skim.scaled.
static std::vector<float> decodeScaled(const QuantizedMatrix &m, const UniformFormat &format) {
  std::vector<float> out = decode(m, format);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] *= readFloat(DType::F16, m.find("alpha")->bytes, i % m.columns);
  return out;
}

TEST(Awq, ProtectsColumnsOfLargeInputs) {
  const int64_t columns = 128;
  std::vector<float> a = normalValues(40 * columns, 1), b = normalValues(90 * columns, 2);
  std::vector<float> h = correlatedMoment(columns, 500, 3);
  // A few inputs are far larger than the others, as in language models.
  for (int64_t large : {3, 40, 41, 100})
    for (int64_t k = 0; k < columns; ++k) {
      h[large * columns + k] *= 30;
      h[k * columns + large] *= 30;
    }
  std::vector<float> magnitude = rootMeanSquare(h, columns, 500);
  std::vector<MatrixView> matrices = {{a.data(), 40, columns}, {b.data(), 90, columns}};
  std::vector<float> diagonal;
  for (int64_t k = 0; k < columns; ++k) {
    diagonal.push_back(h[k * columns + k]);
    EXPECT_NEAR(magnitude[k], std::sqrt(diagonal[k] / 500), 1e-6 * magnitude[k]);
  }
  for (UniformFormat format : {UniformFormat{3}, UniformFormat{4, 48, true}}) {
    auto scale = findAwqScale(matrices, h, magnitude, format, {});
    ASSERT_TRUE(scale) << scale.message();
    EXPECT_GT(scale->beta, 0);
    EXPECT_LT(scale->error, 0.8 * scale->plainError);
    // The errors are those of what is stored, and β = 0 is rounding with the weighted search.
    double error = 0, plain = 0;
    for (const MatrixView &matrix : matrices) {
      auto result = quantizeScaledUniform(matrix, scale->alpha, diagonal, format, {});
      ASSERT_TRUE(result) << result.message();
      std::vector<float> weights(matrix.data, matrix.data + matrix.rows * columns);
      std::vector<float> decoded = decodeScaled(*result, format);
      error += outputError(weights, decoded, h, columns);
      double squares = 0;
      for (size_t i = 0; i < weights.size(); ++i)
        squares += std::pow(double(weights[i]) - decoded[i], 2);
      EXPECT_NEAR(result->squaredError, squares, 1e-5 * squares);
      UniformOptions options;
      options.searchClipping = true;
      options.clippingWeights = diagonal;
      plain += outputError(weights, decode(*quantizeUniform(matrix, format, options), format), h, columns);
    }
    EXPECT_NEAR(scale->error, error, 1e-3 * error);
    EXPECT_NEAR(scale->plainError, plain, 1e-3 * plain);
    // Larger inputs, smaller α, stored exactly.
    for (int64_t i = 0; i < columns; ++i) {
      EXPECT_EQ(scale->alpha[i], roundToF16(scale->alpha[i]));
      for (int64_t j = 0; j < columns; ++j)
        if (magnitude[i] > magnitude[j])
          EXPECT_LE(scale->alpha[i], scale->alpha[j]);
    }
  }
}

TEST(Awq, DegenerateInputs) {
  const int64_t columns = 16;
  std::vector<float> weights = normalValues(3 * columns, 1), h = identity(columns), ones(columns, 1.0f);
  std::vector<MatrixView> matrices = {{weights.data(), 3, columns}};
  // A sample of rows 0 and 3 of six.
  std::vector<float> six = normalValues(6 * columns, 2), sampled(six.begin(), six.begin() + columns);
  sampled.insert(sampled.end(), six.begin() + 3 * columns, six.begin() + 4 * columns);
  std::vector<float> correlated = correlatedMoment(columns, 50, 4), sizes = rootMeanSquare(correlated, columns, 50);
  AwqOptions two;
  two.searchRows = 2;
  auto sample = findAwqScale(std::vector<MatrixView>{{six.data(), 6, columns}}, correlated, sizes, {4}, two);
  auto whole = findAwqScale(std::vector<MatrixView>{{sampled.data(), 2, columns}}, correlated, sizes, {4}, {});
  EXPECT_EQ(sample->alpha, whole->alpha);
  EXPECT_EQ(sample->error, whole->error);

  // Inputs of one size: nothing to scale, and the first β stays.
  auto scale = findAwqScale(matrices, h, ones, {4}, {});
  ASSERT_TRUE(scale);
  EXPECT_EQ(scale->alpha, ones);
  EXPECT_EQ(scale->beta, 0);
  // No inputs at all, or in some columns, or of extreme sizes.
  EXPECT_EQ(findAwqScale(matrices, std::vector<float>(columns * columns), std::vector<float>(columns), {4}, {})->alpha,
            ones);
  std::vector<float> magnitude = {0, 1e30f, 1e-30f};
  magnitude.resize(columns, 1.0f);
  h[columns + 1] = 1e30f;
  scale = findAwqScale(matrices, h, magnitude, {4}, {});
  ASSERT_TRUE(scale);
  for (float value : scale->alpha)
    EXPECT_TRUE(value > 0 && std::isfinite(value));
  auto result = quantizeScaledUniform(matrices[0], scale->alpha, {}, {4}, {});
  ASSERT_TRUE(result) << result.message();
  EXPECT_TRUE(std::isfinite(result->squaredError));
}

TEST(Awq, BadInputsAreNamed) {
  std::vector<float> weights = normalValues(8, 1), h = identity(4), magnitude(4, 1.0f);
  std::vector<MatrixView> matrices = {{weights.data(), 2, 4}};
  EXPECT_EQ(findAwqScale(matrices, h, std::vector<float>{1, 1, -1, 1}, {4}, {}).message(),
            "magnitude of an input is negative at column 2: expected numbers of at least 0");
  EXPECT_FALSE(findAwqScale(matrices, h, std::vector<float>{1, 1, NAN, 1}, {4}, {}));
  EXPECT_FALSE(findAwqScale(matrices, h, std::vector<float>(3), {4}, {}));
  std::vector<MatrixView> other = {{weights.data(), 4, 2}};
  EXPECT_EQ(findAwqScale(other, h, magnitude, {4}, {}).message(),
            "weights that share an input differ in columns: expected 4, got 2");
  EXPECT_EQ(quantizeScaledUniform(matrices[0], std::vector<float>{1, 0, 1, 1}, {}, {4}, {}).message(),
            "scaling vector exceeds its type at column 1: expected positive numbers within F16, got 0");
  EXPECT_FALSE(quantizeScaledUniform(matrices[0], std::vector<float>{1, 1e9f, 1, 1}, {}, {4}, {}));
  EXPECT_FALSE(quantizeScaledUniform(matrices[0], std::vector<float>{1, 1}, {}, {4}, {}));
  weights[1] = NAN;
  EXPECT_EQ(findAwqScale(matrices, h, magnitude, {4}, {}).message(),
            "weight is not finite at row 0, column 1: expected finite numbers, got nan");
}
