#include "Operator.h"

using namespace mlir;
using namespace skim::onnx;

//===----------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------===//

static std::string key(StringRef domain, StringRef op) { return (domain + "::" + op).str(); }

void OperatorTable::add(ArrayRef<Operator> family) {
  for (const Operator &row : family)
    rows[key(row.domain, row.name)] = &row;
}

const Operator *OperatorTable::find(StringRef domain, StringRef op) const {
  auto it = rows.find(key(domain, op));
  return it == rows.end() ? nullptr : it->second;
}

const OperatorTable &OperatorTable::get() {
  static const OperatorTable table = [] {
    OperatorTable all;
    all.add(elementwiseOperators());
    all.add(shapeOperators());
    all.add(movementOperators());
    all.add(reductionOperators());
    all.add(linearOperators());
    all.add(normalizationOperators());
    all.add(attentionOperators());
    return all;
  }();
  return table;
}

//===----------------------------------------------------------------------===//
// Operands and attributes
//===----------------------------------------------------------------------===//

const Data *NodeContext::data(unsigned i) {
  if (!has(i))
    return nullptr;
  Info &info = in(i);
  if (info.data)
    return &*info.data;
  std::optional<SmallVector<int64_t>> shape = numbers(info.shape);
  if (!info.isConstant() || !shape)
    return nullptr;
  uint64_t count = 1;
  for (int64_t dim : *shape)
    if (__builtin_mul_overflow(count, static_cast<uint64_t>(dim), &count))
      return nullptr;
  if (count > kFoldElements)
    return nullptr;
  if (info.external) {
    info.data = readData(info.element, info.external->bytes, count, dims);
  } else if (auto integer = dyn_cast<IntegerType>(info.element)) {
    Data data;
    for (const APInt &value : info.dense.getValues<APInt>()) {
      // Unsigned numbers and booleans (i1) are not sign-extended.
      bool isSigned = !integer.isUnsigned() && integer.getWidth() != 1;
      if (!isSigned && value.getActiveBits() > 63)
        return nullptr;
      data.ints.push_back(dims.constant(isSigned ? value.getSExtValue() : static_cast<int64_t>(value.getZExtValue())));
    }
    info.data = std::move(data);
  } else if (isa<FloatType>(info.element)) {
    Data data;
    data.isFloat = true;
    for (APFloat value : info.dense.getValues<APFloat>()) {
      bool loses;
      value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &loses);
      data.floats.push_back(value.convertToDouble());
    }
    info.data = std::move(data);
  }
  return info.data ? &*info.data : nullptr;
}

bool NodeContext::allConstant(const Data &data) const {
  return data.isFloat || llvm::all_of(data.ints, [&](Dim dim) { return number(dim).has_value(); });
}

std::optional<SmallVector<int64_t>> NodeContext::constantInts(unsigned i) {
  const Data *known = data(i);
  if (!known || known->isFloat)
    return std::nullopt;
  SmallVector<int64_t> out;
  for (Dim dim : known->ints) {
    std::optional<int64_t> value = number(dim);
    if (!value)
      return std::nullopt;
    out.push_back(*value);
  }
  return out;
}

std::optional<int64_t> NodeContext::getInt(StringRef name) const {
  auto attr = dyn_cast_or_null<IntegerAttr>(attributes.get(name));
  return attr ? std::optional<int64_t>(attr.getInt()) : std::nullopt;
}

double NodeContext::getFloat(StringRef name, double otherwise) const {
  auto attr = dyn_cast_or_null<FloatAttr>(attributes.get(name));
  return attr ? attr.getValueAsDouble() : otherwise;
}

std::optional<SmallVector<int64_t>> NodeContext::getInts(StringRef name) const {
  auto attr = dyn_cast_or_null<DenseI64ArrayAttr>(attributes.get(name));
  if (!attr)
    return std::nullopt;
  return SmallVector<int64_t>(attr.asArrayRef());
}

StringRef NodeContext::getString(StringRef name, StringRef otherwise) const {
  auto attr = dyn_cast_or_null<StringAttr>(attributes.get(name));
  return attr ? attr.getValue() : otherwise;
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

static skim::Failure nodeFailure(const NodeContext &ctx, const char *kind, std::string expected, std::string got,
                                 std::string hint) {
  std::string who = ctx.domain.empty() ? ctx.op.str() : (ctx.domain + "::" + ctx.op).str();
  return skim::fail(kind + who, "node '" + ctx.name.str() + "'", std::move(expected), std::move(got), std::move(hint));
}

bool NodeContext::fail(std::string expected, std::string got, std::string hint) {
  failure = nodeFailure(*this, "malformed ", std::move(expected), std::move(got), std::move(hint));
  return false;
}

bool NodeContext::unsupported(std::string expected, std::string got, std::string hint) {
  failure = nodeFailure(*this, "unsupported ", std::move(expected), std::move(got), std::move(hint));
  return false;
}

void NodeContext::set(unsigned i, Type element, std::optional<Dims> shape) {
  if (i >= outputs.size())
    return;
  outputs[i].element = element;
  outputs[i].shape = std::move(shape);
}

void NodeContext::setData(Data data) {
  if (outputs.empty() || data.size() > kFoldElements)
    return;
  Type element = outputs[0].element;
  if (data.isFloat)
    for (double &value : data.floats)
      value = roundTo(element, value);
  outputs[0].data = std::move(data);
}

std::string NodeContext::text(const Info &info) const {
  if (!info.element)
    return "none";
  std::string out;
  llvm::raw_string_ostream stream(out);
  if (!info.shape) {
    stream << "*x";
  } else {
    for (Dim dim : *info.shape)
      stream << '[' << dims.text(dim) << ']';
  }
  stream << info.element;
  return out;
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

bool NodeContext::broadcast(const Dims &a, const Dims &b, Dims &out) {
  size_t rank = std::max(a.size(), b.size());
  out.assign(rank, constant(1));
  for (size_t i = 0; i < rank; ++i) {
    size_t ia = i + a.size() - rank, ib = i + b.size() - rank;
    Dim da = i + a.size() >= rank ? a[ia] : constant(1), db = i + b.size() >= rank ? b[ib] : constant(1);
    std::optional<int64_t> na = number(da), nb = number(db);
    if (da == db || nb == 1)
      out[i] = da;
    else if (na == 1)
      out[i] = db;
    else if (na && nb)
      return fail("shapes that broadcast", std::to_string(*na) + " against " + std::to_string(*nb));
    else if (na || nb)
      out[i] = na ? da : db; // the other one is 1 or the same
    else
      out[i] = dims.unknown();
  }
  return true;
}

bool NodeContext::normalizeAxis(int64_t &axis, int64_t rank, StringRef what) {
  if (axis < -rank || axis >= rank)
    return fail(what.str() + " in [" + std::to_string(-rank) + ", " + std::to_string(rank - 1) + "]",
                std::to_string(axis));
  if (axis < 0)
    axis += rank;
  return true;
}

void NodeContext::setVector(unsigned i, ArrayRef<int64_t> values) {
  auto type = RankedTensorType::get({static_cast<int64_t>(values.size())}, builder.getI64Type());
  inputs[i] = makeConstant(DenseElementsAttr::get(type, values));
}

bool NodeContext::axisAttribute(int64_t otherwise, std::optional<int64_t> rank, int64_t &axis) {
  axis = getInt("axis", otherwise);
  if (rank && !normalizeAxis(axis, *rank))
    return false;
  setInt("axis", axis);
  return true;
}

bool NodeContext::intsAttribute(StringRef name, unsigned operand, SmallVector<int64_t> &value, bool &found) {
  found = false;
  if (std::optional<SmallVector<int64_t>> attribute = getInts(name)) {
    value = *attribute;
    found = true;
    return true;
  }
  if (!has(operand)) {
    if (inputs.size() > operand)
      inputs.resize(operand);
    return true;
  }
  std::optional<SmallVector<int64_t>> constant = constantInts(operand);
  if (!constant)
    return unsupported("constant " + name.str(), "a computed operand");
  value = *constant;
  found = true;
  setInts(name, value);
  inputs.erase(inputs.begin() + operand);
  return true;
}

Dim NodeContext::product(ArrayRef<Dim> shape) {
  Dim out = constant(1);
  for (Dim dim : shape) {
    std::optional<Dim> next = dims.multiply(out, dim);
    if (!next)
      return dims.unknown();
    out = *next;
  }
  return out;
}

std::optional<SmallVector<int64_t>> NodeContext::numbers(const std::optional<Dims> &shape) const {
  if (!shape)
    return std::nullopt;
  SmallVector<int64_t> out;
  for (Dim dim : *shape) {
    std::optional<int64_t> value = number(dim);
    if (!value || *value < 0)
      return std::nullopt;
    out.push_back(*value);
  }
  return out;
}

bool skim::onnx::inferSameAsFirst(NodeContext &ctx) {
  ctx.set(0, ctx.in(0).element, ctx.in(0).shape);
  return true;
}
