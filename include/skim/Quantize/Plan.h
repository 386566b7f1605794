//===- Plan.h - which format every layer gets -------------------*- C++ -*-===//
//
// What allocation decides and quantization carries out, as a JSON file that a
// person can read, change and give back (`skim quantize --plan`):
//   {"format": "skim-plan", "version": 1, "method": "skim", "model_hash": …,
//    "bits": 2.9997, "bytes": 39811200, "record": {"min_bits": 1, "max_bits": 5, "table": "i8"},
//    "layers": {"model.layers.0.mlp.up_proj": {"term": "#skim.rows<[…]>",
//               "widths": "3323…", "method": "skim", "error": 1.2e-5, "bytes": 331776}}}
// `widths` has a letter a row, in logical order, for rows of mixed terms (RowTerm), of 1 to 8 bits:
//   1 … 8  codebooks                 i … p  codebooks with one f16 table for all these rows
//   a … h  uniform, symmetric        I … P  codebooks with f16 tables
//   A … H  uniform, a zero in f16    q … x, Q … X  uniform in groups of 64, symmetric and with a zero in f16
// `error` is what allocation expects to lose.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_PLAN_H
#define SKIM_QUANTIZE_PLAN_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace skim {

struct LayerPlan {
  std::string term;            ///< `w4g128`, `#skim.…`
  std::string method;          ///< of the quantizer; empty: the plan's
  std::vector<uint8_t> widths; ///< [N] term of each logical row (RowTerm); empty: the term says all
  double error = 0;            ///< expected loss-weighted error
  uint64_t bytes = 0;
};

struct Plan {
  std::string method;    ///< rtn, gptq, awq, kmeans, skim
  std::string modelHash; ///< of the ONNX file; empty: any model
  double bits = 0;       ///< true bits of the linears
  uint64_t bytes = 0;    ///< of the linears
  /// The record of errors and codes that it was made from (RecordFile.h).
  unsigned minBits = 1, maxBits = 5;
  std::string table = "i8"; ///< i8, f16 or bf16
  bool asPublished = false;
  bool allTerms = false; ///< the record has further terms than codebooks (furtherTerms)
  bool scaled = false;   ///< linears get a scaling vector α over their columns
  std::map<std::string, LayerPlan> layers;

  /// Fails, naming file and place, where the JSON is not a plan of this version.
  static Expected<Plan> read(const std::string &path);
  /// Writes the file whole or not at all.
  Error write(const std::string &path) const;
  /// The layer's entry, or null.
  const LayerPlan *find(const std::string &layer) const {
    auto found = layers.find(layer);
    return found == layers.end() ? nullptr : &found->second;
  }
};

} // namespace skim

#endif // SKIM_QUANTIZE_PLAN_H
