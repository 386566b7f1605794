//===- LayerCodes.h - the best codes of a layer at every width --*- C++ -*-===//
//
// Each row of a weight gets a table of 2^b values and codes into it, chosen for
// the layer's Sensitivity:
//  1. exact weighted k-means gives the tables of all widths at once (KMeans.h);
//  2. error feedback over the fixed table: columns in descending order of the
//     moment's diagonal, each rounded to the nearest entry, its error carried to
//     the columns that follow (GPTQ, ICLR 2023, with a table for its grid);
//  3. LNQ (GuidedQuant, ICML 2025): tables by least squares, alternated with
//     coordinate descent on the codes. The objective δ·Hg·δᵀ never rises.
//
// Recording does this cheaply for all widths and keeps errors and codes; then
// any allocation of widths to rows is finished from the record.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_LAYERCODES_H
#define SKIM_QUANTIZE_LAYERCODES_H

#include "skim/Quantize/Matrix.h"
#include "skim/Quantize/RowTerms.h"
#include "skim/Quantize/Sensitivity.h"

#include <memory>
#include <span>
#include <vector>

namespace skim {

struct CodeOptions {
  DType table = DType::I8; ///< I8 with an f16 scale a row, F16 or BF16
  /// The weights of k-means: the objective's diagonal, or the row's own G as in
  /// SKIM and SqueezeLLM (a sum over few sequences, and noisier).
  bool clusterByGradients = false;
  bool feedback = true; ///< step 2; off: the nearest entry
  int rounds = 1;       ///< LNQ rounds: error feedback again, `cycles` passes over the columns, least squares
  int cycles = 2;
  /// Added to the moment's diagonal for the feedback's inverse, of its mean.
  float damping = 0.01f;
  unsigned threads = 0; ///< 0: all CPUs; the result does not depend on it
};

/// Widths to record, and how.
struct RecordOptions : CodeOptions {
  RecordOptions() { rounds = 0; } // finishing begins with least squares and feedback anyway
  unsigned minBits = 1;
  unsigned maxBits = 5; ///< at most 8
  ErrorMeasure measure = ErrorMeasure::LossWeighted;
  /// Errors for the allocation are those of k-means, before steps 2 and 3: what
  /// these gain on the calibration's tokens is not all gained on others, and
  /// allocations by it are worse (docs/skim.md). Off: errors of the kept codes.
  bool errorsOfClusters = true;
  /// Errors of furtherTerms too, of rounding to the nearest code.
  bool allTerms = false;
};

/// Errors of every row at every width, with the codes that have them.
struct LayerRecord {
  int64_t rows = 0, columns = 0;
  unsigned minBits = 1, maxBits = 0;
  /// What `errors` has behind the codebooks' widths: furtherTerms, or nothing.
  std::vector<uint8_t> further;
  /// [N, terms]: errors[i · terms() + b − minBits], of what `codes` decode to or
  /// of k-means at that width (RecordOptions::errorsOfClusters), then of `further`.
  std::vector<float> errors;
  /// One a width, as quantizeCodebook makes them: `codes`, `table` and for I8
  /// `table_scale`.
  std::vector<QuantizedMatrix> codes;

  unsigned widths() const { return maxBits - minBits + 1; }
  size_t terms() const { return widths() + further.size(); }
  /// Of column i of the errors.
  uint8_t term(size_t i) const { return i < widths() ? uint8_t(minBits + i) : further[i - widths()]; }
  float error(int64_t row, unsigned bits) const { return errors[row * terms() + bits - minBits]; }
};

/// Fails at NaN or infinity in `weights` (row and column) and where a table
/// exceeds its type.
Expected<LayerRecord> recordLayer(const std::string &name, const MatrixView &weights, const Sensitivity &sensitivity,
                                  const RecordOptions &options);

/// A moment as solvers want it (lib/Quantize/RowTile.h).
struct Objective;

struct FinishOptions : CodeOptions {
  /// A scaling vector over the columns ([K], as it will be stored in f16), or
  /// empty: codes and tables then stand for w/α. See Skim.h for its training.
  std::vector<float> alpha;
  FinishOptions() {
    rounds = 3;
    cycles = 2;
  }
};

/// The rows of a layer that have one term.
struct LayerPart {
  uint8_t bits = 0; ///< the term (RowTerm)
  /// Rows in storage order; components as quantizeCodebook or quantizeUniform makes them.
  QuantizedMatrix matrix;
};

/// A layer as `#skim.rows<[codebook<bits = …> : n, …]>` stores it.
struct FinishedLayer {
  std::vector<LayerPart> parts; ///< ascending terms, none empty
  /// Stored row i is logical row permutation[i]; ascending within a part.
  std::vector<uint32_t> permutation;
  std::vector<double> errors; ///< [N] by logical row, LossWeighted, of what is stored
  std::vector<double> lFull;  ///< [N] by logical row, LFull, likewise
  /// The one moment that all rows were finished under, for who goes on with them;
  /// null with several groups or a scaling vector.
  std::shared_ptr<const Objective> objective;
};

/// Polishes the recorded codes of each row at its chosen term ([N], codebooks
/// within the record's widths). With `rounds = 0` the recorded codes are stored
/// as they are. Uniform rows take the same steps from grids with a clipping search,
/// rows of f16 tables from k-means, and rows that share a table from k-means over
/// all of them, with least squares over all of them.
Expected<FinishedLayer> finishLayer(const std::string &name, const LayerRecord &record, std::span<const uint8_t> bits,
                                    const MatrixView &weights, const Sensitivity &sensitivity,
                                    const FinishOptions &options = {});

/// The whole weight at one width without a record (uniform rows, ablations).
Expected<QuantizedMatrix> quantizeLayer(const std::string &name, const MatrixView &weights,
                                        const Sensitivity &sensitivity, unsigned bits, const CodeOptions &options);

/// Decodes components `codes`, `table` (and `table_scale`) of row tables to f32
/// [N,K] in `out`.
void decodeCodebook(const QuantizedMatrix &matrix, const CodebookFormat &format, float *out, int64_t stride,
                    unsigned threads = 0);

} // namespace skim

#endif // SKIM_QUANTIZE_LAYERCODES_H
