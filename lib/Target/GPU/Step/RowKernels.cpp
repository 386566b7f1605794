//===- RowKernels.cpp - norms, elementwise expressions, rows ----------------===//

#include "KernelValues.h"

#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Arguments = ArrayRef<BlockArgument>;

/// Kernels with a thread for each element of a row.
static constexpr int64_t kMapThreads = 256;
static int64_t mapBlocks(int64_t channels) { return (channels + kMapThreads - 1) / kMapThreads; }

/// Calls body(row, column) in the threads whose column there is.
static void overColumns(StepBuilder &b, int64_t channels, llvm::function_ref<void(Value, Value)> body) {
  Value column = b.add(b.mul(b.blockY(), kMapThreads), b.threadX());
  b.when(b.less(column, b.i32(channels)), [&] { body(b.blockX(), column); });
}

StepKernel device::normKernel(const KernelPlace &place, int64_t channels, int64_t heads, double epsilon,
                              double offset) {
  std::string name = "rms_norm_c" + std::to_string(channels) + "_h" + std::to_string(heads) + "_e" +
                     spellNumber(epsilon) + "_o" + spellNumber(offset);
  int64_t size = channels / heads, threads = std::clamp<int64_t>((size + 31) / 32 * 32, 32, 256), warps = threads / 32;
  makeKernel(place, name, kernelTypes(place, "pnpnp"), threads, [&](StepBuilder &b, Arguments a) {
    Value row = b.blockX(), first = b.mul(b.blockY(), size);
    Value sum =
        b.loop(b.threadX(), b.i32(size), b.i32(threads), ValueRange{b.f32(0)}, [&](Value c, ValueRange carried) {
          Value x = b.loadF32(b.at(a[0], row, a[1], b.add(first, c)));
          return KernelBuilder::Values{b.fma(x, x, carried[0])};
        })[0];
    sum = b.warpSum(sum);
    if (warps > 1) {
      Value partial = b.sharedMemory(place.module, name + "_partial", warps * 4);
      b.when(b.equal(b.lane(), b.i32(0)), [&] { b.store(sum, b.element(partial, b.warp(), b.f32())); });
      b.barrier();
      sum = b.loadF32(partial);
      for (int64_t warp = 1; warp < warps; ++warp)
        sum = b.add(sum, b.loadF32(b.offset(partial, warp * 4)));
    }
    Value mean = b.mul(sum, b.f32(1.0 / static_cast<double>(size)));
    Value factor = b.div(b.f32(1), b.sqrt(b.add(mean, b.f32(epsilon))));
    b.strided(size, threads, [&](Value c) {
      Value weight = b.readOnly(b.f32(), b.element(a[4], b.wide(c), b.f32()));
      if (offset != 0)
        weight = b.add(weight, b.f32(offset));
      Value x = b.loadF32(b.at(a[0], row, a[1], b.add(first, c)));
      b.store(b.mul(b.mul(x, factor), weight), b.at(a[2], row, a[3], b.add(first, c)));
    });
  });
  return {name, threads, heads};
}

//===--- elementwise ---===//

using Apply = Value (*)(StepBuilder &, ArrayRef<Value>);

/// Every elementwise operation with its code.
static const llvm::StringMap<Apply> &operations() {
  static const llvm::StringMap<Apply> table = {
      {"arith.addf", [](StepBuilder &b, ArrayRef<Value> x) { return b.add(x[0], x[1]); }},
      {"arith.subf", [](StepBuilder &b, ArrayRef<Value> x) { return b.sub(x[0], x[1]); }},
      {"arith.mulf", [](StepBuilder &b, ArrayRef<Value> x) { return b.mul(x[0], x[1]); }},
      {"arith.divf", [](StepBuilder &b, ArrayRef<Value> x) { return b.div(x[0], x[1]); }},
      {"arith.negf", [](StepBuilder &b, ArrayRef<Value> x) { return b.negate(x[0]); }},
      {"arith.maximumf", [](StepBuilder &b, ArrayRef<Value> x) { return b.max(x[0], x[1]); }},
      {"arith.minimumf", [](StepBuilder &b, ArrayRef<Value> x) { return b.min(x[0], x[1]); }},
      {"lm.silu", [](StepBuilder &b, ArrayRef<Value> x) { return b.silu(x[0]); }},
      {"math.exp", [](StepBuilder &b, ArrayRef<Value> x) { return b.exp(x[0]); }},
      {"math.tanh", [](StepBuilder &b, ArrayRef<Value> x) { return b.tanh(x[0]); }},
      {"math.sqrt", [](StepBuilder &b, ArrayRef<Value> x) { return b.sqrt(x[0]); }},
      {"math.rsqrt", [](StepBuilder &b, ArrayRef<Value> x) { return b.div(b.f32(1), b.sqrt(x[0])); }},
      {"math.absf", [](StepBuilder &b, ArrayRef<Value> x) { return b.abs(x[0]); }},
  };
  return table;
}

bool device::isElementwise(StringRef operation) { return operations().contains(operation); }

std::string device::symbolOf(const Expression &expression) {
  std::string text;
  for (char letter : expression.spell())
    text += letter == '(' || letter == ',' ? "_" : letter == ')' ? "_e" : std::string(1, letter);
  return text;
}

Value device::evaluate(StepBuilder &b, const Expression &expression, ArrayRef<Value> inputs) {
  if (expression.kind == Expression::Input)
    return inputs[expression.input];
  if (expression.kind == Expression::Constant)
    return b.f32(expression.constant);
  SmallVector<Value> operands;
  for (const Expression &operand : expression.operands)
    operands.push_back(evaluate(b, operand, inputs));
  return operations().lookup(expression.operation)(b, operands);
}

StepKernel device::mapKernel(const KernelPlace &place, const Expression &expression, int64_t channels,
                             unsigned inputs) {
  std::string name = "map_c" + std::to_string(channels) + "_" + symbolOf(expression), letters;
  for (unsigned i = 0; i <= inputs; ++i)
    letters += "pn";
  makeKernel(place, name, kernelTypes(place, letters), kMapThreads, [&](StepBuilder &b, Arguments a) {
    overColumns(b, channels, [&](Value row, Value column) {
      SmallVector<Value> values;
      for (unsigned i = 0; i < inputs; ++i)
        values.push_back(b.loadF32(b.at(a[2 * i], row, a[2 * i + 1], column)));
      b.store(evaluate(b, expression, values), b.at(a[2 * inputs], row, a[2 * inputs + 1], column));
    });
  });
  return {name, kMapThreads, mapBlocks(channels)};
}

StepKernel device::gatherKernel(const KernelPlace &place, int64_t channels) {
  std::string name = "gather_c" + std::to_string(channels);
  makeKernel(place, name, kernelTypes(place, "pnpnp"), kMapThreads, [&](StepBuilder &b, Arguments a) {
    overColumns(b, channels, [&](Value row, Value column) {
      Value source = b.number(a[4], row);
      b.store(b.loadF32(b.at(a[0], source, a[1], column)), b.at(a[2], row, a[3], column));
    });
  });
  return {name, kMapThreads, mapBlocks(channels)};
}
