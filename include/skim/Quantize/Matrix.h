//===- Matrix.h - what quantizers read and return ---------------*- C++ -*-===//
//
// A weight is an N x K matrix of float32, row n producing output n. Quantizers
// work on blocks of rows: rows are independent, and rows [a, b) of a component
// lie at bytes [a, b) · rowBytes of the whole, so a caller streams a weight of
// any size through a bounded block.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_MATRIX_H
#define SKIM_QUANTIZE_MATRIX_H

#include "skim/Support/Error.h"
#include "skim/Support/Safetensors.h"

#include <cstdint>
#include <string>
#include <vector>

namespace skim {

/// Rows of floats, `stride` floats apart. Stride 0 repeats one row, which is
/// how weights of the columns are given to every row. No ownership.
struct MatrixView {
  const float *data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;

  MatrixView() = default;
  MatrixView(const float *data, int64_t rows, int64_t columns)
      : data(data), rows(rows), columns(columns), stride(columns) {}
  MatrixView(const float *data, int64_t rows, int64_t columns, int64_t stride)
      : data(data), rows(rows), columns(columns), stride(stride) {}
  const float *row(int64_t i) const { return data + i * stride; }
  explicit operator bool() const { return data != nullptr; }
};

/// `#skim.uniform`: value s·(q − z). See quantizeUniform for the components.
struct UniformFormat {
  unsigned bits = 4; ///< 1 to 8
  int64_t group = 0; ///< columns that share a scale; 0: the row
  bool asymmetric = false;
  bool floatZero = false;   ///< asymmetric only: z is an f16 instead of `bits` bits
  DType scale = DType::F16; ///< F16, BF16 or F32

  int64_t groupSize(int64_t columns) const { return group ? group : columns; }
  int64_t numGroups(int64_t columns) const {
    int64_t size = groupSize(columns);
    return size ? (columns + size - 1) / size : 0;
  }
};

/// `#skim.codebook`: value T[q]. See quantizeCodebook for the components.
struct CodebookFormat {
  unsigned bits = 3;        ///< 1 to 8
  DType table = DType::F16; ///< F16, BF16, or I8 with an f16 scale a table
  bool tensorScope = false; ///< one table for all rows
};

/// A component's name, type and shape as the encoding defines them.
struct ComponentSpec {
  std::string name;
  DType type = DType::U8;
  std::vector<int64_t> shape;
  /// Bytes of one row; 0 for what belongs to the whole tensor (`scope = tensor`).
  uint64_t rowBytes = 0;
};

/// Components of a matrix of that shape, in storage order.
std::vector<ComponentSpec> componentsOf(const UniformFormat &format, int64_t rows, int64_t columns);
std::vector<ComponentSpec> componentsOf(const CodebookFormat &format, int64_t rows, int64_t columns);

/// Bytes of all components.
uint64_t storedBytes(const std::vector<ComponentSpec> &components);

/// A block of rows in a format's components.
struct QuantizedMatrix {
  struct Component {
    ComponentSpec spec;
    std::vector<uint8_t> bytes;
  };
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<Component> components;
  /// Σ (w − ŵ)² and Σ w² over the block, ŵ decoded from the stored components.
  double squaredError = 0;
  double squaredNorm = 0;

  const Component *find(std::string_view name) const {
    for (const Component &component : components)
      if (component.spec.name == name)
        return &component;
    return nullptr;
  }
};

/// What all quantizers share.
struct QuantizeOptions {
  unsigned threads = 0; ///< 0: all CPUs; the result does not depend on it
  int64_t firstRow = 0; ///< row of the weight where the block begins, for messages
};

/// Fails, naming row and column, at the first NaN or infinity.
Error checkFinite(const MatrixView &matrix, const char *what, const QuantizeOptions &options);

} // namespace skim

#endif // SKIM_QUANTIZE_MATRIX_H
