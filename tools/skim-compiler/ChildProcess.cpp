//===- ChildProcess.cpp - programs that a command starts --------------------===//

#include "ChildProcess.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"

#include <filesystem>

std::string skim::tool::programFolder() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path().string();
}

std::optional<std::string> skim::tool::runChild(const std::string &path, const std::vector<std::string> &arguments,
                                                const std::string &output, const std::string &log) {
  std::string reason;
  std::vector<llvm::StringRef> words = {path};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::optional<llvm::StringRef> redirects[] = {llvm::StringRef(), llvm::StringRef(output), llvm::StringRef(log)};
  // Redirection writes over what is there without cutting it off.
  llvm::sys::fs::remove(log);
  if (!output.empty())
    llvm::sys::fs::remove(output);
  if (llvm::sys::ExecuteAndWait(path, words, std::nullopt, redirects, 0, 0, &reason) == 0)
    return std::nullopt;
  if (auto buffer = llvm::MemoryBuffer::getFile(log))
    if (llvm::StringRef text = (*buffer)->getBuffer().rtrim(); !text.empty())
      reason = text.substr(text.rfind('\n') + 1).str(); // no line's end: npos + 1 is the beginning
  return reason;
}
