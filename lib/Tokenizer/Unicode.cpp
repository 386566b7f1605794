#include "Unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <vector>

using namespace skim;
using namespace skim::unicode;

namespace {

struct Sequence {
  size_t length; // bytes of the well-formed character, or of the ill-formed part
  bool valid;
  bool truncated; // ill-formed only because the input ends
};

/// Unicode table 3-7, one byte at a time, so that an ill-formed part ends where
/// no continuation could make it well-formed.
Sequence sequenceAt(std::string_view bytes, size_t at) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[at + i]); };
  unsigned char c = byte(0);
  if (c < 0x80)
    return {1, true, false};
  unsigned char low = 0x80, high = 0xbf;
  size_t length;
  if (c >= 0xc2 && c <= 0xdf) {
    length = 2;
  } else if (c >= 0xe0 && c <= 0xef) {
    length = 3;
    if (c == 0xe0)
      low = 0xa0;
    else if (c == 0xed)
      high = 0x9f; // no surrogates
  } else if (c >= 0xf0 && c <= 0xf4) {
    length = 4;
    if (c == 0xf0)
      low = 0x90;
    else if (c == 0xf4)
      high = 0x8f; // no more than U+10FFFF
  } else {
    return {1, false, false};
  }
  for (size_t i = 1; i < length; ++i) {
    if (at + i == bytes.size())
      return {i, false, true};
    if (byte(i) < low || byte(i) > high)
      return {i, false, false};
    low = 0x80;
    high = 0xbf;
  }
  return {length, true, false};
}

/// tokenizers normalizes by Unicode 12.0: decompositions that came later do not
/// happen there.
bool olderNormalizationKeeps(char32_t c) {
  return c == 0x32ff || (c >= 0xa7f2 && c <= 0xa7f4) || c == 0xab69 || (c >= 0x10781 && c <= 0x107ba) || c == 0x11938 ||
         (c >= 0x1e030 && c <= 0x1e06d) || c == 0x1f16c || (c >= 0x1fbf0 && c <= 0x1fbf9);
}

/// Its punctuation is that of Unicode 8.
struct Range {
  char32_t first, last;
};
constexpr Range newerPunctuation[] = {{0x61d, 0x61d},     {0x9fd, 0x9fd},     {0xa76, 0xa76},     {0xc77, 0xc77},
                                      {0xc84, 0xc84},     {0x1b7d, 0x1b7e},   {0x2e43, 0x2e4f},   {0x2e52, 0x2e5d},
                                      {0x10ead, 0x10ead}, {0x10f55, 0x10f59}, {0x10f86, 0x10f89}, {0x1144b, 0x1144f},
                                      {0x1145a, 0x1145b}, {0x1145d, 0x1145d}, {0x11660, 0x1166c}, {0x116b9, 0x116b9},
                                      {0x1183b, 0x1183b}, {0x11944, 0x11946}, {0x119e2, 0x119e2}, {0x11a3f, 0x11a46},
                                      {0x11a9a, 0x11a9c}, {0x11a9e, 0x11aa2}, {0x11b00, 0x11b09}, {0x11c41, 0x11c45},
                                      {0x11c70, 0x11c71}, {0x11ef7, 0x11ef8}, {0x11f43, 0x11f4f}, {0x11fff, 0x11fff},
                                      {0x12ff1, 0x12ff2}, {0x16e97, 0x16e9a}, {0x16fe2, 0x16fe2}, {0x1e95e, 0x1e95f}};

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

} // namespace

size_t unicode::validPrefix(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    if (static_cast<unsigned char>(bytes[at]) < 0x80) {
      ++at;
      continue;
    }
    Sequence sequence = sequenceAt(bytes, at);
    if (!sequence.valid)
      return at;
    at += sequence.length;
  }
  return at;
}

std::string unicode::toValid(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    size_t good = validPrefix(bytes.substr(at));
    out += bytes.substr(at, good);
    at += good;
    if (at < bytes.size()) {
      out += replacement;
      at += sequenceAt(bytes, at).length;
    }
  }
  return out;
}

size_t unicode::incompleteSuffix(std::string_view bytes) {
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    size_t at = bytes.size() - back;
    if ((static_cast<unsigned char>(bytes[at]) & 0xc0) == 0x80)
      continue;
    Sequence sequence = sequenceAt(bytes, at);
    return sequence.truncated && sequence.length == back ? back : 0;
  }
  return 0;
}

void unicode::append(std::string &out, char32_t c) {
  utf8proc_uint8_t buffer[4];
  auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), buffer);
  out.append(reinterpret_cast<const char *>(buffer), static_cast<size_t>(size));
}

bool unicode::isWhitespace(char32_t c) {
  if (c < 0x80)
    return c == ' ' || (c >= 0x09 && c <= 0x0d);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
         c == 0x202f || c == 0x205f || c == 0x3000;
}

bool unicode::isNumeric(char32_t c) {
  if (c < 0x80)
    return c >= '0' && c <= '9';
  auto cat = category(c);
  return cat == UTF8PROC_CATEGORY_ND || cat == UTF8PROC_CATEGORY_NL || cat == UTF8PROC_CATEGORY_NO;
}

bool unicode::isPunctuation(char32_t c) {
  if (c < 0x80)
    return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) || (c >= 0x7b && c <= 0x7e);
  if (c == 0x166d || c == 0x111c9) // were punctuation then
    return true;
  for (Range range : newerPunctuation)
    if (c >= range.first && c <= range.last)
      return false;
  auto cat = category(c);
  return cat >= UTF8PROC_CATEGORY_PC && cat <= UTF8PROC_CATEGORY_PO;
}

bool unicode::isMark(char32_t c) {
  if (c < 0x300)
    return false;
  auto cat = category(c);
  return cat >= UTF8PROC_CATEGORY_MN && cat <= UTF8PROC_CATEGORY_ME;
}

bool unicode::isWord(char32_t c) {
  if (c < 0x80)
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  // Join_Control, and the letters in circles and squares that are Other_Alphabetic.
  if (c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
      (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189))
    return true;
  auto cat = category(c);
  return (cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_NL) || cat == UTF8PROC_CATEGORY_PC;
}

std::string unicode::normalize(std::string_view text, Form form) {
  // Nothing below U+0300 changes under composition, nothing below U+0080 at all.
  bool compose = form == Form::NFC || form == Form::NFKC;
  unsigned char unchanged = form == Form::NFC ? 0xcc : 0x80;
  if (std::all_of(text.begin(), text.end(), [&](char c) { return static_cast<unsigned char>(c) < unchanged; }))
    return std::string(text);

  int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  if (form == Form::NFKC || form == Form::NFKD)
    options |= UTF8PROC_COMPAT;
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    char32_t c = next(text, at);
    if (c < 0x80) {
      points.push_back(static_cast<utf8proc_int32_t>(c));
      continue;
    }
    if (olderNormalizationKeeps(c)) {
      points.push_back(static_cast<utf8proc_int32_t>(c));
      continue;
    }
    utf8proc_int32_t buffer[32];
    int boundary = 0;
    auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, 32,
                                         static_cast<utf8proc_option_t>(options), &boundary);
    if (count < 0 || count > 32)
      points.push_back(static_cast<utf8proc_int32_t>(c));
    else
      points.insert(points.end(), buffer, buffer + count);
  }
  // Canonical ordering. utf8proc's own is an exchange sort, quadratic on long
  // runs of marks, so it only ever gets to see sorted runs.
  auto combining = [](utf8proc_int32_t c) { return c < 0x300 ? 0 : int(utf8proc_get_property(c)->combining_class); };
  std::vector<std::tuple<int, size_t, utf8proc_int32_t>> keys;
  for (size_t i = 0; i < points.size();) {
    if (!combining(points[i])) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < points.size() && combining(points[end]))
      ++end;
    keys.clear(); // class, then place: a stable order
    for (size_t k = i; k < end; ++k)
      keys.push_back({combining(points[k]), k, points[k]});
    std::sort(keys.begin(), keys.end());
    for (size_t k = i; k < end; ++k)
      points[k] = std::get<2>(keys[k - i]);
    i = end;
  }
  if (compose) {
    auto count = utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count >= 0)
      points.resize(static_cast<size_t>(count));
  }
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (auto c : points)
    append(out, static_cast<char32_t>(c));
  return out;
}

std::string unicode::lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    char32_t c = next(text, at);
    if (c < 0x80)
      out += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : static_cast<char>(c);
    else if (c == 0x130) // the only character whose lower case is two
      out += "i\xcc\x87";
    else
      append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
  return out;
}

namespace {

struct ByteMap {
  std::array<char32_t, 256> toChar{};
  std::array<int16_t, 0x144> toByte{};
  constexpr ByteMap() {
    toByte.fill(-1);
    char32_t spare = 0x100;
    for (int b = 0; b < 256; ++b) {
      bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      toChar[b] = printable ? static_cast<char32_t>(b) : spare++;
      toByte[toChar[b]] = static_cast<int16_t>(b);
    }
  }
};

constexpr ByteMap byteMap;

} // namespace

char32_t unicode::byteToChar(uint8_t byte) { return byteMap.toChar[byte]; }

int unicode::charToByte(char32_t c) { return c < byteMap.toByte.size() ? byteMap.toByte[c] : -1; }

std::string unicode::mapBytes(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (unsigned char c : text)
    append(out, byteMap.toChar[c]);
  return out;
}
