//===- LowerOperations.cpp - operations of a model function as tasks --------===//

#include "StepGenerator.h"
#include "skim/Transforms/FuseLinears.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace skim;
using namespace skim::step;

static int64_t channelsOf(Value value) { return cast<RankedTensorType>(value.getType()).getShape().back(); }

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

//===--- linears and embeddings ---===//

Error StepGenerator::lowerLinear(LinearOp first) {
  SmallVector<LinearOp> linears = {first};
  if (Attribute group = first->getAttr(kGroupAttr))
    for (LinearOp other : first->getBlock()->getOps<LinearOp>())
      if (other != first && other->getAttr(kGroupAttr) == group && other.getInput() == first.getInput() &&
          other.getModeAttr() == first.getModeAttr() && other.getResult() != logits && first.getResult() != logits) {
        linears.push_back(other);
        done.insert(other);
      }

  LinearCall call;
  call.k = channelsOf(first.getInput());
  call.mode = first.getMode().value_or("f32").str();
  int64_t columns = 0;
  for (LinearOp linear : linears) {
    StringRef layer = linear.getLayer().value_or("");
    auto layout = linear->getAttrOfType<LayoutAttr>(kLayoutAttr);
    Expected<Weight> weight = resolveWeight(linear, linear.getWeight(), layer, layout);
    if (!weight)
      return weight.takeError();
    LinearPanel panel;
    panel.term = weight->term;
    panel.n = channelsOf(linear.getResult());
    panel.layout = layout;
    panel.weights.assign(weight->indices.begin(), weight->indices.end());
    panel.yColumn = columns;
    columns += panel.n;
    if (Value bias = linear.getBias()) {
      Expected<int64_t> index = resolveVector(linear, bias, layer);
      if (!index)
        return index.takeError();
      panel.biasWeight = *index;
    }
    call.panels.push_back(std::move(panel));
  }

  Expected<View> input = viewOf(first, first.getInput());
  if (!input)
    return input.takeError();
  View x = contiguous(*input);

  // The residual sum, in the residual's memory: nothing else lives there, and
  // everything else that reads it is planned already.
  View y;
  bool inPlace = false;
  if (linears.size() == 1 && first->hasOneUse()) {
    Operation *sum = *first->user_begin();
    if (sum->hasAttr(kEpilogueAttr) && isa<arith::AddFOp>(sum)) {
      Value residual = sum->getOperand(sum->getOperand(0) == first.getResult() ? 1 : 0);
      auto found = views.find(residual);
      if (found != views.end() && plan.buffers[found->second.buffer].values == 1 &&
          plan.buffers[found->second.buffer].kind == Buffer::Scratch && sum->getResult(0) != logits &&
          llvm::all_of(residual.getUsers(),
                       [&](Operation *user) { return user == sum || (done.contains(user) && !isInlined(user)); })) {
        inPlace = true;
        y = found->second;
        views[sum->getResult(0)] = y; // takes over the residual's place
        views.erase(residual);
        done.insert(sum);
        call.epilogue = LinearEpilogue::Add;
      }
    }
  }
  if (!inPlace && linears.size() == 1) {
    y = newResult(first.getResult(), x.gathered);
    bind(first.getResult(), y);
  } else if (!inPlace) {
    y = plan.addRows(columns, x.gathered);
    for (auto [linear, panel] : llvm::zip(linears, call.panels)) {
      View part = y;
      part.column = panel.yColumn;
      part.channels = panel.n;
      bind(linear.getResult(), part);
    }
  }

  LinearScratch scratch = linearScratch(target, call);
  Task task;
  task.gathered = x.gathered;
  task.reads = {x.buffer};
  task.writes = {y.buffer};
  if (scratch.sharedFixed || scratch.sharedPerRow)
    task.writes.push_back(sharedBuffer);
  sharedFixed = std::max(sharedFixed, scratch.sharedFixed);
  sharedPerRow = std::max(sharedPerRow, scratch.sharedPerRow);
  perThread = std::max(perThread, scratch.perThread);
  task.emit = [this, call, x, y](Emitter &e, const StepValues &s) {
    Rows from = rows(e, s, x), to = rows(e, s, y);
    KernelValues values{from.pointer, to.pointer, to.stride, rowCount(s, x), s.scratch,
                        s.priv,       s.args,     s.thread,  s.threads};
    return emitLinear(e.builder, e.loc, s.module, target, call, values);
  };
  plan.addTask(std::move(task));
  return Error::success();
}

Error StepGenerator::lowerEmbed(EmbedOp op) {
  Expected<Weight> weight = resolveWeight(op, op.getTable(), op.getLayer().value_or(""));
  if (!weight)
    return weight.takeError();
  if (Error error = expectArgument(op, op.getIds(), 0, "tokens"))
    return error;
  View y = plan.addRows(channelsOf(op.getResult()), false);
  bind(op.getResult(), y);
  Task task;
  task.writes = {y.buffer};
  task.emit = [this, weight = *weight, y](Emitter &e, const StepValues &s) {
    return emitEmbed(e.builder, e.loc, s.module, target, weight.term, weight.type.getDimSize(0),
                     weight.type.getDimSize(1), weight.indices, s.tokens, rows(e, s, y).pointer, s.rows, s.args,
                     s.thread, s.threads);
  };
  plan.addTask(std::move(task));
  return Error::success();
}

//===--- norms and rotary embedding ---===//

Error StepGenerator::lowerNorm(lm::RMSNormOp op) {
  Expected<View> x = viewOf(op, op.getInput());
  if (!x)
    return x.takeError();
  Expected<int64_t> weight = resolveVector(op, op.getWeight(), "");
  if (!weight)
    return weight.takeError();
  View y = newResult(op.getResult(), x->gathered);
  bind(op.getResult(), y);
  RmsNorm spec{x->channels, static_cast<int64_t>(op.getHeads()), op.getEpsilon().convertToFloat(),
               op.getOffset().convertToFloat()};
  Task task;
  task.gathered = x->gathered;
  task.reads = {x->buffer};
  task.writes = {y.buffer};
  task.emit = [this, spec, x = *x, y, weight = *weight](Emitter &e, const StepValues &s) {
    emitRmsNorm(e, s, spec, rows(e, s, x), rows(e, s, y), weightPointer(e, s, weight), rowCount(s, x));
    return Error::success();
  };
  plan.addTask(std::move(task));
  return Error::success();
}

Error StepGenerator::lowerRotaryTable(lm::RotaryTableOp op) {
  auto positions = op.getPositions().getDefiningOp<lm::PositionsOp>();
  if (!positions)
    return failAt(op, "unsupported positions", "the result of lm.positions", spell(op.getPositions().getType()));
  if (Error error = expectArgument(positions, positions.getStart(), 1, "start"))
    return error;
  Expected<int64_t> frequencies = resolveVector(op, op.getFrequencies(), "");
  if (!frequencies)
    return frequencies.takeError();
  int64_t columns = channelsOf(op.getCos());
  View cos = plan.addRows(columns, false), sin = plan.addRows(columns, false);
  bind(op.getCos(), cos);
  bind(op.getSin(), sin);
  Task task;
  task.writes = {cos.buffer, sin.buffer};
  double scale = op.getScale().convertToFloat();
  task.emit = [this, columns, scale, cos, sin, index = *frequencies](Emitter &e, const StepValues &s) {
    emitRotaryTable(e, s, columns, scale, weightPointer(e, s, index), rows(e, s, cos), rows(e, s, sin));
    return Error::success();
  };
  plan.addTask(std::move(task));
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

static Rotary rotarySpec(lm::RotaryOp op) {
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
  View y = newResult(op.getResult(), false);
  bind(op.getResult(), y);
  Task task;
  task.reads = {x->buffer, cos->buffer, sin->buffer};
  task.writes = {y.buffer};
  task.emit = [this, spec = rotarySpec(op), x = *x, cos = *cos, sin = *sin, y](Emitter &e, const StepValues &s) {
    emitRotary(e, s, spec, rows(e, s, x), rows(e, s, cos), rows(e, s, sin), rows(e, s, y));
    return Error::success();
  };
  plan.addTask(std::move(task));
  return Error::success();
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
  unsigned cache = found->second;
  caches[op.getResult()] = cache;
  lm::RotaryOp rotary = fusedRotary(op.getInput());
  Expected<View> x = viewOf(op, rotary ? rotary.getInput() : op.getInput());
  if (!x)
    return x.takeError();
  Task task;
  task.reads = {x->buffer};
  task.writes = {cacheBuffers[cache]};
  if (!rotary) {
    task.emit = [this, x = *x, cache](Emitter &e, const StepValues &s) {
      emitCacheAppend(e, s, rows(e, s, x), cacheTensors[cache]);
      return Error::success();
    };
  } else {
    Expected<View> cos = viewOf(op, rotary.getCos()), sin = viewOf(op, rotary.getSin());
    for (Expected<View> *view : {&cos, &sin})
      if (!*view)
        return view->takeError();
    task.reads.insert(task.reads.end(), {cos->buffer, sin->buffer});
    task.emit = [this, spec = rotarySpec(rotary), x = *x, cos = *cos, sin = *sin, cache](Emitter &e,
                                                                                         const StepValues &s) {
      emitRotaryAppend(e, s, spec, rows(e, s, x), rows(e, s, cos), rows(e, s, sin), cacheTensors[cache]);
      return Error::success();
    };
  }
  plan.addTask(std::move(task));
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
  Attention spec{static_cast<int64_t>(op.getHeads()),
                 op.getScale().convertToDouble(),
                 static_cast<int64_t>(op.getWindow().value_or(0)),
                 op.getSoftcap() ? op.getSoftcap()->convertToDouble() : 0,
                 cacheTensors[keys->second],
                 cacheTensors[values->second]};
  if (spec.heads * spec.values.size != channelsOf(op.getResult()))
    return failAt(op, "unsupported attention", std::to_string(spec.heads * spec.values.size) + " channels",
                  spell(op.getType()));
  View y = newResult(op.getResult(), false);
  bind(op.getResult(), y);
  perThread = std::max(perThread, attentionScratch(target, spec));
  Task task;
  task.reads = {query->buffer, cacheBuffers[keys->second], cacheBuffers[values->second]};
  task.writes = {y.buffer};
  task.emit = [this, spec, query = *query, y](Emitter &e, const StepValues &s) {
    emitAttention(e, s, spec, rows(e, s, query), rows(e, s, y));
    return Error::success();
  };
  plan.addTask(std::move(task));
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
  Task task;
  task.gathered = true;
  task.reads = {x->buffer};
  task.writes = {y.buffer};
  task.emit = [this, x = *x, y](Emitter &e, const StepValues &s) {
    emitGatherRows(e, s, x.channels, rows(e, s, x), rows(e, s, y));
    return Error::success();
  };
  plan.addTask(std::move(task));
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
    expression.kind = op->getNumOperands() == 1 ? Expression::Unary : Expression::Binary;
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
  View y = newResult(op->getResult(0), inputs[0].gathered);
  bind(op->getResult(0), y);
  Task task;
  task.gathered = y.gathered;
  for (const View &input : inputs)
    task.reads.push_back(input.buffer);
  task.writes = {y.buffer};
  task.emit = [this, expression, inputs, y](Emitter &e, const StepValues &s) {
    SmallVector<Rows> pointers;
    for (const View &input : inputs)
      pointers.push_back(rows(e, s, input));
    emitElementwise(e, s, expression, y.channels, pointers, rows(e, s, y), rowCount(s, y));
    return Error::success();
  };
  plan.addTask(std::move(task));
  return Error::success();
}

void StepGenerator::addCopy(View from, View to) {
  Task task;
  task.gathered = to.gathered;
  task.reads = {from.buffer};
  task.writes = {to.buffer};
  task.emit = [this, from, to](Emitter &e, const StepValues &s) {
    emitElementwise(e, s, Expression(), to.channels, {rows(e, s, from)}, rows(e, s, to), rowCount(s, to));
    return Error::success();
  };
  plan.addTask(std::move(task));
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
  Expected<View> view = viewOf(op, op.getOperand(0));
  if (!view)
    return view.takeError();
  if (!view->gathered)
    return failAt(op, "unsupported model function", "logits of the rows that lm.gather_rows chose",
                  spell(op.getOperand(0).getType()));
  if (plan.buffers[view->buffer].kind != Buffer::Logits) {
    View to;
    to.buffer = logitsBuffer;
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
