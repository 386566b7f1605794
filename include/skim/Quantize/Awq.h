//===- Awq.h - uniform codes behind a scaling of the columns ----*- C++ -*-===//
//
// Lin et al., "AWQ" (MLSys 2024): columns whose inputs are large are scaled up
// before rounding, so that they lose less. A baseline in the form
// `#skim.scaled<#skim.uniform<…>>`, whose value is code value · α[k]: α is the
// inverse of the paper's s.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_AWQ_H
#define SKIM_QUANTIZE_AWQ_H

#include "skim/Quantize/Matrix.h"

#include <span>

namespace skim {

struct AwqOptions : QuantizeOptions {
  /// β is tried at 0, 1/steps, …, 1.
  unsigned steps = 20;
  /// The search looks at so many rows of each matrix, evenly spaced; 0: all.
  int64_t searchRows = 256;
  /// Try smaller ranges for each group, errors weighted by H_kk.
  bool searchClipping = true;
};

struct AwqScale {
  std::vector<float> alpha; ///< [K], representable in f16, positive
  double beta = 0;          ///< the exponent that was best
  double error = 0;         ///< Σ over the rows looked at of δ·H·δᵀ with it
  double plainError = 0;    ///< the same without scaling (β = 0)
};

/// Finds the α of linears that read one input: α_k ∝ magnitude_k^−β with the β
/// of the least Σ δ·H·δᵀ over all `matrices` rounded to nearest. α is normalised so that √(max·min) is 1 and rounded
/// to f16; columns without magnitude get 1.
///
/// `magnitude` [K]: the input's size by column; the paper's is mean |x|, the
/// root of the second moment's diagonal (rootMeanSquare) serves as well.
/// `moment` [K, K]: H, row-major. Fails at numbers that are not finite, at
/// negative magnitudes and at sizes that do not fit.
Expected<AwqScale> findAwqScale(std::span<const MatrixView> matrices, std::span<const float> moment,
                                std::span<const float> magnitude, const UniformFormat &format,
                                const AwqOptions &options);

/// √(H_kk / tokens) for each column of H [K, K].
std::vector<float> rootMeanSquare(std::span<const float> moment, int64_t columns, uint64_t tokens);

/// Quantizes a block of rows to `#skim.scaled<#skim.uniform<…>>`: components of
/// the inner uniform, then `alpha` F16 [K] (rowBytes 0: it belongs to the whole
/// tensor). `diagonal` [K], H_kk, weights the clipping search; empty: ones.
/// Fails as quantizeUniform does, and at an α that is not positive and finite.
Expected<QuantizedMatrix> quantizeScaledUniform(const MatrixView &block, std::span<const float> alpha,
                                                std::span<const float> diagonal, const UniformFormat &format,
                                                const AwqOptions &options);

} // namespace skim

#endif // SKIM_QUANTIZE_AWQ_H
