//===- StoredFloat.h - numbers in the types that components have -*- C++ -*-===//
#ifndef SKIM_SUPPORT_STOREDFLOAT_H
#define SKIM_SUPPORT_STOREDFLOAT_H

#include "skim/Support/Float16.h"
#include "skim/Support/Safetensors.h"

#include <cstring>

namespace skim {

/// The number at `bytes`, which need no alignment; `type` is F32, F16 or BF16.
inline float loadFloat(DType type, const uint8_t *bytes) {
  if (type == DType::F32) {
    float value;
    std::memcpy(&value, bytes, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, bytes, 2);
  return type == DType::F16 ? f16ToF32(half) : bf16ToF32(half);
}

/// The inverse, rounded to the type.
inline void storeFloat(DType type, float value, uint8_t *out) {
  if (type == DType::F32) {
    std::memcpy(out, &value, 4);
    return;
  }
  uint16_t half = type == DType::F16 ? f32ToF16(value) : f32ToBF16(value);
  std::memcpy(out, &half, 2);
}

} // namespace skim

#endif // SKIM_SUPPORT_STOREDFLOAT_H
