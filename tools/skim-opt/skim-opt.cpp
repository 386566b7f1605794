//===- skim-opt.cpp - runs passes on textual IR -----------------------------===//

#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "skim/InitAll.h"
#include "skim/Pipelines/Phases.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  mlir::registerAllPasses();
  skim::registerAllDialects(registry);
  skim::registerAllPasses();
  skim::registerPhasePipelines();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "Skim optimizer driver\n", registry));
}
