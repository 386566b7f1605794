//===- SharedTables.h - one table for many rows of a weight -----*- C++ -*-===//
#ifndef SKIM_LIB_QUANTIZE_SHAREDTABLES_H
#define SKIM_LIB_QUANTIZE_SHAREDTABLES_H

#include "skim/Quantize/Matrix.h"
#include "skim/Quantize/Sensitivity.h"

#include <span>
#include <vector>

namespace skim {

/// Tables of f16 entries for a list of rows, one for each width.
class SharedTables {
public:
  static constexpr unsigned maxBits = 6;

  SharedTables() = default;
  /// The optima of k-means over all values of the rows, each weighted with what
  /// its error costs: its column's entry of the objective's diagonal × the row's
  /// weight. Values are taken together in 4096 bins of their range, each
  /// represented by its mean. Fails where an entry exceeds f16.
  static Expected<SharedTables> fit(const std::string &name, const MatrixView &weights, std::span<const int64_t> rows,
                                    const Sensitivity &sensitivity);

  /// 2^bits values as stored, ascending.
  const std::vector<float> &table(unsigned bits) const { return tables[bits - 1]; }

private:
  std::vector<std::vector<float>> tables;
};

} // namespace skim

#endif // SKIM_LIB_QUANTIZE_SHAREDTABLES_H
