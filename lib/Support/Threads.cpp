#include "skim/Support/Threads.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <sched.h>
#include <system_error>
#include <thread>
#include <vector>

using namespace skim;

unsigned skim::resolveThreads(unsigned requested) {
  if (requested)
    return requested;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    return static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
  return std::max(1u, std::thread::hardware_concurrency());
}

Error skim::parallelForWithErrors(size_t count, size_t grain, unsigned threads,
                                  const std::function<Error(size_t begin, size_t end, unsigned worker)> &body) {
  grain = std::max<size_t>(grain, 1);
  size_t pieces = count / grain + (count % grain != 0);
  std::atomic<size_t> next{0};
  std::atomic<size_t> firstFailure{pieces};
  std::mutex mutex;
  Error failure;
  auto work = [&](unsigned worker) {
    while (true) {
      size_t piece = next.fetch_add(1, std::memory_order_relaxed);
      // Every piece before a failed one was handed out before it and runs to
      // its end, so the failure with the lowest index is always found.
      if (piece >= firstFailure.load(std::memory_order_relaxed))
        return;
      size_t begin = piece * grain;
      Error error = body(begin, std::min(count, begin + grain), worker);
      if (!error)
        continue;
      std::lock_guard<std::mutex> lock(mutex);
      if (piece < firstFailure.load(std::memory_order_relaxed)) {
        firstFailure.store(piece, std::memory_order_relaxed);
        failure = std::move(error);
      }
    }
  };
  size_t wanted = std::min<size_t>(resolveThreads(threads), pieces);
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < wanted; ++i) {
    // Fewer threads than asked for only make it slower.
    try {
      helpers.emplace_back(work, static_cast<unsigned>(i));
    } catch (const std::system_error &) {
      break;
    }
  }
  work(0);
  for (std::thread &helper : helpers)
    helper.join();
  return failure;
}

void skim::parallelFor(size_t count, size_t grain, unsigned threads,
                       const std::function<void(size_t begin, size_t end, unsigned worker)> &body) {
  Error never = parallelForWithErrors(count, grain, threads, [&](size_t begin, size_t end, unsigned worker) {
    body(begin, end, worker);
    return Error::success();
  });
  (void)never;
}
