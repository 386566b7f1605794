//===- Simulator.h - runs GPU kernels on the host ---------------*- C++ -*-===//
//
// Runs kernels that `skim-simulate-gpu` compiled for the host: grid, blocks, a
// fiber for each lane, warps of 32. Traps what hardware leaves undefined and
// counts what it costs; docs/gpu.md says what exactly. Blocks run one after the
// other in order (or the opposite one), everything is deterministic. No MLIR, no LLVM.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_RUNTIME_SIMULATOR_H
#define SKIM_RUNTIME_SIMULATOR_H

#include "skim/Support/Error.h"

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace skim::sim {

/// Address in a simulated device's memory. Not a host pointer: use Device::host.
using Address = uint64_t;

/// The memory of a simulated device: named buffers, each at its own address
/// (aligned to 256, with room between them, so that nothing runs over unseen).
class Device {
public:
  Device();
  ~Device();
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;

  enum class Content {
    Zero,         ///< zeros, which may be read
    Uninitialised ///< reading a byte that nobody wrote is a trap
  };
  /// A new buffer. `name` stands in traps and counters.
  Address allocate(std::string name, uint64_t bytes, Content content = Content::Uninitialised);
  /// The same, with a copy of `data`.
  Address allocate(std::string name, const void *data, uint64_t bytes);
  /// A buffer over memory of the host, which outlives it and which kernels may
  /// only read (weights in a mapped file). `data` is aligned to 64.
  Address map(std::string name, const void *data, uint64_t bytes);
  /// The same where kernels may write too.
  Address share(std::string name, void *data, uint64_t bytes);
  /// Counts for each byte of the buffer at `buffer` how often a launch reads and
  /// writes it (BufferCounters::leastReads, …); costs 8 bytes a byte.
  void countBytes(Address buffer);
  void release(Address buffer);
  /// The buffer that an address is in.
  struct BufferPlace {
    std::string name;
    Address address;
    uint64_t size;
  };
  std::optional<BufferPlace> bufferAt(Address address) const;
  /// A block of a launch that makes more requests is trapped: it waits for what
  /// cannot come. 2^30 unless set.
  void limitRequests(uint64_t requests);

  /// The bytes at `address`, or null if they are not all in one buffer. Writing
  /// through it counts as no initialisation; use copyIn.
  void *host(Address address, uint64_t bytes) const;
  /// Copies to the device and marks the bytes initialised.
  Error copyIn(Address address, const void *data, uint64_t bytes);
  Error copyOut(void *data, Address address, uint64_t bytes) const;

  struct State;
  State &state() { return *impl; }

private:
  std::unique_ptr<State> impl;
};

/// A kernel's argument; its type must be as wide as the kernel's.
struct Argument {
  uint64_t bits;
  unsigned bytes;
  static Argument pointer(Address address) { return {address, 8}; }
  static Argument i32(int32_t value) { return {static_cast<uint32_t>(value), 4}; }
  static Argument i64(int64_t value) { return {static_cast<uint64_t>(value), 8}; }
  static Argument f32(float value) { return {std::bit_cast<uint32_t>(value), 4}; }
};

/// How a kernel is launched. Threads of a block are at most 1024.
struct LaunchShape {
  std::array<uint32_t, 3> grid = {1, 1, 1}, block = {32, 1, 1};
  /// Bytes behind the kernel's own shared memory (its global of no size).
  uint32_t dynamicShared = 0;
  /// Blocks x that run: `count` (0: all) from `begin` on. Blocks see the whole grid.
  uint32_t begin = 0, count = 0;
  /// Of each extent of these run at most so many blocks, evenly spread; 0: all.
  std::array<uint32_t, 3> sample = {0, 0, 0};
  /// From the last block to the first, which no result may depend on.
  bool descending = false;
  /// Block number i of an extent's sample.
  uint32_t sampled(int extent, uint32_t i) const {
    return (extent ? 0 : begin) + static_cast<uint32_t>(uint64_t(i) * extentOf(extent) / sampledBlocks(extent));
  }
  uint32_t sampledBlocks(int extent) const {
    return sample[extent] && sample[extent] < extentOf(extent) ? sample[extent] : extentOf(extent);
  }
  uint32_t extentOf(int extent) const { return extent == 0 && count ? count : grid[extent]; }
};

/// What one operation of the kernel did, over all warps. A request is one
/// execution by the lanes of a warp that are there together; a wide access that
/// the hardware splits counts as so many requests.
struct OpCounters {
  std::string op;       ///< `llvm.load`, `nvvm.mma.sync`, …
  std::string location; ///< of the operation, as MLIR prints it
  std::string label;    ///< the operation's attribute `skim.label`, or empty
  std::string kind;     ///< load, store, atomic, copy, barrier, shuffle, vote, ldmatrix, mma, wgmma, …
  bool shared = false;  ///< in shared memory (copies: false, they count as global here)
  uint32_t width = 0;   ///< bytes of a lane in a request
  uint64_t requests = 0;
  uint64_t lanes = 0; ///< lanes in these requests
  uint64_t bytes = 0; ///< distinct bytes, summed over requests
  /// Global memory: 32-byte sectors touched, and ⌈distinct bytes / 32⌉.
  uint64_t sectors = 0, idealSectors = 0;
  /// Shared memory (copies: their stores): cycles of the 32 banks of 4 bytes, and
  /// the cycles without conflicts.
  uint64_t wavefronts = 0, idealWavefronts = 0;
  uint64_t products = 0; ///< of matrix operations, multiply-adds (bits: each counts)
  /// Global loads and copies: how many are on their way (this one included) when
  /// the first use of this one's value waits; and their bytes a lane.
  uint32_t loadsInFlight = 0, bytesInFlight = 0;
};

/// What a launch did to a buffer.
struct BufferCounters {
  std::string name;
  Address address = 0;
  uint64_t size = 0;
  uint64_t bytesRead = 0, bytesWritten = 0; ///< distinct in each request
  /// With Device::countBytes: over the buffer's bytes, how many requests.
  bool counted = false;
  uint32_t leastReads = 0, mostReads = 0, leastWrites = 0, mostWrites = 0;
};

/// The counts of one launch.
struct Counters {
  std::string kernel;
  uint64_t blocks = 0, warps = 0;
  std::vector<OpCounters> ops;         ///< in the kernel's order
  std::vector<BufferCounters> buffers; ///< those touched or counted, by address
  uint64_t barriers = 0;               ///< block barriers, summed over blocks

  uint64_t sectors() const;
  uint64_t idealSectors() const;
  /// Cycles beyond the ideal of all accesses to shared memory.
  uint64_t bankConflicts() const;
  /// The largest of all operations.
  uint32_t loadsInFlight() const;
  /// The buffer of that name, or null.
  const BufferCounters *buffer(std::string_view name) const;
  /// The first operation with that label, or null.
  const OpCounters *labelled(std::string_view label) const;
  /// One JSON object: what `docs/gpu.md` shows.
  std::string json() const;
};

/// Kernels in a shared object that this process has loaded.
class Module {
public:
  /// Loads the shared object at `path`. It is native code: load only what you built.
  static Expected<std::unique_ptr<Module>> open(const std::string &path);
  ~Module();

  struct Kernel;
  std::vector<std::string> kernels() const;
  /// Shared memory of a kernel's globals; 0 if there is no such kernel.
  uint32_t sharedBytes(std::string_view kernel) const;
  /// What is known of a kernel (lib/Runtime/Simulator/Kernel.h), or null.
  const Kernel *kernel(std::string_view name) const;
  /// Runs a kernel to its end. An error is a trap: what happened, the kernel and
  /// the operation's place, block, thread, address and buffer. After one, the
  /// contents of written buffers are unspecified.
  Expected<Counters> launch(Device &device, std::string_view kernel, const LaunchShape &shape,
                            const std::vector<Argument> &arguments);

private:
  Module() = default;
  std::vector<std::unique_ptr<Kernel>> all;
  void *handle = nullptr;
};

} // namespace skim::sim

#endif // SKIM_RUNTIME_SIMULATOR_H
