#include "skim/Runtime/ThreadPool.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <chrono>
#include <climits>
#include <csignal>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

using namespace skim;

// How long a thread waits for the others before it sleeps: longer than the
// imbalance of one kernel, shorter than a scheduler's slice.
static constexpr uint32_t spinWithOwnCpu = 100'000;
// With more threads than CPUs whoever is missing needs our CPU.
static constexpr uint32_t spinOnSharedCpu = 1'000;

static void pauseCpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

static void futex(std::atomic<uint32_t> *word, int operation, uint32_t value) {
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
  ::syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

void Gate::open() {
  // Sequentially consistent here and in wait(): either we see the sleeper, or
  // the sleeper (the kernel on its behalf) sees the new phase.
  value.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers.load(std::memory_order_seq_cst))
    futex(&value, FUTEX_WAKE, INT_MAX);
}

void Gate::wait(uint32_t old, uint32_t spinNanoseconds) {
  auto opened = [&] { return value.load(std::memory_order_acquire) != old; };
  auto spin = [&](int pauses) {
    for (int i = 0; i < pauses; ++i) {
      if (opened())
        return true;
      pauseCpu();
    }
    return false;
  };
  // Most waits are short: neither clock nor scheduler are asked before these.
  if (spin(128))
    return;
  // On a busy machine the missing thread may be queued behind us on this very
  // CPU; a yield lets it run, and is cheap where nobody waits.
  auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(spinNanoseconds);
  do {
    ::sched_yield();
    if (spin(16))
      return;
  } while (std::chrono::steady_clock::now() < end);
  sleepers.fetch_add(1, std::memory_order_seq_cst);
  while (value.load(std::memory_order_seq_cst) == old)
    futex(&value, FUTEX_WAIT, old);
  sleepers.fetch_sub(1, std::memory_order_relaxed);
}

ThreadPool::ThreadPool(Options options) : owner(::getpid()) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  std::vector<int> list;
  if (::sched_getaffinity(0, sizeof cpus, &cpus) == 0)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &cpus))
        list.push_back(cpu);
  // The caller's CPU first: it is thread 0.
  auto here = std::find(list.begin(), list.end(), ::sched_getcpu());
  if (here != list.end())
    std::rotate(list.begin(), here, list.end());

  int32_t wanted = static_cast<int32_t>(resolveThreads(options.threads));
  spin = static_cast<size_t>(wanted) <= list.size() ? spinWithOwnCpu : spinOnSharedCpu;
  // Signals are for the program's own threads.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  // Workers read `count` only after the first run() has opened the gate.
  for (int32_t thread = 1; thread < wanted; ++thread) {
    try {
      workers.emplace_back([this, thread] { work(thread); });
    } catch (const std::system_error &) {
      break;
    }
    std::string name = "skim-" + std::to_string(thread);
    ::pthread_setname_np(workers.back().native_handle(), name.c_str());
    if (list.empty())
      continue;
    // A scheduler leaves new threads where they began, often several on one CPU, for a long time. So each
    // begins on its own, even if it may move later.
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(list[static_cast<size_t>(thread) % list.size()], &one);
    ::pthread_setaffinity_np(workers.back().native_handle(), sizeof one, &one);
    if (!options.pin)
      ::pthread_setaffinity_np(workers.back().native_handle(), sizeof cpus, &cpus);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  count = static_cast<int32_t>(workers.size()) + 1;
}

ThreadPool::~ThreadPool() {
  if (!usable()) {
    // In a child of fork() the threads are gone: joining them would hang, and their handles lead nowhere.
    new std::vector<std::thread>(std::move(workers));
    return;
  }
  stopping = true;
  start.open();
  for (std::thread &worker : workers)
    worker.join();
}

bool ThreadPool::usable() const { return workers.empty() || ::getpid() == owner; }

void ThreadPool::work(int32_t thread) {
  uint32_t seen = 0;
  while (true) {
    start.wait(seen, spin);
    ++seen;
    if (stopping)
      return;
    function(context, thread, count);
    barrier();
  }
}

void ThreadPool::run(Function newFunction, void *newContext) {
  if (count == 1) {
    newFunction(newContext, 0, 1);
    return;
  }
  function = newFunction;
  context = newContext;
  start.open();
  function(context, 0, count);
  barrier();
}

void ThreadPool::barrier() {
  if (count == 1)
    return;
  // The phase cannot change before we have arrived, so each thread knows it without keeping it.
  uint32_t phase = met.phase();
  if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 < count) {
    met.wait(phase, spin);
    return;
  }
  arrived.store(0, std::memory_order_relaxed);
  met.open();
}

void ThreadPool::barrierCallback(void *pool, int32_t) { static_cast<ThreadPool *>(pool)->barrier(); }
