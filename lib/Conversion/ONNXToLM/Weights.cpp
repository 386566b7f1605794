//===- Weights.cpp - linears, embeddings and where their weights lie --------===//

#include "Raiser.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace skim::raise;
using skim::onnx::NodeOp;

//===----------------------------------------------------------------------===//
// Constants of the new function
//===----------------------------------------------------------------------===//

Value Raiser::external(StringRef file, int64_t offset, ArrayRef<int64_t> strides, StringAttr name,
                       RankedTensorType type) {
  bool rowMajor = ArrayRef<int64_t>(stridesOf(type)) == strides;
  std::string key;
  llvm::raw_string_ostream os(key);
  os << file << '\0' << offset << ' ' << type;
  for (int64_t stride : strides)
    os << ' ' << stride;
  Value &value = externals[key];
  if (!value)
    value =
        ExternalOp::create(builder, name ? Location(NameLoc::get(name)) : forward.getLoc(), type,
                           builder.getStringAttr(file), builder.getI64IntegerAttr(offset),
                           rowMajor ? DenseI64ArrayAttr() : builder.getDenseI64ArrayAttr(strides), StringAttr(), name);
  return value;
}

Value Raiser::materialize(Expr e, ArrayRef<Expr> position, RankedTensorType type) {
  if (e->kind != Kind::Load || !Constants::isConstant(e->tensor))
    return {};
  auto source = cast<RankedTensorType>(e->tensor.getType());
  auto from = e->tensor.getDefiningOp<ExternalOp>();
  if (!source.getElementType().isIntOrFloat() ||
      source.getElementType().getIntOrFloatBitWidth() != type.getElementTypeBitWidth())
    return {};
  // The address in the source, as a linear function of the position.
  Expr address = x.number(0);
  for (auto [index, stride] : llvm::zip_equal(e->args, from ? stridesOf(from) : stridesOf(source)))
    address = x.add(address, x.mul(index, x.number(static_cast<double>(stride))));
  int64_t begin = 0;
  SmallVector<int64_t> strides(position.size(), 0);
  for (const Term &term : x.terms(address)) {
    if (term.coefficient < 0 || term.coefficient != std::floor(term.coefficient) || term.factors.size() > 1)
      return {};
    int64_t step = static_cast<int64_t>(term.coefficient);
    if (term.factors.empty()) {
      begin = step;
      continue;
    }
    const auto *it = llvm::find(position, term.factors[0].base);
    if (it == position.end() || term.factors[0].exponent != 1)
      return {};
    strides[it - position.begin()] = step;
  }
  // Where there is but one element, any stride will do.
  for (auto [axis, stride] : llvm::enumerate(stridesOf(type)))
    if (type.getDimSize(axis) == 1)
      strides[axis] = stride;
  if (from) {
    return external(from.getFile(), from.getOffset() + begin * elementBytes(source.getElementType()), strides,
                    from.getNameAttr(), type);
  }
  // Small: the numbers themselves.
  DenseElementsAttr dense = Constants::getDense(e->tensor);
  SmallVector<Attribute> values;
  int64_t total = type.getNumElements();
  for (int64_t flat = 0; flat < total; ++flat) {
    int64_t at = begin, rest = flat;
    for (int64_t axis = type.getRank() - 1; axis >= 0; --axis) {
      at += rest % type.getDimSize(axis) * strides[axis];
      rest /= type.getDimSize(axis);
    }
    if (at >= dense.getNumElements())
      return {};
    Attribute value = *(dense.value_begin<Attribute>() + at);
    if (auto integer = dyn_cast<IntegerAttr>(value))
      value = IntegerAttr::get(type.getElementType(), integer.getValue());
    values.push_back(value);
  }
  auto attr = DenseElementsAttr::get(type, values);
  return arith::ConstantOp::create(builder, forward.getLoc(), attr);
}

Value Raiser::sliceRows(Value weight, int64_t begin, int64_t count) {
  auto type = cast<RankedTensorType>(weight.getType());
  SmallVector<int64_t> shape(type.getShape());
  int64_t rows = shape[0];
  shape[0] = count;
  if (auto op = weight.getDefiningOp<AssembleOp>()) {
    SmallVector<Value> parts;
    for (Value component : op.getComponents()) {
      if (cast<RankedTensorType>(component.getType()).getDimSize(0) != rows)
        return {};
      parts.push_back(sliceRows(component, begin, count));
      if (!parts.back())
        return {};
    }
    return AssembleOp::create(builder, op.getLoc(),
                              RankedTensorType::get(shape, type.getElementType(), type.getEncoding()), parts);
  }
  auto sliced = RankedTensorType::get(shape, type.getElementType());
  if (auto op = weight.getDefiningOp<ExternalOp>()) {
    SmallVector<int64_t> strides = stridesOf(op);
    return external(op.getFile(), op.getOffset() + begin * strides[0] * elementBytes(type.getElementType()), strides,
                    op.getNameAttr(), sliced);
  }
  DenseElementsAttr dense = Constants::getDense(weight);
  if (!dense)
    return {};
  int64_t row = type.getNumElements() / rows;
  SmallVector<Attribute> values;
  for (int64_t i = begin * row; i < (begin + count) * row; ++i)
    values.push_back(*(dense.value_begin<Attribute>() + i));
  return arith::ConstantOp::create(builder, forward.getLoc(), DenseElementsAttr::get(sliced, values));
}

//===----------------------------------------------------------------------===//
// Linears
//===----------------------------------------------------------------------===//

/// The name that a constant has in the model's file.
static std::string constantName(Value value) {
  if (auto op = value.getDefiningOp<skim::ExternalOp>())
    return op.getName().value_or("").str();
  if (value.getDefiningOp())
    if (auto name = dyn_cast<NameLoc>(value.getLoc()))
      return name.getName().str();
  return "";
}

Value Raiser::buildLinear(Value input, Value weight, Value bias, NodeOp op, StringRef weightName) {
  int64_t n = cast<RankedTensorType>(weight.getType()).getDimSize(0);
  StringAttr name = op.getNodeNameAttr();
  auto linear =
      LinearOp::create(builder, op.getLoc(), activationType(n), input, weight, bias, StringAttr(), name, StringAttr());
  std::string scope = op.getScope().value_or("").str();
  // A node's name ends with the operator, a module path does not.
  if (scope.empty() && name)
    scope = StringRef(name.getValue()).rsplit('/').first.str();
  linears[linear] = {std::move(scope), weightName.str(), false};
  return linear;
}

bool Raiser::raiseLinear(NodeOp op) {
  bool gemm = op.getOpType() == "Gemm";
  Value input = Graph::operand(op, 0), weight = Graph::operand(op, 1);
  const std::optional<Dims> *dims = weight ? &graph.shape(weight) : nullptr;
  if (!input || !dims || !*dims || (*dims)->size() != 2)
    return false;
  bool transposed = gemm && Graph::getInt(op, "transB", 0);
  std::optional<int64_t> k = Graph::number((**dims)[transposed ? 1 : 0]);
  std::optional<int64_t> n = Graph::number((**dims)[transposed ? 0 : 1]);
  if (!k || !n)
    return false;
  Expr kv = x.index(x.number(static_cast<double>(*k))), nv = x.index(x.number(static_cast<double>(*n)));
  Expr e = transposed ? graph.element(weight, {nv, kv}) : graph.element(weight, {kv, nv});
  if (e->kind != Kind::Load || !Constants::isConstant(e->tensor) ||
      !isa<FloatType>(getElementTypeOrSelf(e->tensor.getType())))
    return false;
  if (gemm) {
    report(op, "a MatMul on [batch, length, channels]", "Gemm");
    return true;
  }
  Value raisedWeight =
      materialize(e, {nv, kv}, RankedTensorType::get({*n, *k}, getElementTypeOrSelf(e->tensor.getType())));
  Value activation = require(input, *k);
  if (!raisedWeight) {
    report(op, "a weight with constant strides", x.text(e));
    return true;
  }
  graph.setRaised(op.getResult(0), {buildLinear(activation, raisedWeight, {}, op, constantName(e->tensor))});
  return true;
}

/// Codes, scales and zeros of MatMulNBits and GatherBlockQuantized as `uniform`; null after a report.
Value Raiser::assembleBlocks(NodeOp op, Value codes, Value scales, Value zeros, int64_t n, int64_t k, int64_t bits,
                             int64_t block) {
  auto fail = [&](std::string expected, std::string got) {
    report(op, std::move(expected), std::move(got));
    return Value();
  };
  if ((bits != 2 && bits != 4 && bits != 8) || block < 16 || block > 4096 || (block & (block - 1)) || n < 1 || k < 1 ||
      n > INT32_MAX || k > INT32_MAX)
    return fail("bits 2, 4 or 8 and a block that is a power of two from 16",
                "bits " + std::to_string(bits) + ", block " + std::to_string(block));
  int64_t blocks = (k + block - 1) / block, blob = block * bits / 8;
  Type scale = scales ? getElementTypeOrSelf(scales.getType()) : Type();
  if (!scale || !isa<Float32Type, Float16Type>(scale))
    return fail("scales of f16 or f32", "others");
  MLIRContext *context = builder.getContext();
  Type zeroType;
  if (zeros && isa<FloatType>(getElementTypeOrSelf(zeros.getType())))
    zeroType = getElementTypeOrSelf(zeros.getType());
  auto emit = [&] { return emitError(op.getLoc()); };
  auto encoding = UniformAttr::getChecked(emit, context, static_cast<unsigned>(bits), block < k ? block : int64_t(0),
                                          static_cast<bool>(zeros), zeroType, scale);
  if (!encoding)
    return fail("a grid that #skim.uniform can express", "none");
  SmallVector<Component> components = getComponents(cast<WeightEncoding>(Attribute(encoding)), {n, k});
  SmallVector<Value> parts;
  for (const Component &component : components) {
    Value tensor = component.kind == ComponentKind::Codes    ? codes
                   : component.kind == ComponentKind::Scales ? scales
                                                             : zeros;
    // Rows of the file: codes hold whole blocks, packed zeros whole bytes.
    int64_t row = component.kind == ComponentKind::Codes                ? blocks * blob
                  : component.kind == ComponentKind::Zeros && !zeroType ? (blocks * bits + 7) / 8
                                                                        : blocks;
    const std::optional<Dims> &dims = graph.shape(tensor);
    std::optional<int64_t> count = int64_t(1);
    if (dims)
      for (Expr size : *dims)
        count = count && Graph::number(size) ? std::optional<int64_t>(*count * *Graph::number(size)) : std::nullopt;
    if (!dims || !count || *count != n * row)
      return fail("component '" + component.name + "' of " + std::to_string(n * row) + " elements",
                  count ? std::to_string(*count) : "an unknown number");
    // The element at (row, column) of the graph's tensor, whatever its rank.
    SmallVector<Expr> position;
    for (int64_t size : component.type.getShape())
      position.push_back(x.index(x.number(static_cast<double>(size))));
    Expr flat =
        x.add(x.mul(position[0], x.number(static_cast<double>(row))), position.size() > 1 ? position[1] : x.number(0));
    SmallVector<Expr> at(dims->size(), x.number(0));
    for (size_t i = dims->size(); i-- > 0;) {
      at[i] = i ? x.mod(flat, (*dims)[i]) : flat;
      flat = i ? x.floorDiv(flat, (*dims)[i]) : flat;
    }
    Value part = materialize(graph.element(tensor, at), position, component.type);
    if (!part)
      return fail("constant " + component.name, x.text(graph.element(tensor, at)));
    parts.push_back(part);
  }
  std::vector<void *> key;
  for (Value part : parts)
    key.push_back(part.getAsOpaquePointer());
  auto type = RankedTensorType::get({n, k}, scale, encoding);
  key.push_back(const_cast<void *>(type.getAsOpaquePointer()));
  Value &value = assembled[key];
  if (!value)
    value = AssembleOp::create(builder, op.getLoc(), type, parts);
  return value;
}

void Raiser::raiseMatMulNBits(NodeOp op) {
  int64_t n = Graph::getInt(op, "N", 0), k = Graph::getInt(op, "K", 0);
  Value input = Graph::operand(op, 0), codes = Graph::operand(op, 1), scales = Graph::operand(op, 2);
  if (!input || !codes || !scales || n < 1 || k < 1 || Graph::operand(op, 4)) {
    report(op, "N, K, codes and scales without group index", "another form");
    return;
  }
  Value weight = assembleBlocks(op, codes, scales, Graph::operand(op, 3), n, k, Graph::getInt(op, "bits", 4),
                                Graph::getInt(op, "block_size", 0));
  Value activation = require(input, k);
  if (!weight)
    return;
  Value bias;
  if (Value given = Graph::operand(op, 5)) {
    Expr c = x.index(x.number(static_cast<double>(n)));
    bias =
        materialize(graph.element(given, {c}), {c}, RankedTensorType::get({n}, getElementTypeOrSelf(given.getType())));
    if (!bias)
      return report(op, "a constant bias", x.text(graph.element(given, {c})));
  }
  graph.setRaised(op.getResult(0), {buildLinear(activation, weight, bias, op, constantName(codes))});
}

Value Raiser::sliceLinear(Value linear, int64_t begin, int64_t count) {
  auto op = linear.getDefiningOp<LinearOp>();
  if (!op)
    return {};
  if (begin == 0 && cast<RankedTensorType>(linear.getType()).getShape().back() == count)
    return linear;
  Value &value = slices[{op.getOperation(), begin, count}];
  if (value)
    return value;
  Value weight = sliceRows(op.getWeight(), begin, count), bias;
  if (op.getBias())
    bias = sliceRows(op.getBias(), begin, count);
  if (!weight || (op.getBias() && !bias))
    return {};
  auto sliced = LinearOp::create(builder, op.getLoc(), activationType(count), op.getInput(), weight, bias, StringAttr(),
                                 op.getOnnxNameAttr(), StringAttr());
  linears[sliced] = linears[op];
  linears[sliced].sliced = true;
  return value = sliced;
}

//===----------------------------------------------------------------------===//
// Embeddings
//===----------------------------------------------------------------------===//

void Raiser::raiseEmbedding(NodeOp op) {
  Value table = Graph::operand(op, 0), ids = Graph::operand(op, 1);
  const std::optional<Dims> *dims = table ? &graph.shape(table) : nullptr;
  if (!ids || !dims || !*dims || (*dims)->size() != 2 || Graph::getInt(op, "axis", 0) != 0 ||
      !isa<FloatType>(getElementTypeOrSelf(table.getType())))
    return;
  std::optional<int64_t> vocabulary = Graph::number((**dims)[0]), channels = Graph::number((**dims)[1]);
  const std::optional<Dims> &idDims = graph.shape(ids);
  if (!vocabulary || !channels || !idDims || idDims->size() != 2)
    return;
  Expr b = x.index(graph.batch), s = x.index(graph.length);
  if (graph.element(ids, {b, s}) != x.load(graph.tokens, {b, s}))
    return; // positions and the like
  Expr v = x.index((**dims)[0]), c = x.index((**dims)[1]);
  Value weight = materialize(graph.element(table, {v, c}), {v, c},
                             RankedTensorType::get({*vocabulary, *channels}, getElementTypeOrSelf(table.getType())));
  if (!weight)
    return report(op, "a constant table", x.text(graph.element(table, {v, c})));
  graph.setRaised(op.getResult(0),
                  {EmbedOp::create(builder, op.getLoc(), activationType(*channels), tokens, weight,
                                   builder.getStringAttr("model.embed_tokens"), op.getNodeNameAttr())});
}

void Raiser::raiseQuantizedEmbedding(NodeOp op) {
  Value codes = Graph::operand(op, 0), ids = Graph::operand(op, 1), scales = Graph::operand(op, 2);
  const std::optional<Dims> *dims = codes ? &graph.shape(codes) : nullptr;
  int64_t bits = Graph::getInt(op, "bits", 4);
  Expr b = x.index(graph.batch), s = x.index(graph.length);
  if (!ids || !scales || !dims || !*dims || (*dims)->size() != 2 || Graph::getInt(op, "gather_axis", 0) != 0 ||
      Graph::getInt(op, "quantize_axis", 1) != 1 || !graph.shape(ids) || graph.shape(ids)->size() != 2 ||
      graph.element(ids, {b, s}) != x.load(graph.tokens, {b, s}) || (bits != 4 && bits != 8) ||
      getElementTypeOrSelf(codes.getType()).getIntOrFloatBitWidth() != 8) {
    report(op, "token ids into a table of packed bytes, rows gathered, columns quantized", "another form");
    return;
  }
  std::optional<int64_t> vocabulary = Graph::number((**dims)[0]), bytes = Graph::number((**dims)[1]);
  if (!vocabulary || !bytes)
    return report(op, "a table of known shape", "another");
  int64_t channels = *bytes * 8 / bits;
  Value weight = assembleBlocks(op, codes, scales, Graph::operand(op, 3), *vocabulary, channels, bits,
                                Graph::getInt(op, "block_size", 128));
  if (weight)
    graph.setRaised(op.getResult(0),
                    {EmbedOp::create(builder, op.getLoc(), activationType(channels), tokens, weight,
                                     builder.getStringAttr("model.embed_tokens"), op.getNodeNameAttr())});
}

/// TorchScript writes a tied table twice, once transposed: the head then reads the embedding's.
void Raiser::tieEmbedding() {
  auto head = forward.getBody().front().getTerminator()->getOperand(0).getDefiningOp<LinearOp>();
  auto weight = head.getWeight().getDefiningOp<ExternalOp>();
  if (!weight)
    return;
  for (auto embed : forward.getOps<EmbedOp>()) {
    auto table = embed.getTable().getDefiningOp<ExternalOp>();
    if (table && table != weight && constants.equal(table, weight)) {
      head.getWeightMutable().assign(table);
      return;
    }
  }
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

/// A Hugging Face path (`model.layers.3.mlp.up_proj`, `lm_head`) inside a
/// scope or an initializer's name; empty if there is none.
static std::string pathIn(StringRef text) {
  std::string name = text.str();
  std::replace(name.begin(), name.end(), '/', '.');
  StringRef rest = StringRef(name).ltrim('.');
  for (StringRef suffix : {"_Q4", "_Q8", "_Q2", ".weight", ".MatMul"})
    rest.consume_back(suffix);
  if (rest == "lm_head" || rest.ends_with(".lm_head"))
    return "lm_head";
  size_t layers = rest.find("layers.");
  if (layers == StringRef::npos || (layers && rest[layers - 1] != '.'))
    return "";
  StringRef tail = rest.drop_front(layers + 7);
  StringRef digits = tail.take_while([](char c) { return c >= '0' && c <= '9'; });
  tail = tail.drop_front(digits.size());
  if (digits.empty() || !tail.consume_front(".") || tail.empty())
    return "";
  std::string out = "model.layers." + digits.str() + ".";
  // onnxruntime-genai says attn.
  if (tail.consume_front("attn."))
    out += "self_attn.";
  return out + tail.str();
}

void Raiser::nameLayers() {
  // What the data flow says, in the function's order of layers.
  llvm::DenseMap<Operation *, std::string> roles;
  auto give = [&](Value value, const std::string &name) {
    if (auto linear = value ? value.getDefiningOp<LinearOp>() : LinearOp())
      roles.try_emplace(linear, name);
  };
  int64_t layer = -1;
  sortBody();
  for (Operation &op : forward.getBody().front()) {
    if (auto attention = dyn_cast<lm::AttentionOp>(op)) {
      std::string prefix = "model.layers." + std::to_string(++layer) + ".self_attn.";
      auto throughRotary = [](Value value) {
        if (auto rotary = value.getDefiningOp<lm::RotaryOp>())
          value = rotary.getInput();
        auto norm = value.getDefiningOp<lm::RMSNormOp>(); // of queries or keys
        return norm ? norm.getInput() : value;
      };
      give(throughRotary(attention.getQuery()), prefix + "q_proj");
      if (auto append = attention.getKeys().getDefiningOp<lm::CacheAppendOp>())
        give(throughRotary(append.getInput()), prefix + "k_proj");
      if (auto append = attention.getValues().getDefiningOp<lm::CacheAppendOp>())
        give(append.getInput(), prefix + "v_proj");
      for (Operation *user : attention->getUsers())
        if (user->getNumResults())
          give(user->getResult(0), prefix + "o_proj");
    } else if (auto silu = dyn_cast<lm::SiLUOp>(op)) {
      std::string prefix = "model.layers." + std::to_string(layer) + ".mlp.";
      give(silu.getInput(), prefix + "gate_proj");
      for (Operation *user : silu->getUsers())
        if (auto mul = dyn_cast<arith::MulFOp>(user)) {
          give(mul.getRhs(), prefix + "up_proj");
          for (Operation *last : mul->getUsers())
            if (last->getNumResults())
              give(last->getResult(0), prefix + "down_proj");
        }
    }
  }
  give(forward.getBody().front().getTerminator()->getOperand(0), "lm_head");
  for (auto linear : forward.getOps<LinearOp>()) {
    const LinearInfo &info = linears[linear];
    std::string name = pathIn(info.scope);
    if (name.empty())
      name = pathIn(info.weightName);
    auto role = roles.find(linear);
    // Parts of a packed linear and linears without a path of their own.
    if ((name.empty() || info.sliced) && role != roles.end())
      name = role->second;
    if (name.empty())
      name = info.weightName.empty() ? info.scope : info.weightName;
    linear.setLayer(name);
  }
}
