//===- StoredRows.h - rows of codes and tables as components ----*- C++ -*-===//
#ifndef SKIM_LIB_QUANTIZE_STOREDROWS_H
#define SKIM_LIB_QUANTIZE_STOREDROWS_H

#include "RowTile.h"
#include "skim/Quantize/Codebook.h"

#include <vector>

namespace skim {

/// Components of that shape, all zeros.
QuantizedMatrix emptyCodebook(unsigned bits, DType table, int64_t rows, int64_t columns);

/// Likewise of rows in a term (RowTerm); `table`: of codebooks.
QuantizedMatrix emptyRows(uint8_t term, DType table, int64_t rows, int64_t columns);
/// A tile for rows in a term. A table that rows share stays as it is.
RowTile tileOf(uint8_t term, const Objective &objective, DType table);
/// A stored row in a term into a lane, whose weights are not touched, and back (a table that rows share is not stored).
void loadLane(RowTile &tile, int64_t lane, const QuantizedMatrix &matrix, int64_t row, uint8_t term, DType table);
void storeLane(const RowTile &tile, int64_t lane, QuantizedMatrix &matrix, int64_t row, uint8_t term, DType table);

/// Puts a row's codes and table (values on the grid of `type` and `scale`) into `out`.
void storeRow(QuantizedMatrix &out, int64_t row, unsigned bits, DType type, const std::vector<uint8_t> &codes,
              const std::vector<float> &values, float scale);

/// A row's table as it decodes; returns I8's scale.
float loadTable(const QuantizedMatrix &matrix, int64_t row, DType type, std::vector<float> &values);

/// The scale of a table as roundTable makes it; 0 for other types than I8.
float scaleOf(const StoredTable &table);

/// Adds Σ (w − ŵ)² and Σ w² of a row to `out`.
void addSquares(QuantizedMatrix &out, const float *row, const float *decoded);

/// Fails, naming row and column, at the first weight that is not finite.
Error checkWeights(const std::string &name, const MatrixView &weights);

} // namespace skim

#endif // SKIM_LIB_QUANTIZE_STOREDROWS_H
