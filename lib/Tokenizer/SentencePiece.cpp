//===- SentencePiece.cpp - tokenizer.model -----------------------*- C++ -*-===//
//
// Google's library does the work: https://github.com/google/sentencepiece
//
//===----------------------------------------------------------------------===//
#include "AddedTokens.h"
#include "Kinds.h"
#include "SentencePieceCheck.h"
#include "Unicode.h"

#include <sentencepiece_processor.h>

#include <cctype>
#include <cstdlib>
#include <exception>

using namespace skim;

namespace {

constexpr std::string_view spaceSymbol = "\xe2\x96\x81";

class SentencePieceTokenizer final : public Tokenizer {
public:
  explicit SentencePieceTokenizer(std::string path) : path(std::move(path)) {}
  Error read(const std::string &bytes);

  std::string decode(std::span<const int32_t> ids, bool skipSpecial) const override;
  int32_t vocabularySize() const override { return processor.GetPieceSize(); }
  std::optional<int32_t> tokenId(std::string_view text) const override;
  std::string tokenText(int32_t id) const override { return has(id) ? processor.IdToPiece(id) : std::string(); }
  bool isSpecial(int32_t id) const override { return has(id) && processor.IsControl(id); }
  std::string tokenBytes(int32_t id, bool &first) const override;
  std::string_view kind() const override { return "sentencepiece"; }

protected:
  Expected<std::vector<int32_t>> encodeValid(std::string_view text, bool addSpecial, bool parseSpecial) const override;

private:
  bool has(int32_t id) const { return id >= 0 && id < processor.GetPieceSize(); }

  std::string path;
  sentencepiece::SentencePieceProcessor processor;
  AddedTokenFinder controls;
  bool dropsLeadingSpace = false;
  bool dropsLeadingSpaces = false;
};

} // namespace

Error SentencePieceTokenizer::read(const std::string &bytes) {
  auto checked = checkSentencePieceModel(bytes);
  if (!checked) {
    Failure failure = checked.failure();
    failure.where = failure.where.empty() ? path : path + ": " + failure.where;
    return failure;
  }
  // The library reports through a status, but its trie builder throws.
  try {
    auto status = processor.LoadFromSerializedProto(checked->bytes);
    if (!status.ok())
      return fail("damaged SentencePiece model", path, "what the library can load", status.message());
  } catch (const std::exception &exception) {
    return fail("damaged SentencePiece model", path, "what the library can load", exception.what());
  }
  dropsLeadingSpaces = checked->removesExtraSpaces;
  dropsLeadingSpace = checked->addsDummyPrefix || dropsLeadingSpaces;
  if (processor.bos_id() >= 0)
    begin = processor.bos_id();
  if (processor.eos_id() >= 0)
    ends.push_back(processor.eos_id());
  for (int32_t id = 0; id < processor.GetPieceSize(); ++id) {
    if (!processor.IsControl(id) || processor.IdToPiece(id).size() > AddedTokenFinder::longest)
      continue;
    AddedToken token;
    token.pattern = processor.IdToPiece(id);
    token.id = id;
    token.special = true;
    controls.add(std::move(token));
  }
  return Error::success();
}

std::optional<int32_t> SentencePieceTokenizer::tokenId(std::string_view text) const {
  int32_t id = processor.PieceToId(std::string(text));
  return has(id) && processor.IdToPiece(id) == text ? std::optional(id) : std::nullopt;
}

std::string SentencePieceTokenizer::tokenBytes(int32_t id, bool &first) const {
  if (!has(id))
    return {};
  const std::string &piece = processor.IdToPiece(id);
  if (processor.IsControl(id))
    return piece;
  if (processor.IsByte(id)) {
    first = false;
    return std::string(1, static_cast<char>(std::strtol(piece.substr(3, 2).c_str(), nullptr, 16)));
  }
  bool atStart = first;
  first = false;
  if (processor.IsUnknown(id)) {
    std::string text;
    (void)processor.Decode(std::vector<int>{id}, &text);
    return text;
  }
  std::string_view rest = piece;
  if (atStart && dropsLeadingSpace && rest.starts_with(spaceSymbol)) {
    rest.remove_prefix(spaceSymbol.size());
    first = dropsLeadingSpaces && rest.empty();
  }
  std::string out;
  for (size_t hit; (hit = rest.find(spaceSymbol)) != std::string_view::npos;) {
    out += rest.substr(0, hit);
    out += ' ';
    rest.remove_prefix(hit + spaceSymbol.size());
  }
  out += rest;
  return out;
}

std::string SentencePieceTokenizer::decode(std::span<const int32_t> ids, bool skipSpecial) const {
  if (skipSpecial) {
    std::vector<int> known;
    known.reserve(ids.size());
    for (int32_t id : ids)
      if (has(id))
        known.push_back(id);
    std::string text;
    if (processor.Decode(known, &text).ok())
      return unicode::isValid(text) ? text : unicode::toValid(text);
  }
  std::string bytes;
  bool first = true;
  for (int32_t id : ids)
    if (!(skipSpecial && isSpecial(id)))
      bytes += tokenBytes(id, first);
  return unicode::toValid(bytes);
}

Expected<std::vector<int32_t>> SentencePieceTokenizer::encodeValid(std::string_view text, bool addSpecial,
                                                                   bool parseSpecial) const {
  // The library counts in int, and a space becomes three bytes.
  constexpr size_t longest = 256u << 20;
  if (text.size() > longest)
    return fail("text too long", "", "at most 256 MiB for a SentencePiece tokenizer",
                std::to_string(text.size()) + " bytes");
  std::vector<int32_t> out;
  if (addSpecial && begin && addsBegin.value_or(true))
    out.push_back(*begin);
  auto encodePart = [&](std::string_view part) -> Error {
    std::vector<int> ids;
    auto status = processor.Encode(std::string(part), &ids);
    if (!status.ok())
      return fail("the tokenizer failed", path, "token ids", status.message());
    out.insert(out.end(), ids.begin(), ids.end());
    return Error::success();
  };
  if (!parseSpecial) {
    if (Error error = encodePart(text))
      return error;
  } else {
    for (const auto &part : controls.split(text, true)) {
      if (part.id >= 0)
        out.push_back(part.id);
      else if (Error error = encodePart(text.substr(part.begin, part.end - part.begin)))
        return error;
    }
  }
  if (addSpecial && !ends.empty() && addsEnd.value_or(false))
    out.push_back(ends.front());
  return out;
}

Expected<std::unique_ptr<Tokenizer>> skim::createSentencePiece(std::string bytes, const std::string &path) {
  auto tokenizer = std::make_unique<SentencePieceTokenizer>(path);
  if (Error error = tokenizer->read(bytes))
    return error;
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}
