#include "SentencePieceCheck.h"
#include "Unicode.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

using namespace skim;

namespace {

/// One field of a protobuf message.
struct Field {
  uint32_t number = 0;
  uint32_t wire = 0; // 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
  uint64_t value = 0;
  std::string_view bytes; // wire type 2
  std::string_view whole; // with its tag
};

class FieldReader {
public:
  explicit FieldReader(std::string_view bytes) : bytes(bytes) {}
  bool atEnd() const { return at == bytes.size(); }

  /// Nothing if the bytes are no message.
  std::optional<Field> next() {
    size_t start = at;
    Field field;
    auto tag = varint();
    if (!tag || *tag >> 35 || !(*tag >> 3))
      return std::nullopt;
    field.number = static_cast<uint32_t>(*tag >> 3);
    field.wire = *tag & 7;
    if (field.wire == 0) {
      auto value = varint();
      if (!value)
        return std::nullopt;
      field.value = *value;
    } else if (field.wire == 2) {
      auto size = varint();
      if (!size || *size > bytes.size() - at)
        return std::nullopt;
      field.bytes = bytes.substr(at, *size);
      at += *size;
    } else if (field.wire == 1 || field.wire == 5) {
      size_t size = field.wire == 1 ? 8 : 4;
      if (bytes.size() - at < size)
        return std::nullopt;
      std::memcpy(&field.value, bytes.data() + at, size);
      at += size;
    } else {
      return std::nullopt;
    }
    field.whole = bytes.substr(start, at - start);
    return field;
  }

private:
  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at == bytes.size())
        return std::nullopt;
      auto byte = static_cast<unsigned char>(bytes[at++]);
      if (shift == 63 && byte > 1)
        return std::nullopt;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (!(byte & 0x80))
        return value;
    }
    return std::nullopt;
  }

  std::string_view bytes;
  size_t at = 0;
};

Failure damaged(std::string where, std::string expected, std::string got) {
  return fail("damaged SentencePiece model", std::move(where), std::move(expected), std::move(got));
}

/// The trie of a precompiled character map (a Darts double array): every unit
/// that a search can reach must lie inside, every value must point at the
/// beginning of a replacement, and no key may have more than `mostPrefixes`
/// prefixes that are keys, since the library keeps that many results.
class TrieCheck {
public:
  TrieCheck(std::string_view trie, std::string_view replacements) : replacements(replacements) {
    units.resize(trie.size() / 4);
    std::memcpy(units.data(), trie.data(), units.size() * 4);
    depth.resize(units.size() * 2, unseen);
  }

  /// Empty if all is well.
  std::string run() {
    if (units.empty())
      return "an empty trie";
    // Depth first without recursion; suffixes may be shared, so each node is
    // finished once and remembers the most keys on a way down from it. The unit
    // that leads to a node tells whether it ends a key, so there are two of each.
    struct Frame {
      uint32_t node; // the base that children are found from
      uint32_t label;
      int32_t most;
      bool leaf;
    };
    std::vector<Frame> stack;
    std::string problem;
    auto enter = [&](uint32_t unit, uint32_t at) {
      uint32_t base = at ^ offset(unit);
      if ((base | 0xffu) >= units.size()) {
        problem = "a trie that points outside itself";
        return;
      }
      bool leaf = (unit >> 8) & 1;
      if (depth[size_t(base) * 2 + leaf] == open) {
        problem = "a trie with a cycle";
        return;
      }
      if (depth[size_t(base) * 2 + leaf] >= 0) {
        if (!stack.empty())
          stack.back().most = std::max(stack.back().most, depth[size_t(base) * 2 + leaf]);
        return;
      }
      if (leaf) {
        uint32_t value = units[base] & 0x7fffffffu;
        if (value >= replacements.size() || (static_cast<unsigned char>(replacements[value]) & 0xc0) == 0x80) {
          problem = "a trie with a value outside the replacements";
          return;
        }
      }
      depth[size_t(base) * 2 + leaf] = open;
      stack.push_back({base, 0, 0, leaf});
    };
    enter(units[0], 0);
    while (!stack.empty() && problem.empty()) {
      Frame &frame = stack.back();
      if (frame.label > 0xff) {
        int32_t most = frame.most + frame.leaf;
        depth[size_t(frame.node) * 2 + frame.leaf] = most;
        if (most > mostPrefixes)
          return "a trie with more than 32 nested keys";
        stack.pop_back();
        if (!stack.empty())
          stack.back().most = std::max(stack.back().most, most);
        continue;
      }
      uint32_t label = frame.label++;
      uint32_t at = frame.node ^ label;
      uint32_t unit = units[at];
      if ((unit & 0x800000ffu) != label)
        continue;
      enter(unit, at);
    }
    return problem;
  }

private:
  static constexpr int32_t unseen = -1, open = -2, mostPrefixes = 32;
  static uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

  std::vector<uint32_t> units;
  std::vector<int32_t> depth;
  std::string_view replacements;
};

Error checkCharsmap(std::string_view blob, const std::string &where) {
  if (blob.empty())
    return Error::success();
  uint32_t size = 0;
  if (blob.size() > 4)
    std::memcpy(&size, blob.data(), 4);
  if (blob.size() <= 4 || size > blob.size() - 4 || size % 4 != 0)
    return damaged(where, "a character map", std::to_string(blob.size()) + " bytes that are none");
  std::string_view replacements = blob.substr(4 + size);
  if (replacements.empty() || replacements.back() != '\0' || !unicode::isValid(replacements))
    return damaged(where, "replacements in UTF-8 that end in a zero", "others");
  std::string problem = TrieCheck(blob.substr(4, size), replacements).run();
  if (!problem.empty())
    return damaged(where, "a trie of replacements", problem);
  return Error::success();
}

Error checkNormalizer(std::string_view message, const std::string &where, CheckedSentencePieceModel &model) {
  for (FieldReader reader(message); !reader.atEnd();) {
    auto field = reader.next();
    if (!field)
      return damaged(where, "a message", "bytes that are none");
    if (field->number == 3 && field->wire == 0)
      model.addsDummyPrefix = field->value != 0;
    if (field->number == 4 && field->wire == 0)
      model.removesExtraSpaces = field->value != 0;
    if (field->number == 2 && field->wire == 2)
      if (Error error = checkCharsmap(field->bytes, where + ".precompiled_charsmap"))
        return error;
  }
  return Error::success();
}

constexpr uint64_t typeUserDefined = 4;
// The library keeps 1024 results of a prefix search over pieces, and 64 of one
// over pieces defined by the user, and does not check for more.
constexpr size_t longestPiece = 1000, mostNestedUserDefined = 60;

struct PieceInfo {
  std::string_view text;
  uint64_t type = 1;
};

Expected<PieceInfo> checkPiece(std::string_view message, const std::string &where) {
  PieceInfo piece;
  for (FieldReader reader(message); !reader.atEnd();) {
    auto field = reader.next();
    if (!field)
      return damaged(where, "a message", "bytes that are none");
    if (field->number == 1 && field->wire == 2) {
      piece.text = field->bytes;
      if (piece.text.empty() || piece.text.size() > longestPiece)
        return damaged(where, "a piece of 1 to 1000 bytes", std::to_string(piece.text.size()));
      if (!unicode::isValid(piece.text) || piece.text.find('\0') != std::string_view::npos)
        return damaged(where, "a piece in UTF-8 without zeros", "other bytes");
    } else if (field->number == 2 && field->wire == 5) {
      auto bits = static_cast<uint32_t>(field->value);
      float score;
      std::memcpy(&score, &bits, 4);
      if (!std::isfinite(score))
        return damaged(where + ".score", "a finite number", std::to_string(score));
    } else if (field->number == 3 && field->wire == 0 && field->value >= 1 && field->value <= 6) {
      piece.type = field->value;
    }
  }
  if (piece.text.empty())
    return damaged(where, "a piece", "none");
  return piece;
}

Error checkNesting(std::vector<std::string_view> texts) {
  std::sort(texts.begin(), texts.end());
  std::vector<std::string_view> prefixes;
  for (std::string_view text : texts) {
    while (!prefixes.empty() && !text.starts_with(prefixes.back()))
      prefixes.pop_back();
    prefixes.push_back(text);
    if (prefixes.size() > mostNestedUserDefined)
      return damaged("pieces", "at most 60 nested pieces defined by the user", "more");
  }
  return Error::success();
}

} // namespace

Expected<CheckedSentencePieceModel> skim::checkSentencePieceModel(std::string_view bytes) {
  CheckedSentencePieceModel result;
  std::string &kept = result.bytes;
  kept.reserve(bytes.size());
  std::vector<std::string_view> userDefined;
  size_t pieces = 0;
  for (FieldReader reader(bytes); !reader.atEnd();) {
    auto field = reader.next();
    if (!field)
      return fail("not a tokenizer", "", "a tokenizer.json or a SentencePiece model", "other bytes");
    if (field->number == 4)
      continue; // self-test samples
    if (field->wire == 2 && field->number == 1) {
      auto piece = checkPiece(field->bytes, "pieces[" + std::to_string(pieces) + "]");
      if (!piece)
        return piece.takeError();
      if (piece->type == typeUserDefined)
        userDefined.push_back(piece->text);
      ++pieces;
    } else if (field->wire == 2 && field->number == 3) {
      if (Error error = checkNormalizer(field->bytes, "normalizer_spec", result))
        return error;
    } else if (field->wire == 2 && field->number == 5) {
      CheckedSentencePieceModel unused;
      if (Error error = checkNormalizer(field->bytes, "denormalizer_spec", unused))
        return error;
    }
    kept += field->whole;
  }
  constexpr size_t mostPieces = 1 << 22;
  if (pieces == 0)
    return fail("not a tokenizer", "", "a tokenizer.json or a SentencePiece model", "no pieces");
  if (pieces > mostPieces)
    return damaged("pieces", "at most 4194304", std::to_string(pieces));
  if (Error error = checkNesting(std::move(userDefined)))
    return error;
  return result;
}
