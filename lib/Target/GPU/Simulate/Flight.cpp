//===- Flight.cpp - how many loads wait at once -----------------------------===//
//
// A warp executes in order and stops at the first use of a value that has not
// arrived. So for each block of operations, in order: a load is on its way from
// where it stands to the first operation that uses its value (or holds such a
// use in a region). Values that a loop hands to its next iteration count as used
// at the iteration's end.
//
//===----------------------------------------------------------------------===//

#include "Simulate.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace skim;
using namespace skim::simulate;

bool simulate::isGlobalLoad(Operation *op) {
  if (isa<NVVM::CpAsyncOp>(op))
    return true;
  if (isa<LLVM::LoadOp>(op))
    return cast<LLVM::LLVMPointerType>(accessOf(op)->pointer.getType()).getAddressSpace() != kSharedSpace;
  if (auto text = dyn_cast<LLVM::InlineAsmOp>(op))
    return parseInlinePtx(text.getAsmString())->kind == InlinePtx::Load;
  if (auto text = dyn_cast<NVVM::InlinePtxOp>(op))
    return parseInlinePtx(text.getPtxCode())->kind == InlinePtx::Load;
  return false;
}

static unsigned loadedBytes(Operation *op) {
  if (auto copy = dyn_cast<NVVM::CpAsyncOp>(op))
    return copy.getSize();
  if (auto access = accessOf(op))
    return access->bytes;
  StringRef text = isa<LLVM::InlineAsmOp>(op) ? cast<LLVM::InlineAsmOp>(op).getAsmString()
                                              : cast<NVVM::InlinePtxOp>(op).getPtxCode();
  InlinePtx load = *parseInlinePtx(text);
  return load.elements * load.bits / 8;
}

static void walkBlock(Block &block, llvm::DenseMap<Operation *, Flight> &result) {
  SmallVector<Operation *> onTheirWay;
  auto landed = [&](llvm::function_ref<bool(Operation *)> used) {
    unsigned bytes = 0, loads = onTheirWay.size();
    for (Operation *load : onTheirWay)
      bytes += loadedBytes(load);
    llvm::erase_if(onTheirWay, [&](Operation *load) {
      if (!used(load))
        return false;
      result[load] = {loads, bytes};
      return true;
    });
  };
  for (Operation &op : block) {
    for (Region &region : op.getRegions())
      for (Block &inner : region)
        walkBlock(inner, result);
    // Copies land where their groups are waited for.
    if (isa<NVVM::CpAsyncWaitGroupOp>(op))
      landed([](Operation *load) { return isa<NVVM::CpAsyncOp>(load); });
    landed([&](Operation *load) {
      return llvm::any_of(load->getUsers(), [&](Operation *user) { return op.isAncestor(user); });
    });
    if (isGlobalLoad(&op))
      onTheirWay.push_back(&op);
  }
  landed([](Operation *) { return true; });
}

llvm::DenseMap<Operation *, Flight> simulate::loadsInFlight(Operation *kernel) {
  llvm::DenseMap<Operation *, Flight> result;
  for (Region &region : kernel->getRegions())
    for (Block &block : region)
      walkBlock(block, result);
  return result;
}
