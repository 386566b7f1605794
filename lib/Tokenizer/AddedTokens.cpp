#include "AddedTokens.h"
#include "Unicode.h"

#include <algorithm>

using namespace skim;

int32_t AddedTokenFinder::child(int32_t node, unsigned char byte) const {
  for (auto [key, target] : nodes[node].next)
    if (key == byte)
      return target;
  return -1;
}

void AddedTokenFinder::add(AddedToken token) {
  if (token.pattern.empty())
    return;
  int32_t node = 0;
  for (unsigned char c : token.pattern) {
    int32_t target = child(node, c);
    if (target < 0) {
      target = static_cast<int32_t>(nodes.size());
      nodes[node].next.push_back({c, target});
      nodes.emplace_back();
    }
    node = target;
  }
  nodes[node].token = static_cast<int32_t>(tokens.size());
  starts[static_cast<unsigned char>(token.pattern[0])] = true;
  tokens.push_back(std::move(token));
}

/// Where the character that ends before `end` begins.
static size_t previousChar(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80)
    --at;
  return at;
}

static bool charTest(std::string_view text, size_t at, bool (*test)(char32_t)) { return test(unicode::next(text, at)); }

std::vector<AddedTokenFinder::Part> AddedTokenFinder::split(std::string_view text, bool parseSpecial) const {
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t at = 0; !tokens.empty() && at < text.size();) {
    if (!starts[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    int32_t node = 0, found = -1;
    size_t begin = at, end = at;
    for (size_t probe = at; probe < text.size();) {
      node = child(node, static_cast<unsigned char>(text[probe++]));
      if (node < 0)
        break;
      if (nodes[node].token >= 0) {
        found = nodes[node].token;
        end = probe;
      }
    }
    if (found < 0) {
      ++at;
      continue;
    }
    at = end;
    const AddedToken &token = tokens[found];
    if (token.special && !parseSpecial)
      continue;
    if (token.singleWord) {
      bool wordBefore = begin > 0 && charTest(text, previousChar(text, begin), unicode::isWord);
      bool wordAfter = end < text.size() && charTest(text, end, unicode::isWord);
      if (wordBefore || wordAfter)
        continue;
    }
    if (token.leftStrip) {
      while (begin > done && charTest(text, previousChar(text, begin), unicode::isWhitespace))
        begin = previousChar(text, begin);
    }
    if (token.rightStrip) {
      while (end < text.size() && charTest(text, end, unicode::isWhitespace))
        end += unicode::length(static_cast<unsigned char>(text[end]));
    }
    begin = std::max(begin, done); // the token before may have taken white space that is ours
    if (done < begin)
      parts.push_back({done, begin, -1});
    parts.push_back({begin, end, token.id});
    done = std::max(done, end);
  }
  if (done < text.size())
    parts.push_back({done, text.size(), -1});
  return parts;
}
