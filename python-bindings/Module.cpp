// The Python module: thin classes over the runtime's C interface, which keeps
// models alive as long as their sessions and does all the checking.
#include "skim-rt/skim_rt.h"

#include <algorithm>
#include <memory>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

/// skim.Error: the runtime's one line.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check(skim_rt_status status) {
  if (status != SKIM_RT_OK)
    throw Failure(skim_rt_error());
}

using Vector = nb::ndarray<nb::numpy, float, nb::ndim<1>, nb::c_contig>;
using Matrix = nb::ndarray<nb::numpy, float, nb::ndim<2>, nb::c_contig>;

/// Memory that becomes a numpy array without a copy.
struct Buffer {
  explicit Buffer(size_t count) : data(new float[count]) {}
  nb::capsule release() {
    return nb::capsule(data.release(), [](void *memory) noexcept { delete[] static_cast<float *>(memory); });
  }
  Vector vector(size_t columns) {
    float *start = data.get();
    return Vector(start, {columns}, release());
  }
  Matrix matrix(size_t rows, size_t columns) {
    float *start = data.get();
    return Matrix(start, {rows, columns}, release());
  }
  std::unique_ptr<float[]> data;
};

/// Token ids from any iterable of whole numbers. Numbers that no int32 holds
/// become -1, which no vocabulary has.
std::vector<int32_t> readTokens(nb::handle tokens) {
  nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> array;
  if (nb::try_cast(tokens, array, /*convert=*/false))
    return std::vector<int32_t>(array.data(), array.data() + array.size());
  std::vector<int32_t> ids;
  for (nb::handle item : nb::iter(tokens)) {
    PyObject *whole = PyNumber_Index(item.ptr());
    if (!whole)
      nb::raise_python_error();
    int overflow = 0;
    long long value = PyLong_AsLongLongAndOverflow(whole, &overflow);
    Py_DECREF(whole);
    ids.push_back(overflow || value < 0 || value > INT32_MAX ? -1 : static_cast<int32_t>(value));
  }
  return ids;
}

class Session;
class Generation;

class Model {
public:
  Model(const std::string &path, int64_t context, int32_t threads, const std::optional<std::string> &target,
        int32_t maxRows, bool pin) {
    skim_rt_options options{};
    options.size = sizeof options;
    options.capacity = context;
    options.threads = threads;
    options.max_rows = maxRows;
    options.target = target ? target->c_str() : nullptr;
    options.pin = pin;
    skim_rt_model *opened = nullptr;
    skim_rt_status status;
    {
      nb::gil_scoped_release release;
      status = skim_rt_open(path.c_str(), &options, &opened);
    }
    check(status);
    model.reset(opened, skim_rt_close);
    check(skim_rt_model_info(opened, &info));
  }

  std::vector<int32_t> tokenize(std::string_view text, bool addBegin, bool parseSpecial) const {
    int32_t flags = (addBegin ? SKIM_RT_ADD_BEGIN : 0) | (parseSpecial ? SKIM_RT_PARSE_SPECIAL : 0);
    // Rarely more tokens than bytes.
    std::vector<int32_t> ids(text.size() + 8);
    while (true) {
      size_t count = 0;
      check(skim_rt_tokenize(model.get(), text.data(), text.size(), flags, ids.data(), ids.size(), &count));
      bool whole = count <= ids.size();
      ids.resize(count);
      if (whole)
        return ids;
    }
  }

  std::string detokenize(nb::handle tokens, bool keepSpecial) const {
    std::vector<int32_t> ids = readTokens(tokens);
    int32_t flags = keepSpecial ? SKIM_RT_KEEP_SPECIAL : 0;
    std::string text(ids.size() * 8 + 16, '\0');
    while (true) {
      size_t bytes = 0;
      check(skim_rt_detokenize(model.get(), ids.data(), ids.size(), flags, text.data(), text.size(), &bytes));
      bool whole = bytes <= text.size();
      text.resize(bytes);
      if (whole)
        return text;
    }
  }

  std::optional<int32_t> tokenId(const std::string &text) const {
    int32_t token = -1;
    check(skim_rt_token_id(model.get(), text.c_str(), &token));
    return token < 0 ? std::nullopt : std::optional(token);
  }

  size_t vocabulary() const { return static_cast<size_t>(info.vocabulary); }

  std::shared_ptr<skim_rt_model> model;
  skim_rt_info info{};
};

class Session {
public:
  Session(const Model &model, int64_t capacity) : model(model) {
    skim_rt_session *created = nullptr;
    check(skim_rt_session_create(model.model.get(), capacity, &created));
    session.reset(created, skim_rt_session_close);
  }

  std::unique_ptr<Session> fork(int64_t capacity) const {
    std::shared_ptr<skim_rt_session> held = session;
    skim_rt_session *copy = nullptr;
    skim_rt_status status;
    {
      nb::gil_scoped_release release;
      status = skim_rt_session_fork(held.get(), capacity, &copy);
    }
    check(status);
    return std::unique_ptr<Session>(new Session(model, copy));
  }

  void truncate(int64_t length) const { check(skim_rt_session_truncate(session.get(), length)); }
  int64_t length() const { return skim_rt_session_length(session.get()); }
  int64_t capacity() const { return skim_rt_session_capacity(session.get()); }

  /// Appends tokens; `rows` rows of logits.
  Buffer append(const std::vector<int32_t> &tokens, skim_rt_logits which, size_t rows) const {
    // Its own reference: another Python thread may close the session meanwhile.
    std::shared_ptr<skim_rt_session> held = session;
    Buffer logits(rows * model.vocabulary());
    skim_rt_status status;
    {
      nb::gil_scoped_release release;
      status =
          skim_rt_prefill(held.get(), tokens.data(), static_cast<int64_t>(tokens.size()), which, logits.data.get());
    }
    check(status);
    return logits;
  }

  nb::object prefill(nb::handle tokens, const std::string &logits) const {
    std::vector<int32_t> ids = readTokens(tokens);
    if (logits == "last")
      return nb::cast(append(ids, SKIM_RT_LOGITS_LAST, 1).vector(model.vocabulary()));
    if (logits == "all")
      return nb::cast(append(ids, SKIM_RT_LOGITS_ALL, ids.size()).matrix(ids.size(), model.vocabulary()));
    if (logits != "none")
      throw Failure("invalid argument at logits: expected 'last', 'all' or 'none', got '" + logits + "'");
    append(ids, SKIM_RT_LOGITS_NONE, 0);
    return nb::none();
  }

  Vector decode(int64_t token) const {
    int32_t id = token < 0 || token > INT32_MAX ? -1 : static_cast<int32_t>(token);
    return append({id}, SKIM_RT_LOGITS_LAST, 1).vector(model.vocabulary());
  }

  Model model;
  std::shared_ptr<skim_rt_session> session;

private:
  Session(const Model &model, skim_rt_session *session) : model(model), session(session, skim_rt_session_close) {}
};

Matrix decodeMany(const Model &model, const std::vector<Session *> &sessions, nb::handle tokens) {
  std::vector<int32_t> ids = readTokens(tokens);
  if (ids.size() != sessions.size())
    throw Failure("invalid argument at tokens: expected one for each of " + std::to_string(sessions.size()) +
                  " sessions, got " + std::to_string(ids.size()));
  std::vector<std::shared_ptr<skim_rt_session>> held;
  std::vector<skim_rt_session *> list;
  for (Session *session : sessions) {
    if (!session)
      throw Failure("invalid argument at sessions: expected sessions, got None");
    held.push_back(session->session);
    list.push_back(session->session.get());
    // The result has this model's width.
    if (session->model.model != model.model)
      throw Failure("session of another model: expected sessions of this model, got one of another");
  }
  Buffer logits(list.size() * model.vocabulary());
  skim_rt_status status;
  {
    nb::gil_scoped_release release;
    status = skim_rt_decode(list.data(), ids.data(), list.size(), logits.data.get());
  }
  check(status);
  return logits.matrix(list.size(), model.vocabulary());
}

/// An iterator over what a model writes: text after a text, ids after ids.
class Generation {
public:
  struct Options {
    int64_t maxTokens;
    skim_rt_sampling sampling;
    uint64_t seed;
    std::optional<std::vector<int32_t>> endTokens;
    bool addBegin;
    bool parseSpecial;
  };

  Generation(const Session &session, nb::handle prompt, const Options &options)
      : session(session), sampling(options.sampling), random{options.seed, 0}, left(options.maxTokens) {
    const Model &model = session.model;
    if (nb::isinstance<nb::str>(prompt)) {
      next = model.tokenize(nb::cast<std::string_view>(prompt), options.addBegin, options.parseSpecial);
      skim_rt_stream *created = nullptr;
      check(skim_rt_stream_create(model.model.get(), 0, /*continues=*/1, &created));
      stream.reset(created, skim_rt_stream_close);
      ends.assign(model.info.end_tokens, model.info.end_tokens + model.info.num_end_tokens);
    } else {
      next = readTokens(prompt);
    }
    if (options.endTokens)
      ends = *options.endTokens;
  }

  nb::object step() {
    while (left > 0) {
      Buffer logits = session.append(next, SKIM_RT_LOGITS_LAST, 1);
      int32_t token = -1;
      check(skim_rt_sample(session.model.model.get(), logits.data.get(), &sampling, &random, &token));
      --left;
      next = {token};
      if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
        left = 0;
        break;
      }
      if (!stream)
        return nb::cast(token);
      const char *text = nullptr;
      size_t bytes = 0;
      check(skim_rt_stream_push(stream.get(), token, &text, &bytes));
      if (bytes)
        return nb::str(text, bytes);
    }
    if (stream) {
      // What is held back of an unfinished character.
      const char *text = nullptr;
      size_t bytes = 0;
      check(skim_rt_stream_finish(stream.get(), &text, &bytes));
      nb::object rest = bytes ? nb::object(nb::str(text, bytes)) : nb::object();
      stream.reset();
      if (rest.is_valid())
        return rest;
    }
    throw nb::stop_iteration();
  }

private:
  Session session;
  skim_rt_sampling sampling;
  skim_rt_random random;
  int64_t left;
  std::vector<int32_t> next;
  std::vector<int32_t> ends;
  std::shared_ptr<skim_rt_stream> stream;
};

std::unique_ptr<Generation> generate(const Session &session, nb::handle prompt, int64_t maxTokens, float temperature,
                                     int32_t topK, float topP, uint64_t seed,
                                     std::optional<std::vector<int32_t>> endTokens, bool addBegin, bool parseSpecial) {
  return std::make_unique<Generation>(
      session, prompt,
      Generation::Options{maxTokens, {temperature, topK, topP}, seed, std::move(endTokens), addBegin, parseSpecial});
}

} // namespace

NB_MODULE(_skim, m) {
  m.doc() = "Runs models that skim compiled.";
  m.attr("__version__") = skim_rt_version();
  nb::exception<Failure>(m, "Error", PyExc_RuntimeError);

  nb::class_<Generation>(m, "Generation", "Iterates over generated text or token ids.")
      .def(
          "__iter__", [](nb::handle self) { return nb::borrow(self); }, nb::sig("def __iter__(self) -> Generation"))
      .def("__next__", &Generation::step, nb::sig("def __next__(self) -> str | int"));

  nb::class_<Session> session(m, "Session", "One text and its cache. Made by Model.session().");
  nb::class_<Model> model(m, "Model", "A package, opened.");

  const char *generateDoc =
      "Generates after `prompt`: pieces of text after a text, token ids after ids. A text stops at the\n"
      "model's end tokens, ids do not; `end_tokens` overrides both. `temperature` 0: the most likely\n"
      "token; otherwise the same `seed` gives the same tokens. `add_begin` and `parse_special` as in\n"
      "tokenize(), for texts.";
  session
      .def("prefill", &Session::prefill, "tokens"_a, "logits"_a = "last",
           "Appends tokens. Returns float32 logits for what follows: of the last token [vocabulary], of 'all'\n"
           "tokens [tokens, vocabulary], or None for 'none'.",
           nb::sig("def prefill(self, tokens: collections.abc.Iterable[int], logits: typing.Literal['last', 'all', "
                   "'none'] = 'last') -> "
                   "numpy.typing.NDArray[numpy.float32] | None"))
      .def("decode", &Session::decode, "token"_a, "Appends one token; logits [vocabulary] for the next.",
           nb::sig("def decode(self, token: int) -> numpy.typing.NDArray[numpy.float32]"))
      .def("fork", &Session::fork, "capacity"_a = 0, "A second session with the same tokens.")
      .def("truncate", &Session::truncate, "length"_a, "Forgets all but the first `length` tokens.")
      .def(
          "close", [](Session &self) { self.session.reset(); }, "Gives the cache's memory back now.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); }, nb::sig("def __enter__(self) -> Session"))
      .def(
          "__exit__", [](Session &self, nb::args) { self.session.reset(); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def("__len__", &Session::length)
      .def_prop_ro("length", &Session::length, "Tokens held.")
      .def_prop_ro("capacity", &Session::capacity, "Tokens that can be held.")
      .def("generate", &generate, "prompt"_a, "max_tokens"_a = 128, "temperature"_a = 0.0f, "top_k"_a = 0,
           "top_p"_a = 1.0f, "seed"_a = 0, "end_tokens"_a = nb::none(), "add_begin"_a = true, "parse_special"_a = true,
           generateDoc,
           nb::sig("def generate(self, prompt: str | collections.abc.Iterable[int], max_tokens: int = 128, "
                   "temperature: float = 0.0, "
                   "top_k: int = 0, top_p: float = 1.0, seed: int = 0, end_tokens: collections.abc.Sequence[int] | "
                   "None = None, "
                   "add_begin: bool = True, parse_special: bool = True) -> Generation"));

  model
      .def(nb::init<const std::string &, int64_t, int32_t, const std::optional<std::string> &, int32_t, bool>(),
           "path"_a, "context"_a = 0, "threads"_a = 0, "target"_a = nb::none(), "max_rows"_a = 0, "pin"_a = false,
           "Opens the package at `path`. `context`: most tokens of a session (0: the model's); `threads`: 0 for\n"
           "all CPUs; `target`: one of the package's (default: the best for this CPU).",
           nb::sig("def __init__(self, path: str, context: int = 0, threads: int = 0, target: str | None = None, "
                   "max_rows: int = 0, pin: bool = False) -> None"))
      .def(
          "session", [](const Model &self, int64_t capacity) { return std::make_unique<Session>(self, capacity); },
          "capacity"_a = 0, "A new, empty session.")
      .def("decode", &decodeMany, "sessions"_a, "tokens"_a,
           "Appends one token to each session in one step; logits [sessions, vocabulary].",
           nb::sig("def decode(self, sessions: collections.abc.Sequence[Session], tokens: "
                   "collections.abc.Iterable[int]) -> numpy.typing.NDArray[numpy.float32]"))
      .def(
          "prefill",
          [](const Model &self, nb::handle tokens) {
            auto made = std::make_unique<Session>(self, 0);
            nb::object logits = made->prefill(tokens, "last");
            return nb::make_tuple(std::move(made), logits);
          },
          "tokens"_a, "A new session that holds `tokens`, and the logits [vocabulary] for the next.",
          nb::sig("def prefill(self, tokens: collections.abc.Iterable[int]) -> tuple[Session, "
                  "numpy.typing.NDArray[numpy.float32]]"))
      .def(
          "logits",
          [](const Model &self, nb::handle tokens) { return Session(self, int64_t(0)).prefill(tokens, "all"); },
          "tokens"_a, "Logits [tokens, vocabulary] of a text by itself.",
          nb::sig("def logits(self, tokens: collections.abc.Iterable[int]) -> numpy.typing.NDArray[numpy.float32]"))
      .def(
          "generate",
          [](const Model &self, nb::handle prompt, int64_t maxTokens, float temperature, int32_t topK, float topP,
             uint64_t seed, std::optional<std::vector<int32_t>> endTokens, bool addBegin, bool parseSpecial) {
            return generate(Session(self, int64_t(0)), prompt, maxTokens, temperature, topK, topP, seed,
                            std::move(endTokens), addBegin, parseSpecial);
          },
          "prompt"_a, "max_tokens"_a = 128, "temperature"_a = 0.0f, "top_k"_a = 0, "top_p"_a = 1.0f, "seed"_a = 0,
          "end_tokens"_a = nb::none(), "add_begin"_a = true, "parse_special"_a = true, generateDoc,
          nb::sig("def generate(self, prompt: str | collections.abc.Iterable[int], max_tokens: int = 128, temperature: "
                  "float = 0.0, "
                  "top_k: int = 0, top_p: float = 1.0, seed: int = 0, end_tokens: collections.abc.Sequence[int] | None "
                  "= None, "
                  "add_begin: bool = True, parse_special: bool = True) -> Generation"))
      .def("tokenize", &Model::tokenize, "text"_a, "add_begin"_a = false, "parse_special"_a = false,
           "Token ids of a text. `add_begin`: with the begin token that the tokenizer puts in front, if any;\n"
           "`parse_special`: special tokens written in the text become their ids.")
      .def("detokenize", &Model::detokenize, "tokens"_a, "keep_special"_a = false, "The text of token ids.",
           nb::sig("def detokenize(self, tokens: collections.abc.Iterable[int], keep_special: bool = False) -> str"))
      .def("token_id", &Model::tokenId, "text"_a, "The id of the token spelled exactly so, or None.")
      .def_prop_ro("name", [](const Model &self) { return self.info.name; })
      .def_prop_ro("target", [](const Model &self) { return self.info.target; })
      .def_prop_ro("vocabulary", [](const Model &self) { return self.info.vocabulary; })
      .def_prop_ro("context", [](const Model &self) { return self.info.context; })
      .def_prop_ro("capacity", [](const Model &self) { return self.info.capacity; })
      .def_prop_ro("max_rows", [](const Model &self) { return self.info.max_rows; })
      .def_prop_ro("threads", [](const Model &self) { return self.info.threads; })
      .def_prop_ro("begin_token",
                   [](const Model &self) {
                     return self.info.begin_token < 0 ? std::nullopt : std::optional(self.info.begin_token);
                   })
      .def_prop_ro("end_tokens",
                   [](const Model &self) {
                     return std::vector<int32_t>(self.info.end_tokens, self.info.end_tokens + self.info.num_end_tokens);
                   })
      .def_prop_ro("has_tokenizer", [](const Model &self) { return self.info.has_tokenizer != 0; })
      .def_prop_ro("weight_bytes", [](const Model &self) { return self.info.weight_bytes; })
      .def_prop_ro("cache_bytes_per_token", [](const Model &self) { return self.info.cache_bytes_per_token; });
}
