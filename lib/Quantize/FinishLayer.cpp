#include "Blas.h"
#include "LayerRows.h"
#include "RowTile.h"
#include "StoredRows.h"
#include "TableRounding.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/LayerCodes.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <set>

using namespace skim;

/// Recorded are codebooks of the record's widths.
static bool isRecorded(uint8_t term) { return kindOf(term) == CodebookRow; }

static Error checkBits(const std::string &name, const LayerRecord &record, std::span<const uint8_t> bits,
                       const FinishOptions &options) {
  if (bits.size() != size_t(record.rows))
    return fail("widths do not fit the layer", name, std::to_string(record.rows) + " rows",
                std::to_string(bits.size()));
  for (size_t n = 0; n < bits.size(); ++n)
    if (isRecorded(bits[n]) && (bits[n] < record.minBits || bits[n] > record.maxBits))
      return fail("width was not recorded", name + ", row " + std::to_string(n),
                  std::to_string(record.minBits) + " to " + std::to_string(record.maxBits) + " bits",
                  std::to_string(bits[n]));
  if (!options.alpha.empty() && !std::all_of(bits.begin(), bits.end(), isRecorded))
    return fail("scaled rows in another term than codebooks", name, "codebooks with a table a row", "other rows");
  if (!options.alpha.empty() && options.alpha.size() != size_t(record.columns))
    return fail("scaling vector does not fit the layer", name, std::to_string(record.columns) + " columns",
                std::to_string(options.alpha.size()));
  return Error::success();
}

namespace {

class Finisher {
public:
  Finisher(const std::string &name, const LayerRecord &record, const MatrixView &weights,
           const Sensitivity &sensitivity, const FinishOptions &options)
      : name(name), record(record), weights(weights), sensitivity(sensitivity), options(options),
        columns(weights.columns), decoded(record.rows * columns) {}

  Expected<FinishedLayer> run(std::span<const uint8_t> bits);

private:
  /// The rows of a part in tiles.
  struct Part {
    uint8_t term;
    std::vector<int64_t> rows;
    std::vector<TileRows> tiles;
    QuantizedMatrix matrix;
  };

  Error finish(Part &part);
  Error finishTile(Part &part, const TileRows &rows, LayerRows &source);
  void loadRecorded(RowTile &tile, int64_t lane, int64_t n, unsigned bits) const;
  Error finishShared(Part &part);
  void improveShared(Part &part, std::vector<float> &table);
  void storeTable(Part &part, const std::vector<float> &table) const;
  /// Codes, errors and values of a tile.
  void take(RowTile &tile, Part &part, const TileRows &rows);
  LayerRows source() const { return {name, weights, sensitivity, options.clusterByGradients, options.alpha}; }

  const std::string &name;
  const LayerRecord &record;
  const MatrixView &weights;
  const Sensitivity &sensitivity;
  const FinishOptions &options;
  int64_t columns;
  std::vector<std::shared_ptr<const Objective>> objectives;
  std::vector<float> decoded; // [N,K]
  FinishedLayer result;
};

} // namespace

/// A recorded row's table, in the type that is asked for, and its codes.
void Finisher::loadRecorded(RowTile &tile, int64_t lane, int64_t n, unsigned bits) const {
  const QuantizedMatrix &recorded = record.codes[bits - record.minBits];
  const DType type = recorded.components[1].spec.type;
  std::vector<float> values(size_t(1) << bits);
  std::vector<uint8_t> codes(columns);
  float scale = loadTable(recorded, n, type, values);
  if (type != options.table) {
    float largest = 0;
    for (float value : values)
      largest = std::max(largest, std::abs(value));
    scale = options.table == DType::I8 ? tableScaleFor(largest) : 0.0f;
    roundEntries(options.table, scale, values);
  }
  tile.setRow(lane, weights.row(n), nullptr);
  tile.setTable(lane, values.data(), scale);
  unpackBits(recorded.components[0].bytes.data() + n * recorded.components[0].spec.rowBytes, codes.size(), bits,
             codes.data());
  tile.setCodes(lane, codes.data());
}

void Finisher::take(RowTile &tile, Part &part, const TileRows &rows) {
  double errors[RowTile::lanes];
  tile.errors(errors);
  for (int64_t lane = 0; lane < int64_t(rows.end - rows.begin); ++lane) {
    const int64_t n = part.rows[rows.begin + lane];
    storeLane(tile, lane, part.matrix, int64_t(rows.begin) + lane, part.term, options.table);
    result.errors[n] = errors[lane] * sensitivity.rowWeights()[n];
    float *values = decoded.data() + n * columns;
    tile.decode(lane, values);
    for (int64_t k = 0; !options.alpha.empty() && k < columns; ++k)
      values[k] *= options.alpha[k];
  }
}

Error Finisher::finishTile(Part &part, const TileRows &rows, LayerRows &source) {
  RowTile tile = tileOf(part.term, *objectives[rows.group], options.table);
  // With α the record's tables do not fit the values.
  const bool anew = !isRecorded(part.term) || !options.alpha.empty();
  for (int64_t lane = 0; lane < int64_t(rows.end - rows.begin); ++lane) {
    const int64_t n = part.rows[rows.begin + lane];
    if (!anew)
      loadRecorded(tile, lane, n, bitsOf(part.term));
    else if (Error error = source.begin(tile, lane, n, part.term, options.table, {}))
      return error;
  }
  tile.fill(int64_t(rows.end - rows.begin));
  if (anew && options.feedback)
    tile.feedback();
  else if (anew)
    tile.roundToNearest();
  if (options.rounds > 0)
    tile.refine(options.rounds, options.cycles);
  take(tile, part, rows);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Rows that share a table
//===----------------------------------------------------------------------===//

/// The table as it is stored.
void Finisher::storeTable(Part &part, const std::vector<float> &table) const {
  for (size_t q = 0; q < table.size(); ++q) {
    const uint16_t half = f32ToF16(table[q]);
    std::memcpy(part.matrix.components[1].bytes.data() + 2 * q, &half, 2);
  }
}

/// New codes for all rows, then the table that is best for them.
void Finisher::improveShared(Part &part, std::vector<float> &table) {
  const size_t size = table.size();
  std::vector<std::vector<double>> normals(part.tiles.size()), gradients(part.tiles.size());
  parallelFor(part.tiles.size(), 1, options.threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t index = begin; index < end; ++index) {
      const TileRows &rows = part.tiles[index];
      const Objective &objective = *objectives[rows.group];
      RowTile tile = tileOf(part.term, objective, options.table);
      std::vector<double> weightOf(RowTile::lanes);
      for (int64_t lane = 0; lane < int64_t(rows.end - rows.begin); ++lane) {
        const int64_t n = part.rows[rows.begin + lane];
        tile.setRow(lane, weights.row(n), nullptr);
        tile.setTable(lane, table.data(), 0);
        weightOf[lane] = objective.scale * sensitivity.rowWeights()[n];
      }
      tile.fill(int64_t(rows.end - rows.begin));
      tile.roundToNearest();
      tile.renew(options.cycles);
      normals[index].resize(size * size);
      gradients[index].resize(size);
      tile.addEquations(weightOf, normals[index], gradients[index]);
      for (int64_t lane = 0; lane < int64_t(rows.end - rows.begin); ++lane)
        storeLane(tile, lane, part.matrix, int64_t(rows.begin) + lane, part.term, options.table);
    }
  });
  // In the order of tiles, whatever the threads.
  std::vector<double> normal(size * size), gradient(size);
  for (size_t index = 0; index < part.tiles.size(); ++index) {
    std::transform(normal.begin(), normal.end(), normals[index].begin(), normal.begin(), std::plus<>());
    std::transform(gradient.begin(), gradient.end(), gradients[index].begin(), gradient.begin(), std::plus<>());
  }
  std::vector<float> better = table;
  float scale = 0;
  // Entries that change places would take the codes of all rows with them: such a step is not taken.
  if (improveTable(normal, gradient, DType::F16, better, scale) && std::is_sorted(better.begin(), better.end()))
    table = std::move(better);
}

Error Finisher::finishShared(Part &part) {
  Expected<SharedTables> fitted = SharedTables::fit(name, weights, part.rows, sensitivity);
  if (!fitted)
    return fitted.takeError();
  std::vector<float> table = fitted->table(bitsOf(part.term));
  for (int round = 0; round < options.rounds; ++round)
    improveShared(part, table);
  storeTable(part, table);
  parallelFor(part.tiles.size(), 1, options.threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t index = begin; index < end; ++index) {
      const TileRows &rows = part.tiles[index];
      const int64_t used = int64_t(rows.end - rows.begin);
      RowTile tile = tileOf(part.term, *objectives[rows.group], options.table);
      for (int64_t lane = 0; lane < used; ++lane) {
        tile.setRow(lane, weights.row(part.rows[rows.begin + lane]), nullptr);
        loadLane(tile, lane, part.matrix, int64_t(rows.begin) + lane, part.term, options.table);
      }
      tile.fill(used);
      if (options.rounds == 0 && options.feedback)
        tile.feedback();
      else if (options.rounds == 0)
        tile.roundToNearest();
      take(tile, part, rows);
    }
  });
  return Error::success();
}

//===----------------------------------------------------------------------===//
// All parts
//===----------------------------------------------------------------------===//

Error Finisher::finish(Part &part) {
  if (sharedTableBytes(part.term))
    return finishShared(part);
  return parallelForWithErrors(part.tiles.size(), 1, options.threads, [&](size_t begin, size_t end, unsigned) -> Error {
    LayerRows rows = source();
    for (size_t index = begin; index < end; ++index)
      if (Error error = finishTile(part, part.tiles[index], rows))
        return error;
    return Error::success();
  });
}

Expected<FinishedLayer> Finisher::run(std::span<const uint8_t> bits) {
  result.errors.resize(record.rows);
  // Rows that are not recorded begin with feedback.
  const bool again = options.feedback && (options.rounds > 0 || !options.alpha.empty() ||
                                          !std::all_of(bits.begin(), bits.end(), isRecorded));
  for (int64_t group = 0; group < sensitivity.groups(); ++group)
    objectives.push_back(std::make_shared<Objective>(
        prepareObjective(sensitivity.objective(group), columns, again ? options.damping : -1.0f, options.alpha)));
  if (objectives.size() == 1 && options.alpha.empty())
    result.objective = objectives.front();
  for (uint8_t term : std::set<uint8_t>(bits.begin(), bits.end())) {
    Part part{term, {}, {}, {}};
    for (int64_t n = 0; n < record.rows; ++n)
      if (bits[n] == term)
        part.rows.push_back(n);
    part.tiles =
        cutIntoTiles(part.rows.size(), [&](size_t i) { return part.rows[i] * sensitivity.groups() / record.rows; });
    part.matrix = emptyRows(term, options.table, int64_t(part.rows.size()), columns);
    if (Error error = finish(part))
      return error;
    for (int64_t n : part.rows)
      addSquares(part.matrix, weights.row(n), decoded.data() + n * columns);
    result.permutation.insert(result.permutation.end(), part.rows.begin(), part.rows.end());
    result.parts.push_back({term, std::move(part.matrix)});
  }
  result.lFull = sensitivity.rowErrors(weights, MatrixView(decoded.data(), record.rows, columns), ErrorMeasure::LFull,
                                       options.threads);
  return std::move(result);
}

Expected<FinishedLayer> skim::finishLayer(const std::string &name, const LayerRecord &record,
                                          std::span<const uint8_t> bits, const MatrixView &weights,
                                          const Sensitivity &sensitivity, const FinishOptions &options) {
  useOneBlasThread();
  if (Error error = checkLayer(name, weights, sensitivity))
    return error;
  if (Error error = checkBits(name, record, bits, options))
    return error;
  return Finisher(name, record, weights, sensitivity, options).run(bits);
}
