//===- EmbedKernel.cpp - rows of an encoded table ---------------------------===//
//
// A row is read once a token, so a thread decodes its own column from canonical
// components, byte by byte.
//
//===----------------------------------------------------------------------===//

#include "KernelValues.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
/// A row of a table as its threads see it.
struct EncodedRow {
  StepBuilder &b;
  ArrayRef<Value> components;
  Value row; // i32
  int64_t channels;

  /// Code number `index` of the row of a component with `perRow` of them, i32.
  Value code(Value component, Value index, int64_t perRow, int64_t bits) {
    int64_t rowBytes = (perRow * bits + 7) / 8;
    Value start = b.offset(component, b.mul(b.wide(row), rowBytes));
    Value bit = b.mul(index, bits);
    auto byteAt = [&](Value at) { return b.zeroExtend(b.readOnly(b.i8(), b.offset(start, at)), b.i32()); };
    Value value = byteAt(b.shrWord(bit, 3));
    if (8 % bits)
      value = b.bitOr(value, b.shl(byteAt(b.shrWord(b.add(bit, bits - 1), 3)), b.i32(8)));
    return b.andWord(b.shr(value, b.andWord(bit, 7)), (1u << bits) - 1);
  }
  /// Element `index` of the row of a component of numbers, f32.
  Value number(Value component, Value index, int64_t perRow, Type type) {
    Value at = b.add(b.mul(b.wide(row), perRow), b.wide(index));
    return b.toFloat(b.readOnly(type, b.element(component, at, type)));
  }

  Value uniform(UniformAttr attr, Value column) {
    int64_t size = attr.getGroupSize(channels), groups = (channels + size - 1) / size, bits = attr.getBits();
    Value group = b.div(column, size);
    Value q = b.intToF32(code(components[0], column, channels, bits));
    Value zero = !attr.getAsymmetric() ? b.f32(static_cast<double>(int64_t(1) << (bits - 1)))
                 : attr.getZeroType()  ? number(components[2], group, groups, attr.getZeroType())
                                       : b.intToF32(code(components[2], group, groups, bits));
    return b.mul(number(components[1], group, groups, attr.getScaleType()), b.sub(q, zero));
  }

  Value codebook(CodebookAttr attr, Value column) {
    int64_t entries = int64_t(1) << attr.getBits();
    bool whole = attr.getTensorScope();
    Value book = whole ? b.i32(0) : row, q = code(components[0], column, channels, attr.getBits());
    Value at = b.add(b.mul(b.wide(book), entries), b.wide(q));
    Type type = attr.getTable();
    Value entry = b.readOnly(type, b.element(components[1], at, type));
    if (!type.isInteger(8))
      return b.toFloat(entry);
    Value scale = b.toFloat(b.readOnly(b.f16(), b.element(components[2], b.wide(book), b.f16())));
    return b.mul(scale, b.intToF32(b.signExtend(entry, b.i32())));
  }
};
} // namespace

bool device::hasEmbedKernel(WeightEncoding term) { return isa<UniformAttr, CodebookAttr>(Attribute(term)); }

StepKernel device::encodedEmbedKernel(const KernelPlace &place, int64_t channels, WeightEncoding term,
                                      int64_t components) {
  constexpr int64_t threads = 256;
  // Other formats may have the same short name.
  std::string spelling;
  llvm::raw_string_ostream(spelling) << Attribute(term);
  std::string name = "embed_c" + std::to_string(channels) + "_";
  for (char c : spelling)
    name += llvm::isAlnum(c) ? c : '_';
  makeKernel(place, name, kernelTypes(place, std::string(static_cast<size_t>(components) + 2, 'p')), threads,
             [&](StepBuilder &b, ArrayRef<BlockArgument> a) {
               Value column = b.add(b.mul(b.blockY(), threads), b.threadX());
               b.when(b.less(column, b.i32(channels)), [&] {
                 Value row = b.blockX();
                 SmallVector<Value> parts(a.drop_front().drop_back());
                 EncodedRow table{b, parts, b.number(a.front(), row), channels};
                 auto uniform = dyn_cast<UniformAttr>(Attribute(term));
                 Value value = uniform ? table.uniform(uniform, column)
                                       : table.codebook(cast<CodebookAttr>(Attribute(term)), column);
                 b.store(value, b.at(a.back(), row, b.i32(channels), column));
               });
             });
  return {name, threads, (channels + threads - 1) / threads};
}
