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

/// Reads externals below `base`, writes tensors of `writer`, in blocks of rows.
class WeightWriter {
public:
  WeightWriter(SafetensorsWriter &writer, std::string base, unsigned threads)
      : writer(writer), base(std::move(base)), threads(threads) {}

  /// Tensors `first` … get the components of the source in `encoding`.
  Expected<WeightResult> quantize(ExternalOp source, WeightEncoding encoding, llvm::ArrayRef<Component> components,
                                  size_t first);
  /// Tensor `first` gets the source's elements, converted to `type`'s.
  Expected<WeightResult> copy(ExternalOp source, mlir::RankedTensorType type, size_t first);

private:
  Expected<std::shared_ptr<const MappedFile>> open(ExternalOp source);
  Expected<MatrixSource> matrix(ExternalOp source);
  Error copyBytes(ExternalOp source, size_t first);

  SafetensorsWriter &writer;
  std::string base;
  unsigned threads;
  llvm::StringMap<std::shared_ptr<const MappedFile>> files;
};

} // namespace skim

#endif // SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_WEIGHTWRITER_H
