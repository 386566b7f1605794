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

static std::string nameOf(const RotaryPart &part) {
  const Rotation &spec = part.spec;
  return "_h" + std::to_string(spec.heads) + "_d" + std::to_string(spec.size) + "_r" + std::to_string(spec.columns) +
         (spec.interleaved ? "_i" : "") + (part.append ? "_append" : "") + (part.aligned ? "" : "_u");
}

namespace {
/// How threads share a part: a unit is `width` pairs of elements of a head, rotated with each other, or else copied.
struct RotaryUnits {
  explicit RotaryUnits(const RotaryPart &part) : spec(part.spec) {
    int64_t rest = spec.size - 2 * spec.columns;
    bool wide = part.aligned && !spec.interleaved && spec.columns % 4 == 0 && rest % 8 == 0;
    width = wide ? 4 : 1;
    rotated = spec.columns / width;
    copied = (rest / width + 1) / 2;
  }
  int64_t ofHead() const { return rotated + copied; }
  int64_t all() const { return spec.heads * ofHead(); }
  Rotation spec;
  int64_t width, rotated, copied; // units of a head
};

/// What a thread does of a part.
class RotaryUnit {
public:
  using Values = KernelBuilder::Values;
  RotaryUnit(StepBuilder &b, const RotaryPart &part, Arguments step, Arguments own, Value row, Value number)
      : b(b), append(part.append), units(part), spec(part.spec), step(step), own(own), row(row),
        head(b.div(number, units.ofHead())), unit(b.rem(number, units.ofHead())) {}

  void emit() {
    if (!append)
      return put(b.at(own[4], row, own[5], b.mul(head, spec.size)));
    Value sequence = b.div(row, step[4]), index = b.rem(row, step[4]);
    b.when(b.less(index, b.number(step[3], sequence)), [&] {
      Value capacity = b.load(b.i64(), b.element(step[1], b.wide(sequence), b.i64()));
      Value cache = b.load(b.globalPtr(), b.offset(step[0], b.mul(b.wide(sequence), 8)));
      Value position = b.wide(b.add(b.number(step[2], sequence), index));
      Value to = b.offset(cache, b.mul(capacity, b.wide(own[4])));
      put(b.element(to, b.mul(b.add(b.mul(b.wide(head), capacity), position), spec.size), b.f32()));
    });
  }

private:
  StepBuilder &b;
  bool append;
  RotaryUnits units;
  Rotation spec;
  Arguments step, own;
  Value row, head, unit;

  Values load(Value from, Value column) {
    Value at = b.element(from, column, b.f32());
    Values numbers;
    for (Value word : b.words(at, units.width))
      numbers.push_back(b.bitcast(word, b.f32()));
    return numbers;
  }
  void store(const Values &numbers, Value to, Value column) {
    Value at = b.element(to, column, b.f32());
    if (units.width == 1)
      b.store(numbers[0], at);
    else
      b.store(b.pack(numbers), at, static_cast<unsigned>(4 * units.width));
  }

  /// The unit to a head at `to`.
  void put(Value to) {
    Value from = b.at(own[0], row, own[1], b.mul(head, spec.size));
    auto rotate = [&] {
      Value pair = b.mul(unit, units.width), first = spec.interleaved ? b.mul(pair, 2) : pair;
      Value second = b.add(first, spec.interleaved ? 1 : spec.columns), columns = b.i32(spec.columns);
      Values x = load(from, first), y = load(from, second);
      Values cos = load(b.at(own[2], row, columns, b.i32(0)), pair),
             sin = load(b.at(own[3], row, columns, b.i32(0)), pair);
      for (int64_t i = 0; i < units.width; ++i) {
        Value turned = b.sub(b.mul(x[i], cos[i]), b.mul(y[i], sin[i]));
        y[i] = b.add(b.mul(y[i], cos[i]), b.mul(x[i], sin[i]));
        x[i] = turned;
      }
      store(x, to, first);
      store(y, to, second);
    };
    auto copy = [&] {
      Value first = b.add(b.mul(b.sub(unit, b.i32(units.rotated)), units.width), 2 * spec.columns);
      store(load(from, first), to, first);
      Value second = b.add(first, units.copied * units.width);
      b.when(b.less(second, b.i32(spec.size)), [&] { store(load(from, second), to, second); });
    };
    if (units.copied == 0)
      rotate();
    else if (units.rotated == 0)
      copy();
    else
      b.ifElse(b.less(unit, b.i32(units.rotated)), rotate, copy);
  }
};
} // namespace

StepKernel device::rotaryKernel(const KernelPlace &place, ArrayRef<RotaryPart> parts) {
  constexpr int64_t threads = 128;
  std::string name = "rotary", letters = "ppppn";
  int64_t all = 0;
  for (const RotaryPart &part : parts) {
    name += nameOf(part);
    letters += part.append ? "pnppn" : "pnpppn";
    all += RotaryUnits(part).all();
  }
  makeKernel(place, name, kernelTypes(place, letters), threads, [&](StepBuilder &b, Arguments a) {
    Value row = b.blockX(), number = b.add(b.mul(b.blockY(), threads), b.threadX());
    Arguments rest = a.drop_front(5);
    int64_t behind = 0;
    for (const RotaryPart &part : parts) {
      size_t count = part.append ? 5 : 6;
      Value mine = b.sub(number, b.i32(behind));
      int64_t units = RotaryUnits(part).all();
      b.when(b.bitAnd(b.lessEqual(b.i32(0), mine), b.less(mine, b.i32(units))),
             [&] { RotaryUnit(b, part, a.take_front(5), rest.take_front(count), row, mine).emit(); });
      behind += units;
      rest = rest.drop_front(count);
    }
  });
  return {name, threads, (all + threads - 1) / threads};
}
