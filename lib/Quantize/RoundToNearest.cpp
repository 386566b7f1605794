#include "skim/Quantize/RoundToNearest.h"
#include "Clones.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Threads.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

using namespace skim;

namespace {

constexpr int lanes = 16;

/// Values scale·(q − zero), q in [low, high].
struct Grid {
  float scale, zero, low, high;
};

/// Rounds |x| < 2^22 to the nearest integer, ties to even, on any CPU: adding
/// 1.5·2^23 pushes the fraction out.
SKIM_INLINE float roundSmall(float x) { return (x + 12582912.0f) - 12582912.0f; }

SKIM_INLINE float nearestCode(float x, const Grid &grid) {
  float code = x / grid.scale + grid.zero;
  code = code < grid.low ? grid.low : code;
  code = code > grid.high ? grid.high : code;
  return roundSmall(code);
}

/// Σ (x − decoded)², in a fixed number of lanes so that every CPU adds in the same order.
SKIM_CLONES double gridError(const float *x, int64_t count, const Grid &given) {
  const Grid grid = given;
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

/// Codes as they are stored: from zero.
SKIM_CLONES void gridCodes(const float *x, int64_t count, const Grid &given, uint8_t *codes) {
  const Grid grid = given;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<uint8_t>(static_cast<int32_t>(nearestCode(x[i], grid) - grid.low));
}

SKIM_CLONES double squaredSum(const float *x, int64_t count) {
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

/// Smallest and largest of finite numbers, by their bits: floats order like
/// integers of sign and magnitude, and integer minima vectorise.
SKIM_CLONES void extremes(const float *x, int64_t count, float &smallest, float &largest) {
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

float roundTo(DType type, float value) {
  return type == DType::F16 ? roundToF16(value) : type == DType::BF16 ? roundToBF16(value) : value;
}

void storeFloat(DType type, float value, uint8_t *out) {
  if (type == DType::F32) {
    std::memcpy(out, &value, 4);
    return;
  }
  uint16_t half = type == DType::F16 ? f32ToF16(value) : f32ToBF16(value);
  std::memcpy(out, &half, 2);
}

/// Chooses grids for groups of one format.
class GridChooser {
public:
  GridChooser(const UniformFormat &format, bool searchClipping)
      : format(format), searchClipping(searchClipping), steps(float((1 << format.bits) - 1)) {}

  /// The best grid for a group and its error. A scale that overflows is infinite.
  Grid choose(const float *x, int64_t count, double &error) const {
    float smallest, largest;
    extremes(x, count, smallest, largest);
    Grid best = format.asymmetric ? asymmetric(smallest, largest, 1.0f) : symmetric(smallest, largest, 1.0f);
    error = evaluate(x, count, best);
    auto consider = [&](const Grid &grid) {
      double other = evaluate(x, count, grid);
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

private:
  double evaluate(const float *x, int64_t count, const Grid &grid) const {
    if (!std::isfinite(grid.scale) || !std::isfinite(grid.zero))
      return std::numeric_limits<double>::infinity();
    return grid.scale == 0 ? squaredSum(x, count) : gridError(x, count, grid);
  }
  float half() const { return float(1 << (format.bits - 1)); }
  Grid symmetric(float smallest, float largest, float factor) const {
    // −2^(b−1) has no positive partner: it goes to the side that reaches farther.
    float extreme = -smallest > largest ? smallest : largest;
    return {roundTo(format.scale, extreme * factor / -half()), 0.0f, -half(), half() - 1};
  }
  Grid asymmetric(float smallest, float largest, float factor) const {
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

  const UniformFormat &format;
  bool searchClipping;
  float steps;
};

} // namespace

Expected<QuantizedMatrix> skim::quantizeUniform(const MatrixView &block, const UniformFormat &format,
                                                const UniformOptions &options) {
  if (Error error = checkFinite(block, "weight", options))
    return error;
  QuantizedMatrix result;
  result.rows = block.rows;
  result.columns = block.columns;
  for (ComponentSpec &spec : componentsOf(format, block.rows, block.columns)) {
    std::vector<uint8_t> bytes(*tensorBytes(spec.type, spec.shape));
    result.components.push_back({std::move(spec), std::move(bytes)});
  }
  const int64_t columns = block.columns, size = format.groupSize(columns), groups = format.numGroups(columns);
  const bool packedZeros = format.asymmetric && !format.floatZero;
  std::vector<double> errors(block.rows), norms(block.rows);
  const GridChooser chooser(format, options.searchClipping);
  auto at = [&](size_t component, int64_t row) {
    QuantizedMatrix::Component &c = result.components[component];
    return c.bytes.data() + c.spec.rowBytes * uint64_t(row);
  };
  const int64_t grain = 1 + (int64_t(1) << 15) / std::max<int64_t>(columns, 1);
  Error failure = parallelForWithErrors(block.rows, grain, options.threads, [&](size_t begin, size_t end, unsigned) {
    std::vector<uint8_t> codes(columns), zeros(groups);
    for (int64_t n = begin; n < int64_t(end); ++n) {
      const float *row = block.row(n);
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = g * size, count = std::min(size, columns - first);
        double error = 0;
        Grid grid = chooser.choose(row + first, count, error);
        if (!std::isfinite(grid.scale) || !std::isfinite(grid.zero)) {
          float smallest, largest;
          extremes(row + first, count, smallest, largest);
          char text[80];
          std::snprintf(text, sizeof text, "values from %g to %g", double(smallest), double(largest));
          return Error(fail("weight exceeds the range of its scales",
                            "row " + std::to_string(options.firstRow + n) + ", column " + std::to_string(first),
                            std::string("scales and zeros within ") + dtypeName(format.scale), text,
                            "keep this layer in 16 bits"));
        }
        if (grid.scale == 0)
          std::memset(codes.data() + first, static_cast<int>(grid.zero - grid.low), count);
        else
          gridCodes(row + first, count, grid, codes.data() + first);
        storeFloat(format.scale, grid.scale, at(1, n) + g * dtypeSize(format.scale));
        if (packedZeros)
          zeros[g] = static_cast<uint8_t>(grid.zero);
        else if (format.asymmetric)
          storeFloat(DType::F16, grid.zero, at(2, n) + g * 2);
        errors[n] += error;
      }
      norms[n] = squaredSum(row, columns);
      packBits(codes.data(), columns, format.bits, at(0, n));
      if (packedZeros)
        packBits(zeros.data(), groups, format.bits, at(2, n));
    }
    return Error::success();
  });
  if (failure)
    return failure;
  for (int64_t n = 0; n < block.rows; ++n) {
    result.squaredError += errors[n];
    result.squaredNorm += norms[n];
  }
  return result;
}
