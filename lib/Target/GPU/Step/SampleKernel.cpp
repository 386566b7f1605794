//===- SampleKernel.cpp - choosing tokens on the device ---------------------===//
//
// What skim_sample does (lib/Target/CPU/Step/SampleKernel.cpp), by one block for
// each sequence: cuts are found by bisection on the bits of the probabilities,
// sums are in f64 in an order that only depends on the vocabulary. Afterwards the
// step's arguments are those of the next step (DeviceStep.h).
//
//===----------------------------------------------------------------------===//

#include "KernelValues.h"

#include <cmath>

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
class Sampler {
public:
  Sampler(StepBuilder &b, gpu::GPUModuleOp module, const std::string &name, int64_t vocabulary, int64_t threads)
      : b(b), vocabulary(vocabulary), threads(threads), f64(b.builder.getF64Type()),
        shared(b.sharedMemory(module, name + "_parts", 8 * (threads + 32))) {}

  /// The token of the row `logits`, which is overwritten.
  Value choose(Value logits, Value temperature, Value topK, Value topP, Value uniform);

private:
  Value address(Value index) { return b.element(logits, b.wide(index), b.f32()); }
  Value at(Value index) { return b.loadF32(address(index)); }
  Value bits(Value x) { return b.bitcast(x, b.i32()); }
  Value wide(Value x) { return arith::ExtFOp::create(b.builder, b.loc, f64, x); }
  /// Carries values over this thread's part of the row: every threads-th element, or neighbours (in order).
  Values strided(ValueRange initial, llvm::function_ref<Values(Value, ValueRange)> body) {
    return b.loop(b.threadX(), b.i32(vocabulary), b.i32(threads), initial, body);
  }
  Values neighbours(ValueRange initial, llvm::function_ref<Values(Value, ValueRange)> body) {
    int64_t part = (vocabulary + threads - 1) / threads;
    Value begin = b.mul(b.threadX(), part);
    return b.loop(begin, b.min(b.add(begin, part), b.i32(vocabulary)), b.i32(1), initial, body);
  }
  /// The largest of all threads' values (f32 or i32).
  Value largest(Value value);
  /// The sum of all threads' values (i32 or f64) and that of the threads before this one.
  std::pair<Value, Value> sums(Value value, bool needBefore);
  Value total(Value value) { return sums(value, false).first; }
  /// How many elements have bits ≥ threshold; their sum in f64.
  Value countAbove(Value threshold);
  Value sumAbove(Value threshold);
  /// The largest bits t for which `enough` holds, or 0.
  Value bisect(llvm::function_ref<Value(Value)> enough);
  /// Zeros what lies below the threshold, and of what equals it all but the first `ties`.
  void cut(Value threshold, Value ties);
  Value draw(Value maximum, Value temperature, Value topK, Value topP, Value uniform);

  StepBuilder &b;
  int64_t vocabulary, threads;
  Type f64;
  Value shared, logits;
};
} // namespace

Value Sampler::largest(Value value) {
  for (int64_t distance = 16; distance; distance /= 2) {
    auto other =
        gpu::ShuffleOp::create(b.builder, b.loc, value, static_cast<int32_t>(distance), 32, gpu::ShuffleMode::XOR);
    value = b.max(value, other.getShuffleResult());
  }
  Type type = value.getType();
  b.when(b.equal(b.lane(), b.i32(0)), [&] { b.store(value, b.element(shared, b.warp(), type)); });
  b.barrier();
  value = b.load(type, shared);
  for (int64_t warp = 1; warp < threads / 32; ++warp)
    value = b.max(value, b.load(type, b.offset(shared, 4 * warp)));
  b.barrier();
  return value;
}

std::pair<Value, Value> Sampler::sums(Value value, bool needBefore) {
  // Of each thread, then of each 32nd of the threads.
  Type type = value.getType();
  int64_t size = type.isInteger(32) ? 4 : 8, segment = threads / 32;
  Value zero = b.constant(type, 0), parts = b.offset(shared, size * threads);
  auto sum = [&](Value from, Value begin, Value end) {
    return b.loop(begin, end, b.i32(1), ValueRange{zero}, [&](Value i, ValueRange carried) {
      return Values{b.add(carried[0], b.load(type, b.element(from, i, type)))};
    })[0];
  };
  b.store(value, b.element(shared, b.threadX(), type));
  b.barrier();
  b.when(b.less(b.threadX(), b.i32(32)), [&] {
    Value begin = b.mul(b.threadX(), segment);
    b.store(sum(shared, begin, b.add(begin, segment)), b.element(parts, b.threadX(), type));
  });
  b.barrier();
  Value all = sum(parts, b.i32(0), b.i32(32)), before;
  if (needBefore) {
    Value own = b.div(b.threadX(), segment);
    before = b.add(sum(parts, b.i32(0), own), sum(shared, b.mul(own, segment), b.threadX()));
  }
  b.barrier();
  return {all, before};
}

Value Sampler::countAbove(Value threshold) {
  return total(strided(ValueRange{b.i32(0)}, [&](Value i, ValueRange carried) {
    Value kept = b.lessEqual(threshold, bits(at(i)));
    return Values{b.add(carried[0], b.zeroExtend(kept, b.i32()))};
  })[0]);
}

Value Sampler::sumAbove(Value threshold) {
  return total(strided(ValueRange{b.constant(f64, 0)}, [&](Value i, ValueRange carried) {
    Value x = at(i);
    Value kept = b.select(b.lessEqual(threshold, bits(x)), x, b.f32(0));
    return Values{b.add(carried[0], wide(kept))};
  })[0]);
}

Value Sampler::bisect(llvm::function_ref<Value(Value)> enough) {
  // Values are in [0, 1]: the bits of 1.0 are the upper end. 30 halvings leave one.
  Values range = {b.i32(0), b.i32(0x3F800001)};
  return b.loop(b.i32(0), b.i32(30), b.i32(1), range, [&](Value, ValueRange c) {
    Value middle = b.add(c[0], b.div(b.sub(c[1], c[0]), 2));
    Value holds = enough(middle);
    return Values{b.select(holds, middle, c[0]), b.select(holds, c[1], middle)};
  })[0];
}

void Sampler::cut(Value threshold, Value ties) {
  auto equal = [&](Value x) { return b.zeroExtend(b.equal(bits(x), threshold), b.i32()); };
  Value own = neighbours(ValueRange{b.i32(0)},
                         [&](Value i, ValueRange carried) { return Values{b.add(carried[0], equal(at(i)))}; })[0];
  neighbours(ValueRange{sums(own, true).second}, [&](Value i, ValueRange carried) {
    Value x = at(i), seen = b.add(carried[0], equal(x));
    Value kept = b.select(b.equal(bits(x), threshold), b.lessEqual(seen, ties), b.less(threshold, bits(x)));
    b.store(b.select(kept, x, b.f32(0)), address(i));
    return Values{seen};
  });
  b.barrier();
}

Value Sampler::draw(Value maximum, Value temperature, Value topK, Value topP, Value uniform) {
  b.strided(vocabulary, threads,
            [&](Value i) { b.store(b.exp(b.div(b.sub(at(i), maximum), temperature)), address(i)); });
  b.barrier();
  b.when(b.bitAnd(b.less(b.i32(0), topK), b.less(topK, b.i32(vocabulary))), [&] {
    Value threshold = bisect([&](Value t) { return b.lessEqual(topK, countAbove(t)); });
    cut(threshold, b.sub(topK, countAbove(b.add(threshold, 1))));
  });
  b.when(b.less(topP, b.f32(1)), [&] {
    Value goal = b.mul(wide(topP), sumAbove(b.i32(0)));
    Value threshold = bisect([&](Value t) { return b.lessEqual(goal, sumAbove(t)); });
    Value above = sumAbove(b.add(threshold, 1));
    // As many values equal to the threshold as are still needed, at least one.
    Value value = b.bitcast(threshold, b.f32());
    // In f32: a division of f64 is a call, with a stack.
    Value missing = arith::TruncFOp::create(b.builder, b.loc, b.f32(), b.sub(goal, above));
    Value needed = wide(b.div(missing, b.max(value, b.f32(1e-38))));
    Value capped = b.min(needed, b.constant(f64, 1e9));
    Value below = arith::FPToSIOp::create(b.builder, b.loc, b.i32(), capped);
    Value back = arith::SIToFPOp::create(b.builder, b.loc, f64, below);
    Value ties = b.add(below, b.zeroExtend(b.less(back, capped), b.i32()));
    cut(threshold, b.max(ties, b.i32(1)));
  });
  // The last element with a probability at which the sum before it has not passed the goal: rounding at the end cannot
  // fall off the table.
  Value goal = b.mul(wide(uniform), sumAbove(b.i32(0)));
  Value own = neighbours(ValueRange{b.constant(f64, 0)},
                         [&](Value i, ValueRange carried) { return Values{b.add(carried[0], wide(at(i)))}; })[0];
  Values state = {sums(own, true).second, b.i32(0)};
  Value last = neighbours(state, [&](Value i, ValueRange carried) {
    Value x = at(i);
    Value open = b.bitAnd(b.lessEqual(carried[0], goal), b.less(b.f32(0), x));
    return Values{b.add(carried[0], wide(x)), b.select(open, i, carried[1])};
  })[1];
  return largest(last);
}

Value Sampler::choose(Value row, Value temperature, Value topK, Value topP, Value uniform) {
  logits = row;
  Value maximum = largest(strided(ValueRange{b.f32(-INFINITY)},
                                  [&](Value i, ValueRange carried) { return Values{b.max(at(i), carried[0])}; })[0]);
  return b.choose(
      b.less(b.f32(0), temperature), [&] { return Values{draw(maximum, temperature, topK, topP, uniform)}; },
      [&] {
        // The first is the largest of the negated indices; none (NaN) is 0.
        Value none = b.i32(-vocabulary);
        Value first = largest(strided(ValueRange{none}, [&](Value i, ValueRange carried) {
          Value found = b.select(b.equal(at(i), maximum), b.sub(b.i32(0), i), none);
          return Values{b.max(carried[0], found)};
        })[0]);
        return Values{b.select(b.equal(first, none), b.i32(0), b.sub(b.i32(0), first))};
      })[0];
}

/// Number `counter` of stream `seed`, as skim_rt_uniform has it.
static Value randomUniform(StepBuilder &b, Value seed, Value counter) {
  auto word = [&](uint64_t value) { return b.i64(static_cast<int64_t>(value)); };
  Value z = b.add(seed, b.mul(counter, word(0x9E3779B97F4A7C15u)));
  z = b.mul(b.bitXor(z, b.shr(z, b.i64(30))), word(0xBF58476D1CE4E5B9u));
  z = b.mul(b.bitXor(z, b.shr(z, b.i64(27))), word(0x94D049BB133111EBu));
  z = b.bitXor(z, b.shr(z, b.i64(31)));
  return b.mul(b.intToF32(b.truncate(b.shr(z, b.i64(40)), b.i32())), b.f32(0x1p-24));
}

StepKernel device::sampleKernel(const KernelPlace &place, int64_t vocabulary) {
  // Two elements a thread at least, so that small vocabularies do not wait for idle warps.
  int64_t threads = std::clamp<int64_t>(llvm::PowerOf2Ceil(static_cast<uint64_t>(vocabulary)) / 4, 32, 512);
  std::string name = "sample_v" + std::to_string(vocabulary);
  makeKernel(place, name, kernelTypes(place, "ppppppp"), threads, [&](StepBuilder &b, ArrayRef<BlockArgument> a) {
    Value row = b.blockX(), wideRow = b.wide(row);
    // SampleState: temperature, topK, topP, unused, seed, counter.
    Value state = b.offset(a[1], b.mul(wideRow, 32));
    Value temperature = b.loadF32(state), topK = b.load(b.i32(), b.offset(state, 4)),
          topP = b.loadF32(b.offset(state, 8));
    Value seed = b.load(b.i64(), b.offset(state, 16)), counter = b.add(b.load(b.i64(), b.offset(state, 24)), 1);
    Sampler sampler(b, place.module, name, vocabulary, threads);
    Value token = sampler.choose(b.at(a[0], row, b.i32(vocabulary), b.i32(0)), temperature, topK, topP,
                                 randomUniform(b, seed, counter));
    b.when(b.equal(b.threadX(), b.i32(0)), [&] {
      auto put = [&](Value list, Value value) { b.store(value, b.element(list, wideRow, b.i32())); };
      put(a[2], token);
      put(a[3], token);
      put(a[4], b.add(b.number(a[4], row), b.number(a[5], row)));
      put(a[5], b.i32(1));
      put(a[6], row);
      b.when(b.less(b.f32(0), temperature), [&] { b.store(counter, b.offset(state, 24)); });
    });
  });
  return {name, threads, 1};
}
