/*===- sim.h - between simulated GPU kernels and the simulator -------*- C -*-===*
 *
 * `skim-simulate-gpu` turns each kernel of a gpu.module into a function of the
 * host that one lane runs. Whatever another lane or the memory system could
 * see is a call of a hook; the rest is ordinary code. The functions and their
 * description are an ELF shared object without undefined symbols.
 *
 *===--------------------------------------------------------------------------===*/
#ifndef SKIM_RT_SIM_H
#define SKIM_RT_SIM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bumped at every change of this file; stands in the description. */
#define SKIM_SIM_VERSION 1

struct skim_sim_lane;

enum skim_sim_function {
  SKIM_SIM_EXP,
  SKIM_SIM_EXP2,
  SKIM_SIM_EXPM1,
  SKIM_SIM_LOG,
  SKIM_SIM_LOG2,
  SKIM_SIM_LOG10,
  SKIM_SIM_LOG1P,
  SKIM_SIM_SIN,
  SKIM_SIM_COS,
  SKIM_SIM_TANH,
  SKIM_SIM_ERF,
  SKIM_SIM_RSQRT,
  SKIM_SIM_POW,
  SKIM_SIM_ATAN2
};

/* `op` is the index of the operation in the kernel's description. */
typedef struct skim_sim_hooks {
  /*
   * Before a load, store or atomic: waits for the lanes of the warp that are at
   * the same operation, checks and counts the request, and returns where the
   * bytes lie on the host. The lane uses the pointer before its next hook.
   */
  void *(*access)(struct skim_sim_lane *lane, uint32_t op, uint64_t address);
  /* Barriers, shuffles, votes, matrices: 32-bit words in, words out. */
  void (*collective)(struct skim_sim_lane *lane, uint32_t op, const uint32_t *in, uint32_t *out);
  /* cp.async of `bytes` bytes; the rest of the operation's size becomes zero. */
  void (*copy)(struct skim_sim_lane *lane, uint32_t op, uint64_t shared, uint64_t global, uint32_t bytes);
  /* cp.async.commit.group and cp.async.wait.group. */
  void (*group)(struct skim_sim_lane *lane, uint32_t op);
  /* phase 0: before a loop, 1: an iteration begins, 2: after the loop. */
  void (*loop)(struct skim_sim_lane *lane, uint32_t op, uint32_t phase);
  /* f of a (and b), one of skim_sim_function. */
  float (*math)(uint32_t function, float a, float b);
} skim_sim_hooks;

/* What a lane may know. The simulator's own state follows. */
typedef struct skim_sim_lane {
  const skim_sim_hooks *hooks;
  uint32_t thread[3]; /* in the block */
  uint32_t block[3];  /* in the grid */
  uint32_t block_dim[3];
  uint32_t grid_dim[3];
  uint32_t lane; /* in the warp */
  uint32_t warp; /* in the block */
} skim_sim_lane;

/* A kernel; each argument is an 8-byte slot, its value in the lowest bytes. */
typedef void (*skim_sim_kernel_fn)(skim_sim_lane *lane, const uint64_t *arguments);

/* The shared object exports the description as text (JSON, null-terminated). */
#define SKIM_SIM_DESCRIPTION_SYMBOL "skim_sim_description"

/* Shared memory lies at these addresses; hardware keeps the first KiB as well. */
#define SKIM_SIM_SHARED_BASE 1024

#ifdef __cplusplus
}
#endif

#endif /* SKIM_RT_SIM_H */
