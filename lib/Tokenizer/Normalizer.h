//===- Normalizer.h - the normalizer of a tokenizer.json ---------*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_NORMALIZER_H
#define SKIM_LIB_TOKENIZER_NORMALIZER_H

#include "Json.h"
#include "Regex.h"
#include "Unicode.h"

#include <functional>

namespace skim {

/// Replaces every match of a literal or a regular expression by a text. Shared
/// by normalizers and decoders.
class Replacer {
public:
  static Expected<Replacer> create(const json::Value &object, const std::string &where);
  Expected<std::string> run(std::string_view text) const;

private:
  std::string literal;
  std::optional<Regex> regex;
  std::string content;
};

/// A list of steps from text to text.
class Normalizer {
public:
  /// `value` is the field "normalizer": null or one component.
  static Expected<Normalizer> create(const json::Value *value);

  bool empty() const { return steps.empty(); }
  Expected<std::string> run(std::string_view text) const;

private:
  using Step = std::function<Expected<std::string>(std::string_view)>;
  Error add(const json::Value &value, const std::string &where, int depth);
  std::vector<Step> steps;
};

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_NORMALIZER_H
