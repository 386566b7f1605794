/*===- abi.h - between generated code and the runtime ----------------*- C -*-===*
 *
 * A package's code is an ELF shared object without undefined symbols that
 * exports the functions below. It never allocates, keeps no state and calls
 * nothing but the barrier that it is given. Everything it needs is in the
 * arguments; their sizes stand in the package's manifest ("program").
 *
 *===--------------------------------------------------------------------------===*/
#ifndef SKIM_RT_ABI_H
#define SKIM_RT_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bumped at every change of this file; the .so exports `skim_abi_version`. */
#define SKIM_ABI_VERSION 1

/*
 * One step of the model over a [batch, length] block of tokens.
 *
 * Row r = b * length + s is token s of sequence b, at position start[b] + s.
 * Rows with s >= count[b] are padding: their cache entries are not written and
 * their results are unspecified. The caller guarantees for each b:
 *   0 <= tokens < vocabulary, 0 < count[b] <= length,
 *   start[b] + count[b] <= capacity[b], batch * length <= program.max_rows.
 */
typedef struct skim_step_args {
  int64_t batch;
  int64_t length;
  const int32_t *tokens;                          /* [batch, length] */
  const int32_t *start;                           /* [batch] tokens already in the cache */
  const int32_t *count;                           /* [batch] valid new tokens */
  int64_t num_rows;                               /* how many rows' logits are wanted (may be 0) */
  const int32_t *rows;                            /* [num_rows] row indices b * length + s, any order */
  void *const *caches;                            /* [batch] the cache block of each sequence */
  const int64_t *capacity;                        /* [batch] tokens that each block can hold */
  const void *const *weights;                     /* program.weights in order: pointers, 64-byte aligned */
  float *logits;                                  /* [num_rows, vocabulary] */
  void *scratch;                                  /* program.scratch bytes, 64-byte aligned:
                                                     fixed + per_row * batch * length + per_thread * threads */
  void (*barrier)(void *context, int32_t thread); /* returns when all threads have arrived */
  void *barrier_context;
} skim_step_args;

/*
 * Runs a step. Every one of `threads` threads calls it with the same args and
 * its own `thread` in [0, threads); it returns on all of them when the logits
 * are written. Results do not depend on `threads`.
 */
typedef void (*skim_step_fn)(const skim_step_args *args, int32_t thread, int32_t threads);
#define SKIM_STEP_SYMBOL "skim_step"

/*
 * A cache block of capacity n tokens holds, for each cache tensor t in the order
 * of program.caches ({heads, dim, bytes_per_element}), heads * n * dim elements
 * ([heads, n, dim]), one tensor directly after the other; tensor t begins at
 * n * sum_{u<t} heads_u * dim_u * bytes_per_element_u.
 */

/*
 * Chooses a token from logits[vocabulary]. temperature <= 0: the first largest.
 * Else softmax(logits / temperature), cut to the top_k largest (0: no cut; ties
 * by lower id) and then to the smallest set of probability >= top_p (1: no cut),
 * inverted at `uniform` in [0, 1). scratch: program.sample_scratch bytes.
 */
typedef int32_t (*skim_sample_fn)(const float *logits, int64_t vocabulary, float temperature, int32_t top_k,
                                  float top_p, float uniform, void *scratch);
#define SKIM_SAMPLE_SYMBOL "skim_sample"

/* `extern const int32_t skim_abi_version;` */
#define SKIM_ABI_VERSION_SYMBOL "skim_abi_version"

/*
 * A kernel by itself, for benchmarks and tests: y = linear(x, weight). `components`
 * are the weight's component pointers in the target's layout.
 */
typedef struct skim_linear_args {
  const float *x; /* [rows, K] */
  float *y;       /* [rows, N] */
  int64_t rows;
  int64_t n;
  const void *const *components;
  void *scratch; /* program's scratch */
  void (*barrier)(void *context, int32_t thread);
  void *barrier_context;
} skim_linear_args;
typedef void (*skim_linear_fn)(const skim_linear_args *args, int32_t thread, int32_t threads);

#ifdef __cplusplus
}
#endif
#endif /* SKIM_RT_ABI_H */
