//===- GraphElements.cpp - elements of an ONNX graph's tensors --------------===//

#include "Graph.h"

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace skim::raise;
using skim::onnx::NodeOp;

Expr Graph::element(Value value, ArrayRef<Expr> position) {
  if (const Raised *raised = getRaised(value)) {
    if (raised->variables.size() != position.size())
      return expressions.load(raised->value, position);
    Substitution map;
    for (auto [variable, at] : llvm::zip_equal(raised->variables, position))
      if (variable->kind == Kind::Index)
        map[variable] = at;
    SmallVector<Expr> inner;
    for (Expr e : raised->position)
      inner.push_back(expressions.substitute(e, map));
    return expressions.load(raised->value, inner);
  }
  auto key = std::make_pair(value.getAsOpaquePointer(), SmallVector<Expr, 5>(position));
  if (auto it = elements.find(key); it != elements.end())
    return it->second;
  if (depth >= kMaxDepth)
    return expressions.load(value, position);
  ++depth;
  Expr out = computeElement(value, position);
  --depth;
  return elements[key] = out;
}

Expr Graph::computeElement(Value value, ArrayRef<Expr> position) {
  auto op = value.getDefiningOp<NodeOp>();
  if (!op)
    return expressions.load(value, position);
  const std::optional<Dims> &dims = shape(value);
  Expr out = nullptr;
  if (dims && dims->size() == position.size() && (op.getDomain().empty() || op.getOpType() == "RotaryEmbedding"))
    out = nodeElement(op, cast<OpResult>(value).getResultNumber(), position);
  return out ? out : expressions.load(value, position);
}

Expr Graph::broadcastElement(Value input, ArrayRef<Expr> position) {
  const std::optional<Dims> &dims = shape(input);
  if (!dims || dims->size() > position.size())
    return nullptr;
  SmallVector<Expr> inner;
  size_t shift = position.size() - dims->size();
  for (auto [i, size] : llvm::enumerate(*dims))
    inner.push_back(size->isNumber(1) ? expressions.number(0) : position[i + shift]);
  return element(input, inner);
}

Expr Graph::nodeElement(NodeOp op, unsigned result, ArrayRef<Expr> position) {
  if (op.getOpType() == "RotaryEmbedding")
    return rotaryElement(op, position);
  if (Expr out = arithmeticElement(op, position))
    return out;
  return movementElement(op, result, position);
}

Expr Graph::arithmeticElement(NodeOp op, ArrayRef<Expr> position) {
  StringRef name = op.getOpType();
  Expressions &x = expressions;
  Type type = getElementTypeOrSelf(op.getResult(0).getType());
  auto arg = [&](unsigned i) { return operand(op, i) ? broadcastElement(operand(op, i), position) : nullptr; };
  enum { A, B, C };
  unsigned arity = llvm::StringSwitch<unsigned>(name)
                       .Cases({"Cast", "CastLike", "Identity", "Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log"}, 1)
                       .Cases({"Sin", "Cos", "Tanh", "Sigmoid", "Erf", "Floor", "Ceil", "Relu", "IsNaN", "Not"}, 1)
                       .Cases({"Add", "Sub", "Mul", "Div", "Pow", "Mod", "And", "Or", "Max", "Min"}, 2)
                       .Cases({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}, 2)
                       .Case("Where", 3)
                       .Default(0);
  if (!arity || (arity > 1 && op.getInputs().size() != arity))
    return nullptr;
  Expr e[3] = {};
  for (unsigned i = 0; i < arity; ++i)
    if (!(e[i] = arg(i)))
      return nullptr;

  if (name == "Cast" || name == "CastLike") {
    if (type.isInteger(1))
      return e[A]->boolean ? e[A] : x.logicalNot(x.isZero(e[A]));
    return isa<FloatType>(type) || e[A]->integer ? e[A] : x.apply("trunc", {e[A]});
  }
  if (name == "Identity")
    return e[A];
  if (name == "Neg")
    return x.neg(e[A]);
  if (name == "Sqrt")
    return x.pow(e[A], 0.5);
  if (name == "Reciprocal")
    return x.pow(e[A], -1);
  if (name == "Relu")
    return x.apply("max", {e[A], x.number(0)});
  if (name == "Not")
    return x.logicalNot(e[A]);
  if (arity == 1)
    return x.apply(name.lower(), {e[A]});
  if (name == "Add")
    return x.add(e[A], e[B]);
  if (name == "Sub")
    return x.sub(e[A], e[B]);
  if (name == "Mul")
    return x.mul(e[A], e[B]);
  if (name == "Div") {
    if (isa<FloatType>(type))
      return x.mul(e[A], x.pow(e[B], -1));
    // ONNX rounds towards zero: the same where both are positive.
    if (x.alwaysNonNegative(e[A]) && x.alwaysNonNegative(x.add(e[B], -1)))
      return x.floorDiv(e[A], e[B]);
    return nullptr;
  }
  if (name == "Mod")
    return x.alwaysNonNegative(x.add(e[B], -1)) && type.isIntOrIndex() ? x.mod(e[A], e[B]) : nullptr;
  if (name == "Pow")
    return e[B]->isNumber() ? x.pow(e[A], e[B]->number) : nullptr;
  if (name == "And")
    return x.logicalAnd(e[A], e[B]);
  if (name == "Or")
    return x.logicalOr(e[A], e[B]);
  if (name == "Max" || name == "Min")
    return x.apply(name.lower(), {e[A], e[B]});
  if (name == "Equal")
    return x.isZero(x.sub(e[A], e[B]));
  if (name == "GreaterOrEqual")
    return x.nonNegative(x.sub(e[A], e[B]));
  if (name == "LessOrEqual")
    return x.nonNegative(x.sub(e[B], e[A]));
  if (name == "Greater")
    return x.logicalNot(x.nonNegative(x.sub(e[B], e[A])));
  if (name == "Less")
    return x.logicalNot(x.nonNegative(x.sub(e[A], e[B])));
  return x.select(e[A], e[B], e[C]); // Where
}

Expr Graph::movementElement(NodeOp op, unsigned result, ArrayRef<Expr> position) {
  StringRef name = op.getOpType();
  Expressions &x = expressions;
  Value first = operand(op, 0);
  if (!first)
    return nullptr;
  if (name == "ConstantOfShape") {
    auto value = dyn_cast_or_null<DenseElementsAttr>(
        op.getNodeAttributesAttr() ? op.getNodeAttributesAttr().get("value") : Attribute());
    if (!value)
      return op.getNodeAttributesAttr() && op.getNodeAttributesAttr().get("value") ? nullptr : x.number(0);
    if (value.getNumElements() != 1)
      return nullptr;
    if (isa<FloatType>(value.getElementType())) {
      APFloat number = *value.value_begin<APFloat>();
      bool loses;
      number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &loses);
      return x.number(number.convertToDouble());
    }
    if (!isa<IntegerType>(value.getElementType()))
      return nullptr;
    APInt number = *value.value_begin<APInt>();
    return x.number(number.getBitWidth() == 1 ? static_cast<double>(number.getZExtValue())
                                              : static_cast<double>(number.getSExtValue()));
  }
  if (name == "Range")
    return x.add(element(first, {}), position[0]);
  const std::optional<Dims> &dims = shape(first);
  if (!dims)
    return nullptr;
  const Dims in = *dims;
  int64_t rank = static_cast<int64_t>(in.size());
  int64_t axis = getInt(op, "axis", 0);
  axis += axis < 0 ? rank : 0;
  SmallVector<Expr> at(position);

  if (name == "Shape") {
    std::optional<int64_t> i = number(position[0]);
    int64_t start = getInt(op, "start", 0);
    start = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
    return i && *i + start >= 0 && *i + start < rank ? in[*i + start] : nullptr;
  }
  if (name == "Size") {
    Expr out = x.number(1);
    for (Expr size : in)
      out = x.mul(out, size);
    return out;
  }
  if (name == "Transpose") {
    std::optional<SmallVector<int64_t>> perm = getInts(op, "perm");
    for (int64_t i = 0; i < rank; ++i)
      at[perm ? (*perm)[i] : rank - 1 - i] = position[i];
    return element(first, at);
  }
  if (name == "Reshape" || name == "Flatten" || name == "Squeeze" || name == "Unsqueeze")
    return reshapeElement(first, *shape(op.getResult(0)), position);
  if (name == "Expand")
    return broadcastElement(first, position);
  if (name == "Slice") {
    std::optional<SmallVector<SliceAxis>> axes = sliceAxes(op);
    if (!axes)
      return nullptr;
    for (auto [i, slice] : llvm::enumerate(*axes))
      at[i] = x.add(slice.start, x.mul(position[i], x.number(static_cast<double>(slice.step))));
    return element(first, at);
  }
  if (name == "Split") {
    std::optional<SmallVector<int64_t>> sizes = getInts(op, "split");
    if (!sizes && operand(op, 1))
      sizes = numbers(operand(op, 1));
    std::optional<int64_t> size = number(in[axis]);
    if (!sizes && size)
      sizes = SmallVector<int64_t>(op.getNumResults(), *size / op.getNumResults());
    if (!sizes)
      return nullptr;
    int64_t offset = 0;
    for (unsigned i = 0; i < result; ++i)
      offset += (*sizes)[i];
    at[axis] = x.add(at[axis], static_cast<double>(offset));
    return element(first, at);
  }
  if (name == "Concat") {
    // From the last part backwards: select(position < begin, earlier, part).
    SmallVector<Expr> begins;
    Expr offset = x.number(0);
    for (Value input : op.getInputs()) {
      begins.push_back(offset);
      const std::optional<Dims> &part = shape(input);
      if (!part)
        return nullptr;
      offset = x.add(offset, (*part)[axis]);
    }
    Expr out = nullptr;
    SmallVector<std::pair<Expr, Expr>> parts; // condition (in this part or later), element
    for (size_t i = op.getInputs().size(); i-- > 0;) {
      Expr here = x.nonNegative(x.sub(position[axis], begins[i]));
      if (here->isNumber(0))
        continue;
      at[axis] = x.sub(position[axis], begins[i]);
      parts.push_back({here, element(op.getInputs()[i], at)});
      if (here->isNumber(1))
        break;
    }
    for (auto [here, value] : llvm::reverse(parts))
      out = out ? x.select(here, value, out) : value;
    return out;
  }
  if (name == "Gather") {
    const std::optional<Dims> &indices = shape(operand(op, 1));
    if (!indices)
      return nullptr;
    size_t count = indices->size();
    Expr index = element(operand(op, 1), position.slice(axis, count));
    if (index->isNumber() && index->number < 0)
      index = x.add(in[axis], index);
    SmallVector<Expr> inner(position.take_front(axis));
    inner.push_back(index);
    llvm::append_range(inner, position.drop_front(axis + count));
    return element(first, inner);
  }
  if (name == "GatherND") {
    int64_t count = *number(shape(operand(op, 1))->back());
    size_t outer = shape(operand(op, 1))->size() - 1;
    SmallVector<Expr> inner, where(position.take_front(outer));
    where.push_back(nullptr);
    for (int64_t i = 0; i < count; ++i) {
      where.back() = x.number(static_cast<double>(i));
      inner.push_back(element(operand(op, 1), where));
    }
    llvm::append_range(inner, position.drop_front(outer));
    return element(first, inner);
  }
  if (name == "Trilu") {
    Expr diagonal = operand(op, 1) ? element(operand(op, 1), {}) : x.number(0);
    if (rank < 2 || !diagonal->integer)
      return nullptr;
    Expr distance = x.sub(x.sub(position[rank - 1], position[rank - 2]), diagonal);
    Expr keep = x.nonNegative(getInt(op, "upper", 1) ? distance : x.neg(distance));
    return x.select(keep, element(first, position), x.number(0));
  }
  if (name == "MatMul") {
    // A product over one element is a multiplication (inv_freq @ positions).
    const std::optional<Dims> &right = shape(operand(op, 1));
    if (!right || !in.back()->isNumber(1))
      return nullptr;
    SmallVector<Expr> a(position), b(position);
    a.back() = x.number(0);
    b[b.size() - 2] = x.number(0);
    Expr ea = broadcastElement(first, a), eb = broadcastElement(operand(op, 1), b);
    return ea && eb ? x.mul(ea, eb) : nullptr;
  }
  return nullptr;
}

Expr Graph::reshapeElement(Value input, ArrayRef<Expr> outShape, ArrayRef<Expr> position) {
  Expressions &x = expressions;
  const Dims in = *shape(input);
  SmallVector<Expr> at(in.size(), x.number(0));
  // Dimensions of 1 carry nothing.
  SmallVector<size_t> ins, outs;
  for (auto [i, size] : llvm::enumerate(in))
    if (!size->isNumber(1))
      ins.push_back(i);
  for (auto [i, size] : llvm::enumerate(outShape))
    if (!size->isNumber(1))
      outs.push_back(i);
  // Runs of dimensions with equal products on both sides are mapped by themselves.
  size_t i = 0, o = 0;
  while (i < ins.size() && o < outs.size()) {
    size_t firstIn = i, firstOut = o;
    Expr inProduct = in[ins[i++]], outProduct = outShape[outs[o++]];
    while (inProduct != outProduct) {
      bool inSmaller = inProduct->isNumber() && outProduct->isNumber() ? inProduct->number < outProduct->number
                                                                       : !!x.divideExactly(outProduct, inProduct);
      if (inSmaller && i < ins.size())
        inProduct = x.mul(inProduct, in[ins[i++]]);
      else if (!inSmaller && o < outs.size())
        outProduct = x.mul(outProduct, outShape[outs[o++]]);
      else
        return nullptr;
    }
    Expr linear = x.number(0);
    for (size_t k = firstOut; k < o; ++k)
      linear = x.add(x.mul(linear, outShape[outs[k]]), position[outs[k]]);
    for (size_t k = i; k-- > firstIn + 1;) {
      at[ins[k]] = x.mod(linear, in[ins[k]]);
      linear = x.floorDiv(linear, in[ins[k]]);
    }
    at[ins[firstIn]] = linear;
  }
  return i == ins.size() && o == outs.size() ? element(input, at) : nullptr;
}

/// ai.onnx RotaryEmbedding (opset 23) and com.microsoft RotaryEmbedding.
Expr Graph::rotaryElement(NodeOp op, ArrayRef<Expr> position) {
  Expressions &x = expressions;
  bool microsoft = op.getDomain() == "com.microsoft";
  Value input = operand(op, 0), positions = operand(op, microsoft ? 1 : 3);
  Value cosTable = operand(op, microsoft ? 2 : 1), sinTable = operand(op, microsoft ? 3 : 2);
  if (!input || !cosTable || !sinTable || !shape(input) || !shape(cosTable) || shape(cosTable)->empty())
    return nullptr;
  std::optional<int64_t> half = number(shape(cosTable)->back());
  if (!half)
    return nullptr;
  size_t rank = position.size();
  Expr b = position[0], s, channel, base;
  if (rank == 4) {
    s = position[2];
    channel = position[3];
    base = x.number(0);
  } else if (rank == 3) {
    int64_t heads = getInt(op, "num_heads", 0);
    std::optional<int64_t> channels = number(shape(input)->back());
    if (!channels)
      return nullptr;
    int64_t size = heads ? *channels / heads : *half * 2;
    s = position[1];
    channel = x.mod(position[2], x.number(static_cast<double>(size)));
    base = x.sub(position[2], channel);
  } else {
    return nullptr;
  }
  auto table = [&](Value tensor, Expr column) -> Expr {
    if (!positions)
      return element(tensor, {b, s, column});
    const std::optional<Dims> &dims = shape(positions);
    if (!dims || dims->size() != 2)
      return nullptr;
    return element(tensor, {element(positions, {b, s}), column});
  };
  auto in = [&](Expr c) {
    SmallVector<Expr> at(position);
    at.back() = x.add(base, c);
    return element(input, at);
  };
  bool interleaved = getInt(op, "interleaved", 0);
  Expr r = x.number(static_cast<double>(*half));
  Expr column = interleaved ? x.floorDiv(channel, x.number(2))
                            : x.select(x.nonNegative(x.sub(channel, r)), x.sub(channel, r), channel);
  // Whether this is the second of the pair.
  Expr second = interleaved ? x.logicalNot(x.isZero(x.mod(channel, x.number(2)))) : x.nonNegative(x.sub(channel, r));
  Expr distance = interleaved ? x.number(1) : r;
  Expr cosine = table(cosTable, column), sine = table(sinTable, column);
  if (!cosine || !sine)
    return nullptr;
  Expr rotated = x.select(second, in(x.sub(channel, distance)), x.neg(in(x.add(channel, distance))));
  Expr out = x.add(x.mul(in(channel), cosine), x.mul(rotated, sine));
  Expr inside = x.logicalNot(x.nonNegative(x.sub(channel, x.add(r, r))));
  return x.select(inside, out, in(channel));
}
