//===- ModelWalk.cpp - walks a model function, for any kind of step ---------===//

#include "skim/Target/Common/ModelWalk.h"

#include "skim/Target/Common/ModelValues.h"
#include "skim/Transforms/FuseLinears.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace skim;

std::string Expression::spell() const {
  if (kind == Input)
    return "i" + std::to_string(input);
  if (kind == Constant)
    return "c" + spellNumber(constant);
  std::string text = StringRef(operation).rsplit('.').second.str() + "(";
  for (const Expression &operand : operands)
    text += operand.spell() + ",";
  text.back() = ')';
  return text;
}

//===--- signature ---===//

Error ModelWalk::readSignature() {
  const char *names[] = {"tokens", "start", "count", "rows"};
  if (forward.isDeclaration() || !llvm::hasSingleElement(forward.getBody()))
    return failAt(forward, "unsupported model function", "one block", "none or several");
  if (forward.getNumArguments() < 4 || forward.getNumResults() < 1)
    return failAt(forward, "unsupported model function", "arguments tokens, start, count, rows and the caches",
                  skim::spell(forward.getFunctionType()));
  for (unsigned i = 0; i < 4; ++i) {
    auto type = dyn_cast<RankedTensorType>(forward.getArgument(i).getType());
    if (!type || !type.getElementType().isInteger(32) || type.getRank() != (i == 0 ? 2 : 1))
      return failAt(forward, "unsupported model function", std::string("i32 ") + names[i],
                    skim::spell(forward.getArgument(i).getType()));
  }
  int64_t prefix = 0;
  for (BlockArgument argument : forward.getArguments().drop_front(4)) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!forward.getArgAttr(argument.getArgNumber(), "skim.cache") || !type || type.getRank() != 4 ||
        type.isDynamicDim(1) || type.isDynamicDim(3) || !type.getElementType().isF32() || type.getEncoding())
      return failAt(forward, "unsupported model function", "a cache [batch, heads, capacity, size] of f32",
                    skim::spell(argument.getType()));
    caches[argument] = static_cast<unsigned>(cacheTensors.size());
    cacheTensors.push_back({prefix, type.getDimSize(1), type.getDimSize(3)});
    programCaches.push_back({type.getDimSize(1), type.getDimSize(3), 4});
    prefix += type.getDimSize(1) * type.getDimSize(3) * 4;
  }
  auto returned = cast<func::ReturnOp>(forward.getBody().front().getTerminator());
  logits = returned.getOperand(0);
  auto type = dyn_cast<RankedTensorType>(logits.getType());
  if (!type || type.getRank() != 2 || type.isDynamicDim(1) || !type.getElementType().isF32())
    return failAt(forward, "unsupported model function", "logits [rows, vocabulary] of f32",
                  skim::spell(logits.getType()));
  vocabulary = type.getDimSize(1);
  if (auto attribute = forward->getAttrOfType<IntegerAttr>("skim.context"))
    context = attribute.getInt();
  return Error::success();
}

Error ModelWalk::expectArgument(Operation *op, Value value, unsigned argument, const char *name) {
  if (value == forward.getArgument(argument))
    return Error::success();
  return failAt(op, "unsupported operand", std::string("the function's argument '") + name + "'", "another value");
}

//===--- values ---===//

void ModelWalk::bind(Value value, const View &view) {
  views[value] = view;
  ++valuesIn[view.buffer];
}

Expected<View> ModelWalk::viewOf(Operation *op, Value value) {
  auto found = views.find(value);
  if (found != views.end())
    return found->second;
  return failAt(op ? op : forward.getOperation(), "unsupported operand", "an activation", skim::spell(value.getType()));
}

View ModelWalk::newResult(Value value, bool gathered) {
  int64_t channels = channelsOf(value);
  if (value != logits || !gathered)
    return addRows(channels, gathered);
  return {logitsBuffer, 0, channels, channels, true};
}

View ModelWalk::contiguous(const View &view) {
  if (view.contiguous())
    return view;
  View copy = addRows(view.channels, view.gathered);
  addCopy(view, copy);
  return copy;
}

//===--- operations ---===//

Error ModelWalk::walk() {
  if (Error error = readSignature())
    return error;
  begin();
  for (Operation &op : forward.getBody().front())
    if (Error error = lower(&op))
      return error;
  return Error::success();
}

Error ModelWalk::lower(Operation *op) {
  if (done.contains(op))
    return Error::success();
  for (Type type : op->getResultTypes())
    if (auto tensor = dyn_cast<RankedTensorType>(type); tensor && isa<FloatType>(tensor.getElementType()) &&
                                                        !tensor.hasStaticShape() && !tensor.getElementType().isF32())
      return failAt(op, "unsupported activation type", "f32", skim::spell(type));
  done.insert(op);
  // Constants are read where they are used; positions inside rotary tables.
  if (isa<ExternalOp, AssembleOp, lm::PositionsOp, ObserveOp, tensor::DimOp, tensor::SplatOp>(op) ||
      op->hasTrait<OpTrait::ConstantLike>())
    return Error::success();
  if (auto linear = dyn_cast<LinearOp>(op))
    return lowerLinear(linear);
  if (auto embed = dyn_cast<EmbedOp>(op)) {
    Error error = expectArgument(op, embed.getIds(), 0, "tokens");
    return error ? error : lowerEmbed(embed);
  }
  if (auto norm = dyn_cast<lm::RMSNormOp>(op))
    return lowerNorm(norm);
  if (auto table = dyn_cast<lm::RotaryTableOp>(op)) {
    auto positions = table.getPositions().getDefiningOp<lm::PositionsOp>();
    if (!positions)
      return failAt(op, "unsupported positions", "the result of lm.positions",
                    skim::spell(table.getPositions().getType()));
    Error error = expectArgument(positions, positions.getStart(), 1, "start");
    return error ? error : lowerRotaryTable(table);
  }
  if (auto rotary = dyn_cast<lm::RotaryOp>(op))
    return fusedRotary(rotary.getResult()) ? Error::success() : lowerRotary(rotary);
  if (auto append = dyn_cast<lm::CacheAppendOp>(op))
    return lowerCacheAppend(append);
  if (auto attention = dyn_cast<lm::AttentionOp>(op))
    return lowerCachedAttention(attention);
  if (auto gather = dyn_cast<lm::GatherRowsOp>(op)) {
    if (Error error = expectArgument(op, gather.getRows(), 3, "rows"))
      return error;
    Expected<View> x = viewOf(op, gather.getInput());
    return x ? lowerGatherRows(gather, *x) : x.takeError();
  }
  if (auto ret = dyn_cast<func::ReturnOp>(op))
    return lowerReturn(ret);
  if (auto cast = dyn_cast<tensor::CastOp>(op))
    return lowerAlias(op, cast.getSource(), 0);
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op)) {
    // A range of channels; the other dimensions are whole (their sizes are dynamic).
    auto source = slice.getSourceType();
    bool whole = slice.getType().getRank() == source.getRank() && !slice.isDynamicOffset(source.getRank() - 1);
    for (OpFoldResult stride : slice.getMixedStrides())
      whole &= isConstantIntValue(stride, 1);
    for (OpFoldResult offset : ArrayRef(slice.getMixedOffsets()).drop_back())
      whole &= isConstantIntValue(offset, 0);
    if (whole)
      return lowerAlias(op, slice.getSource(), slice.getStaticOffset(source.getRank() - 1));
    return failAt(op, "unsupported slice", "a static range of the last dimension", skim::spell(slice.getType()));
  }
  if (auto convert = dyn_cast<ConvertOp>(op); convert && cast<RankedTensorType>(convert.getType()).hasStaticShape())
    return Error::success(); // a weight's
  if (isElementwise(op->getName().getStringRef()))
    return isInlined(op) ? Error::success() : lowerTree(op);
  return failAt(op, "unsupported operation", "an operation with a kernel", op->getName().getStringRef().str());
}

//===--- linears ---===//

SmallVector<LinearOp> ModelWalk::callOf(LinearOp op) const {
  SmallVector<LinearOp> linears = {op};
  Attribute group = op->getAttr(kGroupAttr);
  if (!group || op.getResult() == logits)
    return linears;
  for (LinearOp other : op->getBlock()->getOps<LinearOp>())
    if (other != op && other->getAttr(kGroupAttr) == group && other.getInput() == op.getInput() &&
        other.getModeAttr() == op.getModeAttr() && other.getResult() != logits)
      linears.push_back(other);
  return linears;
}

Operation *ModelWalk::takeResidual(LinearOp op, View &residual) {
  if (!op->hasOneUse())
    return nullptr;
  Operation *sum = *op->user_begin();
  if (!sum->hasAttr(kEpilogueAttr) || !isa<arith::AddFOp>(sum) || sum->getResult(0) == logits)
    return nullptr;
  Value other = sum->getOperand(sum->getOperand(0) == op.getResult() ? 1 : 0);
  auto found = views.find(other);
  if (found == views.end() || found->second.buffer == logitsBuffer || valuesIn.lookup(found->second.buffer) != 1)
    return nullptr;
  if (!llvm::all_of(other.getUsers(), [&](Operation *user) { return user == sum || isDone(user); }))
    return nullptr;
  residual = found->second;
  views.erase(found);
  views[sum->getResult(0)] = residual;
  done.insert(sum);
  return sum;
}

//===--- caches and attention ---===//

Expected<unsigned> ModelWalk::cacheOf(Operation *op, Value value) const {
  auto found = caches.find(value);
  if (found != caches.end())
    return found->second;
  return failAt(op, "unknown cache", "an argument with skim.cache or what was appended to one",
                skim::spell(value.getType()));
}

lm::RotaryOp ModelWalk::fusedRotary(Value value) {
  auto rotary = value.getDefiningOp<lm::RotaryOp>();
  if (!rotary || !rotary->hasOneUse())
    return {};
  auto append = dyn_cast<lm::CacheAppendOp>(*rotary->user_begin());
  return append && append.getInput() == value && append->getBlock() == rotary->getBlock() ? rotary : lm::RotaryOp();
}

Error ModelWalk::lowerCacheAppend(lm::CacheAppendOp op) {
  if (Error error = expectArgument(op, op.getStart(), 1, "start"))
    return error;
  if (Error error = expectArgument(op, op.getCount(), 2, "count"))
    return error;
  Expected<unsigned> cache = cacheOf(op, op.getCache());
  if (!cache)
    return cache.takeError();
  caches[op.getResult()] = *cache;
  lm::RotaryOp rotary = fusedRotary(op.getInput());
  Expected<View> x = viewOf(op, rotary ? rotary.getInput() : op.getInput());
  return x ? lowerAppend(op, *cache, *x, rotary) : x.takeError();
}

Error ModelWalk::lowerCachedAttention(lm::AttentionOp op) {
  if (Error error = expectArgument(op, op.getStart(), 1, "start"))
    return error;
  Expected<View> query = viewOf(op, op.getQuery());
  if (!query)
    return query.takeError();
  Expected<unsigned> keys = cacheOf(op, op.getKeys()), values = cacheOf(op, op.getValues());
  for (Expected<unsigned> *cache : {&keys, &values})
    if (!*cache)
      return cache->takeError();
  int64_t channels = static_cast<int64_t>(op.getHeads()) * cacheTensors[*values].size;
  if (channels != channelsOf(op.getResult()))
    return failAt(op, "unsupported attention", std::to_string(channels) + " channels", skim::spell(op.getType()));
  return lowerAttention(op, *query, *keys, *values);
}

//===--- elementwise ---===//

/// The number that a value holds in every element, if it is such a constant.
static std::optional<double> splatConstant(Value value) {
  if (auto splat = value.getDefiningOp<tensor::SplatOp>()) {
    FloatAttr scalar;
    if (matchPattern(splat.getInput(), m_Constant(&scalar)))
      return scalar.getValueAsDouble();
    return std::nullopt;
  }
  DenseElementsAttr elements;
  if (matchPattern(value, m_Constant(&elements)) && elements.isSplat() && isa<FloatType>(elements.getElementType()))
    return elements.getSplatValue<FloatAttr>().getValueAsDouble();
  return std::nullopt;
}

bool ModelWalk::isInlined(Operation *op) const {
  if (!isElementwise(op->getName().getStringRef()) || !op->hasOneUse() || op->hasAttr(kEpilogueAttr))
    return false;
  Operation *user = *op->user_begin();
  return isElementwise(user->getName().getStringRef()) && !user->hasAttr(kEpilogueAttr) &&
         user->getBlock() == op->getBlock() && user->getResult(0).getType() == op->getResult(0).getType();
}

Error ModelWalk::buildExpression(Value value, bool root, Expression &expression, SmallVectorImpl<View> &inputs,
                                 SmallVectorImpl<Value> &leaves) {
  if (std::optional<double> constant = splatConstant(value)) {
    expression.kind = Expression::Constant;
    expression.constant = *constant;
    return Error::success();
  }
  Operation *op = value.getDefiningOp();
  if (op && (root || isInlined(op))) {
    expression.kind = Expression::Apply;
    expression.operation = op->getName().getStringRef().str();
    for (Value operand : op->getOperands())
      if (Error error = buildExpression(operand, false, expression.operands.emplace_back(), inputs, leaves))
        return error;
    return Error::success();
  }
  auto known = llvm::find(leaves, value);
  expression.kind = Expression::Input;
  expression.input = static_cast<unsigned>(known - leaves.begin());
  if (known != leaves.end())
    return Error::success();
  Expected<View> view = viewOf(op, value);
  if (!view)
    return view.takeError();
  inputs.push_back(*view);
  leaves.push_back(value);
  return Error::success();
}

Error ModelWalk::lowerTree(Operation *op) {
  Expression expression;
  SmallVector<View> inputs;
  SmallVector<Value> leaves;
  if (Error error = buildExpression(op->getResult(0), true, expression, inputs, leaves))
    return error;
  if (inputs.empty())
    return failAt(op, "unsupported operation", "an operand that is no constant", "constants only");
  for (const View &input : inputs)
    if (input.channels != channelsOf(op->getResult(0)) || input.gathered != inputs[0].gathered)
      return failAt(op, "unsupported operation", "operands of equal shape", "different shapes");
  return lowerElementwise(op, expression, inputs);
}

//===--- views and the end ---===//

Error ModelWalk::lowerAlias(Operation *op, Value source, int64_t column) {
  Value result = op->getResult(0);
  Expected<View> view = viewOf(op, source);
  if (!view)
    return view.takeError();
  View part = *view;
  part.column += column;
  part.channels = channelsOf(result);
  bind(result, part);
  return Error::success();
}

Error ModelWalk::lowerReturn(func::ReturnOp op) {
  finish();
  Expected<View> view = viewOf(op, op.getOperand(0));
  if (!view)
    return view.takeError();
  if (!view->gathered)
    return failAt(op, "unsupported model function", "logits of the rows that lm.gather_rows chose",
                  skim::spell(op.getOperand(0).getType()));
  if (view->buffer != logitsBuffer)
    addCopy(*view, {logitsBuffer, 0, view->channels, view->channels, true});
  for (auto [index, value] : llvm::enumerate(op.getOperands().drop_front())) {
    auto found = caches.find(value);
    if (found == caches.end() || found->second != index)
      return failAt(op, "unsupported model function", "the caches as further results, in order",
                    skim::spell(value.getType()));
  }
  return Error::success();
}
