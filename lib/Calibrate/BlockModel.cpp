#include "skim/Calibrate/BlockModel.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Pass/PassManager.h"
#include "skim/LM/LMOps.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Transforms/Differentiate.h"
#include "skim/Transforms/OutlineBlocks.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"

#include <algorithm>
#include <map>

using namespace mlir;
using namespace skim;

static std::string describe(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

/// Adds `NAME_observe`: the function's result (unless it is the head), then the
/// shared inputs of its linears.
static void addObserve(func::FuncOp function, bool withResult) {
  OpBuilder b(function);
  b.setInsertionPointAfter(function);
  auto copy = cast<func::FuncOp>(b.clone(*function));
  copy.setName((function.getName() + "_observe").str());
  auto exit = cast<func::ReturnOp>(copy.getBody().front().getTerminator());
  SetVector<Value> results;
  SmallVector<Value> returned;
  copy.walk([&](LinearOp op) { results.insert(op.getInput()); });
  if (withResult)
    returned.push_back(exit.getOperand(0));
  llvm::append_range(returned, results);
  exit.getOperandsMutable().assign(returned);
  copy.setFunctionType(b.getFunctionType(copy.getArgumentTypes(), ValueRange(returned).getTypes()));
  // Attributes of results are not those of the new ones.
  copy.removeResAttrsAttr();
}

/// Adds `NAME_logits`: the head without its loss, for losses of other kinds.
/// Null if the head does not end in a cross entropy.
static func::FuncOp addLogits(func::FuncOp head) {
  OpBuilder b(head);
  b.setInsertionPointAfter(head);
  auto copy = cast<func::FuncOp>(b.clone(*head));
  copy.setName((head.getName() + "_logits").str());
  auto exit = cast<func::ReturnOp>(copy.getBody().front().getTerminator());
  auto loss = exit.getOperand(0).getDefiningOp<lm::CrossEntropyOp>();
  if (!loss)
    return {};
  exit.getOperandsMutable().assign(loss.getLogits());
  loss.erase();
  copy.setFunctionType(b.getFunctionType(copy.getArgumentTypes(), exit.getOperandTypes()));
  copy.removeResAttrsAttr();
  return copy;
}

/// The arguments that scale a function's norms, in their order; none for those that are not one norm's own.
static SmallVector<std::optional<unsigned>> normArguments(func::FuncOp function) {
  SmallVector<std::optional<unsigned>> arguments;
  function.walk([&](lm::RMSNormOp norm) {
    auto argument = dyn_cast<BlockArgument>(norm.getWeight());
    arguments.push_back(argument && argument.hasOneUse() ? std::optional(argument.getArgNumber()) : std::nullopt);
  });
  return arguments;
}

class BlockModel::Builder {
public:
  Builder(ModuleOp module, std::string base, BlockModel &model)
      : module(module), base(std::move(base)), model(model), context(module.getContext()),
        handler(context, [this](Diagnostic &diagnostic) {
          if (detail.empty() && diagnostic.getSeverity() == DiagnosticSeverity::Error)
            detail = diagnostic.str();
          return success();
        }) {}

  Error run();

private:
  Error failed(const char *what) { return fail("cannot calibrate", what, "", detail); }
  Error outline();
  Error readParts();
  Error readPart(func::CallOp call);
  Error readWeight(Value value, Weight &weight);
  Error compile();
  /// What a function is differentiated by.
  SmallVector<int64_t> wanted(func::FuncOp function) const;
  Error connect(Part &part, func::FuncOp function, const TensorLibrary::Function *backward);
  Expected<MatrixSource> open(ExternalOp op);

  ModuleOp module;
  std::string base;
  BlockModel &model;
  MLIRContext *context;
  std::string detail;
  ScopedDiagnosticHandler handler;
  std::vector<func::FuncOp> functions; // of the parts
  std::map<std::string, std::shared_ptr<const MappedFile>> files;
};

Error BlockModel::Builder::outline() {
  PassManager manager(context);
  manager.addPass(createOutlineBlocks());
  if (mlir::failed(manager.run(module)))
    return failed("outlining its decoder blocks");
  return Error::success();
}

Expected<MatrixSource> BlockModel::Builder::open(ExternalOp op) {
  std::string path = base + "/" + op.getFile().str();
  if (!op.getFile().empty() && op.getFile().front() == '/')
    path = op.getFile().str();
  auto [place, isNew] = files.try_emplace(path);
  if (isNew) {
    Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
    if (!file)
      return file.takeError();
    place->second = *file;
  }
  auto type = cast<RankedTensorType>(op.getType());
  Type element = type.getElementType();
  DType dtype = element.isF16() ? DType::F16 : element.isBF16() ? DType::BF16 : DType::F32;
  std::string name = op.getName().value_or("a weight").str();
  if (type.getRank() < 1 || type.getRank() > 2 || !(element.isF16() || element.isBF16() || element.isF32()))
    return fail("unsupported weight", path + " (" + name + ")", "a float vector or matrix", describe(type));
  int64_t columns = type.getShape().back(), rows = type.getRank() == 2 ? type.getDimSize(0) : 1;
  int64_t rowStride = columns, columnStride = 1;
  if (std::optional<ArrayRef<int64_t>> strides = op.getStrides()) {
    columnStride = strides->back();
    rowStride = rows > 1 ? strides->front() : 0;
  }
  return MatrixSource::create(place->second, name, static_cast<uint64_t>(op.getOffset()), dtype, rows, columns,
                              rowStride, columnStride);
}

Error BlockModel::Builder::readWeight(Value value, Weight &weight) {
  // Parameters arrive converted to f32; files and constants are read so anyway.
  if (auto convert = value.getDefiningOp<ConvertOp>())
    value = convert.getInput();
  auto type = cast<RankedTensorType>(value.getType());
  weight.elements = type.getNumElements();
  if (auto external = value.getDefiningOp<ExternalOp>()) {
    Expected<MatrixSource> source = open(external);
    if (!source)
      return source.takeError();
    weight.matrix = std::move(*source);
    return Error::success();
  }
  if (auto constant = value.getDefiningOp<arith::ConstantOp>())
    if (auto elements = dyn_cast<DenseFPElementsAttr>(constant.getValue())) {
      for (const APFloat &number : elements.getValues<APFloat>()) {
        APFloat single = number;
        bool ignored;
        single.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &ignored);
        weight.values.push_back(single.convertToFloat());
      }
      return Error::success();
    }
  return fail("cannot calibrate", "its weights", "weights in 16 or 32-bit floats",
              type.getEncoding() ? "quantized ones" : "another operation", "calibrate the model it was quantized from");
}

Error BlockModel::Builder::readPart(func::CallOp call) {
  auto whole = call->getParentOfType<func::FuncOp>();
  auto function = module.lookupSymbol<func::FuncOp>(call.getCallee());
  Part part;
  DenseMap<Value, size_t> weightOf;
  for (auto [i, operand] : llvm::enumerate(call.getOperands())) {
    Source source = operand == whole.getArgument(0)   ? Source::Tokens
                    : operand == whole.getArgument(1) ? Source::Targets
                    : i == 0                          ? Source::Hidden
                                                      : Source::Weight;
    part.arguments.push_back(source);
    if (source != Source::Weight)
      continue;
    weightOf[function.getArgument(i)] = part.weights.size();
    part.weights.emplace_back();
    if (Error error = readWeight(operand, part.weights.back()))
      return error;
  }
  auto names = call->getAttrOfType<ArrayAttr>(kLayersAttr);
  llvm::MapVector<Value, size_t> inputs;
  function.walk([&](LinearOp op) {
    PartLayer layer;
    size_t index = part.layers.size();
    layer.name = cast<StringAttr>(names[index]).str();
    auto type = cast<RankedTensorType>(op.getWeight().getType());
    layer.rows = type.getDimSize(0);
    layer.columns = type.getDimSize(1);
    layer.weight = weightOf.lookup(op.getWeight());
    auto [place, isNew] = inputs.insert({op.getInput(), inputs.size()});
    layer.input = place->second;
    if (isNew)
      part.inputs.push_back({index, layer.columns});
    part.layers.push_back(std::move(layer));
  });
  SmallVector<std::optional<unsigned>> scales = normArguments(function);
  size_t number = 0;
  function.walk([&](lm::RMSNormOp op) {
    PartNorm norm;
    norm.channels = cast<RankedTensorType>(op.getWeight().getType()).getDimSize(0);
    norm.offset = op.getOffset().convertToFloat();
    if (std::optional<unsigned> argument = scales[number++])
      norm.weight = weightOf.lookup(function.getArgument(*argument));
    part.norms.push_back(norm);
  });
  functions.push_back(function);
  model.partList.push_back(std::move(part));
  return Error::success();
}

Error BlockModel::Builder::readParts() {
  auto whole = module.lookupSymbol<func::FuncOp>("forward");
  for (Operation &op : whole.getBody().front()) {
    if (auto embed = dyn_cast<EmbedOp>(op)) {
      auto table = embed.getTable().getDefiningOp<ExternalOp>();
      if (!table)
        return fail("cannot calibrate", "its embeddings", "a table of 16 or 32-bit floats", "a quantized one");
      Expected<MatrixSource> source = open(table);
      if (!source)
        return source.takeError();
      model.embedding = std::move(*source);
    } else if (auto call = dyn_cast<func::CallOp>(op)) {
      if (Error error = readPart(call))
        return error;
    }
  }
  model.hidden = cast<RankedTensorType>(functions.back().getArgument(0).getType()).getShape().back();
  return Error::success();
}

SmallVector<int64_t> BlockModel::Builder::wanted(func::FuncOp function) const {
  SmallVector<int64_t> arguments = {0};
  if (model.reverse == Reverse::Norms)
    for (std::optional<unsigned> argument : normArguments(function))
      if (argument)
        arguments.push_back(*argument);
  return arguments;
}

Error BlockModel::Builder::compile() {
  func::FuncOp head = functions.back();
  SetVector<Operation *> distinct;
  for (func::FuncOp function : functions)
    distinct.insert(function);
  model.distinct = distinct.size();
  for (Operation *op : distinct) {
    auto function = cast<func::FuncOp>(op);
    if (!model.hasGradients()) {
      addObserve(function, function != head);
      continue;
    }
    // The head's loss is calibration's; tuning has its own, behind the logits.
    if (mlir::failed(differentiate(function, function == head ? SmallVector<int64_t>{0} : wanted(function),
                                   /*observe=*/true)))
      return failed("differentiating a decoder block");
  }
  func::FuncOp logits = model.hasGradients() ? addLogits(head) : func::FuncOp();
  if (logits && mlir::failed(differentiate(logits, wanted(logits), /*observe=*/false)))
    return failed("differentiating the head");
  // The whole was a list of parts; only they are compiled.
  OwningOpRef<ModuleOp> code = cast<ModuleOp>(module->clone());
  code->lookupSymbol<func::FuncOp>("forward").erase();
  Expected<TargetInfo> target = parseCPUTarget("cpu");
  if (!target)
    return target.takeError();
  Expected<std::unique_ptr<TensorLibrary>> library = TensorLibrary::build(*code, *target);
  if (!library)
    return library.takeError();
  model.library = std::move(*library);
  model.headLogits = model.library->find((head.getName() + "_logits").str());
  model.headLogitsBackward = model.library->find((head.getName() + "_logits_vjp").str());
  for (auto [part, function] : llvm::zip(model.partList, functions)) {
    std::string name = function.getName().str();
    part.forward = model.library->find(name);
    part.observe = model.library->find(name + "_observe");
    if (!model.hasGradients())
      continue;
    part.backward = model.library->find(name + "_vjp");
    if (Error error = connect(part, function, part.backward))
      return error;
  }
  return Error::success();
}

/// Which results of the reverse mode are which layer's.
Error BlockModel::Builder::connect(Part &part, func::FuncOp function, const TensorLibrary::Function *backward) {
  llvm::StringMap<size_t> ordinals;
  function.walk([&](LinearOp op) { ordinals.try_emplace(op.getLayer().value_or(""), ordinals.size()); });
  auto vjp = module.lookupSymbol<func::FuncOp>(backward->name);
  size_t adjoints = function == functions.back() ? 1 : wanted(function).size();
  for (unsigned i = adjoints; i < vjp.getNumResults(); ++i) {
    auto input = vjp.getResultAttrOfType<StringAttr>(i, kInputAttr);
    auto output = vjp.getResultAttrOfType<StringAttr>(i, kOutputAdjointAttr);
    auto layer = ordinals.find(input ? input.getValue() : output ? output.getValue() : "");
    if (layer == ordinals.end())
      return fail("cannot calibrate", function.getName().str(), "a name for each of its linears", "one without");
    part.observed.emplace_back(input != nullptr, input ? part.layers[layer->second].input : layer->second);
  }
  return Error::success();
}

Error BlockModel::Builder::run() {
  for (auto step : {&Builder::outline, &Builder::readParts, &Builder::compile})
    if (Error error = (this->*step)())
      return error;
  return Error::success();
}

Expected<std::unique_ptr<BlockModel>> BlockModel::build(ModuleOp raised, const std::string &base, Reverse reverse) {
  std::unique_ptr<BlockModel> model(new BlockModel());
  model->reverse = reverse;
  DialectRegistry registry;
  registerDifferentiableModels(registry);
  raised.getContext()->appendDialectRegistry(registry);
  if (Error error = Builder(raised, base, *model).run())
    return error;
  return model;
}

Expected<PartWeights> BlockModel::load(size_t part) const {
  PartWeights weights;
  for (const Weight &weight : partList[part].weights) {
    if (!weight.matrix) {
      weights.arrays.push_back(weight.values);
      continue;
    }
    std::vector<float> values(weight.elements);
    weight.matrix->readRows(0, weight.matrix->rows(), values.data());
    for (float value : values)
      if (!(value - value == 0))
        return fail("a weight that is no number", weight.matrix->name(), "finite numbers", std::to_string(value));
    weights.arrays.push_back(std::move(values));
    weight.matrix->release();
  }
  return weights;
}

void BlockModel::embed(std::span<const int32_t> tokens, float *out) const {
  for (size_t i = 0; i < tokens.size(); ++i)
    embedding->readRows(tokens[i], tokens[i] + 1, out + i * embedding->columns());
}

void BlockModel::gather(const Part &part, const PartWeights &weights, const int32_t *tokens, const float *in,
                        std::vector<const void *> &out) const {
  size_t weight = 0;
  for (Source source : part.arguments)
    out.push_back(source == Source::Hidden   ? static_cast<const void *>(in)
                  : source == Source::Weight ? static_cast<const void *>(weights.arrays[weight++].data())
                                             : static_cast<const void *>(tokens));
}

void BlockModel::forward(size_t part, const PartWeights &weights, std::span<const int32_t> tokens, const float *in,
                         float *out) const {
  std::vector<const void *> inputs;
  gather(partList[part], weights, tokens.data(), in, inputs);
  void *outputs[] = {out};
  partList[part].forward->run(inputs, outputs, static_cast<int64_t>(tokens.size()));
}

void BlockModel::observe(size_t part, const PartWeights &weights, std::span<const int32_t> tokens, const float *in,
                         float *out, std::span<float *const> x) const {
  std::vector<const void *> inputs;
  gather(partList[part], weights, tokens.data(), in, inputs);
  std::vector<void *> outputs;
  if (part != head())
    outputs.push_back(out);
  outputs.insert(outputs.end(), x.begin(), x.end());
  partList[part].observe->run(inputs, outputs, static_cast<int64_t>(tokens.size()));
}

void BlockModel::backward(size_t part, const PartWeights &weights, std::span<const int32_t> tokens, const float *in,
                          const float *outAdjoint, float *inAdjoint, std::span<float *const> x,
                          std::span<float *const> dz, std::span<float *const> norms) const {
  std::vector<const void *> inputs;
  gather(partList[part], weights, tokens.data(), in, inputs);
  inputs.push_back(outAdjoint);
  std::vector<void *> outputs{inAdjoint};
  outputs.insert(outputs.end(), norms.begin(), norms.end());
  for (auto [isInput, number] : partList[part].observed)
    outputs.push_back(isInput ? x[number] : dz[number]);
  partList[part].backward->run(inputs, outputs, static_cast<int64_t>(tokens.size()));
}

void BlockModel::loss(const PartWeights &weights, std::span<const int32_t> targets, const float *in,
                      float *losses) const {
  std::vector<const void *> inputs;
  gather(partList.back(), weights, targets.data(), in, inputs);
  void *outputs[] = {losses};
  partList.back().forward->run(inputs, outputs, static_cast<int64_t>(targets.size()));
}

void BlockModel::lossBackward(const PartWeights &weights, std::span<const int32_t> targets, const float *in,
                              const float *lossAdjoint, float *inAdjoint, float *x, float *dz) const {
  std::vector<const void *> inputs;
  gather(partList.back(), weights, targets.data(), in, inputs);
  inputs.push_back(lossAdjoint);
  std::vector<void *> outputs{inAdjoint};
  for (auto [isInput, number] : partList.back().observed)
    outputs.push_back(isInput ? x : dz);
  partList.back().backward->run(inputs, outputs, static_cast<int64_t>(targets.size()));
}

void BlockModel::logits(const PartWeights &weights, size_t count, const float *in, float *out) const {
  std::vector<const void *> inputs;
  std::vector<int32_t> targets(count); // an argument that nothing reads
  gather(partList.back(), weights, targets.data(), in, inputs);
  void *outputs[] = {out};
  headLogits->run(inputs, outputs, static_cast<int64_t>(count));
}

void BlockModel::logitsBackward(const PartWeights &weights, size_t count, const float *in, const float *outAdjoint,
                                float *inAdjoint, std::span<float *const> norms) const {
  std::vector<const void *> inputs;
  std::vector<int32_t> targets(count);
  gather(partList.back(), weights, targets.data(), in, inputs);
  inputs.push_back(outAdjoint);
  std::vector<void *> outputs{inAdjoint};
  outputs.insert(outputs.end(), norms.begin(), norms.end());
  headLogitsBackward->run(inputs, outputs, static_cast<int64_t>(count));
}
