//===- Codebook.h - weights as indices into small tables --------*- C++ -*-===//
#ifndef SKIM_QUANTIZE_CODEBOOK_H
#define SKIM_QUANTIZE_CODEBOOK_H

#include "skim/Quantize/Matrix.h"

#include <memory>
#include <span>

namespace skim {

class KMeans1D;

/// A table as it is stored, and the values that it decodes to.
struct StoredTable {
  std::vector<uint8_t> bytes; ///< 2^bits entries in the format's table type
  std::vector<uint8_t> scale; ///< I8: one f16; else empty
  std::vector<float> values;  ///< decoded, ascending
};

/// The exact k-means optimum of the values in `solver` (which was fitted to at
/// least 2^bits centroids), rounded to the format's table type. Rounding moves
/// centroids, so assignment and means are repeated on the rounded table while
/// that lowers the error. Fails if an entry exceeds the type; `where` names the row.
Expected<StoredTable> roundTable(const KMeans1D &solver, const CodebookFormat &format, const std::string &where);

/// Quantizes a block of rows to `#skim.codebook` with a table a row: the exact
/// optimum of Σ weight·(w − T[q])² for each row.
///
/// `weights`: the same shape (stride 0: shared by the rows), or empty for ones.
/// Components: `codes` U8 [N, ⌈K·bits/8⌉], LSB first; `table` [N, 2^bits] in
/// the format's type, ascending; I8: `table_scale` F16 [N].
///
/// Fails at a NaN, an infinity or a negative weight (row and column) and where
/// a table entry exceeds its type (row).
Expected<QuantizedMatrix> quantizeCodebook(const MatrixView &block, const MatrixView &weights,
                                           const CodebookFormat &format, const QuantizeOptions &options);

/// One table for a whole weight (`scope = tensor`), in two passes over its
/// blocks: add() each, solve(), then encode() each.
///
/// Values are collected in bins of 11 mantissa bits, each represented by its
/// weighted mean: exact for f16 and bf16 weights (bins hold one value), within
/// 2^-12 of a value otherwise, in 32 MiB for any size.
class SharedTableFit {
public:
  explicit SharedTableFit(CodebookFormat format);
  Error add(const MatrixView &block, const MatrixView &weights, const QuantizeOptions &options);
  Expected<StoredTable> solve() const;

private:
  struct Bin {
    double weight = 0, sum = 0, plainSum = 0;
    uint64_t count = 0;
  };
  CodebookFormat format;
  std::vector<Bin> bins;
};

/// Encodes a block with one given table. Components: `codes`, `table`
/// [1, 2^bits] and for I8 `table_scale` [1].
Expected<QuantizedMatrix> encodeWithTable(const MatrixView &block, const CodebookFormat &format,
                                          const StoredTable &table, const QuantizeOptions &options);

} // namespace skim

#endif // SKIM_QUANTIZE_CODEBOOK_H
