#include "skim/Quantize/Gptq.h"
#include "Blas.h"
#include "UniformGrid.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

using namespace skim;

//===----------------------------------------------------------------------===//
// The factor
//===----------------------------------------------------------------------===//

static Error checkMoment(std::span<const float> moment, int64_t columns) {
  if (int64_t(moment.size()) != columns * columns)
    return fail("second moment does not fit the weight", {}, std::to_string(columns) + " x " + std::to_string(columns),
                std::to_string(moment.size()) + " numbers");
  if (Error error = checkFinite(MatrixView(moment.data(), columns, columns), "second moment", {}))
    return error;
  for (int64_t k = 0; k < columns; ++k) {
    if (moment[k * columns + k] >= 0)
      continue;
    char text[32];
    std::snprintf(text, sizeof text, "%g", double(moment[k * columns + k]));
    return fail("second moment has a negative diagonal", "column " + std::to_string(k), "sums of squares", text);
  }
  return Error::success();
}

/// Replaces symmetric positive definite A [n, n] by the inverse of its Cholesky
/// factor, lower and column-major. False if A is not positive definite.
static bool invertCholesky(std::vector<double> &a, int n) {
  int info = 0;
  dpotrf_("L", &n, a.data(), &n, &info);
  if (info != 0)
    return false;
  dtrtri_("L", "N", &n, a.data(), &n, &info);
  return info == 0;
}

Expected<GptqFactor> skim::factorGptq(std::span<const float> moment, int64_t columns, const GptqOptions &options) {
  if (Error error = checkMoment(moment, columns))
    return error;
  if (!(options.damping >= 0 && std::isfinite(options.damping)))
    return fail("damping of the second moment is not a share", {}, "a number of at least 0",
                std::to_string(options.damping));
  useOneBlasThread();
  GptqFactor factor;
  factor.columns = columns;
  factor.order.resize(columns);
  std::iota(factor.order.begin(), factor.order.end(), 0);
  double mean = 0;
  for (int64_t k = 0; k < columns; ++k) {
    factor.diagonal.push_back(moment[k * columns + k]);
    mean += double(factor.diagonal[k]) / double(columns);
  }
  const bool dead = mean == 0;
  if (dead) {
    factor.diagonal.assign(columns, 1.0f);
    mean = 1;
  }
  if (options.actOrder)
    std::sort(factor.order.begin(), factor.order.end(), [&](int32_t a, int32_t b) {
      float x = factor.diagonal[a], y = factor.diagonal[b];
      return x != y ? x > y : a < b;
    });

  // With columns in reverse order H = L·Lᵀ gives H⁻¹ = L⁻ᵀ·L⁻¹, and reversing once more makes L⁻¹ the upper factor of
  // H⁻¹ = Uᵀ·U that is wanted: no second factorisation.
  const int n = static_cast<int>(columns);
  std::vector<double> work(size_t(columns) * columns);
  for (factor.damping = options.damping;; factor.damping = std::max(10 * factor.damping, 1e-8)) {
    for (int64_t i = 0; i < columns; ++i) {
      const int64_t row = factor.order[columns - 1 - i];
      for (int64_t j = 0; j < columns; ++j) {
        const int64_t column = factor.order[columns - 1 - j];
        const bool alive = !dead && factor.diagonal[row] > 0 && factor.diagonal[column] > 0;
        double value = alive ? double(moment[row * columns + column]) / mean : row == column ? 1.0 : 0.0;
        work[j * columns + i] = value + (row == column ? factor.damping : 0.0);
      }
    }
    if (invertCholesky(work, n))
      break;
  }
  factor.feedback.resize(size_t(columns) * columns);
  for (int64_t i = 0; i < columns; ++i) {
    // Element (i, j) of U is (K−1−i, K−1−j) of the lower factor.
    auto upper = [&](int64_t j) { return work[(columns - 1 - j) * columns + (columns - 1 - i)]; };
    for (int64_t j = i; j < columns; ++j)
      factor.feedback[i * columns + j] = static_cast<float>(upper(j) / upper(i));
  }
  return factor;
}

//===----------------------------------------------------------------------===//
// The sweep
//===----------------------------------------------------------------------===//

/// Columns whose updates of each other are made at once; what they spoil
/// behind them is one product.
static constexpr int64_t blockColumns = 128;
/// Rows of a tile: a product of useful height, in little memory.
static constexpr int64_t tileRows = 64;

/// y −= factor · x.
SKIM_CLONES static void subtract(float *y, const float *x, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    y[i] -= factor * x[i];
}

namespace {

/// Rows of a tile in the order of the factor.
struct Tile {
  int64_t columns;
  std::vector<float> values;      ///< [tileRows, K]: weights with the feedback so far
  std::vector<float> errors;      ///< [tileRows, blockColumns]
  std::vector<UniformGrid> grids; ///< [tileRows, groups]

  Tile(int64_t columns, int64_t groups)
      : columns(columns), values(tileRows * columns), errors(tileRows * blockColumns), grids(tileRows * groups) {}
};

} // namespace

/// Rounds the columns of a tile one after another; `codes` [rows, K] by column of the weight.
static void sweep(Tile &tile, int64_t rows, const GptqFactor &factor, int64_t groupSize, int64_t groups,
                  std::vector<uint8_t> &codes) {
  const int64_t columns = tile.columns;
  for (int64_t begin = 0; begin < columns; begin += blockColumns) {
    const int64_t count = std::min(blockColumns, columns - begin), rest = columns - begin - count;
    for (int64_t r = 0; r < rows; ++r) {
      float *x = tile.values.data() + r * columns + begin;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t column = factor.order[begin + i];
        const UniformGrid &grid = tile.grids[r * groups + column / groupSize];
        const float code = codeOn(grid, x[i]);
        codes[r * columns + column] = static_cast<uint8_t>(static_cast<int32_t>(code - grid.low));
        const float error = x[i] - grid.value(code);
        tile.errors[r * blockColumns + i] = error;
        subtract(x + i + 1, factor.feedback.data() + (begin + i) * columns + begin + i + 1, error, count - i - 1);
      }
    }
    if (rest > 0)
      gemm(rows, rest, count, -1.0f, tile.errors.data(), blockColumns, false,
           factor.feedback.data() + begin * columns + begin + count, columns, 1.0f, tile.values.data() + begin + count,
           columns);
  }
}

Expected<QuantizedMatrix> skim::quantizeGptq(const MatrixView &block, const GptqFactor &factor,
                                             const UniformFormat &format, const GptqOptions &options) {
  const int64_t columns = block.columns;
  if (factor.columns != columns)
    return fail("second moment does not fit the weight", {}, std::to_string(columns) + " columns",
                std::to_string(factor.columns));
  if (Error error = checkFinite(block, "weight", options))
    return error;
  useOneBlasThread();
  UniformRows result(format, block, options);
  const int64_t groups = result.groups();
  const GridChooser chooser(format, options.searchClipping);
  Error failure = parallelForWithErrors(block.rows, tileRows, options.threads, [&](size_t begin, size_t end, unsigned) {
    const int64_t rows = int64_t(end - begin);
    Tile tile(columns, groups);
    std::vector<uint8_t> codes(rows * columns);
    for (int64_t r = 0; r < rows; ++r) {
      const float *row = block.row(begin + r);
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = result.groupBegin(g);
        double error = 0;
        UniformGrid &grid = tile.grids[r * groups + g];
        grid = chooser.choose(row + first, factor.diagonal.data() + first, result.groupCount(g), error);
        if (!grid.finite())
          return result.overflow(begin + r, g, row + first);
      }
      for (int64_t i = 0; i < columns; ++i)
        tile.values[r * columns + i] = row[factor.order[i]];
    }
    sweep(tile, rows, factor, result.groupSize(), groups, codes);
    for (int64_t r = 0; r < rows; ++r) {
      const float *row = block.row(begin + r);
      const UniformGrid *grids = tile.grids.data() + r * groups;
      double error = 0;
      for (int64_t k = 0; k < columns; ++k) {
        const UniformGrid &grid = grids[k / result.groupSize()];
        double off = double(row[k]) - double(grid.value(float(codes[r * columns + k]) + grid.low));
        error += off * off;
      }
      result.store(begin + r, grids, codes.data() + r * columns, error);
    }
    return Error::success();
  });
  if (failure)
    return failure;
  return result.finish(block, options.threads);
}
