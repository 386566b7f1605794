//===- LowerOperations.cpp - operations of a model function as launches -----===//

#include "StepGenerator.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

//===--- embeddings ---===//

Error StepGenerator::lowerEmbed(EmbedOp op) {
  // In tiles, so that a tied head is the same weight.
  WeightEncoding term;
  Expected<SmallVector<int64_t>> table = weights.weight(op, op.getTable(), op.getLayer().value_or(""), term);
  if (!table)
    return table.takeError();
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

static Rotation rotationOf(lm::RotaryOp op) {
  int64_t heads = op.getHeads();
  return {heads, channelsOf(op.getInput()) / heads, channelsOf(op.getCos()), op.getInterleaved()};
}

Error StepGenerator::lowerRotary(lm::RotaryOp op) {
  Expected<View> x = viewOf(op, op.getInput()), cos = viewOf(op, op.getCos()), sin = viewOf(op, op.getSin());
  for (Expected<View> *view : {&x, &cos, &sin})
    if (!*view)
      return view->takeError();
  if (llvm::is_contained(rotated, x->buffer))
    flushRotations();
  View y = newResult(op.getResult(), false);
  bind(op.getResult(), y);
  View cosines = contiguous(*cos), sines = contiguous(*sin);
  rotations.push_back({rotationOf(op), false, isAligned(*x) && isAligned(y)});
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

/// Rows of a sequence from which on attention is made of matrix operations.
static constexpr int64_t kPrefillLength = 16;

Error StepGenerator::lowerAppend(lm::CacheAppendOp op, unsigned index, const View &x, lm::RotaryOp rotary) {
  const CacheTensor &cache = cacheTensors[index];
  if (llvm::is_contained(rotated, x.buffer))
    flushRotations();
  Rotation spec = {cache.heads, cache.size, 0, false};
  View cos = x, sin = x; // not read
  if (rotary) {
    spec = rotationOf(rotary);
    Expected<View> table[] = {viewOf(op, rotary.getCos()), viewOf(op, rotary.getSin())};
    for (Expected<View> &view : table)
      if (!view)
        return view.takeError();
    cos = contiguous(*table[0]);
    sin = contiguous(*table[1]);
  }
  rotations.push_back({spec, true, isAligned(x) && cache.prefix % 16 == 0});
  rotationArguments.append({pointer(x), stride(x), pointer(cos), pointer(sin), number(cache.prefix)});
  return Error::success();
}

Error StepGenerator::lowerAttention(lm::AttentionOp op, const View &query, unsigned keys, unsigned values) {
  const CacheTensor &keyCache = cacheTensors[keys], &valueCache = cacheTensors[values];
  AttentionSpec spec{static_cast<int64_t>(op.getHeads()),
                     keyCache.heads,
                     keyCache.size,
                     valueCache.size,
                     op.getScale().convertToDouble(),
                     static_cast<int64_t>(op.getWindow().value_or(0)),
                     op.getSoftcap() ? op.getSoftcap()->convertToDouble() : 0,
                     isAligned(query) && keyCache.prefix % 16 == 0 && valueCache.prefix % 16 == 0};
  View y = newResult(op.getResult(), false);
  bind(op.getResult(), y);
  SmallVector<StepArgument> arguments = {
      pointer(query),           stride(query),  pointer(y),     stride(y),       input("caches"),
      input("capacity"),        input("start"), input("count"), input("length"), number(keyCache.prefix),
      number(valueCache.prefix)};
  int64_t keysAtMost = spec.window ? spec.window : context;
  auto launchWith = [&](int64_t splits, llvm::function_ref<StepKernel()> kernel, Lengths lengths) {
    spec.splits = splits;
    SmallVector<StepArgument> all = arguments;
    if (splits > 1) {
      int64_t parts = m * spec.heads * splits;
      all.append({{StepArgument::Buffer, addBuffer(parts * spec.valueSize * 4)},
                  {StepArgument::Buffer, addBuffer(parts * 8)},
                  {StepArgument::Counters}});
    }
    launch(kernel(), false, all, lengths);
  };
  bool prefills = m >= kPrefillLength && fitsPrefill(spec);
  launchWith(
      attentionSplits(spec, m, keysAtMost, target.multiprocessors), [&] { return attentionKernel(place, spec); },
      prefills ? Lengths{1, kPrefillLength - 1} : Lengths());
  if (prefills)
    launchWith(prefillSplits(spec, m, keysAtMost, target.multiprocessors),
               [&] { return prefillKernel(place, spec, m); }, {kPrefillLength, 0});
  return Error::success();
}

Error StepGenerator::lowerGatherRows(lm::GatherRowsOp op, const View &x) {
  View y = newResult(op.getResult(), true);
  bind(op.getResult(), y);
  launch(gatherKernel(place, x.channels), true, {pointer(x), stride(x), pointer(y), stride(y), input("wanted")});
  return Error::success();
}

//===--- elementwise ---===//

Error StepGenerator::lowerElementwise(Operation *op, const Expression &expression, ArrayRef<View> inputs) {
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
  launch(mapKernel(place, expression, y.channels, inputs.size()), y.gathered, arguments);
  return Error::success();
}
