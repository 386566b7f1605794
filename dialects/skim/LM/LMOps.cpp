//===- LMOps.cpp - verifiers of the language model operations ---------------===//

#include "skim/LM/LMOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"

using namespace mlir;
using namespace skim::lm;

/// Two values of one type, spelled once.
static ParseResult parseSameTypes(OpAsmParser &parser, Type &a, Type &b) {
  if (parser.parseType(a))
    return failure();
  b = a;
  return success();
}
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

LogicalResult RMSNormOp::verify() {
  int64_t size = headSize(*this, typeOf(getInput()), getHeads());
  if (!size)
    return failure();
  if (typeOf(getWeight()).getShape() != ArrayRef<int64_t>(size))
    return emitOpError("expected a weight of ") << size << " elements, got " << getWeight().getType();
  return success();
}

LogicalResult RotaryOp::verify() {
  int64_t size = headSize(*this, typeOf(getInput()), getHeads());
  if (!size)
    return failure();
  RankedTensorType table = typeOf(getCos());
  if (table.getRank() != typeOf(getInput()).getRank() || table.getShape().back() * 2 > size)
    return emitOpError("expected tables of at most ") << size / 2 << " columns, got " << table;
  return success();
}

LogicalResult CacheAppendOp::verify() {
  RankedTensorType cache = typeOf(getCache());
  if (cache.getRank() != 4)
    return emitOpError("expected a cache [batch, heads, capacity, size], got ") << cache;
  if (typeOf(getInput()).getShape().back() != cache.getDimSize(1) * cache.getDimSize(3))
    return emitOpError("expected ") << cache.getDimSize(1) * cache.getDimSize(3) << " channels, got "
                                    << getInput().getType();
  return success();
}

LogicalResult AttentionOp::verify() {
  int64_t size = headSize(*this, typeOf(getQuery()), getHeads());
  if (!size)
    return failure();
  RankedTensorType keys = typeOf(getKeys()), values = typeOf(getValues());
  if (keys.getRank() != 4 || values.getRank() != 4 || keys.getDimSize(1) != values.getDimSize(1))
    return emitOpError("expected caches [batch, heads, capacity, size], got ") << keys << " and " << values;
  if (keys.getDimSize(3) != size)
    return emitOpError("expected keys of head size ") << size << ", got " << keys;
  if (keys.getDimSize(1) < 1 || getHeads() % keys.getDimSize(1))
    return emitOpError("expected a number of heads that is a multiple of the ")
           << keys.getDimSize(1) << " key heads, got " << getHeads();
  if (std::optional<uint64_t> window = getWindow(); window && *window == 0)
    return emitOpError("expected a positive window");
  return success();
}
