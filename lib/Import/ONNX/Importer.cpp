#include "Importer.h"

#include "Types.h"
#include "skim/ONNX/ONNXOps.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/Sha256.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"

#include <filesystem>

using namespace mlir;
using namespace skim;
using namespace skim::onnx;

/// Values whose dimensions the importer writes out on nodes.
static constexpr size_t kMaxValuesText = 64;

Importer::Importer(wire::Model model, const std::string &path, MLIRContext *context, const ImportONNXOptions &options)
    : model(std::move(model)), external(path), path(path), fileName(std::filesystem::path(path).filename().string()),
      options(options), context(context), builder(context),
      makeScalar([this](DenseElementsAttr value) { return scalarConstant(value); }) {}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

Info *Importer::newInfo(Info info) { return &infos.emplace_back(std::move(info)); }

Info *Importer::lookup(Scope &scope, StringRef name) {
  for (Scope *s = &scope; s; s = s->parent)
    if (auto it = s->names.find(name); it != s->names.end())
      return it->second;
  return nullptr;
}

bool Importer::define(Scope &scope, StringRef name, Info *info, StringRef where) {
  if (!scope.names.try_emplace(name, info).second)
    return fail(
        skim::fail("malformed ONNX graph", where.str(), "every value defined once", "a second '" + name.str() + "'"));
  return true;
}

std::optional<Dims> Importer::declaredShape(const wire::Type &type) {
  if (!type.shape)
    return std::nullopt;
  Dims shape;
  for (const wire::Dimension &dim : *type.shape) {
    if (dim.value && *dim.value >= 0)
      shape.push_back(dims.constant(*dim.value));
    else if (!dim.param.empty())
      shape.push_back(dims.parse(dim.param));
    else
      shape.push_back(dims.unknown());
  }
  return shape;
}

Type Importer::tensorType(const Info &info) const {
  if (!info.element)
    return NoneType::get(context);
  if (!info.shape)
    return UnrankedTensorType::get(info.element);
  SmallVector<int64_t> shape;
  for (Dim dim : *info.shape) {
    std::optional<int64_t> value = dims.value(dim);
    shape.push_back(value && *value >= 0 ? *value : ShapedType::kDynamic);
  }
  return RankedTensorType::get(shape, info.element);
}

Info *Importer::scalarConstant(DenseElementsAttr value) {
  Info info;
  info.element = value.getElementType();
  info.shape.emplace();
  for (int64_t dim : value.getType().getShape())
    info.shape->push_back(dims.constant(dim));
  info.dense = value;
  return newInfo(std::move(info));
}

Info *Importer::makeConstant(const wire::Tensor &tensor, StringRef name, StringRef where) {
  Info info;
  info.name = name;
  info.element = elementType(tensor.type, context);
  if (!info.element) {
    fail(skim::fail("unsupported tensor", where.str(), "a numeric type", wire::name(tensor.type)));
    return nullptr;
  }
  info.shape.emplace();
  SmallVector<int64_t> shape;
  for (int64_t dim : tensor.dims) {
    info.shape->push_back(dims.constant(dim));
    shape.push_back(dim);
  }
  StringRef bytes(tensor.bytes.data(), tensor.bytes.size());
  std::optional<ExternalWeight> weight;
  if (tensor.external) {
    Expected<wire::ExternalData::Slice> slice = external.locate(tensor);
    if (!slice) {
      // One absent file would otherwise be reported once a tensor.
      std::string message = slice.message();
      bool known = llvm::any_of(failures, [&](const Failure &f) {
        return f.what == slice.failure().what && f.got == slice.failure().got && f.expected == slice.failure().expected;
      });
      if (!known)
        fail(slice.failure());
      return nullptr;
    }
    bytes = StringRef(slice->bytes().data(), slice->bytes().size());
    weight = ExternalWeight{options.filePrefix + slice->location, slice->offset, bytes};
  } else if (model.file && !bytes.empty()) {
    std::string_view file = model.file->bytes();
    if (bytes.data() >= file.data() && bytes.data() + bytes.size() <= file.data() + file.size())
      weight = ExternalWeight{options.filePrefix + fileName, static_cast<uint64_t>(bytes.data() - file.data()), bytes};
  }
  auto type = RankedTensorType::get(shape, info.element);
  if (bytes.size() <= options.inlineBytes)
    info.dense = denseAttribute(type, bytes);
  if (!info.dense)
    info.external = weight;
  if (!info.isConstant()) {
    // Varint-coded data has no bytes in the file that could be pointed to.
    if (bytes.size() <= 65536)
      info.dense = denseAttribute(type, bytes);
    if (!info.dense) {
      fail(skim::fail("unsupported tensor", where.str(), "large data in raw_data or external data",
                      std::to_string(bytes.size()) + " bytes of " + wire::name(tensor.type) + " in a typed field",
                      "save the model again with the onnx package"));
      return nullptr;
    }
  }
  return newInfo(std::move(info));
}

Value Importer::materialize(Info *info) {
  if (!info || !info->element) {
    if (!none) {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(entry);
      Operation *op = NoneOp::create(builder, builder.getUnknownLoc(), builder.getNoneType());
      none = op->getResult(0);
      if (!lastConstant)
        lastConstant = op;
    }
    return none;
  }
  if (info->value)
    return info->value;
  bool merge = info->dense && !info->isInitializer;
  if (merge)
    if (Value known = merged.lookup(info->dense))
      return info->value = known;
  OpBuilder::InsertionGuard guard(builder);
  if (lastConstant)
    builder.setInsertionPointAfter(lastConstant);
  else
    builder.setInsertionPointToStart(entry);
  Location loc = merge || info->name.empty() ? Location(builder.getUnknownLoc())
                                             : Location(NameLoc::get(builder.getStringAttr(info->name)));
  if (info->external) {
    StringAttr hash;
    if (options.hash)
      hash = builder.getStringAttr(sha256(std::string_view(info->external->bytes)));
    StringAttr name = info->name.empty() ? StringAttr() : builder.getStringAttr(info->name);
    info->value = ExternalOp::create(builder, loc, tensorType(*info), builder.getStringAttr(info->external->file),
                                     builder.getI64IntegerAttr(static_cast<int64_t>(info->external->offset)),
                                     /*strides=*/DenseI64ArrayAttr(), hash, name);
  } else if (info->element.isSignlessIntOrFloat()) {
    info->value = arith::ConstantOp::create(builder, loc, info->dense);
  } else {
    info->value = ConstantOp::create(builder, loc, tensorType(*info), info->dense);
  }
  if (merge)
    merged[info->dense] = info->value;
  lastConstant = info->value.getDefiningOp();
  return info->value;
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

bool Importer::convertAttributes(const wire::Node &node, NodeContext &ctx) {
  using Kind = wire::Attribute::Kind;
  for (const wire::Attribute &attribute : node.attributes) {
    StringRef name(attribute.name);
    Attribute value;
    auto text = [&](std::string_view s) { return builder.getStringAttr(StringRef(s)); };
    if (!attribute.reference.empty() || name.empty())
      return ctx.fail("attributes with a name and a value", "attribute '" + name.str() + "'");
    switch (attribute.kind) {
    case Kind::Float:
      value = builder.getF32FloatAttr(attribute.f);
      break;
    case Kind::Int:
      value = builder.getI64IntegerAttr(attribute.i);
      if (name == "to" || name == "output_dtype") {
        Type type = elementType(static_cast<wire::DataType>(attribute.i), context);
        if (!type || attribute.i != static_cast<int32_t>(attribute.i)) {
          if (name == "output_dtype" && attribute.i == 0)
            continue;
          return ctx.unsupported("attribute '" + name.str() + "' with a numeric type",
                                 wire::name(static_cast<wire::DataType>(attribute.i)));
        }
        value = TypeAttr::get(type);
      }
      break;
    case Kind::String:
      value = text(attribute.s);
      break;
    case Kind::Floats:
      value = builder.getDenseF32ArrayAttr(attribute.floats);
      break;
    case Kind::Ints:
      value = builder.getDenseI64ArrayAttr(attribute.ints);
      break;
    case Kind::Strings: {
      SmallVector<Attribute> strings;
      for (std::string_view s : attribute.strings)
        strings.push_back(text(s));
      value = builder.getArrayAttr(strings);
      break;
    }
    case Kind::Tensor: {
      const wire::Tensor &tensor = attribute.tensors[0];
      Type element = elementType(tensor.type, context);
      if (element && tensor.bytes.size() <= options.inlineBytes && !tensor.external)
        value = denseAttribute(RankedTensorType::get(tensor.dims, element), StringRef(tensor.bytes));
      if (!value)
        return ctx.fail("a small tensor in attribute '" + name.str() + "'",
                        std::to_string(tensor.byteSize) + " bytes of " + wire::name(tensor.type));
      break;
    }
    case Kind::Graph:
      continue; // the caller's
    default:
      return ctx.fail("an attribute type of operators that we know", "attribute '" + name.str() + "'");
    }
    ctx.attributes.set(name, value);
  }
  return true;
}

bool Importer::importConstant(const wire::Node &node, Scope &scope) {
  using Kind = wire::Attribute::Kind;
  std::string where = describe(node);
  if (node.outputs.size() != 1 || node.attributes.size() != 1)
    return fail(skim::fail("malformed Constant", where, "one value and one output"));
  const wire::Attribute &attribute = node.attributes[0];
  StringRef name(node.outputs[0]);
  Info *info = nullptr;
  switch (attribute.kind) {
  case Kind::Tensor:
    info = makeConstant(attribute.tensors[0], name, where);
    if (!info)
      return false;
    break;
  case Kind::Float:
    info = scalarConstant(DenseElementsAttr::get(RankedTensorType::get({}, builder.getF32Type()), attribute.f));
    break;
  case Kind::Int:
    info = scalarConstant(DenseElementsAttr::get(RankedTensorType::get({}, builder.getI64Type()), attribute.i));
    break;
  case Kind::Floats:
    info = scalarConstant(DenseElementsAttr::get(
        RankedTensorType::get({static_cast<int64_t>(attribute.floats.size())}, builder.getF32Type()),
        ArrayRef<float>(attribute.floats)));
    break;
  case Kind::Ints:
    info = scalarConstant(DenseElementsAttr::get(
        RankedTensorType::get({static_cast<int64_t>(attribute.ints.size())}, builder.getI64Type()),
        ArrayRef<int64_t>(attribute.ints)));
    break;
  default:
    return fail(skim::fail("unsupported Constant", where, "a numeric value",
                           "attribute '" + std::string(attribute.name) + "'"));
  }
  return define(scope, name, info, where);
}

Operation *Importer::emit(NodeContext &ctx, unsigned regions) {
  SmallVector<Value> operands;
  for (Info *input : ctx.inputs)
    operands.push_back(materialize(input));
  SmallVector<Type> types;
  SmallVector<Attribute> shapes;
  bool anyDynamic = false;
  for (Info &output : ctx.outputs) {
    types.push_back(tensorType(output));
    SmallVector<Attribute> texts;
    if (output.element && output.shape)
      for (Dim dim : *output.shape) {
        anyDynamic |= !dims.value(dim);
        texts.push_back(builder.getStringAttr(dims.text(dim)));
      }
    shapes.push_back(builder.getArrayAttr(texts));
  }
  OperationState state(NameLoc::get(builder.getStringAttr(ctx.name)), NodeOp::getOperationName());
  state.addOperands(operands);
  state.addTypes(types);
  state.addAttribute("op_type", builder.getStringAttr(ctx.op));
  if (!ctx.domain.empty())
    state.addAttribute("domain", builder.getStringAttr(ctx.domain));
  if (!ctx.name.empty())
    state.addAttribute("node_name", builder.getStringAttr(ctx.name));
  if (!ctx.attributes.empty())
    state.addAttribute("node_attributes", ctx.attributes.getDictionary(context));
  if (!scopeName.empty())
    state.addAttribute("scope", builder.getStringAttr(scopeName));
  if (anyDynamic)
    state.addAttribute("shapes", builder.getArrayAttr(shapes));
  if (const std::optional<Data> &data = ctx.outputs[0].data; data && !data->isFloat && data->size() <= kMaxValuesText) {
    SmallVector<Attribute> texts;
    for (Dim dim : data->ints)
      texts.push_back(builder.getStringAttr(dims.text(dim)));
    state.addAttribute("values", builder.getArrayAttr(texts));
  }
  for (unsigned i = 0; i < regions; ++i)
    state.addRegion();
  return builder.create(state);
}

bool Importer::runNode(NodeContext &ctx, SmallVectorImpl<Info *> &results) {
  const Operator *row = OperatorTable::get().find(ctx.domain, ctx.op);
  if (!row)
    return ctx.fail("an operator of the table");
  while (ctx.inputs.size() > row->minInputs && !ctx.has(ctx.inputs.size() - 1))
    ctx.inputs.pop_back();
  if (ctx.inputs.size() < row->minInputs || ctx.inputs.size() > row->maxInputs)
    return ctx.fail(std::to_string(row->minInputs) + " inputs or more", std::to_string(ctx.inputs.size()));
  if (ctx.outputs.empty() || ctx.outputs.size() > row->maxOutputs)
    return ctx.fail("1 to " + std::to_string(row->maxOutputs) + " outputs", std::to_string(ctx.outputs.size()));
  unsigned needed = row->maxInputs == kAny ? ctx.inputs.size() : row->minInputs;
  for (unsigned i = 0; i < needed; ++i)
    if (!ctx.has(i))
      return ctx.fail("input " + std::to_string(i), "an omitted one");
  if (!row->infer(ctx))
    return false;
  if (ctx.replacement) {
    results.assign(ctx.replacement->begin(), ctx.replacement->end());
    return true;
  }
  for (auto [i, output] : llvm::enumerate(ctx.outputs)) {
    if (output.name.empty())
      output.element = {};
    else if (!output.element)
      return ctx.fail("output " + std::to_string(i) + " unused", "a use of it");
  }
  // What is known completely needs no node.
  if (ctx.outputs.size() == 1 && ctx.outputs[0].data && ctx.allConstant(*ctx.outputs[0].data)) {
    Info &output = ctx.outputs[0];
    if (std::optional<SmallVector<int64_t>> shape = ctx.numbers(output.shape))
      if (DenseElementsAttr dense = denseFrom(*output.data, output.element, *shape, dims)) {
        Info info = std::move(output);
        info.dense = dense;
        results.push_back(newInfo(std::move(info)));
        return true;
      }
  }
  Operation *op = emit(ctx, 0);
  for (auto [output, value] : llvm::zip(ctx.outputs, op->getResults())) {
    Info *info = newInfo(std::move(output));
    info->value = value;
    results.push_back(info);
  }
  return true;
}

bool Importer::importNode(const wire::Node &node, Scope &scope) {
  StringRef domain = canonicalDomain(node);
  if (domain.empty() && node.op == "Constant")
    return importConstant(node, scope);
  if (domain.empty() && node.op == "If")
    return importIf(node, scope);
  NodeContext ctx(dims, builder, makeScalar);
  ctx.domain = domain;
  ctx.op = node.op;
  ctx.name = node.name.empty() && !node.outputs.empty() ? StringRef(node.outputs[0]) : StringRef(node.name);
  ctx.opset = opsetOf(domain);
  scopeName = moduleScope(node);
  auto failed = [&] { return fail(ctx.failure ? *ctx.failure : skim::fail("malformed node", describe(node))); };
  for (std::string_view input : node.inputs) {
    Info *info = input.empty() ? nullptr : lookup(scope, input);
    if (!input.empty() && !info) {
      ctx.fail("every value defined before its use", "'" + std::string(input) + "'");
      return failed();
    }
    ctx.inputs.push_back(info);
  }
  size_t outputs = node.outputs.size();
  while (outputs > 1 && node.outputs[outputs - 1].empty())
    --outputs;
  ctx.outputs.resize(outputs);
  for (size_t i = 0; i < outputs; ++i)
    ctx.outputs[i].name = StringRef(node.outputs[i]);
  SmallVector<Info *> results;
  bool legacySoftmax =
      domain.empty() && ctx.opset < 13 && (node.op == "Softmax" || node.op == "LogSoftmax") && ctx.has(0);
  if (!convertAttributes(node, ctx) || !normalizeLegacy(ctx) ||
      !(legacySoftmax ? expandSoftmax(ctx, results) : runNode(ctx, results)))
    return failed();
  for (size_t i = 0; i < std::min(outputs, results.size()); ++i)
    if (!node.outputs[i].empty() && !define(scope, StringRef(node.outputs[i]), results[i], describe(node)))
      return false;
  return true;
}

/// Both branches as regions, or one of them in place if the condition is known.
bool Importer::importIf(const wire::Node &node, Scope &scope) {
  std::string where = describe(node);
  const wire::Graph *branches[2] = {};
  for (const wire::Attribute &attribute : node.attributes)
    if (attribute.graphs.size() == 1)
      branches[attribute.name == "else_branch"] = &attribute.graphs[0];
  Info *condition = node.inputs.size() == 1 ? lookup(scope, StringRef(node.inputs[0])) : nullptr;
  if (!branches[0] || !branches[1] || !condition || !condition->element || node.outputs.empty())
    return fail(skim::fail("malformed If", where, "a condition, two branches and a result"));
  NodeContext ctx(dims, builder, makeScalar);
  ctx.op = "If";
  ctx.name = node.name;
  ctx.inputs.push_back(condition);
  for (const wire::Graph *branch : branches)
    if (branch->outputs.size() != node.outputs.size())
      return fail(skim::fail("malformed If", where, std::to_string(node.outputs.size()) + " results of each branch",
                             std::to_string(branch->outputs.size())));
  if (std::optional<SmallVector<int64_t>> known = ctx.constantInts(0); known && known->size() == 1) {
    const wire::Graph &taken = *branches[(*known)[0] == 0];
    Scope inner{&scope, {}};
    if (!importGraph(taken, inner))
      return false;
    for (auto [output, name] : llvm::zip(taken.outputs, node.outputs)) {
      Info *info = lookup(inner, StringRef(output.name));
      if (!info)
        return fail(skim::fail("malformed If", where, "results that are defined", std::string(output.name)));
      if (!name.empty() && !define(scope, StringRef(name), info, where))
        return false;
    }
    return true;
  }
  ctx.outputs.resize(node.outputs.size());
  Region regions[2];
  for (int i = 0; i < 2; ++i) {
    OpBuilder::InsertionGuard guard(builder);
    Block *block = builder.createBlock(&regions[i]);
    Scope inner{&scope, {}};
    if (!importGraph(*branches[i], inner))
      return false;
    SmallVector<Value> values;
    for (auto [k, output] : llvm::enumerate(branches[i]->outputs)) {
      Info *info = lookup(inner, StringRef(output.name));
      if (!info || !info->element)
        return fail(skim::fail("malformed If", where, "results that are defined", std::string(output.name)));
      values.push_back(materialize(info));
      Info &result = ctx.outputs[k];
      result.name = StringRef(node.outputs[k]);
      if (i == 0) {
        result.element = info->element;
        result.shape = info->shape;
        continue;
      }
      if (result.element != info->element)
        return fail(skim::fail("malformed If", where, "branches of one type", std::string(output.name)));
      if (!result.shape || !info->shape || result.shape->size() != info->shape->size()) {
        result.shape = std::nullopt;
        continue;
      }
      for (auto [mine, other] : llvm::zip(*result.shape, *info->shape))
        if (!(mine == other))
          mine = dims.unknown();
    }
    builder.setInsertionPointToEnd(block);
    YieldOp::create(builder, builder.getUnknownLoc(), values);
  }
  scopeName.clear();
  Operation *op = emit(ctx, 2);
  op->getRegion(0).takeBody(regions[0]);
  op->getRegion(1).takeBody(regions[1]);
  for (auto [output, value] : llvm::zip(ctx.outputs, op->getResults())) {
    StringRef name = output.name;
    Info *info = newInfo(std::move(output));
    info->value = value;
    if (!name.empty() && !define(scope, name, info, where))
      return false;
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Graphs
//===----------------------------------------------------------------------===//

bool Importer::importGraph(const wire::Graph &graph, Scope &scope) {
  bool ok = true;
  for (const wire::Tensor &tensor : graph.initializers) {
    StringRef name(tensor.name);
    std::string where = "initializer '" + name.str() + "'";
    Info *info = makeConstant(tensor, name, where);
    if (info)
      info->isInitializer = true;
    ok &= info && define(scope, name, info, where);
  }
  // All bad weights at once; nodes that use them would only repeat it.
  if (!ok)
    return false;
  for (const wire::Node &node : graph.nodes)
    if (!importNode(node, scope))
      return false;
  return true;
}

ImportedONNX Importer::run() {
  ImportedONNX out;
  auto done = [&] {
    out.failures = std::move(failures);
    return std::move(out);
  };
  if (!readOpsets())
    return done();
  scan(model.graph);
  reportUnsupported();
  if (!failures.empty())
    return done();

  Location loc = NameLoc::get(builder.getStringAttr(fileName));
  OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
  SmallVector<NamedAttribute> versions;
  for (const auto &[domain, version] : opsets)
    versions.push_back(builder.getNamedAttr(domain.empty() ? StringRef("ai.onnx") : StringRef(domain),
                                            builder.getI64IntegerAttr(version)));
  (*module)->setAttr("onnx.opsets", builder.getDictionaryAttr(versions));
  (*module)->setAttr("onnx.model", builder.getStringAttr(options.filePrefix + fileName));
  (*module)->setAttr("onnx.producer",
                     builder.getStringAttr(StringRef(model.producerName) + " " + StringRef(model.producerVersion)));

  const wire::Graph &graph = model.graph;
  llvm::StringMap<bool> initializers;
  for (const wire::Tensor &tensor : graph.initializers)
    initializers[StringRef(tensor.name)] = true;
  Scope scope;
  SmallVector<Type> argumentTypes;
  SmallVector<Info *> arguments;
  for (const wire::ValueInfo &input : graph.inputs) {
    StringRef name(input.name);
    if (initializers.count(name))
      continue; // a default value, which is what is run
    Info info;
    info.name = name;
    info.element = input.type.kind == wire::Type::Kind::Tensor ? elementType(input.type.element, context) : Type();
    std::string where = "input '" + name.str() + "'";
    if (!info.element) {
      fail(skim::fail("unsupported input", where, "a numeric tensor", wire::name(input.type.element)));
      continue;
    }
    info.shape = declaredShape(input.type);
    arguments.push_back(newInfo(std::move(info)));
    argumentTypes.push_back(tensorType(*arguments.back()));
    define(scope, name, arguments.back(), where);
  }
  if (!failures.empty())
    return done();

  builder.setInsertionPointToEnd(module->getBody());
  auto function = func::FuncOp::create(builder, loc, options.function, builder.getFunctionType(argumentTypes, {}));
  entry = function.addEntryBlock();
  auto describeValue = [&](const Info &info, StringRef name) {
    SmallVector<NamedAttribute> attributes = {builder.getNamedAttr("onnx.name", builder.getStringAttr(name))};
    if (info.shape) {
      SmallVector<Attribute> texts;
      for (Dim dim : *info.shape)
        texts.push_back(builder.getStringAttr(dims.text(dim)));
      attributes.push_back(builder.getNamedAttr("onnx.dims", builder.getArrayAttr(texts)));
    }
    return builder.getDictionaryAttr(attributes);
  };
  for (auto [i, info] : llvm::enumerate(arguments)) {
    info->value = entry->getArgument(i);
    function.setArgAttrs(i, describeValue(*info, info->name));
  }
  builder.setInsertionPointToEnd(entry);
  if (!importGraph(graph, scope))
    return done();

  SmallVector<Value> results;
  SmallVector<Attribute> resultAttributes;
  for (const wire::ValueInfo &output : graph.outputs) {
    StringRef name(output.name);
    Info *info = lookup(scope, name);
    Type declared = elementType(output.type.element, context);
    if (!info || !info->element) {
      fail(skim::fail("malformed ONNX graph", "output '" + name.str() + "'", "a value of the graph", "none"));
      continue;
    }
    // Names of an output's dimensions are not trusted; its element type is.
    if (declared && declared != info->element) {
      NodeContext text(dims, builder, makeScalar);
      fail(skim::fail("malformed ONNX graph", "output '" + name.str() + "'", wire::name(output.type.element),
                      text.text(*info)));
      continue;
    }
    results.push_back(materialize(info));
    resultAttributes.push_back(describeValue(*info, name));
  }
  if (!failures.empty())
    return done();
  builder.setInsertionPointToEnd(entry);
  func::ReturnOp::create(builder, loc, results);
  function.setType(builder.getFunctionType(argumentTypes, ValueRange(results).getTypes()));
  if (!results.empty())
    function.setAllResultAttrs(resultAttributes);

  // Folding leaves nodes without uses behind; users come after definitions.
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(*entry)))
    if (isOpTriviallyDead(&op))
      op.erase();
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    fail(skim::fail("malformed ONNX graph", path, "valid IR", diagnostic.str()));
    return success();
  });
  if (failed(verify(*module)))
    return done();
  out.module = std::move(module);
  return done();
}
