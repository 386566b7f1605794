//===- SimulatorLibrary.cpp - GPU kernels in the simulator ------------------===//

#include "skim/Target/GPU/SimulatorLibrary.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Pass/PassManager.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Target/GPU/SimulateGPU.h"
#include "skim/Transforms/LowerLane.h"
#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace skim;

void skim::prepareSimulation(MLIRContext &context) {
  prepareEmission(context);
  context.loadDialect<gpu::GPUDialect, NVVM::NVVMDialect, ub::UBDialect, index::IndexDialect>();
}

/// bf16 arithmetic in f32, as few CPUs have it and the libraries' conversions are
/// not there; then what the CPU's kernels go through as well.
static void buildPipeline(OpPassManager &manager) {
  manager.addPass(createSimulateGPU());
  manager.addPass(createLowerLane()); // of functions of the host that stand beside
  arith::ArithEmulateUnsupportedFloatsOptions floats;
  floats.sourceTypeStrs = {"bf16"};
  floats.targetTypeStr = "f32";
  manager.addPass(arith::createArithEmulateUnsupportedFloats(floats));
  math::MathExtendToSupportedTypesOptions math;
  math.extraTypeStrs = {"f16"};
  math.targetTypeStr = "f32";
  manager.addPass(math::createMathExtendToSupportedTypes(math));
  arith::ArithExpandOpsPassOptions expand;
  expand.includeBf16 = true;
  manager.addPass(arith::createArithExpandOpsPass(expand));
  manager.addPass(createSCFToControlFlowPass());
  manager.addPass(createConvertVectorToLLVMPass());
  manager.addPass(createConvertMathToLLVMPass());
  manager.addPass(createArithToLLVMConversionPass());
  manager.addPass(createConvertIndexToLLVMPass());
  manager.addPass(createConvertControlFlowToLLVMPass());
  manager.addPass(createConvertFuncToLLVMPass());
  manager.addPass(createUBToLLVMConversionPass());
  manager.addPass(createReconcileUnrealizedCastsPass());
}

Error skim::emitSimulation(ModuleOp module, const std::string &path) {
  prepareSimulation(*module.getContext());
  Expected<TargetInfo> host = parseCPUTarget("cpu");
  if (!host)
    return host.takeError();
  std::string detail;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    if (detail.empty() && diagnostic.getSeverity() == DiagnosticSeverity::Error) {
      llvm::raw_string_ostream stream(detail);
      if (!isa<UnknownLoc>(diagnostic.getLocation()))
        stream << diagnostic.getLocation() << ": ";
      stream << diagnostic;
    }
    return success();
  });
  PassManager manager(module.getContext(), ModuleOp::getOperationName());
  buildPipeline(manager);
  if (failed(manager.run(module)))
    return fail("cannot simulate GPU kernels", "skim-simulate-gpu", "", detail);
  return emitLoweredSharedObject(module, *host, path);
}

Expected<std::unique_ptr<sim::Module>> skim::simulateKernels(ModuleOp module) {
  SmallString<128> path;
  if (std::error_code code = llvm::sys::fs::createTemporaryFile("skim-simulation", "so", path))
    return fail("cannot write", "the folder of temporary files", "", code.message());
  Error error = emitSimulation(module, path.str().str());
  Expected<std::unique_ptr<sim::Module>> loaded = fail("not loaded");
  if (!error)
    loaded = sim::Module::open(path.str().str());
  llvm::sys::fs::remove(path);
  if (error)
    return error;
  return loaded;
}
