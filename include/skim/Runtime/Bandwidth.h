//===- Bandwidth.h - how fast this machine reads memory ----------*- C++ -*-===//
#ifndef SKIM_RUNTIME_BANDWIDTH_H
#define SKIM_RUNTIME_BANDWIDTH_H

#include "skim/Runtime/ThreadPool.h"
#include "skim/Support/Error.h"

#include <cstdint>

namespace skim {

struct Bandwidth {
  double gigabytesPerSecond = 0; // 1e9 bytes, of the best pass
  uint64_t bytes = 0;            // read in a pass
  uint64_t checksum = 0;         // of one pass: proof that everything was read; a function of `bytes` alone
};

/// Reads a buffer front to back on all threads of `pool`, each its own part,
/// `passes` times, and keeps the best. `bytes` 0: over twice the last cache,
/// between 256 MiB and 1 GiB and at most half of the free memory, so that it is
/// memory that is measured; another number measures what a working set of that
/// size gets.
/// Errors: not enough memory; passes < 1.
Expected<Bandwidth> measureReadBandwidth(ThreadPool &pool, uint64_t bytes = 0, int passes = 8);

} // namespace skim

#endif // SKIM_RUNTIME_BANDWIDTH_H
