// The C interface: null checks, handles, and failures as one line per thread.
#include "Model.h"

#include <cstring>
#include <exception>
#include <new>

using namespace skim;
using namespace skim::rt;

struct skim_rt_model {
  std::shared_ptr<Model> model;
};
struct skim_rt_session {
  std::unique_ptr<Session> session;
};
struct skim_rt_stream {
  std::shared_ptr<Model> model; // keeps the tokenizer
  StreamDecoder decoder;
  std::string text;
};

static thread_local std::string lastError;

static skim_rt_status failed(const Error &error) {
  lastError = error.message();
  return SKIM_RT_FAILED;
}

/// Runs `body`, which returns an Error. C callers see no exception.
template <typename Body> static skim_rt_status guarded(Body &&body) {
  try {
    Error error = body();
    return error ? failed(error) : SKIM_RT_OK;
  } catch (const std::bad_alloc &) {
    lastError = "out of memory";
  } catch (const std::exception &exception) {
    return failed(fail("internal failure", "", "", exception.what()));
  }
  return SKIM_RT_FAILED;
}

static Failure nullArgument(const char *name) { return fail("invalid argument", name, "a pointer", "null"); }

const char *skim_rt_error(void) { return lastError.c_str(); }
const char *skim_rt_version(void) { return SKIM_VERSION; }

//===----------------------------------------------------------------------===//
// Models
//===----------------------------------------------------------------------===//

skim_rt_status skim_rt_open(const char *path, const skim_rt_options *options, skim_rt_model **model) {
  return guarded([&]() -> Error {
    if (!path || !model)
      return nullArgument(path ? "model" : "path");
    Model::Options wanted;
    if (options) {
      if (options->size != 0 && options->size != sizeof(skim_rt_options))
        return fail("invalid argument", "options.size", std::to_string(sizeof(skim_rt_options)) + " bytes",
                    std::to_string(options->size), "the program was built for another version of the runtime");
      if (options->threads < 0)
        return fail("invalid number of threads", "", "0 or more", std::to_string(options->threads));
      wanted.capacity = options->capacity;
      wanted.threads = static_cast<unsigned>(options->threads);
      wanted.maxRows = options->max_rows;
      wanted.target = options->target ? options->target : "";
      wanted.pin = options->pin != 0;
      wanted.device = options->device;
    }
    Expected<std::shared_ptr<Model>> opened = Model::open(path, wanted);
    if (!opened)
      return opened.takeError();
    *model = new skim_rt_model{std::move(*opened)};
    return Error::success();
  });
}

void skim_rt_close(skim_rt_model *model) { delete model; }

skim_rt_status skim_rt_model_info(const skim_rt_model *model, skim_rt_info *info) {
  return guarded([&]() -> Error {
    if (!model || !info)
      return nullArgument(model ? "info" : "model");
    const Model &source = *model->model;
    const Manifest &manifest = source.manifest();
    *info = {};
    info->name = manifest.name.c_str();
    info->target = manifest.program.target.c_str();
    info->vocabulary = manifest.program.vocabulary;
    info->context = manifest.program.context;
    info->capacity = source.defaultCapacity();
    info->max_rows = source.maxRows();
    info->threads = source.threads();
    info->begin_token = manifest.beginToken.value_or(-1);
    info->end_tokens = manifest.endTokens.data();
    info->num_end_tokens = manifest.endTokens.size();
    info->has_tokenizer = !manifest.tokenizerFile.empty();
    info->weight_bytes = source.weightBytes();
    info->file_bytes = source.fileBytes();
    info->scratch_bytes = source.scratchBytes();
    info->cache_bytes_per_token = static_cast<uint64_t>(manifest.program.cacheBytesPerToken());
    return Error::success();
  });
}

//===----------------------------------------------------------------------===//
// Sessions
//===----------------------------------------------------------------------===//

skim_rt_status skim_rt_session_create(skim_rt_model *model, int64_t capacity, skim_rt_session **session) {
  return guarded([&]() -> Error {
    if (!model || !session)
      return nullArgument(model ? "session" : "model");
    Expected<std::unique_ptr<Session>> created = Session::create(model->model, capacity);
    if (!created)
      return created.takeError();
    *session = new skim_rt_session{std::move(*created)};
    return Error::success();
  });
}

void skim_rt_session_close(skim_rt_session *session) { delete session; }

skim_rt_status skim_rt_session_fork(skim_rt_session *session, int64_t capacity, skim_rt_session **copy) {
  return guarded([&]() -> Error {
    if (!session || !copy)
      return nullArgument(session ? "copy" : "session");
    Expected<std::unique_ptr<Session>> forked = session->session->fork(capacity);
    if (!forked)
      return forked.takeError();
    *copy = new skim_rt_session{std::move(*forked)};
    return Error::success();
  });
}

skim_rt_status skim_rt_session_truncate(skim_rt_session *session, int64_t length) {
  return guarded([&]() -> Error {
    if (!session)
      return nullArgument("session");
    return session->session->truncate(length);
  });
}

int64_t skim_rt_session_length(const skim_rt_session *session) { return session ? session->session->length() : -1; }
int64_t skim_rt_session_capacity(const skim_rt_session *session) { return session ? session->session->capacity() : -1; }

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

static Expected<Model::Sequence> readSequence(const skim_rt_sequence &sequence) {
  if (!sequence.session)
    return nullArgument("session");
  if (sequence.count < 1)
    return fail("empty input", "", "at least one token", std::to_string(sequence.count));
  if (!sequence.tokens)
    return nullArgument("tokens");
  if (sequence.logits < SKIM_RT_LOGITS_NONE || sequence.logits > SKIM_RT_LOGITS_ALL)
    return fail("invalid argument", "logits", "a skim_rt_logits", std::to_string(sequence.logits));
  return Model::Sequence{sequence.session->session.get(),
                         std::span(sequence.tokens, static_cast<size_t>(sequence.count)),
                         static_cast<skim_rt_logits>(sequence.logits)};
}

static Expected<std::vector<Model::Sequence>> readSequences(const skim_rt_sequence *sequences, size_t n) {
  if (!sequences)
    return nullArgument("sequences");
  std::vector<Model::Sequence> list;
  list.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    Expected<Model::Sequence> sequence = readSequence(sequences[i]);
    if (!sequence)
      return sequence.takeError();
    list.push_back(*sequence);
  }
  if (list.empty())
    return fail("empty step", "", "at least one sequence", "none");
  return list;
}

skim_rt_status skim_rt_step(const skim_rt_sequence *sequences, size_t n, float *logits) {
  return guarded([&]() -> Error {
    Expected<std::vector<Model::Sequence>> list = readSequences(sequences, n);
    return list ? list->front().session->model().step(*list, logits) : list.takeError();
  });
}

skim_rt_status skim_rt_next(const skim_rt_sequence *sequences, size_t n, const skim_rt_sampling *sampling,
                            skim_rt_random *random, int32_t *tokens) {
  return guarded([&]() -> Error {
    if (!tokens)
      return nullArgument("tokens");
    Expected<std::vector<Model::Sequence>> list = readSequences(sequences, n);
    if (!list)
      return list.takeError();
    return list->front().session->model().next(*list, std::span(sampling, sampling ? n : 0),
                                               std::span(random, random ? n : 0), std::span(tokens, n));
  });
}

skim_rt_status skim_rt_prefill(skim_rt_session *session, const int32_t *tokens, int64_t n, skim_rt_logits which,
                               float *logits) {
  skim_rt_sequence sequence{session, tokens, n, which};
  return skim_rt_step(&sequence, 1, logits);
}

skim_rt_status skim_rt_decode(skim_rt_session *const *sessions, const int32_t *tokens, size_t n, float *logits) {
  return guarded([&]() -> Error {
    if (!sessions || !tokens)
      return nullArgument(sessions ? "tokens" : "sessions");
    std::vector<Model::Sequence> list;
    list.reserve(n);
    for (size_t i = 0; i < n; ++i) {
      if (!sessions[i])
        return nullArgument("sessions");
      list.push_back({sessions[i]->session.get(), std::span(tokens + i, 1), SKIM_RT_LOGITS_LAST});
    }
    if (list.empty())
      return fail("empty step", "", "at least one sequence", "none");
    return list.front().session->model().step(list, logits);
  });
}

//===----------------------------------------------------------------------===//
// Sampling
//===----------------------------------------------------------------------===//

float skim_rt_uniform(skim_rt_random *random) {
  if (!random)
    return 0;
  uint64_t z = random->seed + ++random->counter * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<float>(z >> 40) * 0x1p-24f;
}

skim_rt_status skim_rt_sample(skim_rt_model *model, const float *logits, const skim_rt_sampling *sampling,
                              skim_rt_random *random, int32_t *token) {
  return guarded([&]() -> Error {
    if (!model || !logits || !token)
      return nullArgument(!model ? "model" : !logits ? "logits" : "token");
    Expected<int32_t> chosen = model->model->sample(logits, sampling ? *sampling : skim_rt_sampling{0, 0, 1}, random);
    if (!chosen)
      return chosen.takeError();
    *token = *chosen;
    return Error::success();
  });
}

//===----------------------------------------------------------------------===//
// Tokenizer
//===----------------------------------------------------------------------===//

skim_rt_status skim_rt_tokenize(skim_rt_model *model, const char *text, size_t bytes, int32_t flags, int32_t *tokens,
                                size_t capacity, size_t *count) {
  return guarded([&]() -> Error {
    if (!model || (!text && bytes) || (!tokens && capacity) || !count)
      return nullArgument(!model ? "model" : !text && bytes ? "text" : !count ? "count" : "tokens");
    Expected<const Tokenizer *> tokenizer = model->model->tokenizer();
    if (!tokenizer)
      return tokenizer.takeError();
    Expected<std::vector<int32_t>> ids = (*tokenizer)
                                             ->encode(bytes ? std::string_view(text, bytes) : "",
                                                      flags & SKIM_RT_ADD_BEGIN, flags & SKIM_RT_PARSE_SPECIAL);
    if (!ids)
      return ids.takeError();
    if (size_t written = std::min(capacity, ids->size()))
      std::memcpy(tokens, ids->data(), written * sizeof(int32_t));
    *count = ids->size();
    return Error::success();
  });
}

skim_rt_status skim_rt_detokenize(skim_rt_model *model, const int32_t *tokens, size_t count, int32_t flags, char *text,
                                  size_t capacity, size_t *bytes) {
  return guarded([&]() -> Error {
    if (!model || (!tokens && count) || (!text && capacity) || !bytes)
      return nullArgument(!model ? "model" : !tokens && count ? "tokens" : !bytes ? "bytes" : "text");
    Expected<const Tokenizer *> tokenizer = model->model->tokenizer();
    if (!tokenizer)
      return tokenizer.takeError();
    std::string decoded = (*tokenizer)->decode(std::span(tokens, count), !(flags & SKIM_RT_KEEP_SPECIAL));
    if (size_t written = std::min(capacity, decoded.size()))
      std::memcpy(text, decoded.data(), written);
    *bytes = decoded.size();
    return Error::success();
  });
}

skim_rt_status skim_rt_token_id(skim_rt_model *model, const char *text, int32_t *token) {
  return guarded([&]() -> Error {
    if (!model || !text || !token)
      return nullArgument(!model ? "model" : !text ? "text" : "token");
    Expected<const Tokenizer *> tokenizer = model->model->tokenizer();
    if (!tokenizer)
      return tokenizer.takeError();
    *token = (*tokenizer)->tokenId(text).value_or(-1);
    return Error::success();
  });
}

skim_rt_status skim_rt_stream_create(skim_rt_model *model, int32_t flags, int32_t continues, skim_rt_stream **stream) {
  return guarded([&]() -> Error {
    if (!model || !stream)
      return nullArgument(model ? "stream" : "model");
    Expected<const Tokenizer *> tokenizer = model->model->tokenizer();
    if (!tokenizer)
      return tokenizer.takeError();
    *stream = new skim_rt_stream{
        model->model, StreamDecoder(**tokenizer, continues != 0, !(flags & SKIM_RT_KEEP_SPECIAL)), std::string()};
    return Error::success();
  });
}

static void give(skim_rt_stream *stream, std::string text, const char **out, size_t *bytes) {
  stream->text = std::move(text);
  *out = stream->text.c_str();
  if (bytes)
    *bytes = stream->text.size();
}

skim_rt_status skim_rt_stream_push(skim_rt_stream *stream, int32_t token, const char **text, size_t *bytes) {
  return guarded([&]() -> Error {
    if (!stream || !text)
      return nullArgument(stream ? "text" : "stream");
    give(stream, stream->decoder.push(token), text, bytes);
    return Error::success();
  });
}

skim_rt_status skim_rt_stream_finish(skim_rt_stream *stream, const char **text, size_t *bytes) {
  return guarded([&]() -> Error {
    if (!stream || !text)
      return nullArgument(stream ? "text" : "stream");
    give(stream, stream->decoder.finish(), text, bytes);
    return Error::success();
  });
}

void skim_rt_stream_close(skim_rt_stream *stream) { delete stream; }
