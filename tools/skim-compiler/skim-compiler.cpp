//===- skim-compiler.cpp - the commands of skim that compile -----------------===//

#include "Command.h"

using namespace skim::tool;

int main(int argc, char **argv) {
  return runProgram(argc, argv, [](CLI::App &app, Action &action) {
    addImport(app, action);
    addCalibrate(app, action);
    addQuantize(app, action);
    addCompile(app, action);
    addCompare(app, action);
    addBench(app, action);
    addInspect(app, action);
  });
}
