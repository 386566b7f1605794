//===- Float16.h - 16-bit floats <-> float32 --------------------*- C++ -*-===//
//
// Round to nearest, ties to even; overflow becomes infinity, subnormals are
// exact, a NaN stays a NaN (quiet, canonical in f16). Branch-free integer and
// float arithmetic, so loops over these functions vectorise on any CPU.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_SUPPORT_FLOAT16_H
#define SKIM_SUPPORT_FLOAT16_H

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace skim {

/// The largest finite f16.
inline constexpr float f16Max = 65504.0f;

inline float f16ToF32(uint16_t half) {
  uint32_t word = uint32_t(half) << 16;
  uint32_t sign = word & 0x80000000u;
  uint32_t doubled = word + word;
  // Normal numbers: move the exponent by multiplying with a power of two (also right for infinity and NaN).
  float normal = std::bit_cast<float>((doubled >> 4) + (0xE0u << 23)) * 0x1.0p-112f;
  // Subnormals: let the subtraction normalise.
  float subnormal = std::bit_cast<float>((doubled >> 17) | (126u << 23)) - 0.5f;
  uint32_t bits = doubled < (1u << 27) ? std::bit_cast<uint32_t>(subnormal) : std::bit_cast<uint32_t>(normal);
  return std::bit_cast<float>(sign | bits);
}

inline uint16_t f32ToF16(float value) {
  // Scaling up and down sends what overflows to infinity; the addition below rounds at the right bit.
  float base = (std::fabs(value) * 0x1.0p+112f) * 0x1.0p-110f;
  uint32_t word = std::bit_cast<uint32_t>(value);
  uint32_t doubled = word + word;
  uint32_t sign = word & 0x80000000u;
  uint32_t bias = doubled & 0xFF000000u;
  bias = bias < 0x71000000u ? 0x71000000u : bias;
  base = std::bit_cast<float>((bias >> 1) + 0x07800000u) + base;
  uint32_t bits = std::bit_cast<uint32_t>(base);
  uint32_t magnitude = ((bits >> 13) & 0x7C00u) + (bits & 0x0FFFu);
  return static_cast<uint16_t>((sign >> 16) | (doubled > 0xFF000000u ? 0x7E00u : magnitude));
}

inline float bf16ToF32(uint16_t half) { return std::bit_cast<float>(uint32_t(half) << 16); }

inline uint16_t f32ToBF16(float value) {
  uint32_t word = std::bit_cast<uint32_t>(value);
  uint32_t rounded = (word + 0x7FFFu + ((word >> 16) & 1)) >> 16;
  uint32_t nan = (word >> 16) | 0x40u;
  return static_cast<uint16_t>((word & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

/// `value` rounded to the nearest f16 or bf16.
inline float roundToF16(float value) { return f16ToF32(f32ToF16(value)); }
inline float roundToBF16(float value) { return bf16ToF32(f32ToBF16(value)); }

/// Whole arrays, with the widest vectors that this CPU has. No overlap.
void convertF16ToF32(const uint16_t *in, float *out, size_t count);
void convertF32ToF16(const float *in, uint16_t *out, size_t count);
void convertBF16ToF32(const uint16_t *in, float *out, size_t count);
void convertF32ToBF16(const float *in, uint16_t *out, size_t count);

} // namespace skim

#endif // SKIM_SUPPORT_FLOAT16_H
