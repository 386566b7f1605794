//===- OutlineBlocks.cpp - a function for each decoder block ----------------===//

#include "skim/Transforms/OutlineBlocks.h"

#include "SequenceLoss.h"
#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimOps.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_OUTLINEBLOCKS
#include "skim/Transforms/OutlineBlocks.h.inc"
} // namespace skim

using namespace skim;

/// The number of the decoder block in `model.layers.3.mlp.up_proj`; nothing for the head.
static std::optional<unsigned> blockNumber(LinearOp linear) {
  SmallVector<StringRef> parts;
  linear.getLayer().value_or("").split(parts, '.');
  for (StringRef part : parts)
    if (unsigned number; !part.getAsInteger(10, number))
      return number;
  return std::nullopt;
}

/// Weights and the like: what becomes an argument of the functions.
static bool isParameter(Operation *op) {
  if (isa<ExternalOp, AssembleOp, ConvertOp>(op))
    return true;
  auto constant = dyn_cast<arith::ConstantOp>(op);
  auto type = constant ? dyn_cast<RankedTensorType>(constant.getType()) : RankedTensorType();
  return type && isa<FloatType>(type.getElementType()) && type.getNumElements() > 1;
}

namespace {
/// A program point behind operation `position` where one hidden tensor is alive.
struct Cut {
  size_t position;
  Value value;
};

class Outliner {
public:
  explicit Outliner(func::FuncOp source) : source(source), b(source.getContext()) {}
  LogicalResult run();

private:
  void findHidden();
  LogicalResult findCuts();
  std::optional<Cut> cutBetween(size_t begin, size_t end, bool latest);
  /// The operations that compute `result` from `input`, parameters and arguments, in their order.
  SmallVector<Operation *> partBetween(Value input, Value result);
  /// Adds the function of a part, or finds an equal one, and calls it in `whole`.
  void outline(Value input, Value result, StringRef name);
  func::FuncOp addFunction(ArrayRef<Operation *> part, ArrayRef<Value> outside, TypeRange types, Value result,
                           StringRef name, SmallVectorImpl<Attribute> &layers);
  /// A value of `source` in `whole`; parameters are copied when they are first needed.
  Value inWhole(Value value);

  func::FuncOp source, whole;
  OpBuilder b;
  IRMapping mapping; // from source to whole
  std::vector<Operation *> ops;
  DenseMap<Operation *, size_t> positions;
  /// Values that depend on embedded tokens.
  DenseSet<Value> hidden;
  std::vector<Cut> cuts;
  /// Functions by their text without names.
  llvm::StringMap<func::FuncOp> made;
  unsigned blocks = 0;
};
} // namespace

void Outliner::findHidden() {
  for (Operation &op : source.getBody().front()) {
    positions[&op] = ops.size();
    ops.push_back(&op);
    bool isHidden = isa<EmbedOp>(op) || llvm::any_of(op.getOperands(), [&](Value v) { return hidden.contains(v); });
    if (isHidden)
      hidden.insert(op.result_begin(), op.result_end());
  }
}

/// The first (or last) point behind an operation of [begin, end) that is a cut.
std::optional<Cut> Outliner::cutBetween(size_t begin, size_t end, bool latest) {
  std::optional<Cut> found;
  for (size_t at = begin; at < end; ++at) {
    SmallVector<Value> alive;
    for (size_t i = 0; i <= at; ++i)
      for (Value value : ops[i]->getResults())
        if (hidden.contains(value) &&
            llvm::any_of(value.getUsers(), [&](Operation *user) { return positions.lookup(user) > at; }))
          alive.push_back(value);
    if (alive.size() != 1)
      continue;
    found = Cut{at, alive.front()};
    if (!latest)
      return found;
  }
  return found;
}

LogicalResult Outliner::findCuts() {
  struct Group {
    unsigned number;
    LinearOp first, last;
  };
  std::vector<Group> groups;
  for (Operation *op : ops)
    if (auto linear = dyn_cast<LinearOp>(op))
      if (std::optional<unsigned> number = blockNumber(linear)) {
        if (groups.empty() || groups.back().number != *number)
          groups.push_back({*number, linear, linear});
        groups.back().last = linear;
      }
  if (groups.empty())
    return source.emitOpError("expected linears named by decoder blocks (layers.0...), got none");
  std::optional<Cut> cut = cutBetween(0, positions.lookup(groups.front().first), /*latest=*/true);
  if (!cut)
    return groups.front().first.emitOpError("expected one tensor alive before the first decoder block");
  cuts.push_back(*cut);
  for (size_t i = 0; i < groups.size(); ++i) {
    size_t end = i + 1 < groups.size() ? positions.lookup(groups[i + 1].first) : ops.size() - 1;
    cut = cutBetween(positions.lookup(groups[i].last), end, /*latest=*/false);
    if (!cut)
      return groups[i].last.emitOpError("expected one tensor alive behind decoder block ") << groups[i].number;
    cuts.push_back(*cut);
  }
  return success();
}

SmallVector<Operation *> Outliner::partBetween(Value input, Value result) {
  SetVector<Operation *> slice;
  BackwardSliceOptions options;
  options.inclusive = true;
  options.filter = [&](Operation *op) { return op != input.getDefiningOp() && !isParameter(op); };
  (void)getBackwardSlice(result, &slice, options);
  SmallVector<Operation *> part(slice.begin(), slice.end());
  // What does not depend on the hidden state (tables of positions) stands first: wherever it was in the whole, equal
  // blocks look the same.
  auto isHidden = [&](Operation *op) { return hidden.contains(op->getResult(0)); };
  llvm::sort(part, [&](Operation *x, Operation *y) {
    return std::pair(isHidden(x), positions.lookup(x)) < std::pair(isHidden(y), positions.lookup(y));
  });
  return part;
}

Value Outliner::inWhole(Value value) {
  if (mapping.contains(value))
    return mapping.lookup(value);
  Operation *op = value.getDefiningOp();
  for (Value operand : op->getOperands())
    (void)inWhole(operand);
  b.clone(*op, mapping);
  return mapping.lookup(value);
}

func::FuncOp Outliner::addFunction(ArrayRef<Operation *> part, ArrayRef<Value> outside, TypeRange types, Value result,
                                   StringRef name, SmallVectorImpl<Attribute> &layers) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(whole);
  auto function = func::FuncOp::create(b, source.getLoc(), name, b.getFunctionType(types, result.getType()));
  b.setInsertionPointToStart(function.addEntryBlock());
  IRMapping inner;
  inner.map(outside, function.getArguments());
  for (Operation *op : part) {
    Operation *copy = b.clone(*op, inner);
    if (auto linear = dyn_cast<LinearOp>(copy)) {
      layers.push_back(b.getStringAttr(linear.getLayer().value_or("")));
      linear.removeOnnxNameAttr();
    }
  }
  func::ReturnOp::create(b, source.getLoc(), inner.lookup(result));

  // The text without names of layers tells whether there is such a function already.
  func::FuncOp plain = function.clone();
  plain.walk([](LinearOp linear) { linear.removeLayerAttr(); });
  plain.setName("_");
  std::string text;
  llvm::raw_string_ostream(text) << *plain.getOperation();
  plain.erase();
  auto [place, isNew] = made.try_emplace(text, function);
  if (isNew) {
    if (name == "block")
      function.setName("block" + std::to_string(blocks++));
    return function;
  }
  function.erase();
  return place->second;
}

void Outliner::outline(Value input, Value result, StringRef name) {
  SmallVector<Operation *> part = partBetween(input, result);
  // The input, then arguments of the whole function, then parameters in the order of their use.
  SetVector<Value> outside, parameters;
  outside.insert(input);
  for (Operation *op : part)
    for (Value operand : op->getOperands()) {
      if (isa<BlockArgument>(operand))
        outside.insert(operand);
      else if (isParameter(operand.getDefiningOp()))
        parameters.insert(operand);
    }
  outside.insert(parameters.begin(), parameters.end());

  // Parameters arrive as plain f32.
  Location loc = source.getLoc();
  SmallVector<Value> operands;
  for (Value value : outside) {
    Value operand = inWhole(value);
    auto type = cast<RankedTensorType>(operand.getType());
    if (isa<FloatType>(type.getElementType()) && (type.getEncoding() || !type.getElementType().isF32()))
      operand = ConvertOp::create(b, loc, RankedTensorType::get(type.getShape(), b.getF32Type()), operand);
    operands.push_back(operand);
  }
  SmallVector<Attribute> layers;
  func::FuncOp function =
      addFunction(part, outside.getArrayRef(), ValueRange(operands).getTypes(), result, name, layers);
  auto call = func::CallOp::create(b, loc, function, operands);
  call->setAttr(kLayersAttr, b.getArrayAttr(layers));
  mapping.map(result, call.getResult(0));
}

LogicalResult Outliner::run() {
  findHidden();
  if (failed(findCuts()))
    return failure();
  EmbedOp embed;
  for (Operation *op : ops)
    if (auto found = dyn_cast<EmbedOp>(op); found && found.getIds() == source.getArgument(0))
      embed = found;
  if (!embed)
    return source.emitOpError("expected an embedding of the tokens");

  b.setInsertionPoint(source);
  whole = func::FuncOp::create(b, source.getLoc(), source.getName(), source.getFunctionType());
  b.setInsertionPointToStart(whole.addEntryBlock());
  mapping.map(source.getArguments(), whole.getArguments());
  (void)inWhole(embed.getResult());
  if (cuts.front().value != embed.getResult())
    outline(embed.getResult(), cuts.front().value, "embed");
  for (size_t i = 0; i + 1 < cuts.size(); ++i)
    outline(cuts[i].value, cuts[i + 1].value, "block");
  Value loss = source.getBody().front().getTerminator()->getOperand(0);
  outline(cuts.back().value, loss, "head");
  func::ReturnOp::create(b, source.getLoc(), mapping.lookup(loss));
  source.erase();
  return success();
}

namespace {
class OutlineBlocksPass : public skim::impl::OutlineBlocksBase<OutlineBlocksPass> {
public:
  using OutlineBlocksBase::OutlineBlocksBase;
  void runOnOperation() override {
    auto model = getOperation().lookupSymbol<func::FuncOp>(function);
    if (!model) {
      getOperation().emitError("expected a function '") << function << "' to outline, got none";
      return signalPassFailure();
    }
    FailureOr<func::FuncOp> loss = makeSequenceLoss(model);
    if (failed(loss) || failed(Outliner(*loss).run()))
      signalPassFailure();
  }
};
} // namespace
