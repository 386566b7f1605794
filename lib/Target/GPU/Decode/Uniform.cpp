//===- Uniform.cpp - integers on a grid -------------------------------------===//

#include "Decoders.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
class UniformDecoder : public Decoder {
public:
  UniformDecoder(UniformAttr attr, DecodeContext context) : Decoder(context), attr(attr) {}

  int64_t bits() const override { return attr.getBits(); }
  CodeOrder order() const override { return CodeOrder::Split; }
  int64_t group() const override { return attr.getGroupSize(context.k); }
  bool hasHalfScales() const override { return attr.getScaleType().isF16(); }
  bool hasZeros() const override { return attr.getAsymmetric(); }

  SmallVector<TiledComponent> components(int64_t rows) const override {
    SmallVector<int64_t> groupBits = {attr.getScaleType().getIntOrFloatBitWidth()};
    if (attr.getAsymmetric())
      groupBits.push_back(attr.getZeroType() ? attr.getZeroType().getIntOrFloatBitWidth() : 0);
    return layouts(rows, TiledComponent::Codes, groupBits);
  }

  Value scale(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half, Value group) const override {
    return b.toFloat(groupElement(b, components[1], tile, half, group, attr.getScaleType()));
  }

  Value zero(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half, Value group) const override {
    if (attr.getZeroType())
      return b.splatPair(b.toFloat(groupElement(b, components[2], tile, half, group, attr.getZeroType())),
                         this->half(b));
    return zeroPair(b, zeroCode(b, components, tile, half, group), bits());
  }

  bool hasBytes() const override { return !attr.getZeroType() && (!attr.getAsymmetric() || bits() < 8); }
  bool hasBits() const override { return !attr.getZeroType(); }
  Value zeroInteger(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half,
                    Value group) const override {
    return attr.getAsymmetric() ? zeroCode(b, components, tile, half, group) : b.i32(int64_t(1) << (bits() - 1));
  }
  Value zeroBytes(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half,
                  Value group) const override {
    return b.mul(zeroCode(b, components, tile, half, group), 0x01010101);
  }
  Values bytes(DeviceBuilder &b, const Values &, Value zero, const Values &words) const override {
    Values fours = codeBytes(b, words);
    if (!zero)
      zero = b.word(0x01010101u << (bits() - 1));
    for (Value &four : fours)
      four = bits() == 8 ? b.bitXor(four, zero) : subBytes(b, four, zero);
    return fours;
  }

  Values pairs(DeviceBuilder &b, const Values &, ArrayRef<Value> zeros, const Values &words) const override {
    if (!attr.getZeroType())
      return integersOf(b, words, zeros, int64_t(1) << (bits() - 1));
    Values numbers = integersOf(b, words, {}, 0);
    for (auto [number, zero] : llvm::zip(numbers, zeros))
      number = b.subPairs(number, zero, half(b));
    return numbers;
  }

private:
  UniformAttr attr;

  /// Packed in canonical rows, at any bit: in one or two bytes.
  Value zeroCode(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half, Value group) const {
    int64_t rowBytes = (groups() * bits() + 7) / 8;
    Value row = b.offset(components[2], b.mul(b.zeroExtend(tile.row[half], b.i64()), rowBytes));
    Value bit = b.mul(group, bits());
    Value code = b.zeroExtend(b.readOnly(b.i8(), b.offset(row, b.shrWord(bit, 3))), b.i32());
    if (8 % bits()) {
      Value last = b.shrWord(b.add(bit, bits() - 1), 3);
      Value high = b.zeroExtend(b.readOnly(b.i8(), b.offset(row, last)), b.i32());
      code = b.bitOr(code, b.shl(high, b.i32(8)));
    }
    return b.andWord(b.shr(code, b.andWord(bit, 7)), (1u << bits()) - 1);
  }
};
} // namespace

std::unique_ptr<Decoder> device::makeUniformDecoder(UniformAttr attr, DecodeContext context) {
  return std::make_unique<UniformDecoder>(attr, context);
}
