#include "skim/Quantize/Awq.h"
#include "Blas.h"
#include "UniformGrid.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

using namespace skim;

/// Rows of a tile of errors: a product of useful height, in little memory.
static constexpr int64_t tileRows = 64;

std::vector<float> skim::rootMeanSquare(std::span<const float> moment, int64_t columns, uint64_t tokens) {
  std::vector<float> out(columns);
  for (int64_t k = 0; k < columns; ++k)
    out[k] = static_cast<float>(
        std::sqrt(std::max(double(moment[k * columns + k]), 0.0) / double(std::max<uint64_t>(tokens, 1))));
  return out;
}

/// magnitude^−β, normalised and in f16.
static std::vector<float> scaleOf(std::span<const float> magnitude, double beta) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (float m : magnitude) {
    if (m > 0) {
      least = std::min(least, std::pow(double(m), -beta));
      most = std::max(most, std::pow(double(m), -beta));
    }
  }
  std::vector<float> alpha;
  for (float m : magnitude) {
    double value = m > 0 ? std::pow(double(m), -beta) / std::sqrt(least * most) : 1.0;
    // Normal numbers of f16: a coarser α would cost what it is to save.
    alpha.push_back(roundToF16(static_cast<float>(std::clamp(value, 0x1p-14, 0x1p15))));
  }
  return alpha;
}

/// Evenly spaced rows of a matrix.
static MatrixView sampleOf(const MatrixView &matrix, int64_t rows) {
  const int64_t every = rows > 0 ? std::max<int64_t>(matrix.rows / rows, 1) : 1;
  return MatrixView(matrix.data, matrix.rows / every, matrix.columns, matrix.stride * every);
}

/// Σ δ·H·δᵀ over the rows of a matrix rounded to nearest behind `alpha`.
static Expected<double> errorOf(const MatrixView &matrix, std::span<const float> moment, std::span<const float> alpha,
                                const UniformFormat &format, const AwqOptions &options) {
  const int64_t columns = matrix.columns;
  const GridChooser chooser(format, options.searchClipping);
  const UniformRows shape(format, MatrixView(nullptr, 0, columns), options);
  std::vector<float> weights(columns);
  for (int64_t k = 0; k < columns; ++k)
    weights[k] = moment[k * columns + k] * alpha[k] * alpha[k];
  std::vector<double> errors(matrix.rows);
  Error failure =
      parallelForWithErrors(matrix.rows, tileRows, options.threads, [&](size_t begin, size_t end, unsigned) {
        const int64_t rows = int64_t(end - begin);
        std::vector<float> x(columns), delta(rows * columns), product(rows * columns);
        for (int64_t r = 0; r < rows; ++r) {
          const float *row = matrix.row(begin + r);
          for (int64_t k = 0; k < columns; ++k)
            x[k] = row[k] / alpha[k];
          for (int64_t g = 0; g < shape.groups(); ++g) {
            const int64_t first = shape.groupBegin(g), last = first + shape.groupCount(g);
            double error = 0;
            UniformGrid grid = chooser.choose(x.data() + first, weights.data() + first, last - first, error);
            if (!grid.finite())
              return shape.overflow(begin + r, g, x.data() + first);
            for (int64_t k = first; k < last; ++k)
              delta[r * columns + k] = grid.value(codeOn(grid, x[k])) * alpha[k] - row[k];
          }
        }
        gemm(rows, columns, columns, 1.0f, delta.data(), columns, false, moment.data(), columns, 0.0f, product.data(),
             columns);
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t k = 0; k < columns; ++k)
            errors[begin + r] += double(delta[r * columns + k]) * double(product[r * columns + k]);
        return Error::success();
      });
  if (failure)
    return failure;
  double sum = 0;
  for (double error : errors)
    sum += error;
  return sum;
}

Expected<AwqScale> skim::findAwqScale(std::span<const MatrixView> matrices, std::span<const float> moment,
                                      std::span<const float> magnitude, const UniformFormat &format,
                                      const AwqOptions &options) {
  const auto columns = int64_t(magnitude.size());
  if (int64_t(moment.size()) != columns * columns)
    return fail("second moment does not fit the magnitudes", {},
                std::to_string(columns) + " x " + std::to_string(columns), std::to_string(moment.size()) + " numbers");
  if (Error error = checkFinite(MatrixView(moment.data(), columns, columns), "second moment", {}))
    return error;
  if (Error error = checkFinite(MatrixView(magnitude.data(), 1, columns), "magnitude of an input", {}))
    return error;
  for (int64_t k = 0; k < columns; ++k)
    if (magnitude[k] < 0)
      return fail("magnitude of an input is negative", "column " + std::to_string(k), "numbers of at least 0");
  for (const MatrixView &matrix : matrices) {
    if (matrix.columns != columns)
      return fail("weights that share an input differ in columns", {}, std::to_string(columns),
                  std::to_string(matrix.columns));
    if (Error error = checkFinite(matrix, "weight", options))
      return error;
  }
  useOneBlasThread();
  std::vector<MatrixView> samples;
  for (const MatrixView &matrix : matrices)
    samples.push_back(sampleOf(matrix, options.searchRows));
  AwqScale best;
  for (unsigned step = 0; step <= options.steps; ++step) {
    const double beta = options.steps ? double(step) / options.steps : 0.0;
    std::vector<float> alpha = scaleOf(magnitude, beta);
    double sum = 0;
    for (const MatrixView &matrix : samples) {
      Expected<double> error = errorOf(matrix, moment, alpha, format, options);
      if (!error)
        return error.takeError();
      sum += *error;
    }
    if (step == 0)
      best.plainError = sum;
    if (step == 0 || sum < best.error) {
      best.alpha = std::move(alpha);
      best.beta = beta;
      best.error = sum;
    }
  }
  return best;
}

Expected<QuantizedMatrix> skim::quantizeScaledUniform(const MatrixView &block, std::span<const float> alpha,
                                                      std::span<const float> diagonal, const UniformFormat &format,
                                                      const AwqOptions &options) {
  const int64_t columns = block.columns;
  if (int64_t(alpha.size()) != columns || (!diagonal.empty() && int64_t(diagonal.size()) != columns))
    return fail("scaling vector does not fit the weight", {}, std::to_string(columns) + " columns",
                std::to_string(alpha.size()));
  std::vector<float> stored(alpha.begin(), alpha.end());
  ComponentSpec spec{"alpha", DType::F16, {columns}, 0};
  std::vector<uint8_t> bytes(columns * 2);
  for (int64_t k = 0; k < columns; ++k) {
    uint16_t half = f32ToF16(stored[k]);
    stored[k] = f16ToF32(half);
    if (!(stored[k] > 0 && std::isfinite(stored[k]))) {
      char text[32];
      std::snprintf(text, sizeof text, "%g", double(alpha[k]));
      return fail("scaling vector exceeds its type", "column " + std::to_string(k), "positive numbers within F16",
                  text);
    }
    std::memcpy(bytes.data() + 2 * k, &half, 2);
  }
  Expected<QuantizedMatrix> result = quantizeOnGrid(block, stored, diagonal, format, options, options.searchClipping);
  if (result)
    result->components.push_back({std::move(spec), std::move(bytes)});
  return result;
}
