//===- LMOps.cpp - verifiers of the language model operations ---------------===//

#include "skim/LM/LMOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace skim::lm;

/// Two values of one type, spelled once.
static ParseResult parseSameTypes(OpAsmParser &parser, Type &a, Type &b) {
  if (parser.parseType(a))
    return failure();
  b = a;
  return success();
}
/// Where types differ (in programmatic IR only; the verifier refuses it) the first is shown.
static void printSameTypes(OpAsmPrinter &printer, Operation *, Type a, Type) { printer << a; }

#define GET_OP_CLASSES
#include "skim/LM/LMOps.cpp.inc"

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

/// The channels divide into `heads` equal parts; returns the size of one, or 0 after an error.
static int64_t headSize(Operation *op, RankedTensorType type, int64_t heads) {
  int64_t channels = type.getRank() ? type.getShape().back() : 0;
  if (heads < 1 || ShapedType::isDynamic(channels) || channels < 1 || channels % heads) {
    op->emitOpError("expected channels that divide into ") << heads << " heads, got " << type;
    return 0;
  }
  return channels / heads;
}

/// Sizes that may be equal at run time.
static bool agree(int64_t a, int64_t b) { return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b; }

/// Each of `others` has the batch (dimension 0) of the first.
static LogicalResult verifyBatch(Operation *op, Value first, ValueRange others) {
  for (Value other : others)
    if (!agree(typeOf(first).getDimSize(0), typeOf(other).getDimSize(0)))
      return op->emitOpError("expected a batch of ")
             << typeOf(first).getDimSize(0) << ", got " << typeOf(other).getDimSize(0) << " in " << other.getType();
  return success();
}

/// `value` is of `shape` where both are static.
static LogicalResult verifyShape(Operation *op, StringRef what, Value value, ArrayRef<int64_t> shape) {
  if (failed(verifyCompatibleShape(typeOf(value).getShape(), shape)))
    return op->emitOpError("expected ") << what << " of shape "
                                        << RankedTensorType::get(shape, getElementTypeOrSelf(value)) << ", got "
                                        << value.getType();
  return success();
}

LogicalResult RMSNormOp::verify() {
  int64_t size = headSize(*this, typeOf(getInput()), getHeads());
  if (!size)
    return failure();
  if (typeOf(getWeight()).getShape() != ArrayRef<int64_t>(size))
    return emitOpError("expected a weight of ") << size << " elements, got " << getWeight().getType();
  if (!(getEpsilon().convertToFloat() >= 0))
    return emitOpError("expected an epsilon of at least 0, got ") << getEpsilon().convertToFloat();
  return success();
}

LogicalResult PositionsOp::verify() { return verifyBatch(*this, getTokens(), getStart()); }

LogicalResult RotaryTableOp::verify() {
  SmallVector<int64_t> shape(typeOf(getPositions()).getShape());
  shape.push_back(typeOf(getFrequencies()).getDimSize(0));
  if (getCos().getType() != getSin().getType())
    return emitOpError("expected cosines and sines of one type, got ")
           << getCos().getType() << " and " << getSin().getType();
  return verifyShape(*this, "tables", getCos(), shape);
}

LogicalResult RotaryOp::verify() {
  int64_t size = headSize(*this, typeOf(getInput()), getHeads());
  if (!size)
    return failure();
  RankedTensorType input = typeOf(getInput()), table = typeOf(getCos());
  if (table.getRank() != input.getRank() || ShapedType::isDynamic(table.getShape().back()) ||
      table.getShape().back() * 2 > size)
    return emitOpError("expected tables of rank ")
           << input.getRank() << " and at most " << size / 2 << " columns, got " << table;
  SmallVector<int64_t> shape(input.getShape());
  shape.back() = table.getShape().back();
  return verifyShape(*this, "tables", getCos(), shape);
}

/// A cache's heads and sizes are static.
static LogicalResult verifyCache(Operation *op, Value cache) {
  RankedTensorType type = typeOf(cache);
  if (type.getDimSize(1) < 1 || type.getDimSize(3) < 1)
    return op->emitOpError("expected a cache [batch, heads, capacity, size] with static heads and size, got ") << type;
  return success();
}

LogicalResult CacheAppendOp::verify() {
  RankedTensorType cache = typeOf(getCache());
  if (failed(verifyCache(*this, getCache())))
    return failure();
  int64_t channels = cache.getDimSize(1) * cache.getDimSize(3);
  if (typeOf(getInput()).getShape().back() != channels)
    return emitOpError("expected ") << channels << " channels, got " << getInput().getType();
  return verifyBatch(*this, getCache(), {getInput(), getStart()});
}

LogicalResult AttentionOp::verify() {
  int64_t size = headSize(*this, typeOf(getQuery()), getHeads());
  if (!size || failed(verifyCache(*this, getKeys())) || failed(verifyCache(*this, getValues())))
    return failure();
  RankedTensorType keys = typeOf(getKeys()), values = typeOf(getValues());
  if (keys.getDimSize(3) != size)
    return emitOpError("expected keys of head size ") << size << ", got " << keys;
  if (keys.getDimSize(1) != values.getDimSize(1) || !agree(keys.getDimSize(2), values.getDimSize(2)))
    return emitOpError("expected keys and values of equal heads and capacity, got ") << keys << " and " << values;
  if (getHeads() % keys.getDimSize(1))
    return emitOpError("expected a number of heads that is a multiple of the ")
           << keys.getDimSize(1) << " key heads, got " << getHeads();
  if (std::optional<uint64_t> window = getWindow(); window && static_cast<int64_t>(*window) < 1)
    return emitOpError("expected a positive window, got ") << static_cast<int64_t>(*window);
  if (std::optional<APFloat> softcap = getSoftcap(); softcap && !(softcap->convertToFloat() > 0))
    return emitOpError("expected a positive softcap, got ") << softcap->convertToFloat();
  SmallVector<int64_t> shape(typeOf(getQuery()).getShape());
  shape.back() = static_cast<int64_t>(getHeads()) * values.getDimSize(3);
  if (failed(verifyShape(*this, "a result", getResult(), shape)))
    return failure();
  return verifyBatch(*this, getQuery(), {getKeys(), getValues(), getStart()});
}

LogicalResult GatherRowsOp::verify() {
  RankedTensorType input = typeOf(getInput());
  if (typeOf(getResult()).getElementType() != input.getElementType())
    return emitOpError("expected a result of ") << input.getElementType() << ", got " << getType();
  return verifyShape(*this, "a result", getResult(), {typeOf(getRows()).getDimSize(0), input.getDimSize(2)});
}

LogicalResult CrossEntropyOp::verify() {
  RankedTensorType logits = typeOf(getLogits());
  if (logits.getRank() < 1)
    return emitOpError("expected logits with a last dimension, got ") << logits;
  if (failed(verifyShape(*this, "targets", getTargets(), logits.getShape().drop_back())))
    return failure();
  return verifyShape(*this, "a result", getResult(), logits.getShape().drop_back());
}
