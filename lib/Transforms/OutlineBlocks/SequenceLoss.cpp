//===- SequenceLoss.cpp - the loss of one whole sequence --------------------===//

#include "SequenceLoss.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Verifier.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimDialect.h"

using namespace mlir;
using namespace skim;

/// [batch, length, …] with a batch of one.
static Type ofOneSequence(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || tensor.getNumDynamicDims() != 2 || !tensor.isDynamicDim(0))
    return type;
  SmallVector<int64_t> shape(tensor.getShape());
  shape.front() = 1;
  return RankedTensorType::get(shape, tensor.getElementType(), tensor.getEncoding());
}

/// Keys or values [1, length, heads·D] as a cache [1, heads, length, D] that holds just them.
static Value asCache(OpBuilder &b, Location loc, Value input, RankedTensorType cache) {
  int64_t heads = cache.getDimSize(1), size = cache.getDimSize(3);
  auto type = cast<RankedTensorType>(input.getType());
  OpFoldResult length = tensor::getMixedSize(b, loc, input, 1);
  auto index = [&](int64_t value) -> OpFoldResult { return b.getIndexAttr(value); };
  auto split = RankedTensorType::get({1, ShapedType::kDynamic, heads, size}, type.getElementType());
  Value parts = tensor::ExpandShapeOp::create(b, loc, split, input, ArrayRef<ReassociationIndices>{{0}, {1}, {2, 3}},
                                              ArrayRef<OpFoldResult>{index(1), length, index(heads), index(size)});
  Value empty = tensor::EmptyOp::create(b, loc, {index(1), index(heads), length, index(size)}, type.getElementType());
  return linalg::TransposeOp::create(b, loc, parts, empty, ArrayRef<int64_t>{0, 2, 1, 3}).getResult().front();
}

/// `tokens, start, count, rows, caches…` as raising makes it.
static bool isModel(func::FuncOp function) {
  ArrayRef<Type> types = function.getArgumentTypes();
  if (types.size() < 4 || function.getNumResults() < 1 || !llvm::hasSingleElement(function.getBody()))
    return false;
  auto rankIs = [](Type type, int64_t rank) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor && tensor.getRank() == rank;
  };
  return rankIs(types[0], 2) && rankIs(types[1], 1) && rankIs(types[2], 1) && rankIs(types[3], 1) &&
         rankIs(function.getResultTypes()[0], 2);
}

FailureOr<func::FuncOp> skim::makeSequenceLoss(func::FuncOp model) {
  if (!isModel(model))
    return model.emitOpError("expected a model's function (tokens, start, count, rows, caches...) -> logits");
  OpBuilder b(model);
  Location loc = model.getLoc();
  Block &old = model.getBody().front();
  auto ids = cast<RankedTensorType>(old.getArgument(0).getType()).getElementType();
  auto unknown = ShapedType::kDynamic;
  auto lossType = RankedTensorType::get({unknown}, b.getF32Type());
  auto loss = func::FuncOp::create(
      b, loc, model.getName(),
      b.getFunctionType({RankedTensorType::get({1, unknown}, ids), RankedTensorType::get({unknown}, b.getI32Type())},
                        lossType));
  b.setInsertionPointToStart(loss.addEntryBlock());
  auto startType = RankedTensorType::get({1}, cast<RankedTensorType>(old.getArgument(1).getType()).getElementType());
  IRMapping mapping;
  mapping.map(old.getArgument(0), loss.getArgument(0));
  mapping.map(old.getArgument(1), arith::ConstantOp::create(b, loc, b.getZeroAttr(startType)).getResult());

  auto cloneAll = [&]() -> LogicalResult {
    for (Operation &op : old.without_terminator()) {
      if (auto append = dyn_cast<lm::CacheAppendOp>(op)) {
        mapping.map(append.getResult(), asCache(b, op.getLoc(), mapping.lookup(append.getInput()),
                                                cast<RankedTensorType>(append.getCache().getType())));
        continue;
      }
      if (auto gather = dyn_cast<lm::GatherRowsOp>(op)) {
        Value flat = tensor::CollapseShapeOp::create(b, op.getLoc(), mapping.lookup(gather.getInput()),
                                                     ArrayRef<ReassociationIndices>{{0, 1}, {2}});
        mapping.map(gather.getResult(), flat);
        continue;
      }
      for (Value operand : op.getOperands())
        if (!mapping.contains(operand))
          return op.emitOpError("has no meaning for one sequence without caches");
      Operation *copy = b.clone(op, mapping);
      for (Value result : copy->getResults())
        result.setType(ofOneSequence(result.getType()));
      if (failed(verify(copy)))
        return failure();
    }
    return success();
  };
  Value logits = cast<func::ReturnOp>(old.getTerminator()).getOperand(0);
  if (failed(cloneAll()))
    return failure();
  if (!mapping.contains(logits))
    return model.emitOpError("expected logits that depend on the tokens");
  Value result = lm::CrossEntropyOp::create(b, loc, lossType, mapping.lookup(logits), loss.getArgument(1)).getResult();
  func::ReturnOp::create(b, loc, result);
  model.erase();
  return loss;
}
