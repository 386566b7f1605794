//===- Threads.h - parallel loops whose results do not depend on threads --===//
//
// The same bytes on any number of threads: the pieces of a loop are cut by
// count and grain alone; which thread runs which piece may vary, so a body
// writes only to places that belong to its own indices.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_SUPPORT_THREADS_H
#define SKIM_SUPPORT_THREADS_H

#include "skim/Support/Error.h"

#include <cstddef>
#include <functional>

namespace skim {

/// Number of threads to use: `requested`, or for 0 the CPUs this process may use.
unsigned resolveThreads(unsigned requested);

/// Runs `body(begin, end, worker)` for the pieces [0, grain), [grain, 2·grain),
/// … of [0, count) on up to `threads` threads (0: all CPUs). `worker` < the
/// number of threads names the thread, for scratch that is reused. Pieces are
/// handed out in increasing order; the caller's thread takes part.
void parallelFor(size_t count, size_t grain, unsigned threads,
                 const std::function<void(size_t begin, size_t end, unsigned worker)> &body);

/// Like parallelFor for bodies that can fail. Returns the failure of the first
/// piece (by index, whatever the threads did); pieces after it may not run.
Error parallelForWithErrors(size_t count, size_t grain, unsigned threads,
                            const std::function<Error(size_t begin, size_t end, unsigned worker)> &body);

} // namespace skim

#endif // SKIM_SUPPORT_THREADS_H
