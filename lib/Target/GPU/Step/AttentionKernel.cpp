//===- AttentionKernel.cpp - attention over a cache -------------------------===//
//
// A block for each (row, head): its warps take keys in turn and keep a running
// maximum and sum (online softmax; Milakov and Gimelshein 2018), a lane has every
// 32nd element of a head. At the end the warps' parts are put together, as
// flash-decoding puts together parts of the context.
//
//===----------------------------------------------------------------------===//

#include "KernelValues.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

static constexpr int64_t kWarps = 4, kThreads = 32 * kWarps;
/// Score before the first key: e to its power is 0, and differences stay finite.
static constexpr double kNoScore = -1e30;

StepKernel device::attentionKernel(const KernelPlace &place, const AttentionSpec &spec) {
  std::string name = "attention_h" + std::to_string(spec.heads) + "_g" + std::to_string(spec.keyHeads) + "_k" +
                     std::to_string(spec.keySize) + "_v" + std::to_string(spec.valueSize) + "_s" +
                     spellNumber(spec.scale) + "_w" + std::to_string(spec.window) + "_c" + spellNumber(spec.softcap);
  auto types = kernelTypes(place, "pnpnppppnnn");
  makeKernel(place, name, types, kThreads, [&](StepBuilder &b, ArrayRef<BlockArgument> a) {
    Value row = b.blockX(), head = b.blockY(), length = a[8], lane = b.lane(), warp = b.warp();
    Value sequence = b.div(row, length), index = b.rem(row, length);
    Value firstOut = b.mul(head, spec.valueSize);
    auto parts = [](int64_t size) { return (size + 31) / 32; };
    auto column = [&](int64_t part) { return b.add(lane, 32 * part); };
    // Part `part` of a head of `size` elements at `base`, 0 behind its end.
    auto loadPart = [&](Value base, int64_t part, int64_t size) -> Value {
      Value pointer = b.element(base, b.wide(column(part)), b.f32());
      if (32 * (part + 1) <= size)
        return b.loadF32(pointer);
      return b.loadIf(b.less(column(part), b.i32(size)), pointer);
    };
    auto compute = [&] {
      Value capacity = b.load(b.i64(), b.element(a[5], b.wide(sequence), b.i64()));
      Value block = b.load(b.globalPtr(), b.offset(a[4], b.mul(b.wide(sequence), 8)));
      Value keyHead = b.wide(b.div(head, spec.heads / spec.keyHeads));
      auto cacheHead = [&](Value prefix, int64_t size) {
        Value tensor = b.offset(block, b.mul(capacity, b.wide(prefix)));
        return b.element(tensor, b.mul(b.mul(keyHead, capacity), size), b.f32());
      };
      Value keys = cacheHead(a[9], spec.keySize), values = cacheHead(a[10], spec.valueSize);
      Value end = b.add(b.add(b.number(a[6], sequence), index), 1), begin = b.i32(0);
      if (spec.window)
        begin = b.max(begin, b.sub(end, b.i32(spec.window)));
      Value queryHead = b.at(a[0], row, a[1], b.mul(head, spec.keySize));
      Values query;
      for (int64_t part = 0; part < parts(spec.keySize); ++part)
        query.push_back(loadPart(queryHead, part, spec.keySize));

      Values state = {b.f32(kNoScore), b.f32(0)};
      state.append(static_cast<size_t>(parts(spec.valueSize)), b.f32(0));
      state = b.loop(b.add(begin, warp), end, b.i32(kWarps), state, [&](Value j, ValueRange carried) {
        Value key = b.element(keys, b.mul(b.wide(j), spec.keySize), b.f32());
        Value value = b.element(values, b.mul(b.wide(j), spec.valueSize), b.f32());
        // All loads before the first use.
        Values k, v;
        for (int64_t part = 0; part < parts(spec.keySize); ++part)
          k.push_back(loadPart(key, part, spec.keySize));
        for (int64_t part = 0; part < parts(spec.valueSize); ++part)
          v.push_back(loadPart(value, part, spec.valueSize));
        Value dot = b.mul(query[0], k[0]);
        for (size_t part = 1; part < k.size(); ++part)
          dot = b.fma(query[part], k[part], dot);
        Value score = b.mul(b.warpSum(dot), b.f32(spec.scale));
        if (spec.softcap != 0)
          score = b.mul(b.tanh(b.mul(score, b.f32(1 / spec.softcap))), b.f32(spec.softcap));
        Value maximum = b.max(carried[0], score);
        Value correction = b.exp(b.sub(carried[0], maximum)), weight = b.exp(b.sub(score, maximum));
        Values next = {maximum, b.fma(carried[1], correction, weight)};
        for (size_t part = 0; part < v.size(); ++part)
          next.push_back(b.fma(v[part], weight, b.mul(carried[2 + part], correction)));
        return next;
      });

      // Maxima and sums of the warps, then their outputs.
      Value shared = b.sharedMemory(place.module, name + "_parts", 4 * (2 * kWarps + kWarps * spec.valueSize));
      Value outputs = b.offset(shared, 8 * kWarps);
      b.when(b.equal(lane, b.i32(0)), [&] {
        b.store(state[0], b.element(shared, warp, b.f32()));
        b.store(state[1], b.element(b.offset(shared, 4 * kWarps), warp, b.f32()));
      });
      for (int64_t part = 0; part < parts(spec.valueSize); ++part) {
        auto put = [&] {
          Value to = b.add(b.mul(warp, spec.valueSize), column(part));
          b.store(state[2 + part], b.element(outputs, to, b.f32()));
        };
        if (32 * (part + 1) <= spec.valueSize)
          put();
        else
          b.when(b.less(column(part), b.i32(spec.valueSize)), put);
      }
      b.barrier();
      Values factors;
      Value maximum = b.f32(kNoScore), sum = b.f32(0);
      for (int64_t w = 0; w < kWarps; ++w) {
        factors.push_back(b.loadF32(b.offset(shared, 4 * w)));
        maximum = b.max(maximum, factors.back());
      }
      for (int64_t w = 0; w < kWarps; ++w) {
        factors[w] = b.exp(b.sub(factors[w], maximum));
        sum = b.fma(factors[w], b.loadF32(b.offset(shared, 4 * (kWarps + w))), sum);
      }
      Value inverse = b.div(b.f32(1), sum);
      b.strided(spec.valueSize, kThreads, [&](Value c) {
        Value total = b.f32(0);
        for (int64_t w = 0; w < kWarps; ++w)
          total = b.fma(factors[w], b.loadF32(b.element(b.offset(outputs, 4 * w * spec.valueSize), c, b.f32())), total);
        b.store(b.mul(total, inverse), b.at(a[2], row, a[3], b.add(firstOut, c)));
      });
    };
    b.ifElse(b.less(index, b.number(a[7], sequence)), compute, [&] {
      b.strided(spec.valueSize, kThreads,
                [&](Value c) { b.store(b.f32(0), b.at(a[2], row, a[3], b.add(firstOut, c))); });
    });
  });
  return {name, kThreads, spec.heads};
}
