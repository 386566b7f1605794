//===- StepGenerator.cpp - values, weights and the step function ------------===//

#include "StepGenerator.h"
#include "skim-rt/abi.h"
#include "skim/Lane/LaneOps.h"
#include "skim/Target/Common/KernelBuilder.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Verifier.h"

using namespace mlir;
using namespace skim;
using namespace skim::step;

//===--- signature ---===//

Error StepGenerator::readSignature() {
  const char *names[] = {"tokens", "start", "count", "rows"};
  if (forward.isDeclaration() || !llvm::hasSingleElement(forward.getBody()))
    return failAt(forward, "unsupported model function", "one block", "none or several");
  if (forward.getNumArguments() < 4 || forward.getNumResults() < 1)
    return failAt(forward, "unsupported model function", "arguments tokens, start, count, rows and the caches",
                  spell(forward.getFunctionType()));
  for (unsigned i = 0; i < 4; ++i) {
    auto type = dyn_cast<RankedTensorType>(forward.getArgument(i).getType());
    if (!type || !type.getElementType().isInteger(32) || type.getRank() != (i == 0 ? 2 : 1))
      return failAt(forward, "unsupported model function", std::string("i32 ") + names[i],
                    spell(forward.getArgument(i).getType()));
  }
  int64_t prefix = 0;
  for (BlockArgument argument : forward.getArguments().drop_front(4)) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!forward.getArgAttr(argument.getArgNumber(), "skim.cache") || !type || type.getRank() != 4 ||
        type.isDynamicDim(1) || type.isDynamicDim(3) || !type.getElementType().isF32() || type.getEncoding())
      return failAt(forward, "unsupported model function", "a cache [batch, heads, capacity, size] of f32",
                    spell(argument.getType()));
    caches[argument] = static_cast<unsigned>(cacheTensors.size());
    cacheTensors.push_back({prefix, type.getDimSize(1), type.getDimSize(3)});
    cacheBuffers.push_back(plan.addBuffer(Buffer::Cache));
    info.caches.push_back({type.getDimSize(1), type.getDimSize(3), 4});
    prefix += type.getDimSize(1) * type.getDimSize(3) * 4;
  }
  auto returned = cast<func::ReturnOp>(forward.getBody().front().getTerminator());
  logits = returned.getOperand(0);
  auto type = dyn_cast<RankedTensorType>(logits.getType());
  if (!type || type.getRank() != 2 || type.isDynamicDim(1) || !type.getElementType().isF32())
    return failAt(forward, "unsupported model function", "logits [rows, vocabulary] of f32", spell(logits.getType()));
  info.vocabulary = type.getDimSize(1);
  if (auto context = forward->getAttrOfType<IntegerAttr>("skim.context"))
    info.context = context.getInt();
  logitsBuffer = plan.addBuffer(Buffer::Logits);
  sharedBuffer = plan.addBuffer(Buffer::Shared);
  return Error::success();
}

Error StepGenerator::expectArgument(Operation *op, Value value, unsigned argument, const char *name) {
  if (value == forward.getArgument(argument))
    return Error::success();
  return failAt(op, "unsupported operand", std::string("the function's argument '") + name + "'", "another value");
}

//===--- values ---===//

void StepGenerator::bind(Value value, View view) {
  views[value] = view;
  ++plan.buffers[view.buffer].values;
}

Expected<View> StepGenerator::viewOf(Operation *op, Value value) {
  auto found = views.find(value);
  if (found != views.end())
    return found->second;
  return failAt(op ? op : forward.getOperation(), "unsupported operand", "an activation", spell(value.getType()));
}

View StepGenerator::newResult(Value value, bool gathered) {
  int64_t channels = cast<RankedTensorType>(value.getType()).getShape().back();
  if (value != logits || !gathered)
    return plan.addRows(channels, gathered);
  View view;
  view.buffer = logitsBuffer;
  view.stride = view.channels = channels;
  view.gathered = true;
  return view;
}

View StepGenerator::contiguous(View view) {
  if (view.contiguous())
    return view;
  View copy = plan.addRows(view.channels, view.gathered);
  addCopy(view, copy);
  return copy;
}

Rows StepGenerator::rows(Emitter &e, const StepValues &s, const View &view) {
  const Buffer &buffer = plan.buffers[view.buffer];
  Val base = s.logits;
  if (buffer.kind == Buffer::Scratch)
    base = e.offset(s.scratch, s.rows * e.i64(sharedPerRow + buffer.offset) + e.i64(sharedFixed));
  if (view.column)
    base = e.at(base, e.i64(view.column));
  return {base, e.i64(view.stride)};
}

//===--- weights ---===//

int64_t StepGenerator::addWeight(ProgramWeight weight) {
  // Equal constants (a tied embedding that stands twice in the IR) are one.
  Operation *source = weight.source.getDefiningOp();
  NamedAttrList identity;
  for (NamedAttribute attribute : source->getAttrDictionary())
    if (attribute.getName() != "name" && attribute.getName() != "sha256")
      identity.append(attribute);
  identity.set("skim.type", TypeAttr::get(weight.source.getType()));
  if (weight.codes.block)
    identity.set("skim.turned", Builder(source->getContext())
                                    .getDenseI64ArrayAttr({weight.codes.word, weight.codes.lanes, weight.codes.bits,
                                                           weight.codes.columns}));
  auto key = std::make_pair(Attribute(identity.getDictionary(source->getContext())), Type(weight.type));
  auto [entry, isNew] = weightIndices.try_emplace(key, static_cast<int64_t>(info.weights.size()));
  if (!isNew)
    return entry->second;
  std::string name = weight.name.empty() ? "weight" : weight.name;
  for (unsigned suffix = 1; !weightNames.insert(name).second; ++suffix)
    name = (weight.name.empty() ? "weight" : weight.name) + "." + std::to_string(suffix);
  weight.name = name;
  info.weights.push_back(std::move(weight));
  return entry->second;
}

Expected<Weight> StepGenerator::resolveWeight(Operation *user, Value value, StringRef layer, LayoutAttr layout) {
  value = behindConversions(value);
  auto type = cast<RankedTensorType>(value.getType());
  Weight weight;
  weight.type = type;
  auto add = [&](Value source, RankedTensorType stored, std::string name, unsigned component, Value encoded,
                 const TurnedCodes &codes = {}) {
    ProgramWeight entry;
    entry.codes = codes;
    entry.name = std::move(name);
    entry.type = stored;
    entry.source = source;
    entry.encoded = encoded;
    entry.component = component;
    entry.layer = layer.str();
    weight.indices.push_back(addWeight(std::move(entry)));
  };
  if (auto assemble = value.getDefiningOp<AssembleOp>()) {
    weight.term = getEncoding(type);
    SmallVector<Component> components = getComponents(weight.term, type.getShape());
    SmallVector<TurnedCodes> codes = turnedCodes(weight.term, type.getShape(), layout);
    for (auto [index, component] : llvm::enumerate(assemble.getComponents())) {
      if (!isConstantTensor(component))
        return failAt(user, "unsupported weight", "constant components", spell(component.getType()));
      std::string name = externalName(component);
      if (name.empty() && !layer.empty())
        name = layer.str() + "." + components[index].name;
      add(component, components[index].type, name, index, value, codes[index]);
    }
    return weight;
  }
  if (!isConstantTensor(value) || !isa<FloatType>(type.getElementType()))
    return failAt(user, "unsupported weight", "a constant of floats or an encoded weight", spell(type));
  weight.term = cast<WeightEncoding>(Attribute(DenseAttr::get(type.getContext(), type.getElementType())));
  std::string name = externalName(value);
  if (name.empty() && !layer.empty())
    name = layer.str() + ".weight";
  add(value, RankedTensorType::get(type.getShape(), type.getElementType()), name, 0, Value());
  return weight;
}

Expected<int64_t> StepGenerator::resolveVector(Operation *user, Value value, StringRef layer) {
  value = behindConversions(value);
  auto type = cast<RankedTensorType>(value.getType());
  if (!isConstantTensor(value) || !isa<FloatType>(type.getElementType()) || type.getEncoding())
    return failAt(user, "unsupported parameter", "a constant of floats", spell(type));
  ProgramWeight entry;
  entry.name = externalName(value);
  if (entry.name.empty() && !layer.empty())
    entry.name = layer.str() + ".bias";
  entry.type = RankedTensorType::get(type.getShape(), Float32Type::get(type.getContext()));
  entry.source = value;
  entry.layer = layer.str();
  return addWeight(std::move(entry));
}

Val StepGenerator::weightPointer(Emitter &e, const StepValues &s, int64_t index) {
  return e.loadPtr(e.at(s.weights, e.i64(index), 8));
}

//===--- the step function ---===//

static void emitVersion(OpBuilder &builder, Location loc) {
  auto version =
      LLVM::GlobalOp::create(builder, loc, builder.getI32Type(), /*isConstant=*/true, LLVM::Linkage::External,
                             SKIM_ABI_VERSION_SYMBOL, builder.getI32IntegerAttr(SKIM_ABI_VERSION));
  version.setAlignment(4);
}

int64_t skim::generateSampler(ModuleOp code, const TargetInfo &host, int64_t vocabulary) {
  OpBuilder builder = OpBuilder::atBlockEnd(code.getBody());
  emitVersion(builder, code.getLoc());
  emitSample(code, code.getLoc(), host);
  return sampleScratch(vocabulary);
}

Error StepGenerator::emit(ModuleOp code) {
  OpBuilder builder(code.getBodyRegion());
  Location loc = forward.getLoc();
  Emitter e(builder, loc, target);
  builder.setInsertionPointToEnd(code.getBody());
  emitVersion(builder, loc);
  auto function =
      func::FuncOp::create(builder, loc, SKIM_STEP_SYMBOL,
                           builder.getFunctionType({e.ptrType(), builder.getI32Type(), builder.getI32Type()}, {}));
  builder.setInsertionPointToStart(function.addEntryBlock());

  StepValues s;
  s.module = code;
  s.args = e.wrap(function.getArgument(0));
  s.thread = e.wrap(function.getArgument(1));
  s.threads = e.wrap(function.getArgument(2));
  auto field = [&](Type type, size_t offset) {
    return e.load(type, e.offset(s.args, e.i64(static_cast<int64_t>(offset))));
  };
  Type i64 = e.i64Type(), ptr = e.ptrType();
  s.batch = field(i64, offsetof(skim_step_args, batch));
  s.length = field(i64, offsetof(skim_step_args, length));
  s.numRows = field(i64, offsetof(skim_step_args, num_rows));
  s.rows = s.batch * s.length;
  s.tokens = field(ptr, offsetof(skim_step_args, tokens));
  s.start = field(ptr, offsetof(skim_step_args, start));
  s.count = field(ptr, offsetof(skim_step_args, count));
  s.wantedRows = field(ptr, offsetof(skim_step_args, rows));
  s.caches = field(ptr, offsetof(skim_step_args, caches));
  s.capacity = field(ptr, offsetof(skim_step_args, capacity));
  s.weights = field(ptr, offsetof(skim_step_args, weights));
  s.logits = field(ptr, offsetof(skim_step_args, logits));
  s.scratch = field(ptr, offsetof(skim_step_args, scratch));
  // The arena: the linears' common scratch, rows, then each thread's own.
  s.priv = e.offset(s.scratch, s.rows * e.i64(info.scratchPerRow) + e.toI64(s.thread) * e.i64(info.scratchPerThread) +
                                   e.i64(info.scratchFixed));

  std::vector<Task *> order;
  for (int level = 0; level < plan.levels; ++level)
    for (Task &task : plan.tasks)
      if (task.level == level)
        order.push_back(&task);
  Error error;
  for (size_t i = 0; i < order.size() && !error; ++i) {
    if (order[i]->gathered)
      e.ifThen(s.numRows > e.i64(0), [&] { error = order[i]->emit(e, s); });
    else
      error = order[i]->emit(e, s);
    // After the last level too: a thread that returns tells that the logits are written.
    if (i + 1 == order.size() || order[i + 1]->level != order[i]->level) {
      KernelBuilder(builder, loc).barrier(s.args, s.thread);
      ++info.barriers;
    }
  }
  if (error)
    return error;
  func::ReturnOp::create(builder, loc);
  emitSample(code, loc, target);
  return Error::success();
}

Expected<ProgramInfo> StepGenerator::run(ModuleOp code) {
  if (Error error = readSignature())
    return error;
  for (Operation &op : forward.getBody().front())
    if (Error error = lower(&op))
      return error;
  plan.assignMemory();
  auto align = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  sharedFixed = align(sharedFixed);
  sharedPerRow = align(sharedPerRow);
  info.scratchFixed = sharedFixed;
  info.scratchPerRow = sharedPerRow + plan.bytesPerRow;
  info.scratchPerThread = align(perThread);
  info.sampleScratch = sampleScratch(info.vocabulary);
  if (Error error = emit(code))
    return error;
  std::string detail;
  ScopedDiagnosticHandler handler(code.getContext(), [&](Diagnostic &diagnostic) {
    if (detail.empty())
      detail = diagnostic.str();
    return success();
  });
  if (failed(verify(code)))
    return fail("generated code is damaged", target.name, "valid operations", detail);
  return std::move(info);
}

Expected<ProgramInfo> skim::generateStep(ModuleOp model, const TargetInfo &target, OwningOpRef<ModuleOp> &code) {
  model.getContext()
      ->loadDialect<LLVM::LLVMDialect, scf::SCFDialect, vector::VectorDialect, math::MathDialect, func::FuncDialect,
                    arith::ArithDialect, lane::LaneDialect>();
  auto forward = model.lookupSymbol<func::FuncOp>("forward");
  if (!forward)
    return fail("no model function", "module", "func.func @forward", "none", "raise the model first");
  code = ModuleOp::create(model.getLoc());
  return StepGenerator(forward, target).run(*code);
}
