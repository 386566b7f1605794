#include "Model.h"

using namespace skim;
using namespace skim::tool;

Error skim::tool::runtimeError() { return fail(skim_rt_error()); }

Error Session::prefill(const int32_t *tokens, int64_t count, skim_rt_logits which, float *logits) const {
  if (skim_rt_prefill(session.get(), tokens, count, which, logits))
    return runtimeError();
  return Error::success();
}

Error Session::decode(int32_t token, float *logits) const {
  skim_rt_session *one = session.get();
  if (skim_rt_decode(&one, &token, 1, logits))
    return runtimeError();
  return Error::success();
}

Expected<int32_t> Session::next(std::span<const int32_t> tokens, const skim_rt_sampling &sampling,
                                skim_rt_random &random) const {
  skim_rt_sequence sequence{session.get(), tokens.data(), static_cast<int64_t>(tokens.size()), SKIM_RT_LOGITS_LAST};
  int32_t token = 0;
  if (skim_rt_next(&sequence, 1, &sampling, &random, &token))
    return runtimeError();
  return token;
}

Expected<Model> Model::open(const std::string &path, const Options &options) {
  skim_rt_options raw{};
  raw.size = sizeof raw;
  raw.capacity = options.context;
  raw.threads = options.threads;
  raw.target = options.target.c_str();
  raw.device = options.device;
  skim_rt_model *opened = nullptr;
  if (skim_rt_open(path.c_str(), &raw, &opened))
    return runtimeError();
  Model model(opened);
  if (skim_rt_model_info(opened, &model.facts))
    return runtimeError();
  return model;
}

Expected<Session> Model::session(int64_t capacity) const {
  skim_rt_session *created = nullptr;
  if (skim_rt_session_create(model.get(), capacity, &created))
    return runtimeError();
  return Session(created);
}

Expected<std::vector<int32_t>> Model::tokenize(const std::string &text, int32_t flags) const {
  size_t count = 0;
  if (skim_rt_tokenize(model.get(), text.data(), text.size(), flags, nullptr, 0, &count))
    return runtimeError();
  std::vector<int32_t> ids(count);
  if (skim_rt_tokenize(model.get(), text.data(), text.size(), flags, ids.data(), ids.size(), &count))
    return runtimeError();
  return ids;
}
