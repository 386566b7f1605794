//===- Planes.cpp - integers as bit planes ----------------------------------===//

#include "Decoders.h"

using namespace mlir;
using namespace skim;

namespace {
class PlanesDecoder : public Decoder {
public:
  PlanesDecoder(PlanesAttr attr, DecodeContext context)
      : Decoder(context), attr(attr),
        planes(attr.getLevels() > 1u << attr.getBits() ? attr.getBits() + 1 : attr.getBits()) {}

  int64_t group() const override { return attr.getGroup() ? attr.getGroup() : context.k; }
  bool hasZeros() const override { return true; }

  Values beginRow(KernelBuilder &b, ArrayRef<Value> components, Value row, Value) const override {
    return {b.offset(components[0], b.mul(row, rowBytes())), b.element(components[1], b.mul(row, groups()), b.f16()),
            b.offset(components[2], b.mul(row, groups()))};
  }

  Value values(KernelBuilder &b, const Values &row, const Run &run) const override {
    return b.intToF32(attr.getLevels() == 5 ? triples(b, row[0], run) : bitPlanes(b, row[0], run));
  }

  Value scales(KernelBuilder &b, const Values &row, Value first, int64_t count) const override {
    return floats(b, b.f16(), b.element(row[1], first, b.f16()), count);
  }

  Value zeros(KernelBuilder &b, const Values &row, Value first, int64_t count, bool) const override {
    Value stored = b.loadFirst(b.vec(context.lanes, b.i8()), b.offset(row[2], first), count);
    return b.intToF32(b.zeroExtend(stored, b.i32()));
  }

private:
  PlanesAttr attr;
  int64_t planes;

  int64_t planeBytes() const { return codeBytes(context.k, 1); }
  int64_t rowBytes() const { return attr.getLevels() == 5 ? codeBytes((context.k + 2) / 3, 7) : planes * planeBytes(); }

  Value bitPlanes(KernelBuilder &b, Value row, const Run &run) const {
    VectorType type = b.vec(context.lanes, b.i32());
    Value sum;
    for (int64_t plane = 0; plane < planes; ++plane) {
      Value bit = codes(b, b.offset(row, plane * planeBytes()), run, 1, type, false);
      if (plane)
        bit = b.shl(bit, b.constant(type, plane));
      sum = sum ? b.bitOr(sum, bit) : bit;
    }
    return sum;
  }

  /// Base five, three codes in seven bits, lane by lane.
  Value triples(KernelBuilder &b, Value row, const Run &run) const {
    Values digits;
    for (int64_t i = 0; i < context.lanes; ++i) {
      Value column = b.add(run.first, std::min(i, run.count - 1));
      Value bit = b.mul(b.div(column, 3), 7), place = b.rem(column, 3);
      Value low = b.load(b.i8(), b.offset(row, b.div(bit, 8)));
      Value high = b.load(b.i8(), b.offset(row, b.div(b.add(bit, 6), 8)));
      Value both = b.bitOr(b.zeroExtend(low, b.i32()), b.shl(b.zeroExtend(high, b.i32()), b.i32(8)));
      Value triple = b.bitAnd(b.shr(both, b.truncate(b.rem(bit, 8), b.i32())), b.i32(127));
      Value power =
          b.select(b.equal(place, b.i64(0)), b.i32(1), b.select(b.equal(place, b.i64(1)), b.i32(5), b.i32(25)));
      digits.push_back(b.rem(b.div(triple, power), b.i32(5)));
    }
    return b.pack(digits);
  }
};
} // namespace

std::unique_ptr<Decoder> skim::makePlanesDecoder(PlanesAttr attr, DecodeContext context) {
  return std::make_unique<PlanesDecoder>(attr, context);
}
