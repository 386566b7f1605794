//===- DamagedTest.cpp - hostile tokenizer files ---------------------------===//
#include "Fixture.h"

#include <cmath>
#include <random>

using namespace skim;
using namespace skim::test;

namespace {

std::string readAll(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Loads bytes that may be anything, and uses the tokenizer if there is one.
/// The error, or nothing.
std::string tryBytes(const Folder &folder, const std::string &bytes) {
  auto tokenizer = Tokenizer::load(folder.write("tokenizer", bytes));
  if (!tokenizer) {
    EXPECT_EQ(tokenizer.message().find('\n'), std::string::npos);
    return tokenizer.message();
  }
  for (const char *text : {"", "Hello  world 12'345 \u00e9\u4e00\U0001f600\xff<s>", "aaaaaaaaaaaaaaaaaaaa\n\n\t"}) {
    for (bool special : {false, true}) {
      auto ids = (*tokenizer)->encode(text, special, special);
      if (!ids)
        continue;
      StreamDecoder stream(**tokenizer);
      std::string streamed;
      for (int32_t id : *ids)
        streamed += stream.push(id);
      streamed += stream.finish();
      EXPECT_TRUE(unicode::isValid(streamed));
      EXPECT_TRUE(unicode::isValid((*tokenizer)->decode(*ids)));
    }
  }
  return "";
}

/// Flips, drops, repeats and swaps bytes.
std::string mutated(std::string bytes, std::mt19937 &random) {
  auto below = [&](size_t n) { return n ? random() % n : 0; };
  for (size_t count = 1 + below(4); count-- && !bytes.empty();) {
    size_t at = below(bytes.size());
    switch (below(6)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      break;
    case 1:
      bytes[at] = static_cast<char>(random());
      break;
    case 2:
      bytes.erase(at, 1 + below(8));
      break;
    case 3:
      bytes.insert(at, bytes.substr(below(bytes.size()), 1 + below(16)));
      break;
    case 4:
      bytes.resize(at);
      break;
    default:
      bytes.insert(at, 1, "\"{}[],:0-9e\\"[below(12)]);
    }
  }
  return bytes;
}

/// A SentencePiece model under construction (sentencepiece_model.proto).
struct Message {
  std::string bytes;
  Message &varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7)
      bytes += static_cast<char>(value | 0x80);
    bytes += static_cast<char>(value);
    return *this;
  }
  Message &integer(int field, uint64_t value) { return varint(field << 3).varint(value); }
  Message &text(int field, std::string_view value) {
    varint(field << 3 | 2).varint(value.size());
    bytes += value;
    return *this;
  }
  Message &real(int field, float value) {
    varint(field << 3 | 5);
    bytes.append(reinterpret_cast<const char *>(&value), 4);
    return *this;
  }
};

std::string piece(std::string_view text, float score, int type) {
  return Message().text(1, Message().text(1, text).real(2, score).integer(3, type).bytes).bytes;
}

std::string smallModel(int modelType) {
  std::string bytes = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581", -1, 1) +
                      piece("\u2581a", -2, 1) + piece("aa", -3, 1) + piece("a", -4, 1) + piece("b", -5, 1) +
                      piece("<x>", 0, 4);
  return bytes + Message().text(2, Message().integer(3, modelType).bytes).bytes;
}

TEST(DamagedTokenizer, EveryErrorNamesItsPlace) {
  Folder folder;
  auto change = [&](const char *pointer, Json value) {
    Json json = byteLevelTokenizer({{"a", "b"}});
    json["added_tokens"] = {addedToken(257, "<s>", true)};
    json[Json::json_pointer(pointer)] = std::move(value);
    return tryBytes(folder, dumpJson(json));
  };
  const std::tuple<const char *, Json, const char *> cases[] = {
      {"/model", nullptr, "model: expected an object, got nothing"},
      {"/model", 3, "model: expected an object, got number"},
      {"/model/type", "Unigram", "model.type: expected BPE, got Unigram"},
      {"/model/type", 7, "model.type: expected a string, got number"},
      {"/model/vocab", Json::array(), "model.vocab: expected an object from tokens to ids, got array"},
      {"/model/vocab/a", -1, "model.vocab.a: expected a token id from 0"},
      {"/model/vocab/a", 1e30, "model.vocab.a: expected a token id from 0"},
      {"/model/vocab/a", 2147483648u, "model.vocab.a: expected a token id from 0"},
      {"/model/vocab/a", "1", "model.vocab.a: expected a token id from 0"},
      {"/model/vocab/a", 98, "expected an id of its own, got 98"},
      {"/model/merges", "a b", "model.merges: expected a list of pairs, got string"},
      {"/model/merges/0", "a b c", "model.merges[0]: expected two tokens and a space"},
      {"/model/merges/0", {"a"}, "model.merges[0]: expected a pair of tokens, got array"},
      {"/model/merges/0", {"a", 1}, "model.merges[0]: expected a pair of tokens, got array"},
      {"/model/merges/0", {"a", "zz"}, "model.merges[0]: expected tokens of the vocabulary, got zz"},
      {"/model/unk_token", "none", "model.unk_token: expected a token of the vocabulary, got none"},
      {"/model/dropout", 0.5, "model.dropout: expected none, got 0.5"},
      {"/model/fuse_unk", 1, "model.fuse_unk: expected true or false, got number"},
      {"/model/continuing_subword_prefix", "##########", "model.merges[0]: expected a second token with the prefix"},
      {"/added_tokens", 1, "added_tokens: expected a list, got number"},
      {"/added_tokens/0/id", -5, "added_tokens[0].id: expected a token id from 0"},
      {"/added_tokens/0/content", 5, "added_tokens[0].content: expected a string, got number"},
      {"/added_tokens/0/content", std::string(2000, 'x'),
       "added_tokens[0].content: expected at most 1024 bytes, got 2000"},
      {"/added_tokens/0", 3, "added_tokens[0].content: expected a string, got nothing"},
      {"/normalizer", {{"type", "Precompiled"}}, "normalizer: expected a normalizer known to skim, got Precompiled"},
      {"/normalizer", "NFC", "normalizer: expected an object, got string"},
      {"/pre_tokenizer",
       {{"type", "UnicodeScripts"}},
       "pre_tokenizer: expected a pre-tokenizer known to skim, got UnicodeScripts"},
      {"/pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}},
       "pre_tokenizer.pattern: expected what PCRE2 can express, got an unclosed group in (a"},
      {"/pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Sideways"}},
       "pre_tokenizer.behavior: expected Removed"},
      {"/decoder", {{"type", "CTC"}}, "decoder: expected a decoder known to skim, got CTC"},
      {"/post_processor", {{"type", "Magic"}}, "post_processor: expected a post-processor known to skim, got Magic"},
  };
  for (const auto &[pointer, value, expected] : cases)
    EXPECT_NE(change(pointer, value).find(expected), std::string::npos) << expected << "\n" << change(pointer, value);
}

TEST(DamagedTokenizer, NestingIsBounded) {
  Folder folder;
  for (const char *kind : {"normalizer", "pre_tokenizer", "decoder", "post_processor"}) {
    const char *list = kind[0] == 'n'   ? "normalizers"
                       : kind[0] == 'd' ? "decoders"
                       : kind[1] == 'r' ? "pretokenizers"
                                        : "processors";
    Json value = Json::array();
    for (int i = 0; i < 25; ++i)
      value = Json::array({{{"type", "Sequence"}, {list, value}}});
    Json json = byteLevelTokenizer({});
    json[kind] = value[0];
    EXPECT_NE(tryBytes(folder, dumpJson(json)), "") << kind;
  }
  EXPECT_NE(tryBytes(folder, "{\"model\":" + std::string(1000000, '[')), "");
}

TEST(DamagedTokenizer, NeitherKind) {
  Folder folder;
  EXPECT_NE(tryBytes(folder, ""), "");
  EXPECT_NE(tryBytes(folder, "{}"), "");
  EXPECT_NE(tryBytes(folder, "hello"), "");
  EXPECT_NE(tryBytes(folder, std::string(100, '\0')), "");
  EXPECT_FALSE(Tokenizer::load((folder.path / "absent").string()));
  EXPECT_FALSE(Tokenizer::load("/dev/null"));
}

TEST(DamagedTokenizer, SentencePieceTraps) {
  Folder folder;
  for (int type : {1, 2, 3, 4, 9})
    EXPECT_EQ(tryBytes(folder, smallModel(type)), "") << type;
  std::string model = smallModel(1);
  EXPECT_NE(tryBytes(folder, model + piece(std::string_view("c\0d", 3), 0, 1)), "");
  EXPECT_NE(tryBytes(folder, model + piece("\xff", 0, 1)), "");
  EXPECT_NE(tryBytes(folder, model + piece("", 0, 1)), "");
  EXPECT_NE(tryBytes(folder, model + piece("nan", NAN, 1)), "");
  EXPECT_NE(tryBytes(folder, model + piece("a", 0, 1)), "");                    // twice
  EXPECT_NE(tryBytes(folder, model + piece(std::string(5000, 'a'), 0, 1)), ""); // too long
  std::string nested = model;
  for (int i = 1; i < 100; ++i)
    nested += piece("z" + std::string(i, 'z'), 0, 4);
  EXPECT_NE(tryBytes(folder, nested), "");
  // A character map whose trie points far outside itself.
  std::string trie(1024, '\0'), map;
  trie[3] = '\x7f';
  uint32_t size = static_cast<uint32_t>(trie.size());
  map.append(reinterpret_cast<const char *>(&size), 4);
  map += trie + std::string("x\0", 2);
  EXPECT_NE(tryBytes(folder, model + Message().text(3, Message().text(2, map).bytes).bytes), "");
  // One whose nodes double the ways at each step down: 2^60 of them.
  std::vector<uint32_t> units(64 * 256, 0x80000000u); // all mismatch
  auto leadTo = [&](uint32_t at, uint32_t label, uint32_t base) {
    units[at] = label | (at ^ base) << 10 | 1u << 8; // ends a key, too
  };
  units[0] = 0u | (256u << 10);
  for (uint32_t node = 1; node < 62; ++node) {
    leadTo(node * 256 ^ 1, 1, (node + 1) * 256);
    leadTo(node * 256 ^ 2, 2, (node + 1) * 256);
  }
  size = static_cast<uint32_t>(units.size() * 4);
  map.assign(reinterpret_cast<const char *>(&size), 4);
  map.append(reinterpret_cast<const char *>(units.data()), size);
  map += std::string("x\0", 2);
  EXPECT_NE(tryBytes(folder, model + Message().text(3, Message().text(2, map).bytes).bytes).find("nested keys"),
            std::string::npos);
  // Self tests that fail, which the library would report on standard error.
  testing::internal::CaptureStderr();
  Message sample = Message().text(1, "aab").text(2, "wrong");
  EXPECT_EQ(tryBytes(folder, model + Message().text(4, Message().text(1, sample.bytes).bytes).bytes), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(DamagedTokenizer, MutatedJson) {
  Folder folder;
  Json json = byteLevelTokenizer({{"a", "b"}, {"ab", "c"}});
  json["added_tokens"] = {addedToken(258, "<s>", true), addedToken(259, "<tool>", false)};
  json["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       {{{"type", "NFC"}}, {{"type", "Replace"}, {"pattern", {{"Regex", "\\s{2,}"}}}, {"content", " "}}}}};
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers",
                            {{{"type", "Split"},
                              {"pattern", {{"Regex", "(?i:'s|[^\\r\\n\\p{L}]?\\p{L}+|\\p{N}{1,3})|\\s+(?!\\S)"}}},
                              {"behavior", "Isolated"},
                              {"invert", false}},
                             {{"type", "Digits"}, {"individual_digits", true}},
                             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  std::string head = dumpJson(json);
  std::mt19937 random(7);
  int loaded = 0;
  for (int i = 0; i < 1500; ++i)
    loaded += tryBytes(folder, mutated(head, random)).empty();
  EXPECT_GT(loaded, 20); // mutations deep enough to reach the tokenizer itself
}

TEST(DamagedTokenizer, MutatedSentencePiece) {
  Folder folder;
  std::vector<std::string> models = {smallModel(1), smallModel(2)};
  if (std::string path = sharedFile("babyllama-tok105/tok105.model"); !path.empty())
    models.push_back(readAll(path));
  std::mt19937 random(11);
  testing::internal::CaptureStderr();
  int loaded = 0;
  for (int i = 0; i < 3000; ++i)
    loaded += tryBytes(folder, mutated(models[i % models.size()], random)).empty();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_GT(loaded, 20);
}

} // namespace
