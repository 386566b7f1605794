//===- RotaryKernels.cpp - rotary embedding and cache appends ---------------===//

#include "Kernels.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

namespace skim::step {

void emitRotaryTable(Emitter &e, const StepValues &s, int64_t columns, double scale, Val frequencies, Rows cos,
                     Rows sin) {
  Type p = e.ptrType(), i = e.i64Type(), t = e.i32Type();
  uint64_t scaleBits;
  std::memcpy(&scaleBits, &scale, sizeof(scaleBits));
  std::string name = "rotary_table_c" + std::to_string(columns) + "_s" + llvm::utohexstr(scaleBits);
  func::FuncOp function = e.function(s.module, name, {p, p, i, p, i, p, i, i, t, t}, [&](Emitter &k, ArrayRef<Val> a) {
    auto [from, to] = k.split(a[7], a[8], a[9]);
    k.loop(from, to, [&](Val row) {
      Val sequence = row / a[6], index = row % a[6];
      Val position = k.loadI32(k.at(a[5], sequence)) + k.toI32(index);
      Val angle = k.wrap(arith::SIToFPOp::create(k.builder, k.loc, k.f32Type(), position.value));
      for (auto [first, width] : Emitter::pieces(columns, std::max<int64_t>(k.lanes / 2, 1))) {
        // The product is rounded to f32, then everything is f64 until the end.
        Val product = k.loadVector(k.at(a[0], k.i64(first)), width) * angle;
        auto wide = VectorType::get(width, k.builder.getF64Type());
        auto narrow = VectorType::get(width, k.f32Type());
        auto [sine, cosine] = k.sincos(k.wrap(arith::ExtFOp::create(k.builder, k.loc, wide, product.value)));
        for (auto [value, base, stride] : {std::tuple(cosine, a[1], a[2]), std::tuple(sine, a[3], a[4])}) {
          Val rounded = k.wrap(arith::TruncFOp::create(k.builder, k.loc, narrow, value.value));
          k.store(scale == 1 ? rounded : rounded * scale, k.at(base, row * stride + k.i64(first)));
        }
      }
    });
  });
  e.call(function, {frequencies, cos.pointer, cos.stride, sin.pointer, sin.stride, s.start, s.length, s.rows, s.thread,
                    s.threads});
}

/// Rotates the head at `in` into `out`.
static void rotateHead(Emitter &k, const Rotary &spec, Val in, Val out, Val cos, Val sin) {
  for (auto [first, width] : Emitter::pieces(spec.columns, k.lanes)) {
    Val c = k.loadVector(k.at(cos, k.i64(first)), width), s = k.loadVector(k.at(sin, k.i64(first)), width);
    if (!spec.interleaved) {
      Val lower = k.i64(first), upper = k.i64(first + spec.columns);
      Val a = k.loadVector(k.at(in, lower), width), b = k.loadVector(k.at(in, upper), width);
      k.store(a * c - b * s, k.at(out, lower));
      k.store(b * c + a * s, k.at(out, upper));
      continue;
    }
    Val pairs = k.loadVector(k.at(in, k.i64(2 * first)), 2 * width);
    auto parts = vector::DeinterleaveOp::create(k.builder, k.loc, pairs.value);
    Val a = k.wrap(parts.getRes1()), b = k.wrap(parts.getRes2());
    Val joined = k.wrap(vector::InterleaveOp::create(k.builder, k.loc, (a * c - b * s).value, (b * c + a * s).value));
    k.store(joined, k.at(out, k.i64(2 * first)));
  }
  for (auto [first, width] : Emitter::pieces(spec.size - 2 * spec.columns, k.lanes)) {
    Val c = k.i64(2 * spec.columns + first);
    k.store(k.loadVector(k.at(in, c), width), k.at(out, c));
  }
}

static std::string spell(const Rotary &spec) {
  return "_h" + std::to_string(spec.heads) + "_d" + std::to_string(spec.size) + "_r" + std::to_string(spec.columns) +
         (spec.interleaved ? "_i" : "");
}

void emitRotary(Emitter &e, const StepValues &s, const Rotary &spec, Rows x, Rows cos, Rows sin, Rows y) {
  Type p = e.ptrType(), i = e.i64Type(), t = e.i32Type();
  func::FuncOp function =
      e.function(s.module, "rotary" + spell(spec), {p, i, p, i, p, i, p, i, i, t, t}, [&](Emitter &k, ArrayRef<Val> a) {
        auto [from, to] = k.split(a[8] * k.i64(spec.heads), a[9], a[10]);
        k.loop(from, to, [&](Val unit) {
          Val row = unit / k.i64(spec.heads), first = unit % k.i64(spec.heads) * k.i64(spec.size);
          rotateHead(k, spec, k.at(a[0], row * a[1] + first), k.at(a[6], row * a[7] + first), k.at(a[2], row * a[3]),
                     k.at(a[4], row * a[5]));
        });
      });
  e.call(function, {x.pointer, x.stride, cos.pointer, cos.stride, sin.pointer, sin.stride, y.pointer, y.stride, s.rows,
                    s.thread, s.threads});
}

/// The arguments of a kernel that writes a cache, after its own.
static SmallVector<Val> cacheArguments(Emitter &e, const StepValues &s, const CacheTensor &cache) {
  return {s.caches, s.capacity, e.i64(cache.prefix), s.start, s.count, s.length, s.rows, s.thread, s.threads};
}
static SmallVector<Type> cacheTypes(Emitter &e) {
  Type p = e.ptrType(), i = e.i64Type(), t = e.i32Type();
  return {p, p, i, p, p, i, i, t, t};
}

/// Calls `body(row, head, destination)` for this thread's valid (row, head);
/// `a` are cacheArguments.
static void overNewEntries(Emitter &k, ArrayRef<Val> a, int64_t heads, int64_t size,
                           llvm::function_ref<void(Val, Val, Val)> body) {
  auto [from, to] = k.split(a[6] * k.i64(heads), a[7], a[8]);
  k.loop(from, to, [&](Val unit) {
    Val row = unit / k.i64(heads), head = unit % k.i64(heads);
    Val sequence = row / a[5], index = row % a[5];
    k.ifThen(index < k.toI64(k.loadI32(k.at(a[4], sequence))), [&] {
      Val capacity = k.loadI64(k.at(a[1], sequence, 8));
      Val block = k.offset(k.loadPtr(k.at(a[0], sequence, 8)), capacity * a[2]);
      Val position = k.toI64(k.loadI32(k.at(a[3], sequence))) + index;
      body(row, head, k.at(block, (head * capacity + position) * k.i64(size)));
    });
  });
}

void emitRotaryAppend(Emitter &e, const StepValues &s, const Rotary &spec, Rows x, Rows cos, Rows sin,
                      const CacheTensor &cache) {
  Type p = e.ptrType(), i = e.i64Type();
  SmallVector<Type> types = {p, i, p, i, p, i};
  types.append(cacheTypes(e));
  SmallVector<Val> arguments = {x.pointer, x.stride, cos.pointer, cos.stride, sin.pointer, sin.stride};
  arguments.append(cacheArguments(e, s, cache));
  func::FuncOp function = e.function(s.module, "rotary_append" + spell(spec), types, [&](Emitter &k, ArrayRef<Val> a) {
    overNewEntries(k, a.drop_front(6), spec.heads, spec.size, [&](Val row, Val head, Val out) {
      rotateHead(k, spec, k.at(a[0], row * a[1] + head * k.i64(spec.size)), out, k.at(a[2], row * a[3]),
                 k.at(a[4], row * a[5]));
    });
  });
  e.call(function, arguments);
}

void emitCacheAppend(Emitter &e, const StepValues &s, Rows x, const CacheTensor &cache) {
  SmallVector<Type> types = {e.ptrType(), e.i64Type()};
  types.append(cacheTypes(e));
  SmallVector<Val> arguments = {x.pointer, x.stride};
  arguments.append(cacheArguments(e, s, cache));
  std::string name = "cache_append_h" + std::to_string(cache.heads) + "_d" + std::to_string(cache.size);
  func::FuncOp function = e.function(s.module, name, types, [&](Emitter &k, ArrayRef<Val> a) {
    overNewEntries(k, a.drop_front(2), cache.heads, cache.size, [&](Val row, Val head, Val out) {
      Val in = k.at(a[0], row * a[1] + head * k.i64(cache.size));
      k.overChannels(cache.size,
                     [&](Val c, int64_t width) { k.store(k.loadVector(k.at(in, c), width), k.at(out, c)); });
    });
  });
  e.call(function, arguments);
}

} // namespace skim::step
