//===- Plan.h - which kernel call runs when, on which memory ----*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_CPU_STEP_PLAN_H
#define SKIM_LIB_TARGET_CPU_STEP_PLAN_H

#include "Kernels.h"
#include "skim/Support/Error.h"

#include <functional>
#include <vector>

namespace skim::step {

/// Memory that tasks read and write.
struct Buffer {
  enum Kind {
    Scratch, // rows in the scratch arena
    Logits,  // skim_step_args.logits
    Cache,   // a cache tensor of all sequences
    Shared,  // the linears' common scratch
  } kind = Scratch;
  /// Scratch: bytes for each row of the step, a multiple of 64.
  int64_t bytesPerRow = 0;
  /// Scratch: where it begins, for each row of the step (byte rows · offset), set by assignMemory.
  int64_t offset = 0;
  // Schedule: the last writer, the readers since; levels of first and last use.
  int lastWriter = -1;
  std::vector<int> readers;
  int firstLevel = -1, lastLevel = -1;
};

/// A kernel call.
struct Task {
  std::vector<int> reads, writes;
  bool gathered = false;
  std::function<Error(Emitter &, const StepValues &)> emit;
  int level = 0;
};

/// Tasks in program order; then levels and memory.
class Plan {
public:
  std::vector<Buffer> buffers;
  std::vector<Task> tasks;
  /// Bytes of scratch for each row that all Scratch buffers take together.
  int64_t bytesPerRow = 0;
  int levels = 0;

  int addBuffer(Buffer::Kind kind, int64_t bytesPerRow = 0);
  /// A new view of its own scratch buffer.
  View addRows(int64_t channels, bool gathered);
  /// The task's level is the first after those of all tasks that it depends on.
  void addTask(Task task);
  /// Gives every Scratch buffer its offset: first fit over levels of use.
  void assignMemory();
};

} // namespace skim::step

#endif // SKIM_LIB_TARGET_CPU_STEP_PLAN_H
