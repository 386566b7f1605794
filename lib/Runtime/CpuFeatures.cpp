#include "skim/Runtime/Manifest.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

using namespace skim;

bool skim::hostHasCpuFeature(std::string_view name) {
#if defined(__x86_64__)
  // What every x86-64 CPU has, and parts of code generation that are no instructions.
  for (std::string_view baseline : {"cmov", "cx8", "fxsr", "mmx", "sse", "sse2", "x87", "64bit"})
    if (name == baseline)
      return true;
#define FEATURE(LLVM, GCC)                                                                                             \
  if (name == LLVM)                                                                                                    \
    return __builtin_cpu_supports(GCC);
  FEATURE("sse3", "sse3")
  FEATURE("ssse3", "ssse3")
  FEATURE("sse4.1", "sse4.1")
  FEATURE("sse4.2", "sse4.2")
  // LLVM's crc32 is the instruction of SSE4.2.
  FEATURE("crc32", "sse4.2")
  FEATURE("popcnt", "popcnt")
  FEATURE("lzcnt", "lzcnt")
  FEATURE("movbe", "movbe")
  FEATURE("bmi", "bmi")
  FEATURE("bmi2", "bmi2")
  FEATURE("xsave", "xsave")
  FEATURE("avx", "avx")
  FEATURE("avx2", "avx2")
  FEATURE("fma", "fma")
  FEATURE("f16c", "f16c")
  FEATURE("avx512f", "avx512f")
  FEATURE("avx512bw", "avx512bw")
  FEATURE("avx512cd", "avx512cd")
  FEATURE("avx512dq", "avx512dq")
  FEATURE("avx512vl", "avx512vl")
  FEATURE("avx512ifma", "avx512ifma")
  FEATURE("avx512vbmi", "avx512vbmi")
  FEATURE("avx512vbmi2", "avx512vbmi2")
  FEATURE("avx512vnni", "avx512vnni")
  FEATURE("avx512bitalg", "avx512bitalg")
  FEATURE("avx512vpopcntdq", "avx512vpopcntdq")
  FEATURE("avx512bf16", "avx512bf16")
  FEATURE("avx512fp16", "avx512fp16")
  FEATURE("avxvnni", "avxvnni")
  FEATURE("gfni", "gfni")
  FEATURE("vaes", "vaes")
  FEATURE("vpclmulqdq", "vpclmulqdq")
#undef FEATURE
  // Two that the builtin does not know.
  unsigned a, b, c, d;
  if (name == "cx16")
    return __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 13);
  if (name == "sahf")
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & 1u);
  return false;
#elif defined(__aarch64__)
  // Bits of <asm/hwcap.h>, spelled out since old headers lack the later ones.
  unsigned long first = ::getauxval(AT_HWCAP), second = ::getauxval(AT_HWCAP2);
  if (name == "fp-armv8" || name == "neon")
    return first & 1ul << 1;
  if (name == "crc")
    return first & 1ul << 7;
  if (name == "lse")
    return first & 1ul << 8;
  if (name == "fullfp16")
    return first & 1ul << 10;
  if (name == "dotprod")
    return first & 1ul << 20;
  if (name == "sve")
    return first & 1ul << 22;
  if (name == "i8mm")
    return second & 1ul << 13;
  if (name == "bf16")
    return second & 1ul << 14;
  return false;
#else
  return false;
#endif
}
