//===- Pack.cpp - x as schedules read it ------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

std::string device::getOrCreatePack(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module, int64_t k,
                                    bool bf16, bool scaled) {
  std::string name = "pack_k" + std::to_string(k) + (bf16 ? "_bf16" : "_f16") + (scaled ? "_scaled" : "");
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder b(builder, loc);
  SmallVector<Type> types(scaled ? 3 : 2, b.globalPtr());
  auto kernel = DeviceBuilder::beginKernel(builder, module, loc, name, types, 128);
  if (!kernel)
    return name;
  Type half = bf16 ? b.bf16() : b.f16();
  Value column = b.add(b.mul(b.blockX(), 1024), b.mul(b.threadX(), 8)), row = b.zeroExtend(b.blockY(), b.i64());
  auto arguments = kernel.getArguments();
  Value from = b.element(arguments[0], b.mul(row, k), b.f32());
  Value to = b.element(arguments[1], b.mul(row, packedColumns(k)), half);
  // Beyond the largest f16, a sum would be infinite and its products no numbers.
  auto narrow = [&](Value x) {
    double largest = 65504;
    return bf16 ? x : b.min(b.max(x, b.f32(-largest)), b.f32(largest));
  };
  b.when(b.less(column, b.i32(packedColumns(k))), [&] {
    KernelBuilder::Values x, alpha, pairs;
    if (k % 8 == 0 && packedColumns(k) == k) {
      for (int64_t i = 0; i < 8; i += 4)
        for (Value word : b.words(b.offset(b.element(from, column, b.f32()), 4 * i), 4, true))
          x.push_back(b.bitcast(word, b.f32()));
      if (scaled)
        for (Value word : b.words(b.element(arguments[2], column, b.f16()), 4, true)) {
          Value both = b.bitcast(word, b.vec(2, b.f16()));
          alpha.push_back(b.extract(both, 0));
          alpha.push_back(b.extract(both, 1));
        }
    } else {
      for (int64_t i = 0; i < 8; ++i) {
        Value own = b.add(column, i);
        auto loadOne = [&](Value base, Type type) {
          return b.choose(
              b.less(own, b.i32(k)),
              [&] { return KernelBuilder::Values{b.readOnly(type, b.element(base, own, type))}; },
              [&] { return KernelBuilder::Values{b.constant(type, 0)}; })[0];
        };
        x.push_back(loadOne(from, b.f32()));
        if (scaled)
          alpha.push_back(loadOne(arguments[2], b.f16()));
      }
    }
    for (int64_t i = 0; i < 8; ++i)
      x[i] = narrow(scaled ? b.mul(x[i], b.toFloat(alpha[i])) : x[i]);
    for (int64_t i = 0; i < 8; i += 2)
      pairs.push_back(b.pairOf(x[i], x[i + 1], half));
    b.storeWords(pairs, b.element(to, column, half));
  });
  return name;
}
