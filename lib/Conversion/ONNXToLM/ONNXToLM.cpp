//===- ONNXToLM.cpp - raises an ONNX decoder to the lm dialect --------------===//

#include "skim/Conversion/ONNXToLM.h"

#include "Raiser.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "skim/Support/Json.h"

#include <filesystem>

using namespace mlir;
using namespace skim::raise;
using skim::onnx::NodeOp;

namespace skim {
#define GEN_PASS_DEF_ONNXTOLM
#include "skim/Conversion/ONNXToLM.h.inc"
} // namespace skim

/// Used where neither the graph nor a configuration beside it says how long a sequence may be.
static constexpr int64_t kDefaultContext = 8192;

//===----------------------------------------------------------------------===//
// Reports
//===----------------------------------------------------------------------===//

void Raiser::report(Operation *op, std::string expected, std::string got) {
  auto &texts = reports[op];
  std::string text = "expected " + expected + ", got " + got;
  if (!llvm::is_contained(texts, text))
    texts.push_back(std::move(text));
}

LogicalResult Raiser::flushReports() {
  // One line for each reason and operator; the first node stands for all.
  llvm::MapVector<std::pair<StringRef, StringRef>, std::pair<Operation *, unsigned>> lines;
  for (auto &[op, texts] : reports)
    for (const std::string &text : texts) {
      auto node = dyn_cast<NodeOp>(op);
      auto &line = lines[{text, node ? node.getOpType() : op->getName().getStringRef()}];
      line.first = line.second++ ? line.first : op;
    }
  for (auto &[key, line] : lines) {
    auto [op, occurrences] = line;
    InFlightDiagnostic diagnostic = emitError(op->getLoc()) << "cannot raise ";
    if (auto node = dyn_cast<NodeOp>(op)) {
      diagnostic << (node.getDomain().empty() ? "" : node.getDomain() + "::") << node.getOpType() << " at node '"
                 << node.getNodeName().value_or("") << "'";
    } else {
      diagnostic << op->getName();
    }
    diagnostic << ": " << key.first;
    if (occurrences > 1)
      diagnostic << ", " << occurrences << " occurrences";
  }
  if (lines.empty())
    return success();
  return emitError(source.getLoc()) << "graph is no decoder that can be raised: " << lines.size()
                                    << (lines.size() == 1 ? " reason" : " reasons");
}

void Raiser::reportCause(Value value, std::string expected) {
  // The nearest nodes that nothing is known of; if there is none, the node itself.
  SmallVector<Value> work{value};
  llvm::DenseSet<Value> seen;
  bool found = false;
  while (!work.empty()) {
    Value v = work.pop_back_val();
    if (!seen.insert(v).second || graph.getRaised(v))
      continue;
    auto op = v.getDefiningOp<NodeOp>();
    if (!op)
      continue;
    if (reports.contains(op)) {
      found = true; // said already
      continue;
    }
    bool inputsKnown = true;
    for (Value input : op.getInputs())
      if (!isa<NoneType>(input.getType()) && !graph.shape(input))
        inputsKnown = false;
    if (!graph.shape(v) && inputsKnown) {
      report(op, "an operator that can be raised", graph.reasonFor(op));
      found = true;
      continue;
    }
    llvm::append_range(work, op.getInputs());
  }
  if (found)
    return;
  Operation *op = value.getDefiningOp();
  std::string got = "an input of the graph";
  if (op) {
    got = "something else";
    if (const std::optional<Dims> &dims = graph.shape(value))
      got = x.text(graph.element(value, graph.variables(*dims)));
  }
  report(op ? op : source.getOperation(), std::move(expected), std::move(got));
}

//===----------------------------------------------------------------------===//
// Activations
//===----------------------------------------------------------------------===//

RankedTensorType Raiser::activationType(int64_t channels) {
  return RankedTensorType::get({ShapedType::kDynamic, ShapedType::kDynamic, channels}, builder.getF32Type());
}

bool Raiser::isActivation(Expr load) {
  Value tensor = load->tensor;
  return load->kind == Kind::Load && load->args.size() == 3 &&
         tensor.getParentBlock()->getParentOp() == forward.getOperation();
}

Value Raiser::activationAt(Expr e, Expr b, Expr s, Expr c) {
  if (e->kind != Kind::Load || !isActivation(e) || e->args[0] != b || e->args[1] != s)
    return {};
  std::optional<int64_t> offset = Graph::number(x.sub(e->args[2], c));
  std::optional<int64_t> channels = c->kind == Kind::Index ? Graph::number(c->args[0]) : std::nullopt;
  int64_t all = cast<RankedTensorType>(e->tensor.getType()).getShape().back();
  if (!offset || !channels || *offset < 0 || *offset + *channels > all)
    return {};
  // A part of what a packed linear computes is a linear of its own.
  return *channels == all ? e->tensor : sliceLinear(e->tensor, *offset, *channels);
}

Value Raiser::require(Value value, int64_t channels) {
  const std::optional<Dims> &dims = graph.shape(value);
  if (dims && dims->size() == 3 && (*dims)[0] == graph.batch && (*dims)[1] == graph.length &&
      (*dims)[2]->isNumber(static_cast<double>(channels))) {
    Expr b = x.index(graph.batch), s = x.index(graph.length), c = x.index((*dims)[2]);
    if (Value activation = activationAt(graph.element(value, {b, s, c}), b, s, c))
      if (cast<RankedTensorType>(activation.getType()).getShape().back() == channels)
        return activation;
  }
  reportCause(value, "an activation [batch, length, " + std::to_string(channels) + "]");
  Value standIn =
      UnrealizedConversionCastOp::create(builder, value.getLoc(), activationType(channels), ValueRange()).getResult(0);
  graph.setRaised(value, {standIn});
  return standIn;
}

//===----------------------------------------------------------------------===//
// The graph
//===----------------------------------------------------------------------===//

Raiser::Raiser(ModuleOp module, func::FuncOp source, Constants &constants, int64_t context)
    : module(module), source(source), builder(module.getContext()), constants(constants), graph(source, constants),
      x(graph.expressions), context(context) {
  Location loc = source.getLoc();
  builder.setInsertionPointAfter(source);
  forward = func::FuncOp::create(builder, loc, "forward", builder.getFunctionType({}, {}));
  Block *body = forward.addEntryBlock();
  Type i32 = builder.getI32Type();
  auto vector = RankedTensorType::get({ShapedType::kDynamic}, i32);
  tokens = body->addArgument(RankedTensorType::get({ShapedType::kDynamic, ShapedType::kDynamic}, i32), loc);
  start = body->addArgument(vector, loc);
  count = body->addArgument(vector, loc);
  rows = body->addArgument(vector, loc);
  builder.setInsertionPointToEnd(body);
}

Raiser::Cache &Raiser::cacheOf(int64_t layer, int64_t kvHeads, int64_t size) {
  auto [it, inserted] = caches.try_emplace(layer);
  if (inserted) {
    auto type =
        RankedTensorType::get({ShapedType::kDynamic, kvHeads, ShapedType::kDynamic, size}, builder.getF32Type());
    Block &body = forward.getBody().front();
    it->second.key = body.addArgument(type, forward.getLoc());
    it->second.value = body.addArgument(type, forward.getLoc());
  }
  return it->second;
}

void Raiser::dispatch(NodeOp op) {
  StringRef name = op.getOpType();
  if (op.getDomain() == "com.microsoft") {
    if (name == "MatMulNBits")
      raiseMatMulNBits(op);
    else if (name == "GatherBlockQuantized")
      raiseQuantizedEmbedding(op);
    else if (name == "GroupQueryAttention")
      raiseGroupQueryAttention(op);
    else if (name == "SkipSimplifiedLayerNormalization")
      raiseNorm(op);
    return;
  }
  if (!op.getDomain().empty())
    return;
  if (name == "RMSNormalization" || name == "SimplifiedLayerNormalization")
    raiseNorm(op);
  else if (name == "MatMul" || name == "Gemm") {
    if (!raiseLinear(op) && name == "MatMul")
      raiseSoftmaxAttention(op);
  } else if (name == "Attention")
    raiseAttentionNode(op);
  else if (name == "Gather")
    raiseEmbedding(op);
  else if (name == "Add" || name == "Mul" || name == "Div")
    raiseElementwise(op);
}

LogicalResult Raiser::run() {
  if (!graph.tokens) {
    source.emitError("expected a graph with an input named 'input_ids', got none");
    return failure();
  }
  for (BlockArgument argument : source.getArguments())
    if (graph.inputOf(argument).role == Role::Unknown)
      report(source, "inputs input_ids, attention_mask, position_ids and past_key_values.N.key|value",
             "input '" + Graph::nameOf(argument).str() + "'");
  for (Operation &op : source.getBody().front()) {
    auto node = dyn_cast<NodeOp>(op);
    if (!node || !node.getNumResults())
      continue;
    for (Value result : node.getResults()) // in order: each finds its operands' known
      graph.shape(result);
    dispatch(node);
  }
  return finish();
}

LogicalResult Raiser::finish() {
  Operation *terminator = source.getBody().front().getTerminator();
  Value logits;
  for (auto [i, value] : llvm::enumerate(terminator->getOperands())) {
    auto name = source.getResultAttrOfType<StringAttr>(i, "onnx.name");
    Input output = classify(name ? name.getValue() : "");
    if (output.role == Role::PastKey || output.role == Role::PastValue)
      finishPresent(value, output, terminator->getLoc());
    else if (name && name.getValue() == "logits")
      logits = value;
    else
      report(terminator, "outputs logits and present.N.key|value",
             "output '" + (name ? name.getValue().str() : std::string()) + "'");
  }
  Value result;
  if (!logits)
    report(terminator, "an output named 'logits'", "none");
  else if (failed(finishLogits(logits, result)))
    return failure();
  for (BlockArgument argument : source.getArguments()) {
    Input input = graph.inputOf(argument);
    if ((input.role == Role::PastKey || input.role == Role::PastValue) && !caches.count(input.layer) && reports.empty())
      report(source, "an attention that appends to each cache", "none for '" + Graph::nameOf(argument).str() + "'");
  }
  if (caches.empty() && reports.empty())
    report(source, "a decoder with attention", "none");
  if (!constants.error().empty())
    return source.emitError() << constants.error();
  if (failed(flushReports()))
    return failure();

  // Arguments and results in the order of the layers.
  Block &body = forward.getBody().front();
  SmallVector<Value> results{result};
  SmallVector<BlockArgument> order;
  for (auto &[layer, cache] : caches) {
    order.append({cache.key, cache.value});
    results.append({cache.newKey, cache.newValue});
  }
  unsigned fixed = body.getNumArguments() - static_cast<unsigned>(order.size());
  for (BlockArgument argument : order)
    argument.replaceAllUsesWith(body.addArgument(argument.getType(), argument.getLoc()));
  for (Value &value : results) // a cache may be returned as it came
    if (auto argument = dyn_cast<BlockArgument>(value))
      value =
          body.getArgument(static_cast<unsigned>(fixed + order.size() + (llvm::find(order, argument) - order.begin())));
  body.eraseArguments(fixed, static_cast<unsigned>(order.size()));
  func::ReturnOp::create(builder, terminator->getLoc(), results);
  forward.setFunctionType(builder.getFunctionType(body.getArgumentTypes(), ValueRange(results).getTypes()));
  for (unsigned i = fixed; i < body.getNumArguments(); ++i)
    forward.setArgAttr(i, "skim.cache", builder.getUnitAttr());

  nameLayers();
  tieEmbedding();
  sortBody();
  setAttributes();
  source.erase();
  return success();
}

LogicalResult Raiser::finishLogits(Value logits, Value &result) {
  const std::optional<Dims> &dims = graph.shape(logits);
  std::optional<int64_t> vocabulary = dims && dims->size() == 3 ? Graph::number(dims->back()) : std::nullopt;
  Value value = vocabulary ? require(logits, *vocabulary) : Value();
  auto head = value ? value.getDefiningOp<LinearOp>() : LinearOp();
  if (!head) {
    if (reports.empty())
      reportCause(logits, "logits that a linear layer computes");
    return success();
  }
  // Only the rows whose logits are wanted reach the head.
  Location loc = head.getLoc();
  int64_t channels = cast<RankedTensorType>(head.getInput().getType()).getShape().back();
  Type f32 = builder.getF32Type();
  Value gathered = lm::GatherRowsOp::create(builder, loc, RankedTensorType::get({ShapedType::kDynamic, channels}, f32),
                                            head.getInput(), rows);
  auto wanted =
      LinearOp::create(builder, loc, RankedTensorType::get({ShapedType::kDynamic, *vocabulary}, f32), gathered,
                       head.getWeight(), head.getBias(), head.getLayerAttr(), head.getOnnxNameAttr(), StringAttr());
  linears[wanted] = linears[head];
  result = wanted;
  return success();
}

void Raiser::finishPresent(Value present, Input output, Location loc) {
  auto it = caches.find(output.layer);
  bool isKey = output.role == Role::PastKey;
  if (it == caches.end())
    return; // reported with the cache's input
  Cache &cache = it->second;
  if (present == (isKey ? cache.presentKey : cache.presentValue))
    return;
  Expr expected = isKey ? cache.keyElement : cache.valueElement;
  const std::optional<Dims> &dims = graph.shape(present);
  if (expected && dims && dims->size() == 4 && graph.element(present, {cache.b, cache.g, cache.j, cache.d}) == expected)
    return;
  Operation *op = present.getDefiningOp();
  report(op ? op : source.getOperation(),
         std::string("present ") + (isKey ? "keys" : "values") + " of layer " + std::to_string(output.layer) +
             " to be what its attention reads",
         dims ? x.text(graph.element(present, graph.variables(*dims))) : "a tensor of unknown shape");
}

/// Orders the body by what the result needs, operands first to last: graphs that
/// say the same in another order come out equal, and what nobody needs is gone.
void Raiser::sortBody() {
  Block &body = forward.getBody().front();
  Operation *terminator = body.getTerminator();
  SmallVector<std::pair<Operation *, unsigned>> stack{{terminator, 0}};
  llvm::DenseSet<Operation *> seen{terminator};
  SmallVector<Operation *> order;
  while (!stack.empty()) {
    auto &[op, next] = stack.back();
    if (next == op->getNumOperands()) {
      order.push_back(op);
      stack.pop_back();
      continue;
    }
    Operation *definition = op->getOperand(next++).getDefiningOp();
    if (definition && seen.insert(definition).second)
      stack.push_back({definition, 0});
  }
  for (Operation *op : order)
    op->moveBefore(&body, body.end());
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(body)))
    if (!seen.contains(&op))
      op.erase();
}

void Raiser::setAttributes() {
  auto head = forward.getBody().front().getTerminator()->getOperand(0).getDefiningOp<LinearOp>();
  auto weight = cast<RankedTensorType>(head.getWeight().getType());
  auto cacheType = cast<RankedTensorType>(forward.getArgumentTypes().back());
  auto name = module->getAttrOfType<StringAttr>("onnx.model");
  int64_t longest = tableRows ? tableRows : kDefaultContext;
  auto number = [&](StringRef name, int64_t value) {
    return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
  };
  module->setAttr("skim.model",
                  builder.getDictionaryAttr(
                      {number("hidden", weight.getDimSize(1)), number("vocab", weight.getDimSize(0)),
                       number("layers", static_cast<int64_t>(caches.size())), number("heads", heads),
                       number("kv_heads", cacheType.getDimSize(1)), number("head_dim", cacheType.getDimSize(3)),
                       number("context", context ? context : longest),
                       builder.getNamedAttr("source", builder.getStringAttr(name ? name.getValue() : ""))}));
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

/// The longest sequence that a configuration beside the model states, or 0.
static int64_t contextOfConfiguration(const std::string &folder) {
  for (auto [file, path] : {std::pair("genai_config.json", "model"), std::pair("config.json", "")}) {
    std::string name = folder + "/" + file;
    std::error_code ec;
    if (!std::filesystem::exists(name, ec))
      continue;
    auto json = skim::parseJsonFile(name);
    if (!json || !json->is_object())
      continue;
    const skim::Json *object = &*json;
    if (*path) {
      auto it = object->find(path);
      if (it == object->end() || !it->is_object())
        continue;
      object = &*it;
    }
    for (const char *key : {"context_length", "max_position_embeddings", "n_positions"})
      if (auto it = object->find(key); it != object->end() && it->is_number_integer() && it->get<int64_t>() > 0)
        return it->get<int64_t>();
  }
  return 0;
}

namespace {
class ONNXToLMPass : public skim::impl::ONNXToLMBase<ONNXToLMPass> {
public:
  using ONNXToLMBase::ONNXToLMBase;
  void runOnOperation() override {
    ModuleOp module = getOperation();
    func::FuncOp source;
    for (auto function : module.getOps<func::FuncOp>())
      if (!function.isExternal() && !function.getOps<NodeOp>().empty()) {
        if (source) {
          function.emitError("expected one graph, got a second");
          return signalPassFailure();
        }
        source = function;
      }
    if (!source)
      return; // raised already, or nothing to do
    if (!llvm::hasSingleElement(source.getBody()) || module.lookupSymbol("forward")) {
      source.emitError("expected a graph of one block, and no function 'forward' yet");
      return signalPassFailure();
    }
    int64_t length = context;
    if (length < 0) {
      module.emitError() << "option 'context': expected at least 0, got " << length;
      return signalPassFailure();
    }
    if (!length)
      length = contextOfConfiguration(base);
    Constants constants(base);
    if (failed(Raiser(module, source, constants, length).run()))
      signalPassFailure();
  }
};
} // namespace
