#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Quantize/KMeans.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>

using namespace skim;

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

/// `values` rounded to `format.table`, in place and into `out.bytes`; for I8 on
/// the grid of `scale`.
static void roundEntries(const CodebookFormat &format, float scale, StoredTable &out) {
  const size_t size = out.values.size();
  out.bytes.resize(size * dtypeSize(format.table));
  if (format.table == DType::I8) {
    for (size_t q = 0; q < size; ++q) {
      float code = scale == 0 ? 0.0f : std::nearbyint(std::clamp(out.values[q] / scale, -127.0f, 127.0f));
      out.bytes[q] = static_cast<uint8_t>(static_cast<int8_t>(code));
      out.values[q] = scale * code;
    }
    return;
  }
  std::vector<uint16_t> halves(size);
  if (format.table == DType::F16) {
    convertF32ToF16(out.values.data(), halves.data(), size);
    convertF16ToF32(halves.data(), out.values.data(), size);
  } else {
    convertF32ToBF16(out.values.data(), halves.data(), size);
    convertBF16ToF32(halves.data(), out.values.data(), size);
  }
  std::memcpy(out.bytes.data(), halves.data(), size * 2);
}

Expected<StoredTable> skim::roundTable(const KMeans1D &solver, const CodebookFormat &format, const std::string &where) {
  const size_t size = size_t(1) << format.bits;
  StoredTable table;
  table.values.resize(size);
  solver.centroids(static_cast<unsigned>(size), table.values.data());
  const float largest = std::max(std::abs(table.values.front()), std::abs(table.values.back()));

  float scale = 0;
  if (format.table == DType::I8) {
    uint16_t half = f32ToF16(largest / 127);
    scale = f16ToF32(half);
    table.scale.resize(2);
    std::memcpy(table.scale.data(), &half, 2);
  }
  roundEntries(format, scale, table);
  if (!std::isfinite(scale) || !std::isfinite(table.values.front()) || !std::isfinite(table.values.back())) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", double(largest));
    return fail("weight exceeds the range of its table", where,
                format.table == DType::I8 ? "a table scale within F16"
                                          : std::string("entries within ") + dtypeName(format.table),
                text, "keep this layer in 16 bits");
  }
  // f16 moves a centroid by 2^-11 of itself at most: assigning to the nearest rounded entry recovers all that can be
  // measured. Coarser entries gain from a few rounds on the grid, each of which can only lower the error, since the
  // grid point next to a mean is the best for its values.
  std::vector<double> means(size);
  for (int round = 0; format.table != DType::F16 && round < 4; ++round) {
    StoredTable next = table;
    for (size_t q = 0; q < size; ++q)
      means[q] = table.values[q];
    solver.nearestMeans(table.values, means.data());
    for (size_t q = 0; q < size; ++q)
      next.values[q] = static_cast<float>(means[q]);
    roundEntries(format, scale, next);
    if (next.values == table.values)
      break;
    table = std::move(next);
  }
  return table;
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

static Error checkWeights(const MatrixView &block, const MatrixView &weights, const QuantizeOptions &options) {
  if (Error error = checkFinite(block, "weight", options))
    return error;
  if (!weights)
    return Error::success();
  if (weights.rows != block.rows || weights.columns != block.columns)
    return fail("sensitivities do not fit the weight", {},
                std::to_string(block.rows) + " x " + std::to_string(block.columns),
                std::to_string(weights.rows) + " x " + std::to_string(weights.columns));
  if (Error error = checkFinite(weights, "sensitivity", options))
    return error;
  for (int64_t n = 0; n < (weights.stride ? weights.rows : std::min<int64_t>(weights.rows, 1)); ++n) {
    const float *row = weights.row(n);
    uint32_t signs = 0;
    for (int64_t k = 0; k < weights.columns; ++k)
      signs |= row[k] < 0 ? 1u : 0u;
    if (signs)
      return fail("sensitivity is negative", "row " + std::to_string(options.firstRow + n), "numbers of at least 0",
                  "a negative one");
  }
  return Error::success();
}

static QuantizedMatrix emptyResult(const CodebookFormat &format, const MatrixView &block) {
  QuantizedMatrix result;
  result.rows = block.rows;
  result.columns = block.columns;
  for (ComponentSpec &spec : componentsOf(format, block.rows, block.columns)) {
    std::vector<uint8_t> bytes(*tensorBytes(spec.type, spec.shape));
    result.components.push_back({std::move(spec), std::move(bytes)});
  }
  return result;
}

/// Squared error and norm of one row, both unweighted.
static void measure(const float *row, const uint8_t *codes, int64_t columns, const std::vector<float> &table,
                    double &error, double &norm) {
  // Four sums in a fixed order: short dependency chains, the same bits everywhere.
  double errors[4] = {}, norms[4] = {};
  for (int64_t k = 0; k < columns; ++k) {
    double value = row[k], off = value - double(table[codes[k]]);
    errors[k & 3] += off * off;
    norms[k & 3] += value * value;
  }
  error = (errors[0] + errors[1]) + (errors[2] + errors[3]);
  norm = (norms[0] + norms[1]) + (norms[2] + norms[3]);
}

static void addUp(QuantizedMatrix &result, const std::vector<double> &errors, const std::vector<double> &norms) {
  for (double error : errors)
    result.squaredError += error;
  for (double norm : norms)
    result.squaredNorm += norm;
}

Expected<QuantizedMatrix> skim::quantizeCodebook(const MatrixView &block, const MatrixView &weights,
                                                 const CodebookFormat &format, const QuantizeOptions &options) {
  if (Error error = checkWeights(block, weights, options))
    return error;
  QuantizedMatrix result = emptyResult(format, block);
  if (block.columns == 0)
    return result;
  const unsigned size = 1u << format.bits;
  std::vector<double> errors(block.rows), norms(block.rows);
  std::vector<KMeans1D> solvers(resolveThreads(options.threads));
  auto put = [&](size_t component, int64_t row, const std::vector<uint8_t> &bytes) {
    std::memcpy(result.components[component].bytes.data() + row * bytes.size(), bytes.data(), bytes.size());
  };
  const int64_t grain = 1 + (int64_t(1) << 14) / block.columns;
  Error failure =
      parallelForWithErrors(block.rows, grain, options.threads, [&](size_t begin, size_t end, unsigned worker) {
        KMeans1D &solver = solvers[worker];
        std::vector<uint8_t> codes(block.columns), packed(packedBytes(block.columns, format.bits));
        for (int64_t n = begin; n < int64_t(end); ++n) {
          std::span<const float> row(block.row(n), block.columns);
          solver.fit(row, weights ? weights.row(n) : nullptr, size, /*onlyMax=*/true);
          Expected<StoredTable> table = roundTable(solver, format, "row " + std::to_string(options.firstRow + n));
          if (!table)
            return table.takeError();
          solver.assign(table->values, codes.data());
          measure(row.data(), codes.data(), block.columns, table->values, errors[n], norms[n]);
          packBits(codes.data(), codes.size(), format.bits, packed.data());
          put(0, n, packed);
          put(1, n, table->bytes);
          if (format.table == DType::I8)
            put(2, n, table->scale);
        }
        return Error::success();
      });
  if (failure)
    return failure;
  addUp(result, errors, norms);
  return result;
}

//===----------------------------------------------------------------------===//
// One table for all rows
//===----------------------------------------------------------------------===//

/// Sign, exponent and 11 bits of mantissa.
static constexpr unsigned binShift = 12;

SharedTableFit::SharedTableFit(CodebookFormat format) : format(format), bins(size_t(1) << (32 - binShift)) {}

Error SharedTableFit::add(const MatrixView &block, const MatrixView &weights, const QuantizeOptions &options) {
  if (Error error = checkWeights(block, weights, options))
    return error;
  // One thread: the order of additions must not depend on their number.
  for (int64_t n = 0; n < block.rows; ++n) {
    const float *row = block.row(n), *weight = weights ? weights.row(n) : nullptr;
    for (int64_t k = 0; k < block.columns; ++k) {
      Bin &bin = bins[std::bit_cast<uint32_t>(row[k]) >> binShift];
      double w = weight ? weight[k] : 1.0;
      bin.weight += w;
      bin.sum += w * row[k];
      bin.plainSum += row[k];
      ++bin.count;
    }
  }
  return Error::success();
}

Expected<StoredTable> SharedTableFit::solve() const {
  std::vector<float> values, weights;
  double largest = 0;
  for (const Bin &bin : bins)
    largest = std::max(largest, bin.weight);
  for (const Bin &bin : bins) {
    if (!bin.count)
      continue;
    values.push_back(static_cast<float>(bin.weight > 0 ? bin.sum / bin.weight : bin.plainSum / double(bin.count)));
    weights.push_back(static_cast<float>(largest > 0 ? bin.weight / largest : 1.0));
  }
  // A weight without elements has a table of zeros.
  if (values.empty()) {
    values.push_back(0.0f);
    weights.push_back(1.0f);
  }
  KMeans1D solver;
  solver.fit(values, weights.data(), 1u << format.bits, /*onlyMax=*/true);
  return roundTable(solver, format, {});
}

Expected<QuantizedMatrix> skim::encodeWithTable(const MatrixView &block, const CodebookFormat &format,
                                                const StoredTable &table, const QuantizeOptions &options) {
  if (Error error = checkFinite(block, "weight", options))
    return error;
  QuantizedMatrix result = emptyResult(format, block);
  result.components[1].bytes = table.bytes;
  if (format.table == DType::I8)
    result.components[2].bytes = table.scale;
  // A value belongs to the first entry whose upper neighbour is not nearer.
  std::vector<double> thresholds;
  for (size_t q = 0; q + 1 < table.values.size(); ++q)
    thresholds.push_back((double(table.values[q]) + double(table.values[q + 1])) / 2);
  std::vector<double> errors(block.rows), norms(block.rows);
  const int64_t grain = 1 + (int64_t(1) << 15) / std::max<int64_t>(block.columns, 1);
  parallelFor(block.rows, grain, options.threads, [&](size_t begin, size_t end, unsigned) {
    std::vector<uint8_t> codes(block.columns);
    for (int64_t n = begin; n < int64_t(end); ++n) {
      const float *row = block.row(n);
      for (int64_t k = 0; k < block.columns; ++k)
        codes[k] = static_cast<uint8_t>(std::lower_bound(thresholds.begin(), thresholds.end(), double(row[k])) -
                                        thresholds.begin());
      measure(row, codes.data(), block.columns, table.values, errors[n], norms[n]);
      packBits(codes.data(), codes.size(), format.bits,
               result.components[0].bytes.data() + n * result.components[0].spec.rowBytes);
    }
  });
  addUp(result, errors, norms);
  return result;
}
