//===- Many.cpp - up to 64 rows of x, and slabs of 64 -----------------------===//
//
// Each warp decodes a tile of 16 rows, or two, straight into fragments and multiplies
// all of the block's rows of x. x passes through shared memory in pieces of 128
// columns, three stages of them, copied asynchronously; the order of columns in a
// step makes a lane's operand B 16 consecutive bytes, so it is one load where
// ldmatrix would be one for as much. Units of 16 bytes of odd rows are exchanged
// in fours, which keeps the rows' banks apart.
//
// Where there are few blocks, several share the columns: each writes its sums down
// as its lanes have them, the last one to count itself adds up in the order of
// blocks (Few.cpp).
//
//===----------------------------------------------------------------------===//

#include "Slab.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
constexpr int64_t kRowBytes = 2 * kPiece, kStages = 3, kPieceSteps = kPiece / kStepColumns;

class ManyKernel : SlabKernel {
public:
  ManyKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments)
      : SlabKernel(b, signature, arguments, signature.tiles > 1,
                   [](const Decoder &decoder) { return std::max(kPiece, decoder.block()); }) {}

  void emit() {
    beginTiles();
    stages = arguments.shared;
    const Tile &lane = states[0].tile;
    Value g = b.shrWord(lane.lane, 2);
    Value odd = b.mul(b.andWord(g, 1), 64), fragment = b.add(b.mul(g, kRowBytes), b.mul(lane.t, 16));
    fragments = {b.add(fragment, odd), b.sub(fragment, odd)};
    int64_t spans = k / span;
    Value begin = beginColumns(), piece = b.mul(begin, span / kPiece), stage = b.i32(0);
    for (int64_t i = 0; i + 1 < kStages; ++i)
      copy(b.add(piece, i), b.i32(i * rows * kRowBytes));
    Values sums;
    for (int64_t j = 0; j < signature.tiles; ++j)
      sums.append(product.zeros(b));
    if (spans) {
      Values carried = sums;
      carried.append({piece, stage});
      carried.append(requestSpan(begin));
      size_t count = sums.size();
      Values results = b.loop(begin, end, b.i32(1), carried, [&](Value index, ValueRange values) {
        Values later = requestSpan(b.add(index, 1));
        Values next(values.take_front(count));
        Value piece = values[count], stage = values[count + 1];
        Value first = b.mul(index, span);
        SmallVector<Steps> steps = perTile([&](size_t j) {
          auto each = static_cast<size_t>(requests());
          return spanSteps(j, values.slice(count + 2 + j * each, each), first);
        });
        for (int64_t step = 0; step < span / kStepColumns; step += kPieceSteps) {
          SmallVector<ArrayRef<Decoder::Words>> here;
          for (const Steps &tile : steps)
            here.push_back(ArrayRef(tile).slice(step, kPieceSteps));
          next = multiplyPiece(here, b.add(first, step * kStepColumns), piece, stage, next);
        }
        next.append({piece, stage});
        next.append(later);
        return next;
      });
      sums.assign(results.begin(), results.begin() + count);
      piece = results[count];
      stage = results[count + 1];
    }
    // What is left, by pieces.
    if (spans * span < k)
      sums = inLast(sums, [&] {
        Values all = sums;
        for (int64_t first = spans * span; first < k; first += kPiece) {
          SmallVector<Steps> steps = perTile([&](size_t j) { return restSteps(j, first); });
          all = multiplyPiece(llvm::to_vector_of<ArrayRef<Decoder::Words>>(steps), b.i32(first), piece, stage, all);
        }
        return all;
      });
    sums = ofTiles(sums, [&](size_t j, const Values &own) { return product.finish(b, arguments, states[j], own); });
    finish(addFactors(sums), stages);
  }

private:
  Value stages;
  std::array<Value, 2> fragments; // the lane's, of even and of odd steps

  /// Starts to copy a piece of x; x has no columns behind its last step, and rows behind its last are that one again.
  void copy(Value piece, Value stage) {
    int64_t units = rows * kRowBytes / 16;
    for (int64_t i = 0; i < units; i += 32 * signature.warps) {
      Value unit = b.add(thread, i), row = b.shrWord(unit, 4), place = b.andWord(unit, 15);
      Value column = b.add(b.mul(piece, kPiece), b.mul(place, 8));
      auto one = [&] {
        Value from = b.min(b.add(firstRow, row), b.sub(arguments.m, b.i32(1)));
        Value at = b.add(b.mul(b.zeroExtend(from, b.i64()), packedColumns(k)), b.zeroExtend(column, b.i64()));
        Value exchanged = b.bitXor(place, b.mul(b.andWord(row, 1), 4));
        Value to = b.add(stage, b.add(b.mul(row, kRowBytes), b.mul(exchanged, 16)));
        b.copyAsync(b.offset(stages, to), b.offset(arguments.x, b.mul(at, 2)));
      };
      Value inside = b.less(column, columnsEnd);
      if (i + 32 * signature.warps > units)
        inside = b.bitAnd(inside, b.less(unit, b.i32(units)));
      b.when(inside, one);
    }
    b.commitCopies();
  }

  /// Waits for a piece of x, starts to copy a later one and multiplies.
  Values multiplyPiece(ArrayRef<ArrayRef<Decoder::Words>> steps, Value first, Value &piece, Value &stage,
                       const Values &sums) {
    int64_t stageBytes = rows * kRowBytes;
    b.waitCopies(kStages - 2);
    b.barrier();
    // The stage that was read last: everybody is past it.
    Value last = b.select(b.equal(stage, b.i32(0)), b.i32((kStages - 1) * stageBytes), b.sub(stage, b.i32(stageBytes)));
    copy(b.add(piece, kStages - 1), last);
    std::array<Value, 2> at = {b.offset(stages, b.add(stage, fragments[0])),
                               b.offset(stages, b.add(stage, fragments[1]))};
    Values next = product.accumulate(
        b, arguments, states, steps, first,
        [&](int64_t step, int64_t tile) {
          return b.words(b.offset(at[step % 2], step * kStepColumns * 2 + tile * 8 * kRowBytes), 4, false, "x");
        },
        sums);
    piece = b.add(piece, 1);
    stage = b.select(b.equal(stage, b.i32((kStages - 1) * stageBytes)), b.i32(0), b.add(stage, stageBytes));
    return next;
  }
};
} // namespace

int64_t device::manySharedBytes(int64_t xTiles) { return kStages * 8 * xTiles * kRowBytes; }

int64_t device::manySpans(const Decoder &decoder, int64_t k) { return k / std::max(kPiece, decoder.block()); }

void device::emitManyKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments) {
  ManyKernel(b, signature, arguments).emit();
}
