//===- Few.cpp - one token, or a few ----------------------------------------===//
//
// A block takes a tile of 16 rows; its warps take the units of columns in turn
// and their sums meet in shared memory, in a fixed order. Loads of weights run
// ahead of their use by at least four requests. x is small and in the second
// level of cache: lanes read their fragments of it directly.
//
// Where there are few tiles, several blocks share one. Each writes its sums down
// and counts itself; the one that finds all others counted adds up, in the order
// of blocks, so that results do not depend on who is last. A second kernel would
// do the same at the price of a launch, which is more than a small matrix costs.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
/// Words from one part of a lane's sums to the next: the warps that read them, a
/// row a lane, then meet 32 different banks.
constexpr int64_t kPartWords = 33;

class FewKernel {
public:
  FewKernel(DeviceBuilder &b, const LaunchSignature &launch, const KernelSignature &signature,
            const KernelArguments &arguments)
      : b(b), launch(launch), signature(signature), arguments(arguments), warps(signature.warps), k(signature.k),
        columns(b, signature, arguments, false) {}

  void emit() {
    thread = b.threadX();
    Value lane = b.andWord(thread, 31);
    warp = b.shrWord(thread, 5);
    columns.begin(arguments.block, lane);
    Columns::Workers workers = {warp, b.i32(warps), warps, (columns.units() + warps - 1) / warps};
    if (int64_t splits = signature.splits; splits > 1) {
      int64_t count = splits * warps;
      workers = {b.add(b.mul(b.blockY(), warps), warp), b.i32(count), llvm::isPowerOf2_64(count) ? count : 0,
                 (columns.units() + count - 1) / count};
    }
    // Lanes of rows that x has not read its last one; their sums are not stored.
    group = b.shrWord(lane, 2);
    token = b.min(group, b.sub(arguments.m, b.i32(1)));
    own = b.mul(columns.tile().t, 8);
    Value row = launch.source ? Value() : rowOf(arguments.x, packedColumns(k));
    Values sums = columns.multiply(workers, 0, [&](Value first, int64_t step, int64_t) {
      if (launch.source)
        return makeX(b.add(b.add(first, step * kStepColumns), own));
      int64_t bytes = signature.bytesOfX();
      Value at = b.offset(row, b.mul(first, bytes));
      return b.words(b.offset(at, step * kStepColumns * bytes), 2 * bytes, true, "x");
    });
    if (signature.factors) {
      Columns factors(b, signature, arguments, true);
      factors.begin(arguments.block, lane);
      workers.most = (factors.units() + warps * signature.splits - 1) / (warps * signature.splits);
      Value t = b.element(arguments.t, b.mul(token, packedColumns(signature.rank)), half());
      Values more = factors.multiply(workers, columns.units(), [&](Value first, int64_t step, int64_t) {
        return packedWords(b, t, b.add(b.add(first, step * kStepColumns), own), signature.rank, half());
      });
      for (auto [sum, other] : llvm::zip(sums, more))
        sum = b.add(sum, other);
    }
    store(sums);
  }

private:
  DeviceBuilder &b;
  const LaunchSignature &launch;
  const KernelSignature &signature;
  const KernelArguments &arguments;
  int64_t warps, k;
  Columns columns;
  Value thread, warp, group, token, own; // own: the lane's first column of a step

  Type half() { return signature.bf16 ? b.bf16() : b.f16(); }
  /// The lane's eight columns of the first step of its row of x.
  Value rowOf(Value x, int64_t columns) {
    return b.offset(x, b.mul(b.add(b.mul(token, columns), own), signature.bytesOfX()));
  }

  /// Eight columns of x, as f16 or bf16; the launch's first block writes them down for later ones.
  Values makeX(Value column) {
    Values x = launch.source->load(b, arguments.source, token, column, 8);
    Values words = packColumns(b, x, Value(), column, k, half());
    Value writes = b.bitAnd(b.equal(b.blockX(), b.i32(0)), b.less(group, arguments.m));
    b.when(writes, [&] {
      Value to = b.element(arguments.packed, b.add(b.mul(token, packedColumns(k)), column), half());
      b.storeWords(launch.scaled ? packColumns(b, x, arguments.alpha, column, k, half()) : words, to);
    });
    return words;
  }

  /// Calls body(row of the tile, row of x, number) for what this thread puts out.
  void outputs(llvm::function_ref<void(Value row, Value token, Value output)> body) {
    b.loop(thread, b.i32(8 * kTileRows), b.i32(32 * warps), [&](Value output) {
      Value row = b.andWord(output, 15), token = b.shrWord(output, 4);
      Value inside = b.less(token, arguments.m);
      if (signature.partial)
        inside = b.bitAnd(inside, b.less(row, columns.tile().rows));
      b.when(inside, [&] { body(row, token, output); });
    });
  }

  /// Sums of the warps to y.
  void store(const Values &sums) {
    Value parts = arguments.shared;
    Value own = b.offset(parts, b.add(b.mul(warp, 16 * kPartWords), b.mul(columns.tile().lane, 4)));
    for (int64_t part = 0; part < 4; ++part)
      b.store(sums[part], b.offset(own, part * kPartWords * 4));
    b.barrier();
    Value slots = arguments.partials, tile = b.blockX();
    int64_t splits = signature.splits;
    if (splits > 1)
      slots = b.offset(slots, b.mul(b.zeroExtend(tile, b.i64()), splits * kFewPartials * 4));
    // A lane has one row and one row of x.
    outputs([&](Value row, Value token, Value output) {
      ResultRow to = splits > 1 ? ResultRow() : resultOf(row);
      Value lane = b.add(b.mul(b.andWord(row, 7), 4), b.shrWord(token, 1));
      Value part = b.add(b.mul(b.shrWord(row, 3), 2), b.andWord(token, 1));
      Value from = b.offset(parts, b.mul(b.add(b.mul(part, kPartWords), lane), 4));
      Value sum;
      for (int64_t w = 0; w < warps; ++w) {
        Value partial = b.load(b.f32(), b.offset(from, w * 16 * kPartWords));
        sum = sum ? b.add(sum, partial) : partial;
      }
      if (splits > 1)
        b.store(sum, b.offset(slots, b.add(b.mul(b.blockY(), kFewPartials * 4), b.mul(output, 4))));
      else
        storeResult(b, signature, arguments, to, token, sum);
    });
    if (splits == 1)
      return;
    b.fence();
    b.barrier();
    Value counter = b.element(arguments.counters, tile, b.i32());
    Value first = b.equal(thread, b.i32(0)), last = b.i32(splits - 1);
    b.when(first, [&] { b.store(b.atomicAdd(counter, b.i32(1)), parts); });
    b.barrier();
    b.when(b.equal(b.load(b.i32(), parts), last), [&] {
      b.fence();
      outputs([&](Value row, Value token, Value output) {
        ResultRow to = resultOf(row);
        Value from = b.offset(slots, b.mul(output, 4));
        // All are requested before the first is used.
        Values partials;
        for (int64_t split = 0; split < splits; ++split)
          partials.push_back(b.loadVolatile(b.f32(), b.offset(from, split * kFewPartials * 4)));
        Value sum = partials[0];
        for (Value partial : ArrayRef(partials).drop_front())
          sum = b.add(sum, partial);
        storeResult(b, signature, arguments, to, token, sum);
      });
      // As it was, for the next launch.
      b.when(first, [&] { b.store(b.i32(0), counter); });
    });
  }

  ResultRow resultOf(Value row) {
    return resultRow(b, signature, arguments, b.add(b.mul(arguments.block, kTileRows), row));
  }
};
} // namespace

int64_t device::fewSharedBytes(int64_t warps) { return warps * 4 * kPartWords * 4; }

void device::emitFewKernel(DeviceBuilder &b, const LaunchSignature &launch, const KernelSignature &signature,
                           const KernelArguments &arguments) {
  FewKernel(b, launch, signature, arguments).emit();
}
