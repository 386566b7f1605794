//===- Main.cpp - what main does in both programs ----------------------------===//

#include "Command.h"
#include "skim/Support/AtomicOutput.h"

#include <cstdio>

using namespace skim;
using namespace skim::tool;

/// One line on standard error; control characters of user input are escaped by Failure.
static int report(const std::string &message, int status) {
  std::fprintf(stderr, "skim: error: %s\n", message.c_str());
  return status;
}

int skim::tool::runProgram(int argc, char **argv, const std::function<void(CLI::App &, Action &)> &add) {
  ignoreFileSizeSignal();
  CLI::App app("Compiles ONNX language models to any number of bits.", "skim");
  app.set_version_flag("--version", "skim 0.1.0");
  app.require_subcommand(1);
  Action action;
  add(app, action);
  // CLI11 only misses a command; a wrong name deserves to be said.
  if (argc > 1 && argv[1][0] != '-' &&
      app.get_subcommands([&](const CLI::App *command) { return command->get_name() == argv[1]; }).empty())
    return report(fail("unknown command", "", "one of skim --help", argv[1]).message(), 2);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success &help) {
    return app.exit(help);
  } catch (const CLI::ParseError &error) {
    return report(fail(error.what()).message() + " (see skim --help)", 2);
  }
  // Memory that a model needs may not be there: that is the input's failure, not a signal.
  try {
    if (Error error = action())
      return report(error.message(), 1);
  } catch (const std::bad_alloc &) {
    return report("out of memory", 1);
  }
  if (std::fflush(stdout) || std::ferror(stdout))
    return report("cannot write to standard output", 1);
  return 0;
}
