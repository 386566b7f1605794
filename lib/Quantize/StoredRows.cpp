#include "StoredRows.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Quantize/LayerCodes.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Threads.h"

#include <cmath>
#include <cstring>

using namespace skim;

static QuantizedMatrix emptyOf(std::vector<ComponentSpec> specs, int64_t rows, int64_t columns) {
  QuantizedMatrix result;
  result.rows = rows;
  result.columns = columns;
  for (ComponentSpec &spec : specs) {
    std::vector<uint8_t> bytes(*tensorBytes(spec.type, spec.shape));
    result.components.push_back({std::move(spec), std::move(bytes)});
  }
  return result;
}

QuantizedMatrix skim::emptyCodebook(unsigned bits, DType table, int64_t rows, int64_t columns) {
  return emptyOf(componentsOf(CodebookFormat{bits, table, false}, rows, columns), rows, columns);
}

QuantizedMatrix skim::emptyRows(uint8_t term, DType table, int64_t rows, int64_t columns) {
  return emptyOf(isUniform(term) ? componentsOf(uniformFormatOf(term), rows, columns)
                                 : componentsOf(codebookFormatOf(term, table), rows, columns),
                 rows, columns);
}

RowTile skim::tileOf(uint8_t term, const Objective &objective, DType table) {
  TableShape shape;
  if (isUniform(term)) {
    const UniformFormat format = uniformFormatOf(term);
    shape = {format.asymmetric ? TableShape::Affine : TableShape::Symmetric, format.group};
  } else if (kindOf(term) == SharedRow) {
    shape.kind = TableShape::Fixed;
  }
  return RowTile(objective, bitsOf(term), tableOf(term, table), shape);
}

/// Where scale (0) or zero (1) of a row's group lies.
static size_t gridOffset(const QuantizedMatrix &matrix, size_t number, int64_t row, int64_t group) {
  return size_t(row) * matrix.components[1 + number].spec.rowBytes + 2 * size_t(group);
}

void skim::loadLane(RowTile &tile, int64_t lane, const QuantizedMatrix &matrix, int64_t row, uint8_t term,
                    DType table) {
  if (isUniform(term)) {
    for (int64_t group = 0; group < tile.numGroups(); ++group) {
      float numbers[2] = {0, 0}; // scale and zero
      for (size_t i = 0; i + 1 < matrix.components.size(); ++i) {
        uint16_t half;
        std::memcpy(&half, matrix.components[1 + i].bytes.data() + gridOffset(matrix, i, row, group), 2);
        numbers[i] = f16ToF32(half);
      }
      tile.setGrid(lane, group, numbers[0], numbers[1]);
    }
  } else {
    std::vector<float> values(size_t(1) << bitsOf(term));
    const float scale = loadTable(matrix, row, tableOf(term, table), values);
    tile.setTable(lane, values.data(), scale);
  }
  std::vector<uint8_t> codes(matrix.columns);
  unpackBits(matrix.components[0].bytes.data() + row * matrix.components[0].spec.rowBytes, codes.size(), bitsOf(term),
             codes.data());
  tile.setCodes(lane, codes.data());
}

void skim::storeLane(const RowTile &tile, int64_t lane, QuantizedMatrix &matrix, int64_t row, uint8_t term,
                     DType table) {
  std::vector<uint8_t> codes(matrix.columns);
  tile.codes(lane, codes.data());
  if (!isUniform(term) && !sharedTableBytes(term)) {
    std::vector<float> values(size_t(1) << bitsOf(term));
    tile.table(lane, values.data());
    storeRow(matrix, row, bitsOf(term), tableOf(term, table), codes, values, tile.tableScale(lane));
    return;
  }
  packBits(codes.data(), codes.size(), bitsOf(term),
           matrix.components[0].bytes.data() + row * matrix.components[0].spec.rowBytes);
  for (int64_t group = 0; isUniform(term) && group < tile.numGroups(); ++group) {
    const float numbers[] = {tile.gridScale(lane, group), tile.gridZero(lane, group)};
    for (size_t i = 0; i + 1 < matrix.components.size(); ++i) {
      const uint16_t half = f32ToF16(numbers[i]);
      std::memcpy(matrix.components[1 + i].bytes.data() + gridOffset(matrix, i, row, group), &half, 2);
    }
  }
}

void skim::storeRow(QuantizedMatrix &out, int64_t row, unsigned bits, DType type, const std::vector<uint8_t> &codes,
                    const std::vector<float> &values, float scale) {
  packBits(codes.data(), codes.size(), bits, out.components[0].bytes.data() + row * out.components[0].spec.rowBytes);
  uint8_t *table = out.components[1].bytes.data() + row * out.components[1].spec.rowBytes;
  for (size_t q = 0; q < values.size(); ++q) {
    if (type == DType::I8) {
      table[q] = uint8_t(int8_t(scale == 0 ? 0.0f : std::nearbyint(values[q] / scale)));
    } else {
      const uint16_t half = type == DType::F16 ? f32ToF16(values[q]) : f32ToBF16(values[q]);
      std::memcpy(table + 2 * q, &half, 2);
    }
  }
  if (type == DType::I8) {
    const uint16_t half = f32ToF16(scale);
    std::memcpy(out.components[2].bytes.data() + 2 * row, &half, 2);
  }
}

float skim::loadTable(const QuantizedMatrix &matrix, int64_t row, DType type, std::vector<float> &values) {
  const uint8_t *table = matrix.components[1].bytes.data() + row * matrix.components[1].spec.rowBytes;
  uint16_t half = 0;
  if (type == DType::I8) {
    std::memcpy(&half, matrix.components[2].bytes.data() + 2 * row, 2);
    const float scale = f16ToF32(half);
    for (size_t q = 0; q < values.size(); ++q)
      values[q] = scale * float(int8_t(table[q]));
    return scale;
  }
  for (size_t q = 0; q < values.size(); ++q) {
    std::memcpy(&half, table + 2 * q, 2);
    values[q] = type == DType::F16 ? f16ToF32(half) : bf16ToF32(half);
  }
  return 0;
}

void skim::decodeCodebook(const QuantizedMatrix &matrix, const CodebookFormat &format, float *out, int64_t stride,
                          unsigned threads) {
  parallelFor(matrix.rows, 16, threads, [&](size_t begin, size_t end, unsigned) {
    std::vector<float> values(size_t(1) << format.bits);
    std::vector<uint8_t> codes(matrix.columns);
    for (size_t n = begin; n < end; ++n) {
      loadTable(matrix, int64_t(n), format.table, values);
      unpackBits(matrix.components[0].bytes.data() + n * matrix.components[0].spec.rowBytes, codes.size(), format.bits,
                 codes.data());
      for (int64_t k = 0; k < matrix.columns; ++k)
        out[n * stride + k] = values[codes[k]];
    }
  });
}

float skim::scaleOf(const StoredTable &table) {
  uint16_t half = 0;
  if (!table.scale.empty())
    std::memcpy(&half, table.scale.data(), 2);
  return f16ToF32(half);
}

void skim::addSquares(QuantizedMatrix &out, const float *row, const float *decoded) {
  for (int64_t k = 0; k < out.columns; ++k) {
    const double value = row[k], off = value - decoded[k];
    out.squaredError += off * off;
    out.squaredNorm += value * value;
  }
}

Error skim::checkWeights(const std::string &name, const MatrixView &weights) {
  for (int64_t n = 0; n < weights.rows; ++n)
    for (int64_t k = 0; k < weights.columns; ++k)
      if (!std::isfinite(weights.row(n)[k]))
        return fail("weight is not finite", name + ", row " + std::to_string(n) + ", column " + std::to_string(k),
                    "a finite number", std::isnan(weights.row(n)[k]) ? "NaN" : "infinity");
  return Error::success();
}
