//===- Accumulate.h - sums over sequences, for one part ---------*- C++ -*-===//
#ifndef SKIM_LIB_CALIBRATE_ACCUMULATE_H
#define SKIM_LIB_CALIBRATE_ACCUMULATE_H

#include "Scratch.h"
#include "skim/Calibrate/BlockModel.h"
#include "skim/Quantize/Statistics.h"

#include <vector>

namespace skim {

/// What one sequence gives a part's sums.
struct SequenceObservation {
  int64_t tokens = 0;
  std::vector<std::vector<float>> x;  ///< by input: [tokens, K]
  std::vector<std::vector<float>> dz; ///< by layer: [tokens, N]; only where weights' gradients are summed
  // Derived by PartSums::derive; for GradientSums::Outputs the two of gradients are given.
  std::vector<std::vector<float>> sensitivity; ///< by layer: [groups, tokens], mean of dz² over a group's outputs
  std::vector<std::vector<double>> outputSquares, firstMoment;
  std::vector<std::vector<float>> absMax;

  std::vector<float *> inputs();
  std::vector<float *> adjoints();
};

/// Which sums of gradients a part has.
enum class GradientSums {
  None,
  Outputs, ///< guided moments and outputs' energy, which the observer gives: the head's
  All,     ///< these from dz, and the squared gradients of the weights
};

/// The sums of one part, in f64 in a scratch file. Products of a sequence are
/// f32, made by BLAS in tiles of fixed size, and added in the order of the
/// sequences: the bytes do not depend on threads or on how sequences are batched.
class PartSums {
public:
  /// Sums of a part's layers and inputs. `path`: the scratch file.
  static Expected<PartSums> create(const std::string &path, const std::vector<PartLayer> &layers,
                                   const std::vector<PartInput> &inputs, int groups, GradientSums gradients);

  /// Makes room for a sequence.
  void prepare(SequenceObservation &one, int64_t tokens) const;
  /// What follows from x and dz by themselves; fails naming the layer where one is no number.
  Error derive(SequenceObservation &one) const;
  /// Adds sequences in their order.
  void add(std::vector<SequenceObservation> &sequences, size_t count, unsigned threads);
  /// Writes the part's layers, of which `first` is the number of the first in the writer.
  Error write(StatisticsWriter &writer, size_t first) const;
  /// Bytes that one token needs in a SequenceObservation.
  int64_t bytesPerToken() const;

private:
  enum class MomentOf {
    Input,       ///< Σ x·xᵀ of inputs[index]
    GuidedInput, ///< Σ s·x·xᵀ of the input of layers[index], s its sensitivity in a group
    Output,      ///< Σ dz·dzᵀ of layers[index]
  };
  /// A square of second moments, upper tiles only.
  struct Moment {
    MomentOf kind;
    size_t index;
    int group;
    double *sums;
  };
  struct Task {
    const Moment *moment; ///< null: squared gradients of `layer`
    size_t layer;
    int64_t row, column;
    double *sums;
  };
  PartSums(Scratch scratch) : scratch(std::move(scratch)) {}
  int64_t orderOf(const Moment &moment) const;
  void run(const Task &task, const std::vector<SequenceObservation> &sequences, size_t count,
           std::vector<float> &product, std::vector<float> &scaled) const;
  std::vector<float> packed(const Moment &moment) const;

  Scratch scratch;
  std::vector<PartLayer> layers;
  std::vector<PartInput> inputs;
  int groups = 1;
  GradientSums gradients = GradientSums::None;
  std::vector<Moment> moments;
  std::vector<double *> squares; // by layer
  std::vector<Task> tasks;
  std::vector<std::vector<double>> outputSquares, firstMoment;
  std::vector<std::vector<float>> absMax;
};

} // namespace skim

#endif // SKIM_LIB_CALIBRATE_ACCUMULATE_H
