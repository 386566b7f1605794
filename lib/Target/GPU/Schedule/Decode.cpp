//===- Decode.cpp - a weight as halves in memory ----------------------------===//
//
// For a library that multiplies (LibraryProduct). Lanes have the columns of a step as
// operand A wants them, which are eight consecutive ones of two rows: 16 bytes each.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
class DecodeKernel {
public:
  DecodeKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments)
      : b(b), signature(signature), arguments(arguments), product(signature, /*inPlace=*/false, /*inPairs=*/true),
        decoder(product.decoder()) {}

  void emit() {
    Value thread = b.threadX(), lane = b.andWord(thread, 31);
    warp = b.shrWord(thread, 5);
    state = product.request(b, arguments, arguments.block, lane);
    product.begin(b, arguments, state);
    for (int h = 0; h < 2; ++h) {
      Value row = resultRow(b, signature, arguments, state.tile.row[h]).column;
      Value first = b.mul(b.zeroExtend(row, b.i64()), b.zeroExtend(arguments.yStride, b.i64()));
      to[h] = b.element(b.offset(arguments.y, b.mul(b.zeroExtend(b.mul(state.tile.t, 8), b.i64()), 2)), first, b.i16());
      there[h] = b.less(state.tile.inTile[h], state.tile.rows);
    }
    int64_t k = signature.k, block = decoder.block();
    if (!block)
      return steps(product.canonicalRows(b, state), k);
    int64_t covered = k / block * block, narrow = (k - covered) / kNarrowColumns;
    units(k / block, block, 0, StepKind::Block,
          [&](Value i) { return decoder.loadBlock(b, state.codes, state.tile, i); });
    units(narrow, kNarrowColumns, covered, StepKind::Narrow,
          [&](Value i) { return decoder.loadNarrow(b, state.codes, state.tile, i); });
    if (int64_t rest = restColumns(k))
      steps(product.restRows(b, state), rest);
  }

private:
  DeviceBuilder &b;
  const KernelSignature &signature;
  const KernelArguments &arguments;
  Product product;
  const Decoder &decoder;
  Product::State state;
  Value warp;
  std::array<Value, 2> to, there; // the lane's first column of its rows, and whether there are such

  void units(int64_t count, int64_t columns, int64_t before, StepKind kind, llvm::function_ref<Values(Value)> load) {
    if (count)
      b.loop(warp, b.i32(count), b.i32(signature.warps), [&](Value index) {
        Value first = b.add(b.mul(index, columns), before);
        for (auto [s, step] : llvm::enumerate(decoder.sortBlock(b, load(index), kind)))
          put(step, b.add(first, static_cast<int64_t>(s) * kStepColumns));
      });
  }

  /// The last `columns` columns, canonical.
  void steps(std::array<Value, 2> rows, int64_t columns) {
    b.loop(warp, b.i32((columns + kStepColumns - 1) / kStepColumns), b.i32(signature.warps), [&](Value step) {
      Value column = b.mul(step, kStepColumns);
      put(decoder.canonicalStep(b, rows, state.tile, column, columns), b.add(column, signature.k - columns));
    });
  }

  void put(const Decoder::Words &words, Value column) {
    std::array<Values, 2> numbers = product.numbers(b, arguments, state, words, column);
    for (int h = 0; h < 2; ++h) {
      auto store = [&, h] { b.storeWords(numbers[h], b.element(to[h], column, b.i16())); };
      if (signature.partial)
        b.when(there[h], store);
      else
        store();
    }
  }
};
} // namespace

void device::emitDecodeKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments) {
  DecodeKernel(b, signature, arguments).emit();
}
