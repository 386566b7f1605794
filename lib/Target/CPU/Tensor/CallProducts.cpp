//===- CallProducts.cpp - products of matrices as calls of BLAS -------------===//
//
// Any structured sum of products is cut into loops over all but one row, one
// column and one summed dimension, inside of which one call does the rest: q·kᵀ
// of each head, a linear on tokens, their adjoints, whatever is transposed.
//
//===----------------------------------------------------------------------===//

#include "TensorPasses.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;

namespace {
/// Loops of a product: which of them one call computes.
struct ProductLoops {
  unsigned row, column, inner;
};
} // namespace

/// True if the body is `out + a·b` in f32, in any order of operands.
static bool isSumOfProducts(linalg::GenericOp op) {
  Block &body = op.getRegion().front();
  if (op.getNumDpsInputs() != 2 || op.getNumDpsInits() != 1 || !llvm::hasNItems(body, 3))
    return false;
  if (!llvm::all_of(body.getArguments(), [](Value value) { return value.getType().isF32(); }))
    return false;
  auto product = dyn_cast<arith::MulFOp>(body.front());
  auto total = dyn_cast<arith::AddFOp>(*std::next(body.begin()));
  if (!product || !total || body.getTerminator()->getOperand(0) != total.getResult())
    return false;
  auto isPair = [](Operation *op, Value x, Value y) {
    return (op->getOperand(0) == x && op->getOperand(1) == y) || (op->getOperand(0) == y && op->getOperand(1) == x);
  };
  return isPair(product, body.getArgument(0), body.getArgument(1)) && isPair(total, product, body.getArgument(2));
}

/// The loops that a call takes: of rows, columns and the sum the longest each
/// (unknown sizes are long). Nothing where a kind is missing: a loop does as well.
static std::optional<ProductLoops> findLoops(linalg::GenericOp op) {
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  if (!llvm::all_of(maps, [](AffineMap map) { return map.isProjectedPermutation(); }))
    return std::nullopt;
  SmallVector<int64_t> ranges = op.getStaticLoopRanges();
  std::optional<unsigned> row, column, inner;
  auto longer = [&](std::optional<unsigned> &best, unsigned d) {
    auto length = [&](unsigned i) { return ShapedType::isDynamic(ranges[i]) ? INT64_MAX : ranges[i]; };
    if (!best || length(d) >= length(*best))
      best = d;
  };
  for (unsigned d = 0; d < ranges.size(); ++d) {
    bool a = maps[0].isFunctionOfDim(d), b = maps[1].isFunctionOfDim(d), c = maps[2].isFunctionOfDim(d);
    if (a && b && !c)
      longer(inner, d);
    else if (a && !b && c)
      longer(row, d);
    else if (!a && b && c)
      longer(column, d);
    else if (!(a && b && c))
      return std::nullopt; // a sum of one factor, or a loop without data
  }
  if (!row || !column || !inner)
    return std::nullopt;
  return ProductLoops{*row, *column, *inner};
}

namespace {
/// Pointer and strides of an operand at given outer loops.
struct Place {
  Value pointer;
  SmallVector<Value> strides; // by loop; zero where the operand does not vary
};

class CallProducts : public PassWrapper<CallProducts, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CallProducts)
  StringRef getName() const override { return "CallProducts"; }
  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<LLVM::LLVMDialect, scf::SCFDialect, memref::MemRefDialect, arith::ArithDialect>();
  }

  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    SmallVector<linalg::LinalgOp> named;
    getOperation()->walk([&](linalg::LinalgOp op) {
      if (!isa<linalg::GenericOp>(op))
        named.push_back(op);
    });
    for (linalg::LinalgOp op : named) {
      rewriter.setInsertionPoint(op);
      if (failed(linalg::generalizeNamedOp(rewriter, op))) {
        op->emitError("no loops for this operation");
        return signalPassFailure();
      }
    }
    SmallVector<std::pair<linalg::GenericOp, ProductLoops>> products;
    getOperation()->walk([&](linalg::GenericOp op) {
      if (isSumOfProducts(op))
        if (std::optional<ProductLoops> loops = findLoops(op))
          products.emplace_back(op, *loops);
    });
    for (auto [op, loops] : products)
      lower(op, loops);
  }

private:
  Value toI64(OpBuilder &b, Location loc, Value index) {
    return arith::IndexCastOp::create(b, loc, b.getI64Type(), index);
  }
  /// Where operand `i` begins at `indices` (one a loop), and how it goes on.
  Place placeOf(OpBuilder &b, linalg::GenericOp op, unsigned i, ArrayRef<Value> indices) {
    Location loc = op.getLoc();
    Value buffer = op->getOperand(i);
    AffineMap map = op.getIndexingMapsArray()[i];
    auto metadata = memref::ExtractStridedMetadataOp::create(b, loc, buffer);
    Value zero = arith::ConstantIndexOp::create(b, loc, 0), offset = metadata.getOffset();
    Place place;
    place.strides.assign(indices.size(), zero);
    for (auto [result, stride] : llvm::zip(map.getResults(), metadata.getStrides())) {
      unsigned loop = cast<AffineDimExpr>(result).getPosition();
      place.strides[loop] = stride;
      if (indices[loop])
        offset = arith::AddIOp::create(b, loc, offset, arith::MulIOp::create(b, loc, indices[loop], stride));
    }
    Value base = memref::ExtractAlignedPointerAsIndexOp::create(b, loc, buffer);
    Type pointer = LLVM::LLVMPointerType::get(b.getContext());
    Value raw = LLVM::IntToPtrOp::create(b, loc, pointer, toI64(b, loc, base));
    place.pointer =
        LLVM::GEPOp::create(b, loc, pointer, b.getF32Type(), raw, ArrayRef<LLVM::GEPArg>{toI64(b, loc, offset)});
    return place;
  }

  void lower(linalg::GenericOp op, ProductLoops loops) {
    OpBuilder b(op);
    Location loc = op.getLoc();
    SmallVector<Range> ranges = cast<linalg::LinalgOp>(op.getOperation()).createLoopRanges(b, loc);
    SmallVector<Value> sizes, indices(ranges.size());
    for (const Range &range : ranges)
      sizes.push_back(getValueOrCreateConstantIndexOp(b, loc, range.size));
    Value zero = arith::ConstantIndexOp::create(b, loc, 0), one = arith::ConstantIndexOp::create(b, loc, 1);
    for (unsigned d = 0; d < ranges.size(); ++d) {
      if (d == loops.row || d == loops.column || d == loops.inner)
        continue;
      auto loop = scf::ForOp::create(b, loc, zero, sizes[d], one);
      indices[d] = loop.getInductionVar();
      b.setInsertionPointToStart(loop.getBody());
    }
    SmallVector<Value> arguments;
    for (unsigned d : {loops.row, loops.column, loops.inner})
      arguments.push_back(toI64(b, loc, sizes[d]));
    std::pair<unsigned, unsigned> used[] = {
        {loops.row, loops.inner}, {loops.inner, loops.column}, {loops.row, loops.column}};
    for (unsigned i = 0; i < 3; ++i) {
      Place place = placeOf(b, op, i, indices);
      arguments.push_back(place.pointer);
      arguments.push_back(toI64(b, loc, place.strides[used[i].first]));
      arguments.push_back(toI64(b, loc, place.strides[used[i].second]));
    }
    LLVM::CallOp::create(b, loc, TypeRange(), skim::kProduct, arguments);
    op.erase();
  }
};
} // namespace

std::unique_ptr<Pass> skim::createCallProducts() { return std::make_unique<CallProducts>(); }
