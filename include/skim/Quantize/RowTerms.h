//===- RowTerms.h - how a row of a mixed weight is stored -------*- C++ -*-===//
//
// Rows of one weight choose among terms of the algebra. A term is one number: a
// kind and its bits.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_ROWTERMS_H
#define SKIM_QUANTIZE_ROWTERMS_H

#include "skim/Quantize/Matrix.h"

#include <optional>
#include <span>
#include <vector>

namespace skim {

/// The kind of a term; the term is this plus 1 to 8 bits.
enum RowTerm : uint8_t {
  CodebookRow = 0,   ///< a table of its own, of the type that the record's tables have
  UniformRow = 16,   ///< symmetric, scale in f16
  AffineRow = 32,    ///< asymmetric, scale and zero in f16
  SharedRow = 48,    ///< one f16 table for all rows of the weight that have this term
  HalfRow = 64,      ///< a table of its own in f16
  Uniform64Row = 80, ///< symmetric, a scale in f16 for each 64 columns
  Affine64Row = 96,  ///< asymmetric, scale and zero in f16 for each 64
};
inline unsigned bitsOf(uint8_t term) { return term & 15u; }
inline RowTerm kindOf(uint8_t term) { return RowTerm(term & 0xF0u); }
/// Codes on grids; the others have tables.
bool isUniform(uint8_t term);
/// Of a uniform term.
UniformFormat uniformFormatOf(uint8_t term);
/// Of a term with tables; `table`: the type of CodebookRow's.
CodebookFormat codebookFormatOf(uint8_t term, DType table);
/// The type of a term's tables.
DType tableOf(uint8_t term, DType table);

/// Bytes of a row in a term, without a table that it shares.
uint64_t storedRowBytes(uint8_t term, DType table, int64_t columns);
/// Bytes of the table that all rows of a term share; 0 where they have their own.
uint64_t sharedTableBytes(uint8_t term);

/// One letter for a term, as plans spell the rows of a layer, and back (none:
/// no such letter).
char letterOf(uint8_t term);
std::optional<uint8_t> termOfLetter(char letter);

/// The terms besides codebooks of the record's widths that rows of so many
/// columns are recorded in. Where rows are long, tables cost nearly nothing, and
/// tuning has more to train in them; where they are short, what they store
/// beside their codes decides (docs/skim.md).
std::vector<uint8_t> furtherTerms(int64_t columns);

/// What a layer's rows may choose among: each a list of terms, all of them
/// codebooks of minBits to maxBits or furtherTerms. The first has no term that
/// shares a table or groups columns; the others have it and a few of these.
std::vector<std::vector<uint8_t>> termFamilies(int64_t columns, unsigned minBits, unsigned maxBits);

/// What errors in a family count for beside others'. A layer takes grids in groups
/// for a gain that is more than what calibration's tokens alone promise, and worth
/// further parts of its kernels (docs/skim.md).
double familyMargin(std::span<const uint8_t> family);

} // namespace skim

#endif // SKIM_QUANTIZE_ROWTERMS_H
