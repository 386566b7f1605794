//===- Many.cpp - up to 64 rows of x, and slabs of 64 -----------------------===//
//
// Each warp decodes a tile of 16 rows straight into fragments and multiplies all
// of the block's rows of x. x passes through shared memory in pieces of 128
// columns, three stages of them, copied asynchronously; the order of columns in a
// step makes a lane's operand B 16 consecutive bytes, so it is one load where
// ldmatrix would be one for as much. Units of 16 bytes of odd rows are exchanged
// in fours, which keeps the rows' banks apart.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

namespace {
constexpr int64_t kPiece = 128, kRowBytes = 2 * kPiece, kStages = 3, kPieceSteps = kPiece / kStepColumns;

class ManyKernel {
public:
  ManyKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments)
      : b(b), signature(signature), arguments(arguments), product(signature), decoder(product.decoder()),
        k(signature.k), rows(8 * signature.xTiles), span(std::max(kPiece, decoder.block())) {}

  void emit(mlir::gpu::GPUModuleOp module) {
    thread = b.threadX();
    Value tiles = b.shrWord(b.add(arguments.n, kTileRows - 1), 4);
    Value own = b.add(b.mul(b.blockX(), signature.warps), b.shrWord(thread, 5));
    // Warps behind the last tile help to copy x; what they compute is not stored.
    active = b.less(own, tiles);
    state = product.begin(b, arguments, b.min(own, b.sub(tiles, b.i32(1))), b.andWord(thread, 31));
    firstRow = b.mul(b.blockY(), rows);
    stages = b.sharedMemory(module, signature.name("many") + "_x", kStages * rows * kRowBytes);
    Value g = b.shrWord(state.tile.lane, 2);
    Value odd = b.mul(b.andWord(g, 1), 64), fragment = b.add(b.mul(g, kRowBytes), b.mul(state.tile.t, 16));
    fragments = {b.add(fragment, odd), b.sub(fragment, odd)};

    Value piece = b.i32(0), stage = b.i32(0);
    for (int64_t i = 0; i + 1 < kStages; ++i)
      copy(b.i32(i), b.i32(i * rows * kRowBytes));
    Values sums = product.zeros(b);
    int64_t spans = k / span;
    if (spans) {
      Values carried = sums;
      carried.append({piece, stage});
      carried.append(requestSpan(b.i32(0), spans));
      size_t count = sums.size();
      Values results = b.loop(b.i32(0), b.i32(spans), b.i32(1), carried, [&](Value index, ValueRange values) {
        Values later = requestSpan(b.add(index, 1), spans);
        Values next(values.take_front(count));
        Value piece = values[count], stage = values[count + 1];
        Value first = b.mul(index, span);
        SmallVector<Decoder::Words> steps = spanSteps(values.drop_front(count + 2), first);
        for (int64_t step = 0; step < span / kStepColumns; step += kPieceSteps)
          next = multiplyPiece(ArrayRef(steps).slice(step, kPieceSteps), b.add(first, step * kStepColumns), piece,
                               stage, next);
        next.append({piece, stage});
        next.append(later);
        return next;
      });
      sums.assign(results.begin(), results.begin() + count);
      piece = results[count];
      stage = results[count + 1];
    }
    // What is left, by pieces.
    for (int64_t first = spans * span; first < k; first += kPiece)
      sums = multiplyPiece(restSteps(first), b.i32(first), piece, stage, sums);
    store(product.finish(b, arguments, state, sums));
  }

private:
  DeviceBuilder &b;
  const KernelSignature &signature;
  const KernelArguments &arguments;
  Product product;
  const Decoder &decoder;
  int64_t k, rows;
  int64_t span; // columns whose words are requested together
  Value thread, active, firstRow, stages;
  std::array<Value, 2> fragments; // the lane's, of even and of odd steps
  Product::State state;

  int64_t requests() const { return decoder.block() ? span / decoder.block() * decoder.requestsPerBlock() : 0; }
  Value isWhole() { return b.equal(state.tile.rows, b.i32(kTileRows)); }

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
      Value inside = b.less(column, b.i32(packedColumns(k)));
      if (units < 32 * signature.warps)
        inside = b.bitAnd(inside, b.less(unit, b.i32(units)));
      b.when(inside, one);
    }
    b.commitCopies();
  }

  /// Requests for the blocks of span number `index`, if there is one.
  Values requestSpan(Value index, int64_t spans) {
    if (!requests())
      return {};
    Value wanted = b.bitAnd(active, b.less(index, b.i32(spans)));
    if (signature.partial)
      wanted = b.bitAnd(wanted, isWhole());
    return b.choose(
        wanted,
        [&] {
          Values all;
          int64_t blocks = span / decoder.block();
          for (int64_t i = 0; i < blocks; ++i)
            all.append(decoder.loadBlock(b, state.codes, state.tile, b.add(b.mul(index, blocks), i)));
          return all;
        },
        [&] { return Values(requests(), b.noRequest(4)); });
  }

  static Values flatten(ArrayRef<Decoder::Words> steps) {
    Values all;
    for (const Decoder::Words &words : steps)
      for (const Values &half : words)
        all.append(half);
    return all;
  }
  static SmallVector<Decoder::Words> unflatten(ValueRange all, size_t steps) {
    size_t words = all.size() / (2 * steps);
    SmallVector<Decoder::Words> result(steps);
    for (size_t i = 0; i < 2 * steps; ++i)
      result[i / 2][i % 2] = Values(all.slice(i * words, words));
    return result;
  }

  SmallVector<Decoder::Words> canonicalSteps(Value first, int64_t count) {
    SmallVector<Decoder::Words> steps;
    std::array<Value, 2> rows = product.canonicalRows(b, state);
    for (int64_t i = 0; i < count; ++i)
      steps.push_back(decoder.canonicalStep(b, rows, state.tile, b.add(first, i * kStepColumns), k));
    return steps;
  }

  /// Words that only warps with a tile load.
  SmallVector<Decoder::Words> ifActive(llvm::function_ref<SmallVector<Decoder::Words>()> load, int64_t count) {
    int64_t words = decoder.bits() <= 4 ? 1 : decoder.bits() <= 8 ? 2 : decoder.bits() / 4;
    Values all = b.choose(active, [&] { return flatten(load()); }, [&] { return Values(2 * words * count, b.i32(0)); });
    return unflatten(all, count);
  }

  /// The last tile of a weight is canonical if it has fewer than 16 rows.
  SmallVector<Decoder::Words> wholeOr(llvm::function_ref<SmallVector<Decoder::Words>()> whole, Value first,
                                      int64_t count) {
    if (!signature.partial)
      return whole();
    Values all =
        b.choose(isWhole(), [&] { return flatten(whole()); }, [&] { return flatten(canonicalSteps(first, count)); });
    return unflatten(all, count);
  }

  SmallVector<Decoder::Words> spanSteps(ValueRange requested, Value first) {
    int64_t count = span / kStepColumns;
    if (!requests())
      return ifActive([&] { return canonicalSteps(first, count); }, count);
    auto whole = [&] {
      SmallVector<Decoder::Words> steps;
      int64_t each = decoder.requestsPerBlock();
      for (int64_t i = 0; i < requests(); i += each)
        steps.append(decoder.sortBlock(b, Values(requested.slice(i, each)), StepKind::Block));
      return steps;
    };
    // Requests were made by warps with a tile only; what is canonical is loaded here.
    if (!signature.partial)
      return whole();
    return ifActive([&] { return wholeOr(whole, first, count); }, count);
  }

  /// Steps of at most a piece from column `first` on, behind the last span.
  SmallVector<Decoder::Words> restSteps(int64_t first) {
    int64_t last = std::min(first + kPiece, k), count = (last - first + kStepColumns - 1) / kStepColumns;
    if (!decoder.block())
      return ifActive([&] { return canonicalSteps(b.i32(first), count); }, count);
    auto whole = [&] {
      SmallVector<Decoder::Words> steps;
      int64_t column = first;
      for (; column + kNarrowColumns <= last; column += kNarrowColumns) {
        bool isBlock = decoder.block() == kNarrowColumns;
        Value index = b.i32(isBlock ? column / kNarrowColumns : (column - k / span * span) / kNarrowColumns);
        Values requested = isBlock ? decoder.loadBlock(b, state.codes, state.tile, index)
                                   : decoder.loadNarrow(b, state.codes, state.tile, index);
        steps.append(decoder.sortBlock(b, requested, isBlock ? StepKind::Block : StepKind::Narrow));
      }
      std::array<Value, 2> rows = product.restRows(b, state);
      for (int64_t at = 0; column + at < last; at += kStepColumns)
        steps.push_back(decoder.canonicalStep(b, rows, state.tile, b.i32(at), restColumns(k)));
      return steps;
    };
    return ifActive([&] { return wholeOr(whole, b.i32(first), count); }, count);
  }

  /// Waits for a piece of x, starts to copy a later one and multiplies.
  Values multiplyPiece(ArrayRef<Decoder::Words> steps, Value first, Value &piece, Value &stage, const Values &sums) {
    int64_t stageBytes = rows * kRowBytes;
    b.waitCopies(kStages - 2);
    b.barrier();
    // The stage that was read last: everybody is past it.
    Value last = b.select(b.equal(stage, b.i32(0)), b.i32((kStages - 1) * stageBytes), b.sub(stage, b.i32(stageBytes)));
    copy(b.add(piece, kStages - 1), last);
    std::array<Value, 2> at = {b.offset(stages, b.add(stage, fragments[0])),
                               b.offset(stages, b.add(stage, fragments[1]))};
    Values next = product.accumulate(
        b, arguments, state, steps, first,
        [&](int64_t step, int64_t tile) {
          return b.words(b.offset(at[step % 2], step * kStepColumns * 2 + tile * 8 * kRowBytes), 4, false, "x");
        },
        sums);
    piece = b.add(piece, 1);
    stage = b.select(b.equal(stage, b.i32((kStages - 1) * stageBytes)), b.i32(0), b.add(stage, stageBytes));
    return next;
  }

  void store(const Values &sums) {
    Value g = b.shrWord(state.tile.lane, 2);
    b.when(active, [&] {
      for (int64_t tile = 0; tile < signature.xTiles; ++tile)
        for (int64_t c = 0; c < 2; ++c) {
          Value xRow = b.add(b.add(firstRow, b.mul(state.tile.t, 2)), 8 * tile + c);
          b.when(b.less(xRow, arguments.m), [&] {
            for (int64_t h = 0; h < 2; ++h) {
              auto one = [&] {
                storeResult(b, signature, arguments, state.tile.row[h], xRow, sums[4 * tile + 2 * h + c]);
              };
              if (signature.partial)
                b.when(b.less(b.add(g, 8 * h), state.tile.rows), one);
              else
                one();
            }
          });
        }
    });
  }
};
} // namespace

void device::emitManyKernel(DeviceBuilder &b, mlir::gpu::GPUModuleOp module, const KernelSignature &signature,
                            const KernelArguments &arguments) {
  ManyKernel(b, signature, arguments).emit(module);
}
