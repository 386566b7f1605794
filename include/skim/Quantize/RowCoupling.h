//===- RowCoupling.h - codes with the other rows' errors in view -*- C++ -*-===//
//
// Rows of a weight are quantized one by one, as if errors at different outputs
// did not meet. They do: with G = Σ_t g_t·g_tᵀ, g the loss gradient at a layer's
// outputs, the loss changes by about tr(G·Δ·F·Δᵀ), the Fisher that factors into
// inputs and outputs (K-FAC; two-sided rounding as in YAQA, 2025). Given the
// errors of the other rows o, rows b are best quantized as if their weights were
// w_b − G_bb⁻¹·G_bo·δ_o: they make up for the others' errors.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_ROWCOUPLING_H
#define SKIM_QUANTIZE_ROWCOUPLING_H

#include "skim/Quantize/LayerCodes.h"

namespace skim {

struct CouplingOptions : FinishOptions {
  /// G's elements off the diagonal are sums over as few tokens as the guided
  /// moment, and are multiplied by this.
  float share = 0.5f;
  int sweeps = 2; ///< over all rows
};

/// Finds codes and tables of `layer` anew, batch by batch of rows (low widths
/// first: rows with more codes make up for errors in finer steps), for the rows'
/// weights as shifted by the others' errors. tr(G·Δ·F·Δᵀ) never rises: a sweep
/// that does not lower it is undone. `outputMoment`: G, its upper triangle
/// [N(N+1)/2] (STATS: output_gradient_second_moment). Rows without gradient stay
/// as they are, and so do all where there are several groups of moments.
/// Leaves `layer.errors` and `lFull` empty: Sensitivity tells those of the new codes
/// where somebody asks, which are larger, since they see rows alone. Fails where sizes do not fit or G is not finite.
Error coupleRows(const std::string &name, FinishedLayer &layer, std::span<const float> outputMoment,
                 const MatrixView &weights, const Sensitivity &sensitivity, const CouplingOptions &options = {});

} // namespace skim

#endif // SKIM_QUANTIZE_ROWCOUPLING_H
