//===- StepGenerator.cpp - signature, memory and the list of launches -------===//

#include "StepGenerator.h"

#include "mlir/IR/Verifier.h"
#include "skim/Target/GPU/Emit.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

//===--- signature ---===//

Error StepGenerator::readSignature(StepProgram &program) {
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
  program.caches.clear();
  for (BlockArgument argument : forward.getArguments().drop_front(4)) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!forward.getArgAttr(argument.getArgNumber(), "skim.cache") || !type || type.getRank() != 4 ||
        type.isDynamicDim(1) || type.isDynamicDim(3) || !type.getElementType().isF32() || type.getEncoding())
      return failAt(forward, "unsupported model function", "a cache [batch, heads, capacity, size] of f32",
                    spell(argument.getType()));
    caches[argument] = static_cast<unsigned>(cacheTensors.size());
    cacheTensors.push_back({prefix, type.getDimSize(1), type.getDimSize(3)});
    program.caches.push_back({type.getDimSize(1), type.getDimSize(3), 4});
    prefix += type.getDimSize(1) * type.getDimSize(3) * 4;
  }
  auto returned = cast<func::ReturnOp>(forward.getBody().front().getTerminator());
  logits = returned.getOperand(0);
  auto type = dyn_cast<RankedTensorType>(logits.getType());
  if (!type || type.getRank() != 2 || type.isDynamicDim(1) || !type.getElementType().isF32())
    return failAt(forward, "unsupported model function", "logits [rows, vocabulary] of f32", spell(logits.getType()));
  program.vocabulary = type.getDimSize(1);
  if (auto context = forward->getAttrOfType<IntegerAttr>("skim.context"))
    program.context = context.getInt();
  addBuffer(0); // kLogits
  return Error::success();
}

Error StepGenerator::expectArgument(Operation *op, Value value, unsigned argument, const char *name) {
  if (value == forward.getArgument(argument))
    return Error::success();
  return failAt(op, "unsupported operand", std::string("the function's argument '") + name + "'", "another value");
}

//===--- values ---===//

int StepGenerator::addBuffer(int64_t bytes) {
  buffers.push_back({static_cast<int64_t>(llvm::alignTo(bytes, 256))});
  return static_cast<int>(buffers.size()) - 1;
}

View StepGenerator::addRows(int64_t channels, bool gathered) {
  View view;
  view.buffer = addBuffer(m * channels * 4);
  view.stride = view.channels = channels;
  view.gathered = gathered;
  return view;
}

void StepGenerator::bind(Value value, View view) {
  views[value] = view;
  ++buffers[view.buffer].values;
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
    return addRows(channels, gathered);
  View view;
  view.buffer = kLogits;
  view.stride = view.channels = channels;
  view.gathered = true;
  return view;
}

View StepGenerator::contiguous(View view) {
  if (view.contiguous())
    return view;
  View copy = addRows(view.channels, view.gathered);
  addCopy(view, copy);
  return copy;
}

void StepGenerator::addCopy(View from, View to) {
  launch(mapKernel(place, Expression(), to.channels, 1), to.gathered,
         {pointer(from), stride(from), pointer(to), stride(to)});
}

void StepGenerator::launch(const StepKernel &kernel, bool gathered, ArrayRef<StepArgument> arguments) {
  addLaunch({kernel.name, {0, kernel.gridY, 1}, kernel.threads, gathered, llvm::to_vector(arguments)});
}

void StepGenerator::addLaunch(StepLaunch launch) {
  flushRotations();
  launches.push_back(std::move(launch));
}

//===--- the list ---===//

/// Scratch begins with words that are zero but while a launch counts its blocks in them.
static constexpr int64_t kCounterBytes = kMostCounters * 4;

Json StepGenerator::json(int64_t &scratch) {
  for (auto [index, launch] : llvm::enumerate(launches))
    for (const StepArgument &argument : launch.arguments)
      if (argument.kind == StepArgument::Buffer) {
        Buffer &buffer = buffers[argument.value];
        buffer.first = buffer.first < 0 ? index : buffer.first;
        buffer.last = index;
      }
  // First fit over the launches of use.
  SmallVector<Buffer *> order, placed;
  for (Buffer &buffer : llvm::drop_begin(buffers))
    if (buffer.first >= 0)
      order.push_back(&buffer);
  llvm::sort(order, [](const Buffer *a, const Buffer *b) { return std::pair(a->first, a) < std::pair(b->first, b); });
  for (Buffer *buffer : order) {
    buffer->offset = kCounterBytes;
    SmallVector<Buffer *> live;
    for (Buffer *other : placed)
      if (other->last >= buffer->first)
        live.push_back(other);
    llvm::sort(live, [](const Buffer *a, const Buffer *b) { return a->offset < b->offset; });
    for (Buffer *other : live) {
      if (other->offset - buffer->offset >= buffer->bytes)
        break;
      buffer->offset = std::max(buffer->offset, other->offset + other->bytes);
    }
    scratch = std::max(scratch, buffer->offset + buffer->bytes);
    placed.push_back(buffer);
  }

  Json list = Json::array();
  for (const StepLaunch &launch : launches) {
    Json arguments = Json::array();
    for (const StepArgument &argument : launch.arguments) {
      Json item = Json::array();
      if (argument.kind == StepArgument::Buffer && argument.value == kLogits)
        item = {"logits", 0, argument.offset};
      else if (argument.kind == StepArgument::Counters)
        item = {"scratch", 0, 0};
      else if (argument.kind == StepArgument::Buffer)
        item = {"scratch", 0, buffers[argument.value].offset + argument.offset};
      else if (argument.kind == StepArgument::Weight)
        item = {"weight", argument.value, argument.offset};
      else if (argument.kind == StepArgument::Input)
        item = {argument.input, 0, 0};
      else
        item = {"number", argument.value, 0};
      arguments.push_back(std::move(item));
    }
    Json item = {{"kernel", launch.kernel},
                 {"grid", launch.grid},
                 {"threads", launch.threads},
                 {"arguments", std::move(arguments)}};
    if (launch.gathered)
      item["wanted"] = true;
    list.push_back(std::move(item));
  }
  return {{"rows", m}, {"launches", std::move(list)}};
}

Error StepGenerator::run(StepProgram &program) {
  if (Error error = readSignature(program))
    return error;
  for (Operation &op : forward.getBody().front())
    if (Error error = lower(&op))
      return error;
  return Error::success();
}

Expected<StepProgram> device::generateStep(ModuleOp model, const GPUTarget &target, OwningOpRef<ModuleOp> &code) {
  prepareGPUEmission(*model.getContext());
  auto forward = model.lookupSymbol<func::FuncOp>("forward");
  if (!forward)
    return fail("no model function", "module", "func.func @forward", "none", "raise the model first");
  code = ModuleOp::create(model.getLoc());
  OpBuilder builder(code->getBodyRegion());
  auto kernels = gpu::GPUModuleOp::create(builder, model.getLoc(), "step");
  KernelPlace place{builder, forward.getLoc(), kernels};
  StepProgram program;
  WeightTable weights;
  Json variants = Json::array();
  int64_t scratch = kCounterBytes;
  // A token, a few, a piece of a text.
  for (int64_t rows : {int64_t(1), int64_t(8), program.maxRows}) {
    StepGenerator generator(forward, target, place, weights, rows);
    if (Error error = generator.run(program))
      return error;
    variants.push_back(generator.json(scratch));
  }
  program.weights = weights.take();
  StepKernel sample = sampleKernel(place, program.vocabulary);
  Json arguments = Json::array();
  for (const char *name : {"logits", "sampling", "chosen", "tokens", "start", "count", "wanted"})
    arguments.push_back(Json::array({name, 0, 0}));
  Json sampling = {{"kernel", sample.name},
                   {"grid", {0, 1, 1}},
                   {"threads", sample.threads},
                   {"wanted", true},
                   {"arguments", std::move(arguments)}};
  program.launches = dumpJson({{"version", 1},
                               {"scratch", scratch},
                               {"variants", std::move(variants)},
                               {"sampling", Json::array({std::move(sampling)})}});
  std::string detail;
  ScopedDiagnosticHandler handler(code->getContext(), [&](Diagnostic &diagnostic) {
    if (detail.empty())
      detail = diagnostic.str();
    return success();
  });
  if (failed(verify(*code)))
    return fail("generated code is damaged", target.name, "valid operations", detail);
  return std::move(program);
}
