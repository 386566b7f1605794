//===- LayerRows.h - what the rows of a layer begin with --------*- C++ -*-===//
//
// Recording and finishing begin alike: the exact optimum of k-means, or the
// grids of a clipping search, for each row of a tile.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_QUANTIZE_LAYERROWS_H
#define SKIM_LIB_QUANTIZE_LAYERROWS_H

#include "RowTile.h"
#include "SharedTables.h"
#include "skim/Quantize/KMeans.h"
#include "skim/Quantize/LayerCodes.h"

#include <string>
#include <vector>

namespace skim {

/// Rows of a layer with α divided out, and what k-means weighs them by. One a thread.
class LayerRows {
public:
  /// `alpha`: [K] or empty; kept by the caller.
  LayerRows(const std::string &name, const MatrixView &weights, const Sensitivity &sensitivity, bool byGradients,
            const std::vector<float> &alpha);

  const float *row(int64_t n) const { return weights.row(n); }

  /// Solves k-means of row n of w/α, each value weighted with α² times its importance.
  KMeans1D &fit(int64_t n, unsigned centroids, bool onlyMax);

  /// Puts row n into a lane with the table or the grids that it begins with in a
  /// term; `table`: the type of CodebookRow's, `shared`: what SharedRow has. Fails
  /// where they exceed their type.
  Error begin(RowTile &tile, int64_t lane, int64_t n, uint8_t term, DType table, const std::vector<float> &shared);

private:
  Error chooseGrids(RowTile &tile, int64_t lane, int64_t n, uint8_t term) const;
  std::string place(int64_t n) const { return name + ", row " + std::to_string(n); }
  /// The objective's diagonal for row n.
  const float *diagonal(int64_t n) const;

  const std::string &name;
  const MatrixView &weights;
  MatrixView element;
  const std::vector<float> &alpha;
  bool byGradients;
  int64_t groups;
  std::vector<float> diagonals; // [groups][K]
  std::vector<float> values, scaled;
  KMeans1D solver;
};

/// Fails where weights are not those of the sensitivities, or not finite.
Error checkLayer(const std::string &name, const MatrixView &weights, const Sensitivity &sensitivity);

} // namespace skim

#endif // SKIM_LIB_QUANTIZE_LAYERROWS_H
