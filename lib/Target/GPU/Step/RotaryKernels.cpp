//===- RotaryKernels.cpp - rotary embedding and cache appends ---------------===//

#include "KernelValues.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Arguments = ArrayRef<BlockArgument>;

static int64_t threadsFor(int64_t elements) { return std::clamp<int64_t>((elements + 31) / 32 * 32, 32, 256); }

/// Sine and cosine of an f64 of magnitude up to 2^20, error below 1e-10: nothing of
/// the device's approximations is near that.
static std::pair<Value, Value> sincos(StepBuilder &b, Value x) {
  auto c64 = [&](double value) { return b.constant(b.builder.getF64Type(), value); };
  const double magic = 6755399441055744.0; // 1.5 · 2^52
  Value shifted = b.add(b.mul(x, c64(0.63661977236758134308)), c64(magic));
  Value n = b.sub(shifted, c64(magic));
  Value r = b.sub(x, b.mul(n, c64(1.57079632679489655800)));
  r = b.sub(r, b.mul(n, c64(6.12323399573676603587e-17)));
  Value square = b.mul(r, r);
  // Taylor to r^13 and r^12: below 1e-11 on [−π/4, π/4].
  Value s = c64(1.0 / 6227020800.0);
  for (double k : {-1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6})
    s = b.add(b.mul(s, square), c64(k));
  s = b.add(b.mul(b.mul(s, square), r), r);
  Value c = c64(1.0 / 479001600.0);
  for (double k : {-1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -0.5, 1.0})
    c = b.add(b.mul(c, square), c64(k));
  Value quadrant = b.bitcast(shifted, b.i64());
  auto bit = [&](Value value, int64_t mask) { return b.equal(b.bitAnd(value, b.i64(mask)), b.i64(mask)); };
  Value swapped = bit(quadrant, 1);
  Value sine = b.select(swapped, c, s), cosine = b.select(swapped, s, c);
  sine = b.select(bit(quadrant, 2), b.negate(sine), sine);
  cosine = b.select(bit(b.add(quadrant, 1), 2), b.negate(cosine), cosine);
  return {sine, cosine};
}

StepKernel device::rotaryTableKernel(const KernelPlace &place, int64_t columns, double scale) {
  std::string name = "rotary_table_c" + std::to_string(columns) + "_s" + spellNumber(scale);
  int64_t threads = threadsFor(columns);
  makeKernel(place, name, kernelTypes(place, "ppnpp"), threads, [&](StepBuilder &b, Arguments a) {
    Value row = b.blockX(), length = a[2];
    Value position = b.add(b.number(a[1], b.div(row, length)), b.rem(row, length));
    Value angle = b.intToF32(position);
    b.strided(columns, threads, [&](Value c) {
      // The product is rounded to f32, then everything is f64 until the end.
      Value product = b.mul(b.readOnly(b.f32(), b.element(a[0], b.wide(c), b.f32())), angle);
      auto [sine, cosine] = sincos(b, arith::ExtFOp::create(b.builder, b.loc, b.builder.getF64Type(), product));
      for (auto [value, to] : {std::pair(cosine, a[3]), std::pair(sine, a[4])}) {
        Value rounded = arith::TruncFOp::create(b.builder, b.loc, b.f32(), value);
        b.store(scale == 1 ? rounded : b.mul(rounded, b.f32(scale)), b.at(to, row, b.i32(columns), c));
      }
    });
  });
  return {name, threads};
}

static std::string nameOf(const Rotation &spec) {
  return "_h" + std::to_string(spec.heads) + "_d" + std::to_string(spec.size) + "_r" + std::to_string(spec.columns) +
         (spec.interleaved ? "_i" : "");
}

/// Element c of the head at `in` (its row and first column), rotated.
static Value rotated(StepBuilder &b, const Rotation &spec, Value x, Value row, Value stride, Value first, Value cos,
                     Value sin, Value c) {
  auto in = [&](Value column) { return b.loadF32(b.at(x, row, stride, b.add(first, column))); };
  Value own = in(c);
  if (!spec.columns)
    return own;
  auto turn = [&] {
    Value pair, lower, partner;
    if (spec.interleaved) {
      pair = b.shr(c, b.i32(1));
      lower = b.equal(b.bitAnd(c, b.i32(1)), b.i32(0));
      partner = b.bitXor(c, b.i32(1));
    } else {
      lower = b.less(c, b.i32(spec.columns));
      pair = b.select(lower, c, b.sub(c, b.i32(spec.columns)));
      partner = b.select(lower, b.add(c, spec.columns), pair);
    }
    Value columns = b.i32(spec.columns);
    Value cosine = b.loadF32(b.at(cos, row, columns, pair)), sine = b.loadF32(b.at(sin, row, columns, pair));
    Value other = b.mul(in(partner), sine);
    return b.add(b.mul(own, cosine), b.select(lower, b.negate(other), other));
  };
  if (2 * spec.columns == spec.size)
    return turn();
  return b.choose(
      b.less(c, b.i32(2 * spec.columns)), [&] { return KernelBuilder::Values{turn()}; },
      [&] { return KernelBuilder::Values{own}; })[0];
}

StepKernel device::rotaryKernel(const KernelPlace &place, ArrayRef<RotaryPart> parts) {
  std::string name = "rotary", letters = "ppppn";
  int64_t threads = 32, heads = 0;
  for (const RotaryPart &part : parts) {
    name += nameOf(part.spec) + (part.append ? "_append" : "");
    letters += part.append ? "pnppn" : "pnpppn";
    threads = std::max(threads, threadsFor(part.spec.size));
    heads += part.spec.heads;
  }
  makeKernel(place, name, kernelTypes(place, letters), threads, [&](StepBuilder &b, Arguments a) {
    Value row = b.blockX(), block = b.blockY();
    auto emitPart = [&](const RotaryPart &part, Arguments own, Value head) {
      const Rotation &spec = part.spec;
      Value first = b.mul(head, spec.size);
      auto element = [&](Value c) { return rotated(b, spec, own[0], row, own[1], first, own[2], own[3], c); };
      if (!part.append) {
        b.strided(spec.size, threads,
                  [&](Value c) { b.store(element(c), b.at(own[4], row, own[5], b.add(first, c))); });
        return;
      }
      Value sequence = b.div(row, a[4]), index = b.rem(row, a[4]);
      b.when(b.less(index, b.number(a[3], sequence)), [&] {
        Value capacity = b.load(b.i64(), b.element(a[1], b.wide(sequence), b.i64()));
        Value cache = b.load(b.globalPtr(), b.offset(a[0], b.mul(b.wide(sequence), 8)));
        Value position = b.wide(b.add(b.number(a[2], sequence), index));
        Value to = b.offset(cache, b.mul(capacity, b.wide(own[4])));
        Value begin = b.mul(b.add(b.mul(b.wide(head), capacity), position), spec.size);
        b.strided(spec.size, threads,
                  [&](Value c) { b.store(element(c), b.element(to, b.add(begin, b.wide(c)), b.f32())); });
      });
    };
    int64_t behind = 0;
    Arguments rest = a.drop_front(5);
    for (const RotaryPart &part : parts) {
      size_t count = part.append ? 5 : 6;
      Value head = b.sub(block, b.i32(behind));
      Value mine = b.bitAnd(b.lessEqual(b.i32(0), head), b.less(head, b.i32(part.spec.heads)));
      b.when(mine, [&] { emitPart(part, rest.take_front(count), head); });
      behind += part.spec.heads;
      rest = rest.drop_front(count);
    }
  });
  return {name, threads, heads};
}
