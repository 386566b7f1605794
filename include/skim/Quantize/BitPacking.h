//===- BitPacking.h - codes of 1 to 8 bits, LSB first -----------*- C++ -*-===//
//
// Code k occupies bits [k·b, (k+1)·b) of the row, bit 0 being the least
// significant of byte 0; the row is padded with zeros to whole bytes.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_BITPACKING_H
#define SKIM_QUANTIZE_BITPACKING_H

#include <cstddef>
#include <cstdint>

namespace skim {

/// Bytes of a row of `count` codes.
constexpr uint64_t packedBytes(uint64_t count, unsigned bits) { return (count * bits + 7) / 8; }

/// Packs `count` codes, one a byte, all below 2^bits, into packedBytes bytes.
void packBits(const uint8_t *codes, size_t count, unsigned bits, uint8_t *out);

/// The inverse: `count` codes, one a byte.
void unpackBits(const uint8_t *packed, size_t count, unsigned bits, uint8_t *codes);

} // namespace skim

#endif // SKIM_QUANTIZE_BITPACKING_H
