//===- Gptq.h - uniform codes with error feedback ---------------*- C++ -*-===//
//
// Frantar et al., "GPTQ" (ICLR 2023): the columns of a row are rounded one
// after another, and what each rounding spoils of the layer's output is made up
// for by the columns that are still free. A baseline: quantizeGptq differs from
// the paper by a clipping search and by scales that are chosen beforehand.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_GPTQ_H
#define SKIM_QUANTIZE_GPTQ_H

#include "skim/Quantize/Matrix.h"

#include <span>

namespace skim {

struct GptqOptions : QuantizeOptions {
  /// Columns in order of falling H_jj instead of as they lie.
  bool actOrder = true;
  /// Added to the diagonal of H, as a part of its mean.
  double damping = 0.01;
  /// Try smaller ranges for each group, errors weighted by H_jj.
  bool searchClipping = true;
};

/// What GPTQ needs of an input's second moment H; made once for all matrices
/// and blocks of rows that read that input.
struct GptqFactor {
  int64_t columns = 0;
  std::vector<int32_t> order;  ///< order[i]: the column that is rounded as the i-th
  std::vector<float> feedback; ///< [K, K] row-major, upper: the Cholesky factor of H⁻¹, columns in `order`
  std::vector<float> diagonal; ///< H_jj as given, for the clipping search; ones if all are zero
  double damping = 0;          ///< what was used, as a part of the mean of the diagonal
};

/// Factors H [K, K] (row-major, symmetric: Σ x·xᵀ or the guided moment, any scale).
///
/// Columns that calibration never activates (H_jj = 0) take part with H_jj = 1
/// times the mean, without influence on others: they are rounded to nearest.
/// If H with the damping asked for is not positive definite, the damping is
/// raised tenfold until it is. An H of zeros is taken as the identity. Fails if
/// H is not finite, has a negative diagonal or another size than [K, K].
Expected<GptqFactor> factorGptq(std::span<const float> moment, int64_t columns, const GptqOptions &options);

/// Quantizes a block of rows to `#skim.uniform`; components as quantizeUniform's.
///
/// Scales and zeros of all groups are chosen from the weights before the first
/// column is rounded (static groups), so that groups are runs of columns
/// whatever the order, and the layout is the plain one. Columns are updated in
/// blocks of 128, rows in tiles on several threads; results do not depend on
/// their number, but on the CPU, as BLAS does. Fails as quantizeUniform does.
Expected<QuantizedMatrix> quantizeGptq(const MatrixView &block, const GptqFactor &factor, const UniformFormat &format,
                                       const GptqOptions &options);

} // namespace skim

#endif // SKIM_QUANTIZE_GPTQ_H
