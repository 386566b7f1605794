//===- LinalgModels.cpp - derivatives of structured operations --------------===//

#include "Models.h"
#include "Structured.h"

using namespace mlir;
using namespace skim;

static LogicalResult transposeOf(linalg::TransposeOp op, Adjoints &a) {
  SmallVector<int64_t> inverse(op.getPermutation().size());
  for (auto [d, from] : llvm::enumerate(op.getPermutation()))
    inverse[from] = static_cast<int64_t>(d);
  a.add(op.getInput(), transpose(a.b, a.get(op->getResult(0)), inverse));
  a.add(op.getInit(), splat(a.b, 0, a.get(op->getResult(0))));
  return success();
}

void skim::registerLinalgModels(DialectRegistry &registry) {
  registry.addExtension(
      +[](MLIRContext *context, linalg::LinalgDialect *) { attachAdjoint<linalg::TransposeOp, transposeOf>(context); });
}
