//===- SimulateGPU.cpp - GPU kernels as functions of the host ---------------===//

#include "skim/Target/GPU/SimulateGPU.h"

#include "Simulate.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/PassManager.h"
#include "skim/Transforms/LowerLane.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_SIMULATEGPU
#include "skim/Target/GPU/SimulateGPU.h.inc"
} // namespace skim

using namespace skim;

namespace {
class SimulateGPUPass : public skim::impl::SimulateGPUBase<SimulateGPUPass> {
public:
  using SimulateGPUBase::SimulateGPUBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    SimulateGPUBase::getDependentDialects(registry);
    createLowerLane()->getDependentDialects(registry);
  }

  void runOnOperation() override {
    ModuleOp module = getOperation();
    // Lane operations that touch memory must be accesses before these are counted.
    OpPassManager lanes(gpu::GPUModuleOp::getOperationName());
    lanes.addPass(createLowerLane());
    Json kernels = Json::array();
    llvm::StringSet<> names;
    for (auto source : llvm::make_early_inc_range(module.getOps<gpu::GPUModuleOp>())) {
      if (failed(runPipeline(lanes, source)) || failed(simulate::checkWhitelist(source)))
        return signalPassFailure();
      for (auto kernel : source.getOps<gpu::GPUFuncOp>()) {
        if (!names.insert(kernel.getName()).second) {
          kernel.emitOpError() << "is there twice: expected kernels with different names";
          return signalPassFailure();
        }
        Json description;
        std::string symbol = "skim_sim_kernel_" + std::to_string(kernels.size());
        if (failed(simulate::rewriteKernel(kernel, module, symbol, description)))
          return signalPassFailure();
        kernels.push_back(std::move(description));
      }
      source.erase();
    }
    module->removeAttr(gpu::GPUDialect::getContainerModuleAttrName());
    std::string text = dumpJson({{"version", SKIM_SIM_VERSION}, {"kernels", std::move(kernels)}});
    text.push_back('\0');
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    auto type = LLVM::LLVMArrayType::get(builder.getI8Type(), text.size());
    LLVM::GlobalOp::create(builder, module.getLoc(), type, /*isConstant=*/true, LLVM::Linkage::External,
                           SKIM_SIM_DESCRIPTION_SYMBOL, builder.getStringAttr(text));
  }
};
} // namespace
