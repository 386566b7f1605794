//===- RoundToNearest.h - weights on a uniform grid -------------*- C++ -*-===//
#ifndef SKIM_QUANTIZE_ROUNDTONEAREST_H
#define SKIM_QUANTIZE_ROUNDTONEAREST_H

#include "skim/Quantize/Matrix.h"

#include <span>

namespace skim {

struct UniformOptions : QuantizeOptions {
  /// Also try smaller ranges that clip the extremes and keep what gives a group
  /// the least squared error. Off: the range covers every value.
  bool searchClipping = false;
  /// What an error in each column counts in that search [K], H_kk say; empty: ones.
  std::span<const float> clippingWeights;
};

/// Quantizes a block of rows to `#skim.uniform`.
///
/// Components (G = ⌈K / group⌉): `codes` U8 [N, ⌈K·bits/8⌉], LSB first,
/// symmetric codes stored as q + 2^(bits−1); `scales` [N, G] in the format's
/// type; asymmetric: `zeros`, U8 [N, ⌈G·bits/8⌉] LSB first, or F16 [N, G].
///
/// The grid of a group, always rounded to the stored type before the codes are
/// chosen, so that every code is the nearest of what will be decoded:
///  - symmetric: the value of largest magnitude lies at −2^(bits−1), with a
///    negative scale if it is positive (as llama.cpp's Q4_0). On SmolLM2's
///    weights this has a quarter less squared error at 4 bits, and two fifths
///    less at 3, than ±(2^(bits−1) − 1) at the largest magnitude.
///  - asymmetric: from the smallest to the largest value, zero included and
///    exact; with a float zero: zero not included.
///
/// Fails at a NaN or infinity (row and column), and where a scale or zero
/// exceeds its type (row).
Expected<QuantizedMatrix> quantizeUniform(const MatrixView &block, const UniformFormat &format,
                                          const UniformOptions &options);

/// What components `codes`, `scales` (and `zeros`) decode to: f32 [N, K] in `out`.
void decodeUniform(const QuantizedMatrix &matrix, const UniformFormat &format, float *out);

} // namespace skim

#endif // SKIM_QUANTIZE_ROUNDTONEAREST_H
