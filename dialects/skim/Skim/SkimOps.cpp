//===- SkimOps.cpp - verifiers, builders and folds of the skim operations ---===//

#include "skim/Skim/SkimOps.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"

using namespace mlir;
using namespace skim;

/// The type that a bias has where none is written: [N] of the result's elements.
static Type impliedBias(Type weight, Type result) {
  auto matrix = dyn_cast_if_present<RankedTensorType>(weight);
  auto output = dyn_cast_if_present<RankedTensorType>(result);
  if (!matrix || !output || matrix.getRank() != 2)
    return {};
  return RankedTensorType::get(matrix.getDimSize(0), output.getElementType());
}

/// `input, weight -> result`, or `input, weight, bias -> result`.
static ParseResult parseLinearTypes(OpAsmParser &parser, std::optional<OpAsmParser::UnresolvedOperand> biasOperand,
                                    Type &input, Type &weight, Type &bias, Type &result) {
  if (parser.parseType(input) || parser.parseComma() || parser.parseType(weight))
    return failure();
  SMLoc loc = parser.getCurrentLocation();
  bool spelled = succeeded(parser.parseOptionalComma());
  if (spelled && !biasOperand)
    return parser.emitError(loc, "expected two operand types without a bias");
  if ((spelled && parser.parseType(bias)) || parser.parseArrow() || parser.parseType(result))
    return failure();
  if (biasOperand && !spelled && !(bias = impliedBias(weight, result)))
    return parser.emitError(loc, "expected a weight of rank 2 (rows, columns) for a bias without a type, got ")
           << weight;
  return success();
}

static void printLinearTypes(OpAsmPrinter &printer, Operation *, Value biasOperand, Type input, Type weight, Type bias,
                             Type result) {
  printer << input << ", " << weight;
  if (biasOperand && bias != impliedBias(weight, result))
    printer << ", " << bias;
  printer << " -> " << result;
}

#define GET_OP_CLASSES
#include "skim/Skim/SkimOps.cpp.inc"

//===----------------------------------------------------------------------===//
// external, assemble, disassemble
//===----------------------------------------------------------------------===//

LogicalResult ExternalOp::verify() {
  if (auto offset = static_cast<int64_t>(getOffset()); offset < 0)
    return emitOpError("expected an offset of at least 0, got ") << offset;
  if (isEncoded(getType()))
    return emitOpError("expected a plain tensor (components are assembled), got ") << getType();
  if (std::optional<ArrayRef<int64_t>> strides = getStrides()) {
    if (static_cast<int64_t>(strides->size()) != cast<RankedTensorType>(getType()).getRank())
      return emitOpError("expected a stride for each dimension of ") << getType() << ", got " << strides->size();
    for (int64_t stride : *strides)
      if (stride < 0)
        return emitOpError("expected strides of at least 0, got ") << stride;
  }
  if (std::optional<StringRef> hash = getSha256();
      hash && (hash->size() != 64 || !llvm::all_of(*hash, llvm::isHexDigit)))
    return emitOpError("expected a sha256 of 64 hexadecimal digits, got '") << *hash << "'";
  if (getFile().empty())
    return emitOpError("expected the name of a file");
  return success();
}

/// assemble and disassemble: the values are the encoding's components.
static LogicalResult verifyComponents(Operation *op, Type type, TypeRange values) {
  WeightEncoding encoding = getEncoding(type);
  if (!encoding)
    return op->emitOpError("expected an encoded weight, got ") << type;
  SmallVector<Component> components = getComponents(encoding, cast<RankedTensorType>(type).getShape());
  if (components.size() != values.size())
    return op->emitOpError("expected ") << components.size() << " components, got " << values.size();
  for (auto [component, value] : llvm::zip(components, values))
    if (component.type != value)
      return op->emitOpError("expected component '")
             << component.name << "' of type " << component.type << ", got " << value;
  return success();
}

LogicalResult AssembleOp::verify() { return verifyComponents(*this, getType(), getComponents().getTypes()); }
LogicalResult DisassembleOp::verify() { return verifyComponents(*this, getInput().getType(), getResultTypes()); }

/// assemble(disassemble(x)) is x, if no component was swapped on the way.
OpFoldResult AssembleOp::fold(FoldAdaptor) {
  auto disassemble = getComponents().empty() ? DisassembleOp() : getComponents()[0].getDefiningOp<DisassembleOp>();
  if (disassemble && disassemble.getInput().getType() == getType() &&
      llvm::equal(disassemble.getComponents(), getComponents()))
    return disassemble.getInput();
  return {};
}

LogicalResult DisassembleOp::fold(FoldAdaptor, SmallVectorImpl<OpFoldResult> &results) {
  auto assemble = getInput().getDefiningOp<AssembleOp>();
  if (!assemble)
    return failure();
  llvm::append_range(results, assemble.getComponents());
  return success();
}

void DisassembleOp::build(OpBuilder &builder, OperationState &state, Value input) {
  SmallVector<Type> types;
  auto type = cast<RankedTensorType>(input.getType());
  for (const Component &component : skim::getComponents(getEncoding(type), type.getShape()))
    types.push_back(component.type);
  build(builder, state, types, input);
}

//===----------------------------------------------------------------------===//
// convert
//===----------------------------------------------------------------------===//

LogicalResult ConvertOp::verify() {
  auto from = cast<RankedTensorType>(getInput().getType()), to = cast<RankedTensorType>(getType());
  if (from.getShape() != to.getShape())
    return emitOpError("expected equal shapes, got ") << from << " and " << to;
  return success();
}

/// A decoded value is rounded to f32 before anything else, so a conversion to
/// plain f32 on the way changes nothing; nor does widening a plain f16.
static bool keepsValues(Type from, Type to) {
  Type element = getElementTypeOrSelf(to);
  if (isEncoded(to))
    return false;
  if (isEncoded(from))
    return element.isF32();
  Type source = getElementTypeOrSelf(from);
  return source == element || element.isF64() || (element.isF32() && (source.isF16() || source.isBF16()));
}

OpFoldResult ConvertOp::fold(FoldAdaptor) {
  if (getInput().getType() == getType())
    return getInput();
  // convert(convert(x)) → convert(x), where the first loses nothing.
  if (auto first = getInput().getDefiningOp<ConvertOp>();
      first && keepsValues(first.getInput().getType(), first.getType())) {
    if (first.getInput().getType() == getType() && !isEncoded(getType()))
      return first.getInput();
    if (!isEncoded(getType())) {
      getInputMutable().assign(first.getInput());
      return getResult();
    }
  }
  // A dense weight is its data.
  if (auto assemble = getInput().getDefiningOp<AssembleOp>(); assemble &&
                                                              isa<DenseAttr>(getEncoding(assemble.getType())) &&
                                                              assemble.getComponents().getTypes().front() == getType())
    return assemble.getComponents().front();
  return {};
}

//===----------------------------------------------------------------------===//
// linear, embed, observe
//===----------------------------------------------------------------------===//

LogicalResult LinearOp::verify() {
  auto input = cast<RankedTensorType>(getInput().getType());
  auto weight = cast<RankedTensorType>(getWeight().getType());
  auto result = cast<RankedTensorType>(getType());
  if (weight.getRank() != 2)
    return emitOpError("expected a weight of rank 2 (rows, columns), got ") << weight;
  if (input.getRank() < 1 || result.getRank() != input.getRank())
    return emitOpError("expected input and result of equal rank, got ") << input << " and " << result;
  int64_t n = weight.getDimSize(0), k = weight.getDimSize(1);
  if (input.getShape().back() != k)
    return emitOpError("expected an input of ") << k << " columns, got " << input;
  if (result.getShape().back() != n)
    return emitOpError("expected a result of ") << n << " columns, got " << result;
  if (input.getShape().drop_back() != result.getShape().drop_back())
    return emitOpError("expected equal leading dimensions, got ") << input << " and " << result;
  if (Value bias = getBias()) {
    auto type = cast<RankedTensorType>(bias.getType());
    if (type.getShape() != ArrayRef<int64_t>(n))
      return emitOpError("expected a bias of ") << n << " elements, got " << type;
  }
  if (std::optional<StringRef> mode = getMode(); mode && *mode != "f32" && *mode != "bf16" && *mode != "a8")
    return emitOpError("expected mode f32, bf16 or a8, got ") << *mode;
  return success();
}

void LinearOp::build(OpBuilder &builder, OperationState &state, Value input, Value weight, Value bias) {
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape.back() = cast<RankedTensorType>(weight.getType()).getDimSize(0);
  build(builder, state, RankedTensorType::get(shape, type.getElementType()), input, weight, bias, StringAttr(),
        StringAttr(), StringAttr());
}

/// Reads through a conversion of the weight to f32 that decodes: the product
/// decodes by itself, without the whole decoded weight.
template <typename OpT> static LogicalResult readThroughDecode(OpOperand &weight, OpT op, PatternRewriter &rewriter) {
  auto convert = weight.get().getDefiningOp<ConvertOp>();
  if (!convert)
    return rewriter.notifyMatchFailure(op, "the weight is not converted");
  if (!keepsValues(convert.getInput().getType(), convert.getType()))
    return rewriter.notifyMatchFailure(op, "the conversion rounds");
  rewriter.modifyOpInPlace(op, [&] { weight.set(convert.getInput()); });
  return success();
}

void LinearOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *) {
  patterns.add(
      +[](LinearOp op, PatternRewriter &rewriter) { return readThroughDecode(op.getWeightMutable(), op, rewriter); });
}

LogicalResult EmbedOp::verify() {
  auto ids = cast<RankedTensorType>(getIds().getType());
  auto table = cast<RankedTensorType>(getTable().getType());
  auto result = cast<RankedTensorType>(getType());
  if (table.getRank() != 2)
    return emitOpError("expected a table of rank 2, got ") << table;
  SmallVector<int64_t> shape(ids.getShape());
  shape.push_back(table.getDimSize(1));
  if (result.getShape() != ArrayRef<int64_t>(shape))
    return emitOpError("expected a result of shape ")
           << RankedTensorType::get(shape, result.getElementType()) << ", got " << result;
  return success();
}

void EmbedOp::build(OpBuilder &builder, OperationState &state, Value ids, Value table) {
  auto type = cast<RankedTensorType>(table.getType());
  SmallVector<int64_t> shape(cast<RankedTensorType>(ids.getType()).getShape());
  shape.push_back(type.getDimSize(1));
  build(builder, state, RankedTensorType::get(shape, type.getElementType()), ids, table, StringAttr(), StringAttr());
}

void EmbedOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *) {
  patterns.add(
      +[](EmbedOp op, PatternRewriter &rewriter) { return readThroughDecode(op.getTableMutable(), op, rewriter); });
}

LogicalResult ObserveOp::verify() {
  auto type = cast<RankedTensorType>(getInput().getType());
  if (isEncoded(type) || type.getRank() < 1)
    return emitOpError("expected a plain tensor with a last dimension, got ") << type;
  if (getLayer().empty())
    return emitOpError("expected the name of a layer");
  return success();
}
