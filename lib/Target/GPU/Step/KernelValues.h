//===- KernelValues.h - common parts of a step's kernels --------*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_GPU_STEP_KERNELVALUES_H
#define SKIM_LIB_TARGET_GPU_STEP_KERNELVALUES_H

#include "Kernels.h"
#include "skim/Target/Common/ModelValues.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"

namespace skim::device {

/// An expression as part of a symbol's name, of which PTX allows letters, digits and underscores.
std::string symbolOf(const Expression &expression);

/// DeviceBuilder inside of a step's kernel.
class StepBuilder : public DeviceBuilder {
public:
  using DeviceBuilder::DeviceBuilder;

  Value wide(Value a) { return a.getType().isInteger(64) ? a : zeroExtend(a, i64()); }
  /// pointer + (row · stride + column) · 4; all numbers are not negative.
  Value at(Value pointer, Value row, Value stride, Value column) {
    return element(pointer, add(mul(wide(row), wide(stride)), wide(column)), f32());
  }
  Value loadF32(Value pointer) { return load(f32(), pointer); }
  /// Word `index` of a list of i32.
  Value number(Value list, Value index) { return load(i32(), element(list, wide(index), i32())); }
  Value exp2(Value x) { return mlir::math::Exp2Op::create(builder, loc, x); }
  /// e^x, as 2^(x·log2 e).
  Value exp(Value x) { return exp2(mul(x, f32(1.4426950408889634))); }
  Value tanh(Value x) { return sub(f32(1), div(f32(2), add(exp(mul(x, f32(2))), f32(1)))); }
  /// The sum over the warp, in all lanes; always the same tree.
  Value warpSum(Value x) {
    for (int64_t distance = 16; distance; distance /= 2)
      x = add(x, exchange(x, distance));
    return x;
  }
  /// A value that is loaded if `condition`, else 0.
  Value loadIf(Value condition, Value pointer) {
    return choose(condition, [&] { return Values{loadF32(pointer)}; }, [&] { return Values{f32(0)}; })[0];
  }
  /// The lane in its warp and the warp in the block.
  Value lane() { return bitAnd(threadX(), i32(31)); }
  Value warp() { return shr(threadX(), i32(5)); }
  /// Calls body(i) for i = thread, thread + threads, … below n.
  void strided(int64_t n, int64_t threads, llvm::function_ref<void(Value)> body) {
    loop(threadX(), i32(n), i32(threads), body);
  }
};

/// An expression's value of its inputs'.
mlir::Value evaluate(StepBuilder &b, const Expression &expression, llvm::ArrayRef<mlir::Value> inputs);

/// Begins a kernel and lets `body` fill it; does nothing and is null if there is one of that name.
inline mlir::gpu::GPUFuncOp
makeKernel(const KernelPlace &place, llvm::StringRef name, llvm::ArrayRef<mlir::Type> arguments, int64_t threads,
           llvm::function_ref<void(StepBuilder &, llvm::ArrayRef<mlir::BlockArgument>)> body) {
  mlir::OpBuilder::InsertionGuard guard(place.builder);
  auto kernel = DeviceBuilder::beginKernel(place.builder, place.module, place.loc, name, arguments, threads);
  if (!kernel)
    return kernel;
  StepBuilder b(place.builder, place.loc);
  body(b, kernel.getBody().getArguments());
  return kernel;
}

/// `p` pointers and `n` numbers, by a text of these letters.
inline llvm::SmallVector<mlir::Type> kernelTypes(const KernelPlace &place, llvm::StringRef letters) {
  StepBuilder b(place.builder, place.loc);
  return llvm::map_to_vector(letters, [&](char letter) { return letter == 'p' ? b.globalPtr() : b.i32(); });
}

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_STEP_KERNELVALUES_H
