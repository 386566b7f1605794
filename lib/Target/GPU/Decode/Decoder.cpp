//===- Decoder.cpp - what decoders share ------------------------------------===//

#include "Decoders.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

std::unique_ptr<Decoder> device::makeDecoder(WeightEncoding leaf, DecodeContext context) {
  return llvm::TypeSwitch<Attribute, std::unique_ptr<Decoder>>(leaf)
      .Case([&](DenseAttr attr) { return makeDenseDecoder(attr, context); })
      .Case([&](UniformAttr attr) { return makeUniformDecoder(attr, context); })
      .Case([&](CodebookAttr attr) { return makeCodebookDecoder(attr, context); })
      .Case([&](BlockFloatAttr attr) { return makeBlockFloatDecoder(attr, context); })
      .Case([&](PlanesAttr attr) { return makePlanesDecoder(attr, context); })
      .Default([](Attribute) { return nullptr; });
}

SmallVector<TiledComponent> Decoder::layouts(int64_t rows, TiledComponent::Kind codes,
                                             ArrayRef<int64_t> groupBits) const {
  SmallVector<TiledComponent> all = {{codes, rows, context.k, bits(), order()}};
  for (int64_t width : groupBits)
    all.push_back(width ? TiledComponent{TiledComponent::Groups, rows, groups(), width, CodeOrder::Adjacent}
                        : TiledComponent{});
  return all;
}

//===----------------------------------------------------------------------===//
// Codes
//===----------------------------------------------------------------------===//

Value Decoder::tileCodes(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile) const {
  return b.offset(components[0], b.mul(b.zeroExtend(tile.index, b.i64()), kTileRows * rowBytes()));
}

Values Decoder::loadBlock(DeviceBuilder &b, Value tileCodes, const Tile &tile, Value index) const {
  int64_t requests = requestsPerBlock();
  Value at = b.offset(tileCodes, b.add(b.mul(index, requests * 512), b.mul(tile.lane, 16)));
  Values loaded;
  for (int64_t u = 0; u < requests; ++u)
    loaded.push_back(b.request(b.offset(at, u * 512), 4, "weights"));
  return loaded;
}

Values Decoder::loadNarrow(DeviceBuilder &b, Value tileCodes, const Tile &tile, Value index) const {
  int64_t before = context.k / block() * requestsPerBlock() * 512;
  Value at = b.offset(tileCodes, b.add(b.add(b.mul(index, bits() * 128), b.mul(tile.lane, 4)), before));
  Values loaded;
  for (int64_t u = 0; u < bits(); ++u)
    loaded.push_back(b.request(b.offset(at, u * 128), 1, "weights"));
  return loaded;
}

Values Decoder::loadHalf(DeviceBuilder &b, Value tileCodes, const Tile &tile, Value index) const {
  int64_t requests = requestsPerBlock();
  Value at = b.add(b.mul(b.shrWord(index, 1), requests * 512), b.mul(tile.lane, 16));
  Value half = b.andWord(index, 1);
  Values loaded;
  if (bits() <= 8) { // a group of four steps: of each request two words
    at = b.offset(tileCodes, b.add(at, b.mul(half, 8)));
    for (int64_t u = 0; u < requests; ++u)
      loaded.append(b.words(b.offset(at, u * 512), 2, /*readOnly=*/true));
    return loaded;
  }
  int64_t each = bits() / 16; // requests of a row's step
  at = b.offset(tileCodes, b.add(at, b.mul(half, each * 512)));
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t u = 0; u < each; ++u)
      loaded.append(b.words(b.offset(at, (2 * h * each + u) * 512), 4, /*readOnly=*/true));
  return loaded;
}

/// Four steps' codes from the words that they share: words of lower bits by step, then of higher bits.
static void sortGroup(DeviceBuilder &b, ArrayRef<Value> words, int64_t bits, std::array<Values, 4> &steps) {
  if (bits >= 4)
    for (int64_t s = 0; s < 4; ++s)
      steps[s].push_back(words[s]);
  if (bits > 4)
    return sortGroup(b, words.drop_front(4), bits - 4, steps);
  for (int64_t s = 0; s < 4; ++s) {
    if (bits == 1)
      steps[s].push_back(b.andWord(b.shrWord(words[0], s), 0x11111111));
    else if (bits == 2)
      steps[s].push_back(b.andWord(b.shrWord(words[s / 2], 2 * (s % 2)), 0x33333333));
    else if (bits == 3 && s < 3)
      steps[s].push_back(b.andWord(words[s], 0x77777777));
  }
  if (bits != 3)
    return;
  Value last = b.andWord(b.shrWord(words[0], 3), 0x11111111);
  last = b.bitOr(last, b.andWord(b.shrWord(words[1], 2), 0x22222222));
  steps[3].push_back(b.bitOr(last, b.andWord(b.shrWord(words[2], 1), 0x44444444)));
}

SmallVector<Decoder::Words> Decoder::sortBlock(DeviceBuilder &b, ArrayRef<Value> requests, StepKind kind) const {
  Values loaded;
  for (Value request : requests)
    loaded.append(b.wordsOf(request));
  if (kind == StepKind::Half && bits() > 8) {
    auto middle = loaded.begin() + bits() / 4;
    return {{Values(loaded.begin(), middle), Values(middle, loaded.end())}};
  }
  SmallVector<Words> steps(kind == StepKind::Narrow || bits() > 8 ? 2 : kind == StepKind::Half ? 4 : 8);
  if (bits() > 8) {
    int64_t words = bits() / 4;
    for (int64_t s = 0; s < 4; ++s)
      steps[s % 2][s / 2].assign(loaded.begin() + s * words, loaded.begin() + (s + 1) * words);
    return steps;
  }
  std::array<Values, 4> group;
  if (kind == StepKind::Narrow) {
    sortGroup(b, loaded, bits(), group);
    for (int64_t s = 0; s < 4; ++s)
      steps[s % 2][s / 2] = group[s];
    return steps;
  }
  int64_t parts = kind == StepKind::Half ? 1 : 2;
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t part = 0; part < parts; ++part) {
      Values words;
      for (int64_t u = 0; u < bits(); ++u)
        words.push_back(loaded[2 * (parts * u + part) + h]);
      group = {};
      sortGroup(b, words, bits(), group);
      for (int64_t s = 0; s < 4; ++s)
        steps[4 * part + s][h] = group[s];
    }
  return steps;
}

/// Nothing is read beyond a row's bytes; what is not there is zero.
static Value loadByte(DeviceBuilder &b, Value row, Value at, int64_t bytes) {
  return b.choose(
      b.less(at, b.i32(bytes)), [&] { return Values{b.zeroExtend(b.readOnly(b.i8(), b.offset(row, at)), b.i32())}; },
      [&] { return Values{b.i32(0)}; })[0];
}

Values Decoder::canonicalWords(DeviceBuilder &b, Value row, Value column, int64_t columns) const {
  int64_t rowBytes = canonicalBytes(columns);
  Value first = b.mul(b.div(column, 8), bits());
  // Rows of whole steps begin at multiples of a step's bytes, so a lane's columns are one access.
  bool whole = columns % kStepColumns == 0 && llvm::isPowerOf2_64(bits());
  if (bits() > 8 && whole) {
    Values words;
    for (int64_t byte = 0; byte < bits(); byte += 16)
      words.append(b.words(b.offset(row, b.add(first, byte)), 4, /*readOnly=*/true));
    return words;
  }
  if (bits() == 8 && whole && order() == CodeOrder::Split) {
    // Nibbles of columns 0 and 2, 1 and 3 meet in bytes, then these in their halves.
    Values bytes = b.words(b.offset(row, first), 2, /*readOnly=*/true), words;
    for (int64_t shift : {0, 4}) {
      Values pairs;
      for (Value four : bytes) {
        Value nibbles = b.andWord(b.shrWord(four, shift), 0x0f0f0f0f);
        pairs.push_back(b.bitOr(nibbles, b.shrWord(nibbles, 12)));
      }
      words.push_back(b.bytePermute(pairs[0], pairs[1], 0x5140));
    }
    return words;
  }
  if (bits() > 8) {
    Values words;
    for (int64_t word = 0; word < bits() / 4; ++word) {
      Value value;
      for (int64_t byte = 0; byte < 4; ++byte) {
        Value loaded = b.shl(loadByte(b, row, b.add(first, 4 * word + byte), rowBytes), b.i32(8 * byte));
        value = value ? b.bitOr(value, loaded) : loaded;
      }
      words.push_back(value);
    }
    return words;
  }
  Value string = b.constant(b.i64(), 0);
  if (whole) {
    Value loaded = b.readOnly(b.builder.getIntegerType(static_cast<unsigned>(8 * bits())), b.offset(row, first));
    string = bits() == 8 ? loaded : b.zeroExtend(loaded, b.i64());
    if (bits() == 4 && order() == CodeOrder::Adjacent)
      return {loaded};
  }
  for (int64_t byte = 0; byte < bits() && !whole; ++byte) {
    Value loaded = b.zeroExtend(loadByte(b, row, b.add(first, byte), rowBytes), b.i64());
    string = b.bitOr(string, b.shl(loaded, b.i64(8 * byte)));
  }
  // From a string of codes to their places.
  Values words;
  for (int64_t low = 0; low < bits(); low += 4) {
    int64_t width = std::min<int64_t>(4, bits() - low);
    Value word = b.i32(0);
    for (int64_t j = 0; j < 8; ++j) {
      int64_t place = placeOf(order(), j);
      Value code = b.truncate(b.shr(string, b.i64(j * bits() + low)), b.i32());
      word = b.bitOr(word, b.shl(b.andWord(code, (1u << width) - 1), b.i32(4 * place)));
    }
    words.push_back(word);
  }
  return words;
}

Decoder::Words Decoder::canonicalStep(DeviceBuilder &b, std::array<Value, 2> rows, const Tile &tile, Value column,
                                      int64_t columns) const {
  Value own = b.add(column, b.mul(tile.t, 8));
  return {canonicalWords(b, rows[0], own, columns), canonicalWords(b, rows[1], own, columns)};
}

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

Value Decoder::groupElement(DeviceBuilder &b, Value component, const Tile &tile, int half, Value group,
                            Type type) const {
  int64_t size = type.getIntOrFloatBitWidth() / 8;
  Value first = b.offset(component, b.mul(b.zeroExtend(tile.index, b.i64()), kTileRows * groups() * size));
  Value index = b.add(b.mul(group, kTileRows), tile.inTile[half]);
  return b.readOnly(type, b.offset(first, b.mul(index, size)));
}

Values Decoder::codePairs(DeviceBuilder &b, const Values &words) const {
  Values codes;
  for (int64_t p = 0; p < 4; ++p) {
    Value code = b.andWord(b.shrWord(words[0], 4 * p), 0x000f000f);
    if (words.size() > 1)
      code = b.bitOr(code, b.shl(b.andWord(b.shrWord(words[1], 4 * p), 0x000f000f), b.i32(4)));
    codes.push_back(code);
  }
  return codes;
}

Values Decoder::codeBytes(DeviceBuilder &b, const Values &words) const {
  Value even = b.andWord(words[0], 0x0f0f0f0f), odd = b.andWord(b.shrWord(words[0], 4), 0x0f0f0f0f);
  if (words.size() > 1) {
    even = b.bitOr(even, b.shl(b.andWord(words[1], 0x0f0f0f0f), b.i32(4)));
    odd = b.bitOr(odd, b.andWord(words[1], 0xf0f0f0f0));
  }
  return {b.bytePermute(even, odd, 0x6420), b.bytePermute(even, odd, 0x7531)};
}

Value device::subBytes(DeviceBuilder &b, Value a, Value zeros) {
  // With their top bits set, no byte borrows from the next.
  return b.bitXor(b.sub(b.orWord(a, 0x80808080), zeros), b.word(0x80808080));
}

// An integer beside the mantissa of a power of two is a float without a
// conversion: 0x6400 + q is 1024 + q in f16, 0x4300 + q is 128 + q in bf16 for
// q < 128. Eight bits in bf16 go in two parts of four.
static bool inTwoParts(bool bf16, int64_t bits) { return bf16 && bits > 7; }

/// A constant, if there is `one` one in a register.
static Value opaque(DeviceBuilder &b, uint32_t bits, Value one) {
  return one ? b.mul(one, b.word(bits)) : b.word(bits);
}

Value Decoder::inRegister(DeviceBuilder &b, uint32_t bits) const {
  return opaque(b, bits, this->bits() ? one : Value());
}

Value Decoder::zeroPair(DeviceBuilder &b, Value integer, int64_t bits) const {
  if (inTwoParts(context.bf16, bits))
    return b.splatPair(b.intToF32(integer), b.bf16());
  return b.add(b.mul(integer, 0x10001), context.bf16 ? 0x43004300 : 0x64006400);
}

Values Decoder::integerPairs(DeviceBuilder &b, const Values &codes, int64_t bits, ArrayRef<Value> zeros,
                             int64_t offset) const {
  Values pairs;
  Type type = half(b);
  for (int64_t p = 0; p < 4; ++p) {
    Value zero = zeros.empty() ? zeroPair(b, b.i32(offset), bits) : zeros[p];
    if (inTwoParts(context.bf16, bits)) {
      Value base = b.word(0x43004300);
      Value low = b.subPairs(b.orWord(b.andWord(codes[p], 0x000f000f), 0x43004300), base, type);
      Value high = b.subPairs(b.orWord(b.andWord(b.shrWord(codes[p], 4), 0x000f000f), 0x43004300), base, type);
      pairs.push_back(b.fmaPairs(high, b.word(0x41804180), b.subPairs(low, zero, type), type)); // 16.0
      continue;
    }
    pairs.push_back(b.subPairs(b.bitOr(codes[p], inRegister(b, context.bf16 ? 0x43004300 : 0x64006400)), zero, type));
  }
  return pairs;
}

Values Decoder::integersOf(DeviceBuilder &b, const Values &words, ArrayRef<Value> zeros, int64_t offset) const {
  int64_t width = words.size() > 1 ? bits() : 4;
  if (context.bf16 || words.size() > 1)
    return integerPairs(b, codePairs(b, words), width, zeros, offset);
  // Codes four bits up are 1024 + 16q, a sixteenth of which is 64 + q.
  Values pairs;
  Type type = half(b);
  Value mantissa = inRegister(b, 0x64006400);
  for (int64_t p = 0; p < 4; p += 2) {
    Value word = b.shrWord(words[0], 4 * p);
    auto zero = [&](int64_t i) { return zeros.empty() ? zeroPair(b, b.i32(offset), width) : zeros[i]; };
    pairs.push_back(b.subPairs(b.bitOr(b.andWord(word, 0x000f000f), mantissa), zero(p), type));
    Value shift = b.fmaPairs(zero(p + 1), b.word(0xbc00bc00), b.word(0x63806380), type); // 960 − (1024 + z)
    pairs.push_back(
        b.fmaPairs(b.bitOr(b.andWord(word, 0x00f000f0), mantissa), b.word(0x2c002c00), shift, type)); // 1/16
  }
  return pairs;
}

//===----------------------------------------------------------------------===//
// Tables in registers
//===----------------------------------------------------------------------===//

Values device::registerTable(DeviceBuilder &b, ArrayRef<Value> pairs) {
  Values low, high;
  for (size_t i = 0; i < pairs.size(); i += 2) {
    Value second = i + 1 < pairs.size() ? pairs[i + 1] : pairs[i];
    low.push_back(b.bytePermute(pairs[i], second, 0x6420));
    high.push_back(b.bytePermute(pairs[i], second, 0x7531));
  }
  low.append(high);
  return low;
}

Values device::registerTable(DeviceBuilder &b, ArrayRef<double> entries, bool bf16) {
  Values low, high;
  bool anyLow = false;
  for (size_t i = 0; i < entries.size(); i += 4) {
    uint32_t lowBytes = 0, highBytes = 0;
    for (size_t j = 0; j < 4 && i + j < entries.size(); ++j) {
      APFloat value(entries[i + j]);
      bool inexact;
      value.convert(bf16 ? APFloat::BFloat() : APFloat::IEEEhalf(), APFloat::rmNearestTiesToEven, &inexact);
      auto bits = static_cast<uint32_t>(value.bitcastToAPInt().getZExtValue());
      lowBytes |= (bits & 255) << (8 * j);
      highBytes |= (bits >> 8) << (8 * j);
    }
    anyLow = anyLow || lowBytes;
    low.push_back(b.word(lowBytes));
    high.push_back(b.word(highBytes));
  }
  // Small integers have no low byte.
  if (!anyLow)
    low.assign(low.size(), Value());
  low.append(high);
  return low;
}

/// Permutes read the lower half of a selector. Its nibbles are below 8, so as f16 neither half is infinite or no
/// number: times 1 it stays what it is, and that takes the upper half on the pipe of floats, which has nothing to do.
static Value upperHalf(DeviceBuilder &b, Value word, Value one) {
  if (!one)
    return b.shrWord(word, 16);
  Value pair = b.bitcast(word, b.vec(2, b.f16()));
  Value upper = b.bitcast(b.shuffle(pair, pair, {1, 1}), b.i32());
  return b.mulPairs(upper, opaque(b, 0x3c003c00, one), b.f16());
}

namespace {
/// What permutes read for eight codes of a table in registers.
struct Selectors {
  Selectors(DeviceBuilder &b, int64_t bits, ArrayRef<Value> codes, Value one)
      : b(b), bits(bits), codes(codes), one(one) {
    // In a register: a logical operation takes one number that is part of it.
    positions = opaque(b, 0x32103210, one);
  }
  /// Takes four codes, the lower or the upper.
  void take(bool upper) {
    auto half = [&](Value selector) { return upper ? upperHalf(b, selector, one) : selector; };
    // A permute reads four selectors; their top bits would copy a sign.
    selector = half(bits > 3 ? b.andWord(codes[0], 0x77777777) : codes[0]);
    if (bits > 3)
      choices[0] = half(b.bitOr(b.andWord(b.shrWord(codes[0], 1), 0x44444444), positions));
    if (bits > 4)
      choices[1] = half(b.add(b.mul(codes[1], opaque(b, 4, one)), positions));
  }
  /// Four bytes of a table of bytes, four a word.
  Value bytes(ArrayRef<Value> entries) {
    Values found;
    for (size_t i = 0; i < entries.size(); i += 2)
      found.push_back(b.bytePermute(entries[i], entries[std::min(i + 1, entries.size() - 1)], selector));
    for (int64_t bit = 0; found.size() > 1; ++bit) {
      for (size_t i = 0; 2 * i < found.size(); ++i)
        found[i] = b.bytePermute(found[2 * i], found[2 * i + 1], choices[bit]);
      found.resize(found.size() / 2);
    }
    return found[0];
  }

private:
  DeviceBuilder &b;
  int64_t bits;
  ArrayRef<Value> codes;
  Value one, positions, selector;
  std::array<Value, 2> choices; // by the codes' bits 3 and 4
};
} // namespace

Values device::lookUp(DeviceBuilder &b, ArrayRef<Value> table, int64_t bits, Value codes, Value one) {
  size_t words = table.size() / 2;
  Value zero = b.i32(0);
  Selectors selectors(b, bits, codes, one);
  Values result;
  for (bool upper : {false, true}) {
    selectors.take(upper);
    auto four = [&](ArrayRef<Value> entries) { return entries[0] ? selectors.bytes(entries) : zero; };
    Value low = four(table.take_front(words)), high = four(table.drop_front(words));
    result.push_back(b.bytePermute(low, high, 0x5140));
    result.push_back(b.bytePermute(low, high, 0x7362));
  }
  return result;
}

Values device::lookUpPairs(DeviceBuilder &b, ArrayRef<Value> table, Value codes, Value one) {
  Value positions = opaque(b, 0x10101010, one), second = table[table.size() - 1];
  Values result;
  for (int64_t shift : {0, 4}) {
    // Bytes 2c and 2c + 1 of the table, side by side: a product, which is none of the integer pipe's.
    Value selector = b.add(b.mul(b.andWord(b.shrWord(codes, shift), 0x03030303), 0x22), positions);
    for (bool upper : {false, true})
      result.push_back(b.bytePermute(table[0], second, upper ? upperHalf(b, selector, one) : selector));
  }
  return result;
}

Values device::lookUpBytes(DeviceBuilder &b, ArrayRef<Value> table, int64_t bits, ArrayRef<Value> codes, Value one) {
  Selectors selectors(b, bits, codes, one);
  Values result;
  for (bool upper : {false, true}) {
    selectors.take(upper);
    result.push_back(selectors.bytes(table));
  }
  return result;
}
