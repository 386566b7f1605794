//===- Collective.cpp - what the lanes of a warp do together ----------------===//

#include "Block.h"

#include <algorithm>

using namespace skim;
using namespace skim::sim;

static uint32_t firstOf(uint32_t mask) { return static_cast<uint32_t>(std::countr_zero(mask)); }

static std::string hexMask(uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", value);
  return text;
}

bool Block::wholeWarp(const Group &group) {
  if (group.mask == ~0u)
    return true;
  uint32_t missing = firstOf(~group.mask);
  const Lane &other = lane(group.warp, missing);
  bool exists = warps[group.warp].lanes >> missing & 1;
  trap(group, firstOf(group.mask), "divergent " + std::string(spell(group.op->kind)), "all 32 lanes of the warp",
       "lane " + std::to_string(missing) +
           (!exists      ? " is not in the block"
            : other.done ? " at its end"
                         : " at " + kernel.ops[other.op()].name + " " + kernel.ops[other.op()].location));
  return false;
}

void Block::serveBarrier(const Group &group) {
  Warp &warp = warps[group.warp];
  uint32_t first = firstOf(group.mask);
  uint32_t number = lane(group.warp, first).in[0], wanted = lane(group.warp, first).in[1];
  if (group.mask != warp.lanes) {
    uint32_t missing = firstOf(warp.lanes & ~group.mask);
    const Lane &other = lane(group.warp, missing);
    return trap(group, first, "divergent barrier", "all lanes of the warp",
                "lane " + std::to_string(missing) +
                    (other.done ? " at its end"
                                : " at " + kernel.ops[other.op()].name + " " + kernel.ops[other.op()].location));
  }
  for (uint32_t rest = group.mask; rest; rest &= rest - 1) {
    const Lane &one = lane(group.warp, firstOf(rest));
    if (one.in[0] != number || one.in[1] != wanted)
      return trap(group, firstOf(rest), "divergent barrier", "one barrier for all lanes of the warp",
                  "number " + std::to_string(one.in[0]) + " for " + std::to_string(one.in[1]) + " threads");
  }
  uint32_t all = static_cast<uint32_t>(warps.size()) * kWarp;
  if (number >= 16 || wanted % kWarp || wanted > all)
    return trap(group, first, "wrong barrier", "number below 16 and whole warps of the block",
                "number " + std::to_string(number) + " for " + std::to_string(wanted) + " threads");
  for (const Warp &other : warps)
    if (other.state == WarpState::Waits && other.barrier == number && other.threads != (wanted ? wanted : all))
      return trap(group, first, "wrong barrier",
                  "one number of threads for all warps at barrier " + std::to_string(number),
                  std::to_string(other.threads) + " and " + std::to_string(wanted ? wanted : all));
  // All threads of the block: then everybody is at the same place, too.
  if (!wanted)
    for (uint32_t other = 0; other < warps.size(); ++other)
      if (warps[other].state == WarpState::Waits && warps[other].barrier == number) {
        const Lane &there = lane(other, firstOf(warps[other].lanes)), &here = lane(group.warp, first);
        if (there.depth != here.depth || !std::equal(here.path, here.path + here.depth + 1, there.path))
          return trap(group, first, "divergent barrier", "all warps at one barrier",
                      "warp " + std::to_string(other) + " at " + kernel.ops[there.op()].name + " " +
                          kernel.ops[there.op()].location + ", or in another iteration");
      }
  warp.state = WarpState::Waits;
  warp.barrier = number;
  warp.threads = wanted ? wanted : all;
  ++group.counters->requests;
  group.counters->lanes += static_cast<uint32_t>(std::popcount(group.mask));
}

static uint32_t reduce(int32_t kind, uint32_t a, uint32_t b) {
  auto s = [](uint32_t value) { return static_cast<int32_t>(value); };
  switch (kind) {
  case 0:
    return a + b;
  case 1:
    return a & b;
  case 2:
    return s(a) > s(b) ? a : b;
  case 3:
    return s(a) < s(b) ? a : b;
  case 4:
    return a | b;
  case 5:
    return std::max(a, b);
  case 6:
    return std::min(a, b);
  default:
    return a ^ b;
  }
}

/// shfl.sync of PTX: the lane to read from, and whether it is inside.
static std::pair<uint32_t, bool> shuffleSource(int32_t mode, uint32_t lane, uint32_t offset, uint32_t clamp) {
  uint32_t segment = clamp >> 8 & 31, c = clamp & 31, b = offset & 31;
  uint32_t most = (lane & segment) | (c & ~segment & 31), least = lane & segment;
  switch (mode) {
  case 0:
    return {lane ^ b, (lane ^ b) <= most};
  case 1: {
    int32_t from = static_cast<int32_t>(lane) - static_cast<int32_t>(b);
    return {static_cast<uint32_t>(from) & 31, from >= static_cast<int32_t>(most)};
  }
  case 2:
    return {(lane + b) & 31, lane + b <= most};
  default: {
    uint32_t from = least | (b & ~segment & 31);
    return {from, from <= most};
  }
  }
}

void Block::serveCollective(const Group &group) {
  const Op &op = *group.op;
  ++group.counters->requests;
  group.counters->lanes += static_cast<uint32_t>(std::popcount(group.mask));
  if (op.kind == Kind::LdMatrix || op.kind == Kind::Mma) {
    if (!wholeWarp(group))
      return;
    return op.kind == Kind::Mma ? multiply(group) : loadMatrices(group);
  }
  // Lanes with the same members belong together.
  for (uint32_t rest = group.mask; rest;) {
    uint32_t first = firstOf(rest), members = lane(group.warp, first).in[0], here = 0;
    for (uint32_t others = rest; others; others &= others - 1) {
      uint32_t index = firstOf(others);
      if (lane(group.warp, index).in[0] == members)
        here |= 1u << index;
    }
    rest &= ~here;
    if (uint32_t strangers = here & ~members)
      return trap(group, firstOf(strangers), "wrong members of a collective operation", "a mask with the lane itself",
                  hexMask(members));
    uint32_t missing = members & ~here & warps[group.warp].lanes;
    for (uint32_t others = missing; others; others &= others - 1) {
      const Lane &other = lane(group.warp, firstOf(others));
      if (!other.done) // those that have ended do not count
        return trap(group, first, "divergent " + std::string(spell(op.kind)), "all lanes of " + hexMask(members),
                    "lane " + std::to_string(firstOf(others)) + " at " + kernel.ops[other.op()].name + " " +
                        kernel.ops[other.op()].location);
    }

    uint32_t votes = 0, sum = 0;
    bool begun = false;
    for (uint32_t others = here; others; others &= others - 1) {
      uint32_t index = firstOf(others);
      const uint32_t *in = lane(group.warp, index).in;
      if (op.kind == Kind::Vote)
        votes |= (in[1] & 1) << index;
      if (op.kind == Kind::Redux) {
        sum = begun ? reduce(op.params[0], sum, in[1]) : in[1];
        begun = true;
      }
    }
    if (op.kind == Kind::SyncWarp)
      ++epoch(group.warp);
    for (uint32_t others = here; others; others &= others - 1) {
      uint32_t index = firstOf(others);
      Lane &one = lane(group.warp, index);
      switch (op.kind) {
      case Kind::Shuffle: {
        auto [from, valid] = shuffleSource(op.params[0], index, one.in[2], one.in[3]);
        if (!valid)
          from = index;
        if (!(here >> from & 1))
          return trap(group, index, "shuffle from a lane that takes no part", "a lane of " + hexMask(here),
                      "lane " + std::to_string(from));
        one.out[0] = lane(group.warp, from).in[1];
        one.out[1] = valid;
        break;
      }
      case Kind::Vote:
        one.out[0] = op.params[0] == 0   ? votes != 0
                     : op.params[0] == 1 ? votes == here
                     : op.params[0] == 2 ? votes
                                         : votes == 0 || votes == here;
        break;
      case Kind::Redux:
        one.out[0] = sum;
        break;
      case Kind::Elect:
        one.out[0] = index == first;
        break;
      default:
        break;
      }
    }
  }
}
