//===- Clones.h - one source, several instruction sets ----------*- C++ -*-===//
#ifndef SKIM_LIB_QUANTIZE_CLONES_H
#define SKIM_LIB_QUANTIZE_CLONES_H

// Compiles a function for several CPUs and picks at load time. Without fused
// multiply-adds (-ffp-contract=off) and with reductions in a fixed number of
// lanes, all clones compute the same bits. What such a function calls must be
// SKIM_INLINE to be compiled with it.
#if defined(__x86_64__) && defined(__linux__)
#define SKIM_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SKIM_CLONES
#endif
#define SKIM_INLINE inline __attribute__((always_inline))

#endif // SKIM_LIB_QUANTIZE_CLONES_H
