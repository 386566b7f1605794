//===- FirstFactors.cpp - t = A·x beside the product that reads it ----------===//
//
// A launch for A costs more than the product with B. So the launch that multiplies
// the weight has a few blocks that multiply A, and the warps with a unit of B look
// at the end whether t is there.
//
// Blocks may only wait for blocks that run, and there may be no room for those of A
// until others end. So units of A are claimed: a warp of A's blocks takes one after
// the other; a warp that wants t and does not find it takes what nobody has taken, and
// only then waits, for warps that run and wait for nothing. That is safe for any
// order and number of blocks that run at once.
//
// A unit writes its 16 sums where its number says. Whoever completes the last one
// adds them up, in order, so that t does not depend on who did what; writes t packed,
// and then the word that the others look at. Each block counts itself when it has
// done with all that; the last one sets the words back to zero.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

/// Partial sums on their way to the lane that adds them up.
static constexpr int64_t kAtOnce = 16;

Value FirstFactors::at(Word word) const { return b.offset(arguments.counters, static_cast<int64_t>(word) * 4); }

/// What the first lane gets from an atomic addition of one.
static Value countWarp(DeviceBuilder &b, Value lane, Value word) {
  return b.broadcast(b.choose(
      b.equal(lane, b.i32(0)), [&] { return Values{b.atomicAdd(word, b.i32(1))}; },
      [&] { return Values{b.i32(0)}; })[0]);
}

Value FirstFactors::claim(Value lane) const { return countWarp(b, lane, at(Claimed)); }

int64_t FirstFactors::firstUnit(size_t factor) const {
  int64_t tiles = 0;
  for (const FirstFactor &first : ArrayRef(launch.firsts).take_front(factor))
    tiles += first.tiles();
  return tiles * launch.spans;
}

void FirstFactors::multiply(Value claimed, Value x, Value lane) const {
  Value units = b.i32(launch.firstUnits());
  b.when(b.less(claimed, units), [&] {
    b.repeatWhile(claimed, [&](Value unit) {
      multiplyUnit(unit, x, lane);
      b.fence();
      b.warpBarrier();
      Value done = countWarp(b, lane, at(Done));
      b.when(b.equal(done, b.sub(units, b.i32(1))), [&] {
        b.fence();
        addUp(lane);
        b.fence();
        b.warpBarrier();
        b.when(b.equal(lane, b.i32(0)), [&] {
          b.store(b.i32(0), at(Done));
          b.storeRelease(b.i32(1), at(There));
        });
      });
      Value next = claim(lane);
      return std::pair(b.less(next, units), next);
    });
  });
}

void FirstFactors::multiplyUnit(Value unit, Value x, Value lane) const {
  int64_t spans = launch.spans;
  std::function<void(size_t)> emitRun = [&](size_t begin) {
    const FirstFactor &factor = launch.firsts[begin];
    size_t end = begin;
    while (end < launch.firsts.size() && launch.firsts[end] == factor)
      ++end;
    auto emitOne = [&] {
      // Equal ones share their code.
      KernelArguments mine = arguments;
      mine.components = arguments.firsts[begin].second;
      Value from = b.i32(firstUnit(begin));
      for (size_t i = begin + 1; i < end; ++i) {
        Value other = b.i32(firstUnit(i)), here = b.lessEqual(other, unit);
        from = b.select(here, other, from);
        for (auto [component, value] : llvm::zip(mine.components, arguments.firsts[i].second))
          component = b.select(here, value, component);
      }
      mine.n = b.i32(factor.rank);
      KernelSignature signature = launch.common();
      signature.leaf = factor.leaf;
      signature.partial = factor.rank % kTileRows != 0;
      signature.factors = {};
      Columns columns(b, signature, mine, /*factors=*/false, /*thin=*/true);
      Value place = b.sub(unit, from);
      columns.begin(b.shrWord(place, llvm::Log2_64(static_cast<uint64_t>(spans))), lane);
      Columns::Workers workers = {b.andWord(place, static_cast<uint32_t>(spans - 1)), b.i32(spans), spans, 1};
      Value own = b.mul(columns.tile().t, 8);
      Values sums = columns.multiply(workers, 0, [&](Value first, int64_t step, int64_t) {
        Value from = b.offset(x, b.mul(b.add(first, own), 2));
        return b.words(b.offset(from, step * kStepColumns * 2), 4, false, "x");
      });
      // The first column of a product is that of lanes 4g.
      b.when(b.equal(columns.tile().t, b.i32(0)), [&] {
        Value to = b.element(arguments.firstSums, b.add(b.mul(unit, kTileRows), b.shrWord(lane, 2)), b.f32());
        b.store(sums[0], to);
        b.store(sums[2], b.offset(to, kTileRows / 2 * 4));
      });
    };
    if (end == launch.firsts.size())
      return emitOne();
    b.ifElse(b.less(unit, b.i32(firstUnit(end))), emitOne, [&] { emitRun(end); });
  };
  emitRun(0);
}

void FirstFactors::addUp(Value lane) const {
  int64_t spans = launch.spans, together = std::min(spans, kAtOnce);
  for (auto [i, factor] : llvm::enumerate(launch.firsts)) {
    Value sums = b.offset(arguments.firstSums, firstUnit(i) * kTileRows * 4), t = arguments.firsts[i].first;
    b.loop(lane, b.i32(factor.rank), b.i32(32), [&](Value row) {
      Value index = b.add(b.mul(b.shrWord(row, 4), spans * kTileRows), b.andWord(row, kTileRows - 1));
      Value from = b.element(sums, index, b.f32());
      Value sum = b.loop(b.i32(0), b.i32(spans), b.i32(together), b.f32(0), [&](Value span, ValueRange carried) {
        Value here = b.element(from, b.mul(span, kTileRows), b.f32()), sum = carried[0];
        Values some;
        for (int64_t j = 0; j < together; ++j)
          some.push_back(b.loadVolatile(b.f32(), b.offset(here, j * kTileRows * 4)));
        for (Value one : some)
          sum = b.add(sum, one);
        return Values{sum};
      })[0];
      b.store(narrowed(b, sum, half()), b.element(t, row, half()));
    });
  }
}

void FirstFactors::wait(Value x, Value lane) const {
  Value none = b.i32(0);
  b.when(b.equal(b.loadAcquire(at(There)), none), [&] {
    multiply(claim(lane), x, lane);
    b.repeatWhile(none, [&](Value) {
      Value there = b.loadAcquire(at(There));
      return std::pair(b.equal(there, none), there);
    });
  });
}

void FirstFactors::leave(Value thread) const {
  b.when(b.equal(thread, b.i32(0)), [&] {
    Value past = b.atomicAdd(at(Past), b.i32(1)), blocks = b.mul(b.gridX(), b.gridY());
    b.when(b.equal(past, b.sub(blocks, b.i32(1))), [&] {
      for (Word word : {Claimed, There, Past})
        b.store(b.i32(0), at(word));
    });
  });
}
