//===- Codebook.cpp - codes into tables -------------------------------------===//
//
// Tables of up to eight words are in registers: sixteen halves, or thirty-two
// bytes, which become floats behind the lookup. Larger ones are read from memory
// (the first level of cache) entry by entry.
//
//===----------------------------------------------------------------------===//

#include "Decoders.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
class CodebookDecoder : public Decoder {
public:
  CodebookDecoder(CodebookAttr attr, DecodeContext context)
      : Decoder(context), attr(attr), entries(int64_t(1) << attr.getBits()), integers(attr.getTable().isInteger(8)) {}

  int64_t bits() const override { return attr.getBits(); }
  CodeOrder order() const override {
    return byPairs() ? CodeOrder::Bytes : inRegisters() ? CodeOrder::Adjacent : CodeOrder::Split;
  }
  bool readsTable() const override { return !inRegisters(); }
  int64_t group() const override { return integers ? context.k : 0; }
  SmallVector<TiledComponent> components(int64_t rows) const override {
    return layouts(rows, TiledComponent::Codes, {});
  }

  Values requestRow(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half) const override {
    Value table = components[1];
    if (!attr.getTensorScope())
      table = b.offset(table, b.mul(b.zeroExtend(tile.row[half], b.i64()), entries * entryBytes()));
    if (!inRegisters())
      return {table};
    if (looksUpBytes() && entries == 2)
      return {b.zeroExtend(b.readOnly(b.i16(), table), b.i32())};
    Values numbers;
    if (looksUpBytes() || (!integers && attr.getTable() == this->half(b))) {
      int64_t words = entries / (looksUpBytes() ? 4 : 2), wide = std::min<int64_t>(words, 4);
      for (int64_t word = 0; word < words; word += wide)
        numbers.append(b.words(b.offset(table, 4 * word), wide, /*readOnly=*/true));
      return numbers;
    }
    for (int64_t entry = 0; entry < entries; entry += 2)
      numbers.push_back(b.pairOf(read(b, table, b.i32(entry)), read(b, table, b.i32(entry + 1)), this->half(b)));
    return numbers;
  }

  Values beginRow(DeviceBuilder &b, const Values &requested) const override {
    if (!inRegisters() || context.bytes || byPairs())
      return requested;
    if (!looksUpBytes())
      return registerTable(b, requested);
    Values table;
    for (Value word : requested)
      table.push_back(b.bitXor(word, b.word(0x80808080)));
    return table;
  }

  Value scale(DeviceBuilder &b, ArrayRef<Value> components, const Tile &tile, int half, Value) const override {
    Value book = attr.getTensorScope() ? b.i32(0) : tile.row[half];
    return b.toFloat(b.readOnly(b.f16(), b.offset(components[2], b.mul(b.zeroExtend(book, b.i64()), 2))));
  }

  Values pairs(DeviceBuilder &b, const Values &row, ArrayRef<Value>, const Values &words) const override {
    if (byPairs())
      return lookUpPairs(b, row, words[0], one);
    if (inRegisters())
      return looksUpBytes() ? integers128(b, lookUpBytes(b, row, bits(), words, one))
                            : lookUp(b, row, bits(), words[0], one);
    Values pairs;
    for (Value codes : codePairs(b, words)) {
      Value low = read(b, row[0], b.andWord(codes, 0xffff)), high = read(b, row[0], b.shrWord(codes, 16));
      pairs.push_back(b.pairOf(low, high, half(b)));
    }
    return pairs;
  }

  bool hasBytes() const override { return integers; }
  Values bytes(DeviceBuilder &b, const Values &row, Value, const Values &words) const override {
    if (inRegisters())
      return lookUpBytes(b, row, bits(), words, one);
    Values fours;
    for (Value codes : codeBytes(b, words)) {
      Value four;
      for (int64_t i = 0; i < 4; ++i) {
        Value code = b.andWord(b.shrWord(codes, 8 * i), 255);
        Value entry = b.shl(b.zeroExtend(b.readOnly(b.i8(), b.offset(row[0], code)), b.i32()), b.i32(8 * i));
        four = four ? b.bitOr(four, entry) : entry;
      }
      fours.push_back(four);
    }
    return fours;
  }

private:
  CodebookAttr attr;
  int64_t entries;
  bool integers;

  bool inRegisters() const { return attr.getBits() <= (integers ? 5 : 4); }
  /// Whether tables in registers are bytes. In bf16 halves are faster, as long as they have room.
  bool looksUpBytes() const { return integers && (context.bytes || !context.bf16 || attr.getBits() > 4); }
  /// Whether a permute reaches a whole table of halves. (Of bytes more can lie side by side.)
  bool byPairs() const { return attr.getBits() <= 2 && !integers; }
  /// Fours of bytes q + 128 as four pairs of numbers q.
  Values integers128(DeviceBuilder &b, const Values &fours) const {
    Values pairs;
    // 0x6400 + u is 1024 + u in f16.
    Value upper = context.bf16 ? b.i32(0) : inRegister(b, 0x64646464);
    for (Value four : fours)
      for (uint32_t selector : {0x4140, 0x4342})
        pairs.push_back(b.bytePermute(four, upper, selector));
    if (context.bf16)
      return integerPairs(b, pairs, 8, {}, 128);
    for (Value &pair : pairs)
      pair = b.subPairs(pair, b.word(0x64806480), b.f16());
    return pairs;
  }
  int64_t entryBytes() const { return integers ? 1 : 2; }

  Value read(DeviceBuilder &b, Value table, Value index) const {
    Value entry = b.readOnly(attr.getTable(), b.offset(table, b.mul(index, entryBytes())));
    return integers ? b.intToF32(b.signExtend(entry, b.i32())) : entry;
  }
};
} // namespace

std::unique_ptr<Decoder> device::makeCodebookDecoder(CodebookAttr attr, DecodeContext context) {
  return std::make_unique<CodebookDecoder>(attr, context);
}
