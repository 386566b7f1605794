//===- Decoder.cpp - what decoders share ------------------------------------===//

#include "Decoders.h"
#include "skim/Target/CPU/Layout.h"

#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace skim;

std::unique_ptr<Decoder> skim::makeDecoder(WeightEncoding leaf, DecodeContext context) {
  return llvm::TypeSwitch<Attribute, std::unique_ptr<Decoder>>(leaf)
      .Case([&](DenseAttr attr) { return makeDenseDecoder(attr, context); })
      .Case([&](UniformAttr attr) { return makeUniformDecoder(attr, context); })
      .Case([&](CodebookAttr attr) { return makeCodebookDecoder(attr, context); })
      .Case([&](BlockFloatAttr attr) { return makeBlockFloatDecoder(attr, context); })
      .Case([&](PlanesAttr attr) { return makePlanesDecoder(attr, context); })
      .Default([](Attribute) { return nullptr; });
}

int64_t Decoder::block() const { return layoutBlock(context.layout, bitsPerColumn(), group(), context.k); }

/// A code is in one word of its lane, or in two.
Value Decoder::blockCodes(KernelBuilder &b, Value pointer, const Run &run, int64_t bits, VectorType type,
                          bool junk) const {
  int64_t word = context.layout.getWord(), width = type.getElementTypeBitWidth(), lanes = type.getNumElements();
  int64_t layoutLanes = context.layout.getLanes();
  if (lanes > layoutLanes) {
    VectorType half = b.vec(lanes / 2, type.getElementType());
    Value low = blockCodes(b, pointer, run.part(b, 0, lanes / 2), bits, half, junk);
    return b.concat(low, blockCodes(b, pointer, run.part(b, lanes / 2, lanes / 2), bits, half, junk));
  }
  int64_t bit = run.phase / layoutLanes * bits, shift = bit % word;
  Value block = b.offset(pointer, b.mul(b.div(b.sub(run.first, b.i64(run.phase)), 8), bits));
  auto load = [&](int64_t index) {
    int64_t first = index * layoutLanes + run.phase % layoutLanes;
    Value words = b.load(b.vec(lanes, word == 16 ? b.i16() : b.i32()), b.offset(block, first * word / 8), 1);
    return width > word ? b.zeroExtend(words, type.getElementType()) : words;
  };
  Value codes = load(bit / word);
  VectorType loaded = cast<VectorType>(codes.getType());
  if (shift)
    codes = b.shr(codes, b.constant(loaded, static_cast<double>(shift)));
  if (shift + bits > word)
    codes = b.bitOr(codes, b.shl(load(bit / word + 1), b.constant(loaded, static_cast<double>(word - shift))));
  if (width < word)
    codes = b.truncate(codes, type.getElementType());
  return junk ? codes : b.bitAnd(codes, b.constant(type, static_cast<double>((int64_t(1) << bits) - 1)));
}

Value Decoder::codes(KernelBuilder &b, Value pointer, const Run &run, int64_t bits, VectorType type, bool junk) const {
  if (run.phase >= 0)
    return blockCodes(b, pointer, run, bits, type, junk);
  int64_t lanes = type.getNumElements();
  // A run begins at a whole byte: its first column is a multiple of eight.
  Value at = b.offset(pointer, b.mul(b.div(run.first, 8), bits));
  int64_t bytes = (run.count * bits + 7) / 8;
  int64_t width = std::max<int64_t>(16, llvm::PowerOf2Ceil((lanes * bits + 7) / 8));
  return b.spread(b.loadFirst(b.vec(width, b.i8()), at, bytes), bits, type, junk);
}

int64_t Decoder::tableEntries(unsigned width) const {
  switch (context.target.lanes) {
  case LaneSet::AVX512: // two-register permutes, and choices among four or eight of them
    return width == 16 ? 256 : 64;
  case LaneSet::AVX2:
    return width == 16 ? 0 : 32;
  case LaneSet::Portable:
    return 16;
  }
  return 16;
}

Value Decoder::floats(KernelBuilder &b, Type type, Value pointer, int64_t count) const {
  return b.toF32(b.loadFirst(b.vec(context.lanes, type), pointer, count));
}

Value Decoder::scale(KernelBuilder &b, const Values &row, Value group) const {
  return b.extract(scales(b, row, group, 1), 0);
}

Value Decoder::weights(KernelBuilder &b, const Values &row, const Run &run) const {
  Value result = values(b, row, run);
  int64_t g = group(), lanes = context.lanes;
  if (!g)
    return result;
  // The scale (or zero point) of each lane.
  auto spreadOut = [&](llvm::function_ref<Value(Value first, int64_t count)> load) -> Value {
    if (g >= context.k)
      return b.splat(b.extract(load(b.i64(0), 1), 0), lanes);
    if (g % lanes == 0)
      return b.splat(b.extract(load(b.div(run.first, g), 1), 0), lanes);
    if (lanes % g == 0)
      return b.repeatEach(load(b.div(run.first, g), (run.count + g - 1) / g), lanes / g, g);
    // No pattern: lane by lane.
    Values scalars;
    for (int64_t i = 0; i < lanes; ++i) {
      Value column = b.add(run.first, std::min(i, run.count - 1));
      scalars.push_back(b.extract(load(b.div(column, g), 1), 0));
    }
    return b.pack(scalars);
  };
  if (hasZeros())
    result = b.sub(result, spreadOut([&](Value first, int64_t count) { return zeros(b, row, first, count, false); }));
  return b.mul(result, spreadOut([&](Value first, int64_t count) { return scales(b, row, first, count); }));
}

/// Two runs of f32 rounded together.
static Value inHalves(KernelBuilder &b, int64_t lanes, const Run &run,
                      llvm::function_ref<Value(const Run &run)> decode) {
  Value low = decode(run.part(b, 0, std::min(run.count, lanes)));
  Value high = run.count > lanes ? decode(run.part(b, lanes, run.count - lanes)) : b.constant(low.getType(), 0);
  return b.roundTo(b.concat(low, high), b.bf16());
}

Value Decoder::anyValuesBF16(KernelBuilder &b, const Values &row, const Run &run) const {
  if (Value direct = valuesBF16(b, row, run))
    return direct;
  return inHalves(b, context.lanes, run, [&](const Run &half) { return values(b, row, half); });
}

Value Decoder::weightsBF16(KernelBuilder &b, const Values &row, const Run &run) const {
  if (!group())
    return anyValuesBF16(b, row, run);
  return inHalves(b, context.lanes, run, [&](const Run &half) { return weights(b, row, half); });
}
