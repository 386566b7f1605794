//===- Block.h - a block while it runs --------------------------*- C++ -*-===//
//
// Lanes run on stacks of their own until their next hook, where they wait. The
// scheduler lets those of a warp that wait at the earliest place go on together.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_RUNTIME_SIMULATOR_BLOCK_H
#define SKIM_LIB_RUNTIME_SIMULATOR_BLOCK_H

#include "Device.h"
#include "Kernel.h"

#include <boost/context/detail/fcontext.hpp>
#include <optional>

namespace skim::sim {

class Block;

/// A cp.async whose group the lane has not waited for.
struct PendingCopy {
  uint32_t offset, bytes; ///< in the block's shared memory
  uint32_t group;
};
/// What a wgmma reads whose group the warp has not waited for.
using PendingRead = PendingCopy;

/// A register that a wgmma.fence handed over. Who holds it has a ticket: its number and, above, its version.
struct HeldRegister {
  uint32_t value = 0;
  uint16_t version = 0;
  uint32_t group = 0; ///< the last group that has it, from 1; 0: none
};

struct Lane : skim_sim_lane {
  Block *owner = nullptr;
  boost::context::detail::fcontext_t context = nullptr; ///< where it goes on
  boost::context::detail::fcontext_t scheduler = nullptr;
  bool done = false;
  /// The place: loop, iteration, loop, iteration, …, operation; `depth` words
  /// before the last.
  uint32_t path[2 * kMaxLoops + 1] = {};
  uint32_t depth = 0;
  /// The request it waits with.
  uint64_t address = 0, source = 0;
  uint32_t bytes = 0;
  const uint32_t *in = nullptr;
  uint32_t *out = nullptr;
  void *result = nullptr;
  /// Copies on their way, and the groups closed so far.
  std::vector<PendingCopy> copies;
  uint32_t groups = 0;
  std::vector<HeldRegister> registers;

  uint32_t op() const { return path[depth]; }
};

/// A byte of shared memory: who touched it last, and at which epoch of his warp.
struct Shadow {
  enum : uint8_t { Initialised = 1, Pending = 2, Atomic = 4 };
  uint32_t writeEpoch = 0, readEpoch = 0, otherEpoch = 0;
  uint32_t writeFences = 0; ///< proxy fences of the writer's warp before the write
  /// Thread numbers; `reader` and `other` are the last two distinct ones.
  uint16_t writer = kNobody, reader = kNobody, other = kNobody;
  uint16_t wgmmas = 0; ///< that are reading it, counted for each of their warps
  uint8_t flags = 0;
  static constexpr uint16_t kNobody = 0xFFFF;
};

class Block {
public:
  Block(const Module::Kernel &kernel, Device::State &device, const LaunchShape &shape,
        const std::vector<uint64_t> &arguments, Counters &counters);
  /// Runs the block at `index` of the grid.
  Error run(std::array<uint32_t, 3> index);

  // For hooks, on a lane's stack.
  /// Waits until the lane's request is served.
  void park(Lane &lane, uint32_t op);
  void loop(Lane &lane, uint32_t op, uint32_t phase);
  void group(Lane &lane, uint32_t op);
  void start(Lane &lane);

private:
  enum class WarpState { Runs, Waits, Done };
  struct Warp {
    WarpState state = WarpState::Runs;
    uint32_t barrier = 0, threads = 0; ///< what it waits at
    uint32_t lanes = 0;                ///< mask of those that exist
    // wgmma: groups closed and done so far, and what wgmma reads of shared memory until a group is done.
    uint32_t groups = 0, finished = 0;
    std::vector<PendingRead> reads;
  };
  /// Lanes of a warp that are at one place.
  struct Group {
    uint32_t warp, mask;
    const Op *op;
    OpCounters *counters;
  };

  Lane &lane(uint32_t warp, uint32_t index) { return lanes[warp * kWarp + index]; }
  void resume(Lane &lane);
  /// Until it ends, waits at a block barrier or is trapped.
  void runWarp(uint32_t warp);
  /// Which lanes of `waiting` are at the earliest place.
  uint32_t earliest(uint32_t warp, uint32_t waiting);
  void releaseBarrier(uint32_t number);
  void trapDeadlock();
  void serve(const Group &group);

  // Memory.cpp
  void serveAccess(const Group &group);
  void serveCopy(const Group &group);
  void waitForCopies(Lane &lane, uint32_t left);
  /// One request of `bytes` for the lanes in `mask`; false after a trap.
  bool globalRequest(const Group &group, uint32_t mask, const uint64_t *addresses, uint32_t bytes, bool write);
  Buffer *resolve(const Group &group, uint32_t index, uint64_t address, uint32_t bytes, bool write);
  enum class Touch { Read, Write, Atomic, Copy };
  /// Checks and marks bytes of shared memory; false after a trap.
  bool touchShared(const Group &group, uint32_t index, uint64_t address, uint32_t bytes, Touch touch, uint16_t actor);
  void countBanks(const Group &group, uint32_t mask, const uint64_t *addresses, uint32_t bytes);
  bool ordered(uint16_t first, uint32_t epoch, uint16_t second) const;
  uint32_t &epoch(uint32_t warp) { return clocks[warp * warps.size() + warp]; }
  uint32_t epoch(uint32_t warp) const { return clocks[warp * warps.size() + warp]; }

  // Warpgroup.cpp
  static constexpr uint32_t kGroupWarps = 4;
  /// Warps of group g wait for each other here; block barriers have lower numbers.
  static constexpr uint32_t kFirstWarpgroup = 16;
  void serveWarpgroup(const Group &group);
  void handOver(const Group &group);
  void meetWarpgroup(const Group &group);
  void waitForWgmma(const Group &group);
  /// The register of a ticket, or null after a trap.
  HeldRegister *heldRegister(const Group &group, uint32_t index, uint32_t ticket);
  /// A wgmma whose four warps are all there.
  void multiplyWarpgroup(uint32_t firstWarp);
  /// Checks and marks what wgmma reads; false after a trap.
  bool readByWgmma(const Group &group, uint64_t address, uint32_t bytes);
  void finishReads(uint32_t warp);
  void fenceProxy(uint32_t warp);
  uint32_t &fences(uint32_t warp, uint32_t of) { return fenceClocks[warp * warps.size() + of]; }
  uint32_t &proxied(uint32_t warp, uint32_t of) { return proxyClocks[warp * warps.size() + of]; }

  // Collective.cpp, Matrix.cpp
  void serveCollective(const Group &group);
  void serveBarrier(const Group &group);
  bool wholeWarp(const Group &group);
  void loadMatrices(const Group &group);
  void multiply(const Group &group);

  // Traps.
  void trap(const Group &group, uint32_t index, std::string what, std::string expected, std::string got);
  std::string place(const Op &op, const Lane &lane) const;

  const Module::Kernel &kernel;
  Device::State &device;
  const LaunchShape &shape;
  const std::vector<uint64_t> &arguments;
  Counters &counters;
  std::vector<Lane> lanes; ///< whole warps
  std::vector<Warp> warps;
  /// clocks[w · warps + v]: the epoch of warp v up to which w has seen everything.
  std::vector<uint32_t> clocks;
  /// fenceClocks[w · warps + v]: proxy fences of warp v that come before what w does now; proxyClocks: the epoch of v
  /// up to which a proxy fence, of any warp, lies between what v wrote and what w does now.
  std::vector<uint32_t> fenceClocks, proxyClocks;
  uint32_t threads = 0;
  uint64_t sharedBytes = 0;
  std::vector<uint8_t> arena;
  uint8_t *shared = nullptr;
  std::vector<Shadow> shadow;
  std::vector<Buffer *> lastBuffer; ///< of each operation
  uint64_t requests = 0;
  std::optional<Failure> trapped;
};

} // namespace skim::sim

#endif // SKIM_LIB_RUNTIME_SIMULATOR_BLOCK_H
