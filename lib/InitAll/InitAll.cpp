#include "skim/InitAll.h"

#include "mlir/IR/DialectRegistry.h"
#include "skim/LM/LMOps.h"
#include "skim/ONNX/ONNXOps.h"
#include "skim/Skim/SkimDialect.h"

void skim::registerAllDialects(mlir::DialectRegistry &registry) {
  registry.insert<SkimDialect, lm::LMDialect, onnx::ONNXDialect>();
}

void skim::registerAllPasses() {}
