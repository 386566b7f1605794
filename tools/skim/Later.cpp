//===- Later.cpp - commands that this version does not have -----------------===//

#include "Command.h"

using namespace skim;
using namespace skim::tool;

namespace {
struct Options {
  std::string name;
};
} // namespace

static Error run(const Options &options) {
  return fail("command not in this version", "skim " + options.name,
              "import, calibrate, quantize, compile, run, logits, eval, bench or inspect", options.name);
}

void skim::tool::addLater(CLI::App &app, Action &action) {
  for (auto [name, summary] :
       {std::pair{"tune", "searches schedule parameters"}, {"export", "onnx, gguf or safetensors"}}) {
    auto options = std::make_shared<Options>();
    options->name = name;
    addCommand(app, action, name, std::string(summary) + " (not in this version)", options, run)->allow_extras();
  }
}
