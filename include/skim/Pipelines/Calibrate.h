//===- Calibrate.h - from a model and text to statistics --------*- C++ -*-===//
#ifndef SKIM_PIPELINES_CALIBRATE_H
#define SKIM_PIPELINES_CALIBRATE_H

#include "skim/Calibrate/Calibrate.h"

#include <string>
#include <vector>

namespace skim {

/// Imports and raises `model` (ONNX) and compiles its parts, for calibration and
/// tuning. Null with `failures` where something is unsupported. `context`, if not
/// null, receives the most tokens of a text.
std::unique_ptr<BlockModel> openBlockModel(const std::string &model, Reverse reverse, std::vector<Failure> &failures,
                                           int64_t *context = nullptr);

struct CalibrateModelOptions {
  std::string model;     ///< MODEL.onnx
  std::string tokenizer; ///< file or folder; empty: beside the model
  /// Texts, or token ids; one of the two.
  std::vector<std::string> text;
  std::vector<std::vector<int32_t>> tokenIds;
  /// Sequences and tokens in each; 0: 32 of 512 tokens (or the model's context)
  /// from texts, everything from token ids.
  int64_t sequences = 0, length = 0;
  /// Which windows of the texts: 0 the first ones, else spread evenly over them.
  uint64_t seed = 0;
  CalibrateOptions calibrate; ///< all but sequences, modelHash and description
};

/// Runs it all; false with failures.
bool calibrateModel(const CalibrateModelOptions &options, CalibrateReport &report, std::vector<Failure> &failures);

/// The sequences that calibration sees: windows of the texts, or the token ids.
/// Fails on texts that are too short or not UTF-8, and without a tokenizer.
Expected<std::vector<std::vector<int32_t>>> calibrationSequences(const CalibrateModelOptions &options, int64_t context);

/// Windows of `length` tokens, `count` of them, from texts of these tokens: with
/// `seed` 0 the first, else one from each of `count` equal stretches.
std::vector<std::vector<int32_t>> chooseWindows(const std::vector<std::vector<int32_t>> &texts, size_t count,
                                                size_t length, uint64_t seed);

/// Fails at the first byte of `text` that is not UTF-8; `where` names it.
Error checkUtf8(std::string_view text, const std::string &where);

} // namespace skim

#endif // SKIM_PIPELINES_CALIBRATE_H
