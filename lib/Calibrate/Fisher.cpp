#include "Fisher.h"

#include <algorithm>
#include <cmath>

using namespace skim;

/// SplitMix64's output for a state.
static uint64_t mix(uint64_t state) {
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBu;
  return state ^ (state >> 31);
}

void skim::drawFisher(float *dz, std::span<const int32_t> targets, int64_t vocabulary, float share, uint64_t seed,
                      uint64_t first) {
  const float inverse = 1 / share;
  for (size_t r = 0; r < targets.size(); ++r) {
    float *row = dz + int64_t(r) * vocabulary;
    uint64_t state = mix(seed + 0x9E3779B97F4A7C15u * (first + r + 1)), bits = 0;
    double projection = 0;
    for (int64_t i = 0; i < vocabulary; ++i) {
      if (i % 64 == 0)
        bits = mix(state += 0x9E3779B97F4A7C15u);
      const float p = std::max(0.0f, row[i] * inverse + (i == targets[r] ? 1.0f : 0.0f)), root = std::sqrt(p);
      row[i] = (bits >> (i % 64)) & 1 ? -root : root;
      projection += row[i];
    }
    const float shift = static_cast<float>(projection);
    for (int64_t i = 0; i < vocabulary; ++i)
      row[i] = share * (row[i] - row[i] * row[i] * shift);
  }
}
