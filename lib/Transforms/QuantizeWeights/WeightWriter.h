//===- WeightWriter.h - one weight at a time, from file to file -*- C++ -*-===//
#ifndef SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_WEIGHTWRITER_H
#define SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_WEIGHTWRITER_H

#include "CalibratedQuantizer.h"
#include "skim/Analysis/WeightReader.h"
#include "skim/Quantize/Matrix.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/Safetensors.h"

namespace skim {

struct WeightResult {
  uint64_t storedBytes = 0;
  double error = 0; ///< Σ(w − ŵ)² ÷ Σw²
  /// With statistics: the relative squared error of the layer's output, and
  /// the loss-weighted error.
  std::optional<double> outputError, lossError;
};

/// Copies weights from `reader` to tensors of `writer`, in blocks of rows.
class WeightWriter {
public:
  WeightWriter(SafetensorsWriter &writer, WeightReader &reader, unsigned threads)
      : writer(writer), reader(reader), threads(threads) {}

  /// Whether `quantize` knows the format.
  static bool hasQuantizer(WeightEncoding encoding);
  /// Tensors `first` … get the components of the source in `encoding`.
  Expected<WeightResult> quantize(mlir::Operation *source, WeightEncoding encoding,
                                  llvm::ArrayRef<Component> components, size_t first);
  /// Tensors `first` … get components that were made elsewhere.
  Expected<WeightResult> write(const CalibratedWeight &weight, size_t first);
  /// Tensor `first` gets the source's elements, converted to `type`'s.
  Expected<WeightResult> copy(mlir::Operation *source, mlir::RankedTensorType type, size_t first);

private:
  Error copyBytes(mlir::Operation *source, size_t first);

  SafetensorsWriter &writer;
  WeightReader &reader;
  unsigned threads;
};

} // namespace skim

#endif // SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_WEIGHTWRITER_H
