//===- PrefillKernel.cpp - attention of many rows of a sequence -------------===//
//
// A block has 16 rows a warp of one head of keys: rows of x, and of each the
// heads that share these keys. It takes 32 keys at once: keys and values become
// f16 in shared memory, scores are mma.m16n8k16 with an online softmax in f32,
// and weights are operand A of the next product as they are, since a lane's
// scores are of eight consecutive keys (FlashAttention 2, Dao 2023, in the order
// of columns that Decoder.h has for weights). While they are multiplied, the next
// keys are on their way in registers.
//
// How a stage of 32 keys lies in shared memory, in units of 16 bytes:
//   keys     row by row; where rows are a multiple of 128 bytes, the halves of
//            these are exchanged in every other one
//   values   a row for each column, its keys in their order; of eight columns,
//            the last four change places in pairs
// so that a lane reads operand B of two products at once and neither that nor
// writing meets a bank twice.
//
//===----------------------------------------------------------------------===//

#include "KeyParts.h"
#include "skim/Target/GPU/Linear.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

/// Keys of a stage.
static constexpr int64_t kKeys = 32;
/// Fewer are not worth a block of their own.
static constexpr int64_t kKeysOfBlock = 8 * kKeys;
/// Columns of a head, at most: outputs of more have no registers.
static constexpr int64_t kMostColumns = 128;

namespace {
struct Shape {
  Shape(const AttentionSpec &spec, int64_t rows) {
    sharing = spec.heads / spec.keyHeads;
    // What four warps bring of long keys would not fit their registers.
    warps = rows * sharing > 64 || spec.keySize + spec.valueSize > 192 ? 8 : 4;
    rowsOfBlock = 16 * warps / sharing;
    keyColumns = static_cast<int64_t>(llvm::alignTo(spec.keySize, 32));
    valueColumns = static_cast<int64_t>(llvm::alignTo(spec.valueSize, 8));
    keyBytes = kKeys * keyColumns * 2;
    stageBytes = keyBytes + kKeys * valueColumns * 2;
  }
  int64_t threads() const { return 32 * warps; }
  int64_t sharing;                  // heads that share keys
  int64_t warps, rowsOfBlock;       // rows of x
  int64_t keyColumns, valueColumns; // of a stage: with zeros up to whole products
  int64_t keyBytes, stageBytes;
};

class PrefillKernel : AttentionArguments {
public:
  PrefillKernel(StepBuilder &b, const AttentionSpec &spec, const Shape &shape, ArrayRef<BlockArgument> a, Value shared)
      : AttentionArguments(b, spec, a), shape(shape), shared(shared), thread(b.threadX()), lane(b.lane()),
        g(b.shrWord(lane, 2)), t(b.andWord(lane, 3)) {
    Value tiles = b.div(b.add(length, shape.rowsOfBlock - 1), shape.rowsOfBlock);
    sequence = b.div(b.blockX(), tiles);
    firstIndex = b.mul(b.rem(b.blockX(), tiles), shape.rowsOfBlock);
    keyHead = b.blockY();
    count = b.number(counts, sequence);
    start = b.number(starts, sequence);
    for (int h = 0; h < 2; ++h)
      rows[h] = rowAt(b.add(b.add(b.mul(b.warp(), 16), g), 8 * h));
    // All keys that a row of the block wants.
    Value end = b.add(start, b.min(b.add(firstIndex, shape.rowsOfBlock), count)), begin = b.i32(0);
    if (spec.window)
      begin = b.max(begin, b.sub(b.add(b.add(start, firstIndex), 1), b.i32(spec.window)));
    std::tie(from, to) = partOf(begin, end, kKeys, kKeysOfBlock);
    // And all that one of the warp wants.
    auto indexOf = [&](Value number) { return b.add(firstIndex, b.div(number, shape.sharing)); };
    Value ownFirst = indexOf(b.mul(b.warp(), 16)), ownLast = indexOf(b.add(b.mul(b.warp(), 16), 15));
    Value rowEnd = b.min(b.add(firstIndex, shape.rowsOfBlock), count);
    warpBegin = b.sub(b.add(b.add(start, ownFirst), 1), b.i32(spec.window));
    warpEnd = b.select(b.less(ownFirst, rowEnd), b.add(start, b.min(b.add(ownLast, 1), rowEnd)), b.i32(0));
    inside = b.bitAnd(b.less(firstIndex, count), b.less(from, to));
  }

  void emit() {
    auto own = [&] { b.ifElse(inside, [&] { compute(); }, [&] { putNothing(); }); };
    if (spec.splits == 1)
      return own();
    Value isFirst = b.equal(split, b.i32(0)), inParts = b.bitXor(isWhole, b.constant(b.i1(), 1));
    b.when(b.bitOr(inParts, isFirst), own);
    b.when(inParts, [&] { joinParts(); });
  }

private:
  /// One of the block's rows: of x, and a head.
  struct Row {
    Value exists, row, head; // is a row of the step, maybe of padding; its number, else that of another
    Value begin, end;        // keys; of padding none
  };
  Shape shape;
  Value shared, thread, lane, g, t;
  Value sequence, firstIndex, keyHead, count, start, from, to, warpBegin, warpEnd, inside;
  Row rows[2]; // g and g + 8 of the warp's

  Row rowAt(Value number) {
    Value local = b.div(number, shape.sharing), index = b.add(firstIndex, local);
    Value there = b.bitAnd(b.less(local, b.i32(shape.rowsOfBlock)), b.less(index, length));
    Value end = b.add(b.add(start, index), 1), begin = b.i32(0);
    if (spec.window)
      begin = b.max(begin, b.sub(end, b.i32(spec.window)));
    return {there, b.add(b.mul(sequence, length), b.min(index, b.sub(length, b.i32(1)))),
            b.add(b.mul(keyHead, shape.sharing), b.rem(number, shape.sharing)), begin,
            b.select(b.bitAnd(there, b.less(index, count)), end, b.i32(0))};
  }

  //===--- memory ---===//
  /// Columns `column` … + 3 of a row of `size`, zeros behind it.
  Values loadFour(Value row, Value column, int64_t size, bool padded) {
    if (spec.aligned && size % 4 == 0) {
      auto four = [&] {
        Values numbers;
        for (Value word : b.words(b.element(row, column, b.f32()), 4))
          numbers.push_back(b.bitcast(word, b.f32()));
        return numbers;
      };
      if (!padded)
        return four();
      return b.choose(b.less(column, b.i32(size)), four, [&] { return Values(4, b.f32(0)); });
    }
    Values numbers;
    for (int64_t i = 0; i < 4; ++i) {
      Value own = b.add(column, i);
      numbers.push_back(b.loadIf(b.less(own, b.i32(size)), b.element(row, own, b.f32())));
    }
    return numbers;
  }
  /// Two numbers as f16. One that f16 has not would make others no numbers.
  Value pair(Value low, Value high) { return b.clampPair(b.pairOf(low, high, b.f16())); }

  /// Operand A of the scores' products: of each 32 columns four words of each of the two rows.
  SmallVector<std::array<Values, 2>> loadQueries() {
    SmallVector<std::array<Values, 2>> queries(shape.keyColumns / 32);
    for (auto [step, words] : llvm::enumerate(queries))
      for (int h = 0; h < 2; ++h) {
        Value at = b.at(query, rows[h].row, queryStride, b.mul(rows[h].head, spec.keySize));
        for (int64_t four = 0; four < 2; ++four) {
          Value column = b.add(b.mul(t, 8), static_cast<int64_t>(step) * 32 + 4 * four);
          Values x = loadFour(at, column, spec.keySize, shape.keyColumns != spec.keySize);
          words[h].append({pair(x[0], x[1]), pair(x[2], x[3])});
        }
      }
    return queries;
  }

  /// Calls body(number) for each number below `count` that the thread has.
  void deal(int64_t count, llvm::function_ref<void(int64_t turn, Value number)> body) {
    for (int64_t begin = 0, turn = 0; begin < count; begin += shape.threads(), ++turn) {
      Value number = b.add(thread, begin);
      if (begin + shape.threads() <= count)
        body(turn, number);
      else
        b.when(b.less(number, b.i32(count)), [&] { body(turn, number); });
    }
  }
  int64_t keyFours() const { return shape.keyColumns / 4; }
  /// Fours of columns of two keys.
  int64_t valueFours() const { return shape.valueColumns / 4 * kKeys / 2; }
  int64_t turns(int64_t count) const { return (count + shape.threads() - 1) / shape.threads(); }

  /// What the thread brings of the keys from `first` on: behind `to` the last one again, which does not count.
  Values requestKeys(Value cachedKeys, Value cachedValues, Value first) {
    Values numbers;
    Value last = b.sub(to, b.i32(1));
    auto rowOf = [&](Value cached, Value key, int64_t size) {
      return b.element(cached, b.mul(b.wide(b.min(b.add(first, key), last)), size), b.f32());
    };
    // Threads without work in a turn bring some other four.
    for (int64_t turn = 0; turn < turns(keyFours() * kKeys); ++turn) {
      Value number = b.rem(b.add(thread, turn * shape.threads()), keyFours() * kKeys);
      Value row = rowOf(cachedKeys, b.div(number, keyFours()), spec.keySize);
      numbers.append(
          loadFour(row, b.mul(b.rem(number, keyFours()), 4), spec.keySize, shape.keyColumns != spec.keySize));
    }
    for (int64_t turn = 0; turn < turns(valueFours()); ++turn) {
      Value number = b.rem(b.add(thread, turn * shape.threads()), valueFours());
      Value two = b.mul(b.rem(number, kKeys / 2), 2), column = b.mul(b.div(number, kKeys / 2), 4);
      for (int64_t i = 0; i < 2; ++i)
        numbers.append(loadFour(rowOf(cachedValues, b.add(two, i), spec.valueSize), column, spec.valueSize,
                                shape.valueColumns != spec.valueSize));
    }
    return numbers;
  }

  /// Whether rows of keys in shared memory are exchanged by halves.
  bool exchangesHalves() const { return shape.keyColumns % 64 == 0; }

  void storeKeys(ArrayRef<Value> numbers, Value stage) {
    deal(keyFours() * kKeys, [&](int64_t turn, Value number) {
      ArrayRef<Value> x = numbers.slice(4 * turn, 4);
      Value key = b.div(number, keyFours()), at = b.mul(b.rem(number, keyFours()), 8);
      if (exchangesHalves())
        at = b.bitXor(at, b.mul(b.andWord(key, 1), 64));
      b.storeWords({pair(x[0], x[1]), pair(x[2], x[3])}, b.offset(stage, b.add(b.mul(key, shape.keyColumns * 2), at)));
    });
    numbers = numbers.drop_front(4 * turns(keyFours() * kKeys));
    deal(valueFours(), [&](int64_t turn, Value number) {
      ArrayRef<Value> upper = numbers.slice(8 * turn, 4), lower = numbers.slice(8 * turn + 4, 4);
      Value four = b.div(number, kKeys / 2), at = b.mul(b.rem(number, kKeys / 2), 4);
      at = b.add(at, b.add(b.mul(four, 4 * 64), shape.keyBytes));
      Value change = b.mul(b.andWord(four, 1), 64);
      for (int64_t i = 0; i < 4; ++i) {
        Value row = i % 2 ? b.sub(at, change) : b.add(at, change);
        b.store(pair(upper[i], lower[i]), b.offset(b.offset(stage, row), i * 64));
      }
    });
  }

  //===--- products ---===//
  /// Over the four lanes that have a row: the sum, or the largest.
  Value acrossRow(Value x, bool sum) {
    for (int64_t distance : {1, 2}) {
      Value other = b.exchange(x, distance);
      x = sum ? b.add(x, other) : b.max(x, other);
    }
    return x;
  }

  /// Scores of 32 keys, in powers of two: element 2h + e of the eight j is row h and key 8t + 2j + e; those that a row
  /// does not see are below any.
  SmallVector<Values> scores(ArrayRef<std::array<Values, 2>> queries, Value stage, Value first) {
    SmallVector<Values> sums(4, Values(4, b.f32(0)));
    // Lane g's column of B is key 8⌊g/2⌋ + 2j + g mod 2.
    Value odd = b.andWord(g, 1), key = b.add(b.mul(b.shrWord(g, 1), 8), odd);
    Value at = b.offset(stage, b.add(b.mul(key, shape.keyColumns * 2), b.mul(t, 16)));
    Value swap = b.mul(odd, 64);
    Value even = exchangesHalves() ? b.offset(at, swap) : at;
    Value uneven = exchangesHalves() ? b.offset(at, b.sub(b.i32(0), swap)) : at;
    for (auto [step, words] : llvm::enumerate(queries))
      for (int64_t j = 0; j < 4; ++j) {
        int64_t bytes = static_cast<int64_t>(step) * 64 + 2 * j * shape.keyColumns * 2;
        Values keys = b.words(b.offset(step % 2 ? uneven : even, bytes), 4);
        const auto &[upper, lower] = words;
        for (int64_t q = 0; q < 2; ++q)
          sums[j] = b.mma(b.f16(), {upper[2 * q], lower[2 * q], upper[2 * q + 1], lower[2 * q + 1]},
                          {keys[2 * q], keys[2 * q + 1]}, sums[j]);
      }
    constexpr double log2e = 1.4426950408889634;
    for (auto [j, four] : llvm::enumerate(sums))
      for (auto [i, score] : llvm::enumerate(four)) {
        if (spec.softcap != 0)
          score = b.mul(b.tanh(b.mul(score, b.f32(spec.scale / spec.softcap))), b.f32(spec.softcap * log2e));
        else
          score = b.mul(score, b.f32(spec.scale * log2e));
        const Row &row = rows[i / 2];
        Value own = b.add(first, b.add(b.mul(t, 8), static_cast<int64_t>(2 * j + i % 2)));
        Value seen = b.bitAnd(b.less(own, row.end), b.less(own, to));
        if (spec.window)
          seen = b.bitAnd(seen, b.lessEqual(row.begin, own));
        score = b.select(seen, score, b.f32(2 * kNoScore));
      }
    return sums;
  }

  /// The state with 32 more keys: of each row its largest score and the lane's sum of weights, then four outputs of
  /// each eight columns.
  Values addKeys(ArrayRef<std::array<Values, 2>> queries, Value stage, Value first, ValueRange state) {
    SmallVector<Values> weights = scores(queries, stage, first);
    Values next(state);
    std::array<Value, 2> corrections;
    for (size_t h = 0; h < 2; ++h) {
      Value largest = weights[0][2 * h];
      for (const Values &four : weights)
        largest = b.max(b.max(largest, four[2 * h]), four[2 * h + 1]);
      next[h] = b.max(state[h], acrossRow(largest, false));
      corrections[h] = b.exp2(b.sub(state[h], next[h]));
      next[2 + h] = b.mul(state[2 + h], corrections[h]);
      for (Values &four : weights)
        for (size_t e = 0; e < 2; ++e) {
          Value &weight = four[2 * h + e];
          weight = b.exp2(b.sub(weight, next[h]));
          next[2 + h] = b.add(next[2 + h], weight);
        }
    }
    MutableArrayRef<Value> outputs = MutableArrayRef(next).drop_front(4);
    for (auto [i, output] : llvm::enumerate(outputs))
      output = b.mul(output, corrections[i / 2 % 2]);
    auto both = [&](int64_t j, int64_t h) { return b.pairOf(weights[j][2 * h], weights[j][2 * h + 1], b.f16()); };
    SmallVector<Values> a;
    for (int64_t step = 0; step < 2; ++step)
      a.push_back({both(2 * step, 0), both(2 * step, 1), both(2 * step + 1, 0), both(2 * step + 1, 1)});
    // Lane g's column of B, in its place.
    Value row = b.bitXor(g, b.shrWord(g, 2));
    Value at = b.offset(stage, b.add(b.add(b.mul(row, 64), b.mul(t, 16)), shape.keyBytes));
    for (int64_t n = 0; n < shape.valueColumns / 8; ++n) {
      Values values = b.words(b.offset(at, n * 8 * 64), 4);
      for (int64_t step = 0; step < 2; ++step) {
        Values sums = b.mma(b.f16(), a[step], {values[2 * step], values[2 * step + 1]}, outputs.slice(4 * n, 4));
        std::copy(sums.begin(), sums.end(), outputs.begin() + 4 * n);
      }
    }
    return next;
  }

  void compute() {
    Value keys = cacheOf(sequence, keyHead, keyPrefix, spec.keySize);
    Value values = cacheOf(sequence, keyHead, valuePrefix, spec.valueSize);
    SmallVector<std::array<Values, 2>> queries = loadQueries();
    storeKeys(requestKeys(keys, values, from), shared);
    b.barrier();
    Values state = {b.f32(kNoScore), b.f32(kNoScore)};
    state.append(2 + shape.valueColumns / 2, b.f32(0));
    state.push_back(b.i32(0));
    // One barrier a stage: what is written is the stage before the last, whose readers have been at the last one.
    state = b.loop(from, to, b.i32(kKeys), state, [&](Value first, ValueRange carried) {
      Value stage = b.offset(shared, b.mul(carried.back(), shape.stageBytes)),
            turn = b.bitXor(carried.back(), b.i32(1));
      Values coming = requestKeys(keys, values, b.add(first, kKeys));
      // Not where none of the warp's rows sees one of them.
      Value wanted = b.less(first, warpEnd);
      if (spec.window)
        wanted = b.bitAnd(wanted, b.less(warpBegin, b.add(first, kKeys)));
      ValueRange before = carried.drop_back();
      Values next =
          b.choose(wanted, [&] { return addKeys(queries, stage, first, before); }, [&] { return Values(before); });
      storeKeys(coming, b.offset(shared, b.mul(turn, shape.stageBytes)));
      b.barrier();
      next.push_back(turn);
      return next;
    });
    for (size_t h = 0; h < 2; ++h) {
      const Row &row = rows[h];
      Value sum = acrossRow(state[2 + h], true);
      Value factor = b.select(b.less(b.f32(0), sum), b.div(b.f32(1), sum), b.f32(0));
      if (spec.splits > 1)
        factor = b.select(isWhole, factor, b.f32(1));
      b.when(row.exists, [&] {
        Value to = outputRow(row), own = b.mul(t, 2);
        for (int64_t n = 0; n < shape.valueColumns / 8; ++n)
          for (int64_t e = 0; e < 2; ++e) {
            Value column = b.add(own, 8 * n + e), output = b.mul(state[4 + 4 * n + 2 * h + e], factor);
            auto store = [&] { b.store(output, b.element(to, column, b.f32())); };
            if (8 * n + 8 <= spec.valueSize)
              store();
            else
              b.when(b.less(column, b.i32(spec.valueSize)), store);
          }
        constexpr double ln2 = 0.6931471805599453;
        if (spec.splits > 1)
          b.when(b.equal(t, b.i32(0)), [&] { putStats(row.row, row.head, b.mul(state[h], b.f32(ln2)), sum); });
      });
    }
  }

  Value outputRow(const Row &row) {
    Value result = resultRow(row.row, row.head);
    return spec.splits == 1 ? result : b.select(isWhole, result, partRow(row.row, row.head));
  }

  /// Calls body(row, column) for each `count` columns of what the block puts out.
  void outputs(int64_t count, llvm::function_ref<void(const Row &, Value)> body) {
    int64_t units = spec.valueSize / count;
    b.strided(16 * shape.warps * units, shape.threads(), [&](Value number) {
      Row row = rowAt(b.div(number, units));
      b.when(row.exists, [&] { body(row, b.mul(b.rem(number, units), count)); });
    });
  }

  /// Rows of padding, or a part without keys.
  void putNothing() {
    outputs(1, [&](const Row &row, Value column) {
      b.store(b.f32(0), b.element(outputRow(row), column, b.f32()));
      if (spec.splits > 1)
        b.when(b.equal(column, b.i32(0)), [&] { putStats(row.row, row.head, b.f32(kNoScore), b.f32(0)); });
    });
  }

  void joinParts() {
    whenLast(b.add(b.mul(b.blockX(), b.gridY()), b.blockY()), shared, [&] {
      int64_t count = spec.valueSize % 4 ? 1 : 4;
      outputs(count, [&](const Row &row, Value column) {
        Values joined = this->joined(row.row, row.head, column, count);
        Value to = b.element(resultRow(row.row, row.head), column, b.f32());
        for (auto [i, number] : llvm::enumerate(joined))
          b.store(number, b.offset(to, static_cast<int64_t>(4 * i)));
      });
    });
  }
};
} // namespace

bool device::fitsPrefill(const AttentionSpec &spec) {
  return spec.keySize <= kMostColumns && spec.valueSize <= kMostColumns && spec.heads / spec.keyHeads <= 64;
}

int64_t device::prefillSplits(const AttentionSpec &spec, int64_t rows, int64_t context, int64_t multiprocessors) {
  // A multiprocessor has registers for one block of eight warps.
  int64_t rowsOfBlock = Shape(spec, rows).rowsOfBlock;
  int64_t blocks = (rows + rowsOfBlock - 1) / rowsOfBlock * spec.keyHeads;
  int64_t most = std::min<int64_t>(kMostParts, (context ? context : 4096) / kKeysOfBlock);
  return std::clamp<int64_t>(multiprocessors / blocks, 1, std::max<int64_t>(most, 1));
}

StepKernel device::prefillKernel(const KernelPlace &place, const AttentionSpec &spec, int64_t rows) {
  Shape shape(spec, rows);
  std::string name = "prefill" + nameOf(spec) + "_w" + std::to_string(shape.warps);
  auto kernel = makeKernel(
      place, name, attentionTypes(place, spec), shape.threads(), [&](StepBuilder &b, ArrayRef<BlockArgument> a) {
        PrefillKernel(b, spec, shape, a, b.sharedMemory(place.module, name + "_stages", 2 * shape.stageBytes)).emit();
      });
  // Without a word ptxas 13.0 spills some to fit a second block of eight warps.
  if (kernel && shape.warps == 8)
    kernel->setAttr("nvvm.minctasm", place.builder.getI32IntegerAttr(1));
  return {name, shape.threads(), spec.keyHeads, spec.splits, shape.rowsOfBlock};
}
