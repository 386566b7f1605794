#include "ChatTemplate.h"

#include "skim/Support/MappedFile.h"

#include <optional>

using namespace skim;
using namespace skim::tool;

static const char *builtin(const std::string &name) {
  if (name == "chatml")
    return "[message]\n<|im_start|>{role}\n{content}<|im_end|>\n[answer]\n<|im_start|>assistant\n[stop]\n<|im_end|>\n";
  if (name == "llama3")
    return "[message]\n<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>[answer]\n"
           "<|start_header_id|>assistant<|end_header_id|>\n\n[stop]\n<|eot_id|>\n";
  if (name == "gemma")
    return "[message]\n<start_of_turn>{role}\n{content}<end_of_turn>\n[answer]\n<start_of_turn>model\n[stop]\n"
           "<end_of_turn>\n";
  return nullptr;
}

/// The text between `[name]\n` and the next section or the end.
static std::optional<std::string> section(const std::string &text, const std::string &name) {
  size_t begin = text.find("[" + name + "]\n");
  if (begin == std::string::npos)
    return std::nullopt;
  begin += name.size() + 3;
  size_t end = text.size();
  for (const char *next : {"[message]\n", "[answer]\n", "[stop]\n"})
    end = std::min(end, std::min(text.find(next, begin), text.size()));
  return text.substr(begin, end - begin);
}

Expected<ChatTemplate> ChatTemplate::load(const std::string &nameOrFile) {
  std::string text;
  if (const char *known = builtin(nameOrFile)) {
    text = known;
  } else {
    Expected<std::string> read = readTextFile(nameOrFile, 1 << 20);
    if (!read)
      return fail("no such chat template", nameOrFile, "chatml, llama3, gemma or a readable file", read.message());
    text = std::move(*read);
  }
  ChatTemplate result;
  std::optional<std::string> message = section(text, "message"), answer = section(text, "answer");
  if (!message || !answer || message->find("{content}") == std::string::npos)
    return fail("invalid chat template", nameOrFile, "sections [message] with {content}, and [answer]", "none");
  result.messageText = *message;
  result.answerText = *answer;
  std::string stops = section(text, "stop").value_or("");
  for (size_t begin = 0; begin < stops.size();) {
    size_t end = std::min(stops.find('\n', begin), stops.size());
    if (end > begin)
      result.stopTexts.push_back(stops.substr(begin, end - begin));
    begin = end + 1;
  }
  return result;
}

std::string ChatTemplate::message(const std::string &role, const std::string &content) const {
  // One pass, so that a message that itself contains {role} stays as it is.
  std::string out;
  for (size_t at = 0; at < messageText.size();) {
    if (messageText.compare(at, 6, "{role}") == 0) {
      out += role;
      at += 6;
    } else if (messageText.compare(at, 9, "{content}") == 0) {
      out += content;
      at += 9;
    } else {
      out += messageText[at++];
    }
  }
  return out;
}
