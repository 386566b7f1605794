//===- Command.h - what the commands of `skim` share ------------*- C++ -*-===//
#ifndef SKIM_TOOLS_COMMAND_H
#define SKIM_TOOLS_COMMAND_H

#include "skim/Support/Error.h"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace skim::tool {

/// What the chosen command does once its options are parsed.
using Action = std::function<Error()>;

// Each adds its subcommand; when it is chosen, its action goes to `action`.
void addRun(CLI::App &app, Action &action);
void addLogits(CLI::App &app, Action &action);
void addEval(CLI::App &app, Action &action);
void addBench(CLI::App &app, Action &action);
void addInspect(CLI::App &app, Action &action);
// Of skim-compiler.
void addImport(CLI::App &app, Action &action);
void addCalibrate(CLI::App &app, Action &action);
void addQuantize(CLI::App &app, Action &action);
void addCompile(CLI::App &app, Action &action);
void addCompare(CLI::App &app, Action &action);
/// Commands of the contract that this version does not have: each says so.
void addLater(CLI::App &app, Action &action);

/// Parses and runs; the whole of main. `add` adds the program's commands.
int runProgram(int argc, char **argv, const std::function<void(CLI::App &, Action &)> &add);

/// Adds a subcommand whose parsed options outlive parsing. `check` says what is
/// wrong with options that only together are wrong usage.
template <typename Options>
CLI::App *addCommand(CLI::App &app, Action &action, const std::string &name, const std::string &summary,
                     std::shared_ptr<Options> options, Error (*run)(const Options &),
                     Error (*check)(const Options &) = nullptr) {
  CLI::App *command = app.add_subcommand(name, summary);
  command->callback([&action, options, run, check] {
    if (check)
      if (Error error = check(*options))
        throw CLI::ValidationError(error.message());
    action = [options, run] { return run(*options); };
  });
  return command;
}

/// A format for people: rows of mixed terms, whose name is as long as the list of
/// their parts, as `k1..k5i,k2..k4t,w2..w8,w4g64a` (i: int8 tables, t: one table
/// for all of the rows, g64: groups, a: with zeros); everything else as it is.
std::string shortFormat(const std::string &format);

/// One sequence of token ids a line, separated by spaces; empty lines are skipped.
Expected<std::vector<std::vector<int32_t>>> readTokenIds(const std::string &path);

/// The ids of one line of text (`where` stands in errors).
Expected<std::vector<int32_t>> parseTokenIds(const std::string &line, const std::string &where);

} // namespace skim::tool

#endif // SKIM_TOOLS_COMMAND_H
