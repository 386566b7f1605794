//===- LinalgModels.cpp - derivatives of structured operations --------------===//
//
// Any structured operation states its meaning by indexing maps and a scalar
// body: the body is differentiated, the maps stay. Products and transpositions
// have adjoints of their own kind.
//
//===----------------------------------------------------------------------===//

#include "Models.h"
#include "Structured.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace skim;
using B = ImplicitLocOpBuilder;

/// The operation without inputs that its body does not read, unless a loop's
/// size is known from them only. So what is not needed need not be computed.
static linalg::GenericOp withoutUnusedInputs(B &b, linalg::GenericOp op) {
  Block &body = op.getRegion().front();
  for (Operation &inner : llvm::make_early_inc_range(llvm::reverse(body)))
    if (isOpTriviallyDead(&inner))
      inner.erase();
  SmallVector<Value> inputs(op.getInputs());
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  for (int64_t i = static_cast<int64_t>(inputs.size()) - 1; i >= 0; --i) {
    SmallVector<AffineMap> others(maps);
    others.erase(others.begin() + i);
    if (!body.getArgument(i).use_empty() || !inversePermutation(concatAffineMaps(others, b.getContext())))
      continue;
    inputs.erase(inputs.begin() + i);
    maps = others;
    body.eraseArgument(i);
  }
  auto slim =
      linalg::GenericOp::create(b, op.getResultTypes(), inputs, op.getOutputs(), maps, op.getIteratorTypesArray());
  slim.getRegion().takeBody(op.getRegion());
  op.erase();
  return slim;
}

namespace {
/// Reverse mode of one structured operation through its body.
class BodyReversal {
public:
  BodyReversal(linalg::LinalgOp op, Adjoints &a)
      : op(op), a(a), b(a.b), body(op->getRegion(0).front()), maps(op.getIndexingMapsArray()) {}

  LogicalResult run() {
    if (failed(readOutputs()))
      return failure();
    for (OpOperand &operand : op->getOpOperands())
      if (a.isActive(operand.get()) && readAt.contains(operand.getOperandNumber()) && failed(addTo(operand)))
        return failure();
    return success();
  }

private:
  AffineMap mapOf(OpOperand &operand) { return maps[operand.getOperandNumber()]; }

  /// Finds what the body reads: inputs, and outputs where every point of the
  /// loops has one of its own. Elsewhere an output is added to, and its initial
  /// value has the result's adjoint; or it is an extremum, from a fixed initial value.
  LogicalResult readOutputs() {
    for (OpOperand *input : op.getDpsInputOperands())
      readAt.insert(input->getOperandNumber());
    for (OpOperand &init : op.getDpsInitsMutable()) {
      BlockArgument element = op.getMatchingBlockArgument(&init);
      Value adjoint = a.get(op.getTiedOpResult(&init));
      bool isRead = !element.use_empty();
      if (mapOf(init).isPermutation()) {
        if (isRead)
          readAt.insert(init.getOperandNumber());
        else
          a.addZero(init.get());
        continue;
      }
      // A running value that something else reads is none that one can reverse like this.
      Operation *last = op.getMatchingYieldValue(&init)->get().getDefiningOp();
      bool isExtremum = isa_and_nonnull<arith::MaximumFOp, arith::MaxNumFOp, arith::MinimumFOp, arith::MinNumFOp>(last);
      if (!mapOf(init).isProjectedPermutation() ||
          !(isExtremum || isa_and_nonnull<arith::AddFOp, arith::AddIOp>(last)) || !last->hasOneUse() ||
          !element.hasOneUse() || !llvm::is_contained(last->getOperands(), element) ||
          (isExtremum && a.isActive(init.get())))
        return op->emitOpError("has no derivative: expected reductions to add to result #")
               << op.getTiedOpResult(&init).getResultNumber()
               << " or to find its extremum from an initial value that is fixed";
      if (adjoint && !isExtremum)
        a.add(init.get(), adjoint);
      else
        a.addZero(init.get());
      if (adjoint && isExtremum)
        extrema[init.getOperandNumber()].first = last->getOperand(last->getOperand(0) == element ? 1 : 0);
    }
    for (OpOperand &init : op.getDpsInitsMutable())
      if (auto it = extrema.find(init.getOperandNumber()); it != extrema.end())
        it->second.second = countExtremal(init);
    return success();
  }

  /// How many candidates are equal to each extremum.
  Value countExtremal(OpOperand &init) {
    SmallVector<Value> inputs;
    SmallVector<AffineMap> inputMaps;
    appendRead(inputs, inputMaps);
    Value extremum = a.value(op.getTiedOpResult(&init));
    Value zero = filled(b, sizesOf(b, extremum), getElementTypeOrSelf(extremum), 0);
    inputs.push_back(extremum);
    inputMaps.append(2, mapOf(init));
    auto generic = linalg::GenericOp::create(
        b, zero.getType(), inputs, zero, inputMaps, op.getIteratorTypesArray(),
        [&](OpBuilder &nested, Location loc, ValueRange elements) {
          B inner(loc, nested);
          IRMapping values = valuesOf(inner, elements);
          for (Operation &each : body.without_terminator())
            inner.clone(each, values);
          Value candidate = values.lookupOrDefault(extrema.lookup(init.getOperandNumber()).first),
                one = constant(inner, candidate.getType(), 1);
          Value isEqual =
              arith::CmpFOp::create(inner, arith::CmpFPredicate::OEQ, candidate, elements.drop_back().back());
          Value share = arith::SelectOp::create(inner, isEqual, one, constant(inner, candidate.getType(), 0));
          Value count = arith::AddFOp::create(inner, elements.back(), share);
          linalg::YieldOp::create(inner, count);
        });
    return withoutUnusedInputs(b, generic).getResult(0);
  }

  /// Appends the operands that the body reads.
  void appendRead(SmallVectorImpl<Value> &inputs, SmallVectorImpl<AffineMap> &inputMaps) {
    for (OpOperand &read : op->getOpOperands())
      if (readAt.contains(read.getOperandNumber())) {
        inputs.push_back(a.value(read.get()));
        inputMaps.push_back(mapOf(read));
      }
  }

  /// The body's arguments as the first of `elements`, which are taken from there.
  IRMapping valuesOf(B &inner, ValueRange &elements) {
    IRMapping values = a.getValues();
    for (OpOperand &operand : op->getOpOperands())
      if (readAt.contains(operand.getOperandNumber())) {
        values.map(op.getMatchingBlockArgument(&operand), elements.front());
        elements = elements.drop_front();
      } else {
        // What is only accumulated in is not needed: the last operation is removed with it.
        BlockArgument accumulator = op.getMatchingBlockArgument(&operand);
        TypedAttr zero = inner.getZeroAttr(accumulator.getType());
        values.map(accumulator, arith::ConstantOp::create(inner, zero).getResult());
      }
    return values;
  }

  /// The sizes of an operand, from the results' adjoints where they can be told.
  SmallVector<OpFoldResult> sizesLike(OpOperand &operand) {
    SmallVector<OpFoldResult> sizes;
    for (auto [d, loop] : llvm::enumerate(mapOf(operand).getResults())) {
      OpFoldResult size;
      for (OpOperand &init : op.getDpsInitsMutable())
        if (Value adjoint = a.get(op.getTiedOpResult(&init)); adjoint && !size)
          if (std::optional<unsigned> position = mapOf(init).getResultPosition(loop))
            size = sizeOf(b, adjoint, *position);
      sizes.push_back(size ? size : sizeOf(b, a.value(operand.get()), static_cast<int64_t>(d)));
    }
    return sizes;
  }

  /// Adds to the adjoint of an operand that the body reads.
  LogicalResult addTo(OpOperand &operand) {
    AffineMap target = mapOf(operand);
    if (!target.isProjectedPermutation())
      return op->emitOpError("has no derivative with respect to operand #")
             << operand.getOperandNumber() << ": expected an indexing map that only permutes loops, got "
             << AffineMapAttr::get(target);
    SmallVector<Value> inputs;
    SmallVector<AffineMap> inputMaps;
    appendRead(inputs, inputMaps);
    for (OpOperand &init : op.getDpsInitsMutable()) {
      Value adjoint = a.get(op.getTiedOpResult(&init));
      if (!adjoint)
        continue;
      inputs.push_back(adjoint);
      if (Value count = extrema.lookup(init.getOperandNumber()).second)
        inputs.append({a.value(op.getTiedOpResult(&init)), count});
      inputMaps.resize(inputs.size(), mapOf(init));
    }
    SmallVector<utils::IteratorType> iterators(op.getNumLoops(), utils::IteratorType::reduction);
    for (AffineExpr loop : target.getResults())
      iterators[cast<AffineDimExpr>(loop).getPosition()] = utils::IteratorType::parallel;
    bool reduces = llvm::is_contained(iterators, utils::IteratorType::reduction);
    Type element = getElementTypeOrSelf(operand.get());
    SmallVector<OpFoldResult> sizes = sizesLike(operand);
    Value out = reduces ? filled(b, sizes, element, 0) : empty(b, sizes, element);
    inputMaps.push_back(target);
    LogicalResult status = success();
    auto generic = linalg::GenericOp::create(
        b, out.getType(), inputs, out, inputMaps, iterators, [&](OpBuilder &nested, Location loc, ValueRange elements) {
          B inner(loc, nested);
          FailureOr<Value> adjoint = emitBody(inner, operand, elements.drop_back());
          status = adjoint;
          Value stored = succeeded(adjoint) ? *adjoint : elements.back();
          if (reduces)
            stored = arith::AddFOp::create(inner, elements.back(), stored);
          linalg::YieldOp::create(inner, stored);
        });
    if (failed(status)) {
      generic.erase();
      return failure();
    }
    Value sum = withoutUnusedInputs(b, generic).getResult(0);
    bool isScalar = !isa<RankedTensorType>(operand.get().getType());
    a.add(operand.get(), isScalar ? tensor::ExtractOp::create(b, sum, ValueRange()).getResult() : sum);
    return success();
  }

  /// The body forwards and backwards; the adjoint of the operand's element.
  FailureOr<Value> emitBody(B &inner, OpOperand &operand, ValueRange elements) {
    IRMapping values = valuesOf(inner, elements);
    SmallVector<Value> outputs;
    for (OpOperand &init : op.getDpsInitsMutable())
      if (a.get(op.getTiedOpResult(&init))) {
        Value candidate = extrema.lookup(init.getOperandNumber()).first;
        outputs.push_back(candidate ? candidate : op.getMatchingYieldValue(&init)->get());
      }
    BlockArgument element = op.getMatchingBlockArgument(&operand);
    Adjoints adjoints(inner, values);
    adjoints.analyze(body, element, outputs);
    adjoints.emitPrimal(body);
    for (OpOperand &init : op.getDpsInitsMutable()) {
      if (!a.get(op.getTiedOpResult(&init)))
        continue;
      Value seed = elements.front(), candidate = extrema.lookup(init.getOperandNumber()).first;
      elements = elements.drop_front();
      if (candidate) { // candidates that are the extremum share its adjoint
        Value share = arith::DivFOp::create(inner, seed, elements[1]);
        Value isExtremum =
            arith::CmpFOp::create(inner, arith::CmpFPredicate::OEQ, values.lookupOrDefault(candidate), elements[0]);
        seed = arith::SelectOp::create(inner, isExtremum, share, constant(inner, seed.getType(), 0));
        elements = elements.drop_front(2);
      }
      adjoints.add(candidate ? candidate : op.getMatchingYieldValue(&init)->get(), seed);
    }
    if (failed(adjoints.emitAdjoints(body)))
      return failure();
    Value adjoint = adjoints.get(element);
    return adjoint ? adjoint : constant(inner, element.getType(), 0);
  }

  linalg::LinalgOp op;
  Adjoints &a;
  B &b;
  Block &body;
  SmallVector<AffineMap> maps;
  /// Numbers of the operands whose elements the body reads.
  DenseSet<unsigned> readAt;
  /// By the number of an output that is an extremum: what the body compares with
  /// it, and how many of these are equal to it.
  DenseMap<unsigned, std::pair<Value, Value>> extrema;
};
} // namespace

template <typename OpT> static LogicalResult adjointOf(OpT op, Adjoints &a) {
  return BodyReversal(cast<linalg::LinalgOp>(op.getOperation()), a).run();
}

static LogicalResult adjointOf(linalg::TransposeOp op, Adjoints &a) {
  SmallVector<int64_t> inverse(op.getPermutation().size());
  for (auto [d, from] : llvm::enumerate(op.getPermutation()))
    inverse[from] = static_cast<int64_t>(d);
  a.add(op.getInput(), transpose(a.b, a.get(op->getResult(0)), inverse));
  a.addZero(op.getInit());
  return success();
}

/// With c = a·b: da = dc·bᵀ, db = aᵀ·dc, each as its operand is stored.
static LogicalResult product(linalg::LinalgOp op, Adjoints &a) {
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  unsigned batch = op.getNumLoops() - 3, inner = batch + 2, rank = batch + 2;
  if (maps[0].getNumResults() != rank || maps[1].getNumResults() != rank) // one is broadcast
    return BodyReversal(op, a).run();
  Type compute = computeType(op->getResult(0).getType());
  auto plain = [&](Value value) { return castFloat(a.b, value, compute); };
  Value left = op->getOperand(0), right = op->getOperand(1), init = op->getOperand(2);
  // Stored with the inner dimension first (left) or last (right).
  bool leftTurned = maps[0].getDimPosition(batch) == inner, rightTurned = maps[1].getDimPosition(batch) != inner;
  Value dc = plain(a.get(op->getResult(0)));
  if (a.isActive(left)) {
    Value other = plain(a.value(right));
    Value adjoint = leftTurned ? matmul(a.b, other, rightTurned, dc, /*transposeRhs=*/true)
                               : matmul(a.b, dc, /*transposeLhs=*/false, other, !rightTurned);
    a.add(left, castFloat(a.b, adjoint, getElementTypeOrSelf(left)));
  }
  if (a.isActive(right)) {
    Value other = plain(a.value(left));
    Value adjoint = rightTurned ? matmul(a.b, dc, /*transposeLhs=*/true, other, leftTurned)
                                : matmul(a.b, other, !leftTurned, dc, /*transposeRhs=*/false);
    a.add(right, castFloat(a.b, adjoint, getElementTypeOrSelf(right)));
  }
  a.add(init, a.get(op->getResult(0)));
  return success();
}

static LogicalResult adjointOf(linalg::MatmulOp op, Adjoints &a) {
  return product(cast<linalg::LinalgOp>(op.getOperation()), a);
}
static LogicalResult adjointOf(linalg::BatchMatmulOp op, Adjoints &a) {
  return product(cast<linalg::LinalgOp>(op.getOperation()), a);
}

template <typename OpT> static LogicalResult model(OpT op, Adjoints &a) { return adjointOf(op, a); }

template <typename... OpTs> static void attachAll(MLIRContext *context) {
  (attachAdjoint<OpTs, model<OpTs>>(context), ...);
}

void skim::registerLinalgModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, linalg::LinalgDialect *) {
    attachAll<
#define GET_OP_LIST
#include "mlir/Dialect/Linalg/IR/LinalgStructuredOps.cpp.inc"
        >(context);
  });
}
