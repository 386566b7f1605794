//===- Kernel.h - a kernel as its description says --------------*- C++ -*-===//
#ifndef SKIM_LIB_RUNTIME_SIMULATOR_KERNEL_H
#define SKIM_LIB_RUNTIME_SIMULATOR_KERNEL_H

#include "skim-rt/sim.h"
#include "skim/Runtime/Simulator.h"

namespace skim::sim {

inline constexpr uint32_t kWarp = 32;
/// The deepest nest of loops that kernels may have.
inline constexpr uint32_t kMaxLoops = 16;

enum class Kind {
  Load,
  Store,
  Atomic,
  Copy,        ///< cp.async
  Commit,      ///< of the copies so far as a group
  Wait,        ///< {groups that may still be on their way}
  Barrier,     ///< words: number, threads (0: all)
  SyncWarp,    ///< words: members
  Shuffle,     ///< {0 bfly, 1 up, 2 down, 3 idx}; words: members, value, offset, clamp → value, valid
  Vote,        ///< {0 any, 1 all, 2 ballot, 3 uni}; words: members, predicate → result
  Redux,       ///< {0 add, 1 and, 2 max, 3 min, 4 or, 5 umax, 6 umin, 7 xor}; words: members, value → result
  Elect,       ///< words: members → 1 in the first lane
  LdMatrix,    ///< {matrices, transposed}; words: address → a word for each matrix
  Mma,         ///< {m, n, k, type of A, type of B, 1: and instead of xor, type of the sums}; words: A, B, C → D
  WgmmaFence,  ///< {first register, registers}; words: what they hold → a ticket for each
  Wgmma,       ///< {n, 1: bf16}; words: descriptor (2), 1: D is not added, tickets of A (4) and of the sums → of these
  WgmmaCommit, ///< of the wgmma so far as a group
  WgmmaWait,   ///< {groups that may still be at work, registers}; words: tickets → what they hold
  FenceProxy,  ///< fence.proxy.async of shared memory
  Loop
};

/// Types of matrices, in Mma's parameters.
enum class Element { F16, BF16, S8, U8, B1, F32, S32 };

/// Spellings in the description.
std::string_view spell(Kind kind);

struct Op {
  std::string name, location, label;
  Kind kind;
  bool shared = false;
  /// Bytes that a lane touches, and the largest part that is one request.
  uint32_t bytes = 0, piece = 0;
  uint32_t loadsInFlight = 0, bytesInFlight = 0;
  std::array<int32_t, 8> params = {};
};

struct Module::Kernel {
  std::string name, symbol;
  skim_sim_kernel_fn code = nullptr;
  /// Static shared memory; the dynamic part begins behind it.
  uint32_t shared = 0;
  std::vector<uint32_t> arguments; ///< bytes of each
  uint32_t registers = 0;          ///< that fences of wgmma hand over
  std::vector<Op> ops;
};

/// Reads the description of a shared object; `where` stands in errors.
Expected<std::vector<std::unique_ptr<Module::Kernel>>> parseDescription(std::string_view text,
                                                                        const std::string &where);

/// skim_sim_hooks::math.
float evaluateMath(uint32_t function, float a, float b);

/// Runs a whole launch, adding to `counters`.
Error runKernel(const Module::Kernel &kernel, Device::State &device, const LaunchShape &shape,
                const std::vector<uint64_t> &arguments, Counters &counters);

} // namespace skim::sim

#endif // SKIM_LIB_RUNTIME_SIMULATOR_KERNEL_H
