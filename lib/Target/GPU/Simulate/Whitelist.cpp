//===- Whitelist.cpp - the operations that the simulator knows --------------===//

#include "Simulate.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace skim;
using namespace skim::simulate;

static const llvm::StringSet<> &known() {
  static const llvm::StringSet<> names = {
      // clang-format off
      "math.absf", "math.absi", "math.ceil", "math.copysign", "math.ctlz", "math.cttz", "math.ctpop", "math.floor",
      "math.fma", "math.isfinite", "math.isinf", "math.isnan", "math.roundeven", "math.sqrt", "math.trunc", "math.exp",
      "math.exp2", "math.expm1", "math.log", "math.log2", "math.log10", "math.log1p", "math.sin", "math.cos",
      "math.tanh", "math.erf", "math.rsqrt", "math.powf", "math.atan2",
      "vector.broadcast", "vector.extract", "vector.insert", "vector.shuffle", "vector.from_elements",
      "vector.to_elements", "vector.bitcast", "vector.shape_cast", "vector.extract_strided_slice",
      "vector.insert_strided_slice", "vector.interleave", "vector.deinterleave", "vector.fma", "vector.reduction",
      "vector.step",
      "scf.for", "scf.while", "scf.if", "scf.index_switch", "scf.condition", "scf.yield",
      "llvm.load", "llvm.store", "llvm.atomicrmw", "llvm.cmpxchg", "llvm.fence", "llvm.getelementptr",
      "llvm.ptrtoint", "llvm.inttoptr", "llvm.addrspacecast", "llvm.bitcast", "llvm.extractvalue", "llvm.insertvalue",
      "llvm.mlir.addressof", "llvm.mlir.constant", "llvm.mlir.poison", "llvm.mlir.undef", "llvm.mlir.zero",
      "llvm.call_intrinsic", "llvm.inline_asm", "llvm.intr.prefetch", "llvm.intr.assume",
      "gpu.thread_id", "gpu.block_id", "gpu.block_dim", "gpu.grid_dim", "gpu.global_id", "gpu.lane_id",
      "gpu.subgroup_id", "gpu.num_subgroups", "gpu.subgroup_size", "gpu.barrier", "gpu.shuffle", "gpu.return",
      "gpu.func", "nvvm.read.ptx.sreg.laneid", "nvvm.read.ptx.sreg.warpsize", "nvvm.barrier0", "nvvm.barrier",
      "nvvm.bar.warp.sync", "nvvm.shfl.sync", "nvvm.vote.sync", "nvvm.redux.sync", "nvvm.elect.sync", "nvvm.prmt",
      "nvvm.dot.accumulate.4way", "nvvm.dot.accumulate.2way", "nvvm.rcp.approx.ftz.f", "nvvm.cp.async.shared.global",
      "nvvm.cp.async.commit.group", "nvvm.cp.async.wait.group", "nvvm.ldmatrix", "nvvm.mma.sync",
      "nvvm.memory.barrier", "nvvm.prefetch", "nvvm.inline_ptx", "nvvm.wgmma.commit.group.sync.aligned",
      "nvvm.fence.proxy"
      // clang-format on
  };
  return names;
}

static const llvm::StringSet<> &knownIntrinsics() {
  static const llvm::StringSet<> names = {
      "llvm.nvvm.ex2.approx.f",     "llvm.nvvm.ex2.approx.ftz.f", "llvm.nvvm.lg2.approx.f",
      "llvm.nvvm.lg2.approx.ftz.f", "llvm.nvvm.rsqrt.approx.f",   "llvm.nvvm.rsqrt.approx.ftz.f",
      "llvm.nvvm.rcp.approx.ftz.f", "llvm.nvvm.sin.approx.f",     "llvm.nvvm.sin.approx.ftz.f",
      "llvm.nvvm.cos.approx.f",     "llvm.nvvm.cos.approx.ftz.f"};
  return names;
}

/// Whether the operands of a warpgroup's operation are what its text needs, and its results the registers it changes.
static bool hasRegisters(LLVM::InlineAsmOp op, const InlinePtx &text) {
  SmallVector<Type> types(op.getOperandTypes());
  if (text.kind == InlinePtx::Wgmma) {
    OpBuilder b(op.getContext());
    SmallVector<Type> expected(text.elements / 2, b.getF32Type());
    expected.append(4, b.getI32Type());
    expected.push_back(b.getI64Type());
    if (text.first)
      expected.push_back(b.getI32Type());
    if (types != expected)
      return false;
    types.resize(text.elements / 2);
  }
  if (!llvm::all_of(types, [](Type type) { return type.isF32() || type.isInteger(32); }))
    return false;
  if (types.size() < 2)
    return op->getResultTypes() == TypeRange(types);
  auto result = op.getNumResults() ? dyn_cast<LLVM::LLVMStructType>(op.getResult(0).getType()) : nullptr;
  return result && result.getBody() == ArrayRef<Type>(types);
}

/// What stands against an operation, or nothing.
static std::string objection(Operation *op) {
  StringRef name = op->getName().getStringRef();
  auto unknown = [&](const Twine &detail) { return ("is not simulated" + detail).str(); };
  if (name.starts_with("nvvm.wgmma.") && !known().contains(name))
    return "runs on devices only: the simulator's wgmma are those of DeviceBuilder, whose registers are operands";
  bool fence = name.starts_with("nvvm.fence.");
  if (auto proxy = dyn_cast<NVVM::FenceProxyOp>(op))
    fence = proxy.getKind() != NVVM::ProxyKind::async_shared || proxy.getSpace() != NVVM::SharedSpace::shared_cta;
  if (fence || name.starts_with("nvvm.cp.async.bulk.") || name.starts_with("nvvm.cp.async.mbarrier") ||
      name.starts_with("nvvm.mbarrier.") || name.starts_with("nvvm.tcgen05.") || name.starts_with("nvvm.cluster.") ||
      name == "nvvm.setmaxregister" || name.starts_with("nvgpu.tma.") || name.starts_with("nvgpu.warpgroup."))
    return "runs on devices only: the simulator has no TMA, no clusters and no Tensor Memory";
  StringRef dialect = op->getName().getDialectNamespace();
  if (dialect == "arith" || dialect == "ub" || dialect == "index")
    return {};
  for (StringRef kind : {"tid.", "ctaid.", "ntid.", "nctaid."})
    if (name.starts_with(("nvvm.read.ptx.sreg." + kind).str()))
      return {};
  if (name.starts_with("llvm.intr.") && isMemoryEffectFree(op))
    return {};
  if (!known().contains(name))
    return unknown(" (docs/gpu.md lists what kernels may use)");

  if (auto access = accessOf(op)) {
    unsigned space = cast<LLVM::LLVMPointerType>(access->pointer.getType()).getAddressSpace();
    if (space != 0 && space != 1 && space != kSharedSpace)
      return unknown(": expected address space 0, 1 or 3, got " + Twine(space));
    if (access->bytes <= 0 || !llvm::isPowerOf2_64(access->bytes))
      return unknown(": expected an access of a power of two of bytes, got " + Twine(access->bytes));
    if (isa<LLVM::AtomicRMWOp, LLVM::AtomicCmpXchgOp>(op) && access->piece != access->bytes)
      return unknown(": expected an aligned atomic");
    return {};
  }
  if (auto cast = dyn_cast<LLVM::AddrSpaceCastOp>(op)) {
    auto space = [](Value pointer) { return mlir::cast<LLVM::LLVMPointerType>(pointer.getType()).getAddressSpace(); };
    if (space(cast.getArg()) > 1 || space(cast.getRes()) > 1)
      return unknown(": expected a cast between the global and the generic space");
  } else if (auto intrinsic = dyn_cast<LLVM::CallIntrinsicOp>(op)) {
    if (!knownIntrinsics().contains(intrinsic.getIntrin()))
      return unknown(": intrinsic " + intrinsic.getIntrin());
  } else if (auto text = dyn_cast<LLVM::InlineAsmOp>(op)) {
    std::optional<InlinePtx> parsed = parseInlinePtx(text.getAsmString());
    if (!parsed)
      return unknown(": " + text.getAsmString());
    if (parsed->isWarpgroup() && !hasRegisters(text, *parsed))
      return unknown(" with these operands");
  } else if (auto text = dyn_cast<NVVM::InlinePtxOp>(op)) {
    std::optional<InlinePtx> parsed = parseInlinePtx(text.getPtxCode());
    if (!parsed || parsed->isWarpgroup() || text.getPredicate() || !text.getReadWriteArgs().empty())
      return unknown(": " + text.getPtxCode());
  } else if (auto barrier = dyn_cast<NVVM::BarrierOp>(op)) {
    if (barrier.getReductionOp())
      return unknown(" with a reduction");
  } else if (auto prmt = dyn_cast<NVVM::PermuteOp>(op)) {
    if (prmt.getMode() != NVVM::PermuteMode::DEFAULT)
      return unknown(" but in mode default");
  } else if (auto shuffle = dyn_cast<gpu::ShuffleOp>(op)) {
    if (byteSize(shuffle.getValue().getType()) != 4)
      return unknown(" but on values of 32 bits");
  } else if (auto redux = dyn_cast<NVVM::ReduxOp>(op)) {
    if (!redux.getVal().getType().isInteger(32))
      return unknown(" but on integers");
  } else if (auto load = dyn_cast<NVVM::LdMatrixOp>(op)) {
    if (load.getEltType() != NVVM::LdStMatrixEltType::B16 || load.getShape().getM() != 8 || load.getShape().getN() != 8)
      return unknown(" but on 8x8 matrices of 16 bits");
  } else if (auto mma = dyn_cast<NVVM::MmaOp>(op)) {
    using T = NVVM::MMATypes;
    auto a = mma.getMultiplicandAPtxType(), b = mma.getMultiplicandBPtxType();
    auto shape = mma.getShape();
    auto is = [&](int64_t m, int64_t k) { return shape.getM() == m && shape.getN() == 8 && shape.getK() == k; };
    bool half = a && b && *a == *b && (*a == T::f16 || *a == T::bf16) && (is(16, 8) || is(16, 16));
    bool bytes = a && b && (*a == T::s8 || *a == T::u8) && (*b == T::s8 || *b == T::u8) &&
                 (is(16, 16) || is(16, 32) || is(8, 16));
    bool bits = a && b && *a == T::b1 && *b == T::b1 && (is(16, 128) || is(16, 256) || is(8, 128));
    if (!half && !bytes && !bits)
      return unknown(" in this shape and type");
    if (bytes && mma.getIntOverflowBehavior() == NVVM::MMAIntOverflow::satfinite)
      return unknown(" with saturation");
  } else if (isa<math::MathDialect>(op->getDialect())) {
    Type element = getElementTypeOrSelf(op->getResult(0).getType());
    if (element.isF64())
      return unknown(" on f64");
  }
  if (isa<vector::VectorDialect>(op->getDialect()))
    for (Type type : llvm::concat<const Type>(op->getOperandTypes(), op->getResultTypes()))
      if (auto vector = dyn_cast<VectorType>(type); vector && (vector.getRank() != 1 || vector.isScalable()))
        return unknown(" but on 1-D vectors");
  return {};
}

LogicalResult simulate::checkWhitelist(gpu::GPUModuleOp module) {
  bool fine = true;
  auto reject = [&](Operation *op, const Twine &reason) {
    op->emitOpError() << reason.str();
    fine = false;
  };
  for (Operation &top : module.getBody()->getOperations()) {
    if (auto global = dyn_cast<LLVM::GlobalOp>(top)) {
      if (global.getAddrSpace() != kSharedSpace || global.getValueOrNull() || !global.getInitializerRegion().empty())
        reject(global, "is not simulated: expected a variable in address space 3 without a value");
      continue;
    }
    auto kernel = dyn_cast<gpu::GPUFuncOp>(top);
    if (!kernel || !kernel.isKernel() || kernel.getNumWorkgroupAttributions() || kernel.getNumPrivateAttributions()) {
      reject(&top, "is not simulated: expected kernels without attributions and shared variables");
      continue;
    }
    for (BlockArgument argument : kernel.getBody().getArguments())
      if (!isa<LLVM::LLVMPointerType, IntegerType, FloatType, IndexType>(argument.getType())) {
        reject(kernel, "is not simulated: expected arguments that are integers, floats or pointers");
        break;
      }
    kernel.getBody().walk([&](Operation *op) {
      std::string reason = objection(op);
      if (!reason.empty())
        reject(op, reason);
    });
  }
  return success(fine);
}
