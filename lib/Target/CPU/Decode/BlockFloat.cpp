//===- BlockFloat.cpp - small elements under a shared exponent --------------===//

#include "Decoders.h"

#include <cmath>

using namespace mlir;
using namespace skim;

namespace {
class BlockFloatDecoder : public Decoder {
public:
  BlockFloatDecoder(BlockFloatAttr attr, DecodeContext context)
      : Decoder(context), attr(attr), bits(attr.getBits()), half(int64_t(1) << (attr.getBits() - 1)) {}

  int64_t group() const override { return std::min(attr.getBlock(), context.k); }
  int64_t bitsPerColumn() const override { return bits; }

  Values beginRow(KernelBuilder &b, ArrayRef<Value> components, Value row, Value) const override {
    return {b.offset(components[0], b.mul(row, codeBytes(context.k, bits))),
            b.offset(components[1], b.mul(row, groups()))};
  }

  Value values(KernelBuilder &b, const Values &row, const Run &run) const override {
    bool byTable = byLookup(32, 2 * context.lanes);
    Value q = codes(b, row[0], run, bits, b.vec(context.lanes, b.i32()), byTable);
    if (byTable)
      return b.lookup(table(b, b.f32()), q);
    Value halfway = b.constant(q.getType(), half);
    if (attr.getElement() == BlockElement::OcpInt) // two's complement
      return b.intToF32(b.sub(b.bitXor(q, halfway), halfway));
    Value magnitude = b.bitAnd(q, b.constant(q.getType(), half - 1));
    Value negative = b.sub(b.constant(q.getType(), 0), magnitude);
    return b.intToF32(b.select(b.less(q, halfway), magnitude, negative));
  }

  Value valuesBF16(KernelBuilder &b, const Values &row, const Run &run) const override {
    if (!byLookup(16, 64))
      return {};
    return b.lookup(table(b, b.bf16()), codes(b, row[0], run, bits, b.vec(2 * context.lanes, b.i16()), true));
  }

  Value scales(KernelBuilder &b, const Values &row, Value first, int64_t count) const override {
    Value stored = b.loadFirst(b.vec(std::max<int64_t>(16, context.lanes), b.i8()), b.offset(row[1], first), count);
    SmallVector<int64_t> order;
    for (int64_t i = 0; i < context.lanes; ++i)
      order.push_back(i);
    Value exponents = b.zeroExtend(b.shuffle(stored, stored, order), b.i32());
    // 2^(stored − 127), then the element's fixed point.
    Value power = b.bitcast(b.shl(exponents, b.constant(exponents.getType(), 23)), b.vec(context.lanes, b.f32()));
    return b.mul(power, b.constant(power.getType(), fixedPoint()));
  }

private:
  BlockFloatAttr attr;
  int64_t bits, half;

  double fixedPoint() const {
    switch (attr.getElement()) {
    case BlockElement::Int:
      return std::ldexp(1.0, 1 - static_cast<int>(bits));
    case BlockElement::OcpInt:
      return std::ldexp(1.0, 2 - static_cast<int>(bits));
    case BlockElement::E2M1:
      return 1.0;
    }
    return 1.0;
  }

  /// e2m1 has a table only, of sixteen entries.
  bool byLookup(unsigned width, int64_t entries) const {
    if (attr.getElement() == BlockElement::E2M1)
      return tableEntries(width) >= 16;
    return (int64_t(1) << bits) <= std::min(tableEntries(width), entries);
  }

  Value table(KernelBuilder &b, Type type) const {
    static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    SmallVector<double> entries;
    for (int64_t q = 0; q < 2 * half; ++q) {
      if (attr.getElement() == BlockElement::OcpInt) {
        entries.push_back(static_cast<double>(q < half ? q : q - 2 * half));
        continue;
      }
      int64_t magnitude = q % half;
      double value = attr.getElement() == BlockElement::E2M1 ? e2m1[magnitude] : static_cast<double>(magnitude);
      entries.push_back(q < half ? value : -value);
    }
    return b.floats(b.vec(entries.size(), type), entries);
  }
};
} // namespace

std::unique_ptr<Decoder> skim::makeBlockFloatDecoder(BlockFloatAttr attr, DecodeContext context) {
  return std::make_unique<BlockFloatDecoder>(attr, context);
}
