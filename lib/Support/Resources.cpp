#include "skim/Support/Resources.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <mutex>
#include <system_error>
#include <thread>
#include <unistd.h>

using namespace skim;

uint64_t skim::currentAnonymousBytes() {
  int descriptor = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    return 0;
  char buffer[8192];
  ssize_t got = ::read(descriptor, buffer, sizeof buffer - 1);
  ::close(descriptor);
  if (got <= 0)
    return 0;
  buffer[got] = 0;
  const char *line = std::strstr(buffer, "RssAnon:");
  return line ? std::strtoull(line + std::strlen("RssAnon:"), nullptr, 10) * 1024 : 0;
}

std::string skim::cpuName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    size_t colon = line.find(": ");
    // "model name" on x86, "CPU part" and friends say nothing readable elsewhere.
    if (line.starts_with("model name") && colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return "unknown processor";
}

struct AnonymousMemorySampler::State {
  std::mutex mutex;
  std::condition_variable stop;
  bool stopping = false;
  uint64_t peak = 0;
  std::thread thread;
};

AnonymousMemorySampler::AnonymousMemorySampler() : state(std::make_unique<State>()) {
  State *shared = state.get();
  try {
    shared->thread = std::thread([shared] {
      std::unique_lock<std::mutex> lock(shared->mutex);
      while (!shared->stopping) {
        shared->peak = std::max(shared->peak, currentAnonymousBytes());
        shared->stop.wait_for(lock, std::chrono::milliseconds(20));
      }
    });
  } catch (const std::system_error &) {
    // No thread to be had: peakBytes() still reports what it sees itself.
  }
}

AnonymousMemorySampler::~AnonymousMemorySampler() {
  {
    std::lock_guard<std::mutex> lock(state->mutex);
    state->stopping = true;
  }
  state->stop.notify_all();
  if (state->thread.joinable())
    state->thread.join();
}

uint64_t AnonymousMemorySampler::peakBytes() {
  std::lock_guard<std::mutex> lock(state->mutex);
  state->peak = std::max(state->peak, currentAnonymousBytes());
  return state->peak;
}
