//===- CalibratedQuantizer.h - quantizers that know what errors cost -*- C++ -*-===//
#ifndef SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_CALIBRATEDQUANTIZER_H
#define SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_CALIBRATEDQUANTIZER_H

#include "skim/Analysis/WeightReader.h"
#include "skim/Quantize/LayerCodes.h"
#include "skim/Quantize/Plan.h"
#include "skim/Quantize/RecordFile.h"
#include "skim/Quantize/Sensitivity.h"
#include "skim/Quantize/Statistics.h"

#include <map>
#include <memory>
#include <optional>
#include <string>

namespace skim {

/// How weights are quantized where more than their own numbers is known.
struct CalibratedOptions {
  std::string method;     ///< rtn, gptq, awq, kmeans, skim; empty: the best for each format
  std::string statistics; ///< a statistics file, or empty
  std::string record;     ///< the record that the plan was made from, or empty
  std::string plan;       ///< widths of the rows, or empty
  unsigned threads = 0;
};

/// A weight with its components' bytes, in the order of getComponents.
struct CalibratedWeight {
  std::vector<std::vector<uint8_t>> components;
  WeightErrors errors;
};

/// A linear that reads the same input as others; α is found for all of them together.
struct SharedInput {
  std::string layer;
  mlir::Operation *source;
};

/// Quantizes one weight at a time, whole, with the statistics of its layer.
class CalibratedQuantizer {
public:
  /// Null where `options` say nothing that needs this.
  static Expected<std::unique_ptr<CalibratedQuantizer>> create(const CalibratedOptions &options, WeightReader &reader);

  /// Whether a linear of that name in `encoding` is quantized here; others only
  /// need their own numbers. Fails where the method cannot make the format.
  Expected<bool> handles(const std::string &layer, WeightEncoding encoding) const;

  /// The layer's weight in `encoding`. `peers`: all linears that read its
  /// input, itself among them, for scales that they share.
  Expected<CalibratedWeight> quantize(const std::string &layer, mlir::Operation *source, WeightEncoding encoding,
                                      llvm::ArrayRef<SharedInput> peers);

  /// The first layer that reads `layer`'s input, as the statistics have it;
  /// empty without.
  std::string inputOf(const std::string &layer) const;

private:
  CalibratedQuantizer(const CalibratedOptions &options, WeightReader &reader) : options(options), reader(reader) {}
  std::string methodOf(const std::string &layer, WeightEncoding encoding) const;
  RecordOptions recordOptions() const;
  Expected<std::vector<float>> load(mlir::Operation *source, int64_t &rows, int64_t &columns);

  struct Work;
  Error codebook(Work &work, CodebookAttr format);
  Error planned(Work &work, mlir::Attribute format);
  Error scaled(Work &work, ScaledAttr format);
  Expected<FinishedLayer> finish(Work &work, std::span<const uint8_t> widths);
  bool isCoupled(const std::string &layer) const;
  Error couple(Work &work, DType table, FinishedLayer &layer);
  Error store(Work &work, mlir::Attribute encoding, FinishedLayer &finished);
  Error uniform(Work &work, UniformAttr format);
  Error scaledUniform(Work &work, ScaledAttr format, UniformAttr inner, llvm::ArrayRef<SharedInput> peers);

  CalibratedOptions options;
  WeightReader &reader;
  std::optional<Statistics> statistics;
  std::optional<Plan> plan;
  std::optional<RecordFile> record;
  /// α by shared input and format.
  std::map<std::string, std::vector<float>> alphas;
};

} // namespace skim

#endif // SKIM_LIB_TRANSFORMS_QUANTIZEWEIGHTS_CALIBRATEDQUANTIZER_H
