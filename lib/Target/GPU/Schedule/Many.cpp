//===- Many.cpp - up to 64 rows of x, and slabs of 64 -----------------------===//
//
// Each warp decodes a tile of 16 rows, or two, straight into fragments and multiplies
// all of the block's rows of x. x passes through shared memory in pieces of 128
// columns, three stages of them, copied asynchronously; the order of columns in a
// step makes a lane's operand B 16 consecutive bytes, so it is one load where
// ldmatrix would be one for as much. Units of 16 bytes of odd rows are exchanged
// in fours, which keeps the rows' banks apart; of x in bytes pairs of units, by the
// row modulo four.
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
constexpr int64_t kStages = 3, kPieceSteps = kPiece / kStepColumns;

/// Of a row of x in a stage.
int64_t rowBytesOf(const KernelSignature &signature) { return kPiece * signature.bytesOfX(); }

class ManyKernel : SlabKernel {
public:
  ManyKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments)
      : SlabKernel(b, signature, arguments, signature.tiles > 1,
                   [](const Decoder &decoder) { return std::max(kPiece, decoder.block()); }),
        rowBytes(rowBytesOf(signature)) {}

  void emit() {
    beginTiles();
    stages = arguments.shared;
    const Tile &lane = states[0].tile;
    Value g = b.shrWord(lane.lane, 2);
    Value fragment = b.add(b.mul(g, rowBytes), b.mul(lane.t, 8 * signature.bytesOfX()));
    if (signature.a8) {
      for (int64_t step = 0; step < kPieceSteps; ++step)
        fragments.push_back(b.add(fragment, b.mul(b.andWord(b.bitXor(g, b.i32(step)), 3), 32)));
    } else {
      Value odd = b.mul(b.andWord(g, 1), 64);
      fragments = {b.add(fragment, odd), b.sub(fragment, odd)};
    }
    int64_t spans = k / span;
    Value begin = beginColumns(), piece = b.mul(begin, span / kPiece), stage = b.i32(0);
    for (int64_t i = 0; i + 1 < kStages; ++i)
      copy(b.add(piece, i), b.i32(i * rows * rowBytes));
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
  int64_t rowBytes;
  Value stages;
  Values fragments; // the lane's: of even and of odd steps; of bytes, of each step of a piece

  /// Starts to copy a piece of x; x has no columns behind its last step, and rows behind its last are that one again.
  void copy(Value piece, Value stage) {
    int64_t ofRow = rowBytes / 16, units = rows * ofRow;
    for (int64_t i = 0; i < units; i += 32 * signature.warps) {
      Value unit = b.add(thread, i), row = b.shrWord(unit, llvm::Log2_64(static_cast<uint64_t>(ofRow)));
      Value place = b.andWord(unit, static_cast<uint32_t>(ofRow - 1));
      Value column = b.add(b.mul(piece, kPiece), b.mul(place, 16 / signature.bytesOfX()));
      auto one = [&] {
        Value from = b.min(b.add(firstRow, row), b.sub(arguments.m, b.i32(1)));
        Value at = b.add(b.mul(b.zeroExtend(from, b.i64()), packedColumns(k)), b.zeroExtend(column, b.i64()));
        Value turn = signature.a8 ? b.mul(b.andWord(row, 3), 2) : b.mul(b.andWord(row, 1), 4);
        Value to = b.add(stage, b.add(b.mul(row, rowBytes), b.mul(b.bitXor(place, turn), 16)));
        b.copyAsync(b.offset(stages, to), b.offset(arguments.x, b.mul(at, signature.bytesOfX())));
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
    int64_t stageBytes = rows * rowBytes;
    b.waitCopies(kStages - 2);
    b.barrier();
    // The stage that was read last: everybody is past it.
    Value last = b.select(b.equal(stage, b.i32(0)), b.i32((kStages - 1) * stageBytes), b.sub(stage, b.i32(stageBytes)));
    copy(b.add(piece, kStages - 1), last);
    Values at;
    for (Value fragment : fragments)
      at.push_back(b.offset(stages, b.add(stage, fragment)));
    Values next = product.accumulate(
        b, arguments, states, steps, first,
        [&](int64_t step, int64_t tile) {
          int64_t ofTile = tile * 8 * rowBytes;
          if (signature.a8)
            return b.words(b.offset(at[static_cast<size_t>(step)], ofTile), 2, false, "x");
          return b.words(b.offset(at[static_cast<size_t>(step % 2)], step * kStepColumns * 2 + ofTile), 4, false, "x");
        },
        sums);
    piece = b.add(piece, 1);
    stage = b.select(b.equal(stage, b.i32((kStages - 1) * stageBytes)), b.i32(0), b.add(stage, stageBytes));
    return next;
  }
};
} // namespace

int64_t device::manySharedBytes(const KernelSignature &shape) { return kStages * 8 * shape.xTiles * rowBytesOf(shape); }

int64_t device::manySpans(const Decoder &decoder, int64_t k) { return k / std::max(kPiece, decoder.block()); }

void device::emitManyKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments) {
  ManyKernel(b, signature, arguments).emit();
}
