//===- VerifyEncodings.cpp - checks that encoded tensors stay fenced in -----===//

#include "skim/Transforms/VerifyEncodings.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Skim/SkimEncodings.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_VERIFYENCODINGS
#include "skim/Transforms/VerifyEncodings.h.inc"
} // namespace skim

using namespace skim;

/// True if the operation knows that its tensors may be encoded.
static bool isAllowed(Operation *op) {
  return isa<lm::CacheAppendOp, lm::AttentionOp>(op) ||
         isa_and_present<SkimDialect, func::FuncDialect, scf::SCFDialect>(op->getDialect());
}

namespace {
class VerifyEncodingsPass : public skim::impl::VerifyEncodingsBase<VerifyEncodingsPass> {
  void runOnOperation() override {
    WalkResult walked = getOperation()->walk([](Operation *op) -> WalkResult {
      if (isAllowed(op))
        return WalkResult::advance();
      for (Type type :
           llvm::concat<Type>(llvm::to_vector(op->getOperandTypes()), llvm::to_vector(op->getResultTypes())))
        if (isEncoded(type))
          return op->emitOpError("expected encoded tensors on skim, func, scf and lm cache operations only, got ")
                 << type;
      return WalkResult::advance();
    });
    if (walked.wasInterrupted())
      signalPassFailure();
    markAllAnalysesPreserved();
  }
};
} // namespace
