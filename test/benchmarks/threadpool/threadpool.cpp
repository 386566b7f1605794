//===- threadpool.cpp - what barriers and waking threads cost ----------------===//
//
// One line of JSON per number of threads: nanoseconds of a barrier, of a run()
// directly after another, and of one after two milliseconds of sleep; then the
// read bandwidth of all threads and of one.
//
//===----------------------------------------------------------------------===//
#include "skim/Runtime/ThreadPool.h"
#include "skim/Runtime/Bandwidth.h"
#include "skim/Support/Resources.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cstdio>
#include <thread>
#include <vector>

using namespace skim;

/// Median and best of `repeats` measurements, in nanoseconds for each of `count` operations.
template <typename Body> static std::pair<double, double> measure(int repeats, int count, Body &&body) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i)
    times.push_back(body() * 1e9 / count);
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front()};
}

int main() {
  std::vector<unsigned> sizes = {1, resolveThreads(0)};
  if (sizes[1] == 1)
    sizes.pop_back();
  for (unsigned size : sizes) {
    ThreadPool::Options options;
    options.threads = size;
    ThreadPool pool(options);
    constexpr int barriers = 500;
    auto barrier = measure(31, barriers, [&] {
      Stopwatch watch;
      pool.run([&](int32_t, int32_t) {
        for (int i = 0; i < barriers; ++i)
          pool.barrier();
      });
      return watch.seconds();
    });
    auto once = [&] {
      Stopwatch watch;
      pool.run([](int32_t, int32_t) {});
      return watch.seconds();
    };
    auto again = measure(301, 1, once);
    auto woken = measure(51, 1, [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      return once();
    });
    Expected<Bandwidth> bandwidth = measureReadBandwidth(pool);
    if (!bandwidth) {
      std::fprintf(stderr, "error: %s\n", bandwidth.message().c_str());
      return 1;
    }
    std::printf("{\"threads\": %u, \"barrier_ns\": %.0f, \"barrier_best_ns\": %.0f, \"run_ns\": %.0f, "
                "\"run_asleep_ns\": %.0f, \"read_bandwidth_gbps\": %.1f, \"bytes\": %llu, \"checksum\": \"%llx\"}\n",
                size, barrier.first, barrier.second, again.first, woken.first, bandwidth->gigabytesPerSecond,
                static_cast<unsigned long long>(bandwidth->bytes),
                static_cast<unsigned long long>(bandwidth->checksum));
  }
  return 0;
}
