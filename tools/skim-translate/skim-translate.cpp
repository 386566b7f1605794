//===- skim-translate.cpp - models into IR and out of it --------------------===//
#include "mlir/InitAllTranslations.h"
#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"
#include "skim/Import/ONNX/ImportONNX.h"

int main(int argc, char **argv) {
  mlir::registerAllTranslations();
  skim::registerImportONNXTranslation();
  return failed(mlir::mlirTranslateMain(argc, argv, "Skim translation driver\n"));
}
