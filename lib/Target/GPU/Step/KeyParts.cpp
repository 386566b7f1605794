#include "KeyParts.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

AttentionArguments::AttentionArguments(StepBuilder &b, const AttentionSpec &spec, ArrayRef<BlockArgument> a)
    : b(b), spec(spec), query(a[0]), queryStride(a[1]), out(a[2]), outStride(a[3]), caches(a[4]), capacities(a[5]),
      starts(a[6]), counts(a[7]), length(a[8]), keyPrefix(a[9]), valuePrefix(a[10]) {
  if (spec.splits == 1)
    return;
  parts = a[11];
  stats = a[12];
  counters = a[13];
  split = b.blockZ();
}

Value AttentionArguments::cacheOf(Value sequence, Value head, Value prefix, int64_t size) {
  Value capacity = b.load(b.i64(), b.element(capacities, b.wide(sequence), b.i64()));
  Value block = b.load(b.globalPtr(), b.offset(caches, b.mul(b.wide(sequence), 8)));
  Value tensor = b.offset(block, b.mul(capacity, b.wide(prefix)));
  return b.element(tensor, b.mul(b.mul(b.wide(head), capacity), size), b.f32());
}

std::pair<Value, Value> AttentionArguments::partOf(Value from, Value to, int64_t granule, int64_t least) {
  if (spec.splits == 1)
    return {from, to};
  Value each = b.div(b.add(b.sub(to, from), spec.splits * granule - 1), spec.splits * granule);
  each = b.max(b.i32(least), b.mul(each, granule));
  isWhole = b.lessEqual(b.sub(to, from), each);
  Value first = b.add(from, b.mul(split, each));
  return {first, b.min(to, b.add(first, each))};
}

Value AttentionArguments::firstPart(Value row, Value head) {
  return b.mul(b.add(b.mul(b.wide(row), spec.heads), b.wide(head)), spec.splits);
}

Value AttentionArguments::resultRow(Value row, Value head) {
  return b.at(out, row, outStride, b.mul(head, spec.valueSize));
}

Value AttentionArguments::partRow(Value row, Value head) {
  return b.element(parts, b.mul(b.add(firstPart(row, head), b.wide(split)), spec.valueSize), b.f32());
}

void AttentionArguments::putStats(Value row, Value head, Value maximum, Value sum) {
  Value at = b.offset(stats, b.mul(b.add(firstPart(row, head), b.wide(split)), 8));
  b.store(maximum, at);
  b.store(sum, b.offset(at, 4));
}

void AttentionArguments::whenLast(Value place, Value word, llvm::function_ref<void()> body) {
  b.fence();
  b.barrier();
  Value counter = b.element(counters, place, b.i32()), first = b.equal(b.threadX(), b.i32(0));
  b.when(first, [&] { b.store(b.atomicAdd(counter, b.i32(1)), word); });
  b.barrier();
  b.when(b.equal(b.load(b.i32(), word), b.i32(spec.splits - 1)), [&] {
    b.fence();
    body();
    // As it was, for the next launch.
    b.when(first, [&] { b.store(b.i32(0), counter); });
  });
}

Values AttentionArguments::joined(Value row, Value head, Value c, int64_t count) {
  Value own = firstPart(row, head);
  Values maxima, sums;
  SmallVector<Value> outputs;
  Value statsAt = b.offset(stats, b.mul(own, 8));
  Value outputsAt = b.element(parts, b.add(b.mul(own, spec.valueSize), b.wide(c)), b.f32());
  Type type = count == 1 ? b.f32() : Type(b.vec(count, b.f32()));
  for (int64_t part = 0; part < spec.splits; ++part) {
    maxima.push_back(b.loadVolatile(b.f32(), b.offset(statsAt, 8 * part)));
    sums.push_back(b.loadVolatile(b.f32(), b.offset(statsAt, 8 * part + 4)));
    outputs.push_back(
        b.loadVolatile(type, b.offset(outputsAt, 4 * spec.valueSize * part), static_cast<unsigned>(4 * count)));
  }
  Value maximum = maxima[0], sum = b.f32(0);
  for (Value other : maxima)
    maximum = b.max(maximum, other);
  Values totals(count, b.f32(0));
  for (int64_t part = 0; part < spec.splits; ++part) {
    Value weight = b.exp(b.sub(maxima[part], maximum));
    sum = b.fma(sums[part], weight, sum);
    for (auto [i, total] : llvm::enumerate(totals))
      total = b.fma(count == 1 ? outputs[part] : b.extract(outputs[part], static_cast<int64_t>(i)), weight, total);
  }
  for (Value &total : totals)
    total = b.select(b.less(b.f32(0), sum), b.div(total, sum), b.f32(0));
  return totals;
}

SmallVector<Type> device::attentionTypes(const KernelPlace &place, const AttentionSpec &spec) {
  return kernelTypes(place, spec.splits > 1 ? "pnpnppppnnnppp" : "pnpnppppnnn");
}

std::string device::nameOf(const AttentionSpec &spec) {
  return "_h" + std::to_string(spec.heads) + "_g" + std::to_string(spec.keyHeads) + "_k" +
         std::to_string(spec.keySize) + "_v" + std::to_string(spec.valueSize) + "_s" + spellNumber(spec.scale) + "_w" +
         std::to_string(spec.window) + "_c" + spellNumber(spec.softcap) + "_p" + std::to_string(spec.splits) +
         (spec.aligned ? "" : "_u");
}
