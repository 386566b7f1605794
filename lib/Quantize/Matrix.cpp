#include "skim/Quantize/Matrix.h"
#include "Clones.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Support/Threads.h"

#include <bit>
#include <cstdio>

using namespace skim;

static uint64_t rowBytesOf(DType type, const std::vector<int64_t> &shape) {
  uint64_t bytes = dtypeSize(type);
  for (size_t i = 1; i < shape.size(); ++i)
    bytes *= static_cast<uint64_t>(shape[i]);
  return bytes;
}

static void add(std::vector<ComponentSpec> &out, const char *name, DType type, std::vector<int64_t> shape,
                bool shared = false) {
  uint64_t rowBytes = shared ? 0 : rowBytesOf(type, shape);
  out.push_back({name, type, std::move(shape), rowBytes});
}

std::vector<ComponentSpec> skim::componentsOf(const UniformFormat &format, int64_t rows, int64_t columns) {
  std::vector<ComponentSpec> out;
  int64_t groups = format.numGroups(columns);
  auto packed = [&](int64_t count) { return static_cast<int64_t>(packedBytes(count, format.bits)); };
  add(out, "codes", DType::U8, {rows, packed(columns)});
  add(out, "scales", format.scale, {rows, groups});
  if (format.asymmetric && format.floatZero)
    add(out, "zeros", DType::F16, {rows, groups});
  else if (format.asymmetric)
    add(out, "zeros", DType::U8, {rows, packed(groups)});
  return out;
}

std::vector<ComponentSpec> skim::componentsOf(const CodebookFormat &format, int64_t rows, int64_t columns) {
  std::vector<ComponentSpec> out;
  int64_t tables = format.tensorScope ? 1 : rows;
  add(out, "codes", DType::U8, {rows, static_cast<int64_t>(packedBytes(columns, format.bits))});
  add(out, "table", format.table, {tables, int64_t(1) << format.bits}, format.tensorScope);
  if (format.table == DType::I8)
    add(out, "table_scale", DType::F16, {tables}, format.tensorScope);
  return out;
}

uint64_t skim::storedBytes(const std::vector<ComponentSpec> &components) {
  uint64_t bytes = 0;
  for (const ComponentSpec &component : components)
    bytes += *tensorBytes(component.type, component.shape);
  return bytes;
}

SKIM_CLONES static bool allFinite(const float *data, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t magnitude = std::bit_cast<uint32_t>(data[i]) & 0x7FFFFFFFu;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest < 0x7F800000u;
}

Error skim::checkFinite(const MatrixView &matrix, const char *what, const QuantizeOptions &options) {
  int64_t rows = matrix.stride ? matrix.rows : std::min<int64_t>(matrix.rows, 1);
  int64_t grain = 1 + (int64_t(1) << 18) / std::max<int64_t>(matrix.columns, 1);
  return parallelForWithErrors(rows, grain, options.threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t i = begin; i < end; ++i) {
      const float *row = matrix.row(i);
      if (allFinite(row, matrix.columns))
        continue;
      for (int64_t k = 0; k < matrix.columns; ++k) {
        if (allFinite(row + k, 1))
          continue;
        char text[32];
        std::snprintf(text, sizeof text, "%g", double(row[k]));
        return Error(fail(std::string(what) + " is not finite",
                          "row " + std::to_string(options.firstRow + int64_t(i)) + ", column " + std::to_string(k),
                          "finite numbers", text));
      }
    }
    return Error::success();
  });
}
