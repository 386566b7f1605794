#include "skim/Runtime/ThreadPool.h"
#include "skim/Runtime/Bandwidth.h"
#include "skim/Support/Resources.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <numeric>
#include <thread>

using namespace skim;

static ThreadPool::Options withThreads(unsigned threads, bool pin = false) {
  ThreadPool::Options options;
  options.threads = threads;
  options.pin = pin;
  return options;
}

// Every thread runs once in each run, with its own number.
TEST(ThreadPool, EveryThreadRunsOnce) {
  for (unsigned threads : {1u, 2u, 7u}) {
    ThreadPool pool(withThreads(threads));
    ASSERT_EQ(pool.threads(), static_cast<int32_t>(threads));
    std::vector<int> ran(threads);
    for (int i = 0; i < 100; ++i)
      pool.run([&](int32_t thread, int32_t count) {
        EXPECT_EQ(count, static_cast<int32_t>(threads));
        ++ran[static_cast<size_t>(thread)];
      });
    EXPECT_EQ(ran, std::vector<int>(threads, 100));
  }
}

// No thread passes a barrier before all have come; what they wrote is seen.
TEST(ThreadPool, BarriersSeparatePhases) {
  for (unsigned threads : {1u, 2u, 7u}) {
    ThreadPool pool(withThreads(threads, /*pin=*/threads == 2));
    std::vector<int> values(threads);
    int wrong = 0;
    pool.run([&](int32_t thread, int32_t count) {
      for (int round = 1; round <= 50; ++round) {
        values[static_cast<size_t>(thread)] = round;
        ThreadPool::barrierCallback(&pool, thread);
        if (thread == round % count)
          wrong += std::count(values.begin(), values.end(), round) != count;
        ThreadPool::barrierCallback(&pool, thread);
      }
    });
    EXPECT_EQ(wrong, 0) << threads;
  }
}

// Late threads find the others asleep and wake them.
TEST(ThreadPool, SleepersWakeUp) {
  ThreadPool pool(withThreads(3));
  for (int i = 0; i < 5; ++i) {
    int sum = 0;
    pool.run([&](int32_t thread, int32_t) {
      if (thread == i % 3)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      pool.barrier();
      if (thread == 0)
        ++sum;
    });
    EXPECT_EQ(sum, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
}

// Pools that never ran end too.
TEST(ThreadPool, EndsUnused) {
  for (int i = 0; i < 20; ++i)
    ThreadPool pool(withThreads(4));
}

TEST(Bandwidth, ChecksumCoversTheBuffer) {
  ThreadPool one(withThreads(1)), two(withThreads(2));
  uint64_t bytes = 3 << 20;
  Expected<Bandwidth> first = measureReadBandwidth(one, bytes, 2), second = measureReadBandwidth(two, bytes, 1);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->bytes, bytes);
  EXPECT_EQ(first->checksum, second->checksum);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < bytes / 8; ++i)
    sum += i * 0x9E3779B97F4A7C15u;
  EXPECT_EQ(first->checksum, sum);
  EXPECT_GT(first->gigabytesPerSecond, 0);
}

TEST(Bandwidth, RefusesImpossibleRequests) {
  ThreadPool pool(withThreads(1));
  Expected<Bandwidth> none = measureReadBandwidth(pool, 0, 0);
  EXPECT_EQ(none.message(), "invalid number of passes at bandwidth probe: expected 1 or more, got 0");
  EXPECT_FALSE(measureReadBandwidth(pool, uint64_t(1) << 60, 1));
}
