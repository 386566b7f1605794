#include "Block.h"

#include <algorithm>
#include <cstring>

using namespace skim;
using namespace skim::sim;
namespace context = boost::context::detail;

//===----------------------------------------------------------------------===//
// Hooks
//===----------------------------------------------------------------------===//

static Lane &from(skim_sim_lane *lane) { return *static_cast<Lane *>(lane); }

static void *hookAccess(skim_sim_lane *opaque, uint32_t op, uint64_t address) {
  Lane &lane = from(opaque);
  lane.address = address;
  lane.owner->park(lane, op);
  return lane.result;
}

static void hookCollective(skim_sim_lane *opaque, uint32_t op, const uint32_t *in, uint32_t *out) {
  Lane &lane = from(opaque);
  lane.in = in;
  lane.out = out;
  lane.owner->park(lane, op);
}

static void hookCopy(skim_sim_lane *opaque, uint32_t op, uint64_t shared, uint64_t global, uint32_t bytes) {
  Lane &lane = from(opaque);
  lane.address = shared;
  lane.source = global;
  lane.bytes = bytes;
  lane.owner->park(lane, op);
}

static void hookGroup(skim_sim_lane *opaque, uint32_t op) { from(opaque).owner->group(from(opaque), op); }
static void hookLoop(skim_sim_lane *opaque, uint32_t op, uint32_t phase) {
  from(opaque).owner->loop(from(opaque), op, phase);
}

static const skim_sim_hooks kHooks = {hookAccess, hookCollective, hookCopy, hookGroup, hookLoop, evaluateMath};

//===----------------------------------------------------------------------===//
// On a lane's stack
//===----------------------------------------------------------------------===//

// Boost's fcontext, not its fiber class: that unwinds the stack of a fiber that is dropped, and generated code has no
// tables for it. Lanes that are left behind by a trap are simply forgotten.
static void enterLane(context::transfer_t transfer) {
  Lane &lane = *static_cast<Lane *>(transfer.data);
  lane.scheduler = transfer.fctx;
  lane.owner->start(lane);
  lane.done = true;
  context::jump_fcontext(lane.scheduler, nullptr);
}

void Block::start(Lane &lane) { kernel.code(&lane, arguments.data()); }

void Block::park(Lane &lane, uint32_t op) {
  lane.path[lane.depth] = op;
  lane.scheduler = context::jump_fcontext(lane.scheduler, nullptr).fctx;
}

void Block::loop(Lane &lane, uint32_t op, uint32_t phase) {
  // The compile half bounds the depth.
  if (phase == 0) {
    lane.path[lane.depth++] = op;
    lane.path[lane.depth++] = 0;
  } else if (phase == 1) {
    ++lane.path[lane.depth - 1];
  } else {
    lane.depth -= 2;
  }
}

void Block::group(Lane &lane, uint32_t op) {
  if (kernel.ops[op].kind == Kind::Commit)
    ++lane.groups;
  else
    waitForCopies(lane, static_cast<uint32_t>(kernel.ops[op].params[0]));
}

//===----------------------------------------------------------------------===//
// The scheduler
//===----------------------------------------------------------------------===//

Block::Block(const Module::Kernel &kernel, Device::State &device, const LaunchShape &shape,
             const std::vector<uint64_t> &arguments, Counters &counters)
    : kernel(kernel), device(device), shape(shape), arguments(arguments), counters(counters),
      lastBuffer(kernel.ops.size()) {
  threads = shape.block[0] * shape.block[1] * shape.block[2];
  uint32_t count = (threads + kWarp - 1) / kWarp;
  warps.resize(count);
  lanes.resize(count * kWarp);
  clocks.resize(count * count);
  fenceClocks.resize(count * count);
  proxyClocks.resize(count * count);
  sharedBytes = uint64_t(kernel.shared) + shape.dynamicShared;
  constexpr uint64_t alignment = 1024;
  arena.resize(sharedBytes + alignment);
  shared = arena.data() + (alignment - reinterpret_cast<uintptr_t>(arena.data()) % alignment) % alignment;
  shadow.resize(sharedBytes);
}

void Block::resume(Lane &lane) { lane.context = context::jump_fcontext(lane.context, &lane).fctx; }

uint32_t Block::earliest(uint32_t warp, uint32_t waiting) {
  uint32_t first = static_cast<uint32_t>(std::countr_zero(waiting));
  uint32_t group = 1u << first;
  const Lane *best = &lane(warp, first);
  for (uint32_t rest = waiting & (waiting - 1); rest; rest &= rest - 1) {
    uint32_t index = static_cast<uint32_t>(std::countr_zero(rest));
    const Lane &other = lane(warp, index);
    uint32_t length = std::min(best->depth, other.depth) + 1, i = 0;
    while (i < length && best->path[i] == other.path[i])
      ++i;
    if (i == length) // the same number of loops too: a loop and an operation never have the same number
      group |= 1u << index;
    else if (other.path[i] < best->path[i]) {
      best = &other;
      group = 1u << index;
    }
  }
  return group;
}

void Block::runWarp(uint32_t warp) {
  Warp &state = warps[warp];
  uint32_t ready = 0, waiting = 0;
  for (uint32_t rest = state.lanes; rest; rest &= rest - 1) {
    uint32_t index = static_cast<uint32_t>(std::countr_zero(rest));
    if (!lane(warp, index).done)
      ready |= 1u << index;
  }
  for (;;) {
    for (uint32_t rest = ready; rest; rest &= rest - 1) {
      uint32_t index = static_cast<uint32_t>(std::countr_zero(rest));
      Lane &next = lane(warp, index);
      resume(next);
      if (trapped) // a hook that does not park
        return;
      if (!next.done)
        waiting |= 1u << index;
    }
    if (!waiting) {
      state.state = WarpState::Done;
      return;
    }
    ready = earliest(warp, waiting);
    uint32_t number = lane(warp, static_cast<uint32_t>(std::countr_zero(ready))).op();
    Group group = {warp, ready, &kernel.ops[number], &counters.ops[number]};
    if (++requests > device.requestLimit) {
      trap(group, static_cast<uint32_t>(std::countr_zero(ready)), "GPU kernel does not end",
           "at most " + std::to_string(device.requestLimit) + " requests of a block", "more");
      return;
    }
    serve(group);
    if (trapped || state.state == WarpState::Waits)
      return;
    waiting &= ~ready;
  }
}

void Block::serve(const Group &group) {
  switch (group.op->kind) {
  case Kind::Load:
  case Kind::Store:
  case Kind::Atomic:
    return serveAccess(group);
  case Kind::Copy:
    return serveCopy(group);
  case Kind::Barrier:
    return serveBarrier(group);
  case Kind::WgmmaFence:
  case Kind::Wgmma:
  case Kind::WgmmaCommit:
  case Kind::WgmmaWait:
  case Kind::FenceProxy:
    return serveWarpgroup(group);
  default:
    return serveCollective(group);
  }
}

/// Lets the warps at a barrier (or at a wgmma of their group) go on if it is complete.
void Block::releaseBarrier(uint32_t number) {
  std::vector<uint32_t> here;
  for (uint32_t warp = 0; warp < warps.size(); ++warp)
    if (warps[warp].state == WarpState::Waits && warps[warp].barrier == number)
      here.push_back(warp);
  if (here.size() * kWarp < warps[here.front()].threads)
    return;
  for (uint32_t warp : here)
    warps[warp].state = WarpState::Runs;
  if (number >= kFirstWarpgroup)
    return multiplyWarpgroup(here.front());
  for (uint32_t warp : here)
    ++epoch(warp);
  for (std::vector<uint32_t> *known : {&clocks, &fenceClocks, &proxyClocks})
    for (uint32_t v = 0; v < warps.size(); ++v) {
      uint32_t latest = 0;
      for (uint32_t warp : here)
        latest = std::max(latest, (*known)[warp * warps.size() + v]);
      for (uint32_t warp : here)
        (*known)[warp * warps.size() + v] = latest;
    }
  ++counters.barriers;
}

void Block::trapDeadlock() {
  for (uint32_t warp = 0; warp < warps.size(); ++warp) {
    if (warps[warp].state != WarpState::Waits)
      continue;
    uint32_t index = static_cast<uint32_t>(std::countr_zero(warps[warp].lanes));
    const Op &op = kernel.ops[lane(warp, index).op()];
    std::string others;
    for (uint32_t other = 0; other < warps.size() && others.empty(); ++other) {
      if (other == warp)
        continue;
      std::string name = "warp " + std::to_string(other);
      if (warps[other].state == WarpState::Done)
        others = name + " at its end";
      else if (warps[other].barrier != warps[warp].barrier)
        others = name + (warps[other].barrier < kFirstWarpgroup ? " at barrier " + std::to_string(warps[other].barrier)
                                                                : " at wgmma");
    }
    Group group = {warp, warps[warp].lanes, &op, nullptr};
    if (warps[warp].barrier >= kFirstWarpgroup)
      return trap(group, index, "divergent wgmma", "the four warps of the warpgroup", others);
    return trap(group, index, "divergent barrier",
                std::to_string(warps[warp].threads) + " threads at barrier " + std::to_string(warps[warp].barrier),
                others.empty() ? "fewer" : others);
  }
}

Error Block::run(std::array<uint32_t, 3> index) {
  trapped.reset();
  requests = 0;
  std::fill(shadow.begin(), shadow.end(), Shadow());
  for (std::vector<uint32_t> *known : {&clocks, &fenceClocks, &proxyClocks})
    std::fill(known->begin(), known->end(), 0);
  for (uint32_t warp = 0; warp < warps.size(); ++warp) {
    warps[warp] = Warp();
    epoch(warp) = 1;
  }
  for (uint32_t thread = 0; thread < threads; ++thread) {
    Lane &lane = lanes[thread];
    lane.hooks = &kHooks;
    lane.thread[0] = thread % shape.block[0];
    lane.thread[1] = thread / shape.block[0] % shape.block[1];
    lane.thread[2] = thread / shape.block[0] / shape.block[1];
    std::copy(index.begin(), index.end(), lane.block);
    std::copy(shape.block.begin(), shape.block.end(), lane.block_dim);
    std::copy(shape.grid.begin(), shape.grid.end(), lane.grid_dim);
    lane.lane = thread % kWarp;
    lane.warp = thread / kWarp;
    lane.owner = this;
    lane.done = false;
    lane.depth = 0;
    lane.copies.clear();
    lane.groups = 0;
    lane.registers.assign(kernel.registers, HeldRegister());
    lane.context = context::make_fcontext(device.stacks.top(thread), Stacks::usable(), enterLane);
    warps[lane.warp].lanes |= 1u << lane.lane;
  }
  ++counters.blocks;
  counters.warps += warps.size();
  for (;;) {
    bool ran = false, waits = false;
    for (uint32_t warp = 0; warp < warps.size(); ++warp) {
      if (warps[warp].state != WarpState::Runs)
        continue;
      ran = true;
      runWarp(warp);
      if (trapped)
        return *trapped;
      if (warps[warp].state == WarpState::Waits)
        releaseBarrier(warps[warp].barrier);
      if (trapped)
        return *trapped;
    }
    if (ran)
      continue;
    for (const Warp &warp : warps)
      waits |= warp.state == WarpState::Waits;
    if (!waits)
      return Error::success();
    trapDeadlock();
    return *trapped;
  }
}

//===----------------------------------------------------------------------===//
// Traps
//===----------------------------------------------------------------------===//

static std::string triple(const uint32_t *values) {
  return "(" + std::to_string(values[0]) + "," + std::to_string(values[1]) + "," + std::to_string(values[2]) + ")";
}

std::string Block::place(const Op &op, const Lane &lane) const {
  return "kernel '" + kernel.name + "', " + op.name + " " + op.location +
         (op.label.empty() ? "" : " '" + op.label + "'") + ", block " + triple(lane.block) + ", thread " +
         triple(lane.thread);
}

void Block::trap(const Group &group, uint32_t index, std::string what, std::string expected, std::string got) {
  if (!trapped)
    trapped = fail(std::move(what), place(*group.op, lane(group.warp, index)), std::move(expected), std::move(got));
}

//===----------------------------------------------------------------------===//
// A launch
//===----------------------------------------------------------------------===//

Error sim::runKernel(const Module::Kernel &kernel, Device::State &device, const LaunchShape &shape,
                     const std::vector<uint64_t> &arguments, Counters &counters) {
  if (!device.stacks.reserve(size_t(shape.block[0]) * shape.block[1] * shape.block[2]))
    return fail("cannot simulate kernel", kernel.name, "memory for the lanes' stacks", "none");
  Block block(kernel, device, shape, arguments, counters);
  auto number = [&](int extent, uint32_t i) {
    return shape.sampled(extent, shape.descending ? shape.sampledBlocks(extent) - 1 - i : i);
  };
  for (uint32_t z = 0; z < shape.sampledBlocks(2); ++z)
    for (uint32_t y = 0; y < shape.sampledBlocks(1); ++y)
      for (uint32_t x = 0; x < shape.sampledBlocks(0); ++x)
        if (Error error = block.run({number(0, x), number(1, y), number(2, z)}))
          return error;
  return Error::success();
}
