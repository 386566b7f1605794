//===- StepGenerator.cpp - memory and the list of launches ------------------===//

#include "StepGenerator.h"

#include "mlir/IR/Verifier.h"
#include "skim/Target/GPU/Emit.h"

using namespace mlir;
using namespace skim;
using namespace skim::device;

//===--- values ---===//

int StepGenerator::addBuffer(int64_t bytes) {
  buffers.push_back({static_cast<int64_t>(llvm::alignTo(bytes, 256))});
  return static_cast<int>(buffers.size()) - 1;
}

View StepGenerator::addRows(int64_t channels, bool gathered) {
  return {addBuffer(m * channels * 4), 0, channels, channels, gathered};
}

void StepGenerator::addCopy(const View &from, const View &to) {
  launch(mapKernel(place, Expression(), to.channels, 1), to.gathered,
         {pointer(from), stride(from), pointer(to), stride(to)});
}

void StepGenerator::launch(const StepKernel &kernel, bool gathered, ArrayRef<StepArgument> arguments, Lengths lengths) {
  int64_t gridX = kernel.rows > 1 ? -kernel.rows : 0;
  addLaunch({kernel.name,
             {gridX, kernel.gridY, kernel.gridZ},
             kernel.threads,
             gathered,
             llvm::to_vector(arguments),
             lengths});
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
  for (Buffer &buffer : buffers)
    if (buffer.first >= 0 && &buffer != &buffers[logitsBuffer])
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
      if (argument.kind == StepArgument::Buffer && argument.value == logitsBuffer)
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
    Json item = {{"arguments", std::move(arguments)}};
    if (const auto &product = launch.product)
      item.update({{"library", "cublas"},
                   {"shape", {product->n, product->k}},
                   {"type", product->bf16 ? "bf16" : "f16"},
                   {"add", product->add}});
    else
      item.update({{"kernel", launch.kernel}, {"grid", launch.grid}, {"threads", launch.threads}});
    if (launch.gathered)
      item["wanted"] = true;
    if (launch.lengths.least > 1 || launch.lengths.most)
      item["lengths"] = {launch.lengths.least, launch.lengths.most};
    list.push_back(std::move(item));
  }
  return {{"rows", m}, {"launches", std::move(list)}};
}

Error StepGenerator::run(StepProgram &program) {
  if (Error error = walk())
    return error;
  program.caches = programCaches;
  program.vocabulary = vocabulary;
  program.context = context;
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
  // A token, a few, some sequences or a short text, pieces of a text.
  for (int64_t rows : {int64_t(1), int64_t(8), int64_t(64), int64_t(256), program.maxRows}) {
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
