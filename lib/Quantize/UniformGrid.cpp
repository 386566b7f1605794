#include "UniformGrid.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Support/Float16.h"
#include "skim/Support/StoredFloat.h"
#include "skim/Support/Threads.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

using namespace skim;

static constexpr int lanes = 16;

bool UniformGrid::finite() const { return std::isfinite(scale) && std::isfinite(zero); }

//===----------------------------------------------------------------------===//
// Loops over a group
//===----------------------------------------------------------------------===//

SKIM_CLONES static double plainError(const float *x, int64_t count, const UniformGrid &given) {
  const UniformGrid grid = given;
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) {
      float value = x[i + lane];
      double off = double(value) - double(grid.scale * (nearestCode(value, grid) - grid.zero));
      sums[lane] += off * off;
    }
  }
  for (int lane = 0; i < count; ++i, ++lane) {
    double off = double(x[i]) - double(grid.scale * (nearestCode(x[i], grid) - grid.zero));
    sums[lane] += off * off;
  }
  double sum = 0;
  for (double part : sums)
    sum += part;
  return sum;
}

SKIM_CLONES static double weightedError(const float *x, const float *weights, int64_t count, const UniformGrid &given) {
  const UniformGrid grid = given;
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) {
      float value = x[i + lane];
      double off = double(value) - double(grid.scale * (nearestCode(value, grid) - grid.zero));
      sums[lane] += double(weights[i + lane]) * (off * off);
    }
  }
  for (int lane = 0; i < count; ++i, ++lane) {
    double off = double(x[i]) - double(grid.scale * (nearestCode(x[i], grid) - grid.zero));
    sums[lane] += double(weights[i]) * (off * off);
  }
  double sum = 0;
  for (double part : sums)
    sum += part;
  return sum;
}

/// Errors where everything decodes to zero.
static double weightedSquaredSum(const float *x, const float *weights, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum += double(weights[i]) * (double(x[i]) * double(x[i]));
  return sum;
}

double skim::gridError(const float *x, const float *weights, int64_t count, const UniformGrid &grid) {
  if (grid.scale == 0)
    return weights ? weightedSquaredSum(x, weights, count) : squaredSum(x, count);
  return weights ? weightedError(x, weights, count, grid) : plainError(x, count, grid);
}

SKIM_CLONES static void codesOf(const float *x, int64_t count, const UniformGrid &given, uint8_t *codes) {
  const UniformGrid grid = given;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<uint8_t>(static_cast<int32_t>(nearestCode(x[i], grid) - grid.low));
}

void skim::gridCodes(const float *x, int64_t count, const UniformGrid &grid, uint8_t *codes) {
  if (grid.scale == 0)
    std::memset(codes, static_cast<int>(grid.zero - grid.low), count);
  else
    codesOf(x, count, grid, codes);
}

SKIM_CLONES static double sumOfSquares(const float *x, int64_t count) {
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int lane = 0; lane < lanes; ++lane)
      sums[lane] += double(x[i + lane]) * double(x[i + lane]);
  for (int lane = 0; i < count; ++i, ++lane)
    sums[lane] += double(x[i]) * double(x[i]);
  double sum = 0;
  for (double part : sums)
    sum += part;
  return sum;
}

double skim::squaredSum(const float *x, int64_t count) { return sumOfSquares(x, count); }

/// Smallest and largest of finite numbers, by their bits: floats order like
/// integers of sign and magnitude, and integer minima vectorise.
SKIM_CLONES static void extremes(const float *x, int64_t count, float &smallest, float &largest) {
  auto fold = [](int32_t bits) { return bits ^ ((bits >> 31) & 0x7FFFFFFF); };
  int32_t low = std::numeric_limits<int32_t>::max(), high = std::numeric_limits<int32_t>::min();
  for (int64_t i = 0; i < count; ++i) {
    int32_t key = fold(std::bit_cast<int32_t>(x[i]));
    low = key < low ? key : low;
    high = key > high ? key : high;
  }
  smallest = std::bit_cast<float>(fold(low));
  largest = std::bit_cast<float>(fold(high));
}

//===----------------------------------------------------------------------===//
// Grids
//===----------------------------------------------------------------------===//

static float roundTo(DType type, float value) {
  return type == DType::F16 ? roundToF16(value) : type == DType::BF16 ? roundToBF16(value) : value;
}

double GridChooser::evaluate(const float *x, const float *weights, int64_t count, const UniformGrid &grid) const {
  return grid.finite() ? gridError(x, weights, count, grid) : std::numeric_limits<double>::infinity();
}

UniformGrid GridChooser::choose(const float *x, const float *weights, int64_t count, double &error) const {
  float smallest, largest;
  extremes(x, count, smallest, largest);
  UniformGrid best = format.asymmetric ? asymmetric(smallest, largest, 1.0f) : symmetric(smallest, largest, 1.0f);
  error = evaluate(x, weights, count, best);
  auto consider = [&](const UniformGrid &grid) {
    double other = evaluate(x, weights, count, grid);
    // An overflowing scale is never better; the first stays if it overflows too.
    if (other < error) {
      best = grid;
      error = other;
    }
  };
  // Down to less than half of the range: beyond, clipping never pays for weights of language models.
  for (int step = 1; searchClipping && step <= 28; ++step) {
    float factor = 1.0f - 0.02f * float(step);
    consider(format.asymmetric ? asymmetric(smallest, largest, factor) : symmetric(smallest, largest, factor));
  }
  return best;
}

UniformGrid GridChooser::symmetric(float smallest, float largest, float factor) const {
  // −2^(b−1) has no positive partner: it goes to the side that reaches farther.
  float extreme = -smallest > largest ? smallest : largest;
  return {roundTo(format.scale, extreme * factor / -half()), 0.0f, -half(), half() - 1};
}

UniformGrid GridChooser::asymmetric(float smallest, float largest, float factor) const {
  if (!format.floatZero) {
    smallest = std::min(smallest, 0.0f) * factor;
    largest = std::max(largest, 0.0f) * factor;
    // Halves: the difference of two large floats may overflow.
    float scale = roundTo(format.scale, (largest / 2 - smallest / 2) / steps * 2);
    float zero = scale == 0 ? 0.0f : std::min(std::max(std::nearbyint(-smallest / scale), 0.0f), steps);
    return {scale, zero, 0.0f, steps};
  }
  float middle = smallest / 2 + largest / 2, reach = (largest / 2 - smallest / 2) * factor;
  // All values alike: one step of their magnitude, so that code 0 is exact up to rounding.
  if (smallest == largest)
    return {roundTo(format.scale, std::abs(smallest)), smallest > 0 ? -1.0f : 1.0f, 0.0f, steps};
  float scale = roundTo(format.scale, reach / steps * 2);
  if (scale == 0)
    return {scale, 0.0f, 0.0f, steps};
  return {scale, roundToF16(-(middle - reach) / scale), 0.0f, steps};
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

UniformRows::UniformRows(const UniformFormat &format, const MatrixView &block, const QuantizeOptions &options)
    : format(format), options(options), size(format.groupSize(block.columns)),
      numGroups(format.numGroups(block.columns)), errors(block.rows) {
  result.rows = block.rows;
  result.columns = block.columns;
  for (ComponentSpec &spec : componentsOf(format, block.rows, block.columns)) {
    std::vector<uint8_t> bytes(*tensorBytes(spec.type, spec.shape));
    result.components.push_back({std::move(spec), std::move(bytes)});
  }
}

Error UniformRows::overflow(int64_t row, int64_t group, const float *x) const {
  float smallest, largest;
  extremes(x, groupCount(group), smallest, largest);
  char text[80];
  std::snprintf(text, sizeof text, "values from %g to %g", double(smallest), double(largest));
  return fail("weight exceeds the range of its scales",
              "row " + std::to_string(options.firstRow + row) + ", column " + std::to_string(groupBegin(group)),
              std::string("scales and zeros within ") + dtypeName(format.scale), text, "keep this layer in 16 bits");
}

void UniformRows::store(int64_t row, const UniformGrid *grids, const uint8_t *codes, double error) {
  auto at = [&](size_t component) {
    QuantizedMatrix::Component &c = result.components[component];
    return c.bytes.data() + c.spec.rowBytes * uint64_t(row);
  };
  packBits(codes, result.columns, format.bits, at(0));
  for (int64_t g = 0; g < numGroups; ++g)
    storeFloat(format.scale, grids[g].scale, at(1) + g * dtypeSize(format.scale));
  if (format.asymmetric && format.floatZero) {
    for (int64_t g = 0; g < numGroups; ++g)
      storeFloat(DType::F16, grids[g].zero, at(2) + g * 2);
  } else if (format.asymmetric) {
    std::vector<uint8_t> zeros(numGroups);
    for (int64_t g = 0; g < numGroups; ++g)
      zeros[g] = static_cast<uint8_t>(grids[g].zero);
    packBits(zeros.data(), zeros.size(), format.bits, at(2));
  }
  errors[row] = error;
}

QuantizedMatrix UniformRows::finish(const MatrixView &block, unsigned threads) {
  std::vector<double> norms(block.rows);
  const int64_t grain = 1 + (int64_t(1) << 15) / std::max<int64_t>(block.columns, 1);
  parallelFor(block.rows, grain, threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t n = begin; n < end; ++n)
      norms[n] = squaredSum(block.row(n), block.columns);
  });
  for (int64_t n = 0; n < block.rows; ++n) {
    result.squaredError += errors[n];
    result.squaredNorm += norms[n];
  }
  return std::move(result);
}
