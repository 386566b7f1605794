//===- SampleKernel.cpp - skim_sample ---------------------------------------===//
//
// Cuts are found without sorting: probabilities are not negative, so their bits
// are ordered like they are, and the smallest kept value is found by bisection
// on the bits. All sums run in one fixed order in f64.
//
//===----------------------------------------------------------------------===//

#include "Kernels.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;

namespace skim::step {

int64_t sampleScratch(int64_t vocabulary) { return (vocabulary * 4 + 63) / 64 * 64; }

namespace {
/// Emits skim_sample's body over its arguments.
struct Sampler {
  Emitter &e;
  Val logits, vocabulary, scratch;

  VectorType vector() { return VectorType::get(e.lanes, e.f32Type()); }
  Val whole() { return vocabulary - vocabulary % e.i64(e.lanes); }
  Val bits(Val x) {
    Type type = e.i32Type();
    if (auto v = dyn_cast<VectorType>(x.type()))
      type = VectorType::get(v.getShape(), type);
    return e.wrap(arith::BitcastOp::create(e.builder, e.loc, type, x.value));
  }
  Val wide(Val x) { return e.wrap(arith::ExtFOp::create(e.builder, e.loc, e.builder.getF64Type(), x.value)); }

  Val maximum();
  /// The first index of a logit that equals `value`.
  Val firstEqual(Val value);
  /// scratch[i] = exp((logits[i] − maximum) / temperature).
  void exponentials(Val maximum, Val temperature);
  /// How many of scratch are ≥ threshold (a value's bits), and their sum in f64.
  std::pair<Val, Val> above(Val threshold);
  /// The largest bits t for which `enough(count, sum)` of the values ≥ t holds, or 0.
  Val bisect(llvm::function_ref<Val(Val, Val)> enough);
  /// Sets what lies below `threshold` to 0, and of what equals it all but the
  /// first `ties`.
  void cut(Val threshold, Val ties);
  /// The index at which the running sum first exceeds uniform · total.
  Val invert(Val uniform, Val total);
};
} // namespace

Val Sampler::maximum() {
  Val top = e.loop(e.i64(0), whole(), e.lanes, {e.constant(vector(), -INFINITY)}, [&](Val i, ArrayRef<Val> c) {
    return SmallVector<Val>{e.max(e.loadVector(e.at(logits, i), e.lanes), c[0])};
  })[0];
  return e.loop(whole(), vocabulary, 1, {e.reduceMax(top)},
                [&](Val i, ArrayRef<Val> c) { return SmallVector<Val>{e.max(e.loadF32(e.at(logits, i)), c[0])}; })[0];
}

Val Sampler::firstEqual(Val value) {
  // Downwards, so that the first one is written last.
  Val none = e.i64(0);
  return e.loop(e.i64(0), vocabulary, 1, {none}, [&](Val i, ArrayRef<Val> c) {
    Val index = vocabulary - e.i64(1) - i;
    return SmallVector<Val>{e.select(e.loadF32(e.at(logits, index)) == value, index, c[0])};
  })[0];
}

void Sampler::exponentials(Val maximum, Val temperature) {
  // One value at a time in the rest, so that no lane runs past the end.
  auto compute = [&](Val x, Val address) { e.store(e.exp((x - maximum) / temperature), address); };
  e.loop(e.i64(0), whole(), e.lanes, {}, [&](Val i, ArrayRef<Val>) {
    compute(e.loadVector(e.at(logits, i), e.lanes), e.at(scratch, i));
    return SmallVector<Val>();
  });
  e.loop(whole(), vocabulary, [&](Val i) { compute(e.loadF32(e.at(logits, i)), e.at(scratch, i)); });
}

std::pair<Val, Val> Sampler::above(Val threshold) {
  auto ints = VectorType::get(e.lanes, e.i32Type());
  auto doubles = VectorType::get(e.lanes, e.builder.getF64Type());
  SmallVector<Val> vectors =
      e.loop(e.i64(0), whole(), e.lanes, {e.constant(ints, 0), e.constant(doubles, 0)}, [&](Val i, ArrayRef<Val> c) {
        Val x = e.loadVector(e.at(scratch, i), e.lanes);
        Val kept = bits(x) >= e.broadcast(threshold, e.lanes);
        Val value = e.select(kept, x, constantLike(x, 0));
        Val wideValue = e.wrap(arith::ExtFOp::create(e.builder, e.loc, doubles, value.value));
        return SmallVector<Val>{c[0] + e.select(kept, e.constant(ints, 1), e.constant(ints, 0)), c[1] + wideValue};
      });
  SmallVector<Val> scalars = {e.reduceAdd(vectors[0]), e.reduceAdd(vectors[1])};
  scalars = e.loop(whole(), vocabulary, 1, scalars, [&](Val i, ArrayRef<Val> c) {
    Val x = e.loadF32(e.at(scratch, i));
    Val kept = bits(x) >= threshold;
    return SmallVector<Val>{c[0] + e.select(kept, e.i32(1), e.i32(0)), c[1] + wide(e.select(kept, x, e.f32(0)))};
  });
  return {scalars[0], scalars[1]};
}

Val Sampler::bisect(llvm::function_ref<Val(Val, Val)> enough) {
  // Values are in [0, 1]: the bits of 1.0 are the upper end. 30 halvings leave one.
  SmallVector<Val> range = {e.i32(0), e.i32(0x3F800001)};
  range = e.loop(e.i64(0), e.i64(30), 1, range, [&](Val, ArrayRef<Val> c) {
    Val middle = c[0] + (c[1] - c[0]) / e.i32(2);
    auto [count, sum] = above(middle);
    Val holds = enough(count, sum);
    return SmallVector<Val>{e.select(holds, middle, c[0]), e.select(holds, c[1], middle)};
  });
  return range[0];
}

void Sampler::cut(Val threshold, Val ties) {
  e.loop(e.i64(0), vocabulary, 1, {e.i32(0)}, [&](Val i, ArrayRef<Val> c) {
    Val address = e.at(scratch, i), x = e.loadF32(address);
    Val equal = bits(x) == threshold;
    Val seen = c[0] + e.select(equal, e.i32(1), e.i32(0));
    Val kept = e.select(equal, seen <= ties, bits(x) > threshold);
    e.store(e.select(kept, x, e.f32(0)), address);
    return SmallVector<Val>{seen};
  });
}

Val Sampler::invert(Val uniform, Val total) {
  Val goal = wide(uniform) * total;
  // Until the sum exceeds the goal, every index with a positive probability is the
  // answer so far: rounding at the end cannot fall off the table.
  SmallVector<Val> state = {constantLike(total, 0), e.i64(0)};
  return e.loop(e.i64(0), vocabulary, 1, state, [&](Val i, ArrayRef<Val> c) {
    Val x = e.loadF32(e.at(scratch, i));
    Val open = (c[0] <= goal) & (x > 0.0);
    return SmallVector<Val>{c[0] + wide(x), e.select(open, i, c[1])};
  })[1];
}

void emitSample(ModuleOp module, Location loc, const TargetInfo &target) {
  OpBuilder builder(module.getBodyRegion());
  builder.setInsertionPointToEnd(module.getBody());
  Emitter e(builder, loc, target);
  Type p = e.ptrType(), i = e.i64Type(), t = e.i32Type(), f = e.f32Type();
  auto function =
      func::FuncOp::create(builder, loc, "skim_sample", builder.getFunctionType({p, i, f, t, f, f, p}, {t}));
  builder.setInsertionPointToStart(function.addEntryBlock());
  SmallVector<Val> a;
  for (BlockArgument argument : function.getArguments())
    a.push_back(e.wrap(argument));
  Val vocabulary = a[1], temperature = a[2], topK = a[3], topP = a[4], uniform = a[5];
  Sampler s{e, a[0], vocabulary, a[6]};
  Val maximum = s.maximum();
  auto chosen = scf::IfOp::create(
      builder, loc, temperature > 0.0,
      [&](OpBuilder &, Location) {
        s.exponentials(maximum, temperature);
        Val limited = (topK > e.i32(0)) & (e.toI64(topK) < vocabulary);
        e.ifThen(limited, [&] {
          Val threshold = s.bisect([&](Val count, Val) { return count >= topK; });
          Val more = s.above(threshold + e.i32(1)).first;
          s.cut(threshold, topK - more);
        });
        e.ifThen(topP < 1.0, [&] {
          Val goal = s.wide(topP) * s.above(e.i32(0)).second;
          Val threshold = s.bisect([&](Val, Val sum) { return sum >= goal; });
          Val sum = s.above(threshold + e.i32(1)).second;
          // As many values equal to the threshold as are still needed, at least one.
          Val value = e.wrap(arith::BitcastOp::create(builder, loc, f, threshold.value));
          Val needed = (goal - sum) / s.wide(e.max(value, e.f32(1e-38)));
          Val capped = e.min(needed, e.f64(1e9));
          Val below = e.wrap(arith::FPToSIOp::create(builder, loc, t, capped.value));
          Val back = e.wrap(arith::SIToFPOp::create(builder, loc, e.builder.getF64Type(), below.value));
          Val ties = below + e.select(back < capped, e.i32(1), e.i32(0));
          s.cut(threshold, e.max(ties, e.i32(1)));
        });
        Val token = s.invert(uniform, s.above(e.i32(0)).second);
        scf::YieldOp::create(builder, loc, e.toI32(token).value);
      },
      [&](OpBuilder &, Location) { scf::YieldOp::create(builder, loc, e.toI32(s.firstEqual(maximum)).value); });
  func::ReturnOp::create(builder, loc, chosen.getResults());
}

} // namespace skim::step
