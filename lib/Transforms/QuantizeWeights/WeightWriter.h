//===- WeightWriter.h - one weight at a time, from file to file -*- C++ -*-===//
#ifndef SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_WEIGHTWRITER_H
#define SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_WEIGHTWRITER_H

#include "skim/Quantize/Matrix.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/MatrixSource.h"
#include "skim/Support/Safetensors.h"
#include "llvm/ADT/StringMap.h"

namespace skim {

/// The safetensors type of an element type; codes and other i8 are U8 or I8 bytes alike.
std::optional<DType> dtypeOf(mlir::Type type);
/// `f16`.
std::string spellType(mlir::Type type);

struct WeightResult {
  uint64_t storedBytes = 0;
  double error = 0;
};

/// Rows of floats, from a file or from a constant of the IR.
class WeightRows {
public:
  explicit WeightRows(MatrixSource matrix) : matrix(std::move(matrix)) {}
  WeightRows(std::string name, std::vector<float> values, int64_t rows, int64_t columns)
      : label(std::move(name)), values(std::move(values)), numRows(rows), numColumns(columns) {}
  int64_t rows() const { return matrix ? matrix->rows() : numRows; }
  int64_t columns() const { return matrix ? matrix->columns() : numColumns; }
  const std::string &name() const { return matrix ? matrix->name() : label; }
  void read(int64_t begin, int64_t end, float *out) const;
  void release() const {
    if (matrix)
      matrix->release();
  }

private:
  std::optional<MatrixSource> matrix;
  std::string label;
  std::vector<float> values;
  int64_t numRows = 0, numColumns = 0;
};

/// Reads skim.external below `base` and arith.constant, writes tensors of
/// `writer`, in blocks of rows.
class WeightWriter {
public:
  WeightWriter(SafetensorsWriter &writer, std::string base, unsigned threads)
      : writer(writer), base(std::move(base)), threads(threads) {}

  /// Whether `quantize` knows the format.
  static bool hasQuantizer(WeightEncoding encoding);
  /// Tensors `first` … get the components of the source in `encoding`.
  Expected<WeightResult> quantize(mlir::Operation *source, WeightEncoding encoding,
                                  llvm::ArrayRef<Component> components, size_t first);
  /// Tensor `first` gets the source's elements, converted to `type`'s.
  Expected<WeightResult> copy(mlir::Operation *source, mlir::RankedTensorType type, size_t first);

private:
  Expected<std::shared_ptr<const MappedFile>> open(ExternalOp source);
  Expected<WeightRows> weightRows(mlir::Operation *source);
  Error copyBytes(mlir::Operation *source, size_t first);

  SafetensorsWriter &writer;
  std::string base;
  unsigned threads;
  llvm::StringMap<std::shared_ptr<const MappedFile>> files;
};

} // namespace skim

#endif // SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_WEIGHTWRITER_H
