#include "skim/Quantize/TunableWeight.h"

#include "TableRounding.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Support/StoredFloat.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>

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
  part.parameters.resize(matrix.rows * part.perRow);
  const QuantizedMatrix::Component &codes = *matrix.find("codes"), &table = *matrix.find("table");
  const QuantizedMatrix::Component *scale = matrix.find("table_scale");
  for (int64_t n = 0; n < matrix.rows; ++n) {
    unpackBits(codes.bytes.data() + codes.spec.rowBytes * n, matrix.columns, format.bits,
               part.codes.data() + n * matrix.columns);
    for (int64_t i = n * part.perRow; i < (n + 1) * part.perRow; ++i)
      part.parameters[i] =
          scale ? static_cast<int8_t>(table.bytes[i]) * loadFloat(DType::F16, scale->bytes.data() + 2 * n)
                : loadFloat(format.table, table.bytes.data() + 2 * i);
  }
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
    const float *value = parameters.data() + n * perRow;
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

void TunablePart::accumulate(int64_t begin, int64_t end, const float *alpha, const float *weightGradient,
                             float *out) const {
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

void TunablePart::store(QuantizedMatrix &matrix) {
  auto keep = [](DType type, float &value, uint8_t *bytes) {
    storeFloat(type, value, bytes);
    value = loadFloat(type, bytes);
  };
  if (!isCodebook) {
    std::vector<uint8_t> &bytes = findComponent(matrix, "scales")->bytes;
    for (size_t i = 0; i < parameters.size(); ++i)
      keep(type, parameters[i], bytes.data() + i * dtypeSize(type));
    return;
  }
  std::vector<uint8_t> &table = findComponent(matrix, "table")->bytes;
  QuantizedMatrix::Component *scales = findComponent(matrix, "table_scale");
  std::vector<float> rounded(perRow), best(perRow);
  std::vector<int64_t> uses(perRow);
  for (int64_t n = 0; n < numRows(); ++n) {
    std::span<float> entries(parameters.data() + n * perRow, perRow);
    if (!scales) {
      for (int64_t i = 0; i < perRow; ++i)
        keep(type, entries[i], table.data() + 2 * (n * perRow + i));
      continue;
    }
    float largest = 0, scale = 0;
    for (float entry : entries)
      largest = std::max(largest, std::fabs(entry));
    std::fill(uses.begin(), uses.end(), 0);
    for (int64_t k = 0; k < columns; ++k)
      ++uses[codes[n * columns + k]];
    // A few per cent of range buy a grid on which the entries lie better; on the
    // one that they come from those that hardly moved stay where they were.
    double least = std::numeric_limits<double>::infinity();
    for (int candidate = -1; candidate < gridCandidates; ++candidate) {
      const float grid = candidate < 0 ? loadFloat(DType::F16, scales->bytes.data() + 2 * n)
                                       : tableScaleFor(largest * (1 + 0.005f * static_cast<float>(candidate)));
      std::copy(entries.begin(), entries.end(), rounded.begin());
      roundEntries(DType::I8, grid, rounded);
      double error = 0;
      for (int64_t i = 0; i < perRow; ++i)
        error += static_cast<double>(uses[i]) * (rounded[i] - entries[i]) * (rounded[i] - entries[i]);
      if (error < least) {
        least = error;
        scale = grid;
        best = rounded;
      }
    }
    keep(DType::F16, scale, scales->bytes.data() + 2 * n);
    for (int64_t i = 0; i < perRow; ++i)
      table[n * perRow + i] =
          static_cast<uint8_t>(static_cast<int8_t>(scale > 0 ? std::nearbyint(best[i] / scale) : 0));
    std::copy(best.begin(), best.end(), entries.begin());
  }
}

void TunableWeight::decode(float *out, unsigned threads) const {
  for (const TunablePart &part : parts)
    parallelFor(part.numRows(), 16, threads, [&](size_t begin, size_t end, unsigned) {
      part.decode(begin, end, alpha.empty() ? nullptr : alpha.data(), out);
    });
}
