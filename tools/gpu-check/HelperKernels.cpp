#include "Format.h"
#include "Pack.h"

#include "skim/Target/GPU/DeviceBuilder.h"

using namespace mlir;
using namespace skim;
using namespace skim::gpucheck;

static void addFill(OpBuilder &builder, gpu::GPUModuleOp module) {
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder types(builder, module.getLoc());
  Type word = types.i32();
  auto kernel = DeviceBuilder::beginKernel(builder, module, module.getLoc(), "fill",
                                           {types.globalPtr(), word, word, word, word, word}, kHelperThreads);
  DeviceBuilder b(builder, module.getLoc());
  auto a = kernel.getBody().getArguments();
  Value i = b.add(b.mul(b.blockX(), kHelperThreads), b.threadX());
  b.when(b.less(i, a[1]), [&] {
    // hashWord() of Format.h.
    Value z = b.bitXor(b.mul(b.add(i, a[2]), b.word(0x9E3779B1u)), b.mul(a[3], b.word(0x85EBCA77u)));
    z = b.mul(b.bitXor(z, b.shrWord(z, 16)), b.word(0x85EBCA6Bu));
    z = b.mul(b.bitXor(z, b.shrWord(z, 13)), b.word(0xC2B2AE35u));
    z = b.bitXor(z, b.shrWord(z, 16));
    b.store(b.bitOr(b.bitAnd(z, a[4]), a[5]), b.element(a[0], b.zeroExtend(i, b.i64()), b.i32()));
  });
}

static void addRead(OpBuilder &builder, gpu::GPUModuleOp module) {
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder types(builder, module.getLoc());
  auto kernel =
      DeviceBuilder::beginKernel(builder, module, module.getLoc(), "read",
                                 {types.globalPtr(), types.i32(), types.i32(), types.globalPtr()}, kHelperThreads);
  DeviceBuilder b(builder, module.getLoc());
  auto a = kernel.getBody().getArguments();
  Value thread = b.add(b.mul(b.blockX(), kHelperThreads), b.threadX()), stride = a[2];
  Value mixed =
      b.loop(thread, a[1], b.mul(stride, kReadsInFlight), ValueRange{b.i32(0)}, [&](Value i, ValueRange carried) {
        KernelBuilder::Values requests;
        for (uint32_t part = 0; part < kReadsInFlight; ++part) {
          Value unit = b.zeroExtend(b.add(i, b.mul(stride, part)), b.i64());
          requests.push_back(b.request(b.offset(a[0], b.mul(unit, 16)), 4, "read"));
        }
        Value mix = carried[0];
        for (Value request : requests)
          for (Value word : b.wordsOf(request))
            mix = b.bitXor(mix, word);
        return KernelBuilder::Values{mix};
      })[0];
  b.store(mixed, b.element(a[3], b.zeroExtend(thread, b.i64()), b.i32()));
}

static void addNothing(OpBuilder &builder, gpu::GPUModuleOp module) {
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder::beginKernel(builder, module, module.getLoc(), "nothing", {}, kHelperThreads);
}

void gpucheck::addHelperKernels(OpBuilder &builder, gpu::GPUModuleOp module) {
  addFill(builder, module);
  addRead(builder, module);
  addNothing(builder, module);
}
