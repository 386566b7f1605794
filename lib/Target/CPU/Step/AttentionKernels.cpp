//===- AttentionKernels.cpp - attention over a cache ------------------------===//
//
// Both kernels walk the keys in blocks and keep a running maximum and sum (online
// softmax; Milakov and Gimelshein 2018), so that scratch does not grow with the
// context. One new token: keys as dot products with the query, a unit of work is
// (sequence, head). Several: blocks of queries of all heads that share keys, keys
// transposed once a block, and two register-tiled products.
//
//===----------------------------------------------------------------------===//

#include "Kernels.h"

using namespace mlir;

namespace skim::step {

namespace {
/// Keys in a block.
constexpr int64_t keyBlock = 64;
/// Score of a key that is not attended to: exp of it is 0, and differences stay finite.
constexpr double masked = -1e30;

/// Everything that both kernels derive from the specification.
struct Shape {
  const Attention &spec;
  int64_t lanes;
  /// Query heads that share a key head.
  int64_t group;
  /// Query rows of one head in a unit of the block kernel, and computed at once.
  int64_t blockRows, tileRows;
  int64_t keySize, valueSize;

  Shape(const Attention &spec, int64_t lanes)
      : spec(spec), lanes(lanes), group(spec.heads / spec.keys.heads), keySize(spec.keys.size),
        valueSize(spec.values.size) {
    tileRows = lanes >= 16 ? 4 : 2;
    blockRows = std::max(tileRows, 48 / group / tileRows * tileRows);
  }
  // Scratch of the block kernel, in floats: transposed keys, scores, outputs, maxima, sums.
  int64_t scores() const { return keySize * keyBlock; }
  int64_t outputs() const { return scores() + tileRows * keyBlock; }
  int64_t maxima() const { return outputs() + group * blockRows * valueSize; }
  int64_t sums() const { return maxima() + group * blockRows; }
  int64_t end() const { return sums() + group * blockRows; }
};

/// Arguments of both kernels, in order.
struct Arguments {
  Val query, queryStride, y, caches, capacity, start, count, batch, length, keyPrefix, valuePrefix, priv, thread,
      threads;
  explicit Arguments(ArrayRef<Val> a)
      : query(a[0]), queryStride(a[1]), y(a[2]), caches(a[3]), capacity(a[4]), start(a[5]), count(a[6]), batch(a[7]),
        length(a[8]), keyPrefix(a[9]), valuePrefix(a[10]), priv(a[11]), thread(a[12]), threads(a[13]) {}
};
} // namespace

/// The first key of cache head `head` of `sequence`, and the same of the values.
static std::pair<Val, Val> cacheHead(Emitter &k, const Arguments &a, const Shape &shape, Val sequence, Val head) {
  Val capacity = k.loadI64(k.at(a.capacity, sequence, 8));
  Val block = k.loadPtr(k.at(a.caches, sequence, 8));
  return {k.at(k.offset(block, capacity * a.keyPrefix), head * capacity * k.i64(shape.keySize)),
          k.at(k.offset(block, capacity * a.valuePrefix), head * capacity * k.i64(shape.valueSize))};
}

/// cap(scale · dot).
static Val finishScore(Emitter &k, const Attention &spec, Val dot) {
  Val score = dot * spec.scale;
  return spec.softcap == 0 ? score : k.tanh(score * (1 / spec.softcap)) * spec.softcap;
}

using Pieces = SmallVector<std::pair<int64_t, int64_t>>;

static SmallVector<Val> zeros(Emitter &k, const Pieces &pieces) {
  SmallVector<Val> result;
  for (auto [first, width] : pieces)
    result.push_back(k.constant(VectorType::get(width, k.f32Type()), 0));
  return result;
}

//===--- one new token ---===//

static void emitOneToken(Emitter &k, const Shape &shape, const Arguments &a) {
  const Attention &spec = shape.spec;
  Pieces keyPieces = Emitter::pieces(shape.keySize, k.lanes), valuePieces = Emitter::pieces(shape.valueSize, k.lanes);
  Val heads = k.i64(spec.heads);
  k.loop(k.toI64(a.thread), a.batch * heads, k.toI64(a.threads), {}, [&](Val unit, ArrayRef<Val>) {
    Val sequence = unit / heads, head = unit % heads;
    auto [keys, values] = cacheHead(k, a, shape, sequence, head / k.i64(shape.group));
    Val end = k.toI64(k.loadI32(k.at(a.start, sequence))) + k.i64(1);
    Val begin = k.i64(0);
    if (spec.window)
      begin = k.max(begin, end - k.i64(spec.window));
    Val queryRow = k.at(a.query, sequence * a.queryStride + head * k.i64(shape.keySize));
    SmallVector<Val> query;
    for (auto [first, width] : keyPieces)
      query.push_back(k.loadVector(k.at(queryRow, k.i64(first)), width));

    SmallVector<Val> state = {k.f32(masked), k.f32(0)};
    state.append(zeros(k, valuePieces));
    state = k.loop(begin, end, keyBlock, state, [&](Val first, ArrayRef<Val> carried) {
      Val n = k.min(end - first, k.i64(keyBlock));
      k.loop(k.i64(0), n, [&](Val j) {
        Val key = k.at(keys, (first + j) * k.i64(shape.keySize));
        Val dot;
        std::optional<Val> whole; // sum of the pieces of full width
        for (auto [index, piece] : llvm::enumerate(keyPieces)) {
          Val product = k.loadVector(k.at(key, k.i64(piece.first)), piece.second) * query[index];
          if (piece.second == keyPieces[0].second)
            whole = whole ? *whole + product : product;
          else
            dot = dot.value ? dot + k.reduceAdd(product) : k.reduceAdd(product);
        }
        Val sum = k.reduceAdd(*whole);
        k.store(dot.value ? sum + dot : sum, k.at(a.priv, j));
      });
      // Scores beyond the last key are masked; the block is then a whole number of vectors.
      SmallVector<Val> scores;
      for (int64_t c = 0; c < keyBlock; c += k.lanes) {
        Val index = k.broadcast(k.toI32(n) - k.i32(c), k.lanes);
        Val score = finishScore(k, spec, k.loadVector(k.at(a.priv, k.i64(c)), k.lanes));
        scores.push_back(k.select(k.iota(k.lanes) < index, score, constantLike(score, masked)));
      }
      Val top = scores[0];
      for (Val score : ArrayRef<Val>(scores).drop_front())
        top = k.max(top, score);
      Val maximum = k.max(carried[0], k.reduceMax(top));
      Val correction = k.exp(carried[0] - maximum);
      std::optional<Val> total;
      for (auto [index, score] : llvm::enumerate(scores)) {
        Val weight = k.exp(score - maximum);
        total = total ? *total + weight : weight;
        k.store(weight, k.at(a.priv, k.i64(index * k.lanes)));
      }
      SmallVector<Val> outputs;
      for (Val output : carried.drop_front(2))
        outputs.push_back(output * correction);
      outputs = k.loop(k.i64(0), n, 1, outputs, [&](Val j, ArrayRef<Val> sums) {
        Val weight = k.loadF32(k.at(a.priv, j)), row = k.at(values, (first + j) * k.i64(shape.valueSize));
        SmallVector<Val> next;
        for (auto [index, piece] : llvm::enumerate(valuePieces))
          next.push_back(k.loadVector(k.at(row, k.i64(piece.first)), piece.second) * weight + sums[index]);
        return next;
      });
      SmallVector<Val> next = {maximum, carried[1] * correction + k.reduceAdd(*total)};
      next.append(outputs);
      return next;
    });
    Val inverse = k.f32(1) / state[1];
    Val out = k.at(a.y, unit * k.i64(shape.valueSize));
    for (auto [index, piece] : llvm::enumerate(valuePieces))
      k.store(state[2 + index] * inverse, k.at(out, k.i64(piece.first)));
    return SmallVector<Val>();
  });
}

//===--- several new tokens ---===//

namespace {
/// The block kernel inside a unit (sequence, key head, block of queries).
struct BlockUnit {
  Emitter &k;
  const Shape &shape;
  const Arguments &a;
  Val keys, values; // ptr
  Val firstRow;     // of the unit's queries in the step's rows
  Val keyHead;
  Val rows;          // valid rows, at least 1
  Val firstPosition; // of the first row

  Val scratch(int64_t floats) { return k.at(a.priv, k.i64(floats)); }

  /// Keys [first, first + n) as columns: scratch[d · keyBlock + j].
  void transposeKeys(Val first, Val n);
  /// Scores of a tile of rows of query head `head` into scratch.
  void scoreTile(Val head, Val tile, Val firstKey);
  /// Softmax of the tile's scores in place; outputs += scores · values.
  void outputTile(Val head, Val tile, Val firstKey, Val n);
  void finish();
};
} // namespace

void BlockUnit::transposeKeys(Val first, Val n) {
  k.loop(k.i64(0), n, [&](Val j) {
    Val key = k.at(keys, (first + j) * k.i64(shape.keySize));
    k.loop(k.i64(0), k.i64(shape.keySize),
           [&](Val d) { k.store(k.loadF32(k.at(key, d)), k.at(a.priv, d * k.i64(keyBlock) + j)); });
  });
}

void BlockUnit::scoreTile(Val head, Val tile, Val firstKey) {
  const Attention &spec = shape.spec;
  int64_t columns = k.lanes >= 16 ? 4 : 2; // vectors of keys at once
  SmallVector<Val> queries, positions;
  Val channel = (keyHead * k.i64(shape.group) + head) * k.i64(shape.keySize);
  for (int64_t r = 0; r < shape.tileRows; ++r) {
    // Rows behind the last valid one repeat it.
    Val row = k.min(tile + k.i64(r), rows - k.i64(1));
    queries.push_back(k.at(a.query, (firstRow + row) * a.queryStride + channel));
    positions.push_back(k.toI32(firstPosition + row - firstKey));
  }
  auto vector = VectorType::get(k.lanes, k.f32Type());
  for (int64_t c = 0; c < keyBlock; c += columns * k.lanes) {
    SmallVector<Val> sums(shape.tileRows * columns, k.constant(vector, 0));
    sums = k.loop(k.i64(0), k.i64(shape.keySize), 1, sums, [&](Val d, ArrayRef<Val> carried) {
      SmallVector<Val> key, next;
      for (int64_t v = 0; v < columns; ++v)
        key.push_back(k.loadVector(k.at(a.priv, d * k.i64(keyBlock) + k.i64(c + v * k.lanes)), k.lanes));
      for (int64_t r = 0; r < shape.tileRows; ++r) {
        Val query = k.broadcast(k.loadF32(k.at(queries[r], d)), k.lanes);
        for (int64_t v = 0; v < columns; ++v)
          next.push_back(query * key[v] + carried[r * columns + v]);
      }
      return next;
    });
    for (int64_t r = 0; r < shape.tileRows; ++r)
      for (int64_t v = 0; v < columns; ++v) {
        int64_t column = c + v * k.lanes;
        Val score = finishScore(k, spec, sums[r * columns + v]);
        Val index = k.iota(k.lanes) + k.i32(column);
        Val visible = index <= positions[r];
        if (spec.window)
          visible = visible & (index > positions[r] - k.i32(spec.window));
        k.store(k.select(visible, score, constantLike(score, masked)), scratch(shape.scores() + r * keyBlock + column));
      }
  }
}

void BlockUnit::outputTile(Val head, Val tile, Val firstKey, Val n) {
  SmallVector<Val> corrections;
  Val slot = head * k.i64(shape.blockRows) + tile; // row of the unit's state
  for (int64_t r = 0; r < shape.tileRows; ++r) {
    SmallVector<Val> scores;
    for (int64_t c = 0; c < keyBlock; c += k.lanes)
      scores.push_back(k.loadVector(scratch(shape.scores() + r * keyBlock + c), k.lanes));
    Val top = scores[0];
    for (Val score : ArrayRef<Val>(scores).drop_front())
      top = k.max(top, score);
    Val maximumAt = k.at(scratch(shape.maxima()), slot + k.i64(r)),
        sumAt = k.at(scratch(shape.sums()), slot + k.i64(r));
    Val old = k.loadF32(maximumAt), maximum = k.max(old, k.reduceMax(top));
    Val correction = k.exp(old - maximum);
    std::optional<Val> total;
    for (auto [index, score] : llvm::enumerate(scores)) {
      Val weight = k.exp(score - maximum);
      total = total ? *total + weight : weight;
      k.store(weight, scratch(shape.scores() + r * keyBlock + index * k.lanes));
    }
    k.store(maximum, maximumAt);
    k.store(k.loadF32(sumAt) * correction + k.reduceAdd(*total), sumAt);
    corrections.push_back(correction);
  }
  // Columns of the output in groups that fit in registers.
  Pieces pieces = Emitter::pieces(shape.valueSize, k.lanes);
  size_t columns = k.lanes >= 16 ? 5 : 4;
  Val outputs = k.at(scratch(shape.outputs()), slot * k.i64(shape.valueSize));
  for (size_t c = 0; c < pieces.size(); c += columns) {
    ArrayRef<std::pair<int64_t, int64_t>> part = ArrayRef(pieces).slice(c).take_front(columns);
    auto at = [&](int64_t r, int64_t first) { return k.at(outputs, k.i64(r * shape.valueSize + first)); };
    SmallVector<Val> sums;
    for (int64_t r = 0; r < shape.tileRows; ++r)
      for (auto [first, width] : part)
        sums.push_back(k.loadVector(at(r, first), width) * corrections[r]);
    sums = k.loop(k.i64(0), n, 1, sums, [&](Val j, ArrayRef<Val> carried) {
      Val row = k.at(values, (firstKey + j) * k.i64(shape.valueSize));
      SmallVector<Val> value, next;
      for (auto [first, width] : part)
        value.push_back(k.loadVector(k.at(row, k.i64(first)), width));
      for (int64_t r = 0; r < shape.tileRows; ++r) {
        Val weight = k.loadF32(k.at(scratch(shape.scores() + r * keyBlock), j));
        for (size_t v = 0; v < part.size(); ++v)
          next.push_back(value[v] * weight + carried[r * part.size() + v]);
      }
      return next;
    });
    for (int64_t r = 0; r < shape.tileRows; ++r)
      for (auto [v, piece] : llvm::enumerate(part))
        k.store(sums[r * part.size() + v], at(r, piece.first));
  }
}

void BlockUnit::finish() {
  k.loop(k.i64(0), k.i64(shape.group), [&](Val head) {
    k.loop(k.i64(0), rows, [&](Val row) {
      Val slot = head * k.i64(shape.blockRows) + row;
      Val inverse = k.f32(1) / k.loadF32(k.at(scratch(shape.sums()), slot));
      Val in = k.at(scratch(shape.outputs()), slot * k.i64(shape.valueSize));
      Val out = k.at(a.y, ((firstRow + row) * k.i64(shape.spec.heads) + keyHead * k.i64(shape.group) + head) *
                              k.i64(shape.valueSize));
      k.overChannels(shape.valueSize,
                     [&](Val c, int64_t width) { k.store(k.loadVector(k.at(in, c), width) * inverse, k.at(out, c)); });
    });
  });
}

static void emitBlocks(Emitter &k, const Shape &shape, const Arguments &a) {
  Val keyHeads = k.i64(shape.spec.keys.heads), blockRows = k.i64(shape.blockRows);
  Val blocks = (a.length + k.i64(shape.blockRows - 1)) / blockRows;
  Val perBlock = a.batch * keyHeads;
  // Late queries see most keys: they are dealt out first, in turn.
  k.loop(k.toI64(a.thread), blocks * perBlock, k.toI64(a.threads), {}, [&](Val unit, ArrayRef<Val>) {
    Val block = blocks - k.i64(1) - unit / perBlock;
    Val sequence = unit % perBlock / keyHeads, keyHead = unit % keyHeads;
    Val first = block * blockRows;
    Val rows = k.min(k.toI64(k.loadI32(k.at(a.count, sequence))) - first, blockRows);
    k.ifThen(rows > k.i64(0), [&] {
      auto [keys, values] = cacheHead(k, a, shape, sequence, keyHead);
      BlockUnit u{k,       shape,  a,
                  keys,    values, sequence * a.length + first,
                  keyHead, rows,   k.toI64(k.loadI32(k.at(a.start, sequence))) + first};
      int64_t states = shape.group * shape.blockRows;
      k.overChannels(states * shape.valueSize, [&](Val c, int64_t width) {
        k.store(k.constant(VectorType::get(width, k.f32Type()), 0), k.at(u.scratch(shape.outputs()), c));
      });
      k.loop(k.i64(0), k.i64(states), [&](Val c) {
        k.store(k.f32(masked), k.at(u.scratch(shape.maxima()), c));
        k.store(k.f32(0), k.at(u.scratch(shape.sums()), c));
      });
      Val end = u.firstPosition + rows, begin = k.i64(0);
      if (shape.spec.window)
        begin = k.max(begin, u.firstPosition - k.i64(shape.spec.window - 1));
      k.loop(begin, end, keyBlock, {}, [&](Val firstKey, ArrayRef<Val>) {
        Val n = k.min(end - firstKey, k.i64(keyBlock));
        u.transposeKeys(firstKey, n);
        k.loop(k.i64(0), k.i64(shape.group), [&](Val head) {
          k.loop(k.i64(0), rows, shape.tileRows, {}, [&](Val tile, ArrayRef<Val>) {
            u.scoreTile(head, tile, firstKey);
            u.outputTile(head, tile, firstKey, n);
            return SmallVector<Val>();
          });
        });
        return SmallVector<Val>();
      });
      u.finish();
    });
    return SmallVector<Val>();
  });
}

int64_t attentionScratch(const TargetInfo &target, const Attention &spec) {
  return std::max(Shape(spec, target.f32Lanes()).end(), keyBlock) * 4;
}

void emitAttention(Emitter &e, const StepValues &s, const Attention &spec, Rows query, Rows y) {
  Shape shape(spec, e.lanes);
  std::string name = ("_h" + Twine(spec.heads) + "_k" + Twine(spec.keys.heads) + "_d" + Twine(spec.keys.size) + "_v" +
                      Twine(spec.values.size) + "_w" + Twine(spec.window))
                         .str();
  for (double number : {spec.scale, spec.softcap}) {
    uint64_t bits;
    std::memcpy(&bits, &number, sizeof(bits));
    name += "_" + llvm::utohexstr(bits);
  }
  Type p = e.ptrType(), i = e.i64Type(), t = e.i32Type();
  SmallVector<Type> types = {p, i, p, p, p, p, p, i, i, i, i, p, t, t};
  SmallVector<Val> arguments = {query.pointer,
                                query.stride,
                                y.pointer,
                                s.caches,
                                s.capacity,
                                s.start,
                                s.count,
                                s.batch,
                                s.length,
                                e.i64(spec.keys.prefix),
                                e.i64(spec.values.prefix),
                                s.priv,
                                s.thread,
                                s.threads};
  func::FuncOp one = e.function(s.module, "attention_token" + name, types,
                                [&](Emitter &k, ArrayRef<Val> a) { emitOneToken(k, shape, Arguments(a)); });
  func::FuncOp several = e.function(s.module, "attention_block" + name, types,
                                    [&](Emitter &k, ArrayRef<Val> a) { emitBlocks(k, shape, Arguments(a)); });
  Val single = s.length == e.i64(1);
  e.ifThen(single, [&] { e.call(one, arguments); });
  e.ifThen(s.length != e.i64(1), [&] { e.call(several, arguments); });
}

} // namespace skim::step
