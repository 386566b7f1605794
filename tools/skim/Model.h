//===- Model.h - the runtime's objects as values ----------------*- C++ -*-===//
#ifndef SKIM_TOOLS_MODEL_H
#define SKIM_TOOLS_MODEL_H

#include "skim-rt/skim_rt.h"
#include "skim/Support/Error.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace skim::tool {

/// A session of a model, closed with this object.
class Session {
public:
  explicit Session(skim_rt_session *session) : session(session, skim_rt_session_close) {}
  skim_rt_session *get() const { return session.get(); }
  /// Appends tokens; `logits` holds as many rows as `which` asks for.
  Error prefill(const int32_t *tokens, int64_t count, skim_rt_logits which, float *logits) const;
  Error decode(int32_t token, float *logits) const;
  /// Appends tokens and chooses the one that follows.
  Expected<int32_t> next(std::span<const int32_t> tokens, const skim_rt_sampling &sampling,
                         skim_rt_random &random) const;

private:
  std::unique_ptr<skim_rt_session, void (*)(skim_rt_session *)> session;
};

/// An open package.
class Model {
public:
  struct Options {
    std::string target;
    int64_t context = 0;
    int threads = 0;
    int device = 0;
  };
  static Expected<Model> open(const std::string &path, const Options &options);

  const skim_rt_info &info() const { return facts; }
  skim_rt_model *get() const { return model.get(); }
  /// A session of `capacity` tokens (0: the model's context).
  Expected<Session> session(int64_t capacity = 0) const;
  /// Token ids of a text; `flags` as of skim_rt_tokenize.
  Expected<std::vector<int32_t>> tokenize(const std::string &text, int32_t flags) const;

private:
  explicit Model(skim_rt_model *model) : model(model, skim_rt_close) {}
  std::unique_ptr<skim_rt_model, void (*)(skim_rt_model *)> model;
  skim_rt_info facts{};
};

/// The runtime's last failure as an Error.
Error runtimeError();

} // namespace skim::tool

#endif // SKIM_TOOLS_MODEL_H
