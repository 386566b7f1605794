//===- Unicode.h - UTF-8 and character classes -------------------*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_UNICODE_H
#define SKIM_LIB_TOKENIZER_UNICODE_H

#include <cstdint>
#include <string>
#include <string_view>

namespace skim::unicode {

inline constexpr std::string_view replacement = "\xef\xbf\xbd";

/// Length in bytes of the longest valid prefix.
size_t validPrefix(std::string_view bytes);
inline bool isValid(std::string_view bytes) { return validPrefix(bytes) == bytes.size(); }

/// Each maximal ill-formed part becomes one U+FFFD (Unicode 3.9, table 3-8;
/// the same as Rust's from_utf8_lossy and Python's errors="replace").
std::string toValid(std::string_view bytes);

/// Bytes at the end of `bytes` that begin a character and could still be
/// completed by more bytes: 0 to 3.
size_t incompleteSuffix(std::string_view bytes);

/// The code point at `text[at]`, and advances `at` behind it; `text` is valid.
inline char32_t next(std::string_view text, size_t &at) {
  unsigned char c = text[at++];
  if (c < 0x80)
    return c;
  auto tail = [&] { return static_cast<char32_t>(static_cast<unsigned char>(text[at++]) & 0x3f); };
  if (c < 0xe0) {
    char32_t value = (c & 0x1fu) << 6;
    return value | tail();
  }
  if (c < 0xf0) {
    char32_t value = (c & 0x0fu) << 12;
    value |= tail() << 6;
    return value | tail();
  }
  char32_t value = (c & 0x07u) << 18;
  value |= tail() << 12;
  value |= tail() << 6;
  return value | tail();
}

/// Length in bytes of the character that begins with `lead`.
inline size_t length(unsigned char lead) { return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4; }

void append(std::string &out, char32_t c);

bool isWhitespace(char32_t c);  ///< White_Space, as Rust's char::is_whitespace
bool isNumeric(char32_t c);     ///< N, as Rust's char::is_numeric
bool isPunctuation(char32_t c); ///< P or ASCII punctuation
bool isMark(char32_t c);        ///< M
bool isWord(char32_t c);        ///< \w of Rust's regex: Alphabetic, M, Nd, Pc, Join_Control

enum class Form { NFC, NFD, NFKC, NFKD };
std::string normalize(std::string_view text, Form form);
std::string lowercase(std::string_view text);

/// GPT-2's mapping of bytes to printable characters (`bytes_to_unicode`).
/// Its code points lie below 0x144.
char32_t byteToChar(uint8_t byte);
/// The byte that `c` stands for, or -1.
int charToByte(char32_t c);
/// Every byte of `text` as its character.
std::string mapBytes(std::string_view text);

} // namespace skim::unicode

#endif // SKIM_LIB_TOKENIZER_UNICODE_H
