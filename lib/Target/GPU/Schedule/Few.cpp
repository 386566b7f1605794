//===- Few.cpp - one token, or a few ----------------------------------------===//
//
// A block takes a tile of 16 rows; its warps take the blocks of columns in turn
// and their sums meet in shared memory, in a fixed order. Loads of weights run
// ahead of their use by at least four requests. x is small and in the second
// level of cache: lanes read their fragments of it directly.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

int64_t device::fewWarps(const Decoder &decoder, int64_t k) {
  int64_t block = decoder.block() ? decoder.block() : kStepColumns;
  int64_t units = (k + block - 1) / block;
  return std::min<int64_t>(8, static_cast<int64_t>(llvm::PowerOf2Ceil(units)));
}

namespace {
/// Words from one part of a lane's sums to the next: the warps that read them, a
/// row a lane, then meet 32 different banks.
constexpr int64_t kPartWords = 33;

class FewKernel {
public:
  FewKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments)
      : b(b), signature(signature), arguments(arguments), product(signature), decoder(product.decoder()),
        warps(signature.warps), k(signature.k) {}

  void emit(mlir::gpu::GPUModuleOp module) {
    thread = b.threadX();
    warp = b.shrWord(thread, 5);
    tileIndex = b.blockX();
    Value lane = b.andWord(thread, 31);
    state = product.begin(b, arguments, tileIndex, lane);
    // Lanes of rows that x has not read its last one; their sums are not stored.
    Value token = b.min(b.shrWord(lane, 2), b.sub(arguments.m, b.i32(1)));
    xRow = b.offset(arguments.x, b.add(b.mul(token, packedColumns(k) * 2), b.mul(state.tile.t, 16)));
    Values sums = product.zeros(b);
    if (signature.partial)
      sums = b.choose(
          b.equal(state.tile.rows, b.i32(kTileRows)), [&] { return wholeTile(sums); },
          [&] { return canonicalTile(sums); });
    else
      sums = wholeTile(sums);
    store(module, product.finish(b, arguments, state, sums));
  }

private:
  DeviceBuilder &b;
  const KernelSignature &signature;
  const KernelArguments &arguments;
  Product product;
  const Decoder &decoder;
  int64_t warps, k;
  Value thread, warp, tileIndex, xRow;
  Product::State state;

  Values accumulate(ArrayRef<Decoder::Words> steps, Value first, ValueRange sums) {
    Value x = b.offset(xRow, b.mul(first, 2));
    return product.accumulate(
        b, arguments, state, steps, first,
        [&](int64_t step, int64_t) { return b.words(b.offset(x, step * kStepColumns * 2), 4, true, "x"); }, sums);
  }

  Values wholeTile(ValueRange initial) {
    if (!decoder.block())
      return canonicalTile(initial);
    int64_t blocks = k / decoder.block(), covered = blocks * decoder.block();
    Values sums = wholeBlocks(blocks, initial);
    // What is left is dealt on to the warps in turn.
    int64_t narrow = (k - covered) / kNarrowColumns, next = blocks;
    if (narrow) {
      Value mine = b.andWord(b.add(warp, warps - next % warps), static_cast<uint32_t>(warps - 1));
      sums = b.loop(mine, b.i32(narrow), b.i32(warps), sums, [&](Value index, ValueRange carried) {
        Values loaded = decoder.loadNarrow(b, state.codes, state.tile, index);
        return accumulate(decoder.sortBlock(b, loaded, StepKind::Narrow), b.add(b.mul(index, kNarrowColumns), covered),
                          carried);
      });
      next += narrow;
    }
    int64_t rest = restColumns(k);
    if (rest)
      sums = b.choose(
          b.equal(warp, b.i32(next % warps)),
          [&] {
            std::array<Value, 2> rows = product.restRows(b, state);
            Values own = sums;
            for (int64_t column = 0; column < rest; column += kStepColumns)
              own = accumulate(decoder.canonicalStep(b, rows, state.tile, b.i32(column), rest),
                               b.i32(k - rest + column), own);
            return own;
          },
          [&] { return sums; });
    return sums;
  }

  /// Blocks warp, warp + warps, …; requests for later ones are on their way.
  Values wholeBlocks(int64_t blocks, ValueRange initial) {
    if (!blocks)
      return Values(initial);
    int64_t perWarp = (blocks + warps - 1) / warps, requests = decoder.requestsPerBlock();
    int64_t ahead = std::min((4 + requests - 1) / requests, perWarp - 1);
    auto loadAt = [&](Value index) {
      return b.choose(
          b.less(index, b.i32(blocks)), [&] { return decoder.loadBlock(b, state.codes, state.tile, index); },
          [&] { return Values(requests, b.noRequest(4)); });
    };
    Values carried(initial);
    for (int64_t i = 0; i < ahead; ++i)
      carried.append(loadAt(i ? b.add(warp, i * warps) : warp));
    size_t sums = initial.size();
    Values results = b.loop(warp, b.i32(blocks), b.i32(warps), carried, [&](Value index, ValueRange values) {
      Values now, later(values.drop_front(sums));
      if (ahead) {
        now.assign(later.begin(), later.begin() + requests);
        later.erase(later.begin(), later.begin() + requests);
        later.append(loadAt(b.add(index, ahead * warps)));
      } else {
        now = decoder.loadBlock(b, state.codes, state.tile, index);
      }
      Values next = accumulate(decoder.sortBlock(b, now, StepKind::Block), b.mul(index, decoder.block()),
                               values.take_front(sums));
      next.append(later);
      return next;
    });
    results.truncate(sums);
    return results;
  }

  Values canonicalTile(ValueRange initial) {
    std::array<Value, 2> rows = product.canonicalRows(b, state);
    int64_t steps = packedColumns(k) / kStepColumns;
    return b.loop(warp, b.i32(steps), b.i32(warps), initial, [&](Value step, ValueRange carried) {
      Value column = b.mul(step, kStepColumns);
      return accumulate(decoder.canonicalStep(b, rows, state.tile, column, k), column, carried);
    });
  }

  /// Sums of the warps to y.
  void store(mlir::gpu::GPUModuleOp module, const Values &sums) {
    Value parts = b.sharedMemory(module, signature.name("few") + "_parts", warps * 4 * kPartWords * 4);
    Value own = b.offset(parts, b.add(b.mul(warp, 16 * kPartWords), b.mul(state.tile.lane, 4)));
    for (int64_t part = 0; part < 4; ++part)
      b.store(sums[part], b.offset(own, part * kPartWords * 4));
    b.barrier();
    // A lane has one row and one row of x.
    b.loop(thread, b.i32(8 * kTileRows), b.i32(32 * warps), [&](Value output) {
      Value row = b.andWord(output, 15), token = b.shrWord(output, 4);
      Value inside = b.less(token, arguments.m);
      if (signature.partial)
        inside = b.bitAnd(inside, b.less(row, state.tile.rows));
      b.when(inside, [&] {
        Value lane = b.add(b.mul(b.andWord(row, 7), 4), b.shrWord(token, 1));
        Value part = b.add(b.mul(b.shrWord(row, 3), 2), b.andWord(token, 1));
        Value from = b.offset(parts, b.mul(b.add(b.mul(part, kPartWords), lane), 4));
        Value sum;
        for (int64_t w = 0; w < warps; ++w) {
          Value partial = b.load(b.f32(), b.offset(from, w * 16 * kPartWords));
          sum = sum ? b.add(sum, partial) : partial;
        }
        storeResult(b, signature, arguments, b.add(b.mul(tileIndex, kTileRows), row), token, sum);
      });
    });
  }
};
} // namespace

void device::emitFewKernel(DeviceBuilder &b, mlir::gpu::GPUModuleOp module, const KernelSignature &signature,
                           const KernelArguments &arguments) {
  FewKernel(b, signature, arguments).emit(module);
}
