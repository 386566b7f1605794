//===- Planes.cpp - integers as bit planes ----------------------------------===//
//
// Planes lie as codes (Tiles.h). Base five lies in canonical rows and is decoded
// digit by digit.
//
//===----------------------------------------------------------------------===//

#include "Decoders.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
class PlanesDecoder : public Decoder {
public:
  PlanesDecoder(PlanesAttr attr, DecodeContext context) : Decoder(context), attr(attr) {}

  int64_t bits() const override { return attr.isBaseFive() ? 0 : attr.getNumPlanes(); }
  CodeOrder order() const override { return CodeOrder::Split; }
  int64_t group() const override { return attr.getGroupSize(context.k); }
  bool hasHalfScales() const override { return true; }
  bool hasZeros() const override { return true; }

  SmallVector<TiledComponent> components(int64_t rows) const override {
    SmallVector<TiledComponent> all = layouts(rows, TiledComponent::Planes, {16, 8});
    if (attr.isBaseFive())
      all[0] = {};
    return all;
  }

  int64_t canonicalBytes(int64_t columns) const override {
    return attr.isBaseFive() ? ((columns + 2) / 3 * 7 + 7) / 8 : Decoder::canonicalBytes(columns);
  }
  int64_t rowBytes() const override {
    return attr.isBaseFive() ? canonicalBytes(context.k) : attr.getNumPlanes() * ((context.k + 7) / 8);
  }

  Value scale(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half, Value group) const override {
    return b.toFloat(groupElement(b, components[1], tile, half, group, b.f16()));
  }
  Value zero(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half, Value group) const override {
    Value integer = b.zeroExtend(groupElement(b, components[2], tile, half, group, b.i8()), b.i32());
    return context.bf16 ? b.splatPair(b.intToF32(integer), b.bf16()) : zeroPair(b, integer, 8);
  }

  // A code minus its zero point may be too large for a byte.
  bool hasBytes() const override { return true; }
  bool zerosApart() const override { return true; }
  bool hasBits() const override { return !attr.isBaseFive(); }
  Value zeroInteger(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half,
                    Value group) const override {
    return b.zeroExtend(groupElement(b, components[2], tile, half, group, b.i8()), b.i32());
  }
  Value zeroBytes(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half,
                  Value group) const override {
    Value integer = zeroInteger(b, components, tile, half, group);
    return bits() == 8 ? b.sub(integer, b.i32(128)) : integer;
  }
  Values bytes(DeviceBuilder &b, const Values &, Value, const Values &words) const override {
    Values fours = codeBytes(b, words);
    if (bits() == 8)
      for (Value &four : fours)
        four = b.bitXor(four, b.word(0x80808080));
    return fours;
  }

  Values pairs(DeviceBuilder &b, const Values &, ArrayRef<Value> zeros, const Values &words) const override {
    if (!context.bf16)
      return integersOf(b, words, zeros, 0);
    // 128 + z has no place in bf16.
    Values numbers = integersOf(b, words, {}, 0);
    for (auto [number, zero] : llvm::zip(numbers, zeros))
      number = b.subPairs(number, zero, half(b));
    return numbers;
  }

protected:
  /// Base five, three codes in seven bits.
  Values canonicalWords(DeviceBuilder &b, Value row, Value column, int64_t columns) const override {
    if (!attr.isBaseFive())
      return Decoder::canonicalWords(b, row, column, columns);
    Value word = b.i32(0);
    for (int64_t j = 0; j < 8; ++j) {
      Value own = b.add(column, j);
      Value digit = b.choose(
          b.less(own, b.i32(columns)), [&] { return Values{readDigit(b, row, own)}; },
          [&] { return Values{b.i32(0)}; })[0];
      word = b.bitOr(word, b.shl(digit, b.i32(4 * (j / 2 + 4 * (j % 2)))));
    }
    return {word};
  }

private:
  PlanesAttr attr;

  Value readDigit(DeviceBuilder &b, Value row, Value column) const {
    Value triple = b.div(column, 3), place = b.sub(column, b.mul(triple, 3)), bit = b.mul(triple, 7);
    auto byte = [&](Value at) { return b.zeroExtend(b.readOnly(b.i8(), b.offset(row, b.shrWord(at, 3))), b.i32()); };
    Value both = b.bitOr(byte(bit), b.shl(byte(b.add(bit, 6)), b.i32(8)));
    Value number = b.andWord(b.shr(both, b.andWord(bit, 7)), 127);
    Value fifth = b.div(number, 5), last = b.div(number, 25);
    Value shifted = b.select(b.equal(place, b.i32(0)), number, b.select(b.equal(place, b.i32(1)), fifth, last));
    return b.sub(shifted, b.mul(b.div(shifted, 5), 5));
  }
};
} // namespace

std::unique_ptr<Decoder> device::makePlanesDecoder(PlanesAttr attr, DecodeContext context) {
  if (attr.getNumPlanes() > 8)
    return nullptr;
  return std::make_unique<PlanesDecoder>(attr, context);
}
