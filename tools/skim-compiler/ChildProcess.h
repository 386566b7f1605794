//===- ChildProcess.h - programs that a command starts ----------*- C++ -*-===//
#ifndef SKIM_TOOLS_CHILDPROCESS_H
#define SKIM_TOOLS_CHILDPROCESS_H

#include <optional>
#include <string>
#include <vector>

namespace skim::tool {

/// Where this program and those beside it lie.
std::string programFolder();

/// Runs the program at `path` without input; standard output goes to the file `output` (empty: nowhere), what it says
/// besides to `log`. If it fails: the last line of that, or why it could not be started.
std::optional<std::string> runChild(const std::string &path, const std::vector<std::string> &arguments,
                                    const std::string &output, const std::string &log);

} // namespace skim::tool

#endif // SKIM_TOOLS_CHILDPROCESS_H
