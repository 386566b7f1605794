//===- Resources.h - time and memory of this process ------------*- C++ -*-===//
#ifndef SKIM_SUPPORT_RESOURCES_H
#define SKIM_SUPPORT_RESOURCES_H

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace skim {

/// Wall-clock seconds since construction.
class Stopwatch {
public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }

private:
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

/// RssAnon of this process in bytes, from /proc/self/status; 0 where that file
/// does not exist. Mapped files do not count.
uint64_t currentAnonymousBytes();

/// This machine's processor, as /proc/cpuinfo names it; "unknown processor" elsewhere.
std::string cpuName();

/// Samples currentAnonymousBytes every 20 ms on a thread of its own.
class AnonymousMemorySampler {
public:
  AnonymousMemorySampler();
  ~AnonymousMemorySampler();
  AnonymousMemorySampler(const AnonymousMemorySampler &) = delete;
  AnonymousMemorySampler &operator=(const AnonymousMemorySampler &) = delete;
  /// The largest sample so far, in bytes, with one taken now.
  uint64_t peakBytes();

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace skim

#endif // SKIM_SUPPORT_RESOURCES_H
