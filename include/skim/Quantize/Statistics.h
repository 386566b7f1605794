//===- Statistics.h - what calibration found out about a model --*- C++ -*-===//
//
// STATS is one safetensors file a model. Sums run over the calibration's
// sequences and are not normalized; x: input of a linear layer [tokens, K],
// z: its output [tokens, N], loss: mean negative log likelihood of a sequence.
//
// Once a shared input, under the first layer that reads it:
//   L.input_second_moment   F32 [K(K+1)/2]      Σ x·xᵀ, upper triangle, row by row
//   L.input_first_moment    F32 [K]             Σ x
//   L.input_abs_max         F32 [K]             max |x|
// Per layer:
//   L.guided_second_moment      F32 [(G,) K(K+1)/2] Σ s·x·xᵀ, s: mean of (∂loss/∂z)² over the layer's outputs of
//                               a group (GuidedQuant); where a layer has none, that of its input's first reader
//   L.squared_gradient          BF16 [N,K]  with
//   L.squared_gradient_scale    F32 [N]     G = product = Σ over sequences (∂loss/∂w)² (SKIM)
//   L.squared_gradient_residual U16 [N,K]   optional: what bf16 rounded away, for merging
//   L.output_squared_gradient   F32 [N]     Σ over tokens (∂loss/∂z)²
//   L.output_gradient_second_moment F32 [N(N+1)/2] optional: Σ over tokens (∂loss/∂z)·(∂loss/∂z)ᵀ, packed like the
//                               others, with output_squared_gradient on its diagonal (to f32's rounding): what
//                               couples a matrix's rows. Files made before it was summed have none
// Metadata: format, version, model_hash, text_hash, options (JSON), tokens,
// sequences, reads (JSON: layer → the first layer that reads the same input).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_STATISTICS_H
#define SKIM_QUANTIZE_STATISTICS_H

#include "skim/Support/Error.h"
#include "skim/Support/Safetensors.h"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// Elements of a packed triangle of order k.
constexpr int64_t triangleSize(int64_t k) { return k * (k + 1) / 2; }
/// Place of element (i, j), i ≤ j, in a packed triangle of order k.
constexpr int64_t triangleIndex(int64_t k, int64_t i, int64_t j) { return i * k - i * (i - 1) / 2 + (j - i); }
/// Expands a packed triangle to a full symmetric [k,k] row-major matrix.
void unpackTriangle(std::span<const float> packed, int64_t k, float *full);

/// What a file holds about a layer; views into the mapping.
struct LayerStatistics {
  /// The first layer that reads the same input: whose moments these are.
  std::string input;
  /// Outputs N (0 where the file has no gradients of the layer) and inputs K.
  int64_t rows = 0, columns = 0;
  /// [K(K+1)/2]
  std::span<const float> secondMoment;
  /// [groups, K(K+1)/2]; empty without gradients.
  std::span<const float> guidedMoment;
  /// [K]
  std::span<const float> firstMoment, absMax;
  /// [N]; empty without gradients.
  std::span<const float> outputSquaredGradient, squaredGradientScale;
  /// Σ dz·dzᵀ [N(N+1)/2], packed; empty without gradients, for the head and in files that lack it.
  std::span<const float> outputMoment;
  /// bf16 [N,K]; empty without gradients, and for the head.
  std::span<const uint16_t> squaredGradient;
  /// [N,K]; empty unless the file can be merged exactly.
  std::span<const uint16_t> squaredGradientResidual;
  /// Groups of outputs that guidedMoment has.
  int groups = 1;

  /// Squared gradients of row `row` [K] as f32.
  void squaredGradientRow(int64_t row, float *out) const;
};

/// A mapped statistics file whose tensors were all checked against each other.
class Statistics {
public:
  /// Fails in one line if the file is no statistics file or of another version,
  /// a tensor is missing or has another shape or type than its layer's others.
  static Expected<Statistics> open(const std::string &path);

  /// The layer's statistics, or null.
  const LayerStatistics *find(std::string_view layer) const;
  /// Fails naming the file where the layer is missing or is not [rows, columns].
  Expected<const LayerStatistics *> get(std::string_view layer, int64_t rows, int64_t columns) const;
  /// All layers, by name.
  const std::map<std::string, LayerStatistics, std::less<>> &layers() const { return byName; }

  uint64_t tokens() const { return tokenCount; }
  uint64_t sequences() const { return sequenceCount; }
  /// SHA-256 of the model that was calibrated, and of the token ids.
  const std::string &modelHash() const { return model; }
  const std::string &textHash() const { return text; }
  /// The calibration's options, a JSON object.
  const std::string &options() const { return optionText; }
  bool hasGradients() const { return gradients; }
  const std::string &path() const { return file->path(); }
  /// Fails if these are statistics of another model.
  Error checkModel(const std::string &hash) const;

private:
  std::shared_ptr<const SafetensorsFile> file;
  std::map<std::string, LayerStatistics, std::less<>> byName;
  uint64_t tokenCount = 0, sequenceCount = 0;
  std::string model, text, optionText;
  bool gradients = false;
};

/// A layer as the writer declares it.
struct StatisticsLayer {
  std::string name;
  /// The first layer that reads the same input (its own name if none before).
  std::string input;
  int64_t rows = 0, columns = 0;
  bool gradients = true;
  /// False for the head: guided moment and outputs' energy, but no gradients of its weights.
  bool weights = true;
  /// With gradients of the weights: whether the file has the second moment of the output's gradients.
  bool outputMoment = false;
};

/// What stands in a file's metadata.
struct StatisticsFacts {
  std::string modelHash, textHash, options = "{}";
  uint64_t tokens = 0, sequences = 0;
  bool gradients = true;
  int groups = 1;
};

/// Writes a statistics file; it appears at finish(). Layers may be written in
/// any order, from any thread, each once.
class StatisticsWriter {
public:
  static Expected<StatisticsWriter> create(const std::string &path, std::vector<StatisticsLayer> layers,
                                           const StatisticsFacts &facts, SafetensorsWriter::Options options = {});

  /// Moments of the input of layer `index`, which is its first reader; `second` is packed.
  Error writeInput(size_t index, std::span<const float> second, std::span<const float> first,
                   std::span<const float> absMax);
  /// [groups, K(K+1)/2]
  Error writeGuided(size_t index, std::span<const float> guided);
  /// Rows [begin, begin + n) of layer `index`'s squared gradients: f32 sums [n,K].
  Error writeSquaredGradients(size_t index, int64_t begin, std::span<const float> sums);
  /// [N]
  Error writeOutputGradients(size_t index, std::span<const float> sums);
  /// [N(N+1)/2], packed; for layers declared with one.
  Error writeOutputMoment(size_t index, std::span<const float> packed);
  /// All tensors of layer `index` were written by the run that is resumed.
  void adopt(size_t index);
  /// True if options.resume found unfinished work of the same layers and facts.
  bool resumed() const { return writer.resumed(); }
  Error finish() { return writer.finish(); }

  const std::vector<StatisticsLayer> &layers() const { return declared; }

private:
  struct Places {
    size_t second = 0, first = 0, absMax = 0, guided = 0, output = 0, outputMoment = 0, gradient = 0, scale = 0,
           residual = 0;
    size_t begin = 0, end = 0; // all of the layer's
  };
  StatisticsWriter(SafetensorsWriter writer) : writer(std::move(writer)) {}
  SafetensorsWriter writer;
  std::vector<StatisticsLayer> declared;
  std::vector<Places> places;
};

/// The sum of several files of the same model and options: as if one run had
/// seen all their sequences (within 1e-6; the order of `inputs` does not
/// matter). Fails where models, options or layers differ, or a file occurs twice.
Error mergeStatistics(const std::vector<std::string> &inputs, const std::string &output);

} // namespace skim

#endif // SKIM_QUANTIZE_STATISTICS_H
