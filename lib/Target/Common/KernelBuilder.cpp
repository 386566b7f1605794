//===- KernelBuilder.cpp - writes kernels as structured loops ---------------===//

#include "skim/Target/Common/KernelBuilder.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "skim-rt/abi.h"
#include "skim/Lane/LaneOps.h"
#include "skim/Transforms/CheckFusion.h"

#include <cstddef>

using namespace mlir;
using namespace skim;

using Values = KernelBuilder::Values;

static Type withElement(Type like, Type element) {
  if (auto vector = dyn_cast<VectorType>(like))
    return VectorType::get(vector.getShape(), element);
  return element;
}

bool KernelBuilder::isFloat(Value a) { return isa<FloatType>(getElementTypeOrSelf(a.getType())); }

Type KernelBuilder::ptr() { return LLVM::LLVMPointerType::get(builder.getContext()); }

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

Value KernelBuilder::i32(int64_t value) { return constant(i32(), value); }
Value KernelBuilder::i64(int64_t value) {
  return arith::ConstantOp::create(builder, loc, builder.getI64IntegerAttr(value));
}
Value KernelBuilder::f32(double value) { return constant(f32(), value); }

Value KernelBuilder::constant(Type type, double value) {
  Type element = getElementTypeOrSelf(type);
  TypedAttr attr;
  if (isa<FloatType>(element))
    attr = builder.getFloatAttr(element, value);
  else
    attr = IntegerAttr::get(element, APInt(element.getIntOrFloatBitWidth(), static_cast<uint64_t>(int64_t(value)),
                                           /*isSigned=*/true, /*implicitTrunc=*/true));
  if (auto vector = dyn_cast<VectorType>(type))
    attr = SplatElementsAttr::get(vector, cast<Attribute>(attr));
  return arith::ConstantOp::create(builder, loc, attr);
}

Value KernelBuilder::integers(VectorType type, ArrayRef<int64_t> values) {
  unsigned width = type.getElementTypeBitWidth();
  SmallVector<APInt> elements;
  for (int64_t value : values)
    elements.emplace_back(width, static_cast<uint64_t>(value), /*isSigned=*/true, /*implicitTrunc=*/true);
  return arith::ConstantOp::create(builder, loc, DenseElementsAttr::get(type, elements));
}

Value KernelBuilder::floats(VectorType type, ArrayRef<double> values) {
  SmallVector<Attribute> elements;
  for (double value : values)
    elements.push_back(builder.getFloatAttr(type.getElementType(), value));
  return arith::ConstantOp::create(builder, loc, DenseElementsAttr::get(type, elements));
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

template <typename IntOp, typename FloatOp> static Value binary(KernelBuilder &k, bool isFloat, Value a, Value b) {
  if (isFloat)
    return FloatOp::create(k.builder, k.loc, a, b);
  return IntOp::create(k.builder, k.loc, a, b);
}

Value KernelBuilder::add(Value a, Value b) { return binary<arith::AddIOp, arith::AddFOp>(*this, isFloat(a), a, b); }
Value KernelBuilder::sub(Value a, Value b) { return binary<arith::SubIOp, arith::SubFOp>(*this, isFloat(a), a, b); }
Value KernelBuilder::mul(Value a, Value b) { return binary<arith::MulIOp, arith::MulFOp>(*this, isFloat(a), a, b); }
Value KernelBuilder::div(Value a, Value b) { return binary<arith::DivSIOp, arith::DivFOp>(*this, isFloat(a), a, b); }
Value KernelBuilder::rem(Value a, Value b) { return binary<arith::RemSIOp, arith::RemFOp>(*this, isFloat(a), a, b); }
// Of floats: as a comparison and a choice, which every target has as one
// instruction; the arguments are no NaN.
Value KernelBuilder::min(Value a, Value b) {
  if (isFloat(a))
    return select(less(a, b), a, b);
  return arith::MinSIOp::create(builder, loc, a, b);
}
Value KernelBuilder::max(Value a, Value b) {
  if (isFloat(a))
    return select(less(b, a), a, b);
  return arith::MaxSIOp::create(builder, loc, a, b);
}
Value KernelBuilder::bitAnd(Value a, Value b) { return arith::AndIOp::create(builder, loc, a, b); }
Value KernelBuilder::bitOr(Value a, Value b) { return arith::OrIOp::create(builder, loc, a, b); }
Value KernelBuilder::bitXor(Value a, Value b) { return arith::XOrIOp::create(builder, loc, a, b); }
Value KernelBuilder::shl(Value a, Value b) { return arith::ShLIOp::create(builder, loc, a, b); }
Value KernelBuilder::shr(Value a, Value b) { return arith::ShRUIOp::create(builder, loc, a, b); }

Value KernelBuilder::less(Value a, Value b) {
  if (isFloat(a))
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OLT, a, b);
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, a, b);
}
Value KernelBuilder::lessEqual(Value a, Value b) {
  if (isFloat(a))
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OLE, a, b);
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sle, a, b);
}
Value KernelBuilder::equal(Value a, Value b) {
  if (isFloat(a))
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ, a, b);
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, a, b);
}
Value KernelBuilder::select(Value condition, Value a, Value b) {
  return arith::SelectOp::create(builder, loc, condition, a, b);
}
Value KernelBuilder::fma(Value a, Value b, Value c) { return lane::FMAOp::create(builder, loc, a, b, c); }
Value KernelBuilder::sqrt(Value a) { return math::SqrtOp::create(builder, loc, a); }
Value KernelBuilder::abs(Value a) { return math::AbsFOp::create(builder, loc, a); }

Value KernelBuilder::floor(Value a) {
  // Through integers: baseline x86 has no instruction and would call floorf. For |a| < 2^31.
  Type ints = withElement(a.getType(), i32());
  Value cut = arith::FPToSIOp::create(builder, loc, ints, a);
  Value back = arith::SIToFPOp::create(builder, loc, a.getType(), cut);
  return select(less(a, back), sub(back, constant(a.getType(), 1)), back);
}
Value KernelBuilder::negate(Value a) { return arith::NegFOp::create(builder, loc, a); }

//===----------------------------------------------------------------------===//
// Conversions
//===----------------------------------------------------------------------===//

Value KernelBuilder::toI64(Value a) {
  if (a.getType().isInteger(64))
    return a;
  return arith::ExtSIOp::create(builder, loc, i64(), a);
}

Value KernelBuilder::toF32(Value a) {
  if (getElementTypeOrSelf(a.getType()).isF32())
    return a;
  return lane::ExtendOp::create(builder, loc, withElement(a.getType(), f32()), a);
}

Value KernelBuilder::roundTo(Value a, Type element) {
  if (element.isF32())
    return a;
  return lane::RoundOp::create(builder, loc, withElement(a.getType(), element), a);
}

Value KernelBuilder::intToF32(Value a) {
  return arith::SIToFPOp::create(builder, loc, withElement(a.getType(), f32()), a);
}
Value KernelBuilder::zeroExtend(Value a, Type element) {
  return arith::ExtUIOp::create(builder, loc, withElement(a.getType(), element), a);
}
Value KernelBuilder::signExtend(Value a, Type element) {
  return arith::ExtSIOp::create(builder, loc, withElement(a.getType(), element), a);
}
Value KernelBuilder::truncate(Value a, Type element) {
  return arith::TruncIOp::create(builder, loc, withElement(a.getType(), element), a);
}
Value KernelBuilder::bitcast(Value a, Type type) {
  if (a.getType() == type)
    return a;
  return LLVM::BitcastOp::create(builder, loc, type, a);
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

Value KernelBuilder::splat(Value scalar, int64_t lanes) {
  return vector::BroadcastOp::create(builder, loc, vec(lanes, scalar.getType()), scalar);
}
Value KernelBuilder::extract(Value vector, int64_t lane) {
  return vector::ExtractOp::create(builder, loc, vector, ArrayRef<int64_t>{lane});
}
Value KernelBuilder::shuffle(Value a, Value b, ArrayRef<int64_t> lanes) {
  return vector::ShuffleOp::create(builder, loc, a, b, lanes);
}
Value KernelBuilder::concat(Value a, Value b) {
  int64_t lanes = cast<VectorType>(a.getType()).getNumElements() + cast<VectorType>(b.getType()).getNumElements();
  return shuffle(a, b, llvm::to_vector(llvm::seq<int64_t>(0, lanes)));
}
Value KernelBuilder::pack(ValueRange scalars) {
  return vector::FromElementsOp::create(builder, loc, vec(scalars.size(), scalars[0].getType()), scalars);
}

Value KernelBuilder::repeatEach(Value vector, int64_t count, int64_t times) {
  SmallVector<int64_t> order;
  for (int64_t i = 0; i < count * times; ++i)
    order.push_back(i / times);
  return shuffle(vector, vector, order);
}

Values KernelBuilder::transpose(ValueRange rows) {
  // Blocks of 1, 2, 4, … lanes are exchanged between rows that lie as far apart.
  Values result(rows);
  int64_t n = rows.size();
  for (int64_t block = 1; block < n; block *= 2) {
    SmallVector<int64_t> low, high;
    for (int64_t i = 0; i < n; ++i) {
      bool upper = i & block;
      low.push_back(upper ? n + i - block : i);
      high.push_back(upper ? n + i : i + block);
    }
    for (int64_t i = 0; i < n; ++i)
      if (!(i & block)) {
        Value a = result[i], b = result[i + block];
        result[i] = shuffle(a, b, low);
        result[i + block] = shuffle(a, b, high);
      }
  }
  return result;
}

Value KernelBuilder::iota(int64_t lanes, Type element) {
  return integers(vec(lanes, element), llvm::to_vector(llvm::seq<int64_t>(0, lanes)));
}

/// Folds a vector by halves.
static Value fold(KernelBuilder &k, Value vector, llvm::function_ref<Value(Value, Value)> combine) {
  int64_t lanes = cast<VectorType>(vector.getType()).getNumElements();
  while (lanes > 1) {
    assert(lanes % 2 == 0 && "expected a power of two lanes");
    lanes /= 2;
    Value low = k.shuffle(vector, vector, llvm::to_vector(llvm::seq<int64_t>(0, lanes)));
    Value high = k.shuffle(vector, vector, llvm::to_vector(llvm::seq<int64_t>(lanes, 2 * lanes)));
    vector = combine(low, high);
  }
  return k.extract(vector, 0);
}

Value KernelBuilder::sum(Value vector) {
  if (isFloat(vector))
    return lane::ReduceOp::create(builder, loc, f32(), vector);
  return fold(*this, vector, [&](Value a, Value b) { return add(a, b); });
}
Value KernelBuilder::maxAcross(Value vector) {
  return fold(*this, vector, [&](Value a, Value b) { return max(a, b); });
}

Value KernelBuilder::spread(Value bytes, int64_t bits, VectorType type, bool junk) {
  return lane::SpreadOp::create(builder, loc, type, bytes, bits, junk);
}
Value KernelBuilder::lookup(Value table, Value codes) {
  Type element = cast<VectorType>(table.getType()).getElementType();
  return lane::LookupOp::create(builder, loc, withElement(codes.getType(), element), table, codes);
}
Value KernelBuilder::gather(Value table, Value codes) {
  return lane::GatherOp::create(builder, loc, withElement(codes.getType(), f32()), table, codes);
}
Value KernelBuilder::dotBF16(Value a, Value b, Value acc) { return lane::DotBF16Op::create(builder, loc, a, b, acc); }

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

static int64_t byteSize(Type type) { return (getElementTypeOrSelf(type).getIntOrFloatBitWidth() + 7) / 8; }

Value KernelBuilder::offset(Value pointer, Value bytes) {
  return LLVM::GEPOp::create(builder, loc, pointer.getType(), i8(), pointer, ArrayRef<LLVM::GEPArg>{bytes});
}

Value KernelBuilder::element(Value pointer, Value index, Type type) {
  int64_t size = isa<LLVM::LLVMPointerType>(type) ? 8 : byteSize(type);
  return offset(pointer, mul(index, size));
}

Value KernelBuilder::load(Type type, Value pointer, unsigned alignment) {
  if (!alignment)
    alignment = isa<LLVM::LLVMPointerType>(type) ? 8 : byteSize(type);
  return LLVM::LoadOp::create(builder, loc, type, pointer, alignment);
}

void KernelBuilder::store(Value value, Value pointer, unsigned alignment) {
  if (!alignment)
    alignment = isa<LLVM::LLVMPointerType>(value.getType()) ? 8 : byteSize(value.getType());
  LLVM::StoreOp::create(builder, loc, value, pointer, alignment);
}

/// lane < count, for each lane.
static Value firstLanes(KernelBuilder &k, int64_t lanes, Value count) {
  Value clamped = k.min(k.max(count, k.i64(0)), k.i64(lanes));
  Value narrow = k.truncate(clamped, k.i32());
  return k.less(k.iota(lanes, k.i32()), k.splat(narrow, lanes));
}

Value KernelBuilder::loadFirst(VectorType type, Value pointer, Value count) {
  Value mask = firstLanes(*this, type.getNumElements(), count);
  return LLVM::MaskedLoadOp::create(builder, loc, type, pointer, mask, constant(type, 0),
                                    static_cast<uint32_t>(byteSize(type)));
}

void KernelBuilder::storeFirst(Value value, Value pointer, Value count) {
  auto type = cast<VectorType>(value.getType());
  Value mask = firstLanes(*this, type.getNumElements(), count);
  LLVM::MaskedStoreOp::create(builder, loc, value, pointer, mask, static_cast<uint32_t>(byteSize(type)));
}

Value KernelBuilder::loadFirst(VectorType type, Value pointer, int64_t count) {
  return lane::LoadOp::create(builder, loc, type, pointer, count);
}

void KernelBuilder::prefetch(Value pointer) {
  // Read, keep in all cache levels, data.
  LLVM::Prefetch::create(builder, loc, pointer, 0, 3, 1);
}

//===----------------------------------------------------------------------===//
// Control
//===----------------------------------------------------------------------===//

Values KernelBuilder::loop(Value lo, Value hi, Value step, ValueRange initial,
                           llvm::function_ref<Values(Value iv, ValueRange carried)> body) {
  auto op = scf::ForOp::create(builder, loc, lo, hi, step, initial,
                               [&](OpBuilder &inner, Location, Value iv, ValueRange carried) {
                                 OpBuilder::InsertionGuard guard(builder);
                                 builder.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
                                 Values results = body(iv, carried);
                                 scf::YieldOp::create(builder, loc, results);
                               });
  return Values(op.getResults());
}

void KernelBuilder::loop(Value lo, Value hi, Value step, llvm::function_ref<void(Value iv)> body) {
  loop(lo, hi, step, {}, [&](Value iv, ValueRange) {
    body(iv);
    return Values();
  });
}

/// Calls `body` with the builder inside `block`, before its terminator.
static void inBlock(KernelBuilder &k, Block *block, llvm::function_ref<Values()> body) {
  OpBuilder::InsertionGuard guard(k.builder);
  bool terminated = block->mightHaveTerminator();
  if (terminated)
    k.builder.setInsertionPoint(block->getTerminator());
  else
    k.builder.setInsertionPointToEnd(block);
  Values results = body();
  if (!terminated)
    scf::YieldOp::create(k.builder, k.loc, results);
}

void KernelBuilder::when(Value condition, llvm::function_ref<void()> body) {
  auto op = scf::IfOp::create(builder, loc, condition, /*withElseRegion=*/false);
  inBlock(*this, op.thenBlock(), [&] {
    body();
    return Values();
  });
}

void KernelBuilder::ifElse(Value condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(builder, loc, condition, /*withElseRegion=*/true);
  inBlock(*this, op.thenBlock(), [&] {
    then();
    return Values();
  });
  inBlock(*this, op.elseBlock(), [&] {
    otherwise();
    return Values();
  });
}

Values KernelBuilder::choose(Value condition, llvm::function_ref<Values()> then,
                             llvm::function_ref<Values()> otherwise) {
  auto fill = [&](OpBuilder &inner, llvm::function_ref<Values()> body) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
    Values results = body();
    scf::YieldOp::create(builder, loc, results);
  };
  auto op = scf::IfOp::create(
      builder, loc, condition, [&](OpBuilder &inner, Location) { fill(inner, then); },
      [&](OpBuilder &inner, Location) { fill(inner, otherwise); });
  return Values(op.getResults());
}

//===----------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------===//

std::pair<Value, Value> KernelBuilder::split(Value n, int64_t granule, Value thread, Value threads) {
  Value blocks = div(add(n, granule - 1), granule);
  Value t = toI64(thread), all = toI64(threads);
  Value first = mul(div(mul(blocks, t), all), granule);
  Value second = mul(div(mul(blocks, add(t, 1)), all), granule);
  return {min(first, n), min(second, n)};
}

Value KernelBuilder::argument(Value args, size_t byteOffset, Type type) {
  return load(type, offset(args, static_cast<int64_t>(byteOffset)));
}

Value KernelBuilder::weight(Value args, int64_t index) {
  Value table = argument(args, offsetof(skim_step_args, weights), ptr());
  return load(ptr(), offset(table, index * 8));
}

void KernelBuilder::barrier(Value args, Value thread) {
  Value function = argument(args, offsetof(skim_step_args, barrier), ptr());
  Value context = argument(args, offsetof(skim_step_args, barrier_context), ptr());
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(builder.getContext()), {ptr(), i32()});
  auto call = LLVM::CallOp::create(builder, loc, type, ValueRange{function, context, thread});
  call->setAttr(kBarrierAttr, builder.getUnitAttr());
}

func::FuncOp KernelBuilder::beginFunction(OpBuilder &builder, ModuleOp module, Location loc, StringRef name,
                                          ArrayRef<Type> arguments) {
  if (module.lookupSymbol(name))
    return {};
  builder.setInsertionPointToEnd(module.getBody());
  auto function = func::FuncOp::create(builder, loc, name, builder.getFunctionType(arguments, {}));
  function.setPrivate();
  // One copy of each kernel: callers are many, bodies large.
  function->setAttr("passthrough", builder.getStrArrayAttr({"noinline"}));
  Block *entry = function.addEntryBlock();
  builder.setInsertionPointToEnd(entry);
  func::ReturnOp::create(builder, loc);
  builder.setInsertionPointToStart(entry);
  return function;
}
