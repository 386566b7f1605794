//===- RowKernels.cpp - norms, elementwise expressions, rows gathered -------===//

#include "Kernels.h"
#include "skim/Target/Common/ModelValues.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace skim::step {

void emitRmsNorm(Emitter &e, const StepValues &s, const RmsNorm &spec, Rows x, Rows y, Val weight, Val rows) {
  std::string name = ("rms_norm_c" + Twine(spec.channels) + "_h" + Twine(spec.heads) + "_e" +
                      spellNumber(spec.epsilon) + "_o" + spellNumber(spec.offset))
                         .str();
  Type p = e.ptrType(), i = e.i64Type(), t = e.i32Type();
  int64_t size = spec.channels / spec.heads;
  func::FuncOp function = e.function(s.module, name, {p, i, p, i, p, i, t, t}, [&](Emitter &k, ArrayRef<Val> a) {
    Val w = a[4];
    // Rows × heads: one row alone still occupies several threads where it has heads.
    auto [from, to] = k.split(a[5] * k.i64(spec.heads), a[6], a[7]);
    k.loop(from, to, [&](Val unit) {
      Val row = unit / k.i64(spec.heads), first = unit % k.i64(spec.heads) * k.i64(size);
      Val in = k.at(a[0], row * a[1] + first), out = k.at(a[2], row * a[3] + first);
      // Four sums, so that additions overlap.
      constexpr int64_t unroll = 4;
      int64_t step = unroll * k.lanes, whole = size - size % step;
      Val zero = k.constant(VectorType::get(k.lanes, k.f32Type()), 0);
      SmallVector<Val> sums(unroll, zero);
      if (whole)
        sums = k.loop(k.i64(0), k.i64(whole), step, sums, [&](Val c, ArrayRef<Val> carried) {
          SmallVector<Val> next;
          for (int64_t u = 0; u < unroll; ++u) {
            Val v = k.loadVector(k.at(in, c + k.i64(u * k.lanes)), k.lanes);
            next.push_back(v * v + carried[u]);
          }
          return next;
        });
      Val sum = k.reduceAdd((sums[0] + sums[1]) + (sums[2] + sums[3]));
      for (auto [piece, width] : Emitter::pieces(size - whole, k.lanes)) {
        Val v = k.loadVector(k.at(in, k.i64(whole + piece)), width);
        sum = sum + k.reduceAdd(v * v);
      }
      Val factor = k.f32(1) / k.sqrt(sum * (1.0 / static_cast<double>(size)) + spec.epsilon);
      k.overChannels(size, [&](Val c, int64_t width) {
        Val scale = k.loadVector(k.at(w, c), width);
        if (spec.offset != 0)
          scale = scale + spec.offset;
        k.store(k.loadVector(k.at(in, c), width) * factor * scale, k.at(out, c));
      });
    });
  });
  e.call(function, {x.pointer, x.stride, y.pointer, y.stride, weight, rows, s.thread, s.threads});
}

//===--- elementwise ---===//

using Apply = Val (*)(Emitter &, ArrayRef<Val>);

template <typename OpTy> static Val upstream(Emitter &e, ArrayRef<Val> x) {
  return e.wrap(OpTy::create(e.builder, e.loc, x[0].value));
}

/// Every elementwise operation with its code.
static const llvm::StringMap<Apply> &operations() {
  static const llvm::StringMap<Apply> table = {
      {"arith.addf", [](Emitter &, ArrayRef<Val> x) { return x[0] + x[1]; }},
      {"arith.subf", [](Emitter &, ArrayRef<Val> x) { return x[0] - x[1]; }},
      {"arith.mulf", [](Emitter &, ArrayRef<Val> x) { return x[0] * x[1]; }},
      {"arith.divf", [](Emitter &, ArrayRef<Val> x) { return x[0] / x[1]; }},
      {"arith.negf", [](Emitter &, ArrayRef<Val> x) { return -x[0]; }},
      {"arith.maximumf", [](Emitter &e, ArrayRef<Val> x) { return e.max(x[0], x[1]); }},
      {"arith.minimumf", [](Emitter &e, ArrayRef<Val> x) { return e.min(x[0], x[1]); }},
      {"lm.silu", [](Emitter &e, ArrayRef<Val> x) { return x[0] / (e.exp(-x[0]) + 1.0); }},
      {"math.exp", [](Emitter &e, ArrayRef<Val> x) { return e.exp(x[0]); }},
      {"math.tanh", [](Emitter &e, ArrayRef<Val> x) { return e.tanh(x[0]); }},
      {"math.sqrt", upstream<math::SqrtOp>},
      {"math.rsqrt", [](Emitter &e, ArrayRef<Val> x) { return constantLike(x[0], 1) / e.sqrt(x[0]); }},
      {"math.absf", upstream<math::AbsFOp>},
  };
  return table;
}

bool isElementwise(StringRef operation) { return operations().contains(operation); }

static Val evaluate(Emitter &e, const Expression &expression, ArrayRef<Val> inputs, Type type) {
  if (expression.kind == Expression::Input)
    return inputs[expression.input];
  if (expression.kind == Expression::Constant)
    return e.constant(type, expression.constant);
  SmallVector<Val> operands;
  for (const Expression &operand : expression.operands)
    operands.push_back(evaluate(e, operand, inputs, type));
  return operations().lookup(expression.operation)(e, operands);
}

void emitElementwise(Emitter &e, const StepValues &s, const Expression &expression, int64_t channels,
                     ArrayRef<Rows> inputs, Rows y, Val rows) {
  std::string name = "map_c" + std::to_string(channels) + "_" + expression.spell();
  Type p = e.ptrType(), i = e.i64Type(), t = e.i32Type();
  SmallVector<Type> types;
  SmallVector<Val> arguments;
  for (Rows input : inputs) {
    types.append({p, i});
    arguments.append({input.pointer, input.stride});
  }
  types.append({p, i, i, t, t});
  arguments.append({y.pointer, y.stride, rows, s.thread, s.threads});
  // A row is cut into blocks, so that one row still occupies several threads.
  int64_t block = std::min<int64_t>(channels, 16 * e.lanes);
  int64_t wholeBlocks = channels / block, rest = channels % block;
  func::FuncOp function = e.function(s.module, name, types, [&](Emitter &k, ArrayRef<Val> a) {
    size_t n = inputs.size();
    Val out = a[2 * n], outStride = a[2 * n + 1], rowCount = a[2 * n + 2];
    auto compute = [&](Val row, Val first, int64_t width) {
      k.overChannels(width, [&](Val c, int64_t lanes) {
        SmallVector<Val> values;
        for (size_t input = 0; input < n; ++input)
          values.push_back(k.loadVector(k.at(a[2 * input], row * a[2 * input + 1] + first + c), lanes));
        Val result = evaluate(k, expression, values, VectorType::get(lanes, k.f32Type()));
        k.store(result, k.at(out, row * outStride + first + c));
      });
    };
    auto [from, to] = k.split(rowCount * k.i64(wholeBlocks), a[2 * n + 3], a[2 * n + 4]);
    k.loop(from, to,
           [&](Val unit) { compute(unit / k.i64(wholeBlocks), unit % k.i64(wholeBlocks) * k.i64(block), block); });
    if (rest) {
      auto [first, last] = k.split(rowCount, a[2 * n + 3], a[2 * n + 4]);
      k.loop(first, last, [&](Val row) { compute(row, k.i64(wholeBlocks * block), rest); });
    }
  });
  e.call(function, arguments);
}

void emitGatherRows(Emitter &e, const StepValues &s, int64_t channels, Rows x, Rows y) {
  Type p = e.ptrType(), i = e.i64Type(), t = e.i32Type();
  func::FuncOp function = e.function(
      s.module, "gather_rows_c" + std::to_string(channels), {p, i, p, i, p, i, t, t}, [&](Emitter &k, ArrayRef<Val> a) {
        auto [from, to] = k.split(a[5], a[6], a[7]);
        k.loop(from, to, [&](Val row) {
          Val source = k.at(a[0], k.toI64(k.loadI32(k.at(a[4], row))) * a[1]), target = k.at(a[2], row * a[3]);
          k.overChannels(channels,
                         [&](Val c, int64_t width) { k.store(k.loadVector(k.at(source, c), width), k.at(target, c)); });
        });
      });
  e.call(function, {x.pointer, x.stride, y.pointer, y.stride, s.wantedRows, s.numRows, s.thread, s.threads});
}

} // namespace skim::step
