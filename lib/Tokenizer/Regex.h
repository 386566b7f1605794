//===- Regex.h - Oniguruma's regular expressions on PCRE2 --------*- C++ -*-===//
//
// tokenizer.json files hold regular expressions in Oniguruma's Ruby syntax.
// They are rewritten for PCRE2 where the two differ (see Regex.cpp); what has
// no counterpart is an error, never a silently different match.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TOKENIZER_REGEX_H
#define SKIM_LIB_TOKENIZER_REGEX_H

#include "skim/Support/Error.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// A part of a text: bytes [begin, end), and whether the pattern matched it.
struct Span {
  size_t begin;
  size_t end;
  bool match;
};

/// A compiled pattern; immutable, usable from many threads.
class Regex {
public:
  /// `where` names the pattern's place in errors.
  static Expected<Regex> compile(const std::string &pattern, const std::string &where);

  /// Appends the matches in `text` and the parts between them, in order. `text`
  /// is valid UTF-8. Fails when a match takes too many steps.
  Error split(std::string_view text, std::vector<Span> &spans) const;

  /// The pattern in PCRE2's syntax.
  static Expected<std::string> translate(const std::string &pattern, const std::string &where);

private:
  struct Code;
  std::shared_ptr<const Code> code;
};

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_REGEX_H
