//===- Graph.cpp - shapes of an ONNX graph's tensors ------------------------===//

#include "Graph.h"

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace skim::raise;
using skim::onnx::NodeOp;

//===----------------------------------------------------------------------===//
// The interface
//===----------------------------------------------------------------------===//

Input skim::raise::classify(StringRef name) {
  if (name == "input_ids")
    return {Role::Tokens, 0};
  if (name == "attention_mask")
    return {Role::AttentionMask, 0};
  if (name == "position_ids")
    return {Role::PositionIds, 0};
  // past_key_values.3.key, past.3.value, present.3.key, past_key_3 …
  StringRef rest = name;
  if (!rest.consume_front("past_key_values") && !rest.consume_front("past") && !rest.consume_front("present"))
    return {};
  Input input;
  bool numbered = false;
  while (!rest.empty()) {
    if (!rest.consume_front(".") && !rest.consume_front("_"))
      return {};
    StringRef word = rest.take_until([](char c) { return c == '.' || c == '_'; });
    rest = rest.drop_front(word.size());
    if (word == "key")
      input.role = Role::PastKey;
    else if (word == "value")
      input.role = Role::PastValue;
    else if (!word.getAsInteger(10, input.layer) && input.layer >= 0)
      numbered = true;
    else if (word != "decoder" && word != "self")
      return {};
  }
  return numbered ? input : Input();
}

StringRef Graph::nameOf(BlockArgument argument) {
  auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  if (!function)
    return "";
  auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(), "onnx.name");
  return name ? name.getValue() : StringRef();
}

Graph::Graph(func::FuncOp function, Constants &constants) : function(function) {
  expressions.constantElement = [&](Value value, ArrayRef<int64_t> position) {
    return constants.element(value, position);
  };
  expressions.tensorName = [](Value value) {
    if (auto argument = dyn_cast<BlockArgument>(value))
      return nameOf(argument).str();
    Operation *op = value.getDefiningOp();
    for (StringRef attr : {"node_name", "onnx_name", "name"})
      if (auto name = op->getAttrOfType<StringAttr>(attr))
        return "'" + name.getValue().str() + "'";
    return op->getName().getStringRef().str();
  };
  for (BlockArgument argument : function.getArguments()) {
    Input input = classify(nameOf(argument));
    inputs[argument] = input;
    switch (input.role) {
    case Role::Tokens:
      tokens = argument;
      break;
    case Role::AttentionMask:
      attentionMask = argument;
      break;
    case Role::PositionIds:
      positionIds = argument;
      break;
    case Role::PastKey:
    case Role::PastValue:
      hasCache = true;
      break;
    case Role::Unknown:
      break;
    }
  }
  batch = expressions.symbol("batch", 1);
  length = expressions.symbol("length", 1);
  past = hasCache ? expressions.symbol("past", 0) : expressions.number(0);
  total = expressions.add(past, length);
}

Input Graph::inputOf(Value value) const {
  auto it = inputs.find(value);
  return it == inputs.end() ? Input() : it->second;
}

//===----------------------------------------------------------------------===//
// Attributes and small values
//===----------------------------------------------------------------------===//

static Attribute attributeOf(NodeOp op, StringRef name) {
  DictionaryAttr attributes = op.getNodeAttributesAttr();
  return attributes ? attributes.get(name) : Attribute();
}

int64_t Graph::getInt(NodeOp op, StringRef name, int64_t otherwise) {
  auto attr = dyn_cast_or_null<IntegerAttr>(attributeOf(op, name));
  return attr && attr.getValue().getSignificantBits() <= 64 ? attr.getValue().getSExtValue() : otherwise;
}

double Graph::getFloat(NodeOp op, StringRef name, double otherwise) {
  auto attr = dyn_cast_or_null<FloatAttr>(attributeOf(op, name));
  return attr ? attr.getValueAsDouble() : otherwise;
}

std::optional<SmallVector<int64_t>> Graph::getInts(NodeOp op, StringRef name) {
  Attribute attr = attributeOf(op, name);
  if (auto array = dyn_cast_or_null<DenseI64ArrayAttr>(attr))
    return SmallVector<int64_t>(array.asArrayRef());
  auto list = dyn_cast_or_null<ArrayAttr>(attr);
  if (!list)
    return std::nullopt;
  SmallVector<int64_t> out;
  for (Attribute element : list) {
    auto number = dyn_cast<IntegerAttr>(element);
    if (!number || number.getValue().getSignificantBits() > 64)
      return std::nullopt;
    out.push_back(number.getValue().getSExtValue());
  }
  return out;
}

Value Graph::operand(NodeOp op, unsigned index) {
  if (index >= op.getInputs().size() || isa<NoneType>(op.getInputs()[index].getType()))
    return {};
  return op.getInputs()[index];
}

std::optional<int64_t> Graph::number(Expr e) {
  if (!e->isNumber() || !e->integer || std::abs(e->number) > 0x1p53)
    return std::nullopt;
  return static_cast<int64_t>(e->number);
}

Dims Graph::variables(ArrayRef<Expr> shape) {
  Dims out;
  for (Expr size : shape)
    out.push_back(expressions.index(size));
  return out;
}

std::optional<SmallVector<Expr>> Graph::list(Value value) {
  const std::optional<Dims> &dims = shape(value);
  if (!dims || dims->size() > 1)
    return std::nullopt;
  if (dims->empty())
    return SmallVector<Expr>{element(value, {})};
  std::optional<int64_t> count = number((*dims)[0]);
  if (!count || *count > 64)
    return std::nullopt;
  SmallVector<Expr> out;
  for (int64_t i = 0; i < *count; ++i)
    out.push_back(element(value, {expressions.number(static_cast<double>(i))}));
  return out;
}

std::optional<SmallVector<int64_t>> Graph::numbers(Value value) {
  std::optional<SmallVector<Expr>> all = list(value);
  if (!all)
    return std::nullopt;
  SmallVector<int64_t> out;
  for (Expr e : *all) {
    if (!e->isNumber())
      return std::nullopt;
    // The ends of slices are often the largest integer there is.
    out.push_back(e->number >= 0x1p62 ? INT64_MAX : e->number <= -0x1p62 ? INT64_MIN : static_cast<int64_t>(e->number));
  }
  return out;
}

std::optional<SmallVector<int64_t>> Graph::axesOf(NodeOp op, unsigned operandIndex, int64_t rank) {
  std::optional<SmallVector<int64_t>> axes = getInts(op, "axes");
  if (!axes)
    if (Value value = operand(op, operandIndex)) {
      axes = numbers(value);
      if (!axes)
        return std::nullopt;
    }
  if (!axes)
    return SmallVector<int64_t>();
  for (int64_t &axis : *axes) {
    axis += axis < 0 ? rank : 0;
    if (axis < 0 || axis >= rank)
      return std::nullopt;
  }
  llvm::sort(*axes);
  return axes;
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

void Graph::setRaised(Value value, Raised raised) {
  raisedValues[value] = raised;
  std::optional<Dims> &dims = shapes[value];
  if (dims)
    return;
  // A stand-in for what is not known: the nodes behind it are looked at as if it were.
  dims = Dims();
  for (Expr variable : raised.variables)
    dims->push_back(variable->kind == Kind::Index ? variable->args[0] : expressions.number(1));
  if (raised.variables.empty()) {
    int64_t channels = cast<RankedTensorType>(raised.value.getType()).getShape().back();
    *dims = {batch, length, expressions.number(static_cast<double>(channels))};
  }
}

const std::optional<Dims> &Graph::shape(Value value) {
  if (auto it = shapes.find(value); it != shapes.end())
    return it->second;
  std::optional<Dims> dims;
  if (depth < kMaxDepth) {
    ++depth;
    dims = inferShape(value);
    --depth;
  }
  return shapes[value] = std::move(dims);
}

std::optional<Dims> Graph::inferShape(Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    Input input = inputOf(argument);
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    switch (input.role) {
    case Role::Tokens:
    case Role::PositionIds:
      return Dims{batch, length};
    case Role::AttentionMask:
      return Dims{batch, total};
    case Role::PastKey:
    case Role::PastValue: {
      if (!type || type.getRank() != 4)
        return std::nullopt;
      auto size = [&](unsigned axis, StringRef name) {
        return type.isDynamicDim(axis) ? expressions.symbol(name, 1)
                                       : expressions.number(static_cast<double>(type.getDimSize(axis)));
      };
      return Dims{batch, size(1, "kv_heads"), past, size(3, "head_size")};
    }
    case Role::Unknown:
      return std::nullopt;
    }
  }
  if (Constants::isConstant(value)) {
    Dims dims;
    for (int64_t size : cast<ShapedType>(value.getType()).getShape())
      dims.push_back(expressions.number(static_cast<double>(size)));
    return dims;
  }
  if (auto op = value.getDefiningOp<NodeOp>())
    return inferNode(op, cast<OpResult>(value).getResultNumber());
  return std::nullopt;
}

std::optional<Dims> Graph::broadcast(std::optional<Dims> a, std::optional<Dims> b) {
  if (!a || !b)
    return std::nullopt;
  if (a->size() < b->size())
    std::swap(a, b);
  size_t shift = a->size() - b->size();
  for (auto [i, size] : llvm::enumerate(*b)) {
    Expr &out = (*a)[i + shift];
    if (out == size || size->isNumber(1))
      continue;
    if (!out->isNumber(1))
      return std::nullopt;
    out = size;
  }
  return a;
}

namespace {
enum class Rule { Same, Broadcast, Where, Other, Unknown };
} // namespace

static Rule ruleOf(StringRef name) {
  return llvm::StringSwitch<Rule>(name)
      .Cases({"Cast", "CastLike", "Identity", "Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log"}, Rule::Same)
      .Cases({"Sin", "Cos", "Tanh", "Sigmoid", "Erf", "Floor", "Ceil", "Relu", "IsNaN", "Not"}, Rule::Same)
      .Cases({"Softmax", "RMSNormalization", "SimplifiedLayerNormalization", "LayerNormalization"}, Rule::Same)
      .Cases({"CumSum", "Trilu", "RotaryEmbedding", "SkipSimplifiedLayerNormalization"}, Rule::Same)
      .Cases({"Add", "Sub", "Mul", "Div", "Pow", "Mod", "And", "Or", "Max", "Min"}, Rule::Broadcast)
      .Cases({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}, Rule::Broadcast)
      .Case("Where", Rule::Where)
      .Cases({"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Slice", "Concat"}, Rule::Other)
      .Cases({"Split", "Gather", "GatherND", "Shape", "Size", "Range", "ConstantOfShape", "MatMul"}, Rule::Other)
      .Cases({"Gemm", "MatMulNBits", "GatherBlockQuantized", "GroupQueryAttention", "Attention"}, Rule::Other)
      .Cases({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"}, Rule::Other)
      .Default(Rule::Unknown);
}

std::string Graph::reasonFor(NodeOp op) const {
  bool known = ruleOf(op.getOpType()) != Rule::Unknown && (op.getDomain().empty() || op.getDomain() == "com.microsoft");
  return known ? "its shape is not known in terms of batch, length and past" : "unsupported operator";
}

std::optional<Dims> Graph::inferNode(NodeOp op, unsigned result) {
  StringRef name = op.getOpType();
  Value first = operand(op, 0);
  Rule rule = ruleOf(name);
  if (rule == Rule::Unknown || !first)
    return std::nullopt;
  if (rule == Rule::Same)
    return shape(first);
  if (rule == Rule::Broadcast || rule == Rule::Where) {
    std::optional<Dims> dims = shape(first);
    for (Value input : op.getInputs().drop_front())
      dims = broadcast(dims, shape(input));
    return dims;
  }
  if (name == "ConstantOfShape") {
    std::optional<SmallVector<Expr>> sizes = list(first);
    return sizes ? std::optional<Dims>(Dims(ArrayRef<Expr>(*sizes))) : std::nullopt;
  }
  if (name == "Range") {
    if (op.getInputs().size() != 3)
      return std::nullopt;
    Expr begin = element(op.getInputs()[0], {}), end = element(op.getInputs()[1], {});
    if (!element(op.getInputs()[2], {})->isNumber(1) || !begin->integer || !end->integer)
      return std::nullopt;
    return Dims{expressions.sub(end, begin)};
  }
  std::optional<Dims> in = shape(first);
  if (!in)
    return std::nullopt;
  int64_t rank = static_cast<int64_t>(in->size());
  auto axisOf = [&](int64_t otherwise) {
    int64_t axis = getInt(op, "axis", otherwise);
    return axis < 0 ? axis + rank : axis;
  };

  if (name == "Shape") {
    int64_t start = getInt(op, "start", 0), end = getInt(op, "end", rank);
    start = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
    end = std::clamp<int64_t>(end < 0 ? end + rank : end, start, rank);
    return Dims{expressions.number(static_cast<double>(end - start))};
  }
  if (name == "Size")
    return Dims{};
  if (name == "Transpose") {
    std::optional<SmallVector<int64_t>> perm = getInts(op, "perm");
    Dims out;
    for (int64_t i = 0; i < rank; ++i) {
      int64_t from = perm ? (i < static_cast<int64_t>(perm->size()) ? (*perm)[i] : -1) : rank - 1 - i;
      if (from < 0 || from >= rank)
        return std::nullopt;
      out.push_back((*in)[from]);
    }
    return out;
  }
  if (name == "Unsqueeze") {
    std::optional<SmallVector<int64_t>> axes = getInts(op, "axes");
    if (!axes && operand(op, 1))
      axes = numbers(operand(op, 1));
    if (!axes)
      return std::nullopt;
    int64_t outRank = rank + static_cast<int64_t>(axes->size());
    for (int64_t &axis : *axes)
      axis += axis < 0 ? outRank : 0;
    Dims out;
    for (int64_t i = 0, from = 0; i < outRank; ++i) {
      if (llvm::is_contained(*axes, i))
        out.push_back(expressions.number(1));
      else if (from < rank)
        out.push_back((*in)[from++]);
    }
    return out;
  }
  if (name == "Squeeze") {
    std::optional<SmallVector<int64_t>> axes = axesOf(op, 1, rank);
    if (!axes)
      return std::nullopt;
    Dims out;
    for (int64_t i = 0; i < rank; ++i)
      if (axes->empty() ? !(*in)[i]->isNumber(1) : !llvm::is_contained(*axes, i))
        out.push_back((*in)[i]);
    return out;
  }
  if (name == "Flatten") {
    int64_t axis = axisOf(1);
    if (axis < 0 || axis > rank)
      return std::nullopt;
    Dims out{expressions.number(1), expressions.number(1)};
    for (int64_t i = 0; i < rank; ++i)
      out[i >= axis] = expressions.mul(out[i >= axis], (*in)[i]);
    return out;
  }
  if (name == "Reshape")
    return inferReshape(op);
  if (name == "Expand") {
    std::optional<SmallVector<Expr>> sizes = operand(op, 1) ? list(operand(op, 1)) : std::nullopt;
    return sizes ? broadcast(in, Dims(ArrayRef<Expr>(*sizes))) : std::nullopt;
  }
  if (name == "Slice")
    return inferSlice(op);
  if (name == "Concat") {
    int64_t axis = axisOf(0);
    if (axis < 0 || axis >= rank)
      return std::nullopt;
    for (Value input : op.getInputs().drop_front()) {
      const std::optional<Dims> &other = shape(input);
      if (!other || other->size() != in->size())
        return std::nullopt;
      (*in)[axis] = expressions.add((*in)[axis], (*other)[axis]);
    }
    return in;
  }
  if (name == "Split") {
    int64_t axis = axisOf(0);
    if (axis < 0 || axis >= rank)
      return std::nullopt;
    std::optional<SmallVector<int64_t>> sizes = getInts(op, "split");
    if (!sizes && operand(op, 1))
      sizes = numbers(operand(op, 1));
    if (sizes && result < sizes->size())
      (*in)[axis] = expressions.number(static_cast<double>((*sizes)[result]));
    else if (std::optional<int64_t> size = number((*in)[axis]); size && !sizes && *size % op.getNumResults() == 0)
      (*in)[axis] = expressions.number(static_cast<double>(*size / op.getNumResults()));
    else
      return std::nullopt;
    return in;
  }
  if (name == "Gather" || name == "GatherND" || name == "GatherBlockQuantized") {
    std::optional<Dims> indices = operand(op, 1) ? shape(operand(op, 1)) : std::nullopt;
    if (!indices)
      return std::nullopt;
    if (name == "GatherND") {
      std::optional<int64_t> count = indices->empty() ? std::nullopt : number(indices->back());
      if (!count || *count < 1 || *count > rank || getInt(op, "batch_dims", 0))
        return std::nullopt;
      Dims out(indices->begin(), indices->end() - 1);
      out.append(in->begin() + *count, in->end());
      return out;
    }
    int64_t axis = name == "Gather" ? axisOf(0) : getInt(op, "gather_axis", 0);
    if (axis < 0 || axis >= rank)
      return std::nullopt;
    Dims out(in->begin(), in->begin() + axis);
    out.append(indices->begin(), indices->end());
    out.append(in->begin() + axis + 1, in->end());
    if (name == "GatherBlockQuantized" && !out.empty() && out.back()->isNumber())
      // Packed codes: several to a byte.
      if (auto type = dyn_cast<ShapedType>(first.getType()); type && type.getElementTypeBitWidth() == 8)
        out.back() = expressions.number(out.back()->number * 8 / static_cast<double>(getInt(op, "bits", 4)));
    return out;
  }
  if (name == "MatMul") {
    std::optional<Dims> right = operand(op, 1) ? shape(operand(op, 1)) : std::nullopt;
    if (!right || right->size() < 2 || rank < 2)
      return std::nullopt;
    Expr rows = (*in)[rank - 2], columns = right->back();
    std::optional<Dims> out = broadcast(Dims(in->begin(), in->end() - 2), Dims(right->begin(), right->end() - 2));
    if (out)
      out->append({rows, columns});
    return out;
  }
  if (name == "Gemm") {
    std::optional<Dims> right = operand(op, 1) ? shape(operand(op, 1)) : std::nullopt;
    if (!right || right->size() != 2 || rank != 2)
      return std::nullopt;
    return Dims{(*in)[getInt(op, "transA", 0) ? 1 : 0], (*right)[getInt(op, "transB", 0) ? 0 : 1]};
  }
  if (name == "MatMulNBits") {
    if (in->empty())
      return std::nullopt;
    in->back() = expressions.number(static_cast<double>(getInt(op, "N", 0)));
    return in;
  }
  if (name.starts_with("Reduce")) {
    std::optional<SmallVector<int64_t>> axes = axesOf(op, 1, rank);
    if (!axes)
      return std::nullopt;
    Dims out;
    for (int64_t i = 0; i < rank; ++i)
      if (!axes->empty() && !llvm::is_contained(*axes, i))
        out.push_back((*in)[i]);
      else if (getInt(op, "keepdims", 1))
        out.push_back(expressions.number(1));
    return out;
  }
  if (name == "GroupQueryAttention" && rank == 3) {
    int64_t heads = getInt(op, "num_heads", 0), kvHeads = getInt(op, "kv_num_heads", 0);
    std::optional<int64_t> channels = number(in->back());
    if (heads < 1 || kvHeads < 1 || !channels)
      return std::nullopt;
    int64_t size = *channels / (operand(op, 1) ? heads : heads + 2 * kvHeads);
    if (result == 0)
      return Dims{(*in)[0], (*in)[1], expressions.number(static_cast<double>(heads * size))};
    return Dims{(*in)[0], expressions.number(static_cast<double>(kvHeads)), total,
                expressions.number(static_cast<double>(size))};
  }
  if (name == "Attention" && op.getDomain().empty() && rank == 4 && result == 0) {
    std::optional<Dims> values = operand(op, 2) ? shape(operand(op, 2)) : std::nullopt;
    if (!values || values->size() != 4)
      return std::nullopt;
    in->back() = values->back();
    return in;
  }
  return std::nullopt;
}

std::optional<Dims> Graph::inferReshape(NodeOp op) {
  std::optional<Dims> in = shape(operand(op, 0));
  std::optional<SmallVector<Expr>> sizes = operand(op, 1) ? list(operand(op, 1)) : std::nullopt;
  if (!sizes)
    return std::nullopt;
  Dims out;
  std::optional<size_t> open;
  Expr product = expressions.number(1), all = expressions.number(1);
  for (Expr size : *in)
    all = expressions.mul(all, size);
  for (auto [i, size] : llvm::enumerate(*sizes)) {
    if (size->isNumber(0) && !getInt(op, "allowzero", 0) && i < in->size())
      size = (*in)[i];
    if (size->isNumber(-1)) {
      if (open)
        return std::nullopt;
      open = i;
      out.push_back(size);
      continue;
    }
    out.push_back(size);
    product = expressions.mul(product, size);
  }
  if (open) {
    std::optional<Expr> rest = expressions.divideExactly(all, product);
    if (!rest)
      return std::nullopt;
    out[*open] = *rest;
  }
  return out;
}

std::optional<SmallVector<Graph::SliceAxis>> Graph::sliceAxes(NodeOp op) {
  std::optional<Dims> in = shape(operand(op, 0));
  if (!in || !operand(op, 1) || !operand(op, 2))
    return std::nullopt;
  std::optional<SmallVector<Expr>> starts = list(operand(op, 1)), ends = list(operand(op, 2));
  if (!starts || !ends || starts->size() != ends->size())
    return std::nullopt;
  int64_t rank = static_cast<int64_t>(in->size());
  SmallVector<int64_t> axes, steps(starts->size(), 1);
  for (size_t i = 0; i < starts->size(); ++i)
    axes.push_back(static_cast<int64_t>(i));
  for (auto [index, target] : {std::pair(3u, &axes), std::pair(4u, &steps)})
    if (Value value = operand(op, index)) {
      std::optional<SmallVector<int64_t>> given = numbers(value);
      if (!given || given->size() != starts->size())
        return std::nullopt;
      *target = *given;
    }
  SmallVector<SliceAxis> out;
  for (Expr size : *in)
    out.push_back({expressions.number(0), size, 1});
  for (size_t i = 0; i < starts->size(); ++i) {
    int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
    if (axis < 0 || axis >= rank || steps[i] < 1)
      return std::nullopt;
    Expr size = (*in)[axis];
    // Into [0, size], as far as that is certain.
    auto clamp = [&](Expr position) -> Expr {
      if (position->isNumber() && position->number < 0)
        position = position->number <= -0x1p62 ? expressions.number(0) : expressions.add(size, position);
      if (position->isNumber() && position->number >= 0x1p40)
        return size;
      if (expressions.alwaysNonNegative(expressions.sub(position, size)))
        return size;
      return expressions.alwaysNonNegative(expressions.sub(size, position)) && expressions.alwaysNonNegative(position)
                 ? position
                 : nullptr;
    };
    Expr start = clamp((*starts)[i]), end = clamp((*ends)[i]);
    if (!start || !end)
      return std::nullopt;
    Expr count = expressions.sub(end, start);
    if (steps[i] != 1)
      count = expressions.floorDiv(expressions.add(count, static_cast<double>(steps[i] - 1)),
                                   expressions.number(static_cast<double>(steps[i])));
    out[axis] = {start, count, steps[i]};
  }
  return out;
}

std::optional<Dims> Graph::inferSlice(NodeOp op) {
  std::optional<SmallVector<SliceAxis>> axes = sliceAxes(op);
  if (!axes)
    return std::nullopt;
  Dims out;
  for (const SliceAxis &axis : *axes)
    out.push_back(axis.size);
  return out;
}
