//===- Dense.cpp - floats ---------------------------------------------------===//

#include "Decoders.h"

using namespace mlir;
using namespace skim;

namespace {
class DenseDecoder : public Decoder {
public:
  DenseDecoder(DenseAttr attr, DecodeContext context) : Decoder(context), type(attr.getType()) {}

  int64_t bitsPerColumn() const override { return type.getIntOrFloatBitWidth(); }

  Values beginRow(KernelBuilder &b, ArrayRef<Value> components, Value row, Value) const override {
    return {b.element(components[0], b.mul(row, context.k), type)};
  }
  Value values(KernelBuilder &b, const Values &row, const Run &run) const override {
    return floats(b, type, b.element(row[0], run.first, type), run.count);
  }
  Value valuesBF16(KernelBuilder &b, const Values &row, const Run &run) const override {
    if (!type.isBF16())
      return {};
    return b.loadFirst(b.vec(2 * context.lanes, type), b.element(row[0], run.first, type), run.count);
  }

private:
  Type type;
};
} // namespace

std::unique_ptr<Decoder> skim::makeDenseDecoder(DenseAttr attr, DecodeContext context) {
  return std::make_unique<DenseDecoder>(attr, context);
}
