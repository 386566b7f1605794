//===- WeightReader.h - the numbers of a weight in the IR -------*- C++ -*-===//
#ifndef SKIM_ANALYSIS_WEIGHTREADER_H
#define SKIM_ANALYSIS_WEIGHTREADER_H

#include "mlir/IR/Types.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/MatrixSource.h"
#include "skim/Support/Safetensors.h"
#include "llvm/ADT/StringMap.h"

#include <optional>
#include <string>
#include <vector>

namespace skim {

/// The safetensors type of an element type; codes and other i8 are U8 or I8 bytes alike.
std::optional<DType> dtypeOf(mlir::Type type);
/// `f16`.
std::string spellType(mlir::Type type);

/// Whether quantizing writes this operation's tensor to the weights file: an
/// external, or a constant of the IR with dimensions, that something uses.
bool isStored(mlir::Operation *op);
/// Bytes that norms, biases, frequencies and the like are written with: floats in
/// f32, all else as it is.
uint64_t plainBytes(mlir::Operation *op);

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

/// Reads `skim.external` below a folder, and `arith.constant`.
class WeightReader {
public:
  /// `base`: the folder that the externals' file names start from.
  explicit WeightReader(std::string base) : base(std::move(base)) {}

  /// The file of an external, mapped once.
  Expected<std::shared_ptr<const MappedFile>> open(ExternalOp source);
  /// A float matrix. One dimension is a row; more than two fold their leading ones.
  Expected<WeightRows> rows(mlir::Operation *source);

private:
  std::string base;
  llvm::StringMap<std::shared_ptr<const MappedFile>> files;
};

} // namespace skim

#endif // SKIM_ANALYSIS_WEIGHTREADER_H
