//===- Uniform.cpp - integers on a grid -------------------------------------===//
//
// Codes become numbers by a constant table where it fits into a register (one
// permute, and it ignores junk above the code), else by conversion. Integers to
// 2^8 are exact in bf16.
//
//===----------------------------------------------------------------------===//

#include "Decoders.h"

using namespace mlir;
using namespace skim;

namespace {
class UniformDecoder : public Decoder {
public:
  UniformDecoder(UniformAttr attr, DecodeContext context) : Decoder(context), attr(attr), bits(attr.getBits()) {}

  int64_t group() const override { return attr.getGroup() ? attr.getGroup() : context.k; }
  bool hasZeros() const override { return attr.getAsymmetric(); }
  int64_t bitsPerColumn() const override { return bits; }

  Values beginRow(KernelBuilder &b, ArrayRef<Value> components, Value row, Value) const override {
    int64_t count = groups();
    Values state = {b.offset(components[0], b.mul(row, codeBytes(context.k, bits))),
                    b.element(components[1], b.mul(row, count), attr.getScaleType())};
    if (attr.getZeroType())
      state.push_back(b.element(components[2], b.mul(row, count), attr.getZeroType()));
    else if (attr.getAsymmetric())
      state.push_back(b.offset(components[2], b.mul(row, codeBytes(count, bits))));
    return state;
  }

  Value values(KernelBuilder &b, const Values &row, const Run &run) const override {
    int64_t lanes = context.lanes;
    bool byTable = (1 << bits) <= std::min<int64_t>(tableEntries(32), 2 * lanes);
    Value q = codes(b, row[0], run, bits, b.vec(lanes, b.i32()), byTable);
    if (byTable)
      return b.lookup(table(b, b.f32()), q);
    if (offset())
      q = b.sub(q, b.constant(q.getType(), offset()));
    return b.intToF32(q);
  }

  Value valuesBF16(KernelBuilder &b, const Values &row, const Run &run) const override {
    if ((1 << bits) > std::min<int64_t>(tableEntries(16), 64))
      return {};
    return b.lookup(table(b, b.bf16()), codes(b, row[0], run, bits, b.vec(2 * context.lanes, b.i16()), true));
  }

  Value scales(KernelBuilder &b, const Values &row, Value first, int64_t count) const override {
    return floats(b, attr.getScaleType(), b.element(row[1], first, attr.getScaleType()), count);
  }

  Value zeros(KernelBuilder &b, const Values &row, Value first, int64_t count, bool aligned) const override {
    if (attr.getZeroType())
      return floats(b, attr.getZeroType(), b.element(row[2], first, attr.getZeroType()), count);
    if (aligned)
      return b.intToF32(codes(b, row[2], {first, count}, bits, b.vec(context.lanes, b.i32()), false));
    Values scalars;
    for (int64_t i = 0; i < count; ++i)
      scalars.push_back(zero(b, row, b.add(first, i)));
    scalars.resize(context.lanes, scalars.back());
    return b.pack(scalars);
  }

private:
  UniformAttr attr;
  int64_t bits;

  /// What is subtracted from a stored code.
  int64_t offset() const { return attr.getAsymmetric() ? 0 : int64_t(1) << (bits - 1); }

  Value table(KernelBuilder &b, Type type) const {
    SmallVector<double> entries;
    for (int64_t q = 0; q < int64_t(1) << bits; ++q)
      entries.push_back(static_cast<double>(q - offset()));
    return b.floats(b.vec(entries.size(), type), entries);
  }

  /// A code at any bit: in one or two bytes.
  Value zero(KernelBuilder &b, const Values &row, Value group) const {
    Value bit = b.mul(group, bits);
    Value low = b.load(b.i8(), b.offset(row[2], b.div(bit, 8)));
    Value high = b.load(b.i8(), b.offset(row[2], b.div(b.add(bit, bits - 1), 8)));
    Value both = b.bitOr(b.zeroExtend(low, b.i32()), b.shl(b.zeroExtend(high, b.i32()), b.i32(8)));
    Value q = b.bitAnd(b.shr(both, b.truncate(b.rem(bit, 8), b.i32())), b.i32((1 << bits) - 1));
    return b.intToF32(q);
  }
};
} // namespace

std::unique_ptr<Decoder> skim::makeUniformDecoder(UniformAttr attr, DecodeContext context) {
  return std::make_unique<UniformDecoder>(attr, context);
}
