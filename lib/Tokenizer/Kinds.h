//===- Kinds.h - the two kinds of tokenizers ---------------------*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_KINDS_H
#define SKIM_LIB_TOKENIZER_KINDS_H

#include "skim/Tokenizer/Tokenizer.h"

namespace skim {

/// From the bytes of a tokenizer.json; `path` is for errors.
Expected<std::unique_ptr<Tokenizer>> createHuggingFace(std::string_view bytes, const std::string &path);

/// From the bytes of a SentencePiece model; `path` is for errors.
Expected<std::unique_ptr<Tokenizer>> createSentencePiece(std::string bytes, const std::string &path);

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_KINDS_H
