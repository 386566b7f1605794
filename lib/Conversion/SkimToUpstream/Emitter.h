//===- Emitter.h - short words for structured operations --------*- C++ -*-===//
#ifndef SKIM_LIB_CONVERSION_SKIMTOUPSTREAM_EMITTER_H
#define SKIM_LIB_CONVERSION_SKIMTOUPSTREAM_EMITTER_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/Builders.h"
#include "skim/Skim/SkimEncodings.h"

namespace skim {

/// Builds operations at one place.
class Emitter {
public:
  Emitter(mlir::OpBuilder &builder, mlir::Location loc) : b(builder), loc(loc) {}

  using Sizes = llvm::ArrayRef<mlir::OpFoldResult>;
  /// Computes an element from the loops' indices.
  using ElementFn = llvm::function_ref<mlir::Value(Emitter &, mlir::ValueRange indices)>;
  /// Combines the accumulated value with an element.
  using CombineFn = llvm::function_ref<mlir::Value(Emitter &, mlir::Value element, mlir::Value accumulated)>;

  mlir::Value index(int64_t value);
  mlir::Value f32(float value);
  mlir::Value i32(int64_t value);
  mlir::Value toIndex(mlir::Value integer);
  /// An unsigned 8 or 16-bit integer as index or i32.
  mlir::Value zeroExtend(mlir::Value integer, mlir::Type type);
  /// Between float types.
  mlir::Value cast(mlir::Value number, mlir::Type type);
  mlir::Value add(mlir::Value a, mlir::Value b);
  mlir::Value sub(mlir::Value a, mlir::Value b);
  mlir::Value mul(mlir::Value a, mlir::Value b);
  /// Of indices, for constants b > 0.
  mlir::Value div(mlir::Value a, int64_t b);
  mlir::Value rem(mlir::Value a, int64_t b);
  /// tensor[indices], as f32 where it is a float.
  mlir::Value load(mlir::Value tensor, mlir::ValueRange indices);

  mlir::Value dim(mlir::Value tensor, int64_t i);
  llvm::SmallVector<mlir::OpFoldResult> sizes(mlir::Value tensor);
  mlir::OpFoldResult size(int64_t value) { return b.getIndexAttr(value); }

  /// A tensor whose element at each index is what `element` (f32, or an integer of the type) computes.
  mlir::Value generate(Sizes sizes, mlir::Type elementType, ElementFn element);
  /// A tensor over `outer`: `combine` over all indices `inner` of what `element`
  /// computes from the indices outer, inner; begins with `initial`. In f32.
  mlir::Value reduce(Sizes outer, Sizes inner, mlir::Value initial, ElementFn element, CombineFn combine);

  /// An operand of a structured operation: element map(loops) of a tensor.
  struct Operand {
    mlir::Value tensor;
    mlir::AffineMap map;
  };
  /// Computes from the operands' elements (floats as f32).
  using MapFn = llvm::function_ref<mlir::Value(Emitter &, mlir::ValueRange elements)>;
  /// An affine map from `loops` loops to the loops of these numbers.
  mlir::AffineMap project(unsigned loops, llvm::ArrayRef<unsigned> dims);
  mlir::AffineMap identity(unsigned loops) { return b.getMultiDimIdentityMap(loops); }
  /// A tensor over `sizes` computed element by element from operands. The body may ask for loop indices.
  mlir::Value map(Sizes sizes, mlir::Type elementType, llvm::ArrayRef<Operand> operands, MapFn element);
  /// The number of loop `i` of the structured operation whose body this is.
  mlir::Value loop(unsigned i);
  /// `combine` over the last dimension of `tensor` of what `element` computes from it and the other operands; in f32.
  mlir::Value reduceLast(mlir::Value tensor, mlir::Value initial, llvm::ArrayRef<Operand> others, MapFn element,
                         CombineFn combine);
  /// Sums of products, in f32: result[out(loops)] = Σ a·b over the loops that `out` lacks. `sizes` are the result's.
  mlir::Value contract(Sizes sizes, mlir::AffineMap out, Operand a, Operand b);
  /// Splits dimension `dim` into `parts` (all static), and back.
  mlir::Value split(mlir::Value tensor, unsigned dim, llvm::ArrayRef<int64_t> parts);
  mlir::Value merge(mlir::Value tensor, unsigned dim, unsigned count);

  /// The sum of products over the last dimension, in f32: result[lead…, n] = Σ_k x[lead…, k]·w[n, k].
  mlir::Value matmulTransposed(mlir::Value x, mlir::Value w);

  mlir::OpBuilder &b;
  mlir::Location loc;
};

/// A leaf of `term` that this lowering has no equation for, or null: the only
/// thing that a new format may add here, and need not.
WeightEncoding leafWithoutDecode(mlir::Attribute term);

/// A weight's value as tensor<NxKxf32>, from its components; null where a leaf
/// has no equation here.
mlir::Value emitDecode(Emitter &emitter, WeightEncoding term, llvm::ArrayRef<int64_t> shape,
                       mlir::ValueRange components);

} // namespace skim

#endif // SKIM_LIB_CONVERSION_SKIMTOUPSTREAM_EMITTER_H
