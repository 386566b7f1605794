//===- Pack.cpp - x as schedules read it ------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

Value device::narrowed(DeviceBuilder &b, Value x, Type half) {
  // Beyond the largest f16, a sum would be infinite and its products no numbers.
  double largest = 65504;
  if (half.isF16())
    x = b.min(b.max(x, b.f32(-largest)), b.f32(largest));
  return arith::TruncFOp::create(b.builder, b.loc, half, x);
}

Values device::loadEight(DeviceBuilder &b, Value row, Value column, int64_t k, bool aligned, Type element,
                         bool readOnly) {
  Values x;
  int64_t size = element.getIntOrFloatBitWidth() / 8;
  if (aligned && k % kStepColumns == 0) {
    Value at = b.element(row, column, element);
    for (int64_t byte = 0; byte < 8 * size; byte += 16)
      for (Value word : b.words(b.offset(at, byte), 4, readOnly)) {
        if (size == 4) {
          x.push_back(b.bitcast(word, element));
          continue;
        }
        Value both = b.bitcast(word, b.vec(2, element));
        x.append({b.extract(both, 0), b.extract(both, 1)});
      }
    return x;
  }
  for (int64_t i = 0; i < 8; ++i) {
    Value own = b.add(column, i);
    auto there = [&] {
      Value at = b.element(row, own, element);
      return Values{readOnly ? b.readOnly(element, at) : b.load(element, at)};
    };
    x.push_back(b.choose(b.less(own, b.i32(k)), there, [&] { return Values{b.constant(element, 0)}; })[0]);
  }
  return x;
}

Values PlainRows::load(DeviceBuilder &b, const Block &block, Value index, Value column) const {
  Value row = b.zeroExtend(b.add(block.first, index), b.i64());
  return loadEight(b, b.element(block.arguments[0], b.mul(row, block.k), b.f32()), column, block.k, true, b.f32(),
                   true);
}

Values device::packEight(DeviceBuilder &b, ArrayRef<Value> x, Value alpha, Value column, int64_t k, Type half) {
  Values factors, numbers, words;
  if (alpha)
    factors = loadEight(b, alpha, column, k, true, b.f16(), true);
  for (size_t i = 0; i < 8; ++i)
    numbers.push_back(narrowed(b, alpha ? b.mul(x[i], b.toFloat(factors[i])) : x[i], half));
  for (size_t i = 0; i < 8; i += 2)
    words.push_back(b.pairOf(numbers[i], numbers[i + 1], half));
  return words;
}

Values device::packedWords(DeviceBuilder &b, Value row, Value column, int64_t columns, Type half) {
  if (columns % kStepColumns == 0)
    return b.words(b.element(row, column, half), 4, true, "x");
  if (columns % 8 == 0)
    return b.choose(
        b.less(column, b.i32(columns)), [&] { return b.words(b.element(row, column, half), 4, true, "x"); },
        [&] { return Values(4, b.i32(0)); });
  Values numbers = loadEight(b, row, column, columns, false, half, true), words;
  for (size_t i = 0; i < 8; i += 2)
    words.push_back(b.pairOf(numbers[i], numbers[i + 1], half));
  return words;
}

std::string device::getOrCreatePack(OpBuilder &builder, Location loc, mlir::gpu::GPUModuleOp module,
                                    const RowSource &source, int64_t k, bool bf16, bool plain, int64_t scaled) {
  constexpr int64_t kThreads = 128;
  std::string name = "pack_k" + std::to_string(k) + (bf16 ? "_bf16" : "_f16") + source.name();
  if (scaled)
    name += "_scaled" + (plain || scaled > 1 ? std::to_string(scaled) + (plain ? "_plain" : "") : std::string());
  OpBuilder::InsertionGuard guard(builder);
  DeviceBuilder b(builder, loc);
  SmallVector<Type> types;
  for (char letter : source.arguments())
    types.push_back(letter == 'p' ? b.globalPtr() : b.i32());
  size_t own = types.size();
  types.append((plain ? 1 : 0) + 2 * scaled, b.globalPtr());
  auto kernel = DeviceBuilder::beginKernel(builder, module, loc, name, types, kThreads);
  if (!kernel)
    return name;
  Type half = bf16 ? b.bf16() : b.f16();
  ValueRange arguments = kernel.getArguments();
  RowSource::Block block = {module,     name,     kThreads, k, llvm::to_vector(arguments.take_front(own)),
                            b.blockY(), b.i32(1), 1,        {}};
  block.prepared = source.prepare(b, block);
  Value column = b.add(b.mul(b.blockX(), 8 * kThreads), b.mul(b.threadX(), 8));
  Value first = b.mul(b.zeroExtend(b.blockY(), b.i64()), packedColumns(k));
  b.when(b.less(column, b.i32(packedColumns(k))), [&] {
    Values x = source.load(b, block, b.i32(0), column);
    for (size_t i = own; i < arguments.size();) {
      Value to = b.element(b.element(arguments[i], first, half), column, half);
      bool isPlain = plain && i == own;
      b.storeWords(packEight(b, x, isPlain ? Value() : arguments[i + 1], column, k, half), to);
      i += isPlain ? 1 : 2;
    }
  });
  return name;
}
