//===- AddedTokens.h - tokens that are found in a text first -----*- C++ -*-===//
#ifndef SKIM_LIB_TOKENIZER_ADDEDTOKENS_H
#define SKIM_LIB_TOKENIZER_ADDEDTOKENS_H

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// How one added token is found (`AddedToken` in tokenizers).
struct AddedToken {
  std::string pattern; // content, normalized where the token asks for it
  int32_t id = 0;
  bool singleWord = false; // only between characters that are not of words
  bool leftStrip = false;  // takes the white space before it along
  bool rightStrip = false; // takes the white space behind it along
  bool special = false;
};

/// Finds added tokens: at each place the longest, from left to right.
class AddedTokenFinder {
public:
  /// Longer patterns are refused by the reader, which bounds the search.
  static constexpr size_t longest = 1024;

  void add(AddedToken token);
  bool empty() const { return tokens.empty(); }

  struct Part {
    size_t begin;
    size_t end;
    int32_t id; // -1: text between tokens
  };
  /// The parts of `text` in order. Without `parseSpecial` special tokens are text.
  std::vector<Part> split(std::string_view text, bool parseSpecial) const;

private:
  struct Node {
    std::vector<std::pair<unsigned char, int32_t>> next;
    int32_t token = -1;
  };
  int32_t child(int32_t node, unsigned char byte) const;

  std::vector<AddedToken> tokens;
  std::vector<Node> nodes{1};
  std::array<bool, 256> starts{};
};

} // namespace skim

#endif // SKIM_LIB_TOKENIZER_ADDEDTOKENS_H
