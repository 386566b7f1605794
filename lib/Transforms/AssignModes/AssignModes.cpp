//===- AssignModes.cpp - decides the activation mode of linears -------------===//

#include "skim/Transforms/AssignModes.h"

#include "skim/Skim/SkimOps.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_ASSIGNMODES
#include "skim/Transforms/AssignModes.h.inc"
} // namespace skim

using namespace skim;

namespace {
class AssignModesPass : public skim::impl::AssignModesBase<AssignModesPass> {
public:
  using AssignModesBase::AssignModesBase;

  void runOnOperation() override {
    if (mode != "f32" && mode != "bf16" && mode != "a8") {
      getOperation()->emitError() << "option 'mode': expected f32, bf16 or a8, got '" << mode << "'";
      return signalPassFailure();
    }
    getOperation()->walk([&](LinearOp linear) {
      if (linear.getMode())
        return;
      WeightEncoding encoding = getEncoding(linear.getWeight().getType());
      bool quantized = encoding && !isa<DenseAttr>(encoding);
      linear.setMode(quantized ? StringRef(mode) : "f32");
    });
  }
};
} // namespace
