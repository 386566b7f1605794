//===- TableRounding.h - tables by least squares, as stored -----*- C++ -*-===//
#ifndef SKIM_LIB_QUANTIZE_TABLEROUNDING_H
#define SKIM_LIB_QUANTIZE_TABLEROUNDING_H

#include "skim/Support/Safetensors.h"

#include <span>
#include <vector>

namespace skim {

/// Rounds entries to what `type` stores (I8: multiples of `scale`), in place.
void roundEntries(DType type, float scale, std::span<float> values);

/// I8's scale, as f16, for entries up to `largest` in magnitude.
float tableScaleFor(float largest);

/// The change Δ of a table that lowers Δᵀ·A·Δ − 2·gᵀ·Δ most, A = PᵀFP [n,n] and
/// g = −Pᵀ·F·δ, by least squares and then on the grid of `type`, where entries
/// move one at a time while that helps. `values` and `scale` become the new
/// table (in the order of the codes, perhaps not ascending). False, and nothing
/// changed, if no stored table is better.
bool improveTable(std::span<const double> normal, std::span<const double> gradient, DType type,
                  std::vector<float> &values, float &scale);

} // namespace skim

#endif // SKIM_LIB_QUANTIZE_TABLEROUNDING_H
