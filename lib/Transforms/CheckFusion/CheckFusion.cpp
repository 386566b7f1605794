//===- CheckFusion.cpp - fails if generated code holds decoded weights ------===//

#include "skim/Transforms/CheckFusion.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Interfaces/CallInterfaces.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_CHECKFUSION
#include "skim/Transforms/CheckFusion.h.inc"
} // namespace skim

using namespace skim;

/// An entry of skim.decode_buffer, or −1.
static int64_t entry(DictionaryAttr buffer, StringRef name) {
  auto value = buffer.getAs<IntegerAttr>(name);
  return value ? value.getInt() : -1;
}

/// Size of a kernel's buffer of decoded weights beside the limit and its weight.
static LogicalResult checkBuffer(Operation *call, Operation *kernel) {
  auto buffer = kernel->getAttrOfType<DictionaryAttr>(kDecodeBufferAttr);
  if (!buffer)
    return success();
  auto rows = call->getAttrOfType<IntegerAttr>(kRowsAttr);
  if (!rows)
    return call->emitOpError("expected '")
           << kRowsAttr << "' on the call of a kernel with '" << kDecodeBufferAttr << "', got none";
  int64_t elements = entry(buffer, "elements"), columns = entry(buffer, "columns");
  if (elements < 0 || columns < 0)
    return kernel->emitOpError("expected bytes, elements and columns in '") << kDecodeBufferAttr << "', got " << buffer;
  if (elements > rows.getInt() * columns / 8)
    return call->emitOpError("expected a decode buffer of at most ")
           << rows.getInt() * columns / 8 << " elements, an eighth of the weight's, got " << elements;
  return success();
}

static LogicalResult checkCall(CallOpInterface call) {
  auto symbol = dyn_cast<SymbolRefAttr>(call.getCallableForCallee());
  if (!symbol) {
    if (!call->hasAttr(kBarrierAttr))
      return call->emitOpError("expected calls of kernels or of the barrier, got an indirect call");
    return success();
  }
  Operation *callee = call.resolveCallable();
  auto function = dyn_cast_or_null<FunctionOpInterface>(callee);
  if (!function || function.isExternal())
    return call->emitOpError("expected calls of functions of this module, got ") << symbol;
  return checkBuffer(call, callee);
}

namespace {
struct CheckFusion : public skim::impl::CheckFusionBase<CheckFusion> {
  void runOnOperation() override {
    auto result = getOperation().walk([](Operation *op) -> WalkResult {
      StringRef name = op->getName().getStringRef();
      if (name == "llvm.alloca" || name.starts_with("memref."))
        return op->emitOpError("expected code that allocates nothing");
      if (auto buffer = op->getAttrOfType<DictionaryAttr>(kDecodeBufferAttr))
        if (int64_t bytes = entry(buffer, "bytes"); bytes < 0 || bytes > kMaxDecodeBytes)
          return op->emitOpError("expected a decode buffer of at most ") << kMaxDecodeBytes << " bytes, got " << bytes;
      if (auto call = dyn_cast<CallOpInterface>(op))
        if (failed(checkCall(call)))
          return WalkResult::interrupt();
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};
} // namespace
