#include "skim/Quantize/LayerCodes.h"
#include "Blas.h"
#include "RowTile.h"
#include "StoredRows.h"
#include "TableRounding.h"
#include "UniformGrid.h"
#include "skim/Quantize/Allocation.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/KMeans.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>

using namespace skim;

//===----------------------------------------------------------------------===//
// Tables to begin with
//===----------------------------------------------------------------------===//

namespace {

/// Rows of a layer with α divided out, and what k-means weighs them by.
class Rows {
public:
  Rows(const MatrixView &weights, const Sensitivity &sensitivity, bool byGradients, const std::vector<float> &alpha)
      : weights(weights), element(sensitivity.elementWeights()), alpha(alpha) {
    for (int64_t group = 0; group < sensitivity.groups() && !byGradients; ++group)
      for (int64_t k = 0; k < weights.columns; ++k)
        diagonals.push_back(sensitivity.objective(group)[k * weights.columns + k]);
  }

  const float *row(int64_t n) const { return weights.row(n); }

  /// Fits a solver to row n of w/α, each value weighted with α² times its importance.
  void fit(KMeans1D &solver, int64_t n, unsigned centroids, bool onlyMax) {
    const int64_t columns = weights.columns;
    const int64_t groups = int64_t(diagonals.size()) / std::max<int64_t>(1, columns);
    const float *importance =
        diagonals.empty() ? element.row(n) : diagonals.data() + n * groups / weights.rows * columns;
    if (alpha.empty()) {
      solver.fit(std::span(weights.row(n), columns), importance, centroids, onlyMax);
      return;
    }
    values.resize(columns);
    scaled.resize(columns);
    for (int64_t k = 0; k < columns; ++k) {
      values[k] = weights.row(n)[k] / alpha[k];
      scaled[k] = importance[k] * alpha[k] * alpha[k];
    }
    solver.fit(values, scaled.data(), centroids, onlyMax);
  }

private:
  const MatrixView &weights;
  MatrixView element;
  const std::vector<float> &alpha;
  std::vector<float> diagonals; // [groups][K]; empty: by G
  std::vector<float> values, scaled;
};

void improve(RowTile &tile, const CodeOptions &options) {
  if (options.feedback)
    tile.feedback();
  else
    tile.roundToNearest();
  if (options.rounds > 0)
    tile.refine(options.rounds, options.cycles);
}

} // namespace

//===----------------------------------------------------------------------===//
// Uniform terms
//===----------------------------------------------------------------------===//

UniformFormat skim::uniformFormatOf(uint8_t term) {
  UniformFormat format;
  format.bits = bitsOf(term);
  format.asymmetric = format.floatZero = term >= AffineRow;
  return format;
}

uint64_t skim::storedRowBytes(uint8_t term, DType table, int64_t columns) {
  return isUniform(term) ? storedRowBytes(uniformFormatOf(term), columns)
                         : storedRowBytes(CodebookFormat{term, table, false}, columns);
}

std::vector<uint8_t> skim::uniformTerms(int64_t columns) {
  std::vector<uint8_t> terms;
  const bool isShort = columns <= 256;
  for (unsigned bits : isShort ? std::vector<unsigned>{2, 3, 4, 5, 6, 8} : std::vector<unsigned>{8})
    terms.push_back(UniformRow + bits);
  for (unsigned bits : isShort ? std::vector<unsigned>{2, 3, 4, 5, 6} : std::vector<unsigned>{6})
    terms.push_back(AffineRow + bits);
  return terms;
}

/// The objective's diagonal of each group, [groups, K].
static std::vector<float> diagonalsOf(const Sensitivity &sensitivity) {
  const int64_t columns = sensitivity.columns();
  std::vector<float> diagonals;
  for (int64_t group = 0; group < sensitivity.groups(); ++group)
    for (int64_t k = 0; k < columns; ++k)
      diagonals.push_back(sensitivity.objective(group)[k * columns + k]);
  return diagonals;
}

/// Gives a lane the grid that rounds its row best, each value weighted with `importance`.
static Error chooseGrid(RowTile &tile, int64_t lane, uint8_t term, const float *row, const float *importance,
                        int64_t columns, const std::string &where) {
  const UniformFormat format = uniformFormatOf(term);
  double error = 0;
  const UniformGrid grid = GridChooser(format, /*searchClipping=*/true).choose(row, importance, columns, error);
  if (!grid.finite())
    return fail("weight exceeds the range of its scales", where, "scales and zeros within f16", "larger values",
                "keep this layer in 16 bits");
  tile.setGrid(lane, grid.scale, grid.zero);
  return Error::success();
}

static Error checkShapes(const std::string &name, const MatrixView &weights, const Sensitivity &sensitivity) {
  if (weights.rows != sensitivity.rows() || weights.columns != sensitivity.columns())
    return fail("sensitivities do not fit the weight", name,
                std::to_string(weights.rows) + " x " + std::to_string(weights.columns),
                std::to_string(sensitivity.rows()) + " x " + std::to_string(sensitivity.columns()));
  return checkWeights(name, weights);
}

//===----------------------------------------------------------------------===//
// Recording
//===----------------------------------------------------------------------===//

Expected<LayerRecord> skim::recordLayer(const std::string &name, const MatrixView &weights,
                                        const Sensitivity &sensitivity, const RecordOptions &options) {
  useOneBlasThread();
  if (Error error = checkShapes(name, weights, sensitivity))
    return error;
  LayerRecord record;
  record.rows = weights.rows;
  record.columns = weights.columns;
  record.minBits = options.minBits;
  record.maxBits = options.maxBits;
  if (options.uniform)
    record.uniform = uniformTerms(weights.columns);
  const size_t terms = record.terms();
  record.errors.resize(weights.rows * terms);
  for (unsigned b = options.minBits; b <= options.maxBits; ++b)
    record.codes.push_back(emptyCodebook(b, options.table, weights.rows, weights.columns));
  if (weights.columns == 0)
    return record;

  const bool plain = options.measure != ErrorMeasure::LossWeighted;
  const std::vector<float> diagonals = diagonalsOf(sensitivity);
  for (int64_t group = 0; group < sensitivity.groups(); ++group) {
    const Objective objective =
        prepareObjective(sensitivity.objective(group), weights.columns, options.feedback ? options.damping : -1.0f);
    const int64_t first = sensitivity.groupBegin(group), count = sensitivity.groupEnd(group) - first;
    auto recordTile = [&](size_t begin, size_t end, unsigned) -> Error {
      KMeans1D solver;
      const std::vector<float> noAlpha;
      Rows rows(weights, sensitivity, options.clusterByGradients, noAlpha);
      const int64_t used = int64_t(end - begin);
      std::vector<std::vector<StoredTable>> tables(record.widths());
      for (int64_t lane = 0; lane < used; ++lane) {
        const int64_t n = first + int64_t(begin) + lane;
        rows.fit(solver, n, 1u << options.maxBits, options.minBits == options.maxBits);
        for (unsigned b = options.minBits; b <= options.maxBits; ++b) {
          auto table = roundTable(solver, {b, options.table, false}, name + ", row " + std::to_string(n));
          if (!table)
            return table.takeError();
          tables[b - options.minBits].push_back(std::move(*table));
        }
      }
      double errors[RowTile::lanes];
      std::vector<uint8_t> codes(weights.columns);
      for (unsigned b = options.minBits; b <= options.maxBits; ++b) {
        RowTile tile(objective, b, options.table);
        for (int64_t lane = 0; lane < used; ++lane) {
          const StoredTable &table = tables[b - options.minBits][lane];
          tile.setRow(lane, rows.row(first + int64_t(begin) + lane), nullptr);
          tile.setTable(lane, table.values.data(), scaleOf(table));
        }
        tile.fill(used);
        if (options.errorsOfClusters) {
          tile.roundToNearest();
          tile.errors(errors);
        }
        improve(tile, options);
        if (!options.errorsOfClusters)
          tile.errors(errors);
        std::vector<float> values(size_t(1) << b);
        for (int64_t lane = 0; lane < used; ++lane) {
          const int64_t n = first + int64_t(begin) + lane;
          tile.codes(lane, codes.data());
          tile.table(lane, values.data());
          storeRow(record.codes[b - options.minBits], n, b, options.table, codes, values, tile.tableScale(lane));
          record.errors[n * terms + b - options.minBits] = float(errors[lane] * sensitivity.rowWeights()[n]);
        }
      }
      const float *diagonal = diagonals.data() + group * weights.columns;
      for (size_t u = 0; u < record.uniform.size(); ++u) {
        RowTile tile(objective, bitsOf(record.uniform[u]), options.table, gridOf(record.uniform[u]));
        for (int64_t lane = 0; lane < used; ++lane) {
          const int64_t n = first + int64_t(begin) + lane;
          tile.setRow(lane, rows.row(n), nullptr);
          if (Error error = chooseGrid(tile, lane, record.uniform[u], rows.row(n), diagonal, weights.columns,
                                       name + ", row " + std::to_string(n)))
            return error;
        }
        tile.fill(used);
        tile.roundToNearest();
        tile.errors(errors);
        for (int64_t lane = 0; lane < used; ++lane) {
          const int64_t n = first + int64_t(begin) + lane;
          record.errors[n * terms + record.widths() + u] = float(errors[lane] * sensitivity.rowWeights()[n]);
        }
      }
      return Error::success();
    };
    if (Error error = parallelForWithErrors(count, RowTile::lanes, options.threads, recordTile))
      return error;
  }
  if (plain) {
    std::vector<float> decoded(weights.rows * weights.columns);
    for (unsigned b = options.minBits; b <= options.maxBits; ++b) {
      decodeCodebook(record.codes[b - options.minBits], {b, options.table, false}, decoded.data(), weights.columns,
                     options.threads);
      const std::vector<double> errors = sensitivity.rowErrors(
          weights, MatrixView(decoded.data(), weights.rows, weights.columns), options.measure, options.threads);
      for (int64_t n = 0; n < weights.rows; ++n)
        record.errors[n * terms + b - options.minBits] = float(errors[n]);
    }
  }
  return record;
}

//===----------------------------------------------------------------------===//
// Finishing
//===----------------------------------------------------------------------===//

static Error checkBits(const std::string &name, const LayerRecord &record, std::span<const uint8_t> bits,
                       const FinishOptions &options) {
  if (bits.size() != size_t(record.rows))
    return fail("widths do not fit the layer", name, std::to_string(record.rows) + " rows",
                std::to_string(bits.size()));
  for (size_t n = 0; n < bits.size(); ++n)
    if (!isUniform(bits[n]) && (bits[n] < record.minBits || bits[n] > record.maxBits))
      return fail("width was not recorded", name + ", row " + std::to_string(n),
                  std::to_string(record.minBits) + " to " + std::to_string(record.maxBits) + " bits",
                  std::to_string(bits[n]));
  if (!options.alpha.empty() && std::any_of(bits.begin(), bits.end(), isUniform))
    return fail("scaled rows on a uniform grid", name, "codebooks", "uniform rows");
  if (!options.alpha.empty() && options.alpha.size() != size_t(record.columns))
    return fail("scaling vector does not fit the layer", name, std::to_string(record.columns) + " columns",
                std::to_string(options.alpha.size()));
  return Error::success();
}

Expected<FinishedLayer> skim::finishLayer(const std::string &name, const LayerRecord &record,
                                          std::span<const uint8_t> bits, const MatrixView &weights,
                                          const Sensitivity &sensitivity, const FinishOptions &options) {
  useOneBlasThread();
  if (Error error = checkShapes(name, weights, sensitivity))
    return error;
  if (Error error = checkBits(name, record, bits, options))
    return error;
  const int64_t columns = weights.columns;
  FinishedLayer result;
  result.errors.resize(record.rows);
  std::vector<float> decoded(record.rows * columns);
  std::vector<std::shared_ptr<const Objective>> objectives;
  // Uniform rows are not recorded: they begin with feedback.
  const bool again = options.feedback &&
                     (options.rounds > 0 || !options.alpha.empty() || std::any_of(bits.begin(), bits.end(), isUniform));
  for (int64_t group = 0; group < sensitivity.groups(); ++group)
    objectives.push_back(std::make_shared<Objective>(
        prepareObjective(sensitivity.objective(group), columns, again ? options.damping : -1.0f, options.alpha)));
  if (objectives.size() == 1 && options.alpha.empty())
    result.objective = objectives.front();
  const float *alpha = options.alpha.empty() ? nullptr : options.alpha.data();

  const std::vector<float> diagonals = diagonalsOf(sensitivity);
  for (uint8_t term : std::set<uint8_t>(bits.begin(), bits.end())) {
    const unsigned b = bitsOf(term);
    const bool uniform = isUniform(term);
    std::vector<int64_t> rows;
    for (int64_t n = 0; n < record.rows; ++n)
      if (bits[n] == term)
        rows.push_back(n);
    result.permutation.insert(result.permutation.end(), rows.begin(), rows.end());
    LayerPart part{term, emptyRows(term, options.table, int64_t(rows.size()), columns)};
    const QuantizedMatrix *recorded = uniform ? nullptr : &record.codes[b - record.minBits];
    const DType recordedType = uniform ? options.table : recorded->components[1].spec.type;
    auto groupOf = [&](size_t i) { return rows[i] * sensitivity.groups() / record.rows; };
    const std::vector<TileRows> tiles = cutIntoTiles(rows.size(), groupOf);
    auto finishTile = [&](size_t index, size_t, unsigned) -> Error {
      const auto [begin, end, group] = tiles[index];
      const int64_t used = int64_t(end - begin);
      RowTile tile(*objectives[group], b, options.table, gridOf(term));
      Rows source(weights, sensitivity, options.clusterByGradients, options.alpha);
      KMeans1D solver;
      std::vector<float> values(size_t(1) << b);
      std::vector<uint8_t> codes(columns);
      for (int64_t lane = 0; lane < used; ++lane) {
        const int64_t n = rows[begin + lane];
        tile.setRow(lane, source.row(n), alpha);
        if (uniform) {
          const float *diagonal = diagonals.data() + group * columns;
          if (Error error =
                  chooseGrid(tile, lane, term, source.row(n), diagonal, columns, name + ", row " + std::to_string(n)))
            return error;
          continue;
        }
        if (alpha) {
          // Other values: the record's table does not fit them.
          source.fit(solver, n, 1u << b, true);
          auto table = roundTable(solver, {b, options.table, false}, name + ", row " + std::to_string(n));
          if (!table)
            return table.takeError();
          tile.setTable(lane, table->values.data(), scaleOf(*table));
          continue;
        }
        float scale = loadTable(*recorded, n, recordedType, values);
        if (recordedType != options.table) {
          float largest = 0;
          for (float value : values)
            largest = std::max(largest, std::abs(value));
          scale = options.table == DType::I8 ? tableScaleFor(largest) : 0.0f;
          roundEntries(options.table, scale, values);
        }
        tile.setTable(lane, values.data(), scale);
        unpackBits(recorded->components[0].bytes.data() + n * recorded->components[0].spec.rowBytes, codes.size(), b,
                   codes.data());
        tile.setCodes(lane, codes.data());
      }
      tile.fill(used);
      if (alpha || uniform)
        improve(tile, options);
      else if (options.rounds > 0)
        tile.refine(options.rounds, options.cycles);
      double errors[RowTile::lanes];
      tile.errors(errors);
      for (int64_t lane = 0; lane < used; ++lane) {
        const int64_t n = rows[begin + lane];
        tile.codes(lane, codes.data());
        tile.table(lane, values.data());
        storeLane(tile, lane, part.matrix, int64_t(begin) + lane, term, options.table);
        result.errors[n] = errors[lane] * sensitivity.rowWeights()[n];
        for (int64_t k = 0; k < columns; ++k)
          decoded[n * columns + k] = values[codes[k]] * (alpha ? alpha[k] : 1.0f);
      }
      return Error::success();
    };
    if (Error error = parallelForWithErrors(tiles.size(), 1, options.threads, finishTile))
      return error;
    for (int64_t n : rows)
      addSquares(part.matrix, weights.row(n), decoded.data() + n * columns);
    result.parts.push_back(std::move(part));
  }
  result.lFull = sensitivity.rowErrors(weights, MatrixView(decoded.data(), record.rows, columns), ErrorMeasure::LFull,
                                       options.threads);
  return result;
}

Expected<QuantizedMatrix> skim::quantizeLayer(const std::string &name, const MatrixView &weights,
                                              const Sensitivity &sensitivity, unsigned bits,
                                              const CodeOptions &options) {
  RecordOptions record;
  static_cast<CodeOptions &>(record) = options;
  record.minBits = record.maxBits = bits;
  auto recorded = recordLayer(name, weights, sensitivity, record);
  if (!recorded)
    return recorded.takeError();
  QuantizedMatrix result = std::move(recorded->codes.front());
  std::vector<float> decoded(weights.rows * weights.columns);
  decodeCodebook(result, {bits, options.table, false}, decoded.data(), weights.columns, options.threads);
  for (int64_t n = 0; n < weights.rows; ++n)
    addSquares(result, weights.row(n), decoded.data() + n * weights.columns);
  return result;
}
