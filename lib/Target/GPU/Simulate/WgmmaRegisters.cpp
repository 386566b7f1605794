//===- WgmmaRegisters.cpp - what uses registers that wgmma has ---------------===//
//
// On a device a register is wgmma's from wgmma.fence to wgmma.wait_group: what
// reads or writes it meanwhile is undefined. Here registers are values: a fence
// makes them wgmma's, a wait gives other ones back, and what lies between may only
// flow through wgmma, loops and branches. What depends on how many groups are
// waited for is checked when a kernel runs.
//
//===----------------------------------------------------------------------===//

#include "Simulate.h"

#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace skim;
using namespace skim::simulate;

namespace {
class Search {
public:
  explicit Search(gpu::GPUFuncOp kernel) : kernel(kernel) {}

  FailureOr<llvm::DenseSet<Value>> run() {
    kernel.getBody().walk([&](Operation *op) {
      std::optional<InlinePtx> text = inlinePtxOf(op);
      if (text && (text->kind == InlinePtx::WgmmaFence || text->kind == InlinePtx::Wgmma))
        for (Value result : op->getResults())
          hold(result);
    });
    while (!work.empty()) {
      Value value = work.pop_back_val();
      for (OpOperand &use : value.getUses())
        follow(value, use);
    }
    kernel.getBody().walk([&](Operation *op) { check(op); });
    if (!fine)
      return failure();
    return std::move(held);
  }

private:
  void hold(Value value) {
    if (held.insert(value).second)
      work.push_back(value);
  }

  void reject(Operation *op, const Twine &reason) {
    op->emitOpError() << reason.str();
    fine = false;
  }

  void follow(Value value, OpOperand &use) {
    Operation *user = use.getOwner();
    unsigned number = use.getOperandNumber();
    if (std::optional<InlinePtx> text = inlinePtxOf(user); text && text->isWarpgroup())
      return;
    if (isa<LLVM::ExtractValueOp>(user))
      return hold(user->getResult(0));
    if (auto loop = dyn_cast<scf::ForOp>(user); loop && number >= loop.getNumControlOperands()) {
      hold(loop.getRegionIterArg(number - loop.getNumControlOperands()));
      return hold(loop.getResult(number - loop.getNumControlOperands()));
    }
    if (isa<scf::YieldOp>(user) && isa<scf::ForOp, scf::IfOp, scf::IndexSwitchOp>(user->getParentOp())) {
      if (auto loop = dyn_cast<scf::ForOp>(user->getParentOp()))
        hold(loop.getRegionIterArg(number));
      return hold(user->getParentOp()->getResult(number));
    }
    reject(user, "uses a register that wgmma has: expected it behind wgmma.wait_group");
  }

  /// Registers of wgmma are handed over, on each way.
  void check(Operation *op) {
    auto expect = [&](Operation *at, ValueRange values) {
      if (llvm::any_of(values, [&](Value value) { return !held.contains(value); }))
        reject(at, "is given a register that was not handed to wgmma: expected it behind wgmma.fence");
    };
    if (std::optional<InlinePtx> text = inlinePtxOf(op)) {
      if (text->kind == InlinePtx::Wgmma)
        expect(op, op->getOperands().take_front(text->elements / 2 + 4));
      else if (text->kind == InlinePtx::WgmmaWait)
        expect(op, op->getOperands());
    } else if (auto loop = dyn_cast<scf::ForOp>(op)) {
      for (auto [argument, first] : llvm::zip(loop.getRegionIterArgs(), loop.getInitArgs()))
        if (held.contains(argument))
          expect(op, {first});
    } else if (isa<scf::YieldOp>(op)) {
      for (auto [value, result] : llvm::zip(op->getOperands(), op->getParentOp()->getResults()))
        if (held.contains(result))
          expect(op, {value});
    }
  }

  gpu::GPUFuncOp kernel;
  llvm::DenseSet<Value> held;
  SmallVector<Value> work;
  bool fine = true;
};
} // namespace

FailureOr<llvm::DenseSet<Value>> simulate::wgmmaRegisters(gpu::GPUFuncOp kernel) { return Search(kernel).run(); }
