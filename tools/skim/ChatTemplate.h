//===- ChatTemplate.h - how a conversation becomes a prompt -----*- C++ -*-===//
#ifndef SKIM_TOOLS_CHATTEMPLATE_H
#define SKIM_TOOLS_CHATTEMPLATE_H

#include "skim/Support/Error.h"

#include <string>
#include <vector>

namespace skim::tool {

/// A chat format: the text around each message and before the answer.
///
/// A file holds `message` and `answer`, each after a line with its name in
/// brackets, with {role} and {content} where they go:
///
///   [message]
///   <|im_start|>{role}
///   {content}<|im_end|>
///   [answer]
///   <|im_start|>assistant
///   [stop]
///   <|im_end|>
class ChatTemplate {
public:
  /// `chatml`, `llama3`, `gemma`, or the path of a file.
  static Expected<ChatTemplate> load(const std::string &nameOrFile);

  /// The text of one message.
  std::string message(const std::string &role, const std::string &content) const;
  /// What stands before the model's answer.
  const std::string &answer() const { return answerText; }
  /// Token texts that end an answer, beside the model's end tokens.
  const std::vector<std::string> &stops() const { return stopTexts; }

private:
  std::string messageText, answerText;
  std::vector<std::string> stopTexts;
};

} // namespace skim::tool

#endif // SKIM_TOOLS_CHATTEMPLATE_H
