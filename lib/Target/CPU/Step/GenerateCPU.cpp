//===- GenerateCPU.cpp - compiles the model function for a CPU --------------===//

#include "skim/Target/CPU/GenerateCPU.h"
#include "skim/Target/CPU/Step.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_GENERATECPU
#include "skim/Target/CPU/GenerateCPU.h.inc"
} // namespace skim

using namespace skim;

/// The manifest's "program" as an attribute.
static DictionaryAttr programAttr(Builder &builder, const ProgramInfo &info) {
  SmallVector<Attribute> weights, caches;
  for (const ProgramWeight &weight : info.weights)
    weights.push_back(builder.getStringAttr(weight.name));
  for (const ProgramCache &cache : info.caches)
    caches.push_back(builder.getDenseI64ArrayAttr({cache.heads, cache.dim, cache.bytesPerElement}));
  NamedAttrList program;
  for (auto [name, value] :
       {std::pair("vocabulary", info.vocabulary), std::pair("context", info.context),
        std::pair("max_rows", info.maxRows), std::pair("scratch_fixed", info.scratchFixed),
        std::pair("scratch_per_row", info.scratchPerRow), std::pair("scratch_per_thread", info.scratchPerThread),
        std::pair("sample_scratch", info.sampleScratch), std::pair("barriers", info.barriers)})
    program.set(name, builder.getI64IntegerAttr(value));
  program.set("weights", builder.getArrayAttr(weights));
  program.set("caches", builder.getArrayAttr(caches));
  return program.getDictionary(builder.getContext());
}

namespace {
class GenerateCPUPass : public skim::impl::GenerateCPUBase<GenerateCPUPass> {
public:
  using GenerateCPUBase::GenerateCPUBase;
  void runOnOperation() override {
    ModuleOp module = getOperation();
    Expected<TargetInfo> parsed = parseCPUTarget(target.getValue());
    if (!parsed) {
      module.emitError() << parsed.message();
      return signalPassFailure();
    }
    OwningOpRef<ModuleOp> code;
    Expected<ProgramInfo> info = generateStep(module, *parsed, code);
    if (!info) {
      module.emitError() << info.message();
      return signalPassFailure();
    }
    Builder builder(&getContext());
    module->setAttr("skim.program", programAttr(builder, *info));
    module.getBodyRegion().takeBody(code->getBodyRegion());
  }
};
} // namespace
