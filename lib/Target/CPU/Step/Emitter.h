//===- Emitter.h - writes kernels of a step as expressions ------*- C++ -*-===//
//
// KernelBuilder with values that have operators, and the few functions that a
// step needs (exp, tanh, sincos) as polynomials, since generated code has no C
// library to call. Products may be fused into sums (`contract`).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_LIB_TARGET_CPU_STEP_EMITTER_H
#define SKIM_LIB_TARGET_CPU_STEP_EMITTER_H

#include "skim/Target/CPU/TargetInfo.h"
#include "skim/Target/Common/KernelBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace skim::step {

class Emitter;

/// An SSA value with arithmetic: int or float, scalar or vector; a scalar operand
/// (or a literal) is broadcast to a vector one. Comparisons of ints are signed.
struct Val {
  Emitter *emitter = nullptr;
  mlir::Value value;
  operator mlir::Value() const { return value; }
  mlir::Type type() const { return value.getType(); }
};

/// Emits at `builder`'s insertion point.
class Emitter {
public:
  Emitter(mlir::OpBuilder &builder, mlir::Location loc, const TargetInfo &target)
      : builder(builder), loc(loc), target(target), lanes(target.f32Lanes()) {}

  mlir::OpBuilder &builder;
  mlir::Location loc;
  const TargetInfo &target;
  /// f32 in a vector.
  int64_t lanes;

  mlir::Type i32Type() { return builder.getI32Type(); }
  mlir::Type i64Type() { return builder.getI64Type(); }
  mlir::Type f32Type() { return builder.getF32Type(); }
  mlir::Type ptrType();

  Val wrap(mlir::Value value) { return {this, value}; }
  Val i64(int64_t value);
  Val i32(int32_t value);
  Val f32(double value);
  Val f64(double value);
  /// A constant of `type` (scalar or vector, int or float).
  Val constant(mlir::Type type, double value);
  /// 0, 1, 2, … as vector<n x i32>.
  Val iota(int64_t n);
  Val broadcast(Val scalar, int64_t n);
  /// The i32 or i64 as i64; as i32.
  Val toI64(Val value);
  Val toI32(Val value);

  /// base + bytes.
  Val offset(Val base, Val bytes);
  /// The address of element `index` of size `bytes`.
  Val at(Val base, Val index, int64_t bytes = 4);
  Val load(mlir::Type type, Val address);
  void store(Val value, Val address);
  Val loadF32(Val address) { return load(f32Type(), address); }
  Val loadI32(Val address) { return load(i32Type(), address); }
  Val loadI64(Val address) { return load(i64Type(), address); }
  Val loadPtr(Val address) { return load(ptrType(), address); }
  /// n f32 at `address`, aligned like one.
  Val loadVector(Val address, int64_t n) { return load(mlir::VectorType::get(n, f32Type()), address); }

  Val select(Val condition, Val yes, Val no);
  Val min(Val a, Val b);
  Val max(Val a, Val b);
  Val sqrt(Val a);
  /// Over a vector's lanes, in an order that depends on its width only.
  Val reduceAdd(Val vector);
  Val reduceMax(Val vector);

  /// f32, relative error below 2 ulp; 0 below -87.3, saturates above 88.3.
  /// Source of the coefficients: Cephes expf.
  Val exp(Val x);
  /// f32, absolute error below 2e-7.
  Val tanh(Val x);
  /// Sine and cosine of an f64 of magnitude up to 2^20, error below 1e-10.
  std::pair<Val, Val> sincos(Val x);

  using Body = llvm::function_ref<llvm::SmallVector<Val>(Val, llvm::ArrayRef<Val>)>;
  /// for (i64 i = from; i < to; i += step), carrying `init`.
  llvm::SmallVector<Val> loop(Val from, Val to, int64_t step, llvm::ArrayRef<Val> init, Body body);
  llvm::SmallVector<Val> loop(Val from, Val to, Val step, llvm::ArrayRef<Val> init, Body body);
  void loop(Val from, Val to, llvm::function_ref<void(Val)> body);
  void ifThen(Val condition, llvm::function_ref<void()> body);

  /// Static [0, n) in pieces of `width` and, for the rest, falling powers of two:
  /// (first element, elements).
  static llvm::SmallVector<std::pair<int64_t, int64_t>> pieces(int64_t n, int64_t width);
  /// Calls `body(first element, elements)` for all of [0, n): a loop over whole
  /// vectors, then the rest.
  void overChannels(int64_t n, llvm::function_ref<void(Val, int64_t)> body);

  /// This thread's part of [0, n): from, to. All threads' parts follow each other.
  std::pair<Val, Val> split(Val n, Val thread, Val threads);

  /// The private function `name`, made by `body(arguments)` where the module has
  /// none yet.
  mlir::func::FuncOp function(mlir::ModuleOp module, llvm::StringRef name, llvm::ArrayRef<mlir::Type> arguments,
                              llvm::function_ref<void(Emitter &, llvm::ArrayRef<Val>)> body);
  void call(mlir::func::FuncOp function, llvm::ArrayRef<Val> arguments);

private:
  KernelBuilder kernel() { return KernelBuilder(builder, loc); }
};

Val operator+(Val a, Val b);
Val operator-(Val a, Val b);
Val operator*(Val a, Val b);
/// Ints: signed.
Val operator/(Val a, Val b);
Val operator%(Val a, Val b);
Val operator&(Val a, Val b);
Val operator<(Val a, Val b);
Val operator<=(Val a, Val b);
Val operator>(Val a, Val b);
Val operator>=(Val a, Val b);
Val operator==(Val a, Val b);
Val operator!=(Val a, Val b);
Val operator-(Val a);
inline Val constantLike(Val a, double value) { return a.emitter->constant(a.type(), value); }
inline Val operator+(Val a, double b) { return a + constantLike(a, b); }
inline Val operator-(Val a, double b) { return a - constantLike(a, b); }
inline Val operator*(Val a, double b) { return a * constantLike(a, b); }
inline Val operator/(Val a, double b) { return a / constantLike(a, b); }
inline Val operator<(Val a, double b) { return a < constantLike(a, b); }
inline Val operator>(Val a, double b) { return a > constantLike(a, b); }
inline Val operator==(Val a, double b) { return a == constantLike(a, b); }

} // namespace skim::step

#endif // SKIM_LIB_TARGET_CPU_STEP_EMITTER_H
