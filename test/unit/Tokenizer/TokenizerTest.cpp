//===- TokenizerTest.cpp - encoding and decoding ---------------------------===//
#include "Fixture.h"

#include <thread>

using namespace skim;
using namespace skim::test;

namespace {

using Ids = std::vector<int32_t>;

class TokenizerTest : public testing::Test {
protected:
  std::unique_ptr<Tokenizer> load(const Json &json) { return loadFile(folder.write("tokenizer.json", dumpJson(json))); }
  std::unique_ptr<Tokenizer> loadFile(const std::string &path) {
    auto tokenizer = Tokenizer::load(path);
    EXPECT_TRUE(tokenizer) << tokenizer.message();
    return tokenizer ? std::move(*tokenizer) : nullptr;
  }
  static Ids encode(const Tokenizer &tokenizer, std::string_view text, bool addSpecial = false, bool parse = false) {
    auto ids = tokenizer.encode(text, addSpecial, parse);
    EXPECT_TRUE(ids) << ids.message();
    return ids ? *ids : Ids();
  }
  static std::string streamed(const Tokenizer &tokenizer, const Ids &ids) {
    StreamDecoder stream(tokenizer);
    std::string out;
    for (int32_t id : ids)
      out += stream.push(id);
    return out + stream.finish();
  }
  Folder folder;
};

TEST_F(TokenizerTest, MergesByRankFromTheLeft) {
  auto tokenizer = load(byteLevelTokenizer({{"a", "b"}, {"b", "c"}, {"ab", "c"}, {"Ġ", "abc"}, {"a", "a"}}));
  EXPECT_EQ(encode(*tokenizer, "abc"), Ids({258}));
  EXPECT_EQ(encode(*tokenizer, "abc abc"), Ids({258, 259}));
  EXPECT_EQ(encode(*tokenizer, "aaab"), Ids({260, 256}));
  EXPECT_EQ(encode(*tokenizer, "aaa"), Ids({260, 'a'}));
  EXPECT_EQ(encode(*tokenizer, ""), Ids());
  EXPECT_EQ(tokenizer->vocabularySize(), 261);
  EXPECT_EQ(tokenizer->kind(), "bpe");
  EXPECT_EQ(tokenizer->tokenText(259), "Ġabc");
  EXPECT_EQ(tokenizer->tokenId("Ġabc"), 259);
}

TEST_F(TokenizerTest, SpecialTokensOnlyWhenAsked) {
  Json json = byteLevelTokenizer({});
  json["added_tokens"] = {addedToken(256, "<|end|>", true), addedToken(257, "<tool>", false)};
  auto tokenizer = load(json);
  EXPECT_EQ(encode(*tokenizer, "a<|end|>", false, true), Ids({'a', 256}));
  EXPECT_EQ(encode(*tokenizer, "a<|end|>").size(), 8u);
  EXPECT_EQ(encode(*tokenizer, "<tool>"), Ids({257})); // not special: always
  EXPECT_TRUE(tokenizer->isSpecial(256));
  EXPECT_EQ(tokenizer->decode(Ids({'a', 256, 257})), "a<tool>");
  EXPECT_EQ(tokenizer->decode(Ids({'a', 256, 257}), false), "a<|end|><tool>");
  EXPECT_EQ(tokenizer->endTokens(), Ids({256}));
}

TEST_F(TokenizerTest, TemplatesAddTokens) {
  Json json = byteLevelTokenizer({});
  json["added_tokens"] = {addedToken(256, "<s>", true), addedToken(257, "</s>", true)};
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single",
                             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                              {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}}}},
                            {"special_tokens", {{"<s>", {{"ids", {256}}}}, {"</s>", {{"ids", {257}}}}}}};
  auto tokenizer = load(json);
  EXPECT_EQ(encode(*tokenizer, "a", true), Ids({256, 'a', 257}));
  EXPECT_EQ(encode(*tokenizer, "a", false), Ids({'a'}));
  EXPECT_EQ(tokenizer->beginToken(), 256);
}

TEST_F(TokenizerTest, ConfigurationsNameBeginAndEnd) {
  Json json = byteLevelTokenizer({});
  json["added_tokens"] = {addedToken(256, "<s>", true), addedToken(257, "</s>", true), addedToken(258, "<x>", true)};
  folder.write("tokenizer_config.json", R"({"bos_token": {"content": "<x>"}, "eos_token": "</s>"})");
  folder.write("generation_config.json", R"({"bos_token_id": 256, "eos_token_id": [257, 7]})");
  auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->beginToken(), 258);
  EXPECT_EQ(tokenizer->endTokens(), Ids({257, 7}));
  folder.write("generation_config.json", R"({"eos_token_id": -1})");
  auto damaged = Tokenizer::load(folder.path.string()); // a folder serves as well
  ASSERT_FALSE(damaged);
  EXPECT_NE(damaged.message().find("eos_token_id: expected a token id"), std::string::npos) << damaged.message();
}

TEST_F(TokenizerTest, InvalidUtf8BecomesReplacementCharacters) {
  auto tokenizer = load(byteLevelTokenizer({}));
  for (auto [bytes, expected] : {std::pair<std::string, std::string>{"a\xff"
                                                                     "b",
                                                                     "a\ufffdb"},
                                 {"\xe2\x82", "\ufffd"},
                                 {"\xe2\x82x", "\ufffdx"},
                                 {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
                                 {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
                                 {"\xc0\xaf", "\ufffd\ufffd"}}) {
    Ids ids = encode(*tokenizer, bytes);
    EXPECT_EQ(tokenizer->decode(ids), expected);
    EXPECT_EQ(streamed(*tokenizer, ids), expected);
  }
}

TEST_F(TokenizerTest, StreamsWholeCharacters) {
  auto tokenizer = load(byteLevelTokenizer({}));
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push('a'), "a");
  EXPECT_EQ(stream.push(0xf0), "");
  EXPECT_EQ(stream.push(0x9f), "");
  EXPECT_EQ(stream.push(0x98), "");
  EXPECT_EQ(stream.push(0x80), "😀");
  EXPECT_EQ(stream.push(0xe2), "");
  EXPECT_EQ(stream.push('b'), "\ufffdb");
  EXPECT_EQ(stream.push(0xc3), "");
  EXPECT_EQ(stream.push(100000), "");
  EXPECT_EQ(stream.push(-1), "");
  EXPECT_EQ(stream.finish(), "\ufffd");
}

TEST_F(TokenizerTest, UnknownIdsAreSkipped) {
  auto tokenizer = load(byteLevelTokenizer({}));
  EXPECT_EQ(tokenizer->decode(Ids({-1, 'a', 1 << 30, 256, INT32_MIN, INT32_MAX})), "a");
  EXPECT_EQ(tokenizer->tokenText(-1), "");
  EXPECT_FALSE(tokenizer->isSpecial(INT32_MAX));
}

TEST_F(TokenizerTest, AMillionOfOneLetter) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (size_t size = 1; size < 64; size *= 2)
    merges.push_back({std::string(size, 'a'), std::string(size, 'a')});
  Json json = byteLevelTokenizer(merges);
  auto tokenizer = load(json);
  EXPECT_EQ(encode(*tokenizer, std::string(1 << 20, 'a')), Ids((1 << 20) / 64, 261));
  json["pre_tokenizer"]["use_regex"] = false;
  json["normalizer"] = {{"type", "NFC"}};
  tokenizer = load(json);
  // Marks in the worst order for a sort by exchanges.
  std::string marks = "a";
  for (int i = 0; i < 100000; ++i)
    marks += "\u0301";
  for (int i = 0; i < 100000; ++i)
    marks += "\u0323";
  std::string sorted = tokenizer->decode(encode(*tokenizer, marks));
  EXPECT_EQ(sorted.size(), marks.size()); // three bytes instead of one and two
  EXPECT_TRUE(sorted.starts_with("\u1ea1\u0323\u0323"));
}

TEST_F(TokenizerTest, ManyThreadsGiveTheSame) {
  auto tokenizer = load(byteLevelTokenizer({{"a", "b"}, {"Ġ", "ab"}}));
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids &result : results)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i)
        result = encode(*tokenizer, "ab ab abc" + std::to_string(i));
    });
  for (std::thread &thread : threads)
    thread.join();
  for (const Ids &result : results)
    EXPECT_EQ(result, results[0]);
}

TEST_F(TokenizerTest, SentencePieceModels) {
  std::string small = sharedFile("babyllama-tok105/tok105.model");
  std::string large = sharedFile("tokenizers/llama2-32000-tokenizer.model");
  if (small.empty() || large.empty())
    GTEST_SKIP() << "unsupported: no ../shared";
  auto tok105 = loadFile(small);
  ASSERT_TRUE(tok105);
  EXPECT_EQ(tok105->vocabularySize(), 105);
  EXPECT_EQ(tok105->kind(), "sentencepiece");
  auto llama = loadFile(large);
  ASSERT_TRUE(llama);
  EXPECT_EQ(llama->vocabularySize(), 32000);
  EXPECT_EQ(llama->beginToken(), 1);
  EXPECT_EQ(llama->endTokens(), Ids({2}));
  EXPECT_EQ(encode(*llama, "Hello world"), Ids({15043, 3186}));
  EXPECT_EQ(encode(*llama, "Hello world", true), Ids({1, 15043, 3186}));
  EXPECT_EQ(encode(*llama, "a</s>", false, true), Ids({263, 2}));
  for (const Tokenizer *tokenizer : {tok105.get(), llama.get()}) {
    for (std::string text : {"Once upon a time, there was a dog.", "  two  spaces ", "a", "tab\tnewline\n"}) {
      Ids ids = encode(*tokenizer, text);
      EXPECT_EQ(streamed(*tokenizer, ids), tokenizer->decode(ids));
    }
  }
  std::string mixed = "naïve 日本 😀👨‍👩‍👧 \u0301";
  EXPECT_EQ(llama->decode(encode(*llama, mixed)), mixed);
  EXPECT_EQ(streamed(*llama, encode(*llama, mixed)), mixed);
  StreamDecoder continued(*llama, /*continues=*/true);
  EXPECT_EQ(continued.push(15043), " Hello");
  EXPECT_EQ(llama->decode(Ids({-1, 1 << 30, 15043})), "Hello");
}

} // namespace
