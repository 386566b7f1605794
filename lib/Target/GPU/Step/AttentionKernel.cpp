//===- AttentionKernel.cpp - attention over a cache -------------------------===//
//
// A block has a row, a head of keys with some of its queries, and, where one
// block a head would leave multiprocessors idle, a part of the keys (flash-
// decoding). A few lanes share a key, 16 bytes each, so that a warp reads whole
// lines; each such group keeps a running maximum and sum (online softmax; Milakov
// and Gimelshein 2018) and its part of the outputs. They are put together by
// shuffles in a warp, then over the warps in shared memory. PrefillKernel.cpp is
// for many rows of a sequence.
//
//===----------------------------------------------------------------------===//

#include "KeyParts.h"
#include "skim/Target/GPU/Linear.h"

#include <numeric>

using namespace mlir;
using namespace skim;
using namespace skim::device;

using Values = KernelBuilder::Values;

static constexpr int64_t kWarps = 4, kThreads = 32 * kWarps;
/// Keys that a group of lanes takes at once, so that their loads are on their way together.
static constexpr int64_t kKeysAtOnce = 2;
/// Numbers of queries and outputs that a lane may keep in registers.
static constexpr int64_t kMostNumbers = 96;
/// Fewer keys are not worth a block of their own.
static constexpr int64_t kKeysOfBlock = 32;

namespace {
/// How lanes share the work.
struct Shape {
  explicit Shape(const AttentionSpec &spec) {
    width = spec.aligned && spec.keySize % 4 == 0 && spec.valueSize % 4 == 0 ? 4 : 1;
    int64_t units = std::gcd(spec.keySize / width, spec.valueSize / width);
    lanes = std::min<int64_t>(8, units & -units);
    keyParts = spec.keySize / width / lanes;
    valueParts = spec.valueSize / width / lanes;
    int64_t shared = spec.heads / spec.keyHeads;
    int64_t fitting = std::max<int64_t>(1, kMostNumbers / (width * (keyParts + valueParts)));
    blocks = (shared + fitting - 1) / fitting;
    queries = (shared + blocks - 1) / blocks;
  }
  int64_t width, lanes;         // floats of an access; lanes that share a key
  int64_t keyParts, valueParts; // accesses of a lane
  int64_t queries, blocks;      // queries of a block; blocks that share a head of keys
};

class AttentionKernel : AttentionArguments {
public:
  AttentionKernel(StepBuilder &b, const AttentionSpec &spec, ArrayRef<BlockArgument> a, Value shared)
      : AttentionArguments(b, spec, a), shape(spec), shared(shared) {
    row = b.blockX();
    Value place = b.blockY();
    keyHead = b.div(place, shape.blocks);
    int64_t sharing = spec.heads / spec.keyHeads;
    Value first = b.mul(b.rem(place, shape.blocks), shape.queries);
    for (int64_t q = 0; q < shape.queries; ++q) {
      Value own = b.add(first, q);
      there.push_back(b.less(own, b.i32(sharing)));
      heads.push_back(b.add(b.mul(keyHead, sharing), b.min(own, b.i32(sharing - 1))));
    }
    sequence = b.div(row, length);
    Value index = b.rem(row, length);
    Value end = b.add(b.add(b.number(starts, sequence), index), 1), begin = b.i32(0);
    if (spec.window)
      begin = b.max(begin, b.sub(end, b.i32(spec.window)));
    std::tie(from, to) = partOf(begin, end, 1, kKeysOfBlock);
    inside = b.bitAnd(b.less(index, b.number(counts, sequence)), b.less(from, to));
  }

  void emit() {
    b.ifElse(inside, [&] { compute(); }, [&] { putNothing(); });
    if (spec.splits > 1)
      joinParts();
  }

private:
  Shape shape;
  Value shared, row, keyHead, sequence, from, to, inside;
  Values heads, there; // of the block's queries

  /// The lane's numbers of a head at `base`.
  Values loadParts(Value base, int64_t parts) {
    Value lane = b.bitAnd(b.lane(), b.i32(shape.lanes - 1)), at = b.element(base, b.mul(lane, shape.width), b.f32());
    Values numbers;
    for (int64_t part = 0; part < parts; ++part)
      for (Value word : b.words(b.offset(at, part * shape.lanes * shape.width * 4), shape.width))
        numbers.push_back(b.bitcast(word, b.f32()));
    return numbers;
  }

  void compute() {
    Value keys = cacheOf(sequence, keyHead, keyPrefix, spec.keySize);
    Value values = cacheOf(sequence, keyHead, valuePrefix, spec.valueSize);
    SmallVector<Values> queries;
    for (Value head : heads)
      queries.push_back(loadParts(b.at(query, row, queryStride, b.mul(head, spec.keySize)), shape.keyParts));

    // Of each query its maximum, its sum and the lane's outputs.
    size_t each = 2 + shape.valueParts * shape.width;
    Values state;
    for (int64_t q = 0; q < shape.queries; ++q) {
      state.append({b.f32(kNoScore), b.f32(0)});
      state.append(each - 2, b.f32(0));
    }
    int64_t groups = 32 / shape.lanes, warpKeys = groups * kKeysAtOnce;
    Value own = b.mul(b.div(b.lane(), shape.lanes), kKeysAtOnce), last = b.sub(to, b.i32(1));
    // All lanes of a warp go around together, since they meet in shuffles; keys behind the last one do not count.
    state = b.loop(b.add(from, b.mul(b.warp(), warpKeys)), to, b.i32(kWarps * warpKeys), state,
                   [&](Value first, ValueRange carried) {
                     SmallVector<Values> k, v;
                     Values valid;
                     for (int64_t i = 0; i < kKeysAtOnce; ++i) {
                       Value j = b.add(b.add(first, own), i), at = b.wide(b.min(j, last));
                       valid.push_back(b.less(j, to));
                       k.push_back(loadParts(b.element(keys, b.mul(at, spec.keySize), b.f32()), shape.keyParts));
                       v.push_back(loadParts(b.element(values, b.mul(at, spec.valueSize), b.f32()), shape.valueParts));
                     }
                     Values next;
                     for (int64_t q = 0; q < shape.queries; ++q)
                       next.append(addKeys(queries[q], k, v, valid, carried.slice(q * each, each)));
                     return next;
                   });
    for (int64_t distance = shape.lanes; distance < 32; distance *= 2)
      for (int64_t q = 0; q < shape.queries; ++q)
        joinLanes(MutableArrayRef(state).slice(q * each, each), distance);
    putTogether(state, each);
  }

  /// A query's state with some more keys.
  Values addKeys(const Values &query, ArrayRef<Values> k, ArrayRef<Values> v, const Values &valid, ValueRange state) {
    Values scores;
    Value maximum = state[0];
    for (int64_t i = 0; i < kKeysAtOnce; ++i) {
      Value dot = b.mul(query[0], k[i][0]);
      for (size_t part = 1; part < query.size(); ++part)
        dot = b.fma(query[part], k[i][part], dot);
      for (int64_t distance = shape.lanes / 2; distance; distance /= 2)
        dot = b.add(dot, b.exchange(dot, distance));
      Value score = b.mul(dot, b.f32(spec.scale));
      if (spec.softcap != 0)
        score = b.mul(b.tanh(b.mul(score, b.f32(1 / spec.softcap))), b.f32(spec.softcap));
      scores.push_back(score);
      maximum = b.max(maximum, b.select(valid[i], score, b.f32(kNoScore)));
    }
    Value correction = b.exp(b.sub(state[0], maximum));
    Values next = {maximum, b.mul(state[1], correction)};
    for (Value output : state.drop_front(2))
      next.push_back(b.mul(output, correction));
    for (int64_t i = 0; i < kKeysAtOnce; ++i) {
      Value weight = b.select(valid[i], b.exp(b.sub(scores[i], maximum)), b.f32(0));
      next[1] = b.add(next[1], weight);
      for (size_t part = 0; part < v[i].size(); ++part)
        next[2 + part] = b.fma(v[i][part], weight, next[2 + part]);
    }
    return next;
  }

  void joinLanes(MutableArrayRef<Value> state, int64_t distance) {
    Value other = b.exchange(state[0], distance), maximum = b.max(state[0], other);
    Value mine = b.exp(b.sub(state[0], maximum)), its = b.exp(b.sub(other, maximum));
    state[0] = maximum;
    for (Value &number : state.drop_front())
      number = b.fma(number, mine, b.mul(b.exchange(number, distance), its));
  }

  /// The warps' parts, and out.
  void putTogether(const Values &state, size_t each) {
    Value outputs = b.offset(shared, 8 * kWarps * shape.queries);
    auto stat = [&](int64_t kind, int64_t q, Value warp) { // 0: maximum, 1: sum
      return b.element(shared, b.add(warp, (kind * shape.queries + q) * kWarps), b.f32());
    };
    Value lane = b.lane();
    b.when(b.less(lane, b.i32(shape.lanes)), [&] {
      for (int64_t q = 0; q < shape.queries; ++q) {
        Value row = b.add(b.mul(b.warp(), shape.queries * spec.valueSize), q * spec.valueSize);
        Value at = b.element(outputs, b.add(row, b.mul(lane, shape.width)), b.f32());
        for (int64_t part = 0; part < shape.valueParts; ++part) {
          ArrayRef<Value> numbers = ArrayRef(state).slice(q * each + 2 + part * shape.width, shape.width);
          Value to = b.offset(at, part * shape.lanes * shape.width * 4);
          if (shape.width == 1)
            b.store(numbers[0], to);
          else
            b.store(b.pack(numbers), to, static_cast<unsigned>(4 * shape.width));
        }
      }
    });
    b.when(b.equal(lane, b.i32(0)), [&] {
      for (int64_t q = 0; q < shape.queries; ++q)
        for (int64_t kind = 0; kind < 2; ++kind)
          b.store(state[q * each + kind], stat(kind, q, b.warp()));
    });
    b.barrier();
    for (int64_t q = 0; q < shape.queries; ++q) {
      Values factors;
      Value maximum = b.f32(kNoScore), sum = b.f32(0);
      for (int64_t w = 0; w < kWarps; ++w) {
        factors.push_back(b.loadF32(stat(0, q, b.i32(w))));
        maximum = b.max(maximum, factors.back());
      }
      for (int64_t w = 0; w < kWarps; ++w) {
        factors[w] = b.exp(b.sub(factors[w], maximum));
        sum = b.fma(factors[w], b.loadF32(stat(1, q, b.i32(w))), sum);
      }
      Value inverse = spec.splits > 1 ? Value() : b.div(b.f32(1), sum);
      b.when(there[q], [&] {
        b.strided(spec.valueSize, kThreads, [&](Value c) {
          Value total = b.f32(0);
          for (int64_t w = 0; w < kWarps; ++w) {
            int64_t offset = 4 * (w * shape.queries + q) * spec.valueSize;
            total = b.fma(factors[w], b.loadF32(b.element(b.offset(outputs, offset), c, b.f32())), total);
          }
          b.store(inverse ? b.mul(total, inverse) : total, outputAt(heads[q], c));
        });
        if (spec.splits > 1)
          b.when(b.equal(b.threadX(), b.i32(0)), [&] { putStats(row, heads[q], maximum, sum); });
      });
    }
  }

  Value outputAt(Value head, Value c) {
    return b.element(spec.splits == 1 ? resultRow(row, head) : partRow(row, head), c, b.f32());
  }

  /// A row of padding, or a part without keys.
  void putNothing() {
    for (int64_t q = 0; q < shape.queries; ++q)
      b.when(there[q], [&] {
        if (spec.splits > 1)
          b.when(b.equal(b.threadX(), b.i32(0)), [&] { putStats(row, heads[q], b.f32(kNoScore), b.f32(0)); });
        b.strided(spec.valueSize, kThreads, [&](Value c) { b.store(b.f32(0), outputAt(heads[q], c)); });
      });
  }

  /// In the last block of the head: its parts put together; 0 for rows of padding.
  void joinParts() {
    whenLast(b.add(b.mul(row, b.gridY()), b.blockY()), shared, [&] {
      for (int64_t q = 0; q < shape.queries; ++q)
        b.when(there[q], [&] {
          b.strided(spec.valueSize, kThreads, [&](Value c) {
            b.store(joined(row, heads[q], c, 1)[0], b.element(resultRow(row, heads[q]), c, b.f32()));
          });
        });
    });
  }
};
} // namespace

int64_t device::attentionSplits(const AttentionSpec &spec, int64_t rows, int64_t context, int64_t multiprocessors) {
  int64_t blocks = rows * spec.keyHeads * Shape(spec).blocks;
  int64_t most = std::min<int64_t>(kMostParts, (context ? context : 4096) / (2 * kKeysOfBlock));
  return std::clamp<int64_t>(2 * multiprocessors / blocks, 1, std::max<int64_t>(most, 1));
}

StepKernel device::attentionKernel(const KernelPlace &place, const AttentionSpec &spec) {
  std::string name = "attention" + nameOf(spec);
  Shape shape(spec);
  makeKernel(place, name, attentionTypes(place, spec), kThreads, [&](StepBuilder &b, ArrayRef<BlockArgument> a) {
    Value shared = b.sharedMemory(place.module, name + "_parts", 4 * kWarps * shape.queries * (2 + spec.valueSize));
    AttentionKernel(b, spec, a, shared).emit();
  });
  return {name, kThreads, spec.keyHeads * shape.blocks, spec.splits};
}
