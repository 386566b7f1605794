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

  /// The body's results for these indices; `sums` stand for the outputs.
  SmallVector<Value> body(OpBuilder &b, linalg::GenericOp op, ArrayRef<Value> indices, ValueRange sums,
                          bool isReduction) {
    Location loc = op.getLoc();
    Block &block = op.getRegion().front();
    SmallVector<AffineMap> maps = op.getIndexingMapsArray();
    IRMapping mapping;
    unsigned inputs = op.getNumDpsInputs();
    for (auto [i, argument] : llvm::enumerate(block.getArguments())) {
      if (argument.use_empty())
        continue;
      Value value;
      if (i >= inputs && isReduction)
        value = sums[i - inputs];
      else if (Value operand = op->getOperand(i); isa<MemRefType>(operand.getType()))
        value = memref::LoadOp::create(b, loc, operand, place(b, loc, maps[i], indices));
      else
        value = operand;
      mapping.map(argument, value);
    }
    for (Operation &inner : block.without_terminator()) {
      if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
        mapping.map(index.getResult(), indices[index.getDim()]);
        continue;
      }
      Operation *copy = b.clone(inner, mapping);
      if (isReduction && isa<arith::AddFOp, arith::MulFOp>(copy))
        copy->setAttr("fastmath", arith::FastMathFlagsAttr::get(b.getContext(), arith::FastMathFlags::reassoc |
                                                                                    arith::FastMathFlags::contract |
                                                                                    arith::FastMathFlags::nsz));
    }
    SmallVector<Value> results;
    for (Value value : block.getTerminator()->getOperands())
      results.push_back(mapping.lookupOrDefault(value));
    return results;
  }

  void lower(linalg::GenericOp op) {
    OpBuilder b(op);
    Location loc = op.getLoc();
    SmallVector<Range> ranges = cast<linalg::LinalgOp>(op.getOperation()).createLoopRanges(b, loc);
    SmallVector<utils::IteratorType> kinds = op.getIteratorTypesArray();
    SmallVector<Value> sizes, indices(ranges.size());
    for (const Range &range : ranges)
      sizes.push_back(getValueOrCreateConstantIndexOp(b, loc, range.size));
    Value zero = arith::ConstantIndexOp::create(b, loc, 0), one = arith::ConstantIndexOp::create(b, loc, 1);
    SmallVector<unsigned> summed;
    for (auto [d, kind] : llvm::enumerate(kinds)) {
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
    auto outPlace = [&](OpBuilder &at, unsigned i) { return place(at, loc, maps[inputs + i], indices); };
    SmallVector<Value> results;
    if (summed.empty()) {
      results = body(b, op, indices, {}, false);
    } else {
      SmallVector<Value> sums;
      for (auto [i, out] : llvm::enumerate(op.getDpsInits()))
        sums.push_back(memref::LoadOp::create(b, loc, out, outPlace(b, i)));
      results = sumLoops(b, op, summed, sizes, indices, sums, zero, one);
    }
    for (auto [i, out] : llvm::enumerate(op.getDpsInits()))
      memref::StoreOp::create(b, loc, results[i], out, outPlace(b, i));
    op.erase();
  }

  SmallVector<Value> sumLoops(OpBuilder &b, linalg::GenericOp op, ArrayRef<unsigned> summed, ArrayRef<Value> sizes,
                              SmallVector<Value> &indices, ValueRange sums, Value zero, Value one) {
    if (summed.empty())
      return body(b, op, indices, sums, true);
    Location loc = op.getLoc();
    auto loop = scf::ForOp::create(b, loc, zero, sizes[summed.front()], one, sums);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    indices[summed.front()] = loop.getInductionVar();
    SmallVector<Value> inner =
        sumLoops(b, op, summed.drop_front(), sizes, indices, loop.getRegionIterArgs(), zero, one);
    scf::YieldOp::create(b, loc, inner);
    return SmallVector<Value>(loop.getResults());
  }
};
} // namespace

std::unique_ptr<Pass> skim::createLowerToLoops() { return std::make_unique<LowerToLoops>(); }
