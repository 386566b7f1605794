//===- DeviceBuilder.cpp - writes GPU kernels as structured loops -----------===//

#include "skim/Target/GPU/DeviceBuilder.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace skim;

using Values = KernelBuilder::Values;

static constexpr unsigned kGlobal = 1, kShared = 3;

Type DeviceBuilder::globalPtr() { return LLVM::LLVMPointerType::get(builder.getContext(), kGlobal); }
Type DeviceBuilder::sharedPtr() { return LLVM::LLVMPointerType::get(builder.getContext(), kShared); }

Value DeviceBuilder::threadX() { return NVVM::ThreadIdXOp::create(builder, loc, i32()); }
Value DeviceBuilder::laneId() { return NVVM::LaneIdOp::create(builder, loc, i32()); }
Value DeviceBuilder::blockX() { return NVVM::BlockIdXOp::create(builder, loc, i32()); }
Value DeviceBuilder::blockY() { return NVVM::BlockIdYOp::create(builder, loc, i32()); }
Value DeviceBuilder::blockZ() { return NVVM::BlockIdZOp::create(builder, loc, i32()); }
Value DeviceBuilder::gridX() { return NVVM::GridDimXOp::create(builder, loc, i32()); }
Value DeviceBuilder::gridY() { return NVVM::GridDimYOp::create(builder, loc, i32()); }
void DeviceBuilder::fence() {
  NVVM::MembarOp::create(builder, loc, NVVM::MemScopeKindAttr::get(builder.getContext(), NVVM::MemScopeKind::GPU));
}
void DeviceBuilder::barrier() { gpu::BarrierOp::create(builder, loc); }
void DeviceBuilder::warpBarrier() { NVVM::SyncWarpOp::create(builder, loc, i32(-1)); }
Value DeviceBuilder::exchange(Value x, int64_t distance) {
  return gpu::ShuffleOp::create(builder, loc, x, static_cast<int32_t>(distance), 32, gpu::ShuffleMode::XOR)
      .getShuffleResult();
}
Value DeviceBuilder::broadcast(Value word) {
  return gpu::ShuffleOp::create(builder, loc, word, /*offset=*/0, /*width=*/32, gpu::ShuffleMode::IDX)
      .getShuffleResult();
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Values DeviceBuilder::words(Value pointer, int64_t count, bool readOnly, StringRef label) {
  Type type = count == 1 ? i32() : Type(vec(count, i32()));
  Value vector = load(type, pointer, static_cast<unsigned>(4 * count));
  auto op = vector.getDefiningOp<LLVM::LoadOp>();
  op.setInvariant(readOnly);
  if (!label.empty())
    op->setAttr("skim.label", builder.getStringAttr(label));
  if (count == 1)
    return {vector};
  Values result;
  for (int64_t i = 0; i < count; ++i)
    result.push_back(extract(vector, i));
  return result;
}

static Type requestType(DeviceBuilder &b, int64_t count) {
  SmallVector<Type> types(count, b.i32());
  return count > 1 ? Type(LLVM::LLVMStructType::getLiteral(b.builder.getContext(), types)) : b.i32();
}

Value DeviceBuilder::request(Value pointer, int64_t count, StringRef label) {
  // LLVM has no flag for it, so the instruction is spelled out: evict first, through the read-only path.
  std::string outputs, constraints;
  for (int64_t i = 0; i < count; ++i) {
    outputs += (i ? ", $" : "$") + std::to_string(i);
    constraints += "=r,";
  }
  std::string text = "ld.global.nc.cs";
  if (count > 1)
    text += ".v" + std::to_string(count);
  text += ".b32 " + (count > 1 ? "{" + outputs + "}" : outputs) + ", [$" + std::to_string(count) + "];";
  auto op = LLVM::InlineAsmOp::create(builder, loc, TypeRange(requestType(*this, count)), ValueRange(pointer), text,
                                      constraints + "l",
                                      /*has_side_effects=*/false, /*is_align_stack=*/false,
                                      LLVM::tailcallkind::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  op->setAttr("skim.label", builder.getStringAttr(label));
  return op.getResult(0);
}

Values DeviceBuilder::wordsOf(Value request) {
  auto type = dyn_cast<LLVM::LLVMStructType>(request.getType());
  if (!type)
    return {request};
  Values words;
  for (size_t i = 0; i < type.getBody().size(); ++i)
    words.push_back(LLVM::ExtractValueOp::create(builder, loc, request, i));
  return words;
}

Value DeviceBuilder::noRequest(int64_t count) { return LLVM::ZeroOp::create(builder, loc, requestType(*this, count)); }

Value DeviceBuilder::readOnly(Type type, Value pointer, unsigned alignment) {
  auto op = load(type, pointer, alignment).getDefiningOp<LLVM::LoadOp>();
  op.setInvariant(true);
  return op;
}

void DeviceBuilder::storeWords(ArrayRef<Value> words, Value pointer) {
  if (words.size() == 1)
    return store(words[0], pointer);
  store(pack(words), pointer, static_cast<unsigned>(4 * words.size()));
}

Value DeviceBuilder::loadVolatile(Type type, Value pointer, unsigned alignment) {
  auto op = load(type, pointer, alignment).getDefiningOp<LLVM::LoadOp>();
  op.setVolatile_(true); // past the multiprocessor's own cache
  return op;
}

Value DeviceBuilder::atomicAdd(Value pointer, Value word) {
  return LLVM::AtomicRMWOp::create(builder, loc, LLVM::AtomicBinOp::add, pointer, word,
                                   LLVM::AtomicOrdering::monotonic);
}

Value DeviceBuilder::loadAcquire(Value pointer) {
  return LLVM::LoadOp::create(builder, loc, i32(), pointer, /*alignment=*/4, /*isVolatile=*/false,
                              /*isNonTemporal=*/false, /*isInvariant=*/false, /*isInvariantGroup=*/false,
                              LLVM::AtomicOrdering::acquire, "device");
}

void DeviceBuilder::storeRelease(Value word, Value pointer) {
  LLVM::StoreOp::create(builder, loc, word, pointer, /*alignment=*/4, /*isVolatile=*/false, /*isNonTemporal=*/false,
                        /*isInvariantGroup=*/false, LLVM::AtomicOrdering::release, "device");
}

Value DeviceBuilder::sharedMemory(gpu::GPUModuleOp module, StringRef name, int64_t bytes) {
  auto type = LLVM::LLVMArrayType::get(i8(), bytes);
  if (!module.lookupSymbol(name)) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(module.getBody());
    LLVM::GlobalOp::create(builder, loc, type, /*isConstant=*/false, LLVM::Linkage::Internal, name, Attribute(),
                           /*alignment=*/16, kShared);
  }
  return LLVM::AddressOfOp::create(builder, loc, sharedPtr(), name);
}

void DeviceBuilder::copyAsync(Value shared, Value global) {
  NVVM::CpAsyncOp::create(builder, loc, shared, global, 16, NVVM::LoadCacheModifierKind::CG, Value());
}
void DeviceBuilder::commitCopies() { NVVM::CpAsyncCommitGroupOp::create(builder, loc); }
void DeviceBuilder::waitCopies(int64_t count) {
  NVVM::CpAsyncWaitGroupOp::create(builder, loc, static_cast<uint32_t>(count));
}

//===----------------------------------------------------------------------===//
// Words and pairs
//===----------------------------------------------------------------------===//

Value DeviceBuilder::fma(Value a, Value b, Value c) { return math::FmaOp::create(builder, loc, a, b, c); }

Value DeviceBuilder::bytePermute(Value a, Value b, Value selector) {
  return NVVM::PermuteOp::create(builder, loc, i32(), a, b, selector, NVVM::PermuteMode::DEFAULT);
}

Value DeviceBuilder::toFloat(Value half) {
  return half.getType().isF32() ? half : Value(arith::ExtFOp::create(builder, loc, f32(), half));
}

static Value asPair(DeviceBuilder &b, Value word, Type half) { return b.bitcast(word, b.vec(2, half)); }
static Value asWord(DeviceBuilder &b, Value pair) { return b.bitcast(pair, b.i32()); }

Value DeviceBuilder::pairOf(Value low, Value high, Type half) {
  auto narrow = [&](Value value) -> Value {
    if (value.getType() == half)
      return value;
    return arith::TruncFOp::create(builder, loc, half, toFloat(value));
  };
  return asWord(*this, pack(ValueRange{narrow(low), narrow(high)}));
}
Value DeviceBuilder::splatPair(Value scalar, Type half) { return pairOf(scalar, scalar, half); }

Value DeviceBuilder::subPairs(Value a, Value b, Type half) {
  return asWord(*this, sub(asPair(*this, a, half), asPair(*this, b, half)));
}
Value DeviceBuilder::mulPairs(Value a, Value b, Type half) {
  return asWord(*this, mul(asPair(*this, a, half), asPair(*this, b, half)));
}
Value DeviceBuilder::clampPair(Value a) {
  VectorType type = vec(2, f16());
  Value largest = constant(type, 65504), least = constant(type, -65504);
  Value clamped = arith::MinNumFOp::create(builder, loc, asPair(*this, a, f16()), largest);
  return asWord(*this, arith::MaxNumFOp::create(builder, loc, clamped, least));
}
Value DeviceBuilder::fmaPairs(Value a, Value b, Value c, Type half) {
  return asWord(
      *this, LLVM::FMAOp::create(builder, loc, asPair(*this, a, half), asPair(*this, b, half), asPair(*this, c, half)));
}

/// m16n8 of `k`; sums are of c's type.
static Values multiplied(DeviceBuilder &b, NVVM::MMATypes type, int64_t k, ArrayRef<Value> left, ArrayRef<Value> right,
                         ArrayRef<Value> c) {
  SmallVector<Type> types(4, c[0].getType());
  Type result = LLVM::LLVMStructType::getLiteral(b.builder.getContext(), types);
  std::optional<std::array<NVVM::MMATypes, 2>> multiplicands = std::array{type, type};
  std::optional<std::array<NVVM::MMALayout, 2>> layouts = std::array{NVVM::MMALayout::row, NVVM::MMALayout::col};
  std::optional<NVVM::MMAIntOverflow> overflow;
  std::optional<NVVM::MMAB1Op> bits;
  if (type == NVVM::MMATypes::s8)
    overflow = NVVM::MMAIntOverflow::wrapped;
  if (type == NVVM::MMATypes::b1)
    bits = NVVM::MMAB1Op::and_popc;
  auto op = NVVM::MmaOp::create(b.builder, b.loc, result, left, right, c, ArrayRef<int64_t>{16, 8, k}, bits, overflow,
                                multiplicands, layouts);
  Values sums;
  for (int64_t i = 0; i < 4; ++i)
    sums.push_back(LLVM::ExtractValueOp::create(b.builder, b.loc, op.getRes(), i));
  return sums;
}

Values DeviceBuilder::mma(Type half, ArrayRef<Value> a, ArrayRef<Value> b, ArrayRef<Value> c) {
  // The operation wants pairs of f16, but words of bf16.
  auto operands = [&](ArrayRef<Value> words) {
    Values result;
    for (Value word : words)
      result.push_back(half.isF16() ? asPair(*this, word, half) : word);
    return result;
  };
  return multiplied(*this, half.isF16() ? NVVM::MMATypes::f16 : NVVM::MMATypes::bf16, 16, operands(a), operands(b), c);
}

Values DeviceBuilder::mmaBytes(ArrayRef<Value> a, ArrayRef<Value> b, ArrayRef<Value> c) {
  return multiplied(*this, NVVM::MMATypes::s8, 32, a, b, c);
}

Values DeviceBuilder::mmaBits(ArrayRef<Value> a, ArrayRef<Value> b, ArrayRef<Value> c) {
  return multiplied(*this, NVVM::MMATypes::b1, b.size() == 2 ? 256 : 128, a, b, c);
}

Value DeviceBuilder::reciprocal(Value x) { return NVVM::RcpApproxFtzF32Op::create(builder, loc, f32(), x); }

Value DeviceBuilder::silu(Value x) {
  // e^−x = 2^(−x·log2 e); it may be infinite, then the quotient is −0.
  Value power = math::Exp2Op::create(builder, loc, mul(x, f32(-1.4426950408889634)));
  return div(x, add(power, f32(1)));
}

void DeviceBuilder::repeatWhile(Value initial, function_ref<std::pair<Value, Value>(Value carried)> body) {
  auto inside = [&](OpBuilder &inner, auto emit) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
    emit();
  };
  scf::WhileOp::create(
      builder, loc, TypeRange(initial.getType()), ValueRange(initial),
      [&](OpBuilder &inner, Location, ValueRange carried) {
        inside(inner, [&] {
          auto [condition, next] = body(carried[0]);
          scf::ConditionOp::create(builder, loc, condition, next);
        });
      },
      [&](OpBuilder &inner, Location, ValueRange carried) {
        inside(inner, [&] { scf::YieldOp::create(builder, loc, carried); });
      });
}

gpu::GPUFuncOp DeviceBuilder::beginKernel(OpBuilder &builder, gpu::GPUModuleOp module, Location loc, StringRef name,
                                          ArrayRef<Type> arguments, int64_t threads) {
  if (module.lookupSymbol(name))
    return {};
  builder.setInsertionPointToEnd(module.getBody());
  auto kernel = gpu::GPUFuncOp::create(builder, loc, name, builder.getFunctionType(arguments, {}));
  kernel->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), builder.getUnitAttr());
  kernel.setKnownBlockSizeAttr(builder.getDenseI32ArrayAttr({static_cast<int32_t>(threads), 1, 1}));
  builder.setInsertionPointToEnd(&kernel.getBody().front());
  gpu::ReturnOp::create(builder, loc);
  builder.setInsertionPointToStart(&kernel.getBody().front());
  return kernel;
}
