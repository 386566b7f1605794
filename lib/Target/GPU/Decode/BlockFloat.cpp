//===- BlockFloat.cpp - small elements under a shared exponent --------------===//

#include "Decoders.h"

#include <cmath>

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
class BlockFloatDecoder : public Decoder {
public:
  BlockFloatDecoder(BlockFloatAttr attr, DecodeContext context)
      : Decoder(context), attr(attr), sign(int64_t(1) << (attr.getBits() - 1)) {}

  int64_t bits() const override { return attr.getBits(); }
  CodeOrder order() const override { return byTable() ? CodeOrder::Adjacent : CodeOrder::Split; }
  int64_t group() const override { return std::min(attr.getBlock(), context.k); }
  SmallVector<TiledComponent> components(int64_t rows) const override {
    return layouts(rows, TiledComponent::Codes, {8});
  }

  Values beginRow(DeviceBuilder &b, const Values &) const override {
    if (!byTable())
      return {};
    static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    SmallVector<double> entries;
    for (int64_t q = 0; q < 2 * sign; ++q) {
      int64_t magnitude = q % sign;
      double value = attr.getElement() == BlockElement::E2M1 ? e2m1[magnitude] : static_cast<double>(magnitude);
      if (attr.getElement() == BlockElement::OcpInt)
        entries.push_back(static_cast<double>(q < sign ? q : q - 2 * sign));
      else
        entries.push_back(q < sign ? value : -value);
    }
    return registerTable(b, entries, context.bf16);
  }

  Value scale(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half, Value group) const override {
    Value exponent = b.zeroExtend(groupElement(b, components[1], tile, half, group, b.i8()), b.i32());
    // 2^(stored − 127), then the element's fixed point.
    Value power = b.bitcast(b.shl(exponent, b.i32(23)), b.f32());
    return b.mul(power, b.f32(fixedPoint()));
  }

  Values pairs(DeviceBuilder &b, const Values &row, ArrayRef<Value>, const Values &words) const override {
    if (byTable())
      return lookUp(b, row, bits(), words[0], one);
    Values codes = codePairs(b, words);
    auto both = [](int64_t bits) { return static_cast<uint32_t>(bits * 0x10001); };
    if (attr.getElement() == BlockElement::OcpInt) { // two's complement
      for (Value &code : codes)
        code = b.bitXor(code, b.word(both(sign)));
      return integerPairs(b, codes, bits(), {}, sign);
    }
    Values magnitudes;
    for (Value code : codes)
      magnitudes.push_back(b.andWord(code, both(sign - 1)));
    Values pairs = integerPairs(b, magnitudes, bits() - 1, {}, 0);
    for (auto [pair, code] : llvm::zip(pairs, codes))
      pair = b.bitXor(pair, b.shl(b.andWord(code, both(sign)), b.i32(16 - bits())));
    return pairs;
  }

private:
  BlockFloatAttr attr;
  int64_t sign; // the code's top bit

  bool byTable() const { return bits() <= 4; }

  double fixedPoint() const {
    switch (attr.getElement()) {
    case BlockElement::Int:
      return std::ldexp(1.0, 1 - static_cast<int>(bits()));
    case BlockElement::OcpInt:
      return std::ldexp(1.0, 2 - static_cast<int>(bits()));
    case BlockElement::E2M1:
      return 1.0;
    }
    return 1.0;
  }
};
} // namespace

std::unique_ptr<Decoder> device::makeBlockFloatDecoder(BlockFloatAttr attr, DecodeContext context) {
  return std::make_unique<BlockFloatDecoder>(attr, context);
}
