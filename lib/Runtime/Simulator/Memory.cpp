//===- Memory.cpp - checks and counts of accesses ---------------------------===//

#include "Block.h"

#include <algorithm>
#include <cstring>

using namespace skim;
using namespace skim::sim;

static uint32_t firstOf(uint32_t mask) { return static_cast<uint32_t>(std::countr_zero(mask)); }

/// Calls `body(lane)` for the bits of a mask, in order, until it is false.
template <typename Body> static bool forLanes(uint32_t mask, Body body) {
  for (; mask; mask &= mask - 1)
    if (!body(firstOf(mask)))
      return false;
  return true;
}

/// Sorts the values of the lanes in `mask` into `sorted` without repetitions.
static uint32_t distinct(uint32_t mask, const uint64_t *values, uint64_t *sorted) {
  uint32_t count = 0;
  bool ascending = true;
  forLanes(mask, [&](uint32_t index) {
    ascending &= count == 0 || sorted[count - 1] <= values[index];
    sorted[count++] = values[index];
    return true;
  });
  if (!ascending)
    std::sort(sorted, sorted + count);
  return static_cast<uint32_t>(std::unique(sorted, sorted + count) - sorted);
}

static std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

//===----------------------------------------------------------------------===//
// Global memory
//===----------------------------------------------------------------------===//

Buffer *Block::resolve(const Group &group, uint32_t index, uint64_t address, uint32_t bytes, bool write) {
  Buffer *&last = lastBuffer[static_cast<size_t>(group.op - kernel.ops.data())];
  if (address % bytes) {
    trap(group, index, "misaligned access", "an address that is a multiple of " + std::to_string(bytes), hex(address));
    return nullptr;
  }
  if (!last || !last->holds(address, bytes)) {
    last = device.find(address, bytes);
    if (!last) {
      Buffer *near = device.below(address);
      std::string got = near ? "byte " + std::to_string(address - near->base) + " of buffer '" + near->name + "' of " +
                                   std::to_string(near->size)
                             : hex(address);
      trap(group, index, "out-of-bounds access", std::to_string(bytes) + " bytes in a buffer", got);
      return nullptr;
    }
  }
  if (write && last->readOnly) {
    trap(group, index, "write to constant memory", "a buffer that may be written", "buffer '" + last->name + "'");
    return nullptr;
  }
  return last;
}

bool Block::globalRequest(const Group &group, uint32_t mask, const uint64_t *addresses, uint32_t bytes, bool write) {
  bool reads = group.op->kind != Kind::Store;
  bool fine = forLanes(mask, [&](uint32_t index) {
    Buffer *buffer = resolve(group, index, addresses[index], bytes, write);
    if (!buffer)
      return false;
    if (buffer->initialised.empty())
      return true;
    uint64_t offset = addresses[index] - buffer->base;
    for (uint32_t i = 0; i < bytes; ++i) {
      if (reads && !buffer->initialised[offset + i]) {
        trap(group, index, "read of uninitialised memory", "a byte that was written",
             "byte " + std::to_string(offset + i) + " of buffer '" + buffer->name + "'");
        return false;
      }
      if (write)
        buffer->initialised[offset + i] = 1;
    }
    return true;
  });
  if (!fine)
    return false;

  uint64_t sorted[kWarp];
  uint32_t count = distinct(mask, addresses, sorted);
  uint64_t sectors = 0, lastSector = ~uint64_t(0);
  for (uint32_t i = 0; i < count; ++i) {
    // Aligned pieces of at most 16 bytes lie in one sector.
    uint64_t sector = sorted[i] / 32;
    sectors += sector != lastSector;
    lastSector = sector;
    Buffer *buffer = device.find(sorted[i], bytes);
    if (reads)
      buffer->bytesRead += bytes;
    if (write)
      buffer->bytesWritten += bytes;
    if (buffer->counted) {
      uint64_t offset = sorted[i] - buffer->base;
      for (uint32_t b = 0; b < bytes; ++b) {
        buffer->reads[offset + b] += reads;
        buffer->writes[offset + b] += write;
      }
    }
  }
  OpCounters &counts = *group.counters;
  ++counts.requests;
  counts.lanes += static_cast<uint32_t>(std::popcount(mask));
  counts.bytes += uint64_t(count) * bytes;
  counts.sectors += sectors;
  counts.idealSectors += (uint64_t(count) * bytes + 31) / 32;
  return true;
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

/// Whether what thread `first` did at `epoch` of its warp comes before what
/// `second` does now.
bool Block::ordered(uint16_t first, uint32_t epoch, uint16_t second) const {
  if (first == second || first == Shadow::kNobody)
    return true;
  return clocks[(second / kWarp) * warps.size() + first / kWarp] > epoch;
}

bool Block::touchShared(const Group &group, uint32_t index, uint64_t address, uint32_t bytes, Touch touch,
                        uint16_t actor) {
  uint64_t offset = address - SKIM_SIM_SHARED_BASE;
  if (address < SKIM_SIM_SHARED_BASE || bytes > sharedBytes || offset > sharedBytes - bytes) {
    trap(group, index, "out-of-bounds access",
         std::to_string(bytes) + " bytes in " + std::to_string(sharedBytes) + " bytes of shared memory",
         "byte " + std::to_string(static_cast<int64_t>(offset)));
    return false;
  }
  if (address % bytes) {
    trap(group, index, "misaligned access", "an address that is a multiple of " + std::to_string(bytes),
         "byte " + std::to_string(offset) + " of shared memory");
    return false;
  }
  uint32_t now = epoch(group.warp);
  auto conflict = [&](const char *what, uint64_t byte, uint16_t other) {
    trap(group, index, what,
         "a barrier between threads " + std::to_string(other) + " and " + std::to_string(group.warp * kWarp + index),
         "none at byte " + std::to_string(byte) + " of shared memory");
    return false;
  };
  for (uint64_t byte = offset; byte < offset + bytes; ++byte) {
    Shadow &cell = shadow[byte];
    if (cell.flags & Shadow::Pending) {
      trap(group, index, "access to shared memory before its copy was waited for",
           "cp.async.wait.group in thread " + std::to_string(cell.writer),
           "none for byte " + std::to_string(byte) + " of shared memory");
      return false;
    }
    if (cell.wgmmas && touch != Touch::Read) {
      trap(group, index, "write over what wgmma reads", "wgmma.wait_group by its warps before",
           "none for byte " + std::to_string(byte) + " of shared memory");
      return false;
    }
    bool atomics = touch == Touch::Atomic && cell.flags & Shadow::Atomic;
    if (touch != Touch::Write && touch != Touch::Copy && !(cell.flags & Shadow::Initialised)) {
      trap(group, index, "read of uninitialised shared memory", "a byte that was written",
           "byte " + std::to_string(byte) + " of shared memory");
      return false;
    }
    if (!atomics && !ordered(cell.writer, cell.writeEpoch, actor))
      return conflict(touch == Touch::Read ? "race: read of what another thread wrote"
                                           : "race: write over what another thread wrote",
                      byte, cell.writer);
    if (touch == Touch::Read) {
      if (cell.reader != actor) {
        cell.other = cell.reader;
        cell.otherEpoch = cell.readEpoch;
        cell.reader = actor;
      }
      cell.readEpoch = now;
      continue;
    }
    for (auto [reader, epoch] : {std::pair(cell.reader, cell.readEpoch), std::pair(cell.other, cell.otherEpoch)})
      if (!ordered(reader, epoch, actor))
        return conflict("race: write over what another thread reads", byte, reader);
    cell.writer = actor;
    cell.writeEpoch = now;
    cell.writeFences = fences(group.warp, group.warp);
    cell.flags = touch == Touch::Copy     ? Shadow::Pending
                 : touch == Touch::Atomic ? Shadow::Initialised | Shadow::Atomic
                                          : Shadow::Initialised;
  }
  return true;
}

void Block::countBanks(const Group &group, uint32_t mask, const uint64_t *addresses, uint32_t bytes) {
  // 32 banks of 4 bytes serve 128 bytes in a cycle: wide accesses go by halves and quarters of the warp.
  uint32_t together = bytes <= 4 ? kWarp : 128 / bytes;
  for (uint32_t first = 0; first < kWarp; first += together) {
    uint32_t part = mask & (together == kWarp ? ~0u : ((1u << together) - 1) << first);
    if (!part)
      continue;
    uint64_t words[kWarp], sorted[kWarp];
    forLanes(part, [&](uint32_t index) {
      words[index] = addresses[index] / 4;
      return true;
    });
    uint32_t count = distinct(part, words, sorted);
    uint32_t load[kWarp] = {}, most = 0;
    for (uint32_t i = 0; i < count; ++i)
      for (uint32_t word = 0; word < std::max(1u, bytes / 4); ++word)
        most = std::max(most, ++load[(sorted[i] + word) % kWarp]);
    group.counters->wavefronts += most;
    ++group.counters->idealWavefronts;
  }
}

//===----------------------------------------------------------------------===//
// Requests
//===----------------------------------------------------------------------===//

void Block::serveAccess(const Group &group) {
  const Op &op = *group.op;
  bool write = op.kind != Kind::Load;
  for (uint32_t part = 0; part < op.bytes; part += op.piece) {
    uint64_t addresses[kWarp];
    forLanes(group.mask, [&](uint32_t index) {
      addresses[index] = lane(group.warp, index).address + part;
      return true;
    });
    if (!op.shared) {
      if (!globalRequest(group, group.mask, addresses, op.piece, write))
        return;
      continue;
    }
    Touch touch = op.kind == Kind::Load ? Touch::Read : op.kind == Kind::Store ? Touch::Write : Touch::Atomic;
    bool fine = forLanes(group.mask, [&](uint32_t index) {
      return touchShared(group, index, addresses[index], op.piece, touch,
                         static_cast<uint16_t>(group.warp * kWarp + index));
    });
    if (!fine)
      return;
    uint64_t sorted[kWarp];
    ++group.counters->requests;
    group.counters->lanes += static_cast<uint32_t>(std::popcount(group.mask));
    group.counters->bytes += uint64_t(distinct(group.mask, addresses, sorted)) * op.piece;
    countBanks(group, group.mask, addresses, op.piece);
  }
  forLanes(group.mask, [&](uint32_t index) {
    Lane &one = lane(group.warp, index);
    if (op.shared) {
      one.result = shared + (one.address - SKIM_SIM_SHARED_BASE);
    } else {
      Buffer *buffer = lastBuffer[static_cast<size_t>(group.op - kernel.ops.data())];
      if (!buffer->holds(one.address, op.bytes))
        buffer = device.find(one.address, op.bytes);
      if (!buffer) {
        trap(group, index, "out-of-bounds access", "all bytes in one buffer", hex(one.address));
        return false;
      }
      one.result = buffer->data + (one.address - buffer->base);
    }
    return true;
  });
}

void Block::serveCopy(const Group &group) {
  const Op &op = *group.op;
  uint64_t sources[kWarp], targets[kWarp];
  uint32_t reading = 0;
  bool fine = forLanes(group.mask, [&](uint32_t index) {
    Lane &one = lane(group.warp, index);
    sources[index] = one.source;
    targets[index] = one.address;
    if (one.bytes > op.bytes) {
      trap(group, index, "cp.async of too many bytes", "at most " + std::to_string(op.bytes),
           std::to_string(one.bytes));
      return false;
    }
    if (one.bytes)
      reading |= 1u << index;
    return touchShared(group, index, one.address, op.bytes, Touch::Copy,
                       static_cast<uint16_t>(group.warp * kWarp + index));
  });
  // A short copy is counted whole: the sector is fetched all the same. Its tail must not be outside of the buffer.
  if (!fine || (reading && !globalRequest(group, reading, sources, op.bytes, false)))
    return;
  countBanks(group, group.mask, targets, op.bytes);
  forLanes(group.mask, [&](uint32_t index) {
    Lane &one = lane(group.warp, index);
    uint32_t offset = static_cast<uint32_t>(one.address - SKIM_SIM_SHARED_BASE);
    std::memset(shared + offset, 0, op.bytes);
    if (one.bytes) {
      Buffer *buffer = device.find(one.source, op.bytes);
      std::memcpy(shared + offset, buffer->data + (one.source - buffer->base), one.bytes);
    }
    one.copies.push_back({offset, op.bytes, one.groups});
    return true;
  });
}

void Block::waitForCopies(Lane &lane, uint32_t left) {
  uint32_t now = epoch(lane.warp);
  std::erase_if(lane.copies, [&](const PendingCopy &copy) {
    if (copy.group + left >= lane.groups) // not committed, or among the newest
      return false;
    for (uint32_t byte = copy.offset; byte < copy.offset + copy.bytes; ++byte) {
      shadow[byte].flags = Shadow::Initialised;
      shadow[byte].writeEpoch = now;
      shadow[byte].writeFences = fences(lane.warp, lane.warp);
    }
    return true;
  });
}
