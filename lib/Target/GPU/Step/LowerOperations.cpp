//===- LowerOperations.cpp - operations of a model function as launches -----===//

#include "StepGenerator.h"
#include "skim/Transforms/FuseLinears.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

Error StepGenerator::lower(Operation *op) {
  if (done.contains(op))
    return Error::success();
  for (Type type : op->getResultTypes())
    if (auto tensor = dyn_cast<RankedTensorType>(type); tensor && isa<FloatType>(tensor.getElementType()) &&
                                                        !tensor.hasStaticShape() && !tensor.getElementType().isF32())
      return failAt(op, "unsupported activation type", "f32", spell(type));
  done.insert(op);
  // Constants are read where they are used; positions inside rotary tables.
  if (isa<ExternalOp, AssembleOp, lm::PositionsOp, ObserveOp, tensor::DimOp, tensor::SplatOp>(op) ||
      op->hasTrait<OpTrait::ConstantLike>())
    return Error::success();
  if (auto linear = dyn_cast<LinearOp>(op))
    return lowerLinear(linear);
  if (auto embed = dyn_cast<EmbedOp>(op))
    return lowerEmbed(embed);
  if (auto norm = dyn_cast<lm::RMSNormOp>(op))
    return lowerNorm(norm);
  if (auto table = dyn_cast<lm::RotaryTableOp>(op))
    return lowerRotaryTable(table);
  if (auto rotary = dyn_cast<lm::RotaryOp>(op))
    return lowerRotary(rotary);
  if (auto append = dyn_cast<lm::CacheAppendOp>(op))
    return lowerCacheAppend(append);
  if (auto attention = dyn_cast<lm::AttentionOp>(op))
    return lowerAttention(attention);
  if (auto gather = dyn_cast<lm::GatherRowsOp>(op))
    return lowerGatherRows(gather);
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
    return failAt(op, "unsupported slice", "a static range of the last dimension", spell(slice.getType()));
  }
  if (auto convert = dyn_cast<ConvertOp>(op); convert && cast<RankedTensorType>(convert.getType()).hasStaticShape())
    return Error::success(); // a weight's
  if (isElementwise(op->getName().getStringRef()))
    return isInlined(op) ? Error::success() : lowerElementwise(op);
  return failAt(op, "unsupported operation", "an operation with a kernel", op->getName().getStringRef().str());
}

//===--- embeddings ---===//

Error StepGenerator::lowerEmbed(EmbedOp op) {
  // In tiles, so that a tied head is the same weight.
  WeightEncoding term;
  Expected<SmallVector<int64_t>> table = weights.weight(op, op.getTable(), op.getLayer().value_or(""), term);
  if (!table)
    return table.takeError();
  if (Error error = expectArgument(op, op.getIds(), 0, "tokens"))
    return error;
  int64_t channels = channelsOf(op.getResult());
  int64_t vocabulary = cast<RankedTensorType>(op.getTable().getType()).getDimSize(0);
  Expected<EmbedLaunch> kernel = emitEmbed(place.builder, op.getLoc(), place.module, term, vocabulary, channels);
  if (!kernel)
    return kernel.takeError();
  View y = addRows(channels, false);
  bind(op.getResult(), y);
  SmallVector<StepArgument> arguments = {input("tokens"), pointer(y)};
  for (int64_t component : *table)
    arguments.push_back(weight(component));
  launch({kernel->kernel, kernel->threads, kernel->gridY}, false, arguments);
  return Error::success();
}

//===--- norms and rotary embedding ---===//

Error StepGenerator::lowerNorm(lm::RMSNormOp op) {
  Expected<View> x = viewOf(op, op.getInput());
  if (!x)
    return x.takeError();
  Expected<int64_t> scale = weights.vector(op, op.getWeight(), "");
  if (!scale)
    return scale.takeError();
  double epsilon = op.getEpsilon().convertToFloat(), offset = op.getOffset().convertToFloat();
  if (op.getHeads() == 1 && isInputOnly(op.getResult())) {
    defer(op, *x, normSource(epsilon, offset, isAligned(*x)), {pointer(*x), stride(*x), weight(*scale)});
    return Error::success();
  }
  View y = newResult(op.getResult(), x->gathered);
  bind(op.getResult(), y);
  launch(normKernel(place, x->channels, op.getHeads(), epsilon, offset), x->gathered,
         {pointer(*x), stride(*x), pointer(y), stride(y), weight(*scale)});
  return Error::success();
}

Error StepGenerator::lowerRotaryTable(lm::RotaryTableOp op) {
  auto positions = op.getPositions().getDefiningOp<lm::PositionsOp>();
  if (!positions)
    return failAt(op, "unsupported positions", "the result of lm.positions", spell(op.getPositions().getType()));
  if (Error error = expectArgument(positions, positions.getStart(), 1, "start"))
    return error;
  Expected<int64_t> frequencies = weights.vector(op, op.getFrequencies(), "");
  if (!frequencies)
    return frequencies.takeError();
  int64_t columns = channelsOf(op.getCos());
  View cos = addRows(columns, false), sin = addRows(columns, false);
  bind(op.getCos(), cos);
  bind(op.getSin(), sin);
  launch(rotaryTableKernel(place, columns, op.getScale().convertToFloat()), false,
         {weight(*frequencies), input("start"), input("length"), pointer(cos), pointer(sin)});
  return Error::success();
}

/// A rotary whose only use is an append is computed into the cache.
static lm::RotaryOp fusedRotary(Value value) {
  auto rotary = value.getDefiningOp<lm::RotaryOp>();
  if (!rotary || !rotary->hasOneUse())
    return {};
  auto append = dyn_cast<lm::CacheAppendOp>(*rotary->user_begin());
  return append && append.getInput() == value && append->getBlock() == rotary->getBlock() ? rotary : lm::RotaryOp();
}

static Rotation rotationOf(lm::RotaryOp op) {
  int64_t heads = op.getHeads();
  return {heads, channelsOf(op.getInput()) / heads, channelsOf(op.getCos()), op.getInterleaved()};
}

Error StepGenerator::lowerRotary(lm::RotaryOp op) {
  if (fusedRotary(op.getResult()))
    return Error::success();
  Expected<View> x = viewOf(op, op.getInput()), cos = viewOf(op, op.getCos()), sin = viewOf(op, op.getSin());
  for (Expected<View> *view : {&x, &cos, &sin})
    if (!*view)
      return view->takeError();
  if (llvm::is_contained(rotated, x->buffer))
    flushRotations();
  View y = newResult(op.getResult(), false);
  bind(op.getResult(), y);
  View cosines = contiguous(*cos), sines = contiguous(*sin);
  rotations.push_back({rotationOf(op), false});
  rotated.push_back(y.buffer);
  rotationArguments.append({pointer(*x), stride(*x), pointer(cosines), pointer(sines), pointer(y), stride(y)});
  return Error::success();
}

void StepGenerator::flushRotations() {
  if (rotations.empty())
    return;
  SmallVector<StepArgument> arguments = {input("caches"), input("capacity"), input("start"), input("count"),
                                         input("length")};
  arguments.append(rotationArguments);
  StepKernel kernel = rotaryKernel(place, rotations);
  rotations.clear();
  rotationArguments.clear();
  rotated.clear();
  launch(kernel, false, arguments);
}

//===--- caches and attention ---===//

Error StepGenerator::lowerCacheAppend(lm::CacheAppendOp op) {
  if (Error error = expectArgument(op, op.getStart(), 1, "start"))
    return error;
  if (Error error = expectArgument(op, op.getCount(), 2, "count"))
    return error;
  auto found = caches.find(op.getCache());
  if (found == caches.end())
    return failAt(op, "unknown cache", "an argument with skim.cache or what was appended to one",
                  spell(op.getCache().getType()));
  unsigned index = found->second;
  caches[op.getResult()] = index;
  const Cache &cache = cacheTensors[index];
  lm::RotaryOp rotary = fusedRotary(op.getInput());
  Expected<View> x = viewOf(op, rotary ? rotary.getInput() : op.getInput());
  if (!x)
    return x.takeError();
  if (llvm::is_contained(rotated, x->buffer))
    flushRotations();
  Rotation spec = {cache.heads, cache.size, 0, false};
  View cos = *x, sin = *x; // not read
  if (rotary) {
    spec = rotationOf(rotary);
    Expected<View> table[] = {viewOf(op, rotary.getCos()), viewOf(op, rotary.getSin())};
    for (Expected<View> &view : table)
      if (!view)
        return view.takeError();
    cos = contiguous(*table[0]);
    sin = contiguous(*table[1]);
  }
  rotations.push_back({spec, true});
  rotationArguments.append({pointer(*x), stride(*x), pointer(cos), pointer(sin), number(cache.prefix)});
  return Error::success();
}

Error StepGenerator::lowerAttention(lm::AttentionOp op) {
  if (Error error = expectArgument(op, op.getStart(), 1, "start"))
    return error;
  Expected<View> query = viewOf(op, op.getQuery());
  if (!query)
    return query.takeError();
  auto keys = caches.find(op.getKeys()), values = caches.find(op.getValues());
  if (keys == caches.end() || values == caches.end())
    return failAt(op, "unknown cache", "an argument with skim.cache or what was appended to one",
                  spell(op.getKeys().getType()));
  const Cache &keyCache = cacheTensors[keys->second], &valueCache = cacheTensors[values->second];
  AttentionSpec spec{static_cast<int64_t>(op.getHeads()),
                     keyCache.heads,
                     keyCache.size,
                     valueCache.size,
                     op.getScale().convertToDouble(),
                     static_cast<int64_t>(op.getWindow().value_or(0)),
                     op.getSoftcap() ? op.getSoftcap()->convertToDouble() : 0,
                     isAligned(*query) && keyCache.prefix % 16 == 0 && valueCache.prefix % 16 == 0};
  if (spec.heads * spec.valueSize != channelsOf(op.getResult()))
    return failAt(op, "unsupported attention", std::to_string(spec.heads * spec.valueSize) + " channels",
                  spell(op.getType()));
  SmallVector<StepArgument> arguments = {pointer(*query), stride(*query)};
  // Parts of the keys are put together by the launch that packs the result.
  if (isInputOnly(op.getResult())) {
    auto context = forward->getAttrOfType<IntegerAttr>("skim.context");
    int64_t keys = spec.window ? spec.window : context ? context.getInt() : 0;
    spec.splits = attentionSplits(spec, m, keys, target.multiprocessors);
  }
  if (spec.splits > 1) {
    int64_t parts = m * spec.heads * spec.splits;
    StepArgument outputs{StepArgument::Buffer, addBuffer(parts * spec.valueSize * 4)};
    StepArgument stats{StepArgument::Buffer, addBuffer(parts * 8)};
    arguments.append({outputs, stats});
    defer(op, *query, attentionSource(spec), {outputs, stats});
  } else {
    View y = newResult(op.getResult(), false);
    bind(op.getResult(), y);
    arguments.append({pointer(y), stride(y)});
  }
  arguments.append({input("caches"), input("capacity"), input("start"), input("count"), input("length"),
                    number(keyCache.prefix), number(valueCache.prefix)});
  launch(attentionKernel(place, spec), false, arguments);
  return Error::success();
}

Error StepGenerator::lowerGatherRows(lm::GatherRowsOp op) {
  if (Error error = expectArgument(op, op.getRows(), 3, "rows"))
    return error;
  Expected<View> x = viewOf(op, op.getInput());
  if (!x)
    return x.takeError();
  View y = newResult(op.getResult(), true);
  bind(op.getResult(), y);
  launch(gatherKernel(place, x->channels), true, {pointer(*x), stride(*x), pointer(y), stride(y), input("wanted")});
  return Error::success();
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

bool StepGenerator::isInlined(Operation *op) {
  if (!isElementwise(op->getName().getStringRef()) || !op->hasOneUse() || op->hasAttr(kEpilogueAttr))
    return false;
  Operation *user = *op->user_begin();
  return isElementwise(user->getName().getStringRef()) && !user->hasAttr(kEpilogueAttr) &&
         user->getBlock() == op->getBlock() && user->getResult(0).getType() == op->getResult(0).getType();
}

Error StepGenerator::buildExpression(Value value, bool root, Expression &expression, SmallVectorImpl<View> &inputs,
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

Error StepGenerator::lowerElementwise(Operation *op) {
  Expression expression;
  SmallVector<View> inputs;
  SmallVector<Value> leaves;
  if (Error error = buildExpression(op->getResult(0), true, expression, inputs, leaves))
    return error;
  int64_t channels = channelsOf(op->getResult(0));
  if (inputs.empty())
    return failAt(op, "unsupported operation", "an operand that is no constant", "constants only");
  for (const View &input : inputs)
    if (input.channels != channels || input.gathered != inputs[0].gathered)
      return failAt(op, "unsupported operation", "operands of equal shape", "different shapes");
  SmallVector<StepArgument> arguments;
  for (const View &input : inputs)
    arguments.append({pointer(input), stride(input)});
  if (isInputOnly(op->getResult(0))) {
    defer(op, inputs[0], mapSource(expression, inputs.size(), llvm::all_of(inputs, isAligned)), arguments);
    return Error::success();
  }
  View y = newResult(op->getResult(0), inputs[0].gathered);
  bind(op->getResult(0), y);
  arguments.append({pointer(y), stride(y)});
  launch(mapKernel(place, expression, channels, inputs.size()), y.gathered, arguments);
  return Error::success();
}

//===--- views and the end ---===//

Error StepGenerator::lowerAlias(Operation *op, Value source, int64_t column) {
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

Error StepGenerator::lowerReturn(func::ReturnOp op) {
  flushRotations(); // appends that nothing reads in this step
  Expected<View> view = viewOf(op, op.getOperand(0));
  if (!view)
    return view.takeError();
  if (!view->gathered)
    return failAt(op, "unsupported model function", "logits of the rows that lm.gather_rows chose",
                  spell(op.getOperand(0).getType()));
  if (view->buffer != kLogits) {
    View to;
    to.buffer = kLogits;
    to.stride = to.channels = view->channels;
    to.gathered = true;
    addCopy(*view, to);
  }
  for (auto [index, value] : llvm::enumerate(op.getOperands().drop_front())) {
    auto found = caches.find(value);
    if (found == caches.end() || found->second != index)
      return failAt(op, "unsupported model function", "the caches as further results, in order",
                    spell(value.getType()));
  }
  return Error::success();
}
