#include "LayerRows.h"
#include "StoredRows.h"
#include "UniformGrid.h"

#include <algorithm>

using namespace skim;

LayerRows::LayerRows(const std::string &name, const MatrixView &weights, const Sensitivity &sensitivity,
                     bool byGradients, const std::vector<float> &alpha)
    : name(name), weights(weights), element(sensitivity.elementWeights()), alpha(alpha), byGradients(byGradients),
      groups(sensitivity.groups()) {
  for (int64_t group = 0; group < groups; ++group)
    for (int64_t k = 0; k < weights.columns; ++k)
      diagonals.push_back(sensitivity.objective(group)[k * weights.columns + k]);
}

const float *LayerRows::diagonal(int64_t n) const {
  return diagonals.data() + n * groups / weights.rows * weights.columns;
}

KMeans1D &LayerRows::fit(int64_t n, unsigned centroids, bool onlyMax) {
  const int64_t columns = weights.columns;
  const float *importance = byGradients ? element.row(n) : diagonal(n);
  if (alpha.empty()) {
    solver.fit(std::span(weights.row(n), columns), importance, centroids, onlyMax);
    return solver;
  }
  values.resize(columns);
  scaled.resize(columns);
  for (int64_t k = 0; k < columns; ++k) {
    values[k] = weights.row(n)[k] / alpha[k];
    scaled[k] = importance[k] * alpha[k] * alpha[k];
  }
  solver.fit(values, scaled.data(), centroids, onlyMax);
  return solver;
}

Error LayerRows::chooseGrids(RowTile &tile, int64_t lane, int64_t n, uint8_t term) const {
  const UniformFormat format = uniformFormatOf(term);
  const GridChooser chooser(format, /*searchClipping=*/true);
  const int64_t size = format.groupSize(weights.columns);
  for (int64_t group = 0; group < tile.numGroups(); ++group) {
    const int64_t first = group * size, count = std::min(size, weights.columns - first);
    double error = 0;
    const UniformGrid grid = chooser.choose(weights.row(n) + first, diagonal(n) + first, count, error);
    if (!grid.finite())
      return fail("weight exceeds the range of its scales", place(n), "scales and zeros within f16", "larger values",
                  "keep this layer in 16 bits");
    tile.setGrid(lane, group, grid.scale, grid.zero);
  }
  return Error::success();
}

Error LayerRows::begin(RowTile &tile, int64_t lane, int64_t n, uint8_t term, DType table,
                       const std::vector<float> &shared) {
  tile.setRow(lane, weights.row(n), alpha.empty() ? nullptr : alpha.data());
  if (isUniform(term))
    return chooseGrids(tile, lane, n, term);
  if (sharedTableBytes(term)) {
    tile.setTable(lane, shared.data(), 0);
    return Error::success();
  }
  auto own = roundTable(fit(n, 1u << bitsOf(term), true), codebookFormatOf(term, table), place(n));
  if (!own)
    return own.takeError();
  tile.setTable(lane, own->values.data(), scaleOf(*own));
  return Error::success();
}

Error skim::checkLayer(const std::string &name, const MatrixView &weights, const Sensitivity &sensitivity) {
  if (weights.rows != sensitivity.rows() || weights.columns != sensitivity.columns())
    return fail("sensitivities do not fit the weight", name,
                std::to_string(weights.rows) + " x " + std::to_string(weights.columns),
                std::to_string(sensitivity.rows()) + " x " + std::to_string(sensitivity.columns()));
  return checkWeights(name, weights);
}
