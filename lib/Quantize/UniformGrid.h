//===- UniformGrid.h - the grids of #skim.uniform ---------------*- C++ -*-===//
//
// What quantizers with uniform codes share: choosing the grid of a group, and
// writing rows of codes and grids as components.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_QUANTIZE_UNIFORMGRID_H
#define SKIM_LIB_QUANTIZE_UNIFORMGRID_H

#include "Clones.h"
#include "skim/Quantize/Matrix.h"

#include <span>

namespace skim {

/// Values scale·(q − zero), q in [low, high].
struct UniformGrid {
  float scale = 0, zero = 0, low = 0, high = 0;

  bool finite() const;
  float value(float code) const { return scale * (code - zero); }
};

/// Rounds |x| < 2^22 to the nearest integer, ties to even, on any CPU: adding
/// 1.5·2^23 pushes the fraction out.
SKIM_INLINE float roundSmall(float x) { return (x + 12582912.0f) - 12582912.0f; }

/// The code nearest to x; the scale is not zero.
SKIM_INLINE float nearestCode(float x, const UniformGrid &grid) {
  float code = x / grid.scale + grid.zero;
  code = code < grid.low ? grid.low : code;
  code = code > grid.high ? grid.high : code;
  return roundSmall(code);
}

/// nearestCode on any grid: where all values are zero, every code is as good as `zero`.
SKIM_INLINE float codeOn(const UniformGrid &grid, float x) {
  return grid.scale == 0 ? grid.zero : nearestCode(x, grid);
}

/// Σ weight·(x − decoded)², in a fixed number of lanes so that every CPU adds in
/// the same order. `weights`: one a value, or null for ones.
double gridError(const float *x, const float *weights, int64_t count, const UniformGrid &grid);

/// Codes of x as they are stored: from zero.
void gridCodes(const float *x, int64_t count, const UniformGrid &grid, uint8_t *codes);

/// Σ x².
double squaredSum(const float *x, int64_t count);

/// Chooses grids for groups of one format.
class GridChooser {
public:
  GridChooser(const UniformFormat &format, bool searchClipping)
      : format(format), searchClipping(searchClipping), steps(float((1 << format.bits) - 1)) {}

  /// The best grid for a group by the (weighted) squared error of rounding to
  /// nearest, and that error. A grid that overflows is not finite().
  UniformGrid choose(const float *x, const float *weights, int64_t count, double &error) const;

private:
  double evaluate(const float *x, const float *weights, int64_t count, const UniformGrid &grid) const;
  UniformGrid symmetric(float smallest, float largest, float factor) const;
  UniformGrid asymmetric(float smallest, float largest, float factor) const;
  float half() const { return float(1 << (format.bits - 1)); }

  const UniformFormat &format;
  bool searchClipping;
  float steps;
};

/// Components of a block of rows in the making. Rows may be written by several threads.
class UniformRows {
public:
  UniformRows(const UniformFormat &format, const MatrixView &block, const QuantizeOptions &options);

  int64_t groups() const { return numGroups; }
  int64_t groupSize() const { return size; }
  /// Columns [groupBegin(g), groupBegin(g) + groupCount(g)).
  int64_t groupBegin(int64_t group) const { return group * size; }
  int64_t groupCount(int64_t group) const { return std::min(size, result.columns - group * size); }

  /// Why the grid of a group is not finite: what its values `x` are.
  Error overflow(int64_t row, int64_t group, const float *x) const;

  /// Stores a row's grids [groups] and codes [K] (from zero), which are
  /// `error` = Σ (w − ŵ)² away from the weights.
  void store(int64_t row, const UniformGrid *grids, const uint8_t *codes, double error);

  /// Everything stored.
  QuantizedMatrix finish(const MatrixView &block, unsigned threads);

private:
  UniformFormat format;
  QuantizeOptions options;
  int64_t size, numGroups;
  std::vector<double> errors;
  QuantizedMatrix result;
};

/// Rounds a block to nearest. `alpha` [K], positive, or empty for ones: what is
/// rounded is w/α, and errors are those of ŵ·α. `weights` [K] of the columns'
/// errors (of w) for the clipping search, or empty for ones.
Expected<QuantizedMatrix> quantizeOnGrid(const MatrixView &block, std::span<const float> alpha,
                                         std::span<const float> weights, const UniformFormat &format,
                                         const QuantizeOptions &options, bool searchClipping);

} // namespace skim

#endif // SKIM_LIB_QUANTIZE_UNIFORMGRID_H
