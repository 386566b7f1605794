//===- Structured.h - short words for what adjoints are made of -*- C++ -*-===//
#ifndef SKIM_LIB_TRANSFORMS_DIFFERENTIATE_STRUCTURED_H
#define SKIM_LIB_TRANSFORMS_DIFFERENTIATE_STRUCTURED_H

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace skim {

using Sizes = llvm::ArrayRef<mlir::OpFoldResult>;

/// The type that adjoints of such elements are computed in: f64, or f32.
mlir::Type computeType(mlir::Type type);
/// A float, or a tensor of them, with other elements.
mlir::Value castFloat(mlir::ImplicitLocOpBuilder &b, mlir::Value value, mlir::Type elementType);
/// In its computeType.
mlir::Value toCompute(mlir::ImplicitLocOpBuilder &b, mlir::Value value);

/// The size of dimension `d`, looked for in what the tensor was made of: so a
/// forward operation need not be computed for its shape, and equal sizes are one value.
mlir::OpFoldResult sizeOf(mlir::ImplicitLocOpBuilder &b, mlir::Value tensor, int64_t d);
llvm::SmallVector<mlir::OpFoldResult> sizesOf(mlir::ImplicitLocOpBuilder &b, mlir::Value tensor);
mlir::Value empty(mlir::ImplicitLocOpBuilder &b, Sizes sizes, mlir::Type elementType);
/// A scalar.
mlir::Value constant(mlir::ImplicitLocOpBuilder &b, mlir::Type type, double value);
mlir::Value filled(mlir::ImplicitLocOpBuilder &b, Sizes sizes, mlir::Type elementType, double value);
/// A scalar or a tensor of the type and sizes of `like`.
mlir::Value splat(mlir::ImplicitLocOpBuilder &b, double value, mlir::Value like);

mlir::Value collapse(mlir::ImplicitLocOpBuilder &b, mlir::Value tensor,
                     llvm::ArrayRef<mlir::ReassociationIndices> groups);
mlir::Value expand(mlir::ImplicitLocOpBuilder &b, mlir::Value tensor, llvm::ArrayRef<mlir::ReassociationIndices> groups,
                   Sizes sizes);
/// result[i…] has dimension permutation[d] of `tensor` as its dimension d.
mlir::Value transpose(mlir::ImplicitLocOpBuilder &b, mlir::Value tensor, llvm::ArrayRef<int64_t> permutation);
/// The product of matrices, or of batches of them, each read transposed where said so.
mlir::Value matmul(mlir::ImplicitLocOpBuilder &b, mlir::Value lhs, bool transposeLhs, mlir::Value rhs,
                   bool transposeRhs);

/// An operand of a structured operation: the loops that index its dimensions.
struct Indexed {
  mlir::Value tensor;
  llvm::SmallVector<unsigned> loops;
};
/// The numbers begin … end − 1.
llvm::SmallVector<unsigned> loopRange(unsigned begin, unsigned end);

/// Computes what is stored from the elements of inputs, then of outputs; floats
/// come in their computeType and are rounded when stored.
using BodyFn = llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::ImplicitLocOpBuilder &, mlir::ValueRange)>;
/// A linalg.generic over `loops` loops; those that an output lacks are reductions.
/// `outputs` hold the initial values.
llvm::SmallVector<mlir::Value> structured(mlir::ImplicitLocOpBuilder &b, unsigned loops, llvm::ArrayRef<Indexed> inputs,
                                          llvm::ArrayRef<Indexed> outputs, BodyFn body);

} // namespace skim

#endif // SKIM_LIB_TRANSFORMS_DIFFERENTIATE_STRUCTURED_H
