//===- Decoder.h - the decoder of a tokenizer.json ---------------*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_DECODER_H
#define SKIM_LIB_TOKENIZER_DECODER_H

#include "Json.h"
#include "Normalizer.h"

namespace skim {

/// A list of steps from tokens to text.
class Decoder {
public:
  /// `value` is the field "decoder": null or one component.
  static Expected<Decoder> create(const json::Value *value);

  /// The text of a whole sequence. Tokens without a decoder are joined by spaces.
  std::string run(std::vector<std::string> tokens) const;

  /// The bytes of one token in a stream. Steps that look at their neighbours see
  /// only this token; `first` tells whether it begins the text.
  std::string runOne(std::string token, bool first) const;

private:
  enum class Kind { ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip };
  struct Step {
    Kind kind;
    std::optional<Replacer> replacer; // Replace
    std::string character;            // Metaspace: the replacement; Strip: what goes
    bool prepends = false;            // Metaspace: the first token's goes
    size_t start = 0, stop = 0;       // Strip
  };
  Error add(const json::Value &value, const std::string &where, int depth);
  static std::string metaspace(const Step &step, std::string_view token, bool first);
  static std::string strip(const Step &step, std::string_view token);

  std::vector<Step> steps;
  bool none = true;
};

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_DECODER_H
