#include "skim/Quantize/TunableWeight.h"

#include "Blas.h"
#include "RowTile.h"
#include "StoredRows.h"
#include "TableRounding.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Support/StoredFloat.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

using namespace skim;

static QuantizedMatrix::Component *findComponent(QuantizedMatrix &matrix, std::string_view name) {
  return const_cast<QuantizedMatrix::Component *>(std::as_const(matrix).find(name));
}

/// Scales of int8 tables that are tried, half a per cent apart.
static constexpr int gridCandidates = 12;

TunablePart TunablePart::codebook(const QuantizedMatrix &matrix, const CodebookFormat &format,
                                  std::vector<uint32_t> rows) {
  TunablePart part;
  part.columns = matrix.columns;
  part.perRow = int64_t(1) << format.bits;
  part.rows = std::move(rows);
  part.type = format.table;
  part.codes.resize(matrix.rows * matrix.columns);
  part.shared = format.tensorScope;
  part.parameters.resize(part.numSets() * part.perRow);
  const QuantizedMatrix::Component &codes = *matrix.find("codes"), &table = *matrix.find("table");
  const QuantizedMatrix::Component *scale = matrix.find("table_scale");
  for (int64_t n = 0; n < matrix.rows; ++n)
    unpackBits(codes.bytes.data() + codes.spec.rowBytes * n, matrix.columns, format.bits,
               part.codes.data() + n * matrix.columns);
  for (int64_t n = 0; n < part.numSets(); ++n)
    for (int64_t i = n * part.perRow; i < (n + 1) * part.perRow; ++i)
      part.parameters[i] =
          scale ? static_cast<int8_t>(table.bytes[i]) * loadFloat(DType::F16, scale->bytes.data() + 2 * n)
                : loadFloat(format.table, table.bytes.data() + 2 * i);
  return part;
}

TunablePart TunablePart::uniform(const QuantizedMatrix &matrix, const UniformFormat &format,
                                 std::vector<uint32_t> rows) {
  TunablePart part;
  part.isCodebook = false;
  part.columns = matrix.columns;
  part.group = format.groupSize(matrix.columns);
  part.perRow = format.numGroups(matrix.columns);
  part.rows = std::move(rows);
  part.type = format.scale;
  part.codes.resize(matrix.rows * matrix.columns);
  const QuantizedMatrix::Component &codes = *matrix.find("codes"), &scales = *matrix.find("scales");
  const QuantizedMatrix::Component *zeros = matrix.find("zeros");
  std::vector<uint8_t> packed(part.perRow);
  for (int64_t n = 0; n < matrix.rows; ++n) {
    unpackBits(codes.bytes.data() + codes.spec.rowBytes * n, matrix.columns, format.bits,
               part.codes.data() + n * matrix.columns);
    if (zeros && !format.floatZero)
      unpackBits(zeros->bytes.data() + zeros->spec.rowBytes * n, part.perRow, format.bits, packed.data());
    for (int64_t g = 0; g < part.perRow; ++g) {
      part.parameters.push_back(
          loadFloat(format.scale, scales.bytes.data() + (n * part.perRow + g) * int64_t(dtypeSize(format.scale))));
      part.offsets.push_back(!format.asymmetric ? float(1u << (format.bits - 1))
                             : format.floatZero ? loadFloat(DType::F16, zeros->bytes.data() + 2 * (n * part.perRow + g))
                                                : float(packed[g]));
    }
  }
  return part;
}

void TunablePart::decode(int64_t begin, int64_t end, const float *alpha, float *weight) const {
  for (int64_t n = begin; n < end; ++n) {
    const uint8_t *code = codes.data() + n * columns;
    const float *value = parameters.data() + setOf(n) * perRow;
    float *out = weight + int64_t(rows[n]) * columns;
    if (isCodebook)
      for (int64_t k = 0; k < columns; ++k)
        out[k] = value[code[k]];
    else
      for (int64_t k = 0; k < columns; ++k)
        out[k] = value[k / group] * (float(code[k]) - offsets[n * perRow + k / group]);
    if (alpha)
      for (int64_t k = 0; k < columns; ++k)
        out[k] *= alpha[k];
  }
}

void TunablePart::accumulateShared(const float *alpha, const float *weightGradient, float *out) const {
  // Row by row, so that small numbers meet small ones.
  std::vector<double> sums(perRow);
  std::vector<float> ofRow(perRow);
  for (int64_t n = 0; n < numRows(); ++n) {
    const uint8_t *code = codes.data() + n * columns;
    const float *gradient = weightGradient + int64_t(rows[n]) * columns;
    std::fill(ofRow.begin(), ofRow.end(), 0.0f);
    for (int64_t k = 0; k < columns; ++k)
      ofRow[code[k]] += alpha ? gradient[k] * alpha[k] : gradient[k];
    for (int64_t q = 0; q < perRow; ++q)
      sums[q] += ofRow[q];
  }
  for (int64_t q = 0; q < perRow; ++q)
    out[q] += float(sums[q]);
}

void TunablePart::accumulate(int64_t begin, int64_t end, const float *alpha, const float *weightGradient,
                             float *out) const {
  if (shared) {
    if (begin < end)
      accumulateShared(alpha, weightGradient, out);
    return;
  }
  for (int64_t n = begin; n < end; ++n) {
    const uint8_t *code = codes.data() + n * columns;
    const float *gradient = weightGradient + int64_t(rows[n]) * columns;
    float *sum = out + n * perRow;
    for (int64_t k = 0; k < columns; ++k) {
      float value = alpha ? gradient[k] * alpha[k] : gradient[k];
      if (isCodebook)
        sum[code[k]] += value;
      else
        sum[k / group] += value * (float(code[k]) - offsets[n * perRow + k / group]);
    }
  }
}

/// Rounds a value to what `bytes` then hold.
static void keep(DType type, float &value, uint8_t *bytes) {
  storeFloat(type, value, bytes);
  value = loadFloat(type, bytes);
}

float TunablePart::nearestGrid(int64_t row, float before, std::span<float> rounded) const {
  std::span<const float> entries(parameters.data() + row * perRow, perRow);
  float largest = 0;
  for (float entry : entries)
    largest = std::max(largest, std::fabs(entry));
  std::vector<int64_t> uses(perRow);
  for (int64_t k = 0; k < columns; ++k)
    ++uses[codes[row * columns + k]];
  // A few per cent of range buy a grid on which the entries lie better; on the
  // one that they come from those that hardly moved stay where they were.
  double least = std::numeric_limits<double>::infinity();
  float scale = 0;
  std::vector<float> candidate(perRow);
  for (int step = -1; step < gridCandidates; ++step) {
    const float grid = step < 0 ? before : tableScaleFor(largest * (1 + 0.005f * static_cast<float>(step)));
    std::copy(entries.begin(), entries.end(), candidate.begin());
    roundEntries(DType::I8, grid, candidate);
    double error = 0;
    for (int64_t i = 0; i < perRow; ++i)
      error += static_cast<double>(uses[i]) * (candidate[i] - entries[i]) * (candidate[i] - entries[i]);
    if (error < least) {
      least = error;
      scale = grid;
      std::copy(candidate.begin(), candidate.end(), rounded.begin());
    }
  }
  return scale;
}

void TunablePart::storeTile(QuantizedMatrix &matrix, const Objective &objective, int64_t begin, int64_t end) {
  const unsigned bits = static_cast<unsigned>(std::countr_zero(static_cast<uint64_t>(perRow)));
  const std::vector<uint8_t> &scales = matrix.find("table_scale")->bytes;
  RowTile tile(objective, bits, DType::I8);
  std::vector<float> rounded(perRow), table(perRow), wanted(columns);
  std::vector<uint8_t> order(perRow), rank(perRow), ranked(columns);
  for (int64_t n = begin; n < end; ++n) {
    const float *entries = parameters.data() + n * perRow;
    const uint8_t *code = codes.data() + n * columns;
    const float scale = nearestGrid(n, loadFloat(DType::F16, scales.data() + 2 * n), rounded);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](uint8_t a, uint8_t b) { return entries[a] != entries[b] ? entries[a] < entries[b] : a < b; });
    for (int64_t q = 0; q < perRow; ++q) {
      rank[order[q]] = static_cast<uint8_t>(q);
      table[q] = rounded[order[q]];
    }
    for (int64_t k = 0; k < columns; ++k) {
      wanted[k] = entries[code[k]];
      ranked[k] = rank[code[k]];
    }
    tile.setRow(n - begin, wanted.data(), nullptr);
    tile.setTable(n - begin, table.data(), scale);
    tile.setCodes(n - begin, ranked.data());
  }
  tile.fill(end - begin);
  // No codes anew: tables only, and only where that is better than the nearest entries.
  tile.refine(/*rounds=*/0, /*cycles=*/0);
  for (int64_t n = begin; n < end; ++n) {
    tile.codes(n - begin, ranked.data());
    tile.table(n - begin, table.data());
    storeRow(matrix, n, bits, DType::I8, ranked, table, tile.tableScale(n - begin));
    std::copy(ranked.begin(), ranked.end(), codes.begin() + n * columns);
    std::copy(table.begin(), table.end(), parameters.begin() + n * perRow);
  }
}

void TunablePart::store(QuantizedMatrix &matrix, std::span<const Objective> objectives, int64_t rowsOfWeight,
                        unsigned threads) {
  if (!isCodebook || type != DType::I8) {
    std::vector<uint8_t> &bytes = findComponent(matrix, isCodebook ? "table" : "scales")->bytes;
    for (size_t i = 0; i < parameters.size(); ++i)
      keep(type, parameters[i], bytes.data() + i * dtypeSize(type));
    return;
  }
  const std::vector<TileRows> tiles =
      cutIntoTiles(numRows(), [&](size_t n) { return int64_t(rows[n]) * int64_t(objectives.size()) / rowsOfWeight; });
  parallelFor(tiles.size(), 1, threads, [&](size_t first, size_t last, unsigned) {
    for (size_t i = first; i < last; ++i)
      storeTile(matrix, objectives[tiles[i].group], int64_t(tiles[i].begin), int64_t(tiles[i].end));
  });
}

void TunableWeight::store(std::span<QuantizedMatrix *const> matrices, const Sensitivity &sensitivity,
                          unsigned threads) {
  useOneBlasThread();
  std::vector<Objective> objectives;
  for (int64_t group = 0; group < sensitivity.groups(); ++group)
    objectives.push_back(prepareObjective(sensitivity.objective(group), columns, /*damping=*/-1.0f, alpha));
  for (size_t i = 0; i < parts.size(); ++i)
    parts[i].store(*matrices[i], objectives, rows, threads);
}

void TunableWeight::decode(float *out, unsigned threads) const {
  for (const TunablePart &part : parts)
    parallelFor(part.numRows(), 16, threads, [&](size_t begin, size_t end, unsigned) {
      part.decode(begin, end, alpha.empty() ? nullptr : alpha.data(), out);
    });
}
