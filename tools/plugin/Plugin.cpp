//===- Plugin.cpp - Skim's dialects and passes for stock mlir-opt -----------===//

#include "mlir/Tools/Plugins/DialectPlugin.h"
#include "mlir/Tools/Plugins/PassPlugin.h"
#include "skim/InitAll.h"
#include "skim/Pipelines/Phases.h"

extern "C" LLVM_ATTRIBUTE_WEAK mlir::DialectPluginLibraryInfo mlirGetDialectPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "Skim", "0.1",
          [](mlir::DialectRegistry *registry) { skim::registerAllDialects(*registry); }};
}

extern "C" LLVM_ATTRIBUTE_WEAK mlir::PassPluginLibraryInfo mlirGetPassPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "Skim", "0.1", [] {
            skim::registerAllPasses();
            skim::registerPhasePipelines();
          }};
}
