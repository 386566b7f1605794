#include "TestPackage.h"
#include "skim-rt/skim_rt.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <set>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace skim::test;

namespace {
using Tokens = std::vector<int32_t>;
using Logits = std::vector<float>;

/// A model on so many threads.
class Runtime : public testing::TestWithParam<int> {
protected:
  void SetUp() override {
    skim_rt_options options{};
    options.size = sizeof options;
    options.threads = GetParam();
    ASSERT_EQ(skim_rt_open(package.folder.c_str(), &options, &model), SKIM_RT_OK) << skim_rt_error();
  }
  void TearDown() override {
    for (skim_rt_session *session : sessions)
      skim_rt_session_close(session);
    skim_rt_close(model);
  }
  skim_rt_session *session(int64_t capacity = 0) {
    skim_rt_session *session = nullptr;
    EXPECT_EQ(skim_rt_session_create(model, capacity, &session), SKIM_RT_OK) << skim_rt_error();
    sessions.push_back(session);
    return session;
  }
  skim_rt_session *fork(skim_rt_session *from, int64_t capacity = 0) {
    skim_rt_session *session = nullptr;
    EXPECT_EQ(skim_rt_session_fork(from, capacity, &session), SKIM_RT_OK) << skim_rt_error();
    sessions.push_back(session);
    return session;
  }
  Logits last(skim_rt_session *session, const Tokens &tokens) {
    Logits logits(vocabulary);
    EXPECT_EQ(skim_rt_prefill(session, tokens.data(), static_cast<int64_t>(tokens.size()), SKIM_RT_LOGITS_LAST,
                              logits.data()),
              SKIM_RT_OK)
        << skim_rt_error();
    return logits;
  }
  /// The error of appending tokens.
  std::string refused(skim_rt_session *session, const Tokens &tokens) {
    Logits logits(vocabulary);
    EXPECT_EQ(skim_rt_prefill(session, tokens.data(), static_cast<int64_t>(tokens.size()), SKIM_RT_LOGITS_LAST,
                              logits.data()),
              SKIM_RT_FAILED);
    return skim_rt_error();
  }

  TestPackage package;
  skim_rt_model *model = nullptr;
  std::vector<skim_rt_session *> sessions;
};

Tokens someTokens(size_t count, unsigned seed = 1) {
  std::mt19937 random(seed);
  Tokens tokens(count);
  for (int32_t &token : tokens)
    token = static_cast<int32_t>(random() % vocabulary);
  return tokens;
}

Tokens prefix(const Tokens &tokens, size_t count) { return Tokens(tokens.begin(), tokens.begin() + count); }
} // namespace

INSTANTIATE_TEST_SUITE_P(Threads, Runtime, testing::Values(1, 2, 7));

TEST_P(Runtime, Info) {
  skim_rt_info info;
  ASSERT_EQ(skim_rt_model_info(model, &info), SKIM_RT_OK);
  EXPECT_STREQ(info.name, "test");
  EXPECT_STREQ(info.target, "cpu:test");
  EXPECT_EQ(info.vocabulary, vocabulary);
  EXPECT_EQ(info.context, 100);
  EXPECT_EQ(info.capacity, 100);
  EXPECT_EQ(info.max_rows, 16);
  EXPECT_EQ(info.threads, GetParam());
  EXPECT_EQ(info.begin_token, 1);
  ASSERT_EQ(info.num_end_tokens, 1u);
  EXPECT_EQ(info.end_tokens[0], 2);
  EXPECT_EQ(info.has_tokenizer, 0);
  EXPECT_EQ(info.weight_bytes, vocabulary * 4 + 4u);
  EXPECT_EQ(info.cache_bytes_per_token, 38u);
}

TEST_P(Runtime, PrefillInPiecesOfMaxRows) {
  Tokens tokens = someTokens(100);
  for (size_t count : {1, 2, 15, 16, 17, 33, 100}) {
    skim_rt_session *s = session();
    EXPECT_EQ(last(s, prefix(tokens, count)), expectedLogits(prefix(tokens, count)));
    EXPECT_EQ(skim_rt_session_length(s), static_cast<int64_t>(count));
  }
}

TEST_P(Runtime, AllLogits) {
  Tokens tokens = someTokens(37);
  Logits logits(tokens.size() * vocabulary);
  ASSERT_EQ(skim_rt_prefill(session(), tokens.data(), 37, SKIM_RT_LOGITS_ALL, logits.data()), SKIM_RT_OK);
  for (size_t i = 0; i < tokens.size(); ++i)
    EXPECT_EQ(Logits(logits.begin() + i * vocabulary, logits.begin() + (i + 1) * vocabulary),
              expectedLogits(prefix(tokens, i + 1)))
        << i;
}

TEST_P(Runtime, PrefillThenDecode) {
  Tokens tokens = someTokens(60);
  skim_rt_session *s = session(60);
  ASSERT_EQ(skim_rt_prefill(s, tokens.data(), 20, SKIM_RT_LOGITS_NONE, nullptr), SKIM_RT_OK);
  for (size_t i = 20; i < 60; ++i) {
    Logits logits(vocabulary);
    ASSERT_EQ(skim_rt_decode(&s, &tokens[i], 1, logits.data()), SKIM_RT_OK);
    ASSERT_EQ(logits, expectedLogits(prefix(tokens, i + 1)));
  }
  EXPECT_EQ(refused(s, {3}), "text is longer than the session: expected at most 0 more tokens (60 of 60 are used), got "
                             "1 (the model's context is 100)");
}

TEST_P(Runtime, DecodeManySessionsAtOnce) {
  // More sessions than max_rows, of different lengths and capacities.
  size_t count = 21;
  std::vector<skim_rt_session *> list;
  std::vector<Tokens> texts;
  Tokens next;
  for (size_t i = 0; i < count; ++i) {
    list.push_back(session(static_cast<int64_t>(40 + i)));
    texts.push_back(someTokens(1 + i, static_cast<unsigned>(i)));
    last(list.back(), texts.back());
  }
  for (int32_t round = 0; round < 5; ++round) {
    next.clear();
    for (size_t i = 0; i < count; ++i) {
      next.push_back(static_cast<int32_t>((i * 7 + static_cast<size_t>(round)) % vocabulary));
      texts[i].push_back(next.back());
    }
    Logits logits(count * vocabulary);
    ASSERT_EQ(skim_rt_decode(list.data(), next.data(), count, logits.data()), SKIM_RT_OK) << skim_rt_error();
    for (size_t i = 0; i < count; ++i)
      EXPECT_EQ(Logits(logits.begin() + i * vocabulary, logits.begin() + (i + 1) * vocabulary),
                expectedLogits(texts[i]));
  }
}

TEST_P(Runtime, StepsOfUnequalSequences) {
  std::vector<int64_t> counts = {3, 5, 1, 40, 2, 2, 7, 1};
  std::vector<int32_t> wanted = {SKIM_RT_LOGITS_LAST, SKIM_RT_LOGITS_ALL, SKIM_RT_LOGITS_NONE, SKIM_RT_LOGITS_ALL,
                                 SKIM_RT_LOGITS_LAST, SKIM_RT_LOGITS_ALL, SKIM_RT_LOGITS_NONE, SKIM_RT_LOGITS_LAST};
  std::vector<Tokens> texts;
  std::vector<skim_rt_sequence> sequences;
  Logits expected;
  for (size_t i = 0; i < counts.size(); ++i)
    texts.push_back(someTokens(static_cast<size_t>(counts[i]), static_cast<unsigned>(i)));
  for (size_t i = 0; i < counts.size(); ++i) {
    sequences.push_back({session(), texts[i].data(), counts[i], wanted[i]});
    size_t first = wanted[i] == SKIM_RT_LOGITS_ALL ? 0 : texts[i].size() - (wanted[i] == SKIM_RT_LOGITS_LAST);
    for (size_t t = first; t < texts[i].size(); ++t) {
      Logits row = expectedLogits(prefix(texts[i], t + 1));
      expected.insert(expected.end(), row.begin(), row.end());
    }
  }
  Logits logits(expected.size());
  ASSERT_EQ(skim_rt_step(sequences.data(), sequences.size(), logits.data()), SKIM_RT_OK) << skim_rt_error();
  EXPECT_EQ(logits, expected);
}

TEST_P(Runtime, ForkAndTruncate) {
  Tokens tokens = someTokens(30);
  skim_rt_session *first = session();
  last(first, tokens);
  skim_rt_session *second = fork(first), *third = fork(first, 32);
  EXPECT_EQ(skim_rt_session_capacity(third), 32);
  Tokens more = tokens;
  more.push_back(5);
  EXPECT_EQ(last(second, {5}), expectedLogits(more));
  EXPECT_EQ(last(third, {5}), expectedLogits(more));
  more.back() = 9;
  EXPECT_EQ(last(first, {9}), expectedLogits(more));

  ASSERT_EQ(skim_rt_session_truncate(second, 11), SKIM_RT_OK);
  Tokens shorter = prefix(tokens, 11);
  shorter.push_back(0);
  EXPECT_EQ(last(second, {0}), expectedLogits(shorter));
  ASSERT_EQ(skim_rt_session_truncate(second, 0), SKIM_RT_OK);
  EXPECT_EQ(last(second, {1}), expectedLogits({1}));

  skim_rt_session *none = nullptr;
  EXPECT_EQ(skim_rt_session_fork(first, 5, &none), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(), "invalid capacity at fork: expected at least the 31 tokens in use, got 5");
  EXPECT_EQ(skim_rt_session_truncate(first, 32), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(), "invalid length at truncate: expected 0 to the 31 tokens in use, got 32");
}

// A failed call leaves everything as it was.
TEST_P(Runtime, BadInput) {
  skim_rt_session *s = session(10), *other = session();
  last(s, {1, 2, 3});
  EXPECT_EQ(refused(s, {1, 40}), "token out of range at token 1: expected an id from 0 to 39, got 40");
  EXPECT_EQ(refused(s, {-1}), "token out of range at token 0: expected an id from 0 to 39, got -1");
  EXPECT_EQ(refused(s, {}), "empty input: expected at least one token, got 0");
  EXPECT_EQ(refused(s, someTokens(8)), "text is longer than the session: expected at most 7 more tokens (3 of 10 are "
                                       "used), got 8 (the model's context is 100)");
  EXPECT_EQ(refused(session(), someTokens(101)),
            "text is longer than the session: expected at most 100 more tokens (0 of 100 are used), got 101 (this is "
            "the model's context)");
  Logits logits(3 * vocabulary);
  Tokens next = {1, 1, 1};
  skim_rt_session *twice[] = {s, other, s};
  EXPECT_EQ(skim_rt_decode(twice, next.data(), 3, logits.data()), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(), "session given twice: expected distinct sessions in one step, got a repeated one");
  EXPECT_EQ(skim_rt_decode(twice, next.data(), 0, logits.data()), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(), "empty step: expected at least one sequence, got none");
  EXPECT_EQ(skim_rt_decode(&s, next.data(), 1, nullptr), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(), "invalid argument at logits: expected memory for 1 rows, got null");
  skim_rt_session *none = nullptr;
  EXPECT_EQ(skim_rt_session_create(model, 101, &none), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(),
               "invalid capacity at session: expected 0 to the model's context of 100 tokens, got 101");

  skim_rt_model *second = nullptr;
  skim_rt_options options{};
  options.threads = 1;
  options.capacity = 101;
  EXPECT_EQ(skim_rt_open(package.folder.c_str(), &options, &second), SKIM_RT_FAILED);
  options.capacity = 50;
  options.max_rows = 4;
  ASSERT_EQ(skim_rt_open(package.folder.c_str(), &options, &second), SKIM_RT_OK) << skim_rt_error();
  skim_rt_session *foreign = nullptr;
  ASSERT_EQ(skim_rt_session_create(second, 0, &foreign), SKIM_RT_OK);
  EXPECT_EQ(skim_rt_session_capacity(foreign), 50);
  skim_rt_close(second); // the session keeps it alive
  EXPECT_EQ(last(foreign, someTokens(50)), expectedLogits(someTokens(50)));
  skim_rt_session *mixed[] = {other, foreign};
  EXPECT_EQ(skim_rt_decode(mixed, next.data(), 2, logits.data()), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(),
               "session of another model: expected sessions of one model in a step, got several models");
  skim_rt_session_close(foreign);

  EXPECT_EQ(skim_rt_session_length(s), 3);
  EXPECT_EQ(last(s, {4}), expectedLogits({1, 2, 3, 4}));
  size_t count = 0;
  EXPECT_EQ(skim_rt_tokenize(model, "a", 1, 0, nullptr, 0, &count), SKIM_RT_FAILED);
  EXPECT_EQ(std::string(skim_rt_error()), "package without tokenizer at " + package.folder +
                                              ": expected a tokenizer file, got none (use token ids, or quantize with "
                                              "--tokenizer)");
}

// Threads with their own sessions, and two that share one.
TEST_P(Runtime, ManyThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  skim_rt_session *shared = session();
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (unsigned round = 0; round < 8; ++round) {
        skim_rt_session *own = nullptr, *copy = nullptr;
        Tokens tokens = someTokens(10 + t, t + 10 * round);
        Logits logits(vocabulary);
        wrong += skim_rt_session_create(model, 0, &own) != 0;
        wrong += skim_rt_prefill(own, tokens.data(), static_cast<int64_t>(tokens.size()), SKIM_RT_LOGITS_LAST,
                                 logits.data()) != 0;
        wrong += logits != expectedLogits(tokens);
        wrong += skim_rt_session_fork(own, 0, &copy) != 0;
        wrong += skim_rt_decode(&copy, tokens.data(), 1, logits.data()) != 0;
        tokens.push_back(tokens.front());
        wrong += logits != expectedLogits(tokens);
        // Some order, but each exactly once; errors are this thread's own.
        wrong += skim_rt_decode(&shared, tokens.data(), 1, logits.data()) != 0;
        int32_t bad = static_cast<int32_t>(vocabulary + t);
        wrong += skim_rt_decode(&own, &bad, 1, logits.data()) != SKIM_RT_FAILED;
        wrong += std::string(skim_rt_error()).find("got " + std::to_string(bad)) == std::string::npos;
        skim_rt_session_close(own);
        skim_rt_session_close(copy);
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(skim_rt_session_length(shared), 32);
}

TEST_P(Runtime, Sampling) {
  Logits logits = expectedLogits({1, 2, 3});
  int32_t token = -1;
  ASSERT_EQ(skim_rt_sample(model, logits.data(), nullptr, nullptr, &token), SKIM_RT_OK);
  EXPECT_EQ(token, std::max_element(logits.begin(), logits.end()) - logits.begin());

  // The same seed and counter give the same tokens, from any place.
  skim_rt_sampling sampling{1, 0, 1};
  skim_rt_random random{7, 0};
  Tokens all;
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(skim_rt_sample(model, logits.data(), &sampling, &random, &token), SKIM_RT_OK);
    all.push_back(token);
  }
  EXPECT_EQ(random.counter, 50u);
  random = {7, 20};
  ASSERT_EQ(skim_rt_sample(model, logits.data(), &sampling, &random, &token), SKIM_RT_OK);
  EXPECT_EQ(token, all[20]);
  EXPECT_GT(std::set<int32_t>(all.begin(), all.end()).size(), 15u);

  for (auto [bad, name] :
       {std::pair(skim_rt_sampling{NAN, 0, 1}, "temperature"), std::pair(skim_rt_sampling{1, -1, 1}, "top_k"),
        std::pair(skim_rt_sampling{1, 0, 0}, "top_p"), std::pair(skim_rt_sampling{1, 0, NAN}, "top_p")}) {
    EXPECT_EQ(skim_rt_sample(model, logits.data(), &bad, &random, &token), SKIM_RT_FAILED);
    EXPECT_EQ(std::string(skim_rt_error()).rfind(std::string("invalid sampling at ") + name, 0), 0u);
  }
  EXPECT_EQ(skim_rt_sample(model, logits.data(), &sampling, nullptr, &token), SKIM_RT_FAILED);
  logits.assign(vocabulary, NAN);
  EXPECT_EQ(skim_rt_sample(model, logits.data(), nullptr, nullptr, &token), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(), "sampling found no token: expected an id below 40, got -1 (the logits may hold NaN)");
}

// A step and then a token for each sequence; a failure takes back what was appended.
TEST_P(Runtime, Next) {
  skim_rt_session *a = session(), *b = session();
  Tokens first = someTokens(40), second = {5};
  skim_rt_sequence both[] = {{a, first.data(), 40, SKIM_RT_LOGITS_NONE}, {b, second.data(), 1, SKIM_RT_LOGITS_NONE}};
  Tokens chosen(2);
  ASSERT_EQ(skim_rt_next(both, 2, nullptr, nullptr, chosen.data()), SKIM_RT_OK) << skim_rt_error();
  auto best = [](const Logits &logits) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  EXPECT_EQ(chosen, Tokens({best(expectedLogits(first)), best(expectedLogits(second))}));
  EXPECT_EQ(skim_rt_session_length(a), 40);

  // What skim_rt_sample draws from the same logits.
  skim_rt_sampling sampling[] = {{1, 0, 1}, {0, 0, 1}};
  skim_rt_random random[] = {{7, 3}, {9, 0}}, same{7, 3};
  skim_rt_sequence next[] = {{a, &chosen[0], 1, SKIM_RT_LOGITS_ALL}, {b, &chosen[1], 1, SKIM_RT_LOGITS_ALL}};
  first.push_back(chosen[0]);
  Tokens drawn(2);
  ASSERT_EQ(skim_rt_next(next, 2, sampling, random, drawn.data()), SKIM_RT_OK) << skim_rt_error();
  int32_t token = -1;
  ASSERT_EQ(skim_rt_sample(model, expectedLogits(first).data(), sampling, &same, &token), SKIM_RT_OK);
  EXPECT_EQ(drawn[0], token);
  EXPECT_EQ(random[0].counter, 4u);
  EXPECT_EQ(random[1].counter, 0u);

  EXPECT_EQ(skim_rt_next(next, 2, sampling, nullptr, drawn.data()), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(),
               "invalid sampling at random: expected a random stream for a temperature over 0, got null");
  EXPECT_EQ(skim_rt_next(next, 2, nullptr, nullptr, nullptr), SKIM_RT_FAILED);
  EXPECT_STREQ(skim_rt_error(), "invalid argument at tokens: expected a pointer, got null");
  EXPECT_EQ(skim_rt_session_length(a), 41);
  EXPECT_EQ(skim_rt_session_length(b), 2);
}

// The numbers that the header documents, from the reference implementation of SplitMix64.
TEST(Random, SplitMix64) {
  skim_rt_random random{1234567, 0};
  for (uint64_t word : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u})
    EXPECT_EQ(skim_rt_uniform(&random), static_cast<float>(word >> 40) * 0x1p-24f);
  EXPECT_EQ(skim_rt_uniform(nullptr), 0);
}

// A child after fork() has no pool threads: it gets an error, not a hang.
TEST(Fork, ChildGetsAnError) {
  TestPackage package;
  skim_rt_options options{};
  options.threads = 2;
  skim_rt_model *model = nullptr;
  skim_rt_session *session = nullptr;
  ASSERT_EQ(skim_rt_open(package.folder.c_str(), &options, &model), SKIM_RT_OK);
  ASSERT_EQ(skim_rt_session_create(model, 0, &session), SKIM_RT_OK);
  pid_t child = ::fork();
  if (child == 0) {
    int32_t token = 1;
    bool good = skim_rt_prefill(session, &token, 1, SKIM_RT_LOGITS_NONE, nullptr) == SKIM_RT_FAILED &&
                std::string(skim_rt_error()).find("child made by fork") != std::string::npos;
    skim_rt_session_close(session);
    skim_rt_close(model);
    ::_exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  skim_rt_session_close(session);
  skim_rt_close(model);
}
