//===- Wgmma.cpp - matrix operations of a warpgroup -------------------------===//
//
// NVVM's own operations do not do: its wgmma takes A from shared memory only, and
// its fence and wait have no operands, so that LLVM could move what reads or
// writes registers over them. Here registers are operands that are results as
// well ("0", "1", … in the constraints), which keeps them in place.
//
//===----------------------------------------------------------------------===//

#include "skim/Target/GPU/DeviceBuilder.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace skim;

using Values = KernelBuilder::Values;

/// `text` on `registers`, which it leaves changed, and on `inputs`, which are the operands behind twice as many.
static Values inPlace(DeviceBuilder &b, const std::string &text, ArrayRef<Value> registers, ArrayRef<Value> inputs) {
  std::string constraints, separator;
  auto add = [&](const std::string &constraint) {
    constraints += separator + constraint;
    separator = ",";
  };
  auto kind = [](Value value) { return value.getType().isF32() ? "f" : value.getType().isInteger(64) ? "l" : "r"; };
  SmallVector<Type> types;
  for (Value value : registers) {
    add(std::string("=") + kind(value));
    types.push_back(value.getType());
  }
  for (size_t i = 0; i < registers.size(); ++i)
    add(std::to_string(i));
  for (Value value : inputs)
    add(kind(value));
  add("~{memory}");
  Values operands(registers.begin(), registers.end());
  operands.append(inputs.begin(), inputs.end());
  SmallVector<Type> results;
  if (types.size() == 1)
    results = types;
  else if (!types.empty())
    results = {LLVM::LLVMStructType::getLiteral(b.builder.getContext(), types)};
  auto op = LLVM::InlineAsmOp::create(b.builder, b.loc, TypeRange(results), operands, text, constraints,
                                      /*has_side_effects=*/true, /*is_align_stack=*/false,
                                      LLVM::tailcallkind::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  return types.empty() ? Values() : b.wordsOf(op.getResult(0));
}

Values DeviceBuilder::wgmmaFence(ArrayRef<Value> registers) {
  return inPlace(*this, "wgmma.fence.sync.aligned;", registers, {});
}

void DeviceBuilder::wgmmaCommit() { NVVM::WgmmaGroupSyncAlignedOp::create(builder, loc); }

Values DeviceBuilder::wgmmaWait(int64_t pending, ArrayRef<Value> registers) {
  return inPlace(*this, "wgmma.wait_group.sync.aligned " + std::to_string(pending) + ";", registers, {});
}

Values DeviceBuilder::wgmma(ArrayRef<Value> sums, ArrayRef<Value> a, Value descriptorB, Type half, Value first) {
  size_t count = sums.size(), next = 2 * count;
  auto list = [](size_t from, size_t to) {
    std::string text = "{";
    for (size_t i = from; i < to; ++i)
      text += (i == from ? "$" : ", $") + std::to_string(i);
    return text + "}";
  };
  std::string type = half.isF16() ? "f16" : "bf16";
  std::string text = "wgmma.mma_async.sync.aligned.m64n" + std::to_string(2 * count) + "k16.f32." + type + "." + type +
                     " " + list(0, count) + ", " + list(next, next + a.size()) + ", $" +
                     std::to_string(next + a.size()) + ", ";
  Values inputs(a.begin(), a.end());
  inputs.push_back(descriptorB);
  // Whether D is added, no signs, B not transposed.
  if (first) {
    inputs.push_back(arith::ExtUIOp::create(builder, loc, i32(), first));
    text = "{ .reg .pred add; setp.eq.b32 add, $" + std::to_string(next + a.size() + 1) + ", 0; " + text +
           "add, 1, 1, 0; }";
  } else {
    text += "1, 1, 1, 0;";
  }
  return inPlace(*this, text, sums, inputs);
}

/// Units of 16 bytes. The shift is spelled out, so that the simulator sees what it drops.
static Value unitsOf(DeviceBuilder &b, Value bytes) {
  if (std::optional<int64_t> known = getConstantIntValue(bytes); known && *known % 16 == 0)
    return b.i32(*known / 16);
  auto op = LLVM::InlineAsmOp::create(b.builder, b.loc, TypeRange(b.i32()), ValueRange(bytes), "shr.u32 $0, $1, 4;",
                                      "=r,r", /*has_side_effects=*/false, /*is_align_stack=*/false,
                                      LLVM::tailcallkind::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  return op.getResult(0);
}

Value DeviceBuilder::wgmmaDescriptor(Value shared, int64_t leadingBytes, int64_t strideBytes) {
  Value address = LLVM::PtrToIntOp::create(builder, loc, i32(), shared);
  Value wide = arith::ExtUIOp::create(builder, loc, i64(), unitsOf(*this, address));
  return bitOr(wide, i64(leadingBytes / 16 << 16 | strideBytes / 16 << 32));
}

Value DeviceBuilder::wgmmaDescriptorAt(Value descriptor, Value bytes) {
  return add(descriptor, arith::ExtUIOp::create(builder, loc, i64(), unitsOf(*this, bytes)));
}

void DeviceBuilder::fenceProxyAsync() {
  MLIRContext *context = builder.getContext();
  NVVM::FenceProxyOp::create(builder, loc, NVVM::ProxyKindAttr::get(context, NVVM::ProxyKind::async_shared),
                             NVVM::SharedSpaceAttr::get(context, NVVM::SharedSpace::shared_cta));
}
