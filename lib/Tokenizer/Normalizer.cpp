#include "Normalizer.h"

using namespace skim;

Expected<Replacer> Replacer::create(const json::Value &object, const std::string &where) {
  auto pattern = json::needPattern(object, where);
  if (!pattern)
    return pattern.takeError();
  Replacer replacer;
  if (const json::Value *content = json::find(object, "content"); !content || !content->is_string())
    return fail("damaged tokenizer", where + ".content", "a string", json::typeName(content));
  else
    replacer.content = content->get_ref<const std::string &>();
  if (pattern->isRegex) {
    auto regex = Regex::compile(pattern->text, where + ".pattern");
    if (!regex)
      return regex.takeError();
    replacer.regex = std::move(*regex);
  } else if (pattern->text.empty()) {
    return fail("unsupported tokenizer", where + ".pattern", "a pattern of at least one character", "an empty one");
  } else {
    replacer.literal = std::move(pattern->text);
  }
  return replacer;
}

Expected<std::string> Replacer::run(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  if (!regex) {
    size_t done = 0;
    for (size_t hit; (hit = text.find(literal, done)) != std::string_view::npos; done = hit + literal.size()) {
      out += text.substr(done, hit - done);
      out += content;
    }
    out += text.substr(done);
    return out;
  }
  std::vector<Span> spans;
  if (Error error = regex->split(text, spans))
    return error;
  for (const Span &span : spans) {
    if (span.match)
      out += content;
    else
      out += text.substr(span.begin, span.end - span.begin);
  }
  return out;
}

Expected<Normalizer> Normalizer::create(const json::Value *value) {
  Normalizer normalizer;
  if (value) {
    if (Error error = normalizer.add(*value, "normalizer", 0))
      return error;
  }
  return normalizer;
}

static std::string filtered(std::string_view text, bool (*drop)(char32_t)) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    if (!drop(unicode::next(text, at)))
      out += text.substr(begin, at - begin);
  }
  return out;
}

/// SentencePiece's nmt rules, as in tokenizers/src/normalizers/unicode.rs.
static std::string nmt(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t begin = at;
    char32_t c = unicode::next(text, at);
    bool control = (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
    bool space = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
                 c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
    if (space)
      out += ' ';
    else if (!control)
      out += text.substr(begin, at - begin);
  }
  return out;
}

static std::string strip(std::string_view text, bool left, bool right) {
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    size_t at = begin;
    if (!unicode::isWhitespace(unicode::next(text, at)))
      break;
    begin = at;
  }
  while (right && end > begin) {
    size_t at = end - 1;
    while ((static_cast<unsigned char>(text[at]) & 0xc0) == 0x80)
      --at;
    size_t probe = at;
    if (!unicode::isWhitespace(unicode::next(text, probe)))
      break;
    end = at;
  }
  return std::string(text.substr(begin, end - begin));
}

Error Normalizer::add(const json::Value &value, const std::string &where, int depth) {
  auto type = json::readType(value, where);
  if (!type)
    return type.takeError();
  auto simple = [&](auto function) {
    steps.push_back([function](std::string_view text) -> Expected<std::string> { return function(text); });
    return Error::success();
  };
  if (*type == "Sequence")
    return json::readSequence(
        value, "normalizers", where, depth,
        [&](const json::Value &part, const std::string &place) { return add(part, place, depth + 1); });
  if (*type == "NFC" || *type == "NFD" || *type == "NFKC" || *type == "NFKD") {
    using unicode::Form;
    bool compatible = (*type)[2] == 'K';
    bool composed = type->back() == 'C';
    Form form = composed ? (compatible ? Form::NFKC : Form::NFC) : (compatible ? Form::NFKD : Form::NFD);
    return simple([form](std::string_view text) { return unicode::normalize(text, form); });
  }
  if (*type == "Lowercase")
    return simple(unicode::lowercase);
  if (*type == "Nmt")
    return simple(nmt);
  if (*type == "ByteLevel")
    return simple(unicode::mapBytes);
  if (*type == "StripAccents")
    return simple([](std::string_view text) { return filtered(text, unicode::isMark); });
  if (*type == "Strip") {
    bool left = true, right = true;
    if (Error error = json::readBool(value, "strip_left", left, where))
      return error;
    if (Error error = json::readBool(value, "strip_right", right, where))
      return error;
    return simple([left, right](std::string_view text) { return strip(text, left, right); });
  }
  if (*type == "Prepend") {
    std::string prefix;
    if (Error error = json::readString(value, "prepend", prefix, where))
      return error;
    return simple([prefix](std::string_view text) { return text.empty() ? "" : prefix + std::string(text); });
  }
  if (*type == "Replace") {
    auto replacer = Replacer::create(value, where);
    if (!replacer)
      return replacer.takeError();
    steps.push_back([replacer = std::move(*replacer)](std::string_view text) { return replacer.run(text); });
    return Error::success();
  }
  return fail("unsupported tokenizer", where, "a normalizer known to skim", *type);
}

Expected<std::string> Normalizer::run(std::string_view text) const {
  std::string current(text);
  for (const Step &step : steps) {
    auto result = step(current);
    if (!result)
      return result;
    current = std::move(*result);
  }
  return current;
}
