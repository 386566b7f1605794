//===- Sensitivity.h - what the error of a linear layer costs ---*- C++ -*-===//
//
// A row w of a weight that becomes ŵ changes the model's loss by about
// Σ_t g_t²·(δ·x_t)² with δ = ŵ − w, x_t the input of token t and g_t the loss
// gradient at the row's output: the block-diagonal Fisher (GuidedQuant, ICML
// 2025). Statistics hold its parts:
//   Hg = Σ_t s_t·x_t·x_tᵀ, s the token's mean squared output gradient (guided),
//   H  = Σ_t x_t·x_tᵀ (plain: L-full of SqueezeLLM and SKIM),
//   G  = Σ (∂loss/∂w)² (S-diag), and each row's output gradient energy.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_SENSITIVITY_H
#define SKIM_QUANTIZE_SENSITIVITY_H

#include "skim/Quantize/Matrix.h"

#include <span>
#include <string>
#include <vector>

namespace skim {

struct LayerStatistics;

/// What a row's error is measured by.
enum class ErrorMeasure {
  /// δ·M·δᵀ × row weight, M the objective: comparable over the whole model if
  /// there are gradients.
  LossWeighted,
  LFull, ///< δ·H·δᵀ: SKIM's allocation and scaling loss
  LDiag, ///< Σ_j H_jj·δ_j²
  SDiag, ///< Σ_j G_j·δ_j²
};

struct SensitivityOptions {
  /// Use the guided moment where the statistics have one.
  bool guided = true;
  /// Weigh rows with their output gradient energy ÷ its mean over the matrix.
  bool rowWeights = true;
  /// Guided moments are sums over few tokens, since a few have most of the
  /// gradient: codes fit them too well. This share of the moment is the plain
  /// one at the same trace: (1 − p)·Hg + p·H·tr(Hg)/tr(H).
  float plainShare = 0.7f;
  /// Added to the diagonal of the moment that codes are optimised for, of its
  /// mean, for the same reason. Not to the plain moment of the other measures.
  float ridge = 0.05f;
};

/// What one linear layer is judged by. Moments are divided by the mean of their
/// diagonal only inside of solvers: errors keep the units of the statistics.
class Sensitivity {
public:
  /// From the statistics of a layer of `rows` outputs. Fails, naming `layer` and
  /// the tensor, where sizes do not fit, a value is NaN or infinite, or a sum of
  /// squares is negative.
  /// Stated fallbacks:
  ///  - no guided moment: the plain one; no output gradients: row weights 1;
  ///  - no squared gradients, or a row of them that is zero: that row's G is
  ///    the moment's diagonal;
  ///  - a moment of zeros only (no token reached the layer): the unit matrix;
  ///  - columns that calibration never activates cost the ridge only: they are
  ///    rounded to the nearest entry and influence no other.
  static Expected<Sensitivity> create(const LayerStatistics &statistics, int64_t rows, const std::string &layer,
                                      const SensitivityOptions &options = {});

  /// From matrices: `moment` and `guided` [K,K] row-major (guided may be
  /// empty), `squaredGradients` [N,K] and `outputEnergy` [N] (may be empty).
  static Expected<Sensitivity> fromMatrices(int64_t rows, int64_t columns, std::span<const float> moment,
                                            std::span<const float> guided, std::span<const float> squaredGradients,
                                            std::span<const float> outputEnergy, const std::string &layer,
                                            const SensitivityOptions &options = {});

  /// Without statistics: every weight counts alike.
  static Sensitivity unit(int64_t rows, int64_t columns);

  int64_t rows() const { return numRows; }
  int64_t columns() const { return numColumns; }
  bool guided() const { return isGuided; }

  /// Row groups with moments of their own (1 unless calibrated with more):
  /// rows [begin, end) of group g, in order.
  int64_t groups() const { return int64_t(moments.size()); }
  int64_t groupBegin(int64_t group) const { return group * numRows / groups(); }
  int64_t groupEnd(int64_t group) const { return groupBegin(group + 1); }
  /// The moment M that codes are optimised for: the guided one (if there is
  /// one) mixed with the plain one, and the ridge. [K,K].
  const std::vector<float> &objective(int64_t group = 0) const { return moments[group]; }
  /// The plain moment. [K,K].
  const std::vector<float> &plain() const { return plainMoment; }
  /// [N], mean 1 (or all ones).
  const std::vector<float> &rowWeights() const { return weightOfRow; }
  /// G: [N,K], or one row for all (stride 0).
  MatrixView elementWeights() const {
    return MatrixView(element.data(), numRows, numColumns, sharedElement ? 0 : numColumns);
  }

  /// The error of each row of `approximation` against `weights`. [N].
  std::vector<double> rowErrors(const MatrixView &weights, const MatrixView &approximation,
                                ErrorMeasure measure = ErrorMeasure::LossWeighted, unsigned threads = 0) const;

private:
  int64_t numRows = 0, numColumns = 0;
  bool isGuided = false, sharedElement = false;
  std::vector<std::vector<float>> moments; // [groups][K·K]
  std::vector<float> plainMoment;          // [K·K]
  std::vector<float> weightOfRow, element;
};

/// What a package's ledger says of a weight.
struct WeightErrors {
  double squaredError = 0, squaredNorm = 0; ///< Σ(w − ŵ)², Σw²
  double outputError = 0;                   ///< Σ δHδᵀ ÷ Σ wHwᵀ: relative squared error of the layer's output
  double lossError = 0;                     ///< Σ δHgδᵀ · row weight

  /// `decoded`: ŵ.
  static WeightErrors of(const MatrixView &weights, const MatrixView &decoded, const Sensitivity &sensitivity,
                         unsigned threads = 0);
};

} // namespace skim

#endif // SKIM_QUANTIZE_SENSITIVITY_H
