//===- SkimModels.cpp - derivatives of the skim dialect ---------------------===//

#include "Models.h"
#include "Structured.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "skim/Skim/SkimOps.h"

using namespace mlir;
using namespace skim;

/// All dimensions but the last as one; a vector is one row.
static Value asMatrix(ImplicitLocOpBuilder &b, Value tensor) {
  auto type = cast<RankedTensorType>(tensor.getType());
  int64_t rank = type.getRank();
  if (rank == 1)
    return expand(b, tensor, {{0, 1}}, {b.getIndexAttr(1), b.getIndexAttr(type.getDimSize(0))});
  SmallVector<ReassociationIndices> groups{llvm::to_vector<2>(llvm::seq<int64_t>(0, rank - 1)), {rank - 1}};
  return collapse(b, tensor, groups);
}

/// A matrix of `columns` columns with the leading dimensions of `like`.
static Value withLeading(ImplicitLocOpBuilder &b, Value matrix, Value like, int64_t columns) {
  int64_t rank = cast<RankedTensorType>(like.getType()).getRank();
  if (rank == 1)
    return collapse(b, matrix, {{0, 1}});
  SmallVector<OpFoldResult> sizes = sizesOf(b, like);
  sizes.back() = b.getIndexAttr(columns);
  SmallVector<ReassociationIndices> groups{llvm::to_vector<2>(llvm::seq<int64_t>(0, rank - 1)), {rank - 1}};
  return expand(b, matrix, groups, sizes);
}

/// dx = dz·W, dW = dzᵀ·x, db = Σ dz.
static LogicalResult linear(LinearOp op, Adjoints &a) {
  ImplicitLocOpBuilder &b = a.b;
  Value x = op.getInput(), weight = op.getWeight();
  Type compute = computeType(op.getType());
  if (getElementTypeOrSelf(x).isF64())
    compute = b.getF64Type();
  Value dz = asMatrix(b, castFloat(b, a.get(op), compute));
  if (a.isActive(x)) {
    Value w = a.value(weight);
    if (isEncoded(w.getType()))
      w = ConvertOp::create(b, RankedTensorType::get(cast<RankedTensorType>(w.getType()).getShape(), b.getF32Type()),
                            w);
    Value dx = matmul(b, dz, /*transposeLhs=*/false, castFloat(b, w, compute), /*transposeRhs=*/false);
    dx = withLeading(b, dx, a.get(op), cast<RankedTensorType>(x.getType()).getShape().back());
    a.add(x, castFloat(b, dx, getElementTypeOrSelf(x)));
  }
  if (a.isActive(weight)) {
    Value input = asMatrix(b, castFloat(b, a.value(x), compute));
    Value dw = matmul(b, dz, /*transposeLhs=*/true, input, /*transposeRhs=*/false);
    a.add(weight, castFloat(b, dw, getElementTypeOrSelf(weight)));
  }
  if (Value bias = op.getBias(); bias && a.isActive(bias)) {
    Value zero = filled(b, sizesOf(b, a.value(bias)), compute, 0);
    Value db = structured(b, 2, Indexed{dz, {0, 1}}, Indexed{zero, {1}},
                          [](ImplicitLocOpBuilder &body, ValueRange at) -> SmallVector<Value> {
                            return {arith::AddFOp::create(body, at[1], at[0])};
                          })
                   .front();
    a.add(bias, castFloat(b, db, getElementTypeOrSelf(bias)));
  }
  return success();
}

/// Between plain tensors, whose elements it rounds.
static LogicalResult convert(ConvertOp op, Adjoints &a) {
  a.add(op.getInput(), castFloat(a.b, a.get(op), getElementTypeOrSelf(op.getInput())));
  return success();
}

void skim::registerSkimModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, SkimDialect *) {
    attachAdjoint<LinearOp, linear>(context);
    attachAdjoint<ConvertOp, convert>(context);
  });
}
