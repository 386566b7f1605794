//===- PreTokenizer.h - the pre_tokenizer of a tokenizer.json ----*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_PRETOKENIZER_H
#define SKIM_LIB_TOKENIZER_PRETOKENIZER_H

#include "Json.h"
#include "Regex.h"

#include <deque>
#include <functional>

namespace skim {

/// A part of a text that is tokenized by itself.
struct Piece {
  std::string_view text;
  bool first; // begins the whole text
};

/// What a split does with the delimiters; names as in Hugging Face's files.
enum class Behavior { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };

/// A list of steps that cut and rewrite pieces.
class PreTokenizer {
public:
  /// `value` is the field "pre_tokenizer": null or one component.
  static Expected<PreTokenizer> create(const json::Value *value);

  /// The words of `text`, in order; those that were rewritten lie in `arena`.
  Expected<std::vector<Piece>> run(Piece text, std::deque<std::string> &arena) const;

  /// The pieces still have to be mapped by unicode::mapBytes: the last step of
  /// a byte-level tokenizer, left to the model, which caches words unmapped.
  bool mapsBytes() const { return mapsBytesAtEnd; }

private:
  /// Cuts a text into spans.
  using Cut = std::function<Error(std::string_view, std::vector<Span> &)>;
  /// Replaces a piece; false leaves it as it is.
  using Rewrite = std::function<bool(const Piece &, std::string &)>;
  struct Step {
    Cut cut;
    Behavior behavior = Behavior::Isolated;
    Rewrite rewrite;
    bool mapsBytes = false;
  };

  Error add(const json::Value &value, const std::string &where, int depth);
  Error addSplit(const json::Value &value, const std::string &where);
  Error addMetaspace(const json::Value &value, const std::string &where);
  void addCut(Cut cut, Behavior behavior) { steps.push_back({std::move(cut), behavior, {}, false}); }
  void addCharCut(bool (*test)(char32_t), Behavior behavior);
  void addRewrite(Rewrite rewrite) { steps.push_back({{}, Behavior::Isolated, std::move(rewrite), false}); }

  std::vector<Step> steps;
  bool mapsBytesAtEnd = false;
};

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_PRETOKENIZER_H
