//===- Small.cpp - one token, or a few --------------------------------------===//

#include "Schedules.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace skim;

using Values = KernelBuilder::Values;

namespace {
/// Rows of x that one decoded vector serves, and rows of the weight at once.
constexpr int64_t kMaxX = 4, kRowsForOne = 4, kRowsForMany = 2;

class SmallKernel {
public:
  SmallKernel(const TargetInfo &target, const KernelSignature &signature)
      : signature(signature), lanes(decodeLanes(target)), bf16(signature.bf16), k(signature.k),
        decoder(makeDecoder(signature.leaf, {target, signature.k, lanes, true, signature.layout})),
        unit(bf16 ? 2 * lanes : lanes), block(decoder->block()), group(std::min(decoder->group(), k)),
        // Scales are applied to sums over a group where that has whole vectors, else to each value.
        bySums(group > 0 && (group == k || group % unit == 0)), sums(bySums && decoder->hasZeros()),
        paddedK(llvm::alignTo(k, unit)), xBytes(llvm::alignTo(paddedK * (bf16 ? 2 : 4), 64)),
        sumBytes(sums ? llvm::alignTo(llvm::alignTo(decoder->groups(), lanes) * 4, 64) : 0) {}

  int64_t scratch() const {
    return kMaxX * (xBytes + sumBytes) + llvm::alignTo(kRowsForOne * decoder->scratchPerRow(), 64);
  }

  void emit(KernelBuilder &b, const KernelArguments &arguments) {
    args = &arguments;
    b.ifElse(
        b.equal(arguments.rows, b.i64(1)),
        [&] {
          copyRow(b, b.i64(0), 0);
          emitRows(b, b.i64(0), kRowsForOne, 1);
        },
        [&] {
          b.loop(b.i64(0), arguments.rows, b.i64(kMaxX), [&](Value first) {
            for (int64_t m = 0; m < kMaxX; ++m)
              copyRow(b, b.min(b.add(first, m), b.sub(arguments.rows, b.i64(1))), m);
            emitRows(b, first, kRowsForMany, kMaxX);
          });
        });
  }

private:
  const KernelSignature &signature;
  int64_t lanes;
  bool bf16;
  int64_t k;
  std::unique_ptr<Decoder> decoder;
  int64_t unit, block, group;
  bool bySums, sums;
  int64_t paddedK, xBytes, sumBytes;
  const KernelArguments *args = nullptr;

  Type xType(KernelBuilder &b) const { return bf16 ? b.bf16() : b.f32(); }
  Value xCopy(KernelBuilder &b, int64_t slot) const { return b.offset(args->priv, slot * (xBytes + sumBytes)); }
  Value xSums(KernelBuilder &b, int64_t slot) const { return b.offset(xCopy(b, slot), xBytes); }

  /// x's row `row` to `slot`, scaled and rounded, with zeros to a whole vector;
  /// then its sums over groups, of the values as they were rounded.
  void copyRow(KernelBuilder &b, Value row, int64_t slot) {
    Value from = b.element(args->x, b.mul(row, k), b.f32()), to = xCopy(b, slot);
    auto step = [&](Value i, int64_t count) {
      Value x = b.loadFirst(b.vec(lanes, b.f32()), b.element(from, i, b.f32()), count);
      if (args->alpha)
        x = b.mul(x, b.toF32(b.loadFirst(b.vec(lanes, b.f16()), b.element(args->alpha, i, b.f16()), count)));
      b.store(b.roundTo(x, xType(b)), b.element(to, i, xType(b)));
    };
    int64_t whole = k / lanes * lanes;
    b.loop(b.i64(0), b.i64(whole), b.i64(lanes), [&](Value i) { step(i, lanes); });
    if (whole < k)
      step(b.i64(whole), k - whole);
    for (int64_t rest = llvm::alignTo(k, lanes); rest < paddedK; rest += lanes)
      b.store(b.constant(b.vec(lanes, xType(b)), 0), b.element(to, b.i64(rest), xType(b)));
    if (!sums)
      return;
    auto sumOf = [&](Value g, int64_t columns) {
      Value begin = b.element(to, b.mul(g, group), xType(b));
      Value sum = b.loop(b.i64(0), b.i64(llvm::alignTo(columns, lanes)), b.i64(lanes),
                         b.constant(b.vec(lanes, b.f32()), 0), [&](Value i, ValueRange carried) {
                           Value x = b.load(b.vec(lanes, xType(b)), b.element(begin, i, xType(b)));
                           return Values{b.add(carried[0], b.toF32(x))};
                         })[0];
      b.store(b.sum(sum), b.element(xSums(b, slot), g, b.f32()));
    };
    b.loop(b.i64(0), b.i64(k / group), b.i64(1), [&](Value g) { sumOf(g, group); });
    if (k % group)
      sumOf(b.i64(k / group), k % group);
  }

  /// This thread's rows of the weight times `xs` copied rows of x, the first of
  /// which is row `firstX`.
  void emitRows(KernelBuilder &b, Value firstX, int64_t rows, int64_t xs) {
    auto [first, last] = b.split(args->n, kRowsForOne, args->thread, args->threads);
    Value end = last;
    b.loop(first, last, b.i64(rows), [&](Value block) {
      SmallVector<Value> indices;
      SmallVector<Values> states;
      for (int64_t r = 0; r < rows; ++r) {
        // Past the end: the last row again; its result is not stored.
        indices.push_back(r ? b.min(b.add(block, r), b.sub(end, b.i64(1))) : block);
        Value scratch = b.offset(args->priv, kMaxX * (xBytes + sumBytes) + r * decoder->scratchPerRow());
        states.push_back(decoder->beginRow(b, args->components, indices[r], scratch));
      }
      Values totals = dot(b, states, xs);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t m = 0; m < xs; ++m) {
          Value result = finish(b, states[r], totals[r * xs + m], m);
          Value inside = b.less(b.add(block, r), end);
          Value xRow = b.add(firstX, m);
          if (xs > 1)
            inside = b.bitAnd(inside, b.less(xRow, args->rows));
          auto store = [&] { storeResult(b, signature, *args, indices[r], xRow, result); };
          if (r || xs > 1)
            b.when(inside, store);
          else
            store();
        }
    });
  }

  /// Scale and zero point of a whole row, correction of zero points by groups, and the sum of the lanes.
  Value finish(KernelBuilder &b, const Values &row, Value total, int64_t slot) {
    if (sums && group == k) {
      Value x = b.load(b.f32(), xSums(b, slot));
      Value zero = b.extract(decoder->zeros(b, row, b.i64(0), 1, true), 0);
      return b.mul(b.sub(b.sum(total), b.mul(zero, x)), decoder->scale(b, row, b.i64(0)));
    }
    if (sums) {
      auto step = [&](Value g, int64_t count, Value sum) {
        Value x = b.loadFirst(b.vec(lanes, b.f32()), b.element(xSums(b, slot), g, b.f32()), count);
        Value product = b.mul(decoder->scales(b, row, g, count), decoder->zeros(b, row, g, count, true));
        return b.sub(sum, b.mul(product, x));
      };
      int64_t groups = decoder->groups(), whole = groups / lanes * lanes;
      total = b.loop(b.i64(0), b.i64(whole), b.i64(lanes), total,
                     [&](Value g, ValueRange carried) { return Values{step(g, lanes, carried[0])}; })[0];
      if (whole < groups)
        total = step(b.i64(whole), groups - whole, total);
    }
    Value sum = b.sum(total);
    if (bySums && group == k)
      sum = b.mul(sum, decoder->scale(b, row, b.i64(0)));
    return sum;
  }

  /// Σ_k w[r, k]·x[m, k] by lanes, but for what `finish` does: index r·xs + m.
  Values dot(KernelBuilder &b, ArrayRef<Values> states, int64_t xs) {
    Values zeros(states.size() * xs, b.constant(b.vec(lanes, b.f32()), 0));
    if (!bySums || group == k)
      return span(b, states, xs, b.i64(0), k, zeros);
    auto groupSum = [&](Value g, int64_t columns, ValueRange totals) {
      Values part = span(b, states, xs, b.mul(g, group), columns, zeros);
      Values next;
      for (size_t r = 0; r < states.size(); ++r) {
        Value scale = b.splat(decoder->scale(b, states[r], g), lanes);
        for (int64_t m = 0; m < xs; ++m)
          next.push_back(b.fma(scale, part[r * xs + m], totals[r * xs + m]));
      }
      return next;
    };
    Values totals = b.loop(b.i64(0), b.i64(k / group), b.i64(1), zeros,
                           [&](Value g, ValueRange carried) { return groupSum(g, group, carried); });
    if (k % group)
      totals = groupSum(b.i64(k / group), k % group, totals);
    return totals;
  }

  /// Adds columns [first, first + columns) to `sums`; first is a multiple of the
  /// unit, and of the layout's block where there is one.
  Values span(KernelBuilder &b, ArrayRef<Values> states, int64_t xs, Value first, int64_t columns, ValueRange initial) {
    int64_t blocks = block ? columns / block * block : 0;
    if (!blocks)
      return spanOfRows(b, states, xs, first, columns, initial);
    // Where a code lies in its block is known here, so a whole block is unrolled.
    Values result = b.loop(b.i64(0), b.i64(blocks), b.i64(block), initial, [&](Value i, ValueRange carried) {
      Value from = b.add(first, i);
      prefetchRows(b, states, from, block);
      Values next(carried);
      for (int64_t phase = 0; phase < block; phase += unit)
        next = accumulate(b, states, xs, {b.add(from, phase), unit, phase}, next);
      return next;
    });
    if (blocks == columns)
      return result;
    return spanOfRows(b, states, xs, b.add(first, blocks), columns - blocks, result);
  }

  /// The same for codes in rows.
  Values spanOfRows(KernelBuilder &b, ArrayRef<Values> states, int64_t xs, Value first, int64_t columns,
                    ValueRange initial) {
    int64_t unroll = columns / unit <= 8 ? std::max<int64_t>(columns / unit, 1) : 4;
    int64_t chunk = unroll * unit, whole = columns / chunk * chunk;
    auto units = [&](Value from, int64_t count, Values carried) {
      prefetchRows(b, states, from, count);
      for (int64_t i = 0; i < count; i += unit)
        carried = accumulate(b, states, xs, {b.add(from, i), std::min(unit, count - i)}, carried);
      return carried;
    };
    Values result(initial);
    if (whole > chunk)
      result = b.loop(b.i64(0), b.i64(whole), b.i64(chunk), initial,
                      [&](Value i, ValueRange carried) { return units(b.add(first, i), chunk, Values(carried)); });
    else if (whole)
      result = units(first, chunk, result);
    if (whole < columns)
      result = units(b.add(first, whole), columns - whole, result);
    return result;
  }

  Values accumulate(KernelBuilder &b, ArrayRef<Values> states, int64_t xs, const Run &run, ArrayRef<Value> carried) {
    Values xValues, next;
    for (int64_t m = 0; m < xs; ++m)
      xValues.push_back(b.load(b.vec(unit, xType(b)), b.element(xCopy(b, m), run.first, xType(b))));
    for (auto [r, state] : llvm::enumerate(states)) {
      Value w = bf16 ? (bySums ? decoder->anyValuesBF16(b, state, run) : decoder->weightsBF16(b, state, run))
                     : (bySums ? decoder->values(b, state, run) : decoder->weights(b, state, run));
      for (int64_t m = 0; m < xs; ++m) {
        Value sum = carried[r * xs + m];
        next.push_back(bf16 ? b.dotBF16(w, xValues[m], sum) : b.fma(w, xValues[m], sum));
      }
    }
    return next;
  }

  /// The same columns of the rows that come next.
  void prefetchRows(KernelBuilder &b, ArrayRef<Values> states, Value first, int64_t columns) {
    int64_t bits = decoder->bitsPerColumn();
    int64_t ahead = static_cast<int64_t>(states.size()) * ((k * bits + 7) / 8);
    if (!bits)
      return;
    for (const Values &state : states)
      for (int64_t byte = 0; byte < columns * bits / 8; byte += 64)
        b.prefetch(b.offset(state[0], b.add(b.mul(b.div(first, 8), bits), ahead + byte)));
  }
};
} // namespace

void skim::emitSmallKernel(KernelBuilder &b, const TargetInfo &target, const KernelSignature &signature,
                           const KernelArguments &arguments) {
  SmallKernel(target, signature).emit(b, arguments);
}

int64_t skim::smallScratch(const TargetInfo &target, const KernelSignature &signature) {
  return SmallKernel(target, signature).scratch();
}
