//===- Format.h - what the folder's maker and its runner share --*- C++ -*-===//
#ifndef SKIM_TOOLS_GPUCHECK_FORMAT_H
#define SKIM_TOOLS_GPUCHECK_FORMAT_H

#include <cstdint>

namespace skim::gpucheck {

/// Threads of a block of fill, read and nothing.
inline constexpr uint32_t kHelperThreads = 256;
/// Units of 16 bytes that a thread of `read` has on their way.
inline constexpr uint32_t kReadsInFlight = 4;

/// Murmur3's finaliser (Appleby) over a counter; `fill` computes the same.
inline uint32_t hashWord(uint32_t i, uint32_t seed) {
  uint32_t z = i * 0x9E3779B1u ^ seed * 0x85EBCA77u;
  z = (z ^ z >> 16) * 0x85EBCA6Bu;
  z = (z ^ z >> 13) * 0xC2B2AE35u;
  return z ^ z >> 16;
}

} // namespace skim::gpucheck

#endif // SKIM_TOOLS_GPUCHECK_FORMAT_H
