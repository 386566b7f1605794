//===- MatrixSource.h - a matrix of floats inside a file --------*- C++ -*-===//
#ifndef SKIM_SUPPORT_MATRIXSOURCE_H
#define SKIM_SUPPORT_MATRIXSOURCE_H

#include "skim/Support/Error.h"
#include "skim/Support/MappedFile.h"
#include "skim/Support/Safetensors.h"

#include <memory>
#include <span>
#include <string>

namespace skim {

/// A matrix [rows, columns] of F32, F16 or BF16 in a mapped file, at any
/// strides (in elements): weights are read where exporters left them.
class MatrixSource {
public:
  /// Fails where an element would lie outside of the file; `name` stands in errors.
  static Expected<MatrixSource> create(std::shared_ptr<const MappedFile> file, std::string name, uint64_t offset,
                                       DType type, int64_t rows, int64_t columns, int64_t rowStride,
                                       int64_t columnStride);

  int64_t rows() const { return numRows; }
  int64_t columns() const { return numColumns; }
  DType type() const { return elementType; }
  const std::string &name() const { return label; }

  /// Rows [begin, end) as f32 into `out` [end − begin, columns], row-major.
  void readRows(int64_t begin, int64_t end, float *out) const;
  /// The same without conversion: (end − begin) · columns elements of type().
  void readRawRows(int64_t begin, int64_t end, uint8_t *out) const;
  /// Gives the pages of the whole matrix back (rows that follow each other only).
  void release() const;

private:
  MatrixSource() = default;
  std::shared_ptr<const MappedFile> file;
  std::string label;
  uint64_t offset = 0;
  DType elementType = DType::F32;
  int64_t numRows = 0, numColumns = 0, rowStride = 0, columnStride = 0;
};

} // namespace skim

#endif // SKIM_SUPPORT_MATRIXSOURCE_H
