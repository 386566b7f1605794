//===- Tokenizer.h - text to token ids and back ------------------*- C++ -*-===//
//
// One interface over the two kinds of tokenizer files that language models
// come with: Hugging Face's tokenizer.json (byte-pair encoding) and
// SentencePiece's tokenizer.model. Knows neither MLIR nor LLVM.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TOKENIZER_TOKENIZER_H
#define SKIM_TOKENIZER_TOKENIZER_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// A loaded tokenizer. Immutable: every method may be called from any number
/// of threads at once.
class Tokenizer {
public:
  virtual ~Tokenizer();

  /// Reads a tokenizer.json or a SentencePiece model; which of the two it is
  /// is told by its content. `path` may also be a folder that holds a
  /// `tokenizer.json` or a `tokenizer.model`. `tokenizer_config.json` and
  /// `generation_config.json` beside the file tell the begin and end tokens
  /// where they are present.
  /// Errors: an unreadable, damaged or unsupported file, in one line that names
  /// the offending part.
  static Expected<std::unique_ptr<Tokenizer>> load(const std::string &path);

  /// The token ids of `text`. Bytes that are not UTF-8 count as U+FFFD, as in
  /// Hugging Face's and Google's libraries.
  /// \param addSpecial add what the model expects around a text (a begin token).
  /// \param parseSpecial let special tokens written in the text, as in
  ///        `<|im_start|>`, become their ids; otherwise they are plain text.
  /// Errors: a regular expression of the tokenizer that takes too many steps, a
  /// text of 1 GiB or more.
  Expected<std::vector<int32_t>> encode(std::string_view text, bool addSpecial = false,
                                        bool parseSpecial = false) const;

  /// The text of `ids`, always valid UTF-8; ids that do not exist are skipped.
  /// \param skipSpecial leave special tokens out.
  virtual std::string decode(std::span<const int32_t> ids, bool skipSpecial = true) const = 0;

  /// One more than the largest id. A model's own vocabulary may be padded to more.
  virtual int32_t vocabularySize() const = 0;

  /// The token spelled exactly `text` (also a special one), if there is one.
  virtual std::optional<int32_t> tokenId(std::string_view text) const = 0;

  /// As the file spells it, e.g. `Ġthe` or `▁the`; empty where there is no such id.
  virtual std::string tokenText(int32_t id) const = 0;

  /// True for begin, end and other tokens that are not text.
  virtual bool isSpecial(int32_t id) const = 0;

  /// The bytes that `id` adds to a text. One character may be spread over
  /// several tokens, so these need not be valid UTF-8.
  /// \param first no text came before: decoders that drop a leading space do so.
  ///        Becomes false with the first token that is text.
  virtual std::string tokenBytes(int32_t id, bool &first) const = 0;

  /// "bpe" or "sentencepiece", as in a package's manifest.
  virtual std::string_view kind() const = 0;

  std::optional<int32_t> beginToken() const { return begin; }
  /// Tokens after which a generated text ends; empty where the files name none.
  const std::vector<int32_t> &endTokens() const { return ends; }

protected:
  /// `text` is valid UTF-8 here.
  virtual Expected<std::vector<int32_t>> encodeValid(std::string_view text, bool addSpecial,
                                                     bool parseSpecial) const = 0;

  std::optional<int32_t> begin;
  std::vector<int32_t> ends;
  /// add_bos_token and add_eos_token of tokenizer_config.json, where present.
  std::optional<bool> addsBegin, addsEnd;

private:
  Error readConfigs(const std::string &folder);
};

/// Turns tokens into text one at a time, as they are generated. What `push`
/// and `finish` return, joined, is what `Tokenizer::decode` gives for the same
/// ids, as long as the tokens spell valid UTF-8. Bytes of an unfinished
/// character are held back until it is whole.
class StreamDecoder {
public:
  /// \param continues the tokens continue a text, so that a leading space stays.
  explicit StreamDecoder(const Tokenizer &tokenizer, bool continues = false, bool skipSpecial = true)
      : tokenizer(tokenizer), first(!continues), skipSpecial(skipSpecial) {}

  /// The text that became certain with this token; may be empty.
  std::string push(int32_t id);
  /// The rest: an unfinished character, as U+FFFD.
  std::string finish();

private:
  const Tokenizer &tokenizer;
  std::string pending;
  bool first;
  bool skipSpecial;
};

} // namespace skim

#endif // SKIM_TOKENIZER_TOKENIZER_H
