#include "skim/Quantize/LayerCodes.h"
#include "Blas.h"
#include "LayerRows.h"
#include "RowTile.h"
#include "SharedTables.h"
#include "StoredRows.h"
#include "skim/Quantize/Codebook.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <numeric>

using namespace skim;

namespace {

/// Records one layer.
class Recorder {
public:
  Recorder(const std::string &name, const MatrixView &weights, const Sensitivity &sensitivity,
           const RecordOptions &options)
      : name(name), weights(weights), sensitivity(sensitivity), options(options) {}

  Expected<LayerRecord> run();

private:
  Error recordGroup(int64_t group);
  /// Rows [begin, end) of the weight, under one moment.
  Error recordTile(const Objective &objective, int64_t begin, int64_t end);
  void recordWidth(const Objective &objective, unsigned bits, int64_t begin, std::span<const StoredTable> tables);
  Error recordFurther(const Objective &objective, size_t index, int64_t begin, int64_t end, LayerRows &rows);
  void measurePlainly();
  void setErrors(size_t column, int64_t begin, int64_t used, const double *errors);

  const std::string &name;
  const MatrixView &weights;
  const Sensitivity &sensitivity;
  const RecordOptions &options;
  const std::vector<float> noAlpha;
  SharedTables shared;
  LayerRecord record;
};

} // namespace

void Recorder::setErrors(size_t column, int64_t begin, int64_t used, const double *errors) {
  for (int64_t lane = 0; lane < used; ++lane)
    record.errors[(begin + lane) * record.terms() + column] =
        float(errors[lane] * sensitivity.rowWeights()[begin + lane]);
}

void Recorder::recordWidth(const Objective &objective, unsigned bits, int64_t begin,
                           std::span<const StoredTable> tables) {
  const uint8_t term = uint8_t(CodebookRow + bits);
  RowTile tile = tileOf(term, objective, options.table);
  const int64_t used = int64_t(tables.size());
  for (int64_t lane = 0; lane < used; ++lane) {
    tile.setRow(lane, weights.row(begin + lane), nullptr);
    tile.setTable(lane, tables[lane].values.data(), scaleOf(tables[lane]));
  }
  tile.fill(used);
  double errors[RowTile::lanes];
  if (options.errorsOfClusters) {
    tile.roundToNearest();
    tile.errors(errors);
  }
  if (options.feedback)
    tile.feedback();
  else
    tile.roundToNearest();
  if (options.rounds > 0)
    tile.refine(options.rounds, options.cycles);
  if (!options.errorsOfClusters)
    tile.errors(errors);
  for (int64_t lane = 0; lane < used; ++lane)
    storeLane(tile, lane, record.codes[bits - options.minBits], begin + lane, term, options.table);
  setErrors(bits - options.minBits, begin, used, errors);
}

Error Recorder::recordFurther(const Objective &objective, size_t index, int64_t begin, int64_t end, LayerRows &rows) {
  const uint8_t term = record.further[index];
  static const std::vector<float> none;
  RowTile tile = tileOf(term, objective, options.table);
  for (int64_t n = begin; n < end; ++n)
    if (Error error = rows.begin(tile, n - begin, n, term, options.table,
                                 sharedTableBytes(term) ? shared.table(bitsOf(term)) : none))
      return error;
  tile.fill(end - begin);
  tile.roundToNearest();
  double errors[RowTile::lanes];
  tile.errors(errors);
  setErrors(record.widths() + index, begin, end - begin, errors);
  return Error::success();
}

Error Recorder::recordTile(const Objective &objective, int64_t begin, int64_t end) {
  LayerRows rows(name, weights, sensitivity, options.clusterByGradients, noAlpha);
  std::vector<std::vector<StoredTable>> tables(record.widths());
  for (int64_t n = begin; n < end; ++n) {
    const KMeans1D &solver = rows.fit(n, 1u << options.maxBits, options.minBits == options.maxBits);
    for (unsigned b = options.minBits; b <= options.maxBits; ++b) {
      auto table = roundTable(solver, {b, options.table, false}, name + ", row " + std::to_string(n));
      if (!table)
        return table.takeError();
      tables[b - options.minBits].push_back(std::move(*table));
    }
  }
  for (unsigned b = options.minBits; b <= options.maxBits; ++b)
    recordWidth(objective, b, begin, tables[b - options.minBits]);
  for (size_t i = 0; i < record.further.size(); ++i)
    if (Error error = recordFurther(objective, i, begin, end, rows))
      return error;
  return Error::success();
}

Error Recorder::recordGroup(int64_t group) {
  const Objective objective =
      prepareObjective(sensitivity.objective(group), weights.columns, options.feedback ? options.damping : -1.0f);
  const int64_t first = sensitivity.groupBegin(group), count = sensitivity.groupEnd(group) - first;
  return parallelForWithErrors(count, RowTile::lanes, options.threads, [&](size_t begin, size_t end, unsigned) {
    return recordTile(objective, first + int64_t(begin), first + int64_t(end));
  });
}

/// Errors of the kept codes by another measure than the loss-weighted one.
void Recorder::measurePlainly() {
  std::vector<float> decoded(weights.rows * weights.columns);
  for (unsigned b = options.minBits; b <= options.maxBits; ++b) {
    decodeCodebook(record.codes[b - options.minBits], {b, options.table, false}, decoded.data(), weights.columns,
                   options.threads);
    const std::vector<double> errors = sensitivity.rowErrors(
        weights, MatrixView(decoded.data(), weights.rows, weights.columns), options.measure, options.threads);
    for (int64_t n = 0; n < weights.rows; ++n)
      record.errors[n * record.terms() + b - options.minBits] = float(errors[n]);
  }
}

Expected<LayerRecord> Recorder::run() {
  record.rows = weights.rows;
  record.columns = weights.columns;
  record.minBits = options.minBits;
  record.maxBits = options.maxBits;
  if (options.allTerms)
    record.further = furtherTerms(weights.columns);
  record.errors.resize(weights.rows * record.terms());
  for (unsigned b = options.minBits; b <= options.maxBits; ++b)
    record.codes.push_back(emptyCodebook(b, options.table, weights.rows, weights.columns));
  if (weights.columns == 0)
    return std::move(record);
  if (std::any_of(record.further.begin(), record.further.end(), sharedTableBytes)) {
    std::vector<int64_t> rows(weights.rows);
    std::iota(rows.begin(), rows.end(), 0);
    Expected<SharedTables> fitted = SharedTables::fit(name, weights, rows, sensitivity);
    if (!fitted)
      return fitted.takeError();
    shared = std::move(*fitted);
  }
  for (int64_t group = 0; group < sensitivity.groups(); ++group)
    if (Error error = recordGroup(group))
      return error;
  if (options.measure != ErrorMeasure::LossWeighted)
    measurePlainly();
  return std::move(record);
}

Expected<LayerRecord> skim::recordLayer(const std::string &name, const MatrixView &weights,
                                        const Sensitivity &sensitivity, const RecordOptions &options) {
  useOneBlasThread();
  if (Error error = checkLayer(name, weights, sensitivity))
    return error;
  return Recorder(name, weights, sensitivity, options).run();
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
