//===- BlockModel.h - a model in compiled parts -----------------*- C++ -*-===//
//
// What calibration and tuning run: the loss of a sequence in parts (decoder
// blocks, then final norm, head and loss), each compiled with its reverse mode
// for dense f32 weights that the caller passes. One part's weights are in memory
// at a time, hidden states go in and out as arrays.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_CALIBRATE_BLOCKMODEL_H
#define SKIM_CALIBRATE_BLOCKMODEL_H

#include "skim/Support/Error.h"
#include "skim/Support/MatrixSource.h"
#include "skim/Target/CPU/TensorLibrary.h"

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace skim {

/// A linear layer of a part.
struct PartLayer {
  std::string name;
  int64_t rows = 0, columns = 0;
  size_t input = 0;  ///< which of the part's inputs it reads
  size_t weight = 0; ///< which of the part's weights it is
};

/// A shared input of linear layers of a part.
struct PartInput {
  size_t firstLayer = 0; ///< the first layer of the part that reads it
  int64_t columns = 0;
};

/// A root mean square norm of a part.
struct PartNorm {
  /// Which of the part's weights scales it; none where it shares that with others, or computes it.
  std::optional<size_t> weight;
  int64_t channels = 0;
  float offset = 0; ///< what is added to the weight
};

/// Which adjoints a model's functions have: `Hidden` for those of hidden states,
/// inputs and outputs of linears, `Norms` for those of the norms' weights, too.
enum class Reverse { None, Hidden, Norms };

/// Dense weights of one part: linears, norms, tables, in the order of its function.
struct PartWeights {
  std::vector<std::vector<float>> arrays;
};

class BlockModel {
public:
  /// Outlines, differentiates and compiles a raised model. `base`: the folder
  /// that the externals' file names start from. The module is consumed.
  /// Fails on a model that has no decoder blocks, or with weights that are
  /// quantized already.
  static Expected<std::unique_ptr<BlockModel>> build(mlir::ModuleOp raised, const std::string &base, Reverse reverse);

  /// Parts in the model's order; the last one is the head with the loss.
  size_t parts() const { return partList.size(); }
  size_t head() const { return partList.size() - 1; }
  const std::vector<PartLayer> &layers(size_t part) const { return partList[part].layers; }
  const std::vector<PartInput> &inputs(size_t part) const { return partList[part].inputs; }
  /// Every norm of the part, in its order.
  const std::vector<PartNorm> &norms(size_t part) const { return partList[part].norms; }
  /// Channels of the hidden state between parts.
  int64_t hiddenSize() const { return hidden; }
  int64_t vocabulary() const { return static_cast<int64_t>(embedding->rows()); }
  bool hasGradients() const { return reverse != Reverse::None; }
  /// Distinct functions that were compiled, for reports.
  size_t functions() const { return distinct; }

  Expected<PartWeights> load(size_t part) const;

  // All of the following may run on any number of threads at once. `tokens` are
  // the n input tokens of one sequence, hidden states [n, hiddenSize()].

  /// The first hidden state.
  void embed(std::span<const int32_t> tokens, float *out) const;
  /// The next hidden state of a part that is not the head.
  void forward(size_t part, const PartWeights &weights, std::span<const int32_t> tokens, const float *in,
               float *out) const;
  /// Of a model without gradients: the same (for the head without `out`) with each shared input x [n, K] in the order
  /// of inputs(part).
  void observe(size_t part, const PartWeights &weights, std::span<const int32_t> tokens, const float *in, float *out,
               std::span<float *const> x) const;
  /// Of a model with gradients: adjoint of the input from that of the output, each shared input x [n, K], and
  /// the adjoint dz [n, N] of each layer's output, in the order of layers(part); with Reverse::Norms also the adjoint
  /// [channels] of each norm that has a weight, summed over tokens.
  void backward(size_t part, const PartWeights &weights, std::span<const int32_t> tokens, const float *in,
                const float *outAdjoint, float *inAdjoint, std::span<float *const> x, std::span<float *const> dz,
                std::span<float *const> norms = {}) const;
  /// Loss in nats of each of the n targets.
  void loss(const PartWeights &weights, std::span<const int32_t> targets, const float *in, float *losses) const;
  /// Adjoint of the head's input from that of each loss; x [n, K], the head's own input, and dz [n, vocabulary()], the
  /// adjoint of its logits.
  void lossBackward(const PartWeights &weights, std::span<const int32_t> targets, const float *in,
                    const float *lossAdjoint, float *inAdjoint, float *x, float *dz) const;

  /// The head's logits [n, vocabulary()] of `count` hidden states, and the adjoint of
  /// these (and, with Reverse::Norms, of the head's norms) from that of the logits. With gradients only.
  void logits(const PartWeights &weights, size_t count, const float *in, float *out) const;
  void logitsBackward(const PartWeights &weights, size_t count, const float *in, const float *outAdjoint,
                      float *inAdjoint, std::span<float *const> norms = {}) const;

private:
  /// Where a function's argument comes from.
  enum class Source { Hidden, Tokens, Targets, Weight };
  struct Weight {
    std::optional<MatrixSource> matrix;
    std::vector<float> values; // where there is no file
    int64_t elements = 0;
  };
  struct Part {
    std::vector<PartLayer> layers;
    std::vector<PartInput> inputs;
    std::vector<PartNorm> norms;
    std::vector<Source> arguments;
    std::vector<Weight> weights;
    const TensorLibrary::Function *forward = nullptr, *observe = nullptr, *backward = nullptr;
    // By result of `backward` behind the adjoints: an input's number, or a layer's.
    std::vector<std::pair<bool, size_t>> observed;
  };
  class Builder;
  void gather(const Part &part, const PartWeights &weights, const int32_t *tokens, const float *in,
              std::vector<const void *> &out) const;

  std::vector<Part> partList;
  std::optional<MatrixSource> embedding;
  std::unique_ptr<TensorLibrary> library;
  const TensorLibrary::Function *headLogits = nullptr, *headLogitsBackward = nullptr;
  int64_t hidden = 0;
  size_t distinct = 0;
  Reverse reverse = Reverse::None;
};

} // namespace skim

#endif // SKIM_CALIBRATE_BLOCKMODEL_H
