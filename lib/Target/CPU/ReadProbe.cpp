//===- ReadProbe.cpp - how fast this machine reads memory -------------------===//

#include "skim/Support/Resources.h"
#include "skim/Target/CPU/LinearBench.h"

using namespace skim;

ReadProbe::ReadProbe(size_t bytes) : words(bytes / sizeof(uint64_t), 1) {}

double ReadProbe::run(ThreadTeam &team, uint64_t &checksum) {
  std::vector<uint64_t> sums(team.size() * 8, 0);
  // A slice at a time, another at each pass: short enough for a quiet moment.
  size_t slice = words.size() / kSlices;
  const uint64_t *begin = words.data() + slice * (next++ % kSlices);
  Stopwatch watch;
  team.run([&](int32_t thread) {
    size_t part = slice / team.size();
    const uint64_t *from = begin + thread * part;
    uint64_t sum[32] = {};
    for (size_t i = 0; i + 64 <= part; i += 64) {
      for (size_t j = 0; j < 64; j += 8)
        __builtin_prefetch(from + i + j + 512);
      for (size_t j = 0; j < 64; j += 32)
        for (size_t lane = 0; lane < 32; ++lane)
          sum[lane] += from[i + j + lane];
    }
    for (uint64_t one : sum)
      sums[thread * 8] += one;
  });
  double seconds = watch.seconds();
  for (uint64_t one : sums)
    checksum += one;
  return seconds;
}
