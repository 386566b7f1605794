//===- VerifyCache.cpp - checks that caches are never copied ----------------===//

#include "skim/Transforms/VerifyCache.h"

#include "skim/LM/LMOps.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_VERIFYCACHE
#include "skim/Transforms/VerifyCache.h.inc"
} // namespace skim

using namespace skim;

/// Follows the chain that begins at `cache` (argument number `argument`); its end
/// goes to `end`.
static LogicalResult verifyChain(func::FuncOp function, Value cache, unsigned argument, Value &end) {
  for (Value current = cache;;) {
    lm::CacheAppendOp append;
    for (OpOperand &use : current.getUses()) {
      Operation *user = use.getOwner();
      if (user->getBlock() != &function.getBody().front())
        return user->emitOpError("expected cache ")
               << argument << " used in the function's own block, got a nested use";
      if (auto next = dyn_cast<lm::CacheAppendOp>(user);
          next && use.get() == next.getCache() && &use == &next.getCacheMutable()) {
        if (append)
          return user->emitOpError("expected one append to cache ") << argument << ", got two, which needs a copy";
        append = next;
      } else if (!isa<lm::AttentionOp, func::ReturnOp>(user)) {
        return user->emitOpError("expected cache ")
               << argument << " used by lm.cache_append, lm.attention and return only, got this use";
      }
    }
    if (!append) {
      end = current;
      return success();
    }
    for (Operation *user : current.getUsers())
      if (user != append && append->isBeforeInBlock(user))
        return user->emitOpError("expected no use of cache ")
               << argument << " after lm.cache_append wrote into it, got this use";
    current = append.getResult();
  }
}

static LogicalResult verifyFunction(func::FuncOp function) {
  if (function.isDeclaration())
    return success();
  SmallVector<Value> ends;
  for (BlockArgument argument : function.getArguments())
    if (function.getArgAttr(argument.getArgNumber(), "skim.cache"))
      if (failed(verifyChain(function, argument, argument.getArgNumber(), ends.emplace_back())))
        return failure();
  if (ends.empty())
    return success();
  Operation *terminator = function.getBody().back().getTerminator();
  if (terminator->getNumOperands() < ends.size() ||
      terminator->getOperands().take_back(ends.size()) != ValueRange(ends))
    return terminator->emitOpError("expected the last ")
           << ends.size() << " results to be the caches in the order of the arguments, got something else";
  return success();
}

namespace {
class VerifyCachePass : public skim::impl::VerifyCacheBase<VerifyCachePass> {
  void runOnOperation() override {
    WalkResult walked =
        getOperation()->walk([](func::FuncOp function) { return WalkResult(verifyFunction(function)); });
    if (walked.wasInterrupted())
      signalPassFailure();
    markAllAnalysesPreserved();
  }
};
} // namespace
