#include "Decoder.h"

#include <cctype>
#include <cstdlib>

using namespace skim;

Expected<Decoder> Decoder::create(const json::Value *value) {
  Decoder decoder;
  if (value) {
    decoder.none = false;
    if (Error error = decoder.add(*value, "decoder", 0))
      return error;
  }
  return decoder;
}

Error Decoder::add(const json::Value &value, const std::string &where, int depth) {
  auto type = json::readType(value, where);
  if (!type)
    return type.takeError();
  if (*type == "Sequence")
    return json::readSequence(value, "decoders", where, depth, [&](const json::Value &part, const std::string &place) {
      return add(part, place, depth + 1);
    });
  Step step{};
  if (*type == "ByteLevel") {
    step.kind = Kind::ByteLevel;
  } else if (*type == "ByteFallback") {
    step.kind = Kind::ByteFallback;
  } else if (*type == "Fuse") {
    step.kind = Kind::Fuse;
  } else if (*type == "Replace") {
    step.kind = Kind::Replace;
    auto replacer = Replacer::create(value, where);
    if (!replacer)
      return replacer.takeError();
    step.replacer = std::move(*replacer);
  } else if (*type == "Metaspace") {
    step.kind = Kind::Metaspace;
    step.character = "\xe2\x96\x81";
    std::string scheme = "always";
    bool prefix = true;
    if (Error error = json::readString(value, "replacement", step.character, where))
      return error;
    if (Error error = json::readString(value, "prepend_scheme", scheme, where))
      return error;
    if (Error error = json::readBool(value, "add_prefix_space", prefix, where))
      return error;
    step.prepends = prefix && scheme != "never";
  } else if (*type == "Strip") {
    step.kind = Kind::Strip;
    step.character = " ";
    if (Error error = json::readString(value, "content", step.character, where))
      return error;
    if (Error error = json::readSize(value, "start", step.start, where))
      return error;
    if (Error error = json::readSize(value, "stop", step.stop, where))
      return error;
  } else {
    return fail("unsupported tokenizer", where, "a decoder known to skim", *type);
  }
  bool hasCharacter = step.kind == Kind::Metaspace || step.kind == Kind::Strip;
  if (hasCharacter && (step.character.empty() ||
                       unicode::length(static_cast<unsigned char>(step.character[0])) != step.character.size()))
    return fail("damaged tokenizer", where, "one character", step.character.substr(0, 80));
  steps.push_back(std::move(step));
  return Error::success();
}

/// <0x0A> and its like, or -1.
static int fallbackByte(std::string_view token) {
  auto hex = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>' || !hex(token[3]) || !hex(token[4]))
    return -1;
  return static_cast<int>(std::strtol(std::string(token.substr(3, 2)).c_str(), nullptr, 16));
}

/// A token with a character that stands for no byte counts as its own bytes.
static void appendByteLevel(std::string_view token, std::string &out) {
  size_t before = out.size();
  for (size_t at = 0; at < token.size();) {
    int byte = unicode::charToByte(unicode::next(token, at));
    if (byte < 0) {
      out.resize(before);
      out += token;
      return;
    }
    out += static_cast<char>(byte);
  }
}

std::string Decoder::metaspace(const Step &step, std::string_view token, bool first) {
  std::string out;
  size_t done = 0;
  for (size_t hit; (hit = token.find(step.character, done)) != std::string_view::npos;
       done = hit + step.character.size()) {
    out += token.substr(done, hit - done);
    if (!first || !step.prepends)
      out += ' ';
  }
  out += token.substr(done);
  return out;
}

std::string Decoder::strip(const Step &step, std::string_view token) {
  for (size_t i = 0; i < step.start && token.starts_with(step.character); ++i)
    token.remove_prefix(step.character.size());
  for (size_t i = 0; i < step.stop && token.ends_with(step.character); ++i)
    token.remove_suffix(step.character.size());
  return std::string(token);
}

std::string Decoder::run(std::vector<std::string> tokens) const {
  for (const Step &step : steps) {
    switch (step.kind) {
    case Kind::ByteLevel: {
      std::string bytes;
      for (const std::string &token : tokens)
        appendByteLevel(token, bytes);
      tokens = {unicode::toValid(bytes)};
      break;
    }
    case Kind::ByteFallback: {
      std::vector<std::string> out;
      std::string bytes;
      auto flush = [&] {
        if (unicode::isValid(bytes)) {
          if (!bytes.empty())
            out.push_back(bytes);
        } else { // all of a damaged run, as tokenizers has it
          for (size_t i = 0; i < bytes.size(); ++i)
            out.emplace_back(unicode::replacement);
        }
        bytes.clear();
      };
      for (std::string &token : tokens) {
        int byte = fallbackByte(token);
        if (byte >= 0) {
          bytes += static_cast<char>(byte);
          continue;
        }
        flush();
        out.push_back(std::move(token));
      }
      flush();
      tokens = std::move(out);
      break;
    }
    case Kind::Fuse: {
      std::string all;
      for (const std::string &token : tokens)
        all += token;
      tokens = {std::move(all)};
      break;
    }
    case Kind::Metaspace:
      for (size_t i = 0; i < tokens.size(); ++i)
        tokens[i] = metaspace(step, tokens[i], i == 0);
      break;
    case Kind::Replace:
      for (std::string &token : tokens)
        if (auto result = step.replacer->run(token))
          token = std::move(*result);
      break;
    case Kind::Strip:
      for (std::string &token : tokens)
        token = strip(step, token);
      break;
    }
  }
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (none && i)
      out += ' ';
    out += tokens[i];
  }
  return out;
}

std::string Decoder::runOne(std::string token, bool first) const {
  if (none)
    return first ? token : " " + token;
  bool fused = false;
  for (const Step &step : steps) {
    switch (step.kind) {
    case Kind::ByteLevel: {
      std::string bytes;
      appendByteLevel(token, bytes);
      token = std::move(bytes);
      break;
    }
    case Kind::ByteFallback:
      if (int byte = fallbackByte(token); byte >= 0)
        token = std::string(1, static_cast<char>(byte));
      break;
    case Kind::Fuse:
      fused = true;
      break;
    case Kind::Metaspace:
      token = metaspace(step, token, first);
      break;
    case Kind::Replace:
      // After ByteFallback a token may be part of a character; no pattern is.
      if (unicode::isValid(token))
        if (auto result = step.replacer->run(token))
          token = std::move(*result);
      break;
    case Kind::Strip:
      if (!fused) {
        token = strip(step, token);
      } else if (first) { // the end of the text is not known yet
        Step leading = step;
        leading.stop = 0;
        token = strip(leading, token);
      }
      break;
    }
  }
  return token;
}
