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
      : b(b), signature(signature), arguments(arguments), product(signature, signature.tiles > 1),
        decoder(product.decoder()), k(signature.k), rows(8 * signature.xTiles),
        span(std::max(kPiece, decoder.block())) {}

  void emit() {
    thread = b.threadX();
    Value tiles = b.shrWord(b.add(arguments.n, kTileRows - 1), 4);
    Value own = b.add(b.mul(arguments.block, signature.warps), b.shrWord(thread, 5));
    // Warps behind the last tile help to copy x; what they compute is not stored.
    for (int64_t j = 0; j < signature.tiles; ++j) {
      Value tile = b.add(b.mul(own, signature.tiles), j);
      active.push_back(b.less(tile, tiles));
      states.push_back(product.request(b, arguments, b.min(tile, b.sub(tiles, b.i32(1))), b.andWord(thread, 31)));
    }
    for (Product::State &state : states)
      product.begin(b, arguments, state);
    firstRow = b.mul(b.blockY(), rows);
    stages = arguments.shared;
    const Tile &lane = states[0].tile;
    Value g = b.shrWord(lane.lane, 2);
    Value odd = b.mul(b.andWord(g, 1), 64), fragment = b.add(b.mul(g, kRowBytes), b.mul(lane.t, 16));
    fragments = {b.add(fragment, odd), b.sub(fragment, odd)};

    int64_t spans = k / span, splits = signature.splits;
    Value begin = b.i32(0), piece = begin, stage = b.i32(0);
    end = b.i32(spans);
    columnsEnd = b.i32(packedColumns(k));
    if (splits > 1) {
      isLast = b.equal(b.blockZ(), b.i32(splits - 1));
      auto before = [&](Value z) { return b.div(b.add(b.mul(z, spans), splits - 1), splits); };
      begin = before(b.blockZ());
      end = before(b.add(b.blockZ(), 1));
      piece = b.mul(begin, span / kPiece);
      columnsEnd = b.select(isLast, columnsEnd, b.mul(end, span));
    }
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
    if (signature.factors)
      sums =
          inLast(sums, [&] { return ofTiles(sums, [&](size_t j, const Values &own) { return addFactors(j, own); }); });
    if (splits > 1)
      storeShared(sums);
    else
      store(sums);
  }

private:
  DeviceBuilder &b;
  const KernelSignature &signature;
  const KernelArguments &arguments;
  Product product;
  const Decoder &decoder;
  int64_t k, rows;
  int64_t span; // columns whose words are requested together
  Value thread, firstRow, stages;
  Value end, columnsEnd, isLast;         // spans and columns of this block; whether it is the last one that shares them
  std::array<Value, 2> fragments;        // the lane's, of even and of odd steps
  SmallVector<Product::State, 2> states; // of the warp's tiles
  Values active;                         // whether there are such

  using Steps = SmallVector<Decoder::Words>;
  SmallVector<Steps> perTile(llvm::function_ref<Steps(size_t)> make) {
    SmallVector<Steps> all;
    for (size_t j = 0; j < states.size(); ++j)
      all.push_back(make(j));
    return all;
  }
  /// Sums with each tile's made anew.
  Values ofTiles(const Values &sums, llvm::function_ref<Values(size_t, const Values &)> make) {
    Values all;
    size_t each = sums.size() / states.size();
    for (size_t j = 0; j < states.size(); ++j)
      all.append(make(j, Values(ArrayRef(sums).slice(j * each, each))));
    return all;
  }

  int64_t requests() const { return decoder.block() ? span / decoder.block() * decoder.requestsPerBlock() : 0; }
  Value isWhole(size_t j) { return b.equal(states[j].tile.rows, b.i32(kTileRows)); }

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

  /// Requests for the blocks of span number `index`, if this block has it.
  Values requestSpan(Value index) {
    if (!requests())
      return {};
    Values requested;
    for (auto [j, state] : llvm::enumerate(states)) {
      Value wanted = b.bitAnd(active[j], b.less(index, end));
      if (signature.partial)
        wanted = b.bitAnd(wanted, isWhole(j));
      requested.append(b.choose(
          wanted,
          [&] {
            Values all;
            int64_t blocks = span / decoder.block();
            for (int64_t i = 0; i < blocks; ++i)
              all.append(decoder.loadBlock(b, state.codes, state.tile, b.add(b.mul(index, blocks), i)));
            return all;
          },
          [&] { return Values(requests(), b.noRequest(4)); }));
    }
    return requested;
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

  Steps canonicalSteps(size_t j, Value first, int64_t count) {
    Steps steps;
    std::array<Value, 2> rows = product.canonicalRows(b, states[j]);
    for (int64_t i = 0; i < count; ++i)
      steps.push_back(decoder.canonicalStep(b, rows, states[j].tile, b.add(first, i * kStepColumns), k));
    return steps;
  }

  /// Words that only warps with a tile load.
  Steps ifActive(size_t j, llvm::function_ref<Steps()> load, int64_t count) {
    int64_t words = decoder.bits() <= 4 ? 1 : decoder.bits() <= 8 ? 2 : decoder.bits() / 4;
    Values all =
        b.choose(active[j], [&] { return flatten(load()); }, [&] { return Values(2 * words * count, b.i32(0)); });
    return unflatten(all, count);
  }

  /// The last tile of a weight is canonical if it has fewer than 16 rows.
  Steps wholeOr(size_t j, llvm::function_ref<Steps()> whole, Value first, int64_t count) {
    if (!signature.partial)
      return whole();
    Values all = b.choose(
        isWhole(j), [&] { return flatten(whole()); }, [&] { return flatten(canonicalSteps(j, first, count)); });
    return unflatten(all, count);
  }

  Steps spanSteps(size_t j, ValueRange requested, Value first) {
    int64_t count = span / kStepColumns;
    if (!requests())
      return ifActive(j, [&] { return canonicalSteps(j, first, count); }, count);
    auto whole = [&] {
      Steps steps;
      int64_t each = decoder.requestsPerBlock();
      for (int64_t i = 0; i < requests(); i += each)
        steps.append(decoder.sortBlock(b, Values(requested.slice(i, each)), StepKind::Block));
      return steps;
    };
    // Requests were made by warps with a tile only; what is canonical is loaded here.
    if (!signature.partial)
      return whole();
    return ifActive(j, [&] { return wholeOr(j, whole, first, count); }, count);
  }

  /// Steps of at most a piece from column `first` on, behind the last span.
  Steps restSteps(size_t j, int64_t first) {
    const Product::State &state = states[j];
    int64_t last = std::min(first + kPiece, k), count = (last - first + kStepColumns - 1) / kStepColumns;
    if (!decoder.block())
      return ifActive(j, [&] { return canonicalSteps(j, b.i32(first), count); }, count);
    auto whole = [&] {
      Steps steps;
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
    return ifActive(j, [&] { return wholeOr(j, whole, b.i32(first), count); }, count);
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

  /// The products of a low-rank pair, of which t is small enough to come from global memory.
  Values addFactors(size_t j, const Values &sums) {
    Type half = signature.bf16 ? b.bf16() : b.f16();
    const Product::State &state = states[j];
    return b.choose(
        active[j],
        [&] {
          Columns factors(b, signature, arguments, true);
          factors.begin(state.tile.index, state.tile.lane);
          Value g = b.shrWord(state.tile.lane, 2), own = b.mul(state.tile.t, 8);
          Columns::Workers alone = {b.i32(0), b.i32(1), 1, factors.units()};
          Values more = factors.multiply(alone, 0, [&](Value first, int64_t step, int64_t tile) {
            Value row = b.min(b.add(b.add(firstRow, g), 8 * tile), b.sub(arguments.m, b.i32(1)));
            Value t = b.element(arguments.t, b.mul(row, packedColumns(signature.rank)), half);
            return packedWords(b, t, b.add(b.add(first, step * kStepColumns), own), signature.rank, half);
          });
          for (auto [sum, other] : llvm::zip(more, sums))
            sum = b.add(sum, other);
          return more;
        },
        [&] { return sums; });
  }

  /// What the last of the blocks that share columns makes of the sums.
  Values inLast(const Values &sums, llvm::function_ref<Values()> make) {
    return isLast ? b.choose(isLast, make, [&] { return sums; }) : make();
  }

  /// Sums of all blocks that share the columns to y.
  void storeShared(const Values &sums) {
    int64_t threads = 32 * signature.warps, splits = signature.splits, each = threads * 4;
    int64_t slotBytes = each * static_cast<int64_t>(sums.size());
    Value place = b.add(b.mul(b.blockY(), b.gridX()), b.blockX());
    Value slots = b.offset(arguments.partials, b.mul(b.zeroExtend(place, b.i64()), splits * slotBytes));
    slots = b.offset(slots, b.mul(thread, 4));
    Value own = b.offset(slots, b.mul(b.blockZ(), slotBytes));
    for (auto [i, sum] : llvm::enumerate(sums))
      b.store(sum, b.offset(own, static_cast<int64_t>(i) * each));
    b.waitCopies(0); // x is not needed any more: the flag takes its place
    b.fence();
    b.barrier();
    Value flag = stages, counter = b.element(arguments.counters, place, b.i32());
    Value first = b.equal(thread, b.i32(0));
    b.when(first, [&] { b.store(b.atomicAdd(counter, b.i32(1)), flag); });
    b.barrier();
    b.when(b.equal(b.load(b.i32(), flag), b.i32(splits - 1)), [&] {
      b.fence();
      // Of few rows of x some blocks' sums are requested together; of more, registers are too few.
      int64_t together = sums.size() <= 16 ? std::min<int64_t>(splits, 4) : 1;
      auto some = [&](Value from) {
        SmallVector<Values> loaded;
        for (int64_t i = 0; i < together; ++i)
          loaded.push_back(partials(b.offset(from, i * slotBytes), each, sums.size()));
        return loaded;
      };
      auto addAll = [&](Values to, ArrayRef<Values> more) {
        for (const Values &one : more)
          for (auto [sum, other] : llvm::zip(to, one))
            sum = b.add(sum, other);
        return to;
      };
      SmallVector<Values> begin = some(slots);
      Values all = b.loop(b.i32(1), b.i32(splits / together), b.i32(1), addAll(begin[0], ArrayRef(begin).drop_front()),
                          [&](Value index, ValueRange carried) {
                            return addAll(Values(carried), some(b.offset(slots, b.mul(index, together * slotBytes))));
                          });
      store(all);
      // As it was, for the next launch.
      b.when(first, [&] { b.store(b.i32(0), counter); });
    });
  }

  Values partials(Value from, int64_t each, size_t count) {
    Values all;
    for (size_t i = 0; i < count; ++i)
      all.push_back(b.loadVolatile(b.f32(), b.offset(from, static_cast<int64_t>(i) * each)));
    return all;
  }

  void store(const Values &sums) {
    for (size_t j = 0; j < states.size(); ++j)
      storeTile(j, ArrayRef(sums).slice(j * 4 * signature.xTiles, 4 * signature.xTiles));
  }
  void storeTile(size_t j, ArrayRef<Value> sums) {
    const Product::State &state = states[j];
    Value g = b.shrWord(state.tile.lane, 2);
    b.when(active[j], [&] {
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

int64_t device::manySharedBytes(int64_t xTiles) { return kStages * 8 * xTiles * kRowBytes; }

int64_t device::manySpans(const Decoder &decoder, int64_t k) { return k / std::max(kPiece, decoder.block()); }

void device::emitManyKernel(DeviceBuilder &b, const KernelSignature &signature, const KernelArguments &arguments) {
  ManyKernel(b, signature, arguments).emit();
}
