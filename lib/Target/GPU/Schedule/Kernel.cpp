//===- Kernel.cpp - signatures, arguments, results --------------------------===//

#include "Schedules.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

std::string KernelSignature::name(StringRef schedule) const {
  std::string text = leaf.getShortName();
  for (char &c : text)
    if (!llvm::isAlnum(c))
      c = '_';
  std::string name = (schedule + "_" + text + "_k" + Twine(k) + (bf16 ? "_bf16" : "_f16") + "_w" + Twine(warps)).str();
  if (xTiles > 1)
    name += "_x" + std::to_string(8 * xTiles);
  if (epilogue != LinearEpilogue::Store)
    name += epilogue == LinearEpilogue::Add ? "_add" : "_gate";
  if (permutation)
    name += permutation.isInteger(16) ? "_rows16" : "_rows32";
  if (biased)
    name += "_bias";
  if (partial)
    name += "_partial";
  return name;
}

std::string device::getOrCreateKernel(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module,
                                      const KernelSignature &signature, StringRef schedule, size_t components,
                                      llvm::function_ref<void(DeviceBuilder &, const KernelArguments &)> body) {
  std::string name = signature.name(schedule);
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder b(builder, loc);
  SmallVector<Type> types = {b.globalPtr(), b.globalPtr(), b.i32(), b.i32(), b.i32()};
  bool gated = signature.epilogue == LinearEpilogue::Gate;
  types.append((signature.permutation ? 1 : 0) + (signature.biased ? 1 : 0) + (gated ? 1 : 0) + components,
               b.globalPtr());
  auto kernel = DeviceBuilder::beginKernel(builder, module, loc, name, types, 32 * signature.warps);
  if (!kernel)
    return name;
  // Else ptxas spills a few words of some large tiles to fit a second block beside the first. With sums by groups it
  // does so if it may use more registers; measured with 13.0.
  int64_t group = makeDecoder(signature.leaf, {signature.k, signature.bf16})->group();
  if (signature.xTiles >= 8 && (group == 0 || group >= signature.k))
    kernel->setAttr("nvvm.minctasm", builder.getI32IntegerAttr(1));
  auto arguments = kernel.getArguments();
  KernelArguments k;
  k.x = arguments[0];
  k.y = arguments[1];
  k.m = arguments[2];
  k.n = arguments[3];
  k.yStride = arguments[4];
  size_t next = 5;
  if (signature.permutation)
    k.permutation = arguments[next++];
  if (signature.biased)
    k.bias = arguments[next++];
  if (gated)
    k.gate = arguments[next++];
  for (; next < arguments.size(); ++next)
    k.components.push_back(arguments[next]);
  body(b, k);
  return name;
}

void device::storeResult(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &k, Value weightRow,
                         Value xRow, Value value) {
  Value column = weightRow;
  if (signature.permutation) {
    column = b.readOnly(signature.permutation, b.element(k.permutation, weightRow, signature.permutation));
    if (signature.permutation.isInteger(16))
      column = b.zeroExtend(column, b.i32());
  }
  if (signature.biased)
    value = b.add(value, b.readOnly(b.f32(), b.element(k.bias, column, b.f32())));
  Value index =
      b.add(b.mul(b.zeroExtend(xRow, b.i64()), b.zeroExtend(k.yStride, b.i64())), b.zeroExtend(column, b.i64()));
  Value at = b.element(k.y, index, b.f32());
  if (signature.epilogue == LinearEpilogue::Add)
    value = b.add(b.load(b.f32(), at), value);
  if (signature.epilogue == LinearEpilogue::Gate)
    value = b.mul(b.silu(b.readOnly(b.f32(), b.element(k.gate, index, b.f32()))), value);
  b.store(value, at);
}
