//===- LowerToLoops.cpp - structured operations as loops of scalars ---------===//
//
// Unlike upstream's lowering, sums live in registers (loop-carried values) and
// may be reassociated, so that LLVM vectorises them.
//
//===----------------------------------------------------------------------===//

#include "TensorPasses.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace {
class LowerToLoops : public PassWrapper<LowerToLoops, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(LowerToLoops)
  StringRef getName() const override { return "LowerToLoops"; }
  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<affine::AffineDialect, scf::SCFDialect, memref::MemRefDialect, arith::ArithDialect>();
  }

  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    SmallVector<memref::CopyOp> copies;
    getOperation()->walk([&](memref::CopyOp op) { copies.push_back(op); });
    for (memref::CopyOp copy : copies) {
      rewriter.setInsertionPoint(copy);
      rewriter.replaceOpWithNewOp<linalg::CopyOp>(copy, copy.getSource(), copy.getTarget());
    }
    SmallVector<linalg::LinalgOp> ops;
    getOperation()->walk([&](linalg::LinalgOp op) { ops.push_back(op); });
    for (linalg::LinalgOp op : ops) {
      rewriter.setInsertionPoint(op);
      auto generic = dyn_cast<linalg::GenericOp>(op.getOperation());
      if (!generic) {
        FailureOr<linalg::GenericOp> made = linalg::generalizeNamedOp(rewriter, op);
        if (failed(made)) {
          op->emitError("no loops for this operation");
          return signalPassFailure();
        }
        generic = *made;
      }
      lower(generic);
    }
  }

private:
  SmallVector<Value> place(OpBuilder &b, Location loc, AffineMap map, ArrayRef<Value> indices) {
    SmallVector<Value> out;
    for (AffineExpr result : map.getResults()) {
      if (auto dim = dyn_cast<AffineDimExpr>(result)) {
        out.push_back(indices[dim.getPosition()]);
        continue;
      }
      AffineMap single = AffineMap::get(map.getNumDims(), 0, result);
      out.push_back(affine::AffineApplyOp::create(b, loc, single, indices));
    }
    return out;
  }

  /// The body's results for these indices; outputs that are sums have a value in `sums`.
  SmallVector<Value> body(OpBuilder &b, linalg::GenericOp op, ArrayRef<Value> indices, ArrayRef<Value> sums) {
    Location loc = op.getLoc();
    Block &block = op.getRegion().front();
    SmallVector<AffineMap> maps = op.getIndexingMapsArray();
    IRMapping mapping;
    unsigned inputs = op.getNumDpsInputs();
    for (auto [i, argument] : llvm::enumerate(block.getArguments())) {
      if (argument.use_empty())
        continue;
      Value value = i >= inputs ? sums[i - inputs] : Value();
      if (Value operand = op->getOperand(i); !value)
        value = isa<MemRefType>(operand.getType())
                    ? memref::LoadOp::create(b, loc, operand, place(b, loc, maps[i], indices)).getResult()
                    : operand;
      mapping.map(argument, value);
    }
    bool isSum = llvm::any_of(sums, [](Value sum) { return static_cast<bool>(sum); });
    for (Operation &inner : block.without_terminator()) {
      if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
        mapping.map(index.getResult(), indices[index.getDim()]);
        continue;
      }
      Operation *copy = b.clone(inner, mapping);
      if (isSum && isa<arith::AddFOp, arith::MulFOp>(copy))
        copy->setAttr("fastmath", arith::FastMathFlagsAttr::get(b.getContext(), arith::FastMathFlags::reassoc |
                                                                                    arith::FastMathFlags::contract |
                                                                                    arith::FastMathFlags::nsz));
    }
    SmallVector<Value> results;
    for (Value value : block.getTerminator()->getOperands())
      results.push_back(mapping.lookupOrDefault(value));
    // What is no sum is stored where it is computed.
    for (auto [i, out] : llvm::enumerate(op.getDpsInits()))
      if (!sums[i])
        memref::StoreOp::create(b, loc, results[i], out, place(b, loc, maps[inputs + i], indices));
    return results;
  }

  void lower(linalg::GenericOp op) {
    OpBuilder b(op);
    Location loc = op.getLoc();
    SmallVector<Range> ranges = cast<linalg::LinalgOp>(op.getOperation()).createLoopRanges(b, loc);
    SmallVector<Value> sizes, indices(ranges.size());
    for (const Range &range : ranges)
      sizes.push_back(getValueOrCreateConstantIndexOp(b, loc, range.size));
    Value zero = arith::ConstantIndexOp::create(b, loc, 0), one = arith::ConstantIndexOp::create(b, loc, 1);
    SmallVector<unsigned> summed;
    for (auto [d, kind] : llvm::enumerate(op.getIteratorTypesArray())) {
      if (kind != utils::IteratorType::parallel) {
        summed.push_back(d);
        continue;
      }
      auto loop = scf::ForOp::create(b, loc, zero, sizes[d], one);
      indices[d] = loop.getInductionVar();
      b.setInsertionPointToStart(loop.getBody());
    }
    SmallVector<AffineMap> maps = op.getIndexingMapsArray();
    unsigned inputs = op.getNumDpsInputs();
    auto isSum = [&](unsigned i) {
      return !summed.empty() && llvm::none_of(summed, [&](unsigned d) { return maps[inputs + i].isFunctionOfDim(d); });
    };
    SmallVector<Value> sums;
    for (auto [i, out] : llvm::enumerate(op.getDpsInits()))
      sums.push_back(isSum(i) ? memref::LoadOp::create(b, loc, out, place(b, loc, maps[inputs + i], indices))
                              : Value());
    SmallVector<Value> results = sumLoops(b, op, summed, sizes, indices, sums, zero, one);
    for (auto [i, out] : llvm::enumerate(op.getDpsInits()))
      if (sums[i])
        memref::StoreOp::create(b, loc, results[i], out, place(b, loc, maps[inputs + i], indices));
    op.erase();
  }

  /// The loops `summed` around the body; sums are carried from turn to turn.
  SmallVector<Value> sumLoops(OpBuilder &b, linalg::GenericOp op, ArrayRef<unsigned> summed, ArrayRef<Value> sizes,
                              SmallVector<Value> &indices, ArrayRef<Value> sums, Value zero, Value one) {
    if (summed.empty())
      return body(b, op, indices, sums);
    Location loc = op.getLoc();
    SmallVector<Value> carried;
    for (Value sum : sums)
      if (sum)
        carried.push_back(sum);
    auto loop = scf::ForOp::create(b, loc, zero, sizes[summed.front()], one, carried);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    indices[summed.front()] = loop.getInductionVar();
    // Values by output, with gaps for outputs that are no sums.
    auto spread = [&](ValueRange values) {
      SmallVector<Value> all(sums.size());
      for (unsigned i = 0, next = 0; i < sums.size(); ++i)
        if (sums[i])
          all[i] = values[next++];
      return all;
    };
    SmallVector<Value> inner =
        sumLoops(b, op, summed.drop_front(), sizes, indices, spread(loop.getRegionIterArgs()), zero, one);
    SmallVector<Value> yielded;
    for (unsigned i = 0; i < sums.size(); ++i)
      if (sums[i])
        yielded.push_back(inner[i]);
    if (!yielded.empty())
      scf::YieldOp::create(b, loc, yielded);
    return spread(loop.getResults());
  }
};
} // namespace

std::unique_ptr<Pass> skim::createLowerToLoops() { return std::make_unique<LowerToLoops>(); }
