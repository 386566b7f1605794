//===- SkimEncodings.cpp - verification and components of encodings ------------===//

#include "skim/Skim/SkimEncodings.h"

#include "mlir/IR/DialectImplementation.h"
#include "skim/Skim/SkimDialect.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace skim;

#include "skim/Skim/SkimInterfaces.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "skim/Skim/SkimEncodings.cpp.inc"

void SkimDialect::registerEncodings() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "skim/Skim/SkimEncodings.cpp.inc"
      >();
}

using EmitError = llvm::function_ref<InFlightDiagnostic()>;

static int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

//===----------------------------------------------------------------------===//
// Verification of the parameters
//===----------------------------------------------------------------------===//

/// Sizes stay below, so that no count of bits overflows.
static constexpr int64_t sizeLimit = int64_t(1) << 31;

static LogicalResult verifyBits(EmitError emitError, unsigned bits, unsigned low, unsigned high) {
  if (bits < low || bits > high)
    return emitError() << "expected bits from " << low << " to " << high << ", got " << bits;
  return success();
}

static LogicalResult verifyGroup(EmitError emitError, int64_t group) {
  if (group < 0 || group >= sizeLimit)
    return emitError() << "expected a positive group below 2^31, got " << group;
  return success();
}

static bool isStoredFloat(Type type) { return type && (type.isF16() || type.isBF16() || type.isF32()); }

/// The rank of a term in the grammar low_rank? scaled? rows? leaf.
static std::optional<int> grammarLevel(Attribute term) {
  return llvm::TypeSwitch<Attribute, std::optional<int>>(term)
      .Case<RowsAttr>([](auto) { return 1; })
      .Case<ScaledAttr>([](auto) { return 2; })
      .Case<LowRankAttr>([](auto) { return 3; })
      .Default(
          [](Attribute other) { return isa_and_nonnull<WeightEncoding>(other) ? std::optional(0) : std::nullopt; });
}

static LogicalResult verifyNesting(EmitError emitError, StringRef outer, Attribute inner, int below) {
  std::optional<int> level = grammarLevel(inner);
  if (!level)
    return emitError() << "expected a weight encoding inside " << outer << ", got " << inner;
  if (*level >= below)
    return emitError() << "expected the order low_rank, scaled, rows, leaf, got " << inner << " inside " << outer;
  return success();
}

LogicalResult DenseAttr::verify(EmitError emitError, Type type) {
  if (!isStoredFloat(type))
    return emitError() << "expected f16, bf16 or f32, got " << type;
  return success();
}

LogicalResult UniformAttr::verify(EmitError emitError, unsigned bits, int64_t group, bool asymmetric, Type zeroType,
                                  Type scaleType) {
  if (failed(verifyBits(emitError, bits, 1, 8)) || failed(verifyGroup(emitError, group)))
    return failure();
  if (zeroType && !asymmetric)
    return emitError() << "expected 'asymmetric' beside zero = " << zeroType;
  if (zeroType && !zeroType.isF16() && !zeroType.isF32())
    return emitError() << "expected zero = f16 or f32, got " << zeroType;
  if (!scaleType.isF16() && !scaleType.isF32())
    return emitError() << "expected scale = f16 or f32, got " << scaleType;
  return success();
}

LogicalResult CodebookAttr::verify(EmitError emitError, unsigned bits, Type table, bool) {
  if (failed(verifyBits(emitError, bits, 1, 8)))
    return failure();
  if (!table.isF16() && !table.isBF16() && !table.isInteger(8))
    return emitError() << "expected table = f16, bf16 or i8, got " << table;
  return success();
}

LogicalResult BlockFloatAttr::verify(EmitError emitError, unsigned bits, int64_t block, BlockElement element) {
  if (failed(verifyBits(emitError, bits, 2, 8)))
    return failure();
  if (block < 1 || block >= sizeLimit)
    return emitError() << "expected a positive block below 2^31, got " << block;
  if (element == BlockElement::E2M1 && bits != 4)
    return emitError() << "expected bits = 4 with element = e2m1, got " << bits;
  return success();
}

LogicalResult PlanesAttr::verify(EmitError emitError, unsigned bits, unsigned levels, int64_t group) {
  if (failed(verifyBits(emitError, bits, 1, 8)) || failed(verifyGroup(emitError, group)))
    return failure();
  if (levels != 1u << bits && levels != (1u << bits) + 1)
    return emitError() << "expected levels = " << (1u << bits) << " or " << ((1u << bits) + 1) << ", got " << levels;
  return success();
}

LogicalResult RowsAttr::verify(EmitError emitError, ArrayRef<Attribute> parts, ArrayRef<int64_t> counts) {
  if (parts.empty() || parts.size() != counts.size())
    return emitError() << "expected at least one part with its number of rows";
  for (auto [part, count] : llvm::zip(parts, counts)) {
    if (count < 1)
      return emitError() << "expected a positive number of rows, got " << count;
    if (failed(verifyNesting(emitError, "rows", part, 1)))
      return failure();
  }
  return success();
}

LogicalResult ScaledAttr::verify(EmitError emitError, Attribute inner) {
  return verifyNesting(emitError, "scaled", inner, 2);
}

LogicalResult LowRankAttr::verify(EmitError emitError, Attribute base, int64_t rank, Attribute factors) {
  if (rank < 1)
    return emitError() << "expected a positive rank, got " << rank;
  if (failed(verifyNesting(emitError, "low_rank", base, 3)))
    return failure();
  return verifyNesting(emitError, "the factors of low_rank", factors, 1);
}

LogicalResult PerTokenAttr::verify(EmitError emitError, unsigned bits, bool) {
  return verifyBits(emitError, bits, 2, 8);
}

LogicalResult PerTokenAttr::verifyEncoding(ArrayRef<int64_t> shape, Type elementType, EmitError emitError) const {
  if (shape.empty() || !isStoredFloat(elementType))
    return emitError() << "expected a tensor of f16, bf16 or f32 with a last dimension for per_token, got rank "
                       << shape.size() << " of " << elementType;
  return success();
}

//===----------------------------------------------------------------------===//
// Verification against a weight's type
//===----------------------------------------------------------------------===//

/// Rank 2, static, positive: what a weight's shape is.
static bool isWeightShape(ArrayRef<int64_t> shape) {
  return shape.size() == 2 && llvm::all_of(shape, [](int64_t size) { return size > 0 && size < sizeLimit; });
}

LogicalResult skim::verifyTensorEncoding(Attribute encoding, ArrayRef<int64_t> shape, Type elementType,
                                         EmitError emitError) {
  if (!isStoredFloat(elementType))
    return emitError() << "expected an element type f16, bf16 or f32 for an encoded tensor, got " << elementType;
  // An activation in block_float: tokens come at run time.
  if (isa<BlockFloatAttr>(encoding) && !isWeightShape(shape) && !shape.empty() && shape.back() > 0)
    return success();
  if (shape.size() != 2)
    return emitError() << "expected a weight of rank 2 (rows, columns), got rank " << shape.size();
  if (!isWeightShape(shape))
    return emitError() << "expected static, positive sizes below 2^31 of an encoded weight, got "
                       << RankedTensorType::get(shape, elementType);
  return cast<WeightEncoding>(encoding).verifyWeight(shape, elementType, emitError);
}

LogicalResult DenseAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }
LogicalResult UniformAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }
LogicalResult CodebookAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }
LogicalResult BlockFloatAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }
LogicalResult PlanesAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }

LogicalResult RowsAttr::verifyWeight(ArrayRef<int64_t> shape, Type elementType, EmitError emitError) const {
  int64_t total = 0; // cannot overflow: what exceeds N counts as N + 1
  for (auto [part, count] : llvm::zip(getParts(), getCounts())) {
    total = std::min(total + std::min(count, shape[0] + 1), shape[0] + 1);
    if (count <= shape[0] && failed(cast<WeightEncoding>(part).verifyWeight({count, shape[1]}, elementType, emitError)))
      return failure();
  }
  if (total != shape[0])
    return emitError() << "expected numbers of rows that sum to " << shape[0] << ", got "
                       << (total > shape[0] ? "more" : std::to_string(total));
  return success();
}

LogicalResult ScaledAttr::verifyWeight(ArrayRef<int64_t> shape, Type elementType, EmitError emitError) const {
  return cast<WeightEncoding>(getInner()).verifyWeight(shape, elementType, emitError);
}

LogicalResult LowRankAttr::verifyWeight(ArrayRef<int64_t> shape, Type elementType, EmitError emitError) const {
  if (failed(cast<WeightEncoding>(getBase()).verifyWeight(shape, elementType, emitError)))
    return failure();
  if (getRank() > std::min(shape[0], shape[1]))
    return emitError() << "expected a rank of at most " << std::min(shape[0], shape[1]) << ", got " << getRank();
  auto factors = cast<WeightEncoding>(getFactors());
  if (failed(factors.verifyWeight({getRank(), shape[1]}, elementType, emitError)))
    return failure();
  return factors.verifyWeight({shape[0], getRank()}, elementType, emitError);
}

//===----------------------------------------------------------------------===//
// Components
//===----------------------------------------------------------------------===//

using Components = SmallVectorImpl<Component>;

static void add(Components &components, StringRef prefix, StringRef name, ComponentKind kind, ArrayRef<int64_t> shape,
                Type type) {
  components.push_back({(prefix + name).str(), kind, RankedTensorType::get(shape, type)});
}

static Type byteType(Attribute attr) { return IntegerType::get(attr.getContext(), 8); }
static Type halfType(Attribute attr) { return Float16Type::get(attr.getContext()); }

/// A row of k codes of `bits` bits, padded to whole bytes.
static int64_t codeBytes(int64_t k, unsigned bits) { return ceilDiv(k * bits, 8); }

void DenseAttr::getComponents(ArrayRef<int64_t> shape, StringRef prefix, Components &components) const {
  add(components, prefix, "data", ComponentKind::Data, shape, getType());
}

void UniformAttr::getComponents(ArrayRef<int64_t> shape, StringRef prefix, Components &components) const {
  int64_t n = shape[0], k = shape[1], groups = getNumGroups(k);
  add(components, prefix, "codes", ComponentKind::Codes, {n, codeBytes(k, getBits())}, byteType(*this));
  add(components, prefix, "scales", ComponentKind::Scales, {n, groups}, getScaleType());
  if (!getAsymmetric())
    return;
  if (getZeroType())
    add(components, prefix, "zeros", ComponentKind::Zeros, {n, groups}, getZeroType());
  else
    add(components, prefix, "zeros", ComponentKind::Zeros, {n, codeBytes(groups, getBits())}, byteType(*this));
}

void CodebookAttr::getComponents(ArrayRef<int64_t> shape, StringRef prefix, Components &components) const {
  int64_t n = shape[0], tables = getTensorScope() ? 1 : n;
  add(components, prefix, "codes", ComponentKind::Codes, {n, codeBytes(shape[1], getBits())}, byteType(*this));
  add(components, prefix, "table", ComponentKind::Table, {tables, int64_t(1) << getBits()}, getTable());
  if (getTable().isInteger(8))
    add(components, prefix, "table_scale", ComponentKind::Scales, {tables}, halfType(*this));
}

void BlockFloatAttr::getComponents(ArrayRef<int64_t> shape, StringRef prefix, Components &components) const {
  int64_t n = shape[0], k = shape[1];
  add(components, prefix, "codes", ComponentKind::Codes, {n, codeBytes(k, getBits())}, byteType(*this));
  add(components, prefix, "exponents", ComponentKind::Exponents, {n, ceilDiv(k, getBlock())}, byteType(*this));
}

void PlanesAttr::getComponents(ArrayRef<int64_t> shape, StringRef prefix, Components &components) const {
  int64_t n = shape[0], k = shape[1], groups = getNumGroups(k);
  int64_t bytes = isBaseFive() ? ceilDiv(7 * ceilDiv(k, 3), 8) : getNumPlanes() * ceilDiv(k, 8);
  add(components, prefix, "codes", ComponentKind::Codes, {n, bytes}, byteType(*this));
  add(components, prefix, "scales", ComponentKind::Scales, {n, groups}, halfType(*this));
  add(components, prefix, "zeros", ComponentKind::Zeros, {n, groups}, byteType(*this));
}

void RowsAttr::getComponents(ArrayRef<int64_t> shape, StringRef prefix, Components &components) const {
  for (auto [index, part] : llvm::enumerate(getParts()))
    cast<WeightEncoding>(part).getComponents({getCounts()[index], shape[1]},
                                             (prefix + "rows." + Twine(index) + ".").str(), components);
  Type type = IntegerType::get(getContext(), shape[0] > 65536 ? 32 : 16);
  add(components, prefix, "permutation", ComponentKind::Permutation, {shape[0]}, type);
}

void ScaledAttr::getComponents(ArrayRef<int64_t> shape, StringRef prefix, Components &components) const {
  cast<WeightEncoding>(getInner()).getComponents(shape, prefix, components);
  add(components, prefix, "alpha", ComponentKind::Alpha, {shape[1]}, halfType(*this));
}

void LowRankAttr::getComponents(ArrayRef<int64_t> shape, StringRef prefix, Components &components) const {
  cast<WeightEncoding>(getBase()).getComponents(shape, prefix, components);
  auto factors = cast<WeightEncoding>(getFactors());
  factors.getComponents({getRank(), shape[1]}, (prefix + "low_rank.a.").str(), components);
  factors.getComponents({shape[0], getRank()}, (prefix + "low_rank.b.").str(), components);
}

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

WeightEncoding skim::getEncoding(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || !isWeightShape(tensor.getShape()))
    return {};
  return dyn_cast_or_null<WeightEncoding>(tensor.getEncoding());
}

bool skim::isEncoded(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getEncoding() && isa<SkimDialect>(tensor.getEncoding().getDialect());
}

SmallVector<Component> skim::getComponents(WeightEncoding encoding, ArrayRef<int64_t> shape) {
  SmallVector<Component> components;
  encoding.getComponents(shape, "", components);
  return components;
}

uint64_t skim::getStoredBits(WeightEncoding encoding, ArrayRef<int64_t> shape) {
  uint64_t bits = 0;
  for (const Component &component : getComponents(encoding, shape))
    bits += component.getBits();
  return bits;
}

LogicalResult LayoutAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError, unsigned word, unsigned lanes) {
  if (word != 16 && word != 32)
    return emitError() << "expected words of 16 or 32 bits, got " << word;
  if (lanes != 8 && lanes != 16 && lanes != 32)
    return emitError() << "expected 8, 16 or 32 lanes, got " << lanes;
  return success();
}
