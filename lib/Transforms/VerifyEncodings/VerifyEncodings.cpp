//===- VerifyEncodings.cpp - checks on tensors at the end of a phase --------===//

#include "skim/Transforms/VerifyEncodings.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/DialectResourceBlobManager.h"
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

/// Bytes of tensor data that an attribute holds; a splat holds one element.
static uint64_t dataBytes(Attribute attribute) {
  if (auto dense = dyn_cast<DenseElementsAttr>(attribute))
    return dense.getRawData().size();
  if (auto strings = dyn_cast<DenseStringElementsAttr>(attribute)) {
    uint64_t bytes = 0;
    for (StringRef text : strings.getRawStringData())
      bytes += text.size();
    return bytes;
  }
  if (auto array = dyn_cast<DenseArrayAttr>(attribute))
    return array.getRawData().size();
  if (auto sparse = dyn_cast<SparseElementsAttr>(attribute))
    return dataBytes(sparse.getIndices()) + dataBytes(sparse.getValues());
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(attribute))
    if (AsmResourceBlob *blob = resource.getRawHandle().getBlob())
      return blob->getData().size();
  return 0;
}

/// IR stays a readable file, whatever the model: large data lies beside it.
static LogicalResult verifySize(Operation *op) {
  LogicalResult result = success();
  op->getAttrDictionary().walk([&](Attribute attribute) {
    uint64_t bytes = dataBytes(attribute);
    if (bytes <= kMaxTensorData)
      return WalkResult::advance();
    result = op->emitOpError("expected at most ")
             << kMaxTensorData << " bytes of tensor data in IR, got " << bytes << " (skim.external keeps it in a file)";
    return WalkResult::interrupt();
  });
  return result;
}

namespace {
class VerifyEncodingsPass : public skim::impl::VerifyEncodingsBase<VerifyEncodingsPass> {
  void runOnOperation() override {
    WalkResult walked = getOperation()->walk([](Operation *op) -> WalkResult {
      if (failed(verifySize(op)))
        return WalkResult::interrupt();
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
