//===- Linear.cpp - kernels of linear layers on CPUs ------------------------===//

#include "skim/Target/CPU/Linear.h"

#include "skim/Target/Common/KernelBuilder.h"

using namespace mlir;
using namespace skim;

LinearScratch skim::linearScratch(const TargetInfo &target, const LinearCall &call) { return {}; }

static Value dot(KernelBuilder &k, int64_t lanes, int64_t count, Type type, Value w, Value x) {
  Value zero = k.constant(k.vec(lanes, k.f32()), 0);
  int64_t whole = count / lanes * lanes;
  auto step = [&](Value i, Value sum, Value valid) -> Value {
    Value wi = k.element(w, i, type), xi = k.element(x, i, k.f32());
    if (!valid)
      return k.fma(k.toF32(k.load(k.vec(lanes, type), wi)), k.load(k.vec(lanes, k.f32()), xi), sum);
    return k.fma(k.toF32(k.loadFirst(k.vec(lanes, type), wi, valid)), k.loadFirst(k.vec(lanes, k.f32()), xi, valid),
                 sum);
  };
  Value sum = k.loop(k.i64(0), k.i64(whole), k.i64(lanes), zero,
                     [&](Value i, ValueRange carried) { return KernelBuilder::Values{step(i, carried[0], {})}; })[0];
  if (whole < count)
    sum = step(k.i64(whole), sum, k.i64(count - whole));
  return k.sum(sum);
}

Error skim::emitLinear(OpBuilder &builder, Location loc, ModuleOp module, const TargetInfo &target,
                       const LinearCall &call, const KernelValues &values) {
  KernelBuilder k(builder, loc);
  for (const LinearPanel &panel : call.panels) {
    auto dense = dyn_cast<DenseAttr>(panel.term);
    if (!dense)
      return fail("no kernel", panel.term.getShortName(), "a dense weight", "");
    std::string name = "linear_" + panel.term.getShortName() + "_k" + std::to_string(call.k) +
                       (call.epilogue == LinearEpilogue::Add ? "_add" : "") + (panel.biasWeight >= 0 ? "_bias" : "");
    {
      OpBuilder::InsertionGuard guard(builder);
      Type p = k.ptr();
      if (KernelBuilder::beginFunction(builder, module, loc, name,
                                       {p, p, k.i64(), k.i64(), p, p, k.i64(), k.i32(), k.i32()})) {
        auto args = builder.getInsertionBlock()->getArguments();
        Value x = args[0], y = args[1], stride = args[2], rows = args[3], w = args[4], bias = args[5], n = args[6];
        auto [first, last] = k.split(n, 4, args[7], args[8]);
        k.loop(first, last, k.i64(1), [&](Value i) {
          Value row = k.element(w, k.mul(i, call.k), dense.getType());
          k.loop(k.i64(0), rows, k.i64(1), [&](Value m) {
            Value value =
                dot(k, target.f32Lanes(), call.k, dense.getType(), row, k.element(x, k.mul(m, call.k), k.f32()));
            if (panel.biasWeight >= 0)
              value = k.add(value, k.load(k.f32(), k.element(bias, i, k.f32())));
            Value at = k.element(y, k.add(k.mul(m, stride), i), k.f32());
            if (call.epilogue == LinearEpilogue::Add)
              value = k.add(k.load(k.f32(), at), value);
            k.store(value, at);
          });
        });
      }
    }
    Value w = k.weight(values.args, panel.weights[0]);
    Value bias = panel.biasWeight >= 0 ? k.weight(values.args, panel.biasWeight) : w;
    Value y = k.offset(values.y, panel.yColumn * 4);
    func::CallOp::create(
        builder, loc, name, TypeRange(),
        ValueRange{values.x, y, values.yStride, values.rows, w, bias, k.i64(panel.n), values.thread, values.threads});
  }
  return Error::success();
}

Error skim::emitEmbed(OpBuilder &builder, Location loc, ModuleOp module, const TargetInfo &target, WeightEncoding term,
                      int64_t vocabulary, int64_t channels, ArrayRef<int64_t> weights, Value tokens, Value y,
                      Value rows, Value args, Value thread, Value threads) {
  auto dense = dyn_cast<DenseAttr>(term);
  if (!dense)
    return fail("no kernel", term.getShortName(), "a dense weight", "");
  KernelBuilder k(builder, loc);
  Value w = k.weight(args, weights[0]);
  int64_t lanes = target.f32Lanes();
  auto [first, last] = k.split(rows, 1, thread, threads);
  k.loop(first, last, k.i64(1), [&](Value r) {
    Value token = k.toI64(k.load(k.i32(), k.element(tokens, r, k.i32())));
    Value from = k.element(w, k.mul(token, channels), dense.getType());
    Value to = k.element(y, k.mul(r, channels), k.f32());
    auto vector = k.vec(lanes, dense.getType());
    k.loop(k.i64(0), k.i64(channels), k.i64(lanes), [&](Value i) {
      Value left = k.sub(k.i64(channels), i);
      k.storeFirst(k.toF32(k.loadFirst(vector, k.element(from, i, dense.getType()), left)), k.element(to, i, k.f32()),
                   left);
    });
  });
  return Error::success();
}
