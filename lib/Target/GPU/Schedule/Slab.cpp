//===- Slab.cpp - what schedules of many rows of x share --------------------===//

#include "Slab.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;
using Steps = SmallVector<Decoder::Words>;

SmallVector<Value, 2> SlabKernel::findTiles(Value warp) {
  Value tiles = b.shrWord(b.add(arguments.n, kTileRows - 1), 4);
  Value own = b.add(b.mul(arguments.block, signature.warps), warp);
  SmallVector<Value, 2> found;
  active.clear();
  for (int64_t j = 0; j < signature.tiles; ++j) {
    Value tile = b.add(b.mul(own, signature.tiles), j);
    active.push_back(b.less(tile, tiles));
    found.push_back(b.min(tile, b.sub(tiles, b.i32(1))));
  }
  return found;
}

void SlabKernel::beginTiles() {
  product.setOne(b.min(arguments.m, b.i32(1)));
  thread = b.threadX();
  for (Value tile : findTiles(b.shrWord(thread, 5)))
    states.push_back(product.request(b, arguments, tile, b.andWord(thread, 31)));
  for (Product::State &state : states)
    product.begin(b, arguments, state);
  firstRow = b.mul(b.blockY(), rows);
}

void SlabKernel::findTilesAnew() {
  Value lane = b.laneId();
  for (auto [state, tile] : llvm::zip(states, findTiles(b.shrWord(b.sub(thread, lane), 5))))
    state.tile = product.tileOf(b, arguments, tile, lane);
}

Value SlabKernel::beginColumns() {
  int64_t spans = k / span, splits = signature.splits;
  Value begin = b.i32(0);
  end = b.i32(spans);
  columnsEnd = b.i32(packedColumns(k));
  if (splits > 1) {
    isLast = b.equal(b.blockZ(), b.i32(splits - 1));
    auto before = [&](Value z) { return b.div(b.add(b.mul(z, spans), splits - 1), splits); };
    begin = before(b.blockZ());
    end = before(b.add(b.blockZ(), 1));
    columnsEnd = b.select(isLast, columnsEnd, b.mul(end, span));
  }
  return begin;
}

SmallVector<Steps> SlabKernel::perTile(llvm::function_ref<Steps(size_t)> make) {
  SmallVector<Steps> all;
  for (size_t j = 0; j < states.size(); ++j)
    all.push_back(make(j));
  return all;
}

Values SlabKernel::ofTiles(const Values &sums, llvm::function_ref<Values(size_t, const Values &)> make) {
  Values all;
  size_t each = sums.size() / states.size();
  for (size_t j = 0; j < states.size(); ++j)
    all.append(make(j, Values(ArrayRef(sums).slice(j * each, each))));
  return all;
}
Values SlabKernel::requestSpan(Value index) {
  if (!requests())
    return {};
  Values requested;
  for (auto [j, state] : llvm::enumerate(states)) {
    requested.append(b.choose(
        b.bitAnd(active[j], b.less(index, end)),
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

Steps SlabKernel::canonicalSteps(size_t j, Value first, int64_t count) {
  Steps steps;
  std::array<Value, 2> rows = product.canonicalRows(b, states[j]);
  for (int64_t i = 0; i < count; ++i)
    steps.push_back(decoder.canonicalStep(b, rows, states[j].tile, b.add(first, i * kStepColumns), k));
  return steps;
}

/// Words that only warps with a tile load.
Steps SlabKernel::ifActive(size_t j, llvm::function_ref<Steps()> load, int64_t count) {
  int64_t words = decoder.bits() <= 4 ? 1 : decoder.bits() <= 8 ? 2 : decoder.bits() / 4;
  Values all =
      b.choose(active[j], [&] { return flatten(load()); }, [&] { return Values(2 * words * count, b.i32(0)); });
  return unflatten(all, count);
}

Steps SlabKernel::spanSteps(size_t j, ValueRange requested, Value first) {
  int64_t count = span / kStepColumns;
  if (!requests())
    return ifActive(j, [&] { return canonicalSteps(j, first, count); }, count);
  Steps steps;
  int64_t each = decoder.requestsPerBlock();
  for (int64_t i = 0; i < requests(); i += each)
    steps.append(decoder.sortBlock(b, Values(requested.slice(i, each)), StepKind::Block));
  return steps;
}

Steps SlabKernel::restSteps(size_t j, int64_t first) {
  const Product::State &state = states[j];
  int64_t last = std::min(first + kPiece, k), count = (last - first + kStepColumns - 1) / kStepColumns;
  if (!decoder.block())
    return ifActive(j, [&] { return canonicalSteps(j, b.i32(first), count); }, count);
  auto load = [&] {
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
  return ifActive(j, load, count);
}

Values SlabKernel::addFactors(const Values &sums) {
  if (!signature.factors)
    return sums;
  Type half = signature.bf16 ? b.bf16() : b.f16();
  auto ofTile = [&](size_t j, const Values &own) {
    const Product::State &state = states[j];
    return b.choose(
        active[j],
        [&] {
          Columns factors(b, signature, arguments, true);
          factors.begin(state.tile.index, state.tile.lane);
          Value g = b.shrWord(state.tile.lane, 2), column = b.mul(state.tile.t, 8);
          Columns::Workers alone = {b.i32(0), b.i32(1), 1, factors.units()};
          Values more = factors.multiply(alone, 0, [&](Value first, int64_t step, int64_t tile) {
            Value row = b.min(b.add(b.add(firstRow, g), 8 * tile), b.sub(arguments.m, b.i32(1)));
            Value t = b.element(arguments.t, b.mul(row, packedColumns(signature.rank)), half);
            return packedWords(b, t, b.add(b.add(first, step * kStepColumns), column), signature.rank, half);
          });
          for (auto [sum, other] : llvm::zip(more, own))
            sum = b.add(sum, other);
          return more;
        },
        [&] { return own; });
  };
  return inLast(sums, [&] { return ofTiles(sums, ofTile); });
}

Values SlabKernel::inLast(const Values &sums, llvm::function_ref<Values()> make) {
  return isLast ? b.choose(isLast, make, [&] { return sums; }) : make();
}

void SlabKernel::finish(const Values &sums, Value shared) {
  if (signature.splits > 1)
    storeShared(sums, shared);
  else
    store(sums);
}

void SlabKernel::storeShared(const Values &sums, Value shared) {
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
  Value flag = shared, counter = b.element(arguments.counters, place, b.i32());
  Value first = b.equal(thread, b.i32(0));
  b.when(first, [&] { b.store(b.atomicAdd(counter, b.i32(1)), flag); });
  b.barrier();
  b.when(b.equal(b.load(b.i32(), flag), b.i32(splits - 1)), [&] {
    b.fence();
    if (splits == 2) // in either order the sum is the same, so the last one keeps its own
      store(sums, b.offset(slots, b.mul(b.sub(b.i32(1), b.blockZ()), slotBytes)));
    else
      store(allPartials(slots, each, sums.size()));
    // As it was, for the next launch.
    b.when(first, [&] { b.store(b.i32(0), counter); });
  });
}

Values SlabKernel::allPartials(Value slots, int64_t each, size_t count) {
  int64_t splits = signature.splits, slotBytes = each * static_cast<int64_t>(count);
  // Of few rows of x some blocks' sums are requested together; of more, registers are too few.
  int64_t together = count <= 16 ? std::min<int64_t>(splits, 4) : 1;
  auto some = [&](Value from) {
    SmallVector<Values> loaded;
    for (int64_t i = 0; i < together; ++i)
      loaded.push_back(partials(b.offset(from, i * slotBytes), each, count));
    return loaded;
  };
  auto addAll = [&](Values to, ArrayRef<Values> more) {
    for (const Values &one : more)
      for (auto [sum, other] : llvm::zip(to, one))
        sum = b.add(sum, other);
    return to;
  };
  SmallVector<Values> begin = some(slots);
  return b.loop(b.i32(1), b.i32(splits / together), b.i32(1), addAll(begin[0], ArrayRef(begin).drop_front()),
                [&](Value index, ValueRange carried) {
                  return addAll(Values(carried), some(b.offset(slots, b.mul(index, together * slotBytes))));
                });
}

Values SlabKernel::partials(Value from, int64_t each, size_t count) {
  Values all;
  for (size_t i = 0; i < count; ++i)
    all.push_back(b.loadVolatile(b.f32(), b.offset(from, static_cast<int64_t>(i) * each)));
  return all;
}

void SlabKernel::store(const Values &sums, Value others) {
  int64_t each = 4 * signature.xTiles, slot = 32 * signature.warps * 4;
  for (int64_t j = 0; j < signature.tiles; ++j)
    storeTile(static_cast<size_t>(j), ArrayRef(sums).slice(static_cast<size_t>(j * each), static_cast<size_t>(each)),
              others ? b.offset(others, j * each * slot) : others);
}

void SlabKernel::storeTile(size_t j, ArrayRef<Value> sums, Value others) {
  const Product::State &state = states[j];
  Value g = b.shrWord(state.tile.lane, 2);
  int64_t slot = 32 * signature.warps * 4;
  b.when(active[j], [&] {
    std::array<ResultRow, 2> to;
    for (int64_t h = 0; h < 2; ++h)
      to[h] = resultRow(b, signature, arguments, state.tile.row[h]);
    Values more;
    for (int64_t tile = 0; tile < signature.xTiles; ++tile) {
      // Four eights of rows are requested together; for all of them registers are too few.
      if (others && tile % 4 == 0)
        more = partials(b.offset(others, 4 * tile * slot), slot,
                        static_cast<size_t>(4 * std::min<int64_t>(4, signature.xTiles - tile)));
      for (int64_t c = 0; c < 2; ++c) {
        Value xRow = b.add(b.add(firstRow, b.mul(state.tile.t, 2)), 8 * tile + c);
        b.when(b.less(xRow, arguments.m), [&] {
          for (int64_t h = 0; h < 2; ++h) {
            auto one = [&] {
              Value sum = sums[static_cast<size_t>(4 * tile + 2 * h + c)];
              if (others)
                sum = b.add(sum, more[static_cast<size_t>(4 * (tile % 4) + 2 * h + c)]);
              storeResult(b, signature, arguments, to[h], xRow, sum);
            };
            if (signature.partial)
              b.when(b.less(b.add(g, 8 * h), state.tile.rows), one);
            else
              one();
          }
        });
      }
    }
  });
}
