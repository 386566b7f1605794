//===- SentencePieceCheck.h - what the library takes on trust ----*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_SENTENCEPIECECHECK_H
#define SKIM_LIB_TOKENIZER_SENTENCEPIECECHECK_H

#include "skim/Support/Error.h"

#include <string>
#include <string_view>

namespace skim {

/// A model that the library can be given.
struct CheckedSentencePieceModel {
  std::string bytes;
  // Of the normalizer; they tell what decoding drops at the beginning.
  bool addsDummyPrefix = true;
  bool removesExtraSpaces = true;
};

/// libsentencepiece reads a model's tries without bounds checks and aborts on
/// some contents. This proves that a serialized ModelProto
/// (sentencepiece_model.proto) has none of them, and returns it without its
/// self-test samples, which the library would otherwise run and report on
/// standard error.
Expected<CheckedSentencePieceModel> checkSentencePieceModel(std::string_view bytes);

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_SENTENCEPIECECHECK_H
