/* A model written by hand against skim-rt/abi.h. The logits of a token at
 * position p are small whole numbers, exact in float32:
 *   logits[v] = ((sum over i <= p of (token_i + 1) * (i + 1) * scale[token_i]) + v * v) mod 251
 * Tokens and products go through the caches, sums through the scratch memory,
 * each written by one thread and read by another. */
#include "skim-rt/abi.h"

#ifndef TEST_ABI
#define TEST_ABI SKIM_ABI_VERSION
#endif

enum { vocabulary = 40, heads = 2, dim = 4 };

const int32_t skim_abi_version = TEST_ABI;

#ifndef TEST_NO_STEP
static float *cache_row(const skim_step_args *args, int64_t sequence, int64_t head, int64_t position) {
  return (float *)args->caches[sequence] + (head * args->capacity[sequence] + position) * dim;
}
/* The second cache: [1, capacity, 3] of two bytes. */
static uint16_t *small_row(const skim_step_args *args, int64_t sequence, int64_t position) {
  return (uint16_t *)((char *)args->caches[sequence] + args->capacity[sequence] * heads * dim * 4) + position * 3;
}

void skim_step(const skim_step_args *args, int32_t thread, int32_t threads) {
  const float *scale = (const float *)args->weights[0];
  const int32_t *offset = (const int32_t *)args->weights[1];
  int64_t rows = args->batch * args->length;
  /* Scratch: 64 fixed bytes, 8 per row, 64 per thread. */
  int64_t *sums = (int64_t *)((char *)args->scratch + 64);
  int64_t *mine = (int64_t *)((char *)args->scratch + 64 + 8 * rows + 64 * thread);
  mine[0] = ((uintptr_t)args->scratch | (uintptr_t)scale | (uintptr_t)offset) % 64 != 0;
  mine[7] = 0;
  for (int64_t row = thread; row < rows; row += threads) {
    int64_t sequence = row / args->length, column = row % args->length;
    if (column >= args->count[sequence])
      continue;
    int64_t position = args->start[sequence] + column;
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t d = 0; d < dim; ++d)
        cache_row(args, sequence, head, position)[d] =
            (float)((args->tokens[row] + offset[0]) * (head ? position + 1 : 1)) * scale[args->tokens[row]];
    for (int64_t d = 0; d < 3; ++d)
      small_row(args, sequence, position)[d] = (uint16_t)(args->tokens[row] + 7);
  }
  args->barrier(args->barrier_context, thread);
  /* Each row is summed by another thread than the one that wrote it. */
  for (int64_t row = (thread + 1) % threads; row < rows; row += threads) {
    int64_t sequence = row / args->length, column = row % args->length;
    if (column >= args->count[sequence])
      continue;
    int64_t sum = 0;
    for (int64_t i = 0; i <= args->start[sequence] + column; ++i) {
      const float *first = cache_row(args, sequence, 0, i), *second = cache_row(args, sequence, 1, i);
      const uint16_t *small = small_row(args, sequence, i);
      int same = (float)(small[0] - 7 + offset[0]) * scale[small[2] - 7] == first[dim - 1];
      sum += same ? (int64_t)second[dim - 1] : 1000003;
    }
    sums[row] = sum;
  }
  args->barrier(args->barrier_context, thread);
  int64_t damaged = 0;
  for (int32_t t = 0; t < threads; ++t)
    damaged += ((int64_t *)((char *)args->scratch + 64 + 8 * rows + 64 * t))[0];
  for (int64_t i = 0; i < args->num_rows; ++i)
    for (int64_t v = thread; v < vocabulary; v += threads)
      args->logits[i * vocabulary + v] = damaged ? -1 : (float)((sums[args->rows[i]] + v * v) % 251);
}
#endif

/* Greedy, or the token at `uniform` of the way through the vocabulary; the
 * scratch memory is written to its end. */
int32_t skim_sample(const float *logits, int64_t count, float temperature, int32_t top_k, float top_p, float uniform,
                    void *scratch) {
  ((char *)scratch)[0] = ((char *)scratch)[4095] = 1;
  if (temperature > 0)
    return (int32_t)(uniform * (float)(top_k ? top_k : count));
  int32_t best = 0;
  for (int32_t v = 1; v < count; ++v)
    if (logits[v] > logits[best])
      best = v;
  return logits[best] != logits[best] ? -1 : best;
}
