//===- GenerateGPULinear.cpp - emits the GPU kernels of linear layers -------===//

#include "skim/Target/GPU/GenerateGPULinear.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/Linear.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_GENERATEGPULINEAR
#include "skim/Target/GPU/GenerateGPULinear.h.inc"
} // namespace skim

using namespace skim;

namespace {
class GenerateGPULinearPass : public skim::impl::GenerateGPULinearBase<GenerateGPULinearPass> {
public:
  using GenerateGPULinearBase::GenerateGPULinearBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    Expected<GPUTarget> parsed = parseGPUTarget(target.getValue());
    if (!parsed) {
      module.emitError() << parsed.message();
      return signalPassFailure();
    }
    if (rows < 1) {
      module.emitError() << "option 'rows': expected a positive number, got " << rows.getValue();
      return signalPassFailure();
    }
    SmallVector<LinearOp> linears;
    module.walk([&](LinearOp linear) {
      if (getEncoding(linear.getWeight().getType()))
        linears.push_back(linear);
    });
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    auto kernels = mlir::gpu::GPUModuleOp::create(builder, module.getLoc(), "kernels");
    for (LinearOp linear : linears) {
      LinearCall call = callOf(linear);
      auto plan = device::emitLinear(builder, linear.getLoc(), kernels, *parsed, call, rows);
      if (!plan) {
        linear.emitError() << plan.message();
        return signalPassFailure();
      }
      SmallVector<Attribute> launches;
      for (const device::LinearLaunch &launch : plan->launches) {
        if (launch.product) {
          int64_t shape[] = {launch.product->n, launch.product->k};
          launches.push_back(
              builder.getDictionaryAttr({builder.getNamedAttr("library", builder.getStringAttr("cublas")),
                                         builder.getNamedAttr("shape", builder.getDenseI64ArrayAttr(shape))}));
          continue;
        }
        launches.push_back(builder.getDictionaryAttr(
            {builder.getNamedAttr("kernel", FlatSymbolRefAttr::get(&getContext(), launch.kernel)),
             builder.getNamedAttr("grid", builder.getDenseI64ArrayAttr(launch.extents(rows))),
             builder.getNamedAttr("threads", builder.getI64IntegerAttr(launch.threads))}));
      }
      linear->setAttr("skim.launches", builder.getArrayAttr(launches));
    }
  }

private:
  LinearCall callOf(LinearOp linear) {
    auto type = cast<RankedTensorType>(linear.getWeight().getType());
    LinearCall call;
    call.k = type.getDimSize(1);
    call.mode = mode;
    LinearPanel panel;
    panel.term = getEncoding(type);
    panel.n = type.getDimSize(0);
    size_t components = getComponents(panel.term, type.getShape()).size();
    for (size_t i = 0; i < components; ++i)
      panel.weights.push_back(static_cast<int64_t>(i));
    if (linear.getBias())
      panel.biasWeight = static_cast<int64_t>(components);
    call.panels.push_back(panel);
    return call;
  }
};
} // namespace

void skim::registerLowerGPUPipeline() {
  PassPipelineRegistration<>("skim-lower-gpu", "lowers GPU kernels to the NVVM and LLVM dialects",
                             [](OpPassManager &manager) {
                               std::string pipeline = gpuLoweringPipeline();
                               StringRef inner = StringRef(pipeline).drop_front(strlen("builtin.module(")).drop_back();
                               LogicalResult parsed = parsePassPipeline(inner, manager);
                               assert(succeeded(parsed) && "the pipeline's passes are registered");
                               (void)parsed;
                             });
}
