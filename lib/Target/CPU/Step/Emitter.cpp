//===- Emitter.cpp - writes kernels of a step as expressions ----------------===//

#include "Emitter.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

namespace skim::step {

/// Products may be fused into sums; nothing may be reordered.
static arith::FastMathFlagsAttr contract(Emitter &e) {
  return arith::FastMathFlagsAttr::get(e.builder.getContext(), arith::FastMathFlags::contract);
}

static bool isFloat(Type type) { return isa<FloatType>(getElementTypeOrSelf(type)); }

/// Gives two operands one shape.
static void unify(Val &a, Val &b) {
  auto va = dyn_cast<VectorType>(a.type()), vb = dyn_cast<VectorType>(b.type());
  if (va && !vb)
    b = a.emitter->broadcast(b, va.getDimSize(0));
  else if (vb && !va)
    a = a.emitter->broadcast(a, vb.getDimSize(0));
}

template <typename IntOp, typename FloatOp> Val arithmetic(Val a, Val b) {
  unify(a, b);
  Emitter &e = *a.emitter;
  if (isFloat(a.type()))
    return e.wrap(FloatOp::create(e.builder, e.loc, a.value, b.value, contract(e)));
  return e.wrap(IntOp::create(e.builder, e.loc, a.value, b.value));
}

static Val compare(Val a, Val b, arith::CmpIPredicate ints, arith::CmpFPredicate floats) {
  unify(a, b);
  Emitter &e = *a.emitter;
  if (isFloat(a.type()))
    return e.wrap(arith::CmpFOp::create(e.builder, e.loc, floats, a, b));
  return e.wrap(arith::CmpIOp::create(e.builder, e.loc, ints, a, b));
}

Val operator+(Val a, Val b) { return arithmetic<arith::AddIOp, arith::AddFOp>(a, b); }
Val operator-(Val a, Val b) { return arithmetic<arith::SubIOp, arith::SubFOp>(a, b); }
Val operator*(Val a, Val b) { return arithmetic<arith::MulIOp, arith::MulFOp>(a, b); }
Val operator/(Val a, Val b) { return arithmetic<arith::DivSIOp, arith::DivFOp>(a, b); }
Val operator%(Val a, Val b) { return arithmetic<arith::RemSIOp, arith::RemFOp>(a, b); }
Val operator&(Val a, Val b) {
  unify(a, b);
  Emitter &e = *a.emitter;
  return e.wrap(arith::AndIOp::create(e.builder, e.loc, a.value, b.value));
}
Val operator<(Val a, Val b) { return compare(a, b, arith::CmpIPredicate::slt, arith::CmpFPredicate::OLT); }
Val operator<=(Val a, Val b) { return compare(a, b, arith::CmpIPredicate::sle, arith::CmpFPredicate::OLE); }
Val operator>(Val a, Val b) { return compare(a, b, arith::CmpIPredicate::sgt, arith::CmpFPredicate::OGT); }
Val operator>=(Val a, Val b) { return compare(a, b, arith::CmpIPredicate::sge, arith::CmpFPredicate::OGE); }
Val operator==(Val a, Val b) { return compare(a, b, arith::CmpIPredicate::eq, arith::CmpFPredicate::OEQ); }
Val operator!=(Val a, Val b) { return compare(a, b, arith::CmpIPredicate::ne, arith::CmpFPredicate::UNE); }
Val operator-(Val a) {
  Emitter &e = *a.emitter;
  return isFloat(a.type()) ? e.wrap(arith::NegFOp::create(e.builder, e.loc, a.value)) : constantLike(a, 0) - a;
}

Type Emitter::ptrType() { return kernel().ptr(); }

Val Emitter::constant(Type type, double value) { return wrap(kernel().constant(type, value)); }
Val Emitter::i64(int64_t value) { return wrap(kernel().i64(value)); }
Val Emitter::i32(int32_t value) { return wrap(kernel().i32(value)); }
Val Emitter::f32(double value) { return wrap(kernel().f32(value)); }
Val Emitter::f64(double value) { return constant(builder.getF64Type(), value); }
Val Emitter::iota(int64_t n) { return wrap(kernel().iota(n, i32Type())); }
Val Emitter::broadcast(Val scalar, int64_t n) { return wrap(kernel().splat(scalar, n)); }
Val Emitter::toI64(Val value) { return wrap(kernel().toI64(value)); }
Val Emitter::toI32(Val value) { return value.type() == i32Type() ? value : wrap(kernel().truncate(value, i32Type())); }

Val Emitter::offset(Val base, Val bytes) { return wrap(kernel().offset(base, bytes.value)); }
Val Emitter::at(Val base, Val index, int64_t bytes) { return offset(base, toI64(index) * i64(bytes)); }
Val Emitter::load(Type type, Val address) { return wrap(kernel().load(type, address)); }
void Emitter::store(Val value, Val address) { kernel().store(value, address); }

Val Emitter::select(Val condition, Val yes, Val no) {
  unify(yes, no);
  return wrap(kernel().select(condition, yes, no));
}
Val Emitter::min(Val a, Val b) {
  unify(a, b);
  return wrap(kernel().min(a, b));
}
Val Emitter::max(Val a, Val b) {
  unify(a, b);
  return wrap(kernel().max(a, b));
}
Val Emitter::sqrt(Val a) { return wrap(kernel().sqrt(a)); }

Val Emitter::reduceAdd(Val vector) {
  // `reassoc` permits a tree; LLVM chooses it by the width alone.
  arith::FastMathFlags flags = isFloat(vector.type()) ? arith::FastMathFlags::reassoc : arith::FastMathFlags::none;
  return wrap(vector::ReductionOp::create(builder, loc, vector::CombiningKind::ADD, vector.value, flags));
}
Val Emitter::reduceMax(Val vector) { return wrap(kernel().maxAcross(vector)); }

/// `type` with another element type.
static Type withElement(Type type, Type element) {
  if (auto vector = dyn_cast<VectorType>(type))
    return VectorType::get(vector.getShape(), element);
  return element;
}

Val Emitter::exp(Val x) {
  Type ints = withElement(x.type(), i32Type());
  Val clamped = max(min(x, constantLike(x, 88.3)), constantLike(x, -87.33));
  // Round to the nearest integer by adding 1.5 * 2^23; its low bits are the integer.
  Val shifted = clamped * 1.44269504088896341 + 12582912.0;
  Val n = shifted - 12582912.0;
  Val r = clamped - n * 0.693359375;
  r = r + n * 2.12194440e-4;
  Val p = constantLike(x, 1.9875691500e-4);
  for (double c : {1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1})
    p = p * r + c;
  p = p * (r * r) + r + 1.0;
  Val bits = wrap(arith::BitcastOp::create(builder, loc, ints, shifted.value));
  Val exponent = bits - constant(ints, 0x4B400000 - 127);
  Val power = wrap(arith::ShLIOp::create(builder, loc, exponent.value, constant(ints, 23).value));
  Val y = p * wrap(arith::BitcastOp::create(builder, loc, x.type(), power.value));
  return select(x < -87.33, constantLike(x, 0), y);
}

Val Emitter::tanh(Val x) { return constantLike(x, 1) - constantLike(x, 2) / (exp(x * 2.0) + 1.0); }

std::pair<Val, Val> Emitter::sincos(Val x) {
  Type ints = withElement(x.type(), i64Type());
  const double magic = 6755399441055744.0; // 1.5 * 2^52
  Val shifted = x * 0.63661977236758134308 + magic;
  Val n = shifted - magic;
  Val r = x - n * 1.57079632679489655800;
  r = r - n * 6.12323399573676603587e-17;
  Val r2 = r * r;
  // Taylor to r^13 and r^12: below 1e-11 on [-pi/4, pi/4].
  Val s = constantLike(x, 1.0 / 6227020800.0);
  for (double c : {-1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6})
    s = s * r2 + c;
  s = s * r2 * r + r;
  Val c = constantLike(x, 1.0 / 479001600.0);
  for (double k : {-1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -0.5, 1.0})
    c = c * r2 + k;
  Val quadrant = wrap(arith::BitcastOp::create(builder, loc, ints, shifted.value));
  auto bit = [&](Val value, int64_t mask) { return (value & constant(ints, mask)) != constant(ints, 0); };
  Val swapped = bit(quadrant, 1);
  Val sine = select(swapped, c, s), cosine = select(swapped, s, c);
  sine = select(bit(quadrant, 2), -sine, sine);
  cosine = select(bit(quadrant + constant(ints, 1), 2), -cosine, cosine);
  return {sine, cosine};
}

SmallVector<Val> Emitter::loop(Val from, Val to, int64_t step, ArrayRef<Val> init, Body body) {
  return loop(from, to, i64(step), init, body);
}
SmallVector<Val> Emitter::loop(Val from, Val to, Val step, ArrayRef<Val> init, Body body) {
  SmallVector<Value> values(init.begin(), init.end());
  auto wrapAll = [&](ValueRange range) { return llvm::map_to_vector(range, [&](Value value) { return wrap(value); }); };
  return wrapAll(kernel().loop(from, to, step, values, [&](Value iv, ValueRange carried) {
    SmallVector<Val> next = body(wrap(iv), wrapAll(carried));
    return KernelBuilder::Values(next.begin(), next.end());
  }));
}
void Emitter::loop(Val from, Val to, llvm::function_ref<void(Val)> body) {
  loop(from, to, 1, {}, [&](Val i, ArrayRef<Val>) {
    body(i);
    return SmallVector<Val>();
  });
}
void Emitter::ifThen(Val condition, llvm::function_ref<void()> body) { kernel().when(condition, body); }

SmallVector<std::pair<int64_t, int64_t>> Emitter::pieces(int64_t n, int64_t width) {
  SmallVector<std::pair<int64_t, int64_t>> result;
  for (int64_t first = 0; first < n;) {
    while (width > n - first)
      width /= 2;
    result.push_back({first, width});
    first += width;
  }
  return result;
}
void Emitter::overChannels(int64_t n, llvm::function_ref<void(Val, int64_t)> body) {
  int64_t whole = n - n % lanes;
  if (whole > lanes) {
    loop(i64(0), i64(whole), lanes, {}, [&](Val i, ArrayRef<Val>) {
      body(i, lanes);
      return SmallVector<Val>();
    });
  } else if (whole) {
    body(i64(0), lanes);
  }
  for (auto [first, width] : pieces(n - whole, lanes))
    body(i64(whole + first), width);
}

std::pair<Val, Val> Emitter::split(Val n, Val thread, Val threads) {
  auto [from, to] = kernel().split(n, 1, thread, threads);
  return {wrap(from), wrap(to)};
}

func::FuncOp Emitter::function(ModuleOp module, StringRef name, ArrayRef<Type> arguments,
                               llvm::function_ref<void(Emitter &, ArrayRef<Val>)> body) {
  OpBuilder inner(builder.getContext());
  func::FuncOp created = KernelBuilder::beginFunction(inner, module, loc, name, arguments);
  if (!created)
    return module.lookupSymbol<func::FuncOp>(name);
  Emitter e(inner, loc, target);
  body(e, llvm::map_to_vector(created.getArguments(), [&](Value value) { return e.wrap(value); }));
  return created;
}
void Emitter::call(func::FuncOp function, ArrayRef<Val> arguments) {
  SmallVector<Value> values(arguments.begin(), arguments.end());
  func::CallOp::create(builder, loc, function, values);
}

} // namespace skim::step
