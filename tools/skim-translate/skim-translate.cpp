//===- skim-translate.cpp - models into IR and out of it --------------------===//
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllTranslations.h"
#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"
#include "mlir/Tools/mlir-translate/Translation.h"
#include "skim/Import/ONNX/ImportONNX.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Target/GPU/Emit.h"
#include "llvm/Support/CommandLine.h"

static llvm::cl::opt<std::string> gpuTarget("gpu-target", llvm::cl::desc("of --gpu-to-ptx: nvidia:sm_90, …"),
                                            llvm::cl::init("nvidia:sm_80"));

/// The first gpu.module of the input as PTX.
static void registerPTXTranslation() {
  static mlir::TranslateFromMLIRRegistration registration(
      "gpu-to-ptx", "compile the first gpu.module to PTX",
      [](mlir::ModuleOp module, llvm::raw_ostream &output) -> llvm::LogicalResult {
        auto kernels = module.getOps<mlir::gpu::GPUModuleOp>();
        if (kernels.empty())
          return module.emitError("expected a gpu.module");
        auto target = skim::parseGPUTarget(gpuTarget);
        if (!target)
          return module.emitError(target.message());
        auto text = skim::emitPTX(module, (*kernels.begin()).getName(), *target);
        if (!text)
          return module.emitError(text.message());
        output << *text;
        return llvm::success();
      },
      [](mlir::DialectRegistry &registry) {
        mlir::registerAllDialects(registry);
        registry.insert<skim::SkimDialect>();
      });
}

int main(int argc, char **argv) {
  mlir::registerAllTranslations();
  skim::registerImportONNXTranslation();
  registerPTXTranslation();
  return failed(mlir::mlirTranslateMain(argc, argv, "Skim translation driver\n"));
}
