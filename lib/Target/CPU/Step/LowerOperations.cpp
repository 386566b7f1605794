//===- LowerOperations.cpp - operations of a model function as tasks --------===//

#include "StepGenerator.h"

using namespace mlir;
using namespace skim;
using namespace skim::step;

//===--- linears and embeddings ---===//

Error StepGenerator::lowerLinear(LinearOp first) {
  SmallVector<LinearOp> linears = callOf(first);
  done.insert(linears.begin(), linears.end());
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

  View y;
  if (linears.size() == 1 && takeResidual(first, y)) {
    call.epilogue = LinearEpilogue::Add;
  } else if (linears.size() == 1) {
    y = newResult(first.getResult(), x.gathered);
    bind(first.getResult(), y);
  } else {
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

static Rotary rotarySpec(lm::RotaryOp op) {
  int64_t heads = op.getHeads();
  return {heads, channelsOf(op.getInput()) / heads, channelsOf(op.getCos()), op.getInterleaved()};
}

Error StepGenerator::lowerRotary(lm::RotaryOp op) {
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

Error StepGenerator::lowerAppend(lm::CacheAppendOp op, unsigned cache, const View &x, lm::RotaryOp rotary) {
  Task task;
  task.reads = {x.buffer};
  task.writes = {cacheBuffers[cache]};
  if (!rotary) {
    task.emit = [this, x, cache](Emitter &e, const StepValues &s) {
      emitCacheAppend(e, s, rows(e, s, x), cacheTensors[cache]);
      return Error::success();
    };
  } else {
    Expected<View> cos = viewOf(op, rotary.getCos()), sin = viewOf(op, rotary.getSin());
    for (Expected<View> *view : {&cos, &sin})
      if (!*view)
        return view->takeError();
    task.reads.insert(task.reads.end(), {cos->buffer, sin->buffer});
    task.emit = [this, spec = rotarySpec(rotary), x, cos = *cos, sin = *sin, cache](Emitter &e, const StepValues &s) {
      emitRotaryAppend(e, s, spec, rows(e, s, x), rows(e, s, cos), rows(e, s, sin), cacheTensors[cache]);
      return Error::success();
    };
  }
  plan.addTask(std::move(task));
  return Error::success();
}

Error StepGenerator::lowerAttention(lm::AttentionOp op, const View &query, unsigned keys, unsigned values) {
  Attention spec{static_cast<int64_t>(op.getHeads()),
                 op.getScale().convertToDouble(),
                 static_cast<int64_t>(op.getWindow().value_or(0)),
                 op.getSoftcap() ? op.getSoftcap()->convertToDouble() : 0,
                 cacheTensors[keys],
                 cacheTensors[values]};
  View y = newResult(op.getResult(), false);
  bind(op.getResult(), y);
  perThread = std::max(perThread, attentionScratch(target, spec));
  Task task;
  task.reads = {query.buffer, cacheBuffers[keys], cacheBuffers[values]};
  task.writes = {y.buffer};
  task.emit = [this, spec, query, y](Emitter &e, const StepValues &s) {
    emitAttention(e, s, spec, rows(e, s, query), rows(e, s, y));
    return Error::success();
  };
  plan.addTask(std::move(task));
  return Error::success();
}

Error StepGenerator::lowerGatherRows(lm::GatherRowsOp op, const View &x) {
  View y = newResult(op.getResult(), true);
  bind(op.getResult(), y);
  Task task;
  task.gathered = true;
  task.reads = {x.buffer};
  task.writes = {y.buffer};
  task.emit = [this, x, y](Emitter &e, const StepValues &s) {
    emitGatherRows(e, s, x.channels, rows(e, s, x), rows(e, s, y));
    return Error::success();
  };
  plan.addTask(std::move(task));
  return Error::success();
}

//===--- elementwise ---===//

Error StepGenerator::lowerElementwise(Operation *op, const Expression &expression, ArrayRef<View> inputs) {
  View y = newResult(op->getResult(0), inputs[0].gathered);
  bind(op->getResult(0), y);
  Task task;
  task.gathered = y.gathered;
  for (const View &input : inputs)
    task.reads.push_back(input.buffer);
  task.writes = {y.buffer};
  task.emit = [this, expression, inputs = inputs.vec(), y](Emitter &e, const StepValues &s) {
    SmallVector<Rows> pointers;
    for (const View &input : inputs)
      pointers.push_back(rows(e, s, input));
    emitElementwise(e, s, expression, y.channels, pointers, rows(e, s, y), rowCount(s, y));
    return Error::success();
  };
  plan.addTask(std::move(task));
  return Error::success();
}

void StepGenerator::addCopy(const View &from, const View &to) {
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
