//===- LaneOps.cpp - verifiers of lane operations ---------------------------===//

#include "skim/Lane/LaneOps.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace skim::lane;

#define GET_OP_CLASSES
#include "skim/Lane/LaneOps.cpp.inc"

static int64_t lanes(Value value) { return cast<VectorType>(value.getType()).getNumElements(); }
static Type element(Value value) { return cast<VectorType>(value.getType()).getElementType(); }

LogicalResult LoadOp::verify() {
  if (static_cast<int64_t>(getCount()) < 0 || static_cast<int64_t>(getCount()) > lanes(getResult()))
    return emitOpError("expected a count from 0 to ") << lanes(getResult()) << ", got " << getCount();
  return success();
}

LogicalResult SpreadOp::verify() {
  int64_t bits = getBits();
  if (bits < 1 || bits > 8)
    return emitOpError("expected bits from 1 to 8, got ") << bits;
  if (lanes(getResult()) * bits > lanes(getBytes()) * 8)
    return emitOpError("expected at least ")
           << (lanes(getResult()) * bits + 7) / 8 << " bytes for the codes, got " << lanes(getBytes());
  return success();
}

LogicalResult LookupOp::verify() {
  if (!llvm::isPowerOf2_64(lanes(getTable())))
    return emitOpError("expected a power of two table entries, got ") << lanes(getTable());
  if (element(getTable()) != element(getResult()))
    return emitOpError("expected results of the table's type ")
           << element(getTable()) << ", got " << element(getResult());
  if (lanes(getCodes()) != lanes(getResult()))
    return emitOpError("expected as many results as codes, ") << lanes(getCodes()) << ", got " << lanes(getResult());
  if (element(getCodes()).getIntOrFloatBitWidth() != element(getTable()).getIntOrFloatBitWidth())
    return emitOpError("expected codes as wide as the table's entries, ")
           << element(getTable()).getIntOrFloatBitWidth() << " bits, got " << element(getCodes());
  return success();
}

LogicalResult GatherOp::verify() {
  if (lanes(getCodes()) != lanes(getResult()))
    return emitOpError("expected as many results as codes, ") << lanes(getCodes()) << ", got " << lanes(getResult());
  return success();
}

LogicalResult DotBF16Op::verify() {
  if (lanes(getA()) != 2 * lanes(getAcc()))
    return emitOpError("expected ") << 2 * lanes(getAcc()) << " factors, got " << lanes(getA());
  return success();
}

LogicalResult DotU8S8Op::verify() {
  if (lanes(getA()) != 4 * lanes(getAcc()))
    return emitOpError("expected ") << 4 * lanes(getAcc()) << " factors, got " << lanes(getA());
  return success();
}

LogicalResult ReduceOp::verify() {
  if (!llvm::isPowerOf2_64(lanes(getVector())))
    return emitOpError("expected a power of two lanes, got ") << lanes(getVector());
  return success();
}
