//===- One.cpp - one token --------------------------------------------------===//
//
// Every block makes the row of x, of what its source needs, and keeps it in shared
// memory: a launch that packs x, or a norm, costs more than the linear of a small
// matrix. Requests for tables and for the first columns of the weight are made
// before, so memory is at work in the meantime.
//
// A block takes one tile of 16 rows or two, with some warps each, which deal out the
// columns and add up their sums as in Few.cpp; of a product's eight columns only the
// first is used. Splits are as there.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
/// Bytes of the sums of a block's warps, 16 rows each.
int64_t sumBytes(const KernelSignature &signature) { return signature.tiles * signature.warps * kTileRows * 4; }

class OneKernel {
public:
  OneKernel(DeviceBuilder &b, const LaunchSignature &launch, const KernelSignature &signature,
            const KernelArguments &arguments)
      : b(b), launch(launch), signature(signature), arguments(arguments), warps(signature.warps), k(signature.k),
        threads(32 * warps * signature.tiles), columns(b, signature, arguments, false) {}

  /// A block of first factors: x as all blocks make it, then units while there are any.
  void emitFirst() {
    thread = b.threadX();
    lane = b.andWord(thread, 31);
    FirstFactors first(b, launch, arguments);
    Value claimed = first.claim(lane);
    x = b.offset(arguments.shared, sumBytes(signature));
    makeX();
    first.multiply(claimed, x, lane);
    b.barrier();
    first.leave(thread);
  }

  void emit() {
    thread = b.threadX();
    lane = b.andWord(thread, 31);
    Value number = b.shrWord(thread, 5);
    warp = b.andWord(number, static_cast<uint32_t>(warps - 1));
    place = b.shrWord(number, llvm::Log2_64(static_cast<uint64_t>(warps)));
    tile = b.add(b.mul(arguments.block, signature.tiles), place);
    if (signature.tiles > 1) { // the last block may have fewer
      Value tiles = b.shrWord(b.add(arguments.n, kTileRows - 1), 4);
      active = b.less(tile, tiles);
      tile = b.min(tile, b.sub(tiles, b.i32(1)));
    }
    columns.setOne(arguments.m);
    columns.request(tile, lane);
    int64_t count = warps * signature.splits;
    Columns::Workers workers = {warp, b.i32(count), llvm::isPowerOf2_64(count) ? count : 0,
                                (columns.units() + count - 1) / count};
    if (signature.splits > 1)
      workers.index = b.add(b.mul(b.blockY(), warps), warp);
    Values requested = columns.requestFirst(workers, active);
    requestResult();
    x = b.offset(arguments.shared, sumBytes(signature));
    makeX();
    columns.finishRequest();
    Value own = b.mul(columns.tile().t, 8);
    Value ofPlanes = b.offset(x, planePlace(b, lane));
    store(ifActive([&] {
      Values sums = columns.multiply(
          workers, 0,
          [&](Value first, int64_t step, int64_t) {
            if (signature.binary)
              return planeWords(b, ofPlanes, first, step);
            int64_t bytes = signature.bytesOfX();
            Value at = b.offset(x, b.mul(b.add(first, own), bytes));
            return b.words(b.offset(at, step * kStepColumns * bytes), 2 * bytes, false, "x");
          },
          requested);
      return signature.factors ? addFactors(workers, sums) : sums;
    }));
  }

private:
  DeviceBuilder &b;
  const LaunchSignature &launch;
  const KernelSignature &signature;
  KernelArguments arguments; // with what is known of x once it is made
  int64_t warps, k, threads;
  Columns columns;
  Value thread, lane, warp, place; // the warp's number among its tile's, the tile's in the block
  Value tile, active;              // whether there is one, or null: always
  Value x;
  ResultRow result; // of the lane's row of the tile, if anything is read for it

  Type half() { return signature.bf16 ? b.bf16() : b.f16(); }
  Values ifActive(llvm::function_ref<Values()> make) {
    return active ? b.choose(active, make, [&] { return Values(4, b.f32(0)); }) : make();
  }

  /// The row, fours of columns in turn.
  void makeX() {
    int64_t fours = packedColumns(k) / 4;
    Values at, there;
    for (int64_t i = 0; i < fours; i += threads) {
      bool sure = i + threads <= fours;
      Value own = b.add(thread, i);
      there.push_back(sure ? b.constant(b.i1(), 1) : b.less(own, b.i32(fours)));
      at.push_back(b.mul(sure ? own : b.min(own, b.i32(fours - 1)), 4));
    }
    if (signature.a8) {
      Value bytes = signature.binary ? b.offset(x, planeBytes(k)) : Value();
      arguments.xScale = quantizeRow(b, *launch.source, arguments.source, at, there, arguments.alpha, x, bytes);
      return b.barrier();
    }
    launch.source->makeRow(b, arguments.source, at, there, [&](size_t i, const Values &four) {
      auto put = [&] {
        b.storeWords(packColumns(b, four, arguments.alpha, at[i], k, half()), b.offset(x, b.mul(at[i], 2)));
      };
      if ((static_cast<int64_t>(i) + 1) * threads <= fours)
        put();
      else
        b.when(there[i], put);
    });
    b.barrier();
  }

  /// The products of a low-rank pair, units behind the weight's own.
  Values addFactors(Columns::Workers workers, const Values &sums) {
    Columns factors(b, signature, arguments, true);
    factors.setOne(arguments.m);
    int64_t count = warps * signature.splits;
    workers.most = (factors.units() + count - 1) / count;
    bool beside = !launch.firsts.empty();
    if (beside)
      b.when(factors.takes(workers, columns.units()), [&] { FirstFactors(b, launch, arguments).wait(x, lane); });
    factors.begin(tile, lane);
    Value own = b.mul(factors.tile().t, 8);
    Values more = factors.multiply(workers, columns.units(), [&](Value first, int64_t step, int64_t) {
      return packedWords(b, arguments.t, b.add(b.add(first, step * kStepColumns), own), signature.rank, half(),
                         /*readOnly=*/!beside);
    });
    for (auto [sum, other] : llvm::zip(more, sums))
      sum = b.add(sum, other);
    return more;
  }

  /// A lane's row of the tile, and whether it has one.
  std::pair<Value, Value> ownRow() {
    Value row = b.andWord(thread, static_cast<uint32_t>(32 * warps - 1));
    Value inside = b.less(row, signature.partial ? columns.tile().rows : b.i32(kTileRows));
    inside = b.bitAnd(inside, b.less(b.i32(0), arguments.m));
    return {row, active ? b.bitAnd(active, inside) : inside};
  }
  /// What is read for the lane's result is on its way while products are made.
  void requestResult() {
    bool adds = signature.epilogue == LinearEpilogue::Add;
    if (!signature.permutation && !signature.biased && !adds)
      return;
    auto [row, inside] = ownRow();
    Value weightRow = b.add(b.mul(tile, kTileRows), row);
    Values found = b.choose(
        inside,
        [&] {
          ResultRow own = resultRow(b, signature, arguments, weightRow);
          Values values = {own.column};
          if (own.bias)
            values.push_back(own.bias);
          if (adds)
            values.push_back(b.load(b.f32(), b.element(arguments.y, b.zeroExtend(own.column, b.i64()), b.f32())));
          return values;
        },
        [&] {
          Values none = {b.i32(0)};
          none.append(signature.biased + adds, b.f32(0));
          return none;
        });
    result.column = found[0];
    if (signature.biased)
      result.bias = found[1];
    if (adds)
      result.before = found.back();
  }
  /// The warps' sums of the lane's row.
  void outputs(llvm::function_ref<void(Value row)> body) {
    auto [row, inside] = ownRow();
    b.when(inside, [&, row = row] { body(row); });
  }

  /// Sums of the warps to y. The first column of a product is that of lanes 4g.
  void store(const Values &sums) {
    Value parts = arguments.shared;
    Value ofTile = b.offset(parts, b.mul(place, warps * kTileRows * 4));
    b.when(b.equal(columns.tile().t, b.i32(0)), [&] {
      Value own = b.offset(ofTile, b.add(b.mul(warp, kTileRows * 4), b.mul(b.shrWord(lane, 2), 4)));
      b.store(sums[0], own);
      b.store(sums[2], b.offset(own, kTileRows / 2 * 4));
    });
    b.barrier();
    if (!launch.firsts.empty())
      FirstFactors(b, launch, arguments).leave(thread);
    int64_t splits = signature.splits, block = onePartials(signature.tiles) * 4;
    Value slots = arguments.partials, counter;
    if (splits > 1) {
      slots = b.offset(slots, b.mul(b.zeroExtend(arguments.number, b.i64()), splits * block));
      slots = b.offset(slots, b.mul(place, kTileRows * 4));
    }
    outputs([&](Value row) {
      Value sum, from = b.offset(ofTile, b.mul(row, 4));
      for (int64_t w = 0; w < warps; ++w) {
        Value partial = b.load(b.f32(), b.offset(from, w * kTileRows * 4));
        sum = sum ? b.add(sum, partial) : partial;
      }
      if (splits > 1)
        b.store(sum, b.offset(slots, b.add(b.mul(b.blockY(), block), b.mul(row, 4))));
      else
        put(row, sum);
    });
    if (splits == 1)
      return;
    b.fence();
    b.barrier();
    counter =
        b.element(arguments.counters, b.add(arguments.number, launch.firsts.empty() ? 0 : kFirstCounters), b.i32());
    Value first = b.equal(thread, b.i32(0));
    b.when(first, [&] { b.store(b.atomicAdd(counter, b.i32(1)), parts); });
    b.barrier();
    b.when(b.equal(b.load(b.i32(), parts), b.i32(splits - 1)), [&] {
      b.fence();
      outputs([&](Value row) {
        Value from = b.offset(slots, b.mul(row, 4));
        // All are requested before the first is used.
        Values partials;
        for (int64_t split = 0; split < splits; ++split)
          partials.push_back(b.loadVolatile(b.f32(), b.offset(from, split * block)));
        Value sum = partials[0];
        for (Value partial : ArrayRef(partials).drop_front())
          sum = b.add(sum, partial);
        put(row, sum);
      });
      // As it was, for the next launch.
      b.when(first, [&] { b.store(b.i32(0), counter); });
    });
  }

  void put(Value row, Value sum) {
    if (!result.column)
      result.column = b.add(b.mul(tile, kTileRows), row);
    storeResult(b, signature, arguments, result, b.i32(0), sum);
  }
};
} // namespace

int64_t device::oneSharedBytes(const KernelSignature &signature) {
  int64_t x = signature.binary ? 2 * planeBytes(signature.k) : packedColumns(signature.k) * signature.bytesOfX();
  return sumBytes(signature) + x;
}

void device::emitOneKernel(DeviceBuilder &b, const LaunchSignature &launch, const KernelSignature &signature,
                           const KernelArguments &arguments) {
  OneKernel(b, launch, signature, arguments).emit();
}

void device::emitFirstFactors(DeviceBuilder &b, const LaunchSignature &launch, const KernelArguments &arguments) {
  OneKernel(b, launch, launch.common(), arguments).emitFirst();
}
