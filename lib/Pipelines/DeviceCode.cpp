//===- DeviceCode.cpp - a GPU's program as files -----------------------------===//

#include "DeviceCode.h"

#include "skim/Skim/SkimOps.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Target/CPU/Step.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Transforms/AssignEncodings.h"

#include <cstdio>

using namespace mlir;
using namespace skim;

Expected<int64_t> skim::emitSampler(MLIRContext &context, const TargetInfo &host, int64_t vocabulary,
                                    const std::string &path) {
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  int64_t scratch = generateSampler(*module, host, vocabulary);
  if (Error error = emitSharedObject(*module, host, path))
    return error;
  return scratch;
}

Error skim::emitKernels(ModuleOp code, const GPUTarget &target, const AtomicDirectory &work, const std::string &folder,
                        DeviceFiles &files) {
  Expected<std::string> ptx = emitPTX(code, "step", target);
  if (!ptx)
    return ptx.takeError();
  files.kernels = folder + "/kernels.ptx";
  if (Error error = writeFileAtomically(work.file(files.kernels), *ptx))
    return error;
  if (!findPtxas())
    return Error::success();
  Expected<std::string> cubin = assemble(*ptx, target);
  if (!cubin) {
    // One that is older than the chip, say: the driver assembles PTX too.
    std::fprintf(stderr, "skim: %s: PTX only: %s\n", target.name.c_str(), cubin.message().c_str());
    return Error::success();
  }
  files.cubin = folder + "/kernels.cubin";
  return writeFileAtomically(work.file(files.cubin), *cubin);
}

Error skim::checkKernels(ModuleOp module, StringRef mode) {
  Error error = Error::success();
  module.walk([&](LinearOp linear) {
    auto term = linear->getAttrOfType<WeightEncoding>(kEncodingAttr);
    if (error || !term)
      return;
    auto type = cast<RankedTensorType>(linear.getWeight().getType());
    LinearCall call;
    call.k = type.getDimSize(1);
    bool isPlain = mode.empty() || mode == "f32" || isa<DenseAttr>(Attribute(term));
    call.mode = isPlain ? "f16" : mode;
    LinearPanel panel;
    panel.term = term;
    panel.n = type.getDimSize(0);
    panel.weights.resize(getComponents(term, type.getShape()).size());
    call.panels.push_back(std::move(panel));
    error = device::checkLinear(call);
  });
  return error;
}
