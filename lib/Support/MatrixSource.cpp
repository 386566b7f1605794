#include "skim/Support/MatrixSource.h"

#include "skim/Support/Float16.h"

#include <cstring>

using namespace skim;

Expected<MatrixSource> MatrixSource::create(std::shared_ptr<const MappedFile> file, std::string name, uint64_t offset,
                                            DType type, int64_t rows, int64_t columns, int64_t rowStride,
                                            int64_t columnStride) {
  std::string where = file->path() + " (" + name + ")";
  if (type != DType::F32 && type != DType::F16 && type != DType::BF16)
    return fail("unsupported weight type", where, "F32, F16 or BF16", dtypeName(type));
  if (rows < 0 || columns < 0 || rowStride < 0 || columnStride < 0)
    return fail("invalid shape", where, "sizes and strides of at least 0", "a negative one");
  if (rows > 0 && columns > 0) {
    // The last element, in 128 bits: sizes come from a file.
    unsigned __int128 last = static_cast<unsigned __int128>(rows - 1) * static_cast<uint64_t>(rowStride) +
                             static_cast<unsigned __int128>(columns - 1) * static_cast<uint64_t>(columnStride);
    unsigned __int128 end = offset + (last + 1) * dtypeSize(type);
    if (end > file->size())
      return fail("weight leaves its file", where, "at most " + std::to_string(file->size()) + " bytes",
                  "an end beyond them");
  }
  MatrixSource source;
  source.file = std::move(file);
  source.label = std::move(name);
  source.offset = offset;
  source.elementType = type;
  source.numRows = rows;
  source.numColumns = columns;
  source.rowStride = rowStride;
  source.columnStride = columnStride;
  return source;
}

template <typename T, typename Convert>
static void gather(const uint8_t *base, int64_t rows, int64_t columns, int64_t rowStride, int64_t columnStride,
                   auto *out, Convert convert) {
  auto load = [&](int64_t index) {
    T value; // the file aligns nothing
    std::memcpy(&value, base + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  };
  if (columnStride == 1) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        out[i * columns + j] = convert(load(i * rowStride + j));
    return;
  }
  // Transposed: walk along the file's fast dimension inside tiles that fit the cache.
  constexpr int64_t tile = 64;
  for (int64_t j0 = 0; j0 < columns; j0 += tile)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = j0, end = std::min(columns, j0 + tile); j < end; ++j)
        out[i * columns + j] = convert(load(i * rowStride + j * columnStride));
}

void MatrixSource::readRows(int64_t begin, int64_t end, float *out) const {
  const uint8_t *base = file->begin() + offset + static_cast<uint64_t>(begin * rowStride) * dtypeSize(elementType);
  int64_t count = end - begin;
  switch (elementType) {
  case DType::F16:
    return gather<uint16_t>(base, count, numColumns, rowStride, columnStride, out, f16ToF32);
  case DType::BF16:
    return gather<uint16_t>(base, count, numColumns, rowStride, columnStride, out, bf16ToF32);
  default:
    return gather<float>(base, count, numColumns, rowStride, columnStride, out, [](float value) { return value; });
  }
}

void MatrixSource::readRawRows(int64_t begin, int64_t end, uint8_t *out) const {
  const uint8_t *base = file->begin() + offset + static_cast<uint64_t>(begin * rowStride) * dtypeSize(elementType);
  auto same = [](auto value) { return value; };
  if (dtypeSize(elementType) == 2)
    gather<uint16_t>(base, end - begin, numColumns, rowStride, columnStride, reinterpret_cast<uint16_t *>(out), same);
  else
    gather<uint32_t>(base, end - begin, numColumns, rowStride, columnStride, reinterpret_cast<uint32_t *>(out), same);
}

void MatrixSource::release() const {
  if (numRows > 0 && numColumns > 0)
    file->release(offset, static_cast<uint64_t>((numRows - 1) * rowStride + (numColumns - 1) * columnStride + 1) *
                              dtypeSize(elementType));
}
