#include "skim/Quantize/BitPacking.h"
#include "Clones.h"

#include <cstring>

using namespace skim;

/// Eight codes, one a byte, to 8·Bits adjacent bits: neighbours are pushed
/// together in pairs, then pairs of pairs, then the two halves.
template <unsigned Bits> static SKIM_INLINE uint64_t squeeze(uint64_t v) {
  constexpr uint64_t m8 = 0x00FF00FF00FF00FF, m16 = 0x0000FFFF0000FFFF, m32 = 0x00000000FFFFFFFF;
  v = (v & m8) | ((v & ~m8) >> (8 - Bits));
  v = (v & m16) | ((v & ~m16) >> (16 - 2 * Bits));
  return (v & m32) | ((v & ~m32) >> (32 - 4 * Bits));
}

template <unsigned Bits> static SKIM_INLINE uint64_t spread(uint64_t v) {
  constexpr uint64_t low4 = (uint64_t(1) << (4 * Bits)) - 1;
  constexpr uint64_t low2 = ((uint64_t(1) << (2 * Bits)) - 1) * 0x0000000100000001;
  constexpr uint64_t low1 = ((uint64_t(1) << Bits) - 1) * 0x0001000100010001;
  v = (v & low4) | ((v & ~low4) << (32 - 4 * Bits));
  v = (v & low2) | ((v & ~low2) << (16 - 2 * Bits));
  return (v & low1) | ((v & ~low1) << (8 - Bits));
}

template <unsigned Bits> static void pack(const uint8_t *codes, size_t count, uint8_t *out) {
  size_t k = 0;
  for (; k + 8 <= count; k += 8, out += Bits) {
    uint64_t word;
    std::memcpy(&word, codes + k, 8);
    word = squeeze<Bits>(word);
    std::memcpy(out, &word, Bits);
  }
  if (k < count) {
    uint64_t word = 0;
    std::memcpy(&word, codes + k, count - k);
    word = squeeze<Bits>(word);
    std::memcpy(out, &word, packedBytes(count - k, Bits));
  }
}

template <unsigned Bits> static void unpack(const uint8_t *packed, size_t count, uint8_t *codes) {
  size_t k = 0;
  for (; k + 8 <= count; k += 8, packed += Bits) {
    uint64_t word = 0;
    std::memcpy(&word, packed, Bits);
    word = spread<Bits>(word);
    std::memcpy(codes + k, &word, 8);
  }
  if (k < count) {
    uint64_t word = 0;
    std::memcpy(&word, packed, packedBytes(count - k, Bits));
    word = spread<Bits>(word);
    std::memcpy(codes + k, &word, count - k);
  }
}

void skim::packBits(const uint8_t *codes, size_t count, unsigned bits, uint8_t *out) {
  switch (bits) {
  case 1:
    return pack<1>(codes, count, out);
  case 2:
    return pack<2>(codes, count, out);
  case 3:
    return pack<3>(codes, count, out);
  case 4:
    return pack<4>(codes, count, out);
  case 5:
    return pack<5>(codes, count, out);
  case 6:
    return pack<6>(codes, count, out);
  case 7:
    return pack<7>(codes, count, out);
  default:
    std::memcpy(out, codes, count);
  }
}

void skim::unpackBits(const uint8_t *packed, size_t count, unsigned bits, uint8_t *codes) {
  switch (bits) {
  case 1:
    return unpack<1>(packed, count, codes);
  case 2:
    return unpack<2>(packed, count, codes);
  case 3:
    return unpack<3>(packed, count, codes);
  case 4:
    return unpack<4>(packed, count, codes);
  case 5:
    return unpack<5>(packed, count, codes);
  case 6:
    return unpack<6>(packed, count, codes);
  case 7:
    return unpack<7>(packed, count, codes);
  default:
    std::memcpy(codes, packed, count);
  }
}
