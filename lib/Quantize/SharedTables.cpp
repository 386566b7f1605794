#include "SharedTables.h"
#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/KMeans.h"

#include <algorithm>

using namespace skim;

Expected<SharedTables> SharedTables::fit(const std::string &name, const MatrixView &weights,
                                         std::span<const int64_t> rows, const Sensitivity &sensitivity) {
  constexpr size_t bins = 4096;
  float low = 0, high = 0;
  for (int64_t n : rows)
    for (int64_t k = 0; k < weights.columns; ++k) {
      low = std::min(low, weights.row(n)[k]);
      high = std::max(high, weights.row(n)[k]);
    }
  // In double: the range of large floats is none.
  const double step = (double(high) - low) / double(bins);
  std::vector<double> weight(bins), sum(bins);
  for (int64_t n : rows) {
    const int64_t group = n * sensitivity.groups() / weights.rows;
    const std::vector<float> &moment = sensitivity.objective(group);
    const float *row = weights.row(n);
    for (int64_t k = 0; k < weights.columns; ++k) {
      const size_t bin = step > 0 ? std::min(bins - 1, size_t((double(row[k]) - low) / step)) : 0;
      // Not nothing, so that every value has an entry near.
      const double cost = double(moment[k * weights.columns + k]) * sensitivity.rowWeights()[n] + 1e-30;
      weight[bin] += cost;
      sum[bin] += cost * row[k];
    }
  }
  std::vector<float> values, costs;
  const double largest = *std::max_element(weight.begin(), weight.end());
  for (size_t bin = 0; bin < bins; ++bin)
    if (weight[bin] > 0) {
      values.push_back(float(sum[bin] / weight[bin]));
      costs.push_back(float(weight[bin] / largest));
    }
  if (values.empty())
    values = costs = {0.0f};
  KMeans1D solver;
  solver.fit(values, costs.data(), 1u << maxBits);
  SharedTables result;
  for (unsigned bits = 1; bits <= maxBits; ++bits) {
    Expected<StoredTable> table = roundTable(solver, {bits, DType::F16, true}, name);
    if (!table)
      return table.takeError();
    result.tables.push_back(std::move(table->values));
  }
  return result;
}
