//===- Codebook.cpp - codes into a table ------------------------------------===//
//
// The table of a row is loaded into registers once; a table too large for them
// is copied as f32 to scratch and gathered from.
//
//===----------------------------------------------------------------------===//

#include "Decoders.h"

using namespace mlir;
using namespace skim;

namespace {
class CodebookDecoder : public Decoder {
public:
  CodebookDecoder(CodebookAttr attr, DecodeContext context)
      : Decoder(context), attr(attr), bits(attr.getBits()), entries(int64_t(1) << attr.getBits()),
        integers(attr.getTable().isInteger(8)) {}

  int64_t group() const override { return integers ? context.k : 0; }
  int64_t bitsPerColumn() const override { return bits; }
  int64_t scratchPerRow() const override { return inMemory() ? entries * 4 : 0; }

  Values beginRow(KernelBuilder &b, ArrayRef<Value> components, Value row, Value scratch) const override {
    Value book = attr.getTensorScope() ? b.i64(0) : row;
    Value stored = b.element(components[1], b.mul(book, entries), attr.getTable());
    Values state = {b.offset(components[0], b.mul(row, codeBytes(context.k, bits)))};
    if (inMemory()) {
      int64_t step = std::min(entries, context.lanes);
      b.loop(b.i64(0), b.i64(entries), b.i64(step), [&](Value i) {
        b.store(read(b, b.element(stored, i, attr.getTable()), step), b.element(scratch, i, b.f32()));
      });
      state.push_back(scratch);
    } else {
      state.push_back(read(b, stored, entries));
    }
    if (tableEntries(16) >= entries)
      state.push_back(b.roundTo(read(b, stored, entries), b.bf16()));
    else
      state.push_back({});
    if (integers)
      state.push_back(b.element(components[2], book, b.f16()));
    return state;
  }

  Value values(KernelBuilder &b, const Values &row, const Run &run) const override {
    Value q = codes(b, row[0], run, bits, b.vec(context.lanes, b.i32()), !inMemory());
    return inMemory() ? b.gather(row[1], q) : b.lookup(row[1], q);
  }

  Value valuesBF16(KernelBuilder &b, const Values &row, const Run &run) const override {
    if (!row[2])
      return {};
    return b.lookup(row[2], codes(b, row[0], run, bits, b.vec(2 * context.lanes, b.i16()), true));
  }

  Value scales(KernelBuilder &b, const Values &row, Value, int64_t) const override {
    return b.splat(b.toF32(b.load(b.f16(), row[3])), context.lanes);
  }

private:
  CodebookAttr attr;
  int64_t bits, entries;
  bool integers;

  bool inMemory() const { return context.scratch && entries > tableEntries(32); }

  /// `count` entries as f32.
  Value read(KernelBuilder &b, Value pointer, int64_t count) const {
    Value table = b.load(b.vec(count, attr.getTable()), pointer);
    return integers ? b.intToF32(b.signExtend(table, b.i32())) : b.toF32(table);
  }
};
} // namespace

std::unique_ptr<Decoder> skim::makeCodebookDecoder(CodebookAttr attr, DecodeContext context) {
  return std::make_unique<CodebookDecoder>(attr, context);
}
