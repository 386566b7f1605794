#include "skim/Support/Float16.h"

#if defined(__x86_64__) && defined(__linux__)
// The arithmetic is the same for every clone: no multiply feeds an addition, so none can be contracted.
#define SKIM_CLONES __attribute__((target_clones("avx512bw", "avx2", "default")))
#else
#define SKIM_CLONES
#endif

SKIM_CLONES void skim::convertF16ToF32(const uint16_t *__restrict in, float *__restrict out, size_t count) {
  for (size_t i = 0; i < count; ++i)
    out[i] = f16ToF32(in[i]);
}

SKIM_CLONES void skim::convertF32ToF16(const float *__restrict in, uint16_t *__restrict out, size_t count) {
  for (size_t i = 0; i < count; ++i)
    out[i] = f32ToF16(in[i]);
}

SKIM_CLONES void skim::convertBF16ToF32(const uint16_t *__restrict in, float *__restrict out, size_t count) {
  for (size_t i = 0; i < count; ++i)
    out[i] = bf16ToF32(in[i]);
}

SKIM_CLONES void skim::convertF32ToBF16(const float *__restrict in, uint16_t *__restrict out, size_t count) {
  for (size_t i = 0; i < count; ++i)
    out[i] = f32ToBF16(in[i]);
}
