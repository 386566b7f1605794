//===- TokenizerFile.h - a tokenizer.json, read at once ----------*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_TOKENIZERFILE_H
#define SKIM_LIB_TOKENIZER_TOKENIZERFILE_H

#include "Json.h"

#include <vector>

namespace skim {

/// A tokenizer.json. Its two large parts, `model.vocab` and `model.merges`, are
/// kept out of the document: as JSON values they would take thirty times their
/// size, and most of the time of starting a program.
struct TokenizerFile {
  struct Token {
    uint32_t offset, size; // in vocabularyText
    int32_t id;
  };
  struct Merge {
    uint32_t offset, leftSize, rightSize; // both in mergeText, one behind the other
  };

  json::Value root;
  bool hasVocabulary = false;
  bool hasMerges = false;
  std::vector<char> vocabularyText;
  std::vector<Token> vocabulary;
  std::string mergeText;
  std::vector<Merge> merges;

  /// Parses `bytes`. Errors name places inside the file, as in `model.vocab.the`.
  static Expected<TokenizerFile> parse(std::string_view bytes);
};

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_TOKENIZERFILE_H
