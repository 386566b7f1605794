#include "FakeDevice.h"

#include <cstdio>
#include <cstdlib>
#include <sstream>

using namespace skim;
using namespace skim::cuda;

std::string cuda::setting(const std::string &key, const std::string &otherwise) {
  const char *all = std::getenv("SKIM_FAKE_CUDA");
  std::istringstream stream(all ? all : "");
  for (std::string part; std::getline(stream, part, ';');)
    if (part.starts_with(key + "="))
      return part.substr(key.size() + 1);
  return otherwise;
}

int64_t cuda::settingNumber(const std::string &key, int64_t otherwise) {
  std::string text = setting(key);
  return text.empty() ? otherwise : std::atoll(text.c_str());
}

State &State::get() {
  // Never destroyed: objects of the program may be later than this library's.
  static State *state = new State();
  return *state;
}

bool State::isPinned(const void *data, size_t bytes) const {
  const auto *begin = static_cast<const uint8_t *>(data);
  auto after = pinned.upper_bound(const_cast<uint8_t *>(begin));
  if (after == pinned.begin())
    return false;
  const auto &[first, size] = *std::prev(after);
  return begin + bytes <= first + size;
}

Result State::drain(OpaqueStream &stream, const OpaqueEvent *event) {
  while (!stream.queue.empty() && !(event && event->done)) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (sticky == kSuccess && !work())
      sticky = kIllegalAddress;
  }
  return sticky;
}

Result State::drainAll() {
  for (OpaqueStream *stream : streams)
    drain(*stream);
  return sticky;
}

Result State::push(OpaqueStream &stream, Work work) {
  if (stream.capturing)
    stream.captured.push_back(std::move(work));
  else
    stream.queue.push_back(std::move(work));
  return sticky;
}

void State::writeLog() {
  std::string path = setting("log");
  if (path.empty())
    return;
  counts["memory_left"] = static_cast<int64_t>(memory.size() + pinned.size());
  counts["streams_left"] = static_cast<int64_t>(streams.size());
  if (FILE *file = std::fopen(path.c_str(), "w")) {
    for (const auto &[name, count] : counts)
      std::fprintf(file, "%s %lld\n", name.c_str(), static_cast<long long>(count));
    std::fclose(file);
  }
}
