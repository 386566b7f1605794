//===- Dense.cpp - floats ---------------------------------------------------===//

#include "Decoders.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
class DenseDecoder : public Decoder {
public:
  DenseDecoder(DenseAttr attr, DecodeContext context) : Decoder(context), type(attr.getType()) {}

  int64_t bits() const override { return type.getIntOrFloatBitWidth(); }
  SmallVector<TiledComponent> components(int64_t rows) const override {
    return layouts(rows, TiledComponent::Codes, {});
  }

  Values pairs(DeviceBuilder &b, const Values &, ArrayRef<Value>, const Values &words) const override {
    if (type == half(b))
      return words;
    Values pairs;
    for (int64_t p = 0; p < 4; ++p) {
      if (type.isF32()) {
        pairs.push_back(b.pairOf(b.bitcast(words[2 * p], b.f32()), b.bitcast(words[2 * p + 1], b.f32()), half(b)));
        continue;
      }
      Value both = b.bitcast(words[p], b.vec(2, type));
      pairs.push_back(b.pairOf(b.extract(both, 0), b.extract(both, 1), half(b)));
    }
    return pairs;
  }

private:
  Type type;
};
} // namespace

std::unique_ptr<Decoder> device::makeDenseDecoder(DenseAttr attr, DecodeContext context) {
  return std::make_unique<DenseDecoder>(attr, context);
}
