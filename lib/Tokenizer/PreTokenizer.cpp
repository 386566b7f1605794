#include "PreTokenizer.h"
#include "Unicode.h"

#include <algorithm>

using namespace skim;

// GPT-2's words (tokenizers/src/pre_tokenizers/byte_level.rs).
static const char *const byteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Expected<PreTokenizer> PreTokenizer::create(const json::Value *value) {
  PreTokenizer result;
  if (value) {
    if (Error error = result.add(*value, "pre_tokenizer", 0))
      return error;
  }
  if (!result.steps.empty() && result.steps.back().mapsBytes) {
    result.steps.pop_back();
    result.mapsBytesAtEnd = true;
  }
  return result;
}

static Expected<Behavior> readBehavior(const json::Value &value, const std::string &where, bool required) {
  std::string name;
  if (Error error = json::readString(value, "behavior", name, where))
    return error;
  if (name.empty() && !required)
    return Behavior::Isolated;
  static const std::pair<const char *, Behavior> all[] = {{"Removed", Behavior::Removed},
                                                          {"Isolated", Behavior::Isolated},
                                                          {"MergedWithPrevious", Behavior::MergedWithPrevious},
                                                          {"MergedWithNext", Behavior::MergedWithNext},
                                                          {"Contiguous", Behavior::Contiguous}};
  for (auto [known, behavior] : all)
    if (name == known)
      return behavior;
  return fail("damaged tokenizer", where + ".behavior",
              "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous", name.empty() ? "nothing" : name);
}

/// Every character that passes the test is a match of its own.
template <typename Test> static void cutByChar(std::string_view text, std::vector<Span> &spans, Test test) {
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    if (!test(unicode::next(text, at)))
      continue;
    if (done < begin)
      spans.push_back({done, begin, false});
    spans.push_back({begin, at, true});
    done = at;
  }
  if (done < text.size())
    spans.push_back({done, text.size(), false});
}

void PreTokenizer::addCharCut(bool (*test)(char32_t), Behavior behavior) {
  addCut(
      [test](std::string_view text, std::vector<Span> &spans) {
        cutByChar(text, spans, test);
        return Error::success();
      },
      behavior);
}

Error PreTokenizer::addSplit(const json::Value &value, const std::string &where) {
  auto pattern = json::needPattern(value, where);
  if (!pattern)
    return pattern.takeError();
  auto behavior = readBehavior(value, where, /*required=*/true);
  if (!behavior)
    return behavior.takeError();
  bool invert = false;
  if (Error error = json::readBool(value, "invert", invert, where))
    return error;
  Cut cut;
  if (pattern->isRegex) {
    auto regex = Regex::compile(pattern->text, where + ".pattern");
    if (!regex)
      return regex.takeError();
    cut = [regex = *regex](std::string_view text, std::vector<Span> &spans) { return regex.split(text, spans); };
  } else if (pattern->text.empty()) {
    return fail("unsupported tokenizer", where + ".pattern", "a pattern of at least one character", "an empty one");
  } else {
    cut = [literal = pattern->text](std::string_view text, std::vector<Span> &spans) {
      size_t done = 0;
      for (size_t hit; (hit = text.find(literal, done)) != std::string_view::npos; done = hit + literal.size()) {
        if (done < hit)
          spans.push_back({done, hit, false});
        spans.push_back({hit, hit + literal.size(), true});
      }
      if (done < text.size())
        spans.push_back({done, text.size(), false});
      return Error::success();
    };
  }
  if (invert)
    cut = [cut](std::string_view text, std::vector<Span> &spans) {
      Error error = cut(text, spans);
      for (Span &span : spans)
        span.match = !span.match;
      return error;
    };
  addCut(std::move(cut), *behavior);
  return Error::success();
}

Error PreTokenizer::addMetaspace(const json::Value &value, const std::string &where) {
  std::string replacement = "\xe2\x96\x81", scheme = "always";
  bool prefix = true, split = true;
  if (Error error = json::readString(value, "replacement", replacement, where))
    return error;
  if (Error error = json::readString(value, "prepend_scheme", scheme, where))
    return error;
  if (Error error = json::readBool(value, "add_prefix_space", prefix, where))
    return error;
  if (Error error = json::readBool(value, "split", split, where))
    return error;
  if (replacement.empty() || unicode::length(static_cast<unsigned char>(replacement[0])) != replacement.size())
    return fail("damaged tokenizer", where + ".replacement", "one character", replacement);
  if (scheme != "always" && scheme != "first" && scheme != "never")
    return fail("damaged tokenizer", where + ".prepend_scheme", "always, first or never", scheme);
  if (!prefix && scheme != "never") {
    // Older files have only add_prefix_space; Hugging Face refuses a contradiction.
    if (json::find(value, "prepend_scheme"))
      return fail("damaged tokenizer", where + ".prepend_scheme", "never, since add_prefix_space is false", scheme);
    scheme = "never";
  }
  addRewrite([replacement, scheme](const Piece &piece, std::string &out) {
    for (char c : piece.text) {
      if (c == ' ')
        out += replacement;
      else
        out += c;
    }
    bool prepend = scheme == "always" || (scheme == "first" && piece.first);
    if (prepend && out.compare(0, replacement.size(), replacement) != 0)
      out.insert(0, replacement);
    return true;
  });
  if (split) {
    size_t at = 0;
    char32_t delimiter = unicode::next(replacement, at);
    addCut(
        [delimiter](std::string_view text, std::vector<Span> &spans) {
          cutByChar(text, spans, [delimiter](char32_t c) { return c == delimiter; });
          return Error::success();
        },
        Behavior::MergedWithNext);
  }
  return Error::success();
}

Error PreTokenizer::add(const json::Value &value, const std::string &where, int depth) {
  auto type = json::readType(value, where);
  if (!type)
    return type.takeError();
  if (*type == "Sequence")
    return json::readSequence(
        value, "pretokenizers", where, depth,
        [&](const json::Value &part, const std::string &place) { return add(part, place, depth + 1); });
  if (*type == "ByteLevel") {
    bool prefix = true, useRegex = true;
    if (Error error = json::readBool(value, "add_prefix_space", prefix, where))
      return error;
    if (Error error = json::readBool(value, "use_regex", useRegex, where))
      return error;
    if (prefix)
      addRewrite([](const Piece &piece, std::string &out) {
        if (piece.text.starts_with(' '))
          return false;
        out.reserve(piece.text.size() + 1);
        out += ' ';
        out += piece.text;
        return true;
      });
    if (useRegex) {
      auto regex = Regex::compile(byteLevelPattern, where);
      if (!regex)
        return regex.takeError();
      addCut([regex = *regex](std::string_view text, std::vector<Span> &spans) { return regex.split(text, spans); },
             Behavior::Isolated);
    }
    addRewrite([](const Piece &piece, std::string &out) {
      out = unicode::mapBytes(piece.text);
      return true;
    });
    steps.back().mapsBytes = true;
    return Error::success();
  }
  if (*type == "Split")
    return addSplit(value, where);
  if (*type == "Metaspace")
    return addMetaspace(value, where);
  if (*type == "Digits") {
    bool individual = false;
    if (Error error = json::readBool(value, "individual_digits", individual, where))
      return error;
    addCharCut(unicode::isNumeric, individual ? Behavior::Isolated : Behavior::Contiguous);
    return Error::success();
  }
  if (*type == "Punctuation") {
    auto behavior = readBehavior(value, where, /*required=*/false);
    if (!behavior)
      return behavior.takeError();
    addCharCut(unicode::isPunctuation, *behavior);
    return Error::success();
  }
  if (*type == "Whitespace") {
    // Runs of word characters, runs of others; white space goes.
    addCut(
        [](std::string_view text, std::vector<Span> &spans) {
          auto kind = [](char32_t c) { return unicode::isWord(c) ? 2 : unicode::isWhitespace(c) ? 0 : 1; };
          for (size_t at = 0; at < text.size();) {
            size_t begin = at;
            int first = kind(unicode::next(text, at));
            for (size_t probe = at; probe < text.size() && kind(unicode::next(text, probe)) == first;)
              at = probe;
            spans.push_back({begin, at, first == 0});
          }
          return Error::success();
        },
        Behavior::Removed);
    return Error::success();
  }
  if (*type == "WhitespaceSplit") {
    addCharCut(unicode::isWhitespace, Behavior::Removed);
    return Error::success();
  }
  if (*type == "BertPreTokenizer") {
    addCharCut(unicode::isWhitespace, Behavior::Removed);
    addCharCut(unicode::isPunctuation, Behavior::Isolated);
    return Error::success();
  }
  if (*type == "CharDelimiterSplit") {
    auto delimiter = json::needString(value, "delimiter", where);
    if (!delimiter)
      return delimiter.takeError();
    if (unicode::length(static_cast<unsigned char>((*delimiter)[0])) != delimiter->size())
      return fail("damaged tokenizer", where + ".delimiter", "one character", *delimiter);
    size_t at = 0;
    char32_t wanted = unicode::next(*delimiter, at);
    addCut(
        [wanted](std::string_view text, std::vector<Span> &spans) {
          cutByChar(text, spans, [wanted](char32_t c) { return c == wanted; });
          return Error::success();
        },
        Behavior::Removed);
    return Error::success();
  }
  if (*type == "FixedLength") {
    size_t length = 5;
    if (Error error = json::readSize(value, "length", length, where))
      return error;
    if (length == 0)
      return fail("damaged tokenizer", where + ".length", "at least 1", "0");
    addCut(
        [length](std::string_view text, std::vector<Span> &spans) {
          for (size_t at = 0; at < text.size();) {
            size_t begin = at;
            for (size_t i = 0; i < length && at < text.size(); ++i)
              at += unicode::length(static_cast<unsigned char>(text[at]));
            spans.push_back({begin, at, false});
          }
          return Error::success();
        },
        Behavior::Isolated);
    return Error::success();
  }
  return fail("unsupported tokenizer", where, "a pre-tokenizer known to skim", *type);
}

/// Joins or drops spans in place (NormalizedString::split in tokenizers).
static void apply(Behavior behavior, std::vector<Span> &spans) {
  std::vector<Span> out;
  bool previous = false;
  switch (behavior) {
  case Behavior::Isolated:
    return;
  case Behavior::Removed:
    std::erase_if(spans, [](const Span &span) { return span.match; });
    return;
  case Behavior::Contiguous:
    for (const Span &span : spans) {
      if (span.match == previous && !out.empty())
        out.back().end = span.end;
      else
        out.push_back(span);
      previous = span.match;
    }
    break;
  case Behavior::MergedWithPrevious:
    for (const Span &span : spans) {
      if (span.match && !previous && !out.empty())
        out.back().end = span.end;
      else
        out.push_back(span);
      previous = span.match;
    }
    break;
  case Behavior::MergedWithNext:
    for (auto it = spans.rbegin(); it != spans.rend(); ++it) {
      if (it->match && !previous && !out.empty())
        out.back().begin = it->begin;
      else
        out.push_back(*it);
      previous = it->match;
    }
    std::reverse(out.begin(), out.end());
    break;
  }
  spans = std::move(out);
}

Expected<std::vector<Piece>> PreTokenizer::run(Piece text, std::deque<std::string> &arena) const {
  std::vector<Piece> pieces{text};
  std::vector<Piece> next;
  std::vector<Span> spans;
  for (const Step &step : steps) {
    if (step.rewrite) {
      for (Piece &piece : pieces) {
        std::string changed;
        if (step.rewrite(piece, changed))
          piece.text = arena.emplace_back(std::move(changed));
      }
      continue;
    }
    next.clear();
    for (const Piece &piece : pieces) {
      spans.clear();
      if (Error error = step.cut(piece.text, spans))
        return error;
      apply(step.behavior, spans);
      for (const Span &span : spans)
        if (span.begin < span.end)
          next.push_back({piece.text.substr(span.begin, span.end - span.begin), piece.first && span.begin == 0});
    }
    pieces.swap(next);
  }
  return pieces;
}
