//===- Columns.cpp - a tile's columns, dealt out to workers -----------------===//

#include "Schedules.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

Columns::Columns(DeviceBuilder &b, const KernelSignature &piece, const KernelArguments &given, bool factors, bool thin)
    : b(b), signature(piece), arguments(given), thin(thin), product([&] {
        if (factors) {
          signature.leaf = piece.factors;
          signature.k = piece.rank;
          arguments.components = given.factors;
        }
        return Product(signature);
      }()) {}

int64_t Columns::units(const Decoder &decoder, int64_t k) {
  int64_t block = decoder.block() ? decoder.block() : kStepColumns;
  int64_t covered = k / block * block;
  return decoder.block() ? k / block + (k - covered) / kNarrowColumns + (restColumns(k) ? 1 : 0)
                         : (k + block - 1) / block;
}

Value Columns::takes(const Workers &workers, int64_t first) const {
  return b.less(mine(workers, first), b.i32(units()));
}

/// The first of units `unit`, `unit` + 1, … that is the worker's, counted from `unit` on.
Value Columns::mine(const Workers &workers, int64_t unit) const {
  if (workers.constant) {
    int64_t behind = unit % workers.constant;
    return behind
               ? b.andWord(b.add(workers.index, workers.constant - behind), static_cast<uint32_t>(workers.constant - 1))
               : workers.index;
  }
  if (!unit)
    return workers.index;
  Value from = b.sub(workers.index, b.rem(b.i32(unit), workers.count));
  return b.select(b.less(from, b.i32(0)), b.add(from, workers.count), from);
}

Values Columns::accumulate(ArrayRef<Decoder::Words> steps, Value first, XAt x, ValueRange sums) const {
  return product.accumulate(
      b, arguments, state, steps, first, [&](int64_t step, int64_t tile) { return x(first, step, tile); }, sums);
}

Values Columns::accumulate(ArrayRef<Value> requests, StepKind kind, Value first, XAt x, ValueRange sums) const {
  if (signature.binary && kind == StepKind::Block)
    return product.accumulateBlock(b, arguments, state, requests, first, x(first, 2, 0), sums);
  SmallVector<Decoder::Words> steps = product.decoder().sortBlock(b, requests, kind);
  if (!signature.binary)
    return accumulate(steps, first, x, sums);
  Values all(sums);
  for (auto [i, step] : llvm::enumerate(steps))
    all = accumulateStep(step, b.add(first, static_cast<int64_t>(i) * kStepColumns), x, all);
  return all;
}

Values Columns::accumulateStep(const Decoder::Words &step, Value column, XAt x, ValueRange sums) const {
  return signature.binary ? product.accumulateStep(b, arguments, state, step, column, x(column, 1, 0)[0], sums)
                          : accumulate(step, column, x, sums);
}

Values Columns::canonical(std::array<Value, 2> rows, Value column, int64_t columns, Value first, XAt x,
                          ValueRange sums) const {
  return accumulateStep(product.decoder().canonicalStep(b, rows, state.tile, column, columns), first, x, sums);
}

Values Columns::multiply(const Workers &workers, int64_t first, XAt x, ValueRange requested) const {
  return product.finish(b, arguments, state, sumsOf(workers, first, x, requested, product.zeros(b)));
}

Values Columns::sumsOf(const Workers &workers, int64_t first, XAt x, ValueRange requested, ValueRange initial) const {
  const Decoder &decoder = product.decoder();
  if (!decoder.block())
    return canonicalTile(workers, first, x, initial);
  int64_t k = signature.k, covered = k / decoder.block() * decoder.block(), blocks = covered / blockColumns();
  Values sums = wholeBlocks(workers, first, x, requested, initial);
  // What is left is dealt on to the workers in turn.
  int64_t narrow = (k - covered) / kNarrowColumns, next = first + blocks;
  if (narrow) {
    sums = b.loop(mine(workers, next), b.i32(narrow), workers.count, sums, [&](Value index, ValueRange carried) {
      Values loaded = decoder.loadNarrow(b, state.codes, state.tile, index);
      return accumulate(loaded, StepKind::Narrow, b.add(b.mul(index, kNarrowColumns), covered), x, carried);
    });
    next += narrow;
  }
  int64_t rest = restColumns(k);
  if (!rest)
    return sums;
  return b.choose(
      b.equal(mine(workers, next), b.i32(0)),
      [&] {
        std::array<Value, 2> rows = product.restRows(b, state);
        Values own = sums;
        for (int64_t column = 0; column < rest; column += kStepColumns)
          own = canonical(rows, b.i32(column), rest, b.i32(k - rest + column), x, own);
        return own;
      },
      [&] { return sums; });
}

/// Blocks whose requests are on their way while one is multiplied; `early`: also before the first.
int64_t Columns::blocksAhead(const Workers &workers, bool early) const {
  if (thin)
    return 0;
  int64_t blocks = signature.k / product.decoder().block(), requests = product.decoder().requestsPerBlock();
  return std::min((4 + requests - 1) / requests, std::min(workers.most, blocks) - (early ? 0 : 1));
}

Values Columns::requestBlock(Value index, Value wanted) const {
  const Decoder &decoder = product.decoder();
  Value inside = b.less(index, b.i32(signature.k / decoder.block()));
  return b.choose(
      wanted ? b.bitAnd(inside, wanted) : inside, [&] { return decoder.loadBlock(b, state.codes, state.tile, index); },
      [&] { return Values(decoder.requestsPerBlock(), b.noRequest(4)); });
}

Values Columns::requestFirst(const Workers &workers, Value wanted) const {
  if (!product.decoder().block() || signature.k < product.decoder().block())
    return {};
  Values requested;
  Value at = workers.index;
  for (int64_t i = 0; i < blocksAhead(workers, true); ++i, at = b.add(at, workers.count))
    requested.append(requestBlock(at, wanted));
  return requested;
}

/// Requests for later blocks of the worker are on their way.
Values Columns::wholeBlocks(const Workers &workers, int64_t first, XAt x, ValueRange requested,
                            ValueRange initial) const {
  const Decoder &decoder = product.decoder();
  int64_t blocks = signature.k / decoder.block() * (decoder.block() / blockColumns());
  if (!blocks)
    return Values(initial);
  int64_t requests = decoder.requestsPerBlock();
  int64_t ahead = blocksAhead(workers, !requested.empty());
  Values carried(initial);
  carried.append(requested.begin(), requested.end());
  Value begin = mine(workers, first), at = begin;
  for (int64_t i = 0; i < ahead; ++i, at = b.add(at, workers.count))
    if (requested.empty())
      carried.append(requestBlock(at));
  Value distance = b.sub(at, begin);
  size_t sums = initial.size();
  Values results = b.loop(begin, b.i32(blocks), workers.count, carried, [&](Value index, ValueRange values) {
    Values now, later(values.drop_front(sums));
    if (ahead) {
      now.assign(later.begin(), later.begin() + requests);
      later.erase(later.begin(), later.begin() + requests);
      later.append(requestBlock(b.add(index, distance)));
    } else {
      now = thin ? decoder.loadHalf(b, state.codes, state.tile, index)
                 : decoder.loadBlock(b, state.codes, state.tile, index);
    }
    Values next = accumulate(now, thin ? StepKind::Half : StepKind::Block, b.mul(index, blockColumns()), x,
                             values.take_front(sums));
    next.append(later);
    return next;
  });
  results.truncate(sums);
  return results;
}

Values Columns::canonicalTile(const Workers &workers, int64_t first, XAt x, ValueRange initial) const {
  std::array<Value, 2> rows = product.canonicalRows(b, state);
  int64_t steps = packedColumns(signature.k) / kStepColumns;
  return b.loop(mine(workers, first), b.i32(steps), workers.count, initial, [&](Value step, ValueRange carried) {
    Value column = b.mul(step, kStepColumns);
    return canonical(rows, column, signature.k, column, x, carried);
  });
}
