//===- KernelBuilder.h - writes kernels as structured loops -----*- C++ -*-===//
//
// A thin layer over OpBuilder for code made of scf loops, arith on scalars and
// 1-D vectors, and LLVM pointers. Sizes and indices are i64, pointers are bytes.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_COMMON_KERNELBUILDER_H
#define SKIM_TARGET_COMMON_KERNELBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

namespace skim {

/// Emits at an OpBuilder's insertion point.
class KernelBuilder {
public:
  using Value = mlir::Value;
  using Type = mlir::Type;
  using Values = llvm::SmallVector<mlir::Value>;

  KernelBuilder(mlir::OpBuilder &builder, mlir::Location loc) : builder(builder), loc(loc) {}

  mlir::OpBuilder &builder;
  mlir::Location loc;

  //===--- types ---===//
  Type i1() { return builder.getI1Type(); }
  Type i8() { return builder.getI8Type(); }
  Type i16() { return builder.getI16Type(); }
  Type i32() { return builder.getI32Type(); }
  Type i64() { return builder.getI64Type(); }
  Type f16() { return builder.getF16Type(); }
  Type bf16() { return builder.getBF16Type(); }
  Type f32() { return builder.getF32Type(); }
  Type ptr();
  mlir::VectorType vec(int64_t lanes, Type element) { return mlir::VectorType::get({lanes}, element); }

  //===--- constants ---===//
  Value i32(int64_t value);
  Value i64(int64_t value);
  Value f32(double value);
  /// A constant of any scalar or vector integer or float type.
  Value constant(Type type, double value);
  Value integers(mlir::VectorType type, llvm::ArrayRef<int64_t> values);
  Value floats(mlir::VectorType type, llvm::ArrayRef<double> values);

  //===--- arithmetic: integers or floats, scalars or vectors, by type ---===//
  Value add(Value a, Value b);
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  /// Signed for integers.
  Value div(Value a, Value b);
  Value rem(Value a, Value b);
  Value min(Value a, Value b);
  Value max(Value a, Value b);
  Value add(Value a, int64_t b) { return b == 0 ? a : add(a, constant(a.getType(), b)); }
  Value mul(Value a, int64_t b) { return b == 1 ? a : mul(a, constant(a.getType(), b)); }
  Value div(Value a, int64_t b) { return b == 1 ? a : div(a, constant(a.getType(), b)); }
  Value rem(Value a, int64_t b) { return rem(a, constant(a.getType(), b)); }
  Value bitAnd(Value a, Value b);
  Value bitOr(Value a, Value b);
  Value bitXor(Value a, Value b);
  Value shl(Value a, Value b);
  /// Logical shift right.
  Value shr(Value a, Value b);
  /// Signed (or ordered float) comparisons.
  Value less(Value a, Value b);
  Value lessEqual(Value a, Value b);
  Value equal(Value a, Value b);
  Value select(Value condition, Value a, Value b);
  /// a·b + c, in one rounding where the target has it.
  Value fma(Value a, Value b, Value c);
  Value sqrt(Value a);
  Value abs(Value a);
  Value floor(Value a);
  Value negate(Value a);

  //===--- conversions ---===//
  /// i32 or smaller to i64; sign-extended.
  Value toI64(Value a);
  /// f16, bf16 or f32, scalar or vector, to f32.
  Value toF32(Value a);
  /// f32 to f16 or bf16, round to nearest even.
  Value roundTo(Value a, Type element);
  /// Signed integers to f32, elementwise.
  Value intToF32(Value a);
  Value zeroExtend(Value a, Type element);
  Value signExtend(Value a, Type element);
  Value truncate(Value a, Type element);
  Value bitcast(Value a, Type type);

  //===--- vectors ---===//
  Value splat(Value scalar, int64_t lanes);
  Value extract(Value vector, int64_t lane);
  Value shuffle(Value a, Value b, llvm::ArrayRef<int64_t> lanes);
  Value concat(Value a, Value b);
  /// A vector of scalars.
  Value pack(mlir::ValueRange scalars);
  /// Lanes 0 … count − 1 repeated `times` times each.
  Value repeatEach(Value vector, int64_t count, int64_t times);
  /// n vectors of n lanes (a power of two): lane j of vector i becomes lane i of vector j.
  Values transpose(mlir::ValueRange rows);
  /// 0, 1, 2, … as integers of `element`.
  Value iota(int64_t lanes, Type element);
  /// Sum (largest) of the lanes, in a fixed tree order: halves are added until one is left.
  Value sum(Value vector);
  Value maxAcross(Value vector);

  //===--- lane operations (dialects/skim/Lane) ---===//
  /// Codes of `bits` bits packed in `bytes`, one a lane of `type`; with `junk`
  /// the bits above a code are unspecified.
  Value spread(Value bytes, int64_t bits, mlir::VectorType type, bool junk);
  /// table[code mod entries]; codes as wide as entries.
  Value lookup(Value table, Value codes);
  /// f32 table in memory, i32 codes.
  Value gather(Value table, Value codes);
  /// acc[i] + a[2i]·b[2i] + a[2i+1]·b[2i+1].
  Value dotBF16(Value a, Value b, Value acc);

  //===--- memory ---===//
  Value offset(Value pointer, Value bytes);
  Value offset(Value pointer, int64_t bytes) { return bytes == 0 ? pointer : offset(pointer, i64(bytes)); }
  /// pointer + index · size of an element.
  Value element(Value pointer, Value index, Type type);
  /// Scalar or vector. Alignment defaults to that of one element.
  Value load(Type type, Value pointer, unsigned alignment = 0);
  void store(Value value, Value pointer, unsigned alignment = 0);
  /// The first `count` lanes (i64), the others are zero and not touched.
  Value loadFirst(mlir::VectorType type, Value pointer, Value count);
  Value loadFirst(mlir::VectorType type, Value pointer, int64_t count);
  void storeFirst(Value value, Value pointer, Value count);
  /// Brings the cache line of `pointer` near, for reading.
  void prefetch(Value pointer);

  //===--- control ---===//
  /// for (iv = lo; iv < hi; iv += step) carried = body(iv, carried).
  Values loop(Value lo, Value hi, Value step, mlir::ValueRange initial,
              llvm::function_ref<Values(Value iv, mlir::ValueRange carried)> body);
  /// The same without carried values.
  void loop(Value lo, Value hi, Value step, llvm::function_ref<void(Value iv)> body);
  void when(Value condition, llvm::function_ref<void()> body);
  void ifElse(Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise);
  Values choose(Value condition, llvm::function_ref<Values()> then, llvm::function_ref<Values()> otherwise);

  //===--- threads ---===//
  /// This thread's part [first, second) of 0 … n (i64), in whole multiples of
  /// `granule` but for the end. thread and threads are i32.
  std::pair<Value, Value> split(Value n, int64_t granule, Value thread, Value threads);
  /// Field of skim_step_args (include/skim-rt/abi.h) at a byte offset.
  Value argument(Value args, size_t byteOffset, Type type);
  /// The i-th weight's pointer.
  Value weight(Value args, int64_t index);
  /// Waits until all threads have arrived.
  void barrier(Value args, Value thread);

  /// Begins a private function `name` that ends in `return`; the builder stands
  /// at its start. Null if there is one already.
  static mlir::func::FuncOp beginFunction(mlir::OpBuilder &builder, mlir::ModuleOp module, mlir::Location loc,
                                          llvm::StringRef name, llvm::ArrayRef<mlir::Type> arguments);

private:
  bool isFloat(Value a);
};

} // namespace skim

#endif // SKIM_TARGET_COMMON_KERNELBUILDER_H
