//===- Batch.cpp - many rows of x -------------------------------------------===//
//
// x is packed once, rows of x along the lanes:
//   f32:  [block of lanes rows][k][row in block]
//   bf16: [block of lanes rows][k / 2][row in block][2]
// A few rows of the weight are decoded to private scratch, row by row; a tile
// of products keeps weight rows × vectors of x rows in registers, its weights
// broadcast, so that nothing but the finished tile is transposed.
//
//===----------------------------------------------------------------------===//

#include "Schedules.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace skim;

using Values = KernelBuilder::Values;

namespace {
/// Sizes that all kernels of a target share.
struct Tile {
  explicit Tile(const TargetInfo &target, const KernelSignature &signature)
      : lanes(decodeLanes(target)), weightRows(target.vectorBits >= 512 ? 8 : 4), vectors(3), bf16(signature.bf16),
        bytes(bf16 ? 2 : 4), k(signature.k), paddedK(llvm::alignTo(k, bf16 ? 2 * lanes : lanes)),
        // The block of x that a pass over the weight's rows reads should stay in the second cache.
        blockK(paddedK <= 2048 ? paddedK : 1024) {}

  int64_t lanes, weightRows, vectors;
  bool bf16;
  int64_t bytes, k, paddedK, blockK;

  /// Between rows of the buffer: a line more than the row, lest all rows fall into the same cache sets.
  int64_t bufferStride() const { return blockK * bytes + 64; }
  int64_t bufferBytes() const { return llvm::alignTo(weightRows * bufferStride(), 64); }
  int64_t tileBytes() const { return weightRows * vectors * lanes * 4; }
  /// Packed x: bytes of a block of rows.
  int64_t packedBytes() const { return paddedK * lanes * bytes; }
};

class BatchKernel {
public:
  BatchKernel(const TargetInfo &target, const KernelSignature &signature)
      : signature(signature), tile(target, signature),
        decoder(makeDecoder(signature.leaf, {target, signature.k, tile.lanes, true, signature.layout})) {}

  int64_t scratch() const {
    return tile.bufferBytes() + tile.tileBytes() + llvm::alignTo(decoder->scratchPerRow(), 64);
  }

  void emit(KernelBuilder &b, const KernelArguments &arguments) {
    args = &arguments;
    if (tile.paddedK == tile.blockK) {
      emitBlock(b, b.i64(0), tile.k, {});
      return;
    }
    int64_t whole = tile.k / tile.blockK * tile.blockK;
    b.loop(b.i64(0), b.i64(whole), b.i64(tile.blockK),
           [&](Value first) { emitBlock(b, first, tile.blockK, b.equal(first, b.i64(0))); });
    if (whole < tile.k)
      emitBlock(b, b.i64(whole), tile.k - whole, b.constant(b.i1(), 0));
  }

private:
  const KernelSignature &signature;
  Tile tile;
  std::unique_ptr<Decoder> decoder;
  const KernelArguments *args = nullptr;

  Type weightType(KernelBuilder &b) const { return tile.bf16 ? b.bf16() : b.f32(); }
  Value tileScratch(KernelBuilder &b) const { return b.offset(args->priv, tile.bufferBytes()); }

  /// Columns [firstK, firstK + columns) of all of this thread's weight rows.
  /// `isFirst` (null: the only block) tells whether y holds a partial sum.
  void emitBlock(KernelBuilder &b, Value firstK, int64_t columns, Value isFirst) {
    auto [first, last] = b.split(args->n, tile.weightRows, args->thread, args->threads);
    Value blocks = b.div(b.add(args->rows, tile.lanes - 1), tile.lanes);
    Value whole = b.mul(b.div(blocks, tile.vectors), tile.vectors);
    b.loop(first, last, b.i64(tile.weightRows), [&](Value n0) {
      decode(b, n0, firstK, columns);
      b.loop(b.i64(0), whole, b.i64(tile.vectors),
             [&](Value block) { emitTile(b, n0, block, firstK, columns, tile.vectors, isFirst); });
      b.loop(whole, blocks, b.i64(1), [&](Value block) { emitTile(b, n0, block, firstK, columns, 1, isFirst); });
    });
  }

  /// Weight rows from n0 on to the buffer; past the end, the last row again.
  void decode(KernelBuilder &b, Value n0, Value firstK, int64_t columns) {
    int64_t unit = tile.bf16 ? 2 * tile.lanes : tile.lanes;
    Value scratch = b.offset(tileScratch(b), tile.tileBytes());
    b.loop(b.i64(0), b.i64(tile.weightRows), b.i64(1), [&](Value r) {
      Value index = b.min(b.add(n0, r), b.sub(args->n, b.i64(1)));
      Values row = decoder->beginRow(b, args->components, index, scratch);
      Value to = b.offset(args->priv, b.mul(r, tile.bufferStride()));
      auto step = [&](Value i, int64_t count, int64_t phase = -1) {
        Run run{b.add(firstK, i), count, phase};
        Value w = tile.bf16 ? decoder->weightsBF16(b, row, run) : decoder->weights(b, row, run);
        b.store(w, b.element(to, i, weightType(b)));
      };
      // Blocks of the layout, then rows of codes; a block of columns of the kernel holds whole ones.
      int64_t block = decoder->block(), blocks = block ? columns / block * block : 0;
      if (blocks)
        b.loop(b.i64(0), b.i64(blocks), b.i64(block), [&](Value i) {
          for (int64_t phase = 0; phase < block; phase += unit)
            step(b.add(i, phase), unit, phase);
        });
      int64_t whole = columns / unit * unit;
      b.loop(b.i64(blocks), b.i64(whole), b.i64(unit), [&](Value i) { step(i, unit); });
      if (whole < columns)
        step(b.i64(whole), columns - whole);
    });
  }

  void emitTile(KernelBuilder &b, Value n0, Value block, Value firstK, int64_t columns, int64_t vectors,
                Value isFirst) {
    int64_t depth = tile.bf16 ? 2 : 1;                                              // columns that one step takes
    int64_t steps = llvm::alignTo(columns, depth * tile.lanes) / depth, unroll = 4; // x is zero beyond
    SmallVector<Value> x;
    for (int64_t v = 0; v < vectors; ++v)
      x.push_back(b.offset(b.offset(args->x, b.mul(b.add(block, v), tile.packedBytes())),
                           b.mul(firstK, tile.lanes * tile.bytes)));
    Values zeros(tile.weightRows * vectors, b.constant(b.vec(tile.lanes, b.f32()), 0));
    Values sums = b.loop(b.i64(0), b.i64(steps), b.i64(unroll), zeros, [&](Value i, ValueRange carried) {
      Values next(carried);
      for (int64_t u = 0; u < unroll; ++u) {
        Value step = b.add(i, u);
        Values xs;
        for (int64_t v = 0; v < vectors; ++v)
          xs.push_back(
              b.load(b.vec(depth * tile.lanes, weightType(b)), b.offset(x[v], b.mul(step, tile.lanes * 4)), 64));
        for (int64_t r = 0; r < tile.weightRows; ++r) {
          Value from = b.offset(b.offset(args->priv, r * tile.bufferStride()), b.mul(step, 4));
          Value w = b.splat(b.load(tile.bf16 ? b.i32() : b.f32(), from), tile.lanes);
          if (tile.bf16)
            w = b.bitcast(w, b.vec(2 * tile.lanes, b.bf16()));
          for (int64_t v = 0; v < vectors; ++v) {
            Value &sum = next[r * vectors + v];
            sum = tile.bf16 ? b.dotBF16(w, xs[v], sum) : b.fma(w, xs[v], sum);
          }
        }
      }
      return next;
    });
    transposeTile(b, sums, vectors);
    storeTile(b, n0, b.mul(block, tile.lanes), vectors, isFirst);
  }

  /// Sums [weight row][vector of x rows] to scratch as [x row][weight row].
  void transposeTile(KernelBuilder &b, ArrayRef<Value> sums, int64_t vectors) {
    int64_t side = tile.weightRows;
    for (int64_t v = 0; v < vectors; ++v)
      for (int64_t part = 0; part < tile.lanes; part += side) {
        Values square;
        for (int64_t r = 0; r < side; ++r) {
          Value sum = sums[r * vectors + v];
          square.push_back(b.shuffle(sum, sum, llvm::to_vector(llvm::seq<int64_t>(part, part + side))));
        }
        for (auto [i, row] : llvm::enumerate(b.transpose(square)))
          b.store(row, b.offset(tileScratch(b), (v * tile.lanes + part + static_cast<int64_t>(i)) * side * 4));
      }
  }

  void storeTile(KernelBuilder &b, Value n0, Value m0, int64_t vectors, Value isFirst) {
    Value rows = b.min(b.sub(args->rows, m0), b.i64(vectors * tile.lanes));
    Value wide = b.lessEqual(b.add(n0, tile.weightRows), args->n);
    auto eachByItself = [&] {
      Value count = b.min(b.sub(args->n, n0), b.i64(tile.weightRows));
      b.loop(b.i64(0), rows, b.i64(1), [&](Value m) {
        b.loop(b.i64(0), count, b.i64(1), [&](Value r) {
          Value at = b.element(tileScratch(b), b.add(b.mul(m, tile.weightRows), r), b.f32());
          storeResult(b, signature, *args, b.add(n0, r), b.add(m0, m), b.load(b.f32(), at), isFirst);
        });
      });
    };
    if (signature.permutation)
      return eachByItself();
    b.ifElse(
        wide,
        [&] {
          VectorType type = b.vec(tile.weightRows, b.f32());
          b.loop(b.i64(0), rows, b.i64(1), [&](Value m) {
            Value value = b.load(type, b.element(tileScratch(b), b.mul(m, tile.weightRows), b.f32()));
            storeVector(b, signature, *args, n0, b.add(m0, m), value, isFirst);
          });
        },
        eachByItself);
  }
};
} // namespace

bool skim::canBatch(const TargetInfo &target, const KernelSignature &signature, int64_t n) {
  Tile tile(target, signature);
  int64_t elements = tile.weightRows * tile.blockK;
  return tile.bufferBytes() <= kMaxDecodeBytes && elements <= n * signature.k / 8;
}

void skim::emitBatchKernel(KernelBuilder &b, const TargetInfo &target, const KernelSignature &signature,
                           const KernelArguments &arguments) {
  BatchKernel(target, signature).emit(b, arguments);
}

void skim::noteDecodeBuffer(func::FuncOp function, const TargetInfo &target, const KernelSignature &signature) {
  Tile tile(target, signature);
  OpBuilder builder(function);
  function->setAttr(kDecodeBufferAttr,
                    builder.getDictionaryAttr(
                        {builder.getNamedAttr("bytes", builder.getI64IntegerAttr(tile.bufferBytes())),
                         builder.getNamedAttr("elements", builder.getI64IntegerAttr(tile.weightRows * tile.blockK)),
                         builder.getNamedAttr("columns", builder.getI64IntegerAttr(tile.k))}));
}

int64_t skim::batchScratch(const TargetInfo &target, const KernelSignature &signature) {
  return BatchKernel(target, signature).scratch();
}

int64_t skim::packedBytesPerRow(const TargetInfo &target, const KernelSignature &signature) {
  Tile tile(target, signature);
  return tile.paddedK * tile.bytes;
}

void skim::emitPack(KernelBuilder &b, const TargetInfo &target, const KernelSignature &signature,
                    const KernelArguments &arguments) {
  Tile tile(target, signature);
  int64_t lanes = tile.lanes, perBlock = tile.paddedK / lanes, k = signature.k;
  Value blocks = b.div(b.add(arguments.rows, lanes - 1), lanes);
  auto [first, last] = b.split(b.mul(blocks, perBlock), 1, arguments.thread, arguments.threads);
  Value lastRow = b.sub(arguments.rows, b.i64(1));
  b.loop(first, last, b.i64(1), [&](Value item) {
    Value block = b.div(item, perBlock), column = b.mul(b.rem(item, perBlock), lanes);
    Value to = b.offset(b.offset(arguments.y, b.mul(block, tile.packedBytes())), b.mul(column, lanes * tile.bytes));
    auto square = [&](int64_t count) {
      Value alpha;
      if (arguments.alpha)
        alpha = b.toF32(b.loadFirst(b.vec(lanes, b.f16()), b.element(arguments.alpha, column, b.f16()), count));
      Values rows;
      for (int64_t r = 0; r < lanes; ++r) {
        // Past the end: the last row again; nothing is stored of it.
        Value row = b.min(b.add(b.mul(block, lanes), r), lastRow);
        Value from = b.element(arguments.x, b.add(b.mul(row, k), column), b.f32());
        Value x = count ? b.loadFirst(b.vec(lanes, b.f32()), from, count) : b.constant(b.vec(lanes, b.f32()), 0);
        rows.push_back(alpha ? b.mul(x, alpha) : x);
      }
      Values columns = b.transpose(rows);
      if (!tile.bf16) {
        for (auto [i, values] : llvm::enumerate(columns))
          b.store(values, b.offset(to, static_cast<int64_t>(i) * lanes * 4));
        return;
      }
      SmallVector<int64_t> pairs;
      for (int64_t i = 0; i < lanes; ++i)
        pairs.append({i, lanes + i});
      for (int64_t i = 0; i < lanes; i += 2) {
        Value both = b.roundTo(b.concat(columns[i], columns[i + 1]), b.bf16());
        both = b.bitcast(both, b.vec(2 * lanes, b.i16()));
        b.store(b.shuffle(both, both, pairs), b.offset(to, i / 2 * lanes * 4));
      }
    };
    int64_t whole = k / lanes * lanes;
    if (whole == tile.paddedK)
      return square(lanes);
    b.ifElse(
        b.less(column, b.i64(whole)), [&] { square(lanes); },
        [&] {
          if (tile.paddedK - whole == lanes)
            return square(k - whole);
          b.ifElse(b.equal(column, b.i64(whole)), [&] { square(k - whole); }, [&] { square(0); });
        });
  });
}
