//===- Warpgroup.cpp - wgmma --------------------------------------------------===//
//
// A product is computed when the four warps have come to it; a wait hands it out.
// In between, lanes have tickets instead of their registers, so that what was not
// waited for is not there, and what wgmma reads of shared memory is marked.
//
// Fragments are those of mma, 16 rows a warp: PTX ISA, "Register fragments for
// wgmma.mma_async.m64nNk16". B lies in core matrices of 8 columns × 16 bytes.
//
//===----------------------------------------------------------------------===//

#include "Block.h"
#include "skim/Support/Float16.h"

#include <algorithm>
#include <cstring>

using namespace skim;
using namespace skim::sim;

void Block::serveWarpgroup(const Group &group) {
  // A proxy fence of a part of the warp does nothing that could be proven.
  if (group.op->kind != Kind::FenceProxy && !wholeWarp(group))
    return;
  ++group.counters->requests;
  group.counters->lanes += static_cast<uint32_t>(std::popcount(group.mask));
  switch (group.op->kind) {
  case Kind::WgmmaFence:
    return handOver(group);
  case Kind::Wgmma:
    return meetWarpgroup(group);
  case Kind::WgmmaCommit:
    ++warps[group.warp].groups;
    return;
  case Kind::WgmmaWait:
    return waitForWgmma(group);
  default:
    if (group.mask == warps[group.warp].lanes)
      fenceProxy(group.warp);
  }
}

//===----------------------------------------------------------------------===//
// Registers
//===----------------------------------------------------------------------===//

static uint32_t ticketOf(uint32_t number, const HeldRegister &held) { return number | uint32_t(held.version) << 16; }

void Block::handOver(const Group &group) {
  uint32_t first = static_cast<uint32_t>(group.op->params[0]), count = static_cast<uint32_t>(group.op->params[1]);
  for (uint32_t index = 0; index < kWarp; ++index) {
    Lane &one = lane(group.warp, index);
    for (uint32_t i = 0; i < count; ++i) {
      HeldRegister &held = one.registers[first + i];
      if (held.group > warps[group.warp].finished)
        return trap(group, index, "write of a register that wgmma has", "wgmma.wait_group for its group before",
                    "operand " + std::to_string(i) + " of the fence, in group " + std::to_string(held.group) +
                        " while " + std::to_string(warps[group.warp].finished) + " are done");
      held.value = one.in[i];
      held.group = 0;
      ++held.version;
      one.out[i] = ticketOf(first + i, held);
    }
  }
}

HeldRegister *Block::heldRegister(const Group &group, uint32_t index, uint32_t ticket) {
  HeldRegister &held = lane(group.warp, index).registers[ticket & 0xFFFF];
  if (held.version == ticket >> 16)
    return &held;
  trap(group, index, "second use of a register that wgmma has", "what the last wgmma on it gave",
       "what was in it before");
  return nullptr;
}

void Block::waitForWgmma(const Group &group) {
  Warp &warp = warps[group.warp];
  uint32_t left = static_cast<uint32_t>(group.op->params[0]), count = static_cast<uint32_t>(group.op->params[1]);
  if (warp.groups > left)
    warp.finished = std::max(warp.finished, warp.groups - left);
  finishReads(group.warp);
  for (uint32_t index = 0; index < kWarp; ++index) {
    Lane &one = lane(group.warp, index);
    for (uint32_t i = 0; i < count; ++i) {
      HeldRegister *held = heldRegister(group, index, one.in[i]);
      if (!held)
        return;
      if (held->group > warp.finished)
        return trap(group, index, "read of a register that wgmma has", "a wait for its group",
                    "operand " + std::to_string(i) + ", in group " + std::to_string(held->group) + " while " +
                        std::to_string(warp.finished) + " are done");
      one.out[i] = held->value;
      held->group = 0;
      ++held->version;
    }
  }
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

void Block::fenceProxy(uint32_t warp) {
  ++fences(warp, warp);
  for (uint32_t v = 0; v < warps.size(); ++v)
    proxied(warp, v) = clocks[warp * warps.size() + v];
}

bool Block::readByWgmma(const Group &group, uint64_t address, uint32_t bytes) {
  uint64_t offset = address - SKIM_SIM_SHARED_BASE;
  if (address < SKIM_SIM_SHARED_BASE || bytes > sharedBytes || offset > sharedBytes - bytes) {
    trap(group, 0, "out-of-bounds access",
         std::to_string(bytes) + " bytes in " + std::to_string(sharedBytes) + " bytes of shared memory",
         "byte " + std::to_string(static_cast<int64_t>(offset)));
    return false;
  }
  for (uint64_t byte = offset; byte < offset + bytes; ++byte) {
    Shadow &cell = shadow[byte];
    auto fail = [&](const char *what, const std::string &expected, const std::string &got) {
      trap(group, 0, what, expected, got + " byte " + std::to_string(byte) + " of shared memory");
      return false;
    };
    std::string thread = std::to_string(cell.writer);
    if (cell.flags & Shadow::Pending)
      return fail("access to shared memory before its copy was waited for", "cp.async.wait.group in thread " + thread,
                  "none for");
    if (!(cell.flags & Shadow::Initialised))
      return fail("read of uninitialised shared memory", "a byte that was written", "");
    uint32_t by = cell.writer / kWarp;
    for (uint32_t warp = group.warp; warp < group.warp + kGroupWarps; ++warp) {
      // Even in its own warp the writer is one lane, and all read.
      if (clocks[warp * warps.size() + by] <= cell.writeEpoch)
        return fail("race: wgmma reads what a thread wrote",
                    "a barrier between thread " + thread + " and warp " + std::to_string(warp), "none at");
      if (fences(warp, by) <= cell.writeFences && proxied(warp, by) <= cell.writeEpoch)
        return fail("wgmma reads what was written without a proxy fence",
                    "fence.proxy.async between thread " + thread + " and warp " + std::to_string(warp), "none at");
    }
    cell.wgmmas += kGroupWarps;
  }
  for (uint32_t warp = group.warp; warp < group.warp + kGroupWarps; ++warp)
    warps[warp].reads.push_back({static_cast<uint32_t>(offset), bytes, warps[warp].groups});
  return true;
}

void Block::finishReads(uint32_t warp) {
  uint32_t now = epoch(warp);
  uint16_t actor = static_cast<uint16_t>(warp * kWarp);
  std::erase_if(warps[warp].reads, [&](const PendingRead &read) {
    if (read.group >= warps[warp].finished)
      return false;
    for (uint32_t byte = read.offset; byte < read.offset + read.bytes; ++byte) {
      Shadow &cell = shadow[byte];
      --cell.wgmmas;
      if (cell.reader != actor) {
        cell.other = cell.reader;
        cell.otherEpoch = cell.readEpoch;
        cell.reader = actor;
      }
      cell.readEpoch = now;
    }
    return true;
  });
}

//===----------------------------------------------------------------------===//
// The product
//===----------------------------------------------------------------------===//

void Block::meetWarpgroup(const Group &group) {
  Warp &warp = warps[group.warp];
  uint32_t number = group.warp / kGroupWarps;
  if ((number + 1) * kGroupWarps > warps.size())
    return trap(group, 0, "divergent wgmma", "the four warps of the warpgroup",
                "a block of " + std::to_string(warps.size()) + " warps");
  const Lane &here = lane(group.warp, 0);
  for (uint32_t other = number * kGroupWarps; other < (number + 1) * kGroupWarps; ++other) {
    if (warps[other].state != WarpState::Waits || warps[other].barrier != kFirstWarpgroup + number)
      continue;
    const Lane &there = lane(other, 0);
    if (there.depth != here.depth || !std::equal(here.path, here.path + here.depth + 1, there.path))
      return trap(group, 0, "divergent wgmma", "the four warps of the warpgroup at one wgmma",
                  "warp " + std::to_string(other) + " at " + kernel.ops[there.op()].name + " " +
                      kernel.ops[there.op()].location + ", or in another iteration");
  }
  warp.state = WarpState::Waits;
  warp.barrier = kFirstWarpgroup + number;
  warp.threads = kGroupWarps * kWarp;
}

void Block::multiplyWarpgroup(uint32_t firstWarp) {
  constexpr uint32_t kK = 16, kWordsBefore = 3, kWordsA = 4;
  const Lane &leader = lane(firstWarp, 0);
  const Op &op = kernel.ops[leader.op()];
  OpCounters &counts = counters.ops[leader.op()];
  Group group = {firstWarp, ~0u, &op, &counts};
  for (uint32_t index = 0; index < kGroupWarps * kWarp; ++index) {
    const Lane &one = lane(firstWarp, index);
    if (!std::equal(one.in, one.in + kWordsBefore, leader.in)) {
      group.warp = one.warp;
      return trap(group, one.lane, "divergent wgmma", "one descriptor and one choice of the sums for all lanes",
                  "another than thread " + std::to_string(firstWarp * kWarp));
    }
  }
  uint64_t descriptor = leader.in[0] | uint64_t(leader.in[1]) << 32;
  constexpr uint64_t kFields = 0x00003FFF3FFF3FFF;
  if (descriptor & ~kFields) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%016llx", static_cast<unsigned long long>(descriptor));
    return trap(group, 0, "wrong matrix descriptor", "an address that is a multiple of 16, offsets, and no swizzle",
                text);
  }
  auto bytes = [&](uint32_t shift) { return static_cast<uint32_t>(descriptor >> shift & 0x3FFF) * 16; };
  uint32_t address = bytes(0), alongK = bytes(16), alongN = bytes(32);
  uint32_t n = static_cast<uint32_t>(op.params[0]);
  bool bf16 = op.params[1], first = leader.in[2];
  auto toFloat = [&](uint16_t half) { return bf16 ? bf16ToF32(half) : f16ToF32(half); };

  static thread_local float b[kK][256], a[16][kK], sums[16][256];
  for (uint32_t core = 0; core < n / 8; ++core)
    for (uint32_t half = 0; half < 2; ++half) {
      uint64_t at = uint64_t(address) + core * alongN + half * alongK;
      if (!readByWgmma(group, at, 128))
        return;
      for (uint32_t i = 0; i < 64; ++i) {
        uint16_t value;
        std::memcpy(&value, shared + (at - SKIM_SIM_SHARED_BASE) + 2 * i, 2);
        b[8 * half + i % 8][8 * core + i / 8] = toFloat(value);
      }
    }
  // The tensor cores of the four warps are fed together.
  counts.bytes += uint64_t(n) * 2 * kK;
  counts.wavefronts += n / 4;
  counts.idealWavefronts += n / 4;

  for (uint32_t warp = firstWarp; warp < firstWarp + kGroupWarps; ++warp) {
    group.warp = warp;
    uint32_t now = warps[warp].groups + 1;
    for (uint32_t index = 0; index < kWarp; ++index) {
      Lane &one = lane(warp, index);
      uint32_t g = index / 4, t = index % 4;
      for (uint32_t r = 0; r < kWordsA; ++r) {
        HeldRegister *held = heldRegister(group, index, one.in[kWordsBefore + r]);
        if (!held)
          return;
        held->group = now;
        for (uint32_t i = 0; i < 2; ++i)
          a[g + 8 * (r % 2)][2 * t + i + 8 * (r / 2)] = toFloat(static_cast<uint16_t>(held->value >> (16 * i)));
      }
      for (uint32_t r = 0; r < n / 2; ++r) {
        const HeldRegister *held = heldRegister(group, index, one.in[kWordsBefore + kWordsA + r]);
        if (!held)
          return;
        sums[g + 8 * (r / 2 % 2)][8 * (r / 4) + 2 * t + r % 2] = first ? 0 : std::bit_cast<float>(held->value);
      }
    }
    for (uint32_t row = 0; row < 16; ++row)
      for (uint32_t k = 0; k < kK; ++k)
        for (uint32_t column = 0; column < n; ++column)
          sums[row][column] += a[row][k] * b[k][column];
    for (uint32_t index = 0; index < kWarp; ++index) {
      Lane &one = lane(warp, index);
      uint32_t g = index / 4, t = index % 4;
      for (uint32_t r = 0; r < n / 2; ++r) {
        uint32_t ticket = one.in[kWordsBefore + kWordsA + r];
        HeldRegister *held = heldRegister(group, index, ticket);
        if (!held)
          return;
        held->value = std::bit_cast<uint32_t>(sums[g + 8 * (r / 2 % 2)][8 * (r / 4) + 2 * t + r % 2]);
        held->group = now;
        ++held->version;
        one.out[r] = ticketOf(ticket & 0xFFFF, *held);
      }
    }
    counts.products += uint64_t(16) * n * kK;
  }
}
