/*===- skim_rt.h - running compiled models ----------------------------*- C -*-===*
 *
 * The runtime's C interface: a model is opened from a package (`OUT.skim`),
 * sessions hold the caches of texts, steps run on the model's thread pool.
 *
 *   skim_rt_model *model;
 *   skim_rt_session *session;
 *   if (skim_rt_open("smollm2.skim", NULL, &model) || skim_rt_session_create(model, 0, &session))
 *     die(skim_rt_error());
 *   skim_rt_prefill(session, prompt, n, SKIM_RT_LOGITS_LAST, logits);
 *   while (...) {
 *     skim_rt_sample(model, logits, &sampling, &random, &token);
 *     skim_rt_decode(&session, &token, 1, logits);
 *   }
 *
 * Errors. Functions of type skim_rt_status return SKIM_RT_OK (0) or
 * SKIM_RT_FAILED; then skim_rt_error() is one line of the form
 * `WHAT at WHERE: expected E, got G (hint)`, and nothing has changed: sessions
 * hold what they held before, output arguments are untouched. Null pointers
 * where none is allowed are such errors too; dangling ones are not detected.
 *
 * Threads. Everything may be called from any thread at any time, except that
 * an object must not be closed while another thread uses it. One model serves
 * any number of sessions; steps of one model run one after the other, each on
 * all of its threads. Calls on one session take effect in some order.
 * A child made by fork() cannot use what its parent opened (that is an error).
 *
 * A package holds native code: open only packages that you trust as you would
 * trust a program.
 *
 * Units. Tokens are ids in [0, vocabulary). Logits are float32, row-major
 * [rows, vocabulary], in caller's memory of at least that size. Text is UTF-8.
 *
 *===--------------------------------------------------------------------------===*/
#ifndef SKIM_RT_SKIM_RT_H
#define SKIM_RT_SKIM_RT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SKIM_RT_API __attribute__((visibility("default")))

typedef enum skim_rt_status { SKIM_RT_OK = 0, SKIM_RT_FAILED = 1 } skim_rt_status;

/* A loaded package. */
typedef struct skim_rt_model skim_rt_model;
/* One text: its tokens' keys and values, up to the session's capacity. */
typedef struct skim_rt_session skim_rt_session;
/* Turns tokens into text as they come. */
typedef struct skim_rt_stream skim_rt_stream;

/* The calling thread's last failure; never null; valid until that thread's next
 * failing call. Successful calls leave it alone. */
SKIM_RT_API const char *skim_rt_error(void);
/* The runtime's version, "0.1.0". */
SKIM_RT_API const char *skim_rt_version(void);

/*===- Models -----------------------------------------------------------------===*/

typedef struct skim_rt_options {
  /* sizeof(skim_rt_options): later versions append members. 0: this version. */
  size_t size;
  /* Tokens that a session holds unless it asks for another number; at most the
   * model's context. 0: the model's context. Memory is used as it fills. */
  int64_t capacity;
  /* Threads of a step, the caller's included. 0: one for each CPU that this
   * process may use. At most 1024. */
  int32_t threads;
  /* Most rows (sequences x tokens) of one internal step; bounds the scratch
   * memory. 0, or more than the package allows: what the package allows. */
  int32_t max_rows;
  /* "cpu:x86-64-v4": this target of the package. Null, "" or "cpu": the best
   * CPU target of the package whose instructions this CPU has. "nvidia": the
   * best one for the device. */
  const char *target;
  /* Not 0: each pool thread stays on one CPU (the caller's thread does not). */
  int32_t pin;
  /* Which NVIDIA device, in the order of the driver; only looked at for targets
   * "nvidia" and "nvidia:...". */
  int32_t device;
} skim_rt_options;

/* Opens the package folder `path`; `options` may be null. Checks the manifest
 * completely, the sizes of the files used and the code's hash; maps the weights
 * (their hashes are `skim inspect --verify`'s business). */
SKIM_RT_API skim_rt_status skim_rt_open(const char *path, const skim_rt_options *options, skim_rt_model **model);
/* Null is allowed. Sessions and streams of the model stay valid and keep it
 * alive until they are closed. */
SKIM_RT_API void skim_rt_close(skim_rt_model *model);

typedef struct skim_rt_info {
  /* Pointers live as long as the model. */
  const char *name;    /* the source model's name; "" if the manifest names none */
  const char *target;  /* "cpu:x86-64-v4" */
  int64_t vocabulary;  /* logits a row */
  int64_t context;     /* most tokens of a text */
  int64_t capacity;    /* default capacity of a session */
  int64_t max_rows;    /* rows of an internal step */
  int32_t threads;     /* threads of a step */
  int32_t begin_token; /* -1: none */
  const int32_t *end_tokens;
  size_t num_end_tokens;
  int32_t has_tokenizer;  /* the package has tokenizer files */
  uint64_t weight_bytes;  /* of the weights that the target's code reads */
  uint64_t file_bytes;    /* of the weights file, which is mapped */
  uint64_t scratch_bytes; /* address space for max_rows; used as needed */
  uint64_t cache_bytes_per_token;
} skim_rt_info;

SKIM_RT_API skim_rt_status skim_rt_model_info(const skim_rt_model *model, skim_rt_info *info);

/*===- Sessions ---------------------------------------------------------------===*/

/* `capacity` tokens at most, <= context; 0: the model's default capacity. */
SKIM_RT_API skim_rt_status skim_rt_session_create(skim_rt_model *model, int64_t capacity, skim_rt_session **session);
/* Null is allowed. */
SKIM_RT_API void skim_rt_session_close(skim_rt_session *session);
/* A second session with the same tokens; only what is used is copied.
 * `capacity` >= its length; 0: as the first one's. */
SKIM_RT_API skim_rt_status skim_rt_session_fork(skim_rt_session *session, int64_t capacity, skim_rt_session **copy);
/* Forgets all but the first `length` tokens, 0 <= length <= its length. */
SKIM_RT_API skim_rt_status skim_rt_session_truncate(skim_rt_session *session, int64_t length);
/* Tokens held, tokens that can be held; -1 for null. */
SKIM_RT_API int64_t skim_rt_session_length(const skim_rt_session *session);
SKIM_RT_API int64_t skim_rt_session_capacity(const skim_rt_session *session);

/*===- Steps ------------------------------------------------------------------===*/

/* Which rows' logits are wanted of a sequence's new tokens. Row i holds the
 * logits for the token that follows token i. */
typedef enum skim_rt_logits {
  SKIM_RT_LOGITS_NONE = 0,
  SKIM_RT_LOGITS_LAST = 1, /* 1 row */
  SKIM_RT_LOGITS_ALL = 2   /* as many rows as new tokens */
} skim_rt_logits;

/* New tokens of one sequence. */
typedef struct skim_rt_sequence {
  skim_rt_session *session;
  const int32_t *tokens; /* [count] */
  int64_t count;         /* >= 1 */
  int32_t logits;        /* a skim_rt_logits */
} skim_rt_sequence;

/* Appends each sequence's tokens to its session. `logits`: the wanted rows,
 * sequence after sequence, [rows, vocabulary]; may be null where no row is
 * wanted. Sessions must be distinct and of one model. Long inputs run in
 * several internal steps of at most max_rows rows.
 * Errors: n or a count below 1; a token outside the vocabulary; more tokens
 * than a session's capacity; a session given twice; sessions of several models. */
SKIM_RT_API skim_rt_status skim_rt_step(const skim_rt_sequence *sequences, size_t n, float *logits);

/* skim_rt_step of one sequence: `logits` is [1 or n, vocabulary]. */
SKIM_RT_API skim_rt_status skim_rt_prefill(skim_rt_session *session, const int32_t *tokens, int64_t n,
                                           skim_rt_logits which, float *logits);

/* skim_rt_step of one token for each of n sessions: `logits` is [n, vocabulary]. */
SKIM_RT_API skim_rt_status skim_rt_decode(skim_rt_session *const *sessions, const int32_t *tokens, size_t n,
                                          float *logits);

/*===- Sampling ---------------------------------------------------------------===*/

typedef struct skim_rt_sampling {
  float temperature; /* <= 0: the first largest logit */
  int32_t top_k;     /* only the k largest; 0: all */
  float top_p;       /* then the smallest set of at least this probability, in (0, 1]; 1: all */
} skim_rt_sampling;

/* A stream of random numbers: number `counter` of stream `seed` is a pure
 * function of the two (SplitMix64, Steele et al. 2014: state seed + (counter +
 * 1) * 0x9E3779B97F4A7C15 through its finaliser, top 24 bits x 2^-24), so that
 * a text can be continued or repeated from any place. */
typedef struct skim_rt_random {
  uint64_t seed;
  uint64_t counter;
} skim_rt_random;

/* The next number in [0, 1) of the stream; advances `random`; 0 for null. */
SKIM_RT_API float skim_rt_uniform(skim_rt_random *random);

/* skim_rt_step, and then a token for each of the n sequences, chosen from the
 * logits of its last new token as skim_rt_sample does. `logits` of sequences is
 * not looked at. Where steps run on a device, logits stay there and only the
 * tokens are copied; a call that continues the last one with the tokens that it
 * chose, with the same sampling, copies nothing to the device at all.
 * `sampling` and `random` are [n]; as for skim_rt_sample they may be null.
 * Devices add probabilities in another order than CPUs and have another
 * exponential: for the same number they may choose another token where it lies
 * within a millionth of the border between two. */
SKIM_RT_API skim_rt_status skim_rt_next(const skim_rt_sequence *sequences, size_t n, const skim_rt_sampling *sampling,
                                        skim_rt_random *random, int32_t *tokens);

/* Chooses a token from logits[vocabulary] with the package's own code.
 * `random` advances by one if temperature > 0 and may be null otherwise.
 * `sampling` may be null: temperature 0. */
SKIM_RT_API skim_rt_status skim_rt_sample(skim_rt_model *model, const float *logits, const skim_rt_sampling *sampling,
                                          skim_rt_random *random, int32_t *token);

/*===- Tokenizer --------------------------------------------------------------===*/
/* Read at its first use, which may therefore fail; all these are errors for a
 * package without tokenizer files. */

#define SKIM_RT_ADD_BEGIN 1     /* put the begin token, if the tokenizer adds one, in front */
#define SKIM_RT_PARSE_SPECIAL 2 /* special tokens written in the text become their ids */
#define SKIM_RT_KEEP_SPECIAL 4  /* detokenizing: special tokens become text too */

/* Token ids of text[bytes]. `*count` becomes their number, of which the first
 * `capacity` at most are written to `tokens` (null allowed for capacity 0). */
SKIM_RT_API skim_rt_status skim_rt_tokenize(skim_rt_model *model, const char *text, size_t bytes, int32_t flags,
                                            int32_t *tokens, size_t capacity, size_t *count);

/* Text of tokens[count], without terminating zero. `*bytes` becomes its length,
 * of which the first `capacity` bytes at most are written to `text`. */
SKIM_RT_API skim_rt_status skim_rt_detokenize(skim_rt_model *model, const int32_t *tokens, size_t count, int32_t flags,
                                              char *text, size_t capacity, size_t *bytes);

/* The id of the token spelled exactly `text` ("<|im_end|>"); -1: none. */
SKIM_RT_API skim_rt_status skim_rt_token_id(skim_rt_model *model, const char *text, int32_t *token);

/* Text as tokens arrive: each push gives what is certain by now (whole
 * characters only), `finish` the rest. `flags`: SKIM_RT_KEEP_SPECIAL;
 * `continues` not 0: the tokens continue a text, a leading space stays. */
SKIM_RT_API skim_rt_status skim_rt_stream_create(skim_rt_model *model, int32_t flags, int32_t continues,
                                                 skim_rt_stream **stream);
/* `*text` is zero-terminated and valid until the stream's next call; `bytes` may be null. */
SKIM_RT_API skim_rt_status skim_rt_stream_push(skim_rt_stream *stream, int32_t token, const char **text, size_t *bytes);
SKIM_RT_API skim_rt_status skim_rt_stream_finish(skim_rt_stream *stream, const char **text, size_t *bytes);
/* Null is allowed. A stream is used by one thread at a time. */
SKIM_RT_API void skim_rt_stream_close(skim_rt_stream *stream);

#ifdef __cplusplus
}
#endif
#endif /* SKIM_RT_SKIM_RT_H */
