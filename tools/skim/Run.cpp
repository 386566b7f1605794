//===- Run.cpp - skim run: text from a model ---------------------------------===//

#include "ChatTemplate.h"
#include "Command.h"
#include "Model.h"
#include "skim/Support/Resources.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <span>
#include <unistd.h>

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string package, prompt, tokenIds, chatTemplate;
  bool hasPrompt = false, hasTokenIds = false, chat = false;
  int64_t tokens = 128;
  float temperature = 0, topP = 1;
  int32_t topK = 0;
  uint64_t seed = 0;
  Model::Options model;
};

/// A text being generated.
class Generator {
public:
  static Expected<Generator> create(const Model &model, const Options &options) {
    Expected<Session> session = model.session();
    if (!session)
      return session.takeError();
    return Generator(std::move(*session), options);
  }

  int64_t room() const { return skim_rt_session_capacity(session.get()) - skim_rt_session_length(session.get()); }

  /// Appends tokens and chooses the one that follows.
  Expected<int32_t> next(std::span<const int32_t> ids) { return session.next(ids, sampling, random); }

private:
  Generator(Session session, const Options &options)
      : session(std::move(session)), sampling{options.temperature, options.topK, options.topP},
        random{options.seed, 0} {}

  Session session;
  skim_rt_sampling sampling;
  skim_rt_random random;
};
} // namespace

static Error runTokenIds(const Model &model, const Options &options) {
  Expected<std::vector<int32_t>> ids = parseTokenIds(options.tokenIds, "--token-ids");
  if (!ids)
    return ids.takeError();
  if (ids->empty())
    return fail("no token ids", "--token-ids", "at least one id", "none");
  Expected<Generator> generator = Generator::create(model, options);
  if (!generator)
    return generator.takeError();
  std::string line;
  for (int64_t i = 0; i < options.tokens; ++i) {
    Expected<int32_t> token = generator->next(*ids);
    if (!token)
      return token.takeError();
    line += (i ? " " : "") + std::to_string(*token);
    ids->assign(1, *token);
  }
  std::printf("%s\n", line.c_str());
  return Error::success();
}

/// Streams what follows `ids`, whose text `echo` is, to standard output until an end token, `tokens` or a full context.
static Error streamAnswer(const Model &model, Generator &generator, std::vector<int32_t> ids, const std::string &echo,
                          const Options &options, const std::vector<int32_t> &ends) {
  skim_rt_stream *raw = nullptr;
  if (skim_rt_stream_create(model.get(), 0, !echo.empty(), &raw))
    return runtimeError();
  std::unique_ptr<skim_rt_stream, void (*)(skim_rt_stream *)> stream(raw, skim_rt_stream_close);
  const char *text = nullptr;
  size_t bytes = 0;
  Stopwatch watch;
  int64_t count = 0;
  if (options.tokens == 0)
    std::fputs(echo.c_str(), stdout);
  for (; count < options.tokens; ++count) {
    Expected<int32_t> token = generator.next(ids);
    if (!token)
      return token.takeError();
    if (count == 0) {
      std::fputs(echo.c_str(), stdout);
      watch = Stopwatch(); // the text before is no part of the rate
    }
    if (std::find(ends.begin(), ends.end(), *token) != ends.end())
      break;
    if (skim_rt_stream_push(stream.get(), *token, &text, &bytes))
      return runtimeError();
    std::fwrite(text, 1, bytes, stdout);
    std::fflush(stdout);
    if (generator.room() == 0)
      break;
    ids.assign(1, *token);
  }
  if (skim_rt_stream_finish(stream.get(), &text, &bytes))
    return runtimeError();
  std::fwrite(text, 1, bytes, stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
  if (isatty(2))
    std::fprintf(stderr, "[%lld tokens, %.1f tokens/s]\n", static_cast<long long>(count),
                 std::max<int64_t>(count - 1, 0) / watch.seconds());
  return Error::success();
}

static Error runPrompt(const Model &model, const Options &options, const std::vector<int32_t> &ends) {
  Expected<std::vector<int32_t>> ids = model.tokenize(options.prompt, SKIM_RT_ADD_BEGIN | SKIM_RT_PARSE_SPECIAL);
  if (!ids)
    return ids.takeError();
  if (ids->empty())
    return fail("empty text", "--prompt", "some text", "none");
  Expected<Generator> generator = Generator::create(model, options);
  if (!generator)
    return generator.takeError();
  return streamAnswer(model, *generator, std::move(*ids), options.prompt, options, ends);
}

static Error runChat(const Model &model, const Options &options, std::vector<int32_t> ends) {
  Expected<ChatTemplate> chat = ChatTemplate::load(options.chatTemplate);
  if (!chat)
    return chat.takeError();
  for (const std::string &stop : chat->stops()) {
    int32_t token = -1;
    if (skim_rt_token_id(model.get(), stop.c_str(), &token))
      return runtimeError();
    if (token >= 0)
      ends.push_back(token);
  }
  Expected<Generator> generator = Generator::create(model, options);
  if (!generator)
    return generator.takeError();
  bool terminal = isatty(0), first = true;
  std::string line;
  while (true) {
    if (terminal)
      std::fputs("> ", stderr);
    if (first && options.hasPrompt)
      line = options.prompt;
    else if (!std::getline(std::cin, line))
      return Error::success();
    std::string text = chat->message("user", line) + chat->answer();
    Expected<std::vector<int32_t>> ids = model.tokenize(text, SKIM_RT_PARSE_SPECIAL | (first ? SKIM_RT_ADD_BEGIN : 0));
    if (!ids)
      return ids.takeError();
    if (Error error = streamAnswer(model, *generator, std::move(*ids), "", options, ends))
      return error;
    first = false;
  }
}

static Error check(const Options &options) {
  if (options.hasTokenIds + (options.hasPrompt || options.chat) != 1)
    return fail("run needs something to continue", "", "one of --prompt, --chat and --token-ids",
                options.hasTokenIds ? "several" : "none");
  return Error::success();
}

static Error run(const Options &options) {
  Expected<Model> model = Model::open(options.package, options.model);
  if (!model)
    return model.takeError();
  if (options.hasTokenIds)
    return runTokenIds(*model, options);
  std::vector<int32_t> ends(model->info().end_tokens, model->info().end_tokens + model->info().num_end_tokens);
  return options.chat ? runChat(*model, options, ends) : runPrompt(*model, options, ends);
}

void skim::tool::addRun(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = addCommand(app, action, "run", "generates text", options, run, check);
  command->add_option("package", options->package, "OUT.skim")->required();
  command->add_option_function<std::string>(
      "--prompt",
      [options](const std::string &text) {
        options->prompt = text;
        options->hasPrompt = true;
      },
      "text to continue (with --chat: the first message)");
  command->add_flag("--chat", options->chat, "a conversation, one message a line of standard input");
  options->chatTemplate = "chatml";
  command->add_option("--chat-template", options->chatTemplate, "chatml, llama3, gemma or a file")
      ->capture_default_str();
  command->add_option_function<std::string>(
      "--token-ids",
      [options](const std::string &text) {
        options->tokenIds = text;
        options->hasTokenIds = true;
      },
      "ids to continue: prints ids, ignores end tokens");
  command->add_option("--tokens", options->tokens, "tokens to generate")
      ->check(CLI::Range(int64_t(0), int64_t(1) << 30))
      ->capture_default_str();
  command->add_option("--temperature", options->temperature, "0: the likeliest token")
      ->check(CLI::Range(0.0f, 1000.0f))
      ->capture_default_str();
  command->add_option("--top-k", options->topK, "only the k likeliest (0: all)")->check(CLI::Range(0, 1 << 30));
  command->add_option("--top-p", options->topP, "only the likeliest of this total probability")
      ->check(CLI::Range(1e-6f, 1.0f));
  command->add_option("--context", options->model.context, "most tokens of the text")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 30));
  command->add_option("--seed", options->seed, "of the sampling")->capture_default_str();
  command->add_option("--target", options->model.target, "target of the package");
  command->add_option("--device", options->model.device, "which NVIDIA device")->check(CLI::Range(0, 1 << 16));
  command->add_option("--threads", options->model.threads, "threads (default: all)")->check(CLI::Range(0, 1024));
}
