//===- ThreadPool.h - all threads run one function ---------------*- C++ -*-===//
//
// The parallelism of generated code is SPMD: every thread of the pool runs the
// same function with its own number, and they meet at barriers. A step of a
// language model has some hundred barriers, so they have to cost less than a
// microsecond when everybody is there, and must not burn a processor when
// somebody is not (machines are shared; there may be more threads than CPUs).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_RUNTIME_THREADPOOL_H
#define SKIM_RUNTIME_THREADPOOL_H

#include <atomic>
#include <cstdint>
#include <sys/types.h>
#include <thread>
#include <vector>

namespace skim {

/// A counter that threads wait on: first spinning for a bounded time, then
/// asleep in the kernel (a futex). Opening it costs no system call while
/// nobody sleeps.
class Gate {
public:
  uint32_t phase() const { return value.load(std::memory_order_acquire); }
  /// Moves to the next phase and wakes everybody. What was written before is
  /// seen by those who wait.
  void open();
  /// Returns once the phase is no longer `old`. Spins for about
  /// `spinNanoseconds`, then yields a few times, then sleeps.
  void wait(uint32_t old, uint32_t spinNanoseconds);

private:
  alignas(64) std::atomic<uint32_t> value{0};
  std::atomic<uint32_t> sleepers{0};
};

/// Threads that run one function together. The thread that calls run() is
/// thread 0, the others sleep while there is nothing to do.
class ThreadPool {
public:
  using Function = void (*)(void *context, int32_t thread, int32_t threads);

  struct Options {
    /// 0: as many as the CPUs that this process may use.
    unsigned threads = 0;
    /// Thread i > 0 stays on the i-th of these CPUs. Thread 0 belongs to the
    /// caller and is left alone.
    bool pin = false;
  };

  /// Starts the threads. Where the system refuses one, there are fewer.
  explicit ThreadPool(Options options);
  ThreadPool() : ThreadPool(Options()) {}
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  /// Threads that take part in run(), the caller's included.
  int32_t threads() const { return count; }

  /// Runs `function` once on every thread, returns when all are done. One call
  /// at a time, and none from within `function`.
  void run(Function function, void *context);

  /// The same for anything callable with (thread, threads).
  template <typename Body> void run(Body &&body) {
    run([](void *context, int32_t thread,
           int32_t threads) { (*static_cast<std::remove_reference_t<Body> *>(context))(thread, threads); },
        &body);
  }

  /// Returns when every thread of the pool has called it as often. For use
  /// within run() only.
  void barrier();

  /// barrier() in the form of skim_step_args: `pool` is a ThreadPool.
  static void barrierCallback(void *pool, int32_t thread);

  /// False in a child after fork(), where the threads do not exist.
  bool usable() const;

private:
  void work(int32_t thread);

  Gate start;
  Gate met;
  alignas(64) std::atomic<int32_t> arrived{0};
  alignas(64) Function function = nullptr;
  void *context = nullptr;
  bool stopping = false;
  int32_t count = 1;
  uint32_t spin = 0;
  pid_t owner;
  std::vector<std::thread> workers;
};

} // namespace skim

#endif // SKIM_RUNTIME_THREADPOOL_H
