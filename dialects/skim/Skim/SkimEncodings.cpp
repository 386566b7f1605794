//===- SkimEncodings.cpp - syntax, verification and components of encodings -===//

#include "skim/Skim/SkimEncodings.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/DialectImplementation.h"
#include "skim/Skim/SkimDialect.h"
#include "llvm/ADT/StringSet.h"
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
// Syntax
//===----------------------------------------------------------------------===//

namespace {
/// Reads `<key = value, flag, …>`: every key at most once, unknown keys named.
class TermParser {
public:
  TermParser(AsmParser &parser) : parser(parser) {}

  using Handler = llvm::function_ref<ParseResult(StringRef key)>;

  /// `handler` consumes the value (after `=`) of a key, or the flag.
  ParseResult parse(Handler handler) {
    if (parser.parseLess())
      return failure();
    if (succeeded(parser.parseOptionalGreater()))
      return success();
    llvm::StringSet<> seen;
    do {
      SMLoc loc = parser.getCurrentLocation();
      StringRef key;
      if (parser.parseKeyword(&key))
        return failure();
      if (!seen.insert(key).second)
        return parser.emitError(loc, "'") << key << "' is given twice";
      if (handler(key))
        return failure();
    } while (succeeded(parser.parseOptionalComma()));
    return parser.parseGreater();
  }

  ParseResult integer(int64_t &value) {
    return failure(failed(parser.parseEqual()) || failed(parser.parseInteger(value)));
  }
  ParseResult unsignedInteger(unsigned &value) {
    int64_t wide = 0;
    SMLoc loc = parser.getCurrentLocation();
    if (integer(wide))
      return failure();
    if (wide < 0 || wide > 1 << 20)
      return parser.emitError(loc, "expected a small positive integer, got ") << wide;
    value = static_cast<unsigned>(wide);
    return success();
  }
  ParseResult type(Type &value) { return failure(failed(parser.parseEqual()) || failed(parser.parseType(value))); }
  ParseResult keyword(StringRef &value) {
    return failure(failed(parser.parseEqual()) || failed(parser.parseKeyword(&value)));
  }
  ParseResult attribute(Attribute &value) {
    return failure(failed(parser.parseEqual()) || failed(parser.parseAttribute(value)));
  }
  ParseResult unknown(StringRef key, StringRef known) {
    return parser.emitError(parser.getCurrentLocation(), "unknown parameter '")
           << key << "', expected one of " << known;
  }

private:
  AsmParser &parser;
};

template <typename AttrT, typename... Args>
Attribute makeChecked(AsmParser &parser, SMLoc loc, Args... args) {
  return AttrT::getChecked([&] { return parser.emitError(loc); }, parser.getContext(), args...);
}
} // namespace

Attribute DenseAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  Type type;
  if (parser.parseLess() || parser.parseType(type) || parser.parseGreater())
    return {};
  return makeChecked<DenseAttr>(parser, loc, type);
}
void DenseAttr::print(AsmPrinter &printer) const { printer << "<" << getType() << ">"; }

Attribute UniformAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0;
  int64_t group = 0;
  bool asymmetric = false;
  Type zero, scale = Float16Type::get(parser.getContext());
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "group")
          return fields.integer(group);
        if (key == "asymmetric") {
          asymmetric = true;
          return success();
        }
        if (key == "zero")
          return fields.type(zero);
        if (key == "scale")
          return fields.type(scale);
        return fields.unknown(key, "bits, group, asymmetric, zero, scale");
      }))
    return {};
  return makeChecked<UniformAttr>(parser, loc, bits, group, asymmetric, zero, scale);
}
void UniformAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits();
  if (getGroup())
    printer << ", group = " << getGroup();
  if (getAsymmetric())
    printer << ", asymmetric";
  if (getZeroType())
    printer << ", zero = " << getZeroType();
  if (!getScaleType().isF16())
    printer << ", scale = " << getScaleType();
  printer << ">";
}

Attribute CodebookAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0;
  Type table = Float16Type::get(parser.getContext());
  bool tensorScope = false;
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "table")
          return fields.type(table);
        if (key == "scope") {
          StringRef scope;
          if (fields.keyword(scope))
            return failure();
          if (scope != "tensor" && scope != "row")
            return parser.emitError(loc, "expected scope = row or tensor, got ") << scope;
          tensorScope = scope == "tensor";
          return success();
        }
        return fields.unknown(key, "bits, table, scope");
      }))
    return {};
  return makeChecked<CodebookAttr>(parser, loc, bits, table, tensorScope);
}
void CodebookAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits();
  if (!getTable().isF16())
    printer << ", table = " << getTable();
  if (getTensorScope())
    printer << ", scope = tensor";
  printer << ">";
}

static StringRef spell(BlockElement element) {
  switch (element) {
  case BlockElement::Int:
    return "int";
  case BlockElement::OcpInt:
    return "ocp_int";
  case BlockElement::E2M1:
    return "e2m1";
  }
  return "int";
}

Attribute BlockFloatAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0;
  int64_t block = 16;
  BlockElement element = BlockElement::Int;
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "block")
          return fields.integer(block);
        if (key == "element") {
          StringRef name;
          if (fields.keyword(name))
            return failure();
          for (BlockElement candidate : {BlockElement::Int, BlockElement::OcpInt, BlockElement::E2M1})
            if (spell(candidate) == name) {
              element = candidate;
              return success();
            }
          return parser.emitError(loc, "expected element = int, ocp_int or e2m1, got ") << name;
        }
        return fields.unknown(key, "bits, block, element");
      }))
    return {};
  return makeChecked<BlockFloatAttr>(parser, loc, bits, block, element);
}
void BlockFloatAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits() << ", block = " << getBlock();
  if (getElement() != BlockElement::Int)
    printer << ", element = " << spell(getElement());
  printer << ">";
}

Attribute PlanesAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0, levels = 0;
  int64_t group = 0;
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "levels")
          return fields.unsignedInteger(levels);
        if (key == "group")
          return fields.integer(group);
        return fields.unknown(key, "bits, levels, group");
      }))
    return {};
  if (levels == 0 && bits < 16)
    levels = 1u << bits;
  return makeChecked<PlanesAttr>(parser, loc, bits, levels, group);
}
void PlanesAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits();
  if (getLevels() != 1u << getBits())
    printer << ", levels = " << getLevels();
  if (getGroup())
    printer << ", group = " << getGroup();
  printer << ">";
}

/// The text of a part up to its colon: brackets balance in it.
static StringRef partText(const char *begin) {
  int depth = 0;
  const char *end = begin;
  for (; *end; ++end) {
    if (StringRef("<[({").contains(*end))
      ++depth;
    else if (StringRef(">])}").contains(*end) && depth-- == 0)
      break;
    else if (depth == 0 && (*end == ':' || *end == ','))
      break;
  }
  return StringRef(begin, end - begin).rtrim();
}

/// `#skim.codebook<bits = 2> : 16`, or an alias in place of the term. MLIR's own
/// parser reads `: 16` after a dialect's attribute as that attribute's type, so
/// such a term is parsed from its text; then the tokens are passed over by
/// letting MLIR's parser fail at the count, silently.
static ParseResult parsePart(AsmParser &parser, Attribute &part, int64_t &count) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef text = partText(loc.getPointer());
  if (!text.starts_with("#") || !text.take_until([](char c) { return c == '<'; }).contains('.') ||
      text.end()[0] == ',' || text.end()[0] == ']')
    return failure(parser.parseAttribute(part) || parser.parseColon() || parser.parseInteger(count));
  std::string message;
  {
    ScopedDiagnosticHandler handler(parser.getContext(), [&](Diagnostic &diagnostic) {
      if (message.empty())
        message = diagnostic.str();
      return success();
    });
    part = parseAttribute(text, parser.getContext());
    Attribute ignored;
    (void)parser.parseAttribute(ignored);
  }
  if (!part)
    return parser.emitError(loc) << message;
  return parser.parseInteger(count);
}

Attribute RowsAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  SmallVector<Attribute> parts;
  SmallVector<int64_t> counts;
  if (parser.parseLess() || parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, [&]() -> ParseResult {
        return parsePart(parser, parts.emplace_back(), counts.emplace_back());
      }) ||
      parser.parseGreater())
    return {};
  return RowsAttr::getChecked([&] { return parser.emitError(loc); }, parser.getContext(), parts, counts);
}
void RowsAttr::print(AsmPrinter &printer) const {
  printer << "<[";
  llvm::interleaveComma(llvm::zip(getParts(), getCounts()), printer,
                        [&](auto pair) { printer << std::get<0>(pair) << " : " << std::get<1>(pair); });
  printer << "]>";
}

Attribute ScaledAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  Attribute inner;
  if (parser.parseLess() || parser.parseAttribute(inner) || parser.parseGreater())
    return {};
  return makeChecked<ScaledAttr>(parser, loc, inner);
}
void ScaledAttr::print(AsmPrinter &printer) const { printer << "<" << getInner() << ">"; }

Attribute LowRankAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  Attribute base, factors;
  int64_t rank = 0;
  if (parser.parseLess() || parser.parseAttribute(base) || parser.parseComma() || parser.parseKeyword("rank") ||
      parser.parseEqual() || parser.parseInteger(rank) || parser.parseComma() || parser.parseKeyword("factors") ||
      parser.parseEqual() || parser.parseAttribute(factors) || parser.parseGreater())
    return {};
  return makeChecked<LowRankAttr>(parser, loc, base, rank, factors);
}
void LowRankAttr::print(AsmPrinter &printer) const {
  printer << "<" << getBase() << ", rank = " << getRank() << ", factors = " << getFactors() << ">";
}

Attribute PerTokenAttr::parse(AsmParser &parser, Type) {
  SMLoc loc = parser.getCurrentLocation();
  TermParser fields(parser);
  unsigned bits = 0;
  bool asymmetric = false;
  if (fields.parse([&](StringRef key) -> ParseResult {
        if (key == "bits")
          return fields.unsignedInteger(bits);
        if (key == "asymmetric") {
          asymmetric = true;
          return success();
        }
        return fields.unknown(key, "bits, asymmetric");
      }))
    return {};
  return makeChecked<PerTokenAttr>(parser, loc, bits, asymmetric);
}
void PerTokenAttr::print(AsmPrinter &printer) const {
  printer << "<bits = " << getBits() << (getAsymmetric() ? ", asymmetric>" : ">");
}

//===----------------------------------------------------------------------===//
// Verification of the parameters
//===----------------------------------------------------------------------===//

static LogicalResult verifyBits(EmitError emitError, unsigned bits, unsigned low, unsigned high) {
  if (bits < low || bits > high)
    return emitError() << "expected bits from " << low << " to " << high << ", got " << bits;
  return success();
}

static LogicalResult verifyGroup(EmitError emitError, int64_t group) {
  if (group < 0)
    return emitError() << "expected a positive group, got " << group;
  return success();
}

static bool isStoredFloat(Type type) { return type && (type.isF16() || type.isBF16() || type.isF32()); }

/// The rank of a term in the grammar low_rank? scaled? rows? leaf.
static std::optional<int> grammarLevel(Attribute term) {
  return llvm::TypeSwitch<Attribute, std::optional<int>>(term)
      .Case<DenseAttr, UniformAttr, CodebookAttr, BlockFloatAttr, PlanesAttr>([](auto) { return 0; })
      .Case<RowsAttr>([](auto) { return 1; })
      .Case<ScaledAttr>([](auto) { return 2; })
      .Case<LowRankAttr>([](auto) { return 3; })
      .Default([](auto) { return std::nullopt; });
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
    return emitError() << "expected 'asymmetric' beside 'zero'";
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
  if (block < 1)
    return emitError() << "expected a positive block, got " << block;
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
    return emitError() << "expected at least one part with its row count";
  for (auto [part, count] : llvm::zip(parts, counts)) {
    if (count < 1)
      return emitError() << "expected a positive row count, got " << count;
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
    return emitError() << "expected a float tensor with a last dimension for per_token";
  return success();
}

//===----------------------------------------------------------------------===//
// Verification against a weight's type
//===----------------------------------------------------------------------===//

LogicalResult skim::verifyTensorEncoding(Attribute encoding, ArrayRef<int64_t> shape, Type elementType,
                                         EmitError emitError) {
  if (!isStoredFloat(elementType))
    return emitError() << "expected an element type f16, bf16 or f32 for an encoded weight, got " << elementType;
  if (shape.size() != 2)
    return emitError() << "expected a weight of rank 2 (rows, columns), got rank " << shape.size();
  if (ShapedType::isDynamicShape(shape))
    return emitError() << "expected a static shape for an encoded weight";
  return cast<WeightEncoding>(encoding).verifyWeight(shape, elementType, emitError);
}

LogicalResult DenseAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }
LogicalResult UniformAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }
LogicalResult CodebookAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }
LogicalResult BlockFloatAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }
LogicalResult PlanesAttr::verifyWeight(ArrayRef<int64_t>, Type, EmitError) const { return success(); }

LogicalResult RowsAttr::verifyWeight(ArrayRef<int64_t> shape, Type elementType, EmitError emitError) const {
  int64_t total = 0;
  for (auto [part, count] : llvm::zip(getParts(), getCounts())) {
    total += count;
    if (failed(cast<WeightEncoding>(part).verifyWeight({count, shape[1]}, elementType, emitError)))
      return failure();
  }
  if (total != shape[0])
    return emitError() << "expected row counts that sum to " << shape[0] << ", got " << total;
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
  int64_t n = shape[0], k = shape[1], groups = getGroup() ? ceilDiv(k, getGroup()) : 1;
  // Five levels: three codes (125 values) in 7 bits. Otherwise one plane of K bits after another.
  if (getLevels() == 5)
    add(components, prefix, "codes", ComponentKind::Codes, {n, ceilDiv(ceilDiv(k, 3) * 7, 8)}, byteType(*this));
  else
    add(components, prefix, "codes", ComponentKind::Codes,
        {n, (getLevels() == 1u << getBits() ? getBits() : getBits() + 1) * ceilDiv(k, 8)}, byteType(*this));
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
// Short names
//===----------------------------------------------------------------------===//

static std::string spellAttribute(Attribute attr) {
  std::string text;
  llvm::raw_string_ostream(text) << attr;
  return text;
}

std::string DenseAttr::getShortName() const { return spellAttribute(*this); }

std::string UniformAttr::getShortName() const {
  if (getZeroType() || !getScaleType().isF16())
    return spellAttribute(*this);
  std::string name = "w" + std::to_string(getBits());
  if (getGroup())
    name += "g" + std::to_string(getGroup());
  return getAsymmetric() ? name + "a" : name;
}

std::string CodebookAttr::getShortName() const {
  if (getTensorScope() || getTable().isBF16())
    return spellAttribute(*this);
  return "k" + std::to_string(getBits()) + (getTable().isInteger(8) ? "i" : "");
}

std::string BlockFloatAttr::getShortName() const {
  if (getElement() != BlockElement::Int || getBlock() != 16)
    return spellAttribute(*this);
  return "mx" + std::to_string(getBits());
}

std::string PlanesAttr::getShortName() const {
  if (getGroup())
    return spellAttribute(*this);
  return "p" + std::to_string(getBits()) + (getLevels() != 1u << getBits() ? "b" : "");
}

std::string RowsAttr::getShortName() const { return spellAttribute(*this); }
std::string ScaledAttr::getShortName() const { return spellAttribute(*this); }

std::string LowRankAttr::getShortName() const {
  std::string base = cast<WeightEncoding>(getBase()).getShortName();
  if (base.front() == '#' || cast<WeightEncoding>(getFactors()).getShortName() != "mx8")
    return spellAttribute(*this);
  return base + "+r" + std::to_string(getRank());
}

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

WeightEncoding skim::getEncoding(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? dyn_cast_or_null<WeightEncoding>(tensor.getEncoding()) : WeightEncoding();
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
