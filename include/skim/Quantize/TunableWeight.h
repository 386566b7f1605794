//===- TunableWeight.h - a weight as a function of its tables ---*- C++ -*-===//
//
// With the codes frozen, a quantized weight is linear in what remains: entries
// of tables, or scales of groups. That is what end-to-end tuning trains
// (PV-Tuning, EfficientQAT): the gradient of an entry is the sum of the
// gradients of the weights that have its code.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_TUNABLEWEIGHT_H
#define SKIM_QUANTIZE_TUNABLEWEIGHT_H

#include "skim/Quantize/Sensitivity.h"

#include <span>
#include <vector>

namespace skim {

struct Objective;

/// Rows of one leaf, in storage order.
class TunablePart {
public:
  /// From components as quantizeCodebook makes them. `rows`: where each stored
  /// row lies in the weight.
  static TunablePart codebook(const QuantizedMatrix &matrix, const CodebookFormat &format, std::vector<uint32_t> rows);
  /// From components as quantizeUniform makes them; zeros stay as they are.
  static TunablePart uniform(const QuantizedMatrix &matrix, const UniformFormat &format, std::vector<uint32_t> rows);

  /// The numbers that are trained: entries [n, 2^bits] or scales [n, groups], row
  /// by row; entries [1, 2^bits] of a table that all rows share.
  std::vector<float> &values() { return parameters; }
  const std::vector<float> &values() const { return parameters; }
  /// How many of them a stored row has, and how many sets of them there are.
  int64_t valuesPerRow() const { return perRow; }
  int64_t numSets() const { return shared ? 1 : numRows(); }
  int64_t setOf(int64_t stored) const { return shared ? 0 : stored; }
  int64_t numRows() const { return static_cast<int64_t>(rows.size()); }
  /// Where a stored row lies in the weight.
  int64_t rowOf(int64_t stored) const { return rows[stored]; }

  /// Stored rows [begin, end) into `weight` [N, columns], each at its place.
  void decode(int64_t begin, int64_t end, const float *alpha, float *weight) const;
  /// The gradient of sets [begin, end) of values from that of the weight
  /// [N, columns], added to `out` (as values()).
  void accumulate(int64_t begin, int64_t end, const float *alpha, const float *weightGradient, float *out) const;

private:
  friend struct TunableWeight;
  void accumulateShared(const float *alpha, const float *weightGradient, float *out) const;
  void store(QuantizedMatrix &matrix, std::span<const Objective> objectives, int64_t rowsOfWeight, unsigned threads);
  /// Int8 tables: the grid that a row's entries lie best on, by how often each is used; its values go to `rounded`.
  float nearestGrid(int64_t row, float before, std::span<float> rounded) const;
  void storeTile(QuantizedMatrix &matrix, const Objective &objective, int64_t begin, int64_t end);

  bool isCodebook = true;
  bool shared = false; // one table for all rows
  int64_t columns = 0, perRow = 0, group = 0;
  std::vector<uint32_t> rows;
  std::vector<uint8_t> codes;    // [n, columns]
  std::vector<float> offsets;    // uniform: zero points [n, groups], in codes
  std::vector<float> parameters; // [n, perRow]
  DType type = DType::F16;       // of the stored values
};

/// A whole weight in parts, with an optional scaling vector.
struct TunableWeight {
  int64_t rows = 0, columns = 0;
  std::vector<TunablePart> parts;
  std::vector<float> alpha; ///< [columns], or empty

  /// [rows, columns]
  void decode(float *out, unsigned threads) const;
  /// The components of each part with the trained values in place of the old ones, in their stored type, which the
  /// values then are, too. What int8 tables lose is measured under the objective of `sensitivity`, so that entries
  /// make up for each other's rounding; they ascend afterwards, and codes follow them.
  void store(std::span<QuantizedMatrix *const> matrices, const Sensitivity &sensitivity, unsigned threads);
};

} // namespace skim

#endif // SKIM_QUANTIZE_TUNABLEWEIGHT_H
