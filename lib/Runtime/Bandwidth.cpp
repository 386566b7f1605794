#include "skim/Runtime/Bandwidth.h"
#include "Region.h"
#include "skim/Support/Resources.h"

#include <algorithm>
#include <unistd.h>
#include <vector>

using namespace skim;

// A part of this many bytes is summed in registers; 64 KiB divides every buffer.
static constexpr uint64_t blockBytes = 64 << 10;

/// Sum of the words of [words, words + count), count a multiple of 64. Eight
/// vectors a turn: enough loads in flight for any memory.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t sumWords(const uint64_t *words, uint64_t count) {
  uint64_t lanes[64] = {};
  for (uint64_t i = 0; i < count; i += 64)
    for (int j = 0; j < 64; ++j)
      lanes[j] += words[i + static_cast<uint64_t>(j)];
  uint64_t sum = 0;
  for (uint64_t lane : lanes)
    sum += lane;
  return sum;
}

static uint64_t defaultBytes() {
  long cache = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
  cache = std::max(cache, ::sysconf(_SC_LEVEL3_CACHE_SIZE));
#endif
  uint64_t bytes = std::clamp<uint64_t>(2 * static_cast<uint64_t>(cache), 256ull << 20, 1ull << 30);
  long pages = ::sysconf(_SC_AVPHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0)
    bytes = std::min(bytes, static_cast<uint64_t>(pages) * static_cast<uint64_t>(page) / 2);
  return bytes;
}

Expected<Bandwidth> skim::measureReadBandwidth(ThreadPool &pool, uint64_t bytes, int passes) {
  if (passes < 1)
    return fail("invalid number of passes", "bandwidth probe", "1 or more", std::to_string(passes));
  bytes = std::max(blockBytes, (bytes ? bytes : defaultBytes()) / blockBytes * blockBytes);
  Expected<Region> memory = Region::allocate(bytes, "the bandwidth probe", Region::Pages::Huge);
  if (!memory)
    return memory.takeError();
  uint64_t *words = reinterpret_cast<uint64_t *>(memory->data());
  uint64_t blocks = bytes / blockBytes, blockWords = blockBytes / sizeof(uint64_t);
  auto part = [&](int32_t thread, int32_t threads) {
    return blocks * static_cast<uint64_t>(thread) / static_cast<uint64_t>(threads);
  };
  // Every page must exist on its own: untouched ones all read the kernel's one page of zeros.
  pool.run([&](int32_t thread, int32_t threads) {
    for (uint64_t i = part(thread, threads) * blockWords; i < part(thread + 1, threads) * blockWords; ++i)
      words[i] = i * 0x9E3779B97F4A7C15u;
  });

  struct alignas(64) Slot {
    uint64_t sum;
  };
  std::vector<Slot> sums(static_cast<size_t>(pool.threads()));
  Bandwidth result;
  result.bytes = bytes;
  for (int pass = 0; pass < passes; ++pass) {
    Stopwatch watch;
    pool.run([&](int32_t thread, int32_t threads) {
      uint64_t sum = 0;
      for (uint64_t block = part(thread, threads); block < part(thread + 1, threads); ++block)
        sum += sumWords(words + block * blockWords, blockWords);
      sums[static_cast<size_t>(thread)].sum = sum;
    });
    result.gigabytesPerSecond =
        std::max(result.gigabytesPerSecond, static_cast<double>(bytes) / watch.seconds() * 1e-9);
    result.checksum = 0;
    for (const Slot &slot : sums)
      result.checksum += slot.sum;
  }
  return result;
}
