//===- skim.cpp - the program: runs packages, hands compiling on -------------===//

#include "Command.h"

#include <climits>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <unistd.h>

using namespace skim;
using namespace skim::tool;

namespace {
struct None {};
} // namespace

/// Commands of skim-compiler, for the list of `skim --help`.
static void addCompilerCommands(CLI::App &app, Action &action) {
  Error (*never)(const None &) = [](const None &) { return Error::success(); };
  for (auto [name, summary] : {std::pair{"import", "an ONNX model as IR"},
                               {"calibrate", "statistics of a model over text"},
                               {"quantize", "an ONNX model to a package of fewer bits"},
                               {"compile", "code for a target, weights as they are"},
                               {"compare", "methods at equal true bits"}})
    addCommand(app, action, name, summary, std::make_shared<None>(), never);
}

/// True where the arguments ask for what needs the compiler: its commands,
/// `inspect` of a model file, `bench` of a shape or for a GPU that is not here.
static bool needsCompiler(int argc, char **argv) {
  if (argc < 2)
    return false;
  std::string_view command = argv[1];
  if (command == "import" || command == "calibrate" || command == "quantize" || command == "compile" ||
      command == "compare")
    return true;
  std::error_code code;
  for (int i = 2; i < argc; ++i) {
    if (command == "inspect" && std::filesystem::is_regular_file(argv[i], code))
      return true;
    if (command == "bench" && (std::strncmp(argv[i], "--shape", 7) == 0 || std::strcmp(argv[i], "--model") == 0))
      return true;
  }
  return false;
}

int main(int argc, char **argv) {
  if (needsCompiler(argc, argv)) {
    std::error_code code;
    std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", code);
    std::string compiler = (self.parent_path() / "skim-compiler").string();
    execv(compiler.c_str(), argv);
    std::fprintf(stderr, "skim: error: %s\n",
                 fail("cannot start the compiler", compiler, "an executable beside skim", std::strerror(errno))
                     .message()
                     .c_str());
    return 1;
  }
  return runProgram(argc, argv, [](CLI::App &app, Action &action) {
    addCompilerCommands(app, action);
    addRun(app, action);
    addLogits(app, action);
    addEval(app, action);
    addBench(app, action);
    addInspect(app, action);
    addLater(app, action);
  });
}
