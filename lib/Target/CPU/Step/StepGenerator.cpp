//===- StepGenerator.cpp - values, weights and the step function ------------===//

#include "StepGenerator.h"
#include "skim-rt/abi.h"
#include "skim/Lane/LaneOps.h"
#include "skim/Target/Common/KernelBuilder.h"
#include "skim/Target/Common/ModelValues.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Verifier.h"

using namespace mlir;
using namespace skim;
using namespace skim::step;

//===--- values ---===//

void StepGenerator::begin() {
  for (size_t i = 0; i < cacheTensors.size(); ++i)
    cacheBuffers.push_back(plan.addBuffer(Buffer::Cache));
  logitsBuffer = plan.addBuffer(Buffer::Logits);
  sharedBuffer = plan.addBuffer(Buffer::Shared);
  info.caches = programCaches;
  info.vocabulary = vocabulary;
  info.context = context;
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
  const TurnedCodes &codes = weight.codes;
  Attribute turned;
  if (codes.block)
    turned = Builder(forward.getContext()).getDenseI64ArrayAttr({codes.word, codes.lanes, codes.bits, codes.columns});
  bool isNew;
  int64_t number = numbers.add(weight, turned, isNew);
  if (isNew)
    info.weights.push_back(std::move(weight));
  return number;
}

Expected<Weight> StepGenerator::resolveWeight(Operation *user, Value value, StringRef layer, LayoutAttr layout) {
  Weight weight;
  weight.type = cast<RankedTensorType>(behindConversions(value).getType());
  Expected<SmallVector<StepTensor>> tensors = tensorsOfWeight(user, value, layer, weight.term);
  if (!tensors)
    return tensors.takeError();
  SmallVector<TurnedCodes> codes = turnedCodes(weight.term, weight.type.getShape(), layout);
  for (StepTensor &tensor : *tensors) {
    TurnedCodes turned = tensor.encoded ? codes[tensor.component] : TurnedCodes();
    weight.indices.push_back(addWeight({std::move(tensor), turned}));
  }
  return weight;
}

Expected<int64_t> StepGenerator::resolveVector(Operation *user, Value value, StringRef layer) {
  Expected<StepTensor> tensor = tensorOfVector(user, value, layer);
  if (!tensor)
    return tensor.takeError();
  return addWeight({std::move(*tensor), {}});
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
  if (Error error = walk())
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
