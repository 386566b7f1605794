#include "skim/Pipelines/Phases.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "skim/Conversion/ONNXToLM.h"
#include "skim/Target/CPU/AssignLayouts.h"
#include "skim/Transforms/AllocateBits.h"
#include "skim/Transforms/AssignEncodings.h"
#include "skim/Transforms/AssignModes.h"
#include "skim/Transforms/FuseLinears.h"
#include "skim/Transforms/VerifyCache.h"
#include "skim/Transforms/VerifyEncodings.h"

using namespace mlir;
using namespace skim;

namespace {
struct PhaseText {
  std::string_view name, description;
};
} // namespace

static constexpr PhaseText phases[] = {
    {"import", "the ONNX graph as generic nodes, weights left in their files"},
    {"raise", "nodes to language model operations and linears"},
    {"calibrate", "statistics over text, where the formats need them"},
    {"allocate", "an encoding for every weight"},
    {"quantize", "weights in their encodings"},
    {"fuse", "linears merged for one kernel call, residuals folded"},
    {"generate", "kernels and the step function"},
    {"package", "manifest, weights, code and tokenizer in one folder"},
};

std::string_view skim::phaseName(Phase phase) { return phases[static_cast<size_t>(phase)].name; }
std::string_view skim::phaseDescription(Phase phase) { return phases[static_cast<size_t>(phase)].description; }

std::optional<Phase> skim::parsePhase(std::string_view name) {
  for (auto [index, phase] : llvm::enumerate(phases))
    if (phase.name == name)
      return static_cast<Phase>(index);
  return std::nullopt;
}

std::string skim::phaseNames() {
  std::string names;
  for (const PhaseText &phase : phases)
    names += (names.empty() ? "" : " ") + std::string(phase.name);
  return names;
}

/// After every phase: an encoded tensor that reached an upstream operation
/// would be read as plain numbers, and a copied cache would lose tokens.
void skim::addFences(OpPassManager &manager) {
  manager.addPass(createVerifyEncodings());
  manager.addPass(createVerifyCache());
}

void skim::buildRaisePipeline(OpPassManager &manager, const RaiseOptions &options) {
  ONNXToLMOptions pass;
  pass.base = options.base;
  pass.context = options.context;
  manager.addPass(createONNXToLM(pass));
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  addFences(manager);
}

void skim::buildAllocatePipeline(OpPassManager &manager, const AllocateOptions &options, const CalibrationFiles &files,
                                 RecordProgress progress) {
  AssignEncodingsOptions pass;
  pass.format = options.format;
  pass.head = options.head;
  pass.embeddings = options.embeddings;
  pass.keep = llvm::SmallVector<std::string>(options.keep.begin(), options.keep.end());
  pass.requantize = options.requantize;
  pass.plan = options.plan;
  pass.open = options.spends();
  pass.openHead = options.openHead;
  manager.addPass(createAssignEncodings(pass));
  if (options.spends()) {
    AllocateBitsOptions spend;
    spend.base = files.base;
    spend.statistics = files.statistics;
    spend.record = files.record;
    spend.plan = files.plan;
    spend.modelHash = files.modelHash;
    spend.threads = files.threads;
    spend.bits = options.bits;
    spend.size = options.size;
    spend.minBits = options.minBits;
    spend.maxBits = options.maxBits;
    spend.table = options.table;
    spend.asPublished = options.asPublished;
    spend.pareto = options.pareto;
    spend.mixing = options.mixing;
    spend.scaling = options.scaling;
    spend.allTerms = options.allTerms;
    spend.tile = options.tile;
    manager.addPass(createAllocateBits(spend, std::move(progress)));
  }
  addFences(manager);
}

void skim::buildQuantizePipeline(OpPassManager &manager, const QuantizePhaseOptions &options) {
  QuantizeWeightsOptions pass;
  pass.base = options.base;
  pass.weights = options.weights;
  pass.threads = options.threads;
  pass.method = options.method;
  pass.statistics = options.calibration.statistics;
  pass.record = options.calibration.record;
  pass.plan = options.calibration.plan;
  manager.addPass(createQuantizeWeights(pass, options.progress));
  addFences(manager);
}

void skim::buildFusePipeline(OpPassManager &manager, const std::string &mode, const std::string &target,
                             const std::string &layout) {
  // Modes before fusing: linears of one kernel call share theirs.
  AssignModesOptions pass;
  pass.mode = mode;
  manager.addPass(createAssignModes(pass));
  // Equal subexpressions first: linears that share an input must see the same value.
  manager.addPass(createCSEPass());
  manager.addNestedPass<func::FuncOp>(createFuseLinears());
  if (!target.empty()) {
    AssignLayoutsOptions layouts;
    layouts.target = target;
    layouts.layout = layout;
    manager.addPass(createAssignLayouts(layouts));
  }
  addFences(manager);
}

namespace {
/// The options of `skim-phase-raise`.
struct RaisePipelineOptions : PassPipelineOptions<RaisePipelineOptions> {
  Option<std::string> base{*this, "base", llvm::cl::desc("folder that file names start from"), llvm::cl::init(".")};
  Option<int64_t> context{*this, "context", llvm::cl::desc("most tokens of a text"), llvm::cl::init(0)};
};

/// The options of `skim-phase-allocate`.
struct AllocatePipelineOptions : PassPipelineOptions<AllocatePipelineOptions> {
  Option<std::string> format{*this, "format", llvm::cl::desc("term for the linears")};
  Option<std::string> head{*this, "head", llvm::cl::desc("term for the head")};
  Option<std::string> embeddings{*this, "embeddings", llvm::cl::desc("term for the embeddings")};
  ListOption<std::string> keep{*this, "keep", llvm::cl::desc("REGEX=TERM")};
  Option<double> bits{*this, "bits", llvm::cl::desc("true bits of the linears"), llvm::cl::init(0)};
  Option<uint64_t> size{*this, "size", llvm::cl::desc("bytes of all weights"), llvm::cl::init(0)};
  Option<std::string> base{*this, "base", llvm::cl::desc("folder that file names start from"), llvm::cl::init(".")};
  Option<std::string> statistics{*this, "statistics", llvm::cl::desc("the statistics file")};
  Option<std::string> record{*this, "record", llvm::cl::desc("the record of errors and codes")};
  Option<std::string> plan{*this, "plan", llvm::cl::desc("the plan to write"), llvm::cl::init("plan.json")};
};

/// The options of `skim-phase-quantize`.
struct QuantizePipelineOptions : PassPipelineOptions<QuantizePipelineOptions> {
  Option<std::string> base{*this, "base", llvm::cl::desc("folder that file names start from"), llvm::cl::init(".")};
  Option<std::string> weights{*this, "weights", llvm::cl::desc("the safetensors file to write"),
                              llvm::cl::init("weights.safetensors")};
  Option<unsigned> threads{*this, "threads", llvm::cl::desc("threads (0: all)"), llvm::cl::init(0)};
  Option<std::string> method{*this, "method", llvm::cl::desc("rtn, gptq, awq, kmeans or skim")};
  Option<std::string> statistics{*this, "statistics", llvm::cl::desc("the statistics file")};
  Option<std::string> record{*this, "record", llvm::cl::desc("the record of errors and codes")};
  Option<std::string> plan{*this, "plan", llvm::cl::desc("the plan with the widths of rows")};
};

/// The options of `skim-phase-fuse`.
struct FusePipelineOptions : PassPipelineOptions<FusePipelineOptions> {
  Option<std::string> mode{*this, "mode", llvm::cl::desc("activation mode of quantized linears"),
                           llvm::cl::init("f32")};
  Option<std::string> target{*this, "target", llvm::cl::desc("whose kernels' layouts (none: rows)")};
  Option<std::string> layout{*this, "layout", llvm::cl::desc("auto, rows or turned"), llvm::cl::init("auto")};
};
} // namespace

void skim::registerPhasePipelines() {
  PassPipelineRegistration<RaisePipelineOptions>("skim-phase-raise", "ONNX nodes to language model operations",
                                                 [](OpPassManager &manager, const RaisePipelineOptions &options) {
                                                   buildRaisePipeline(manager, {options.base, options.context});
                                                 });
  PassPipelineRegistration<AllocatePipelineOptions>("skim-phase-allocate", "an encoding for every weight",
                                                    [](OpPassManager &manager, const AllocatePipelineOptions &options) {
                                                      AllocateOptions plan;
                                                      plan.format = options.format;
                                                      plan.head = options.head;
                                                      plan.embeddings = options.embeddings;
                                                      plan.keep = {options.keep.begin(), options.keep.end()};
                                                      plan.bits = options.bits;
                                                      plan.size = options.size;
                                                      CalibrationFiles files;
                                                      files.base = options.base;
                                                      files.statistics = options.statistics;
                                                      files.record = options.record;
                                                      files.plan = options.plan;
                                                      buildAllocatePipeline(manager, plan, files);
                                                    });
  PassPipelineRegistration<QuantizePipelineOptions>("skim-phase-quantize", "weights in their encodings",
                                                    [](OpPassManager &manager, const QuantizePipelineOptions &options) {
                                                      QuantizePhaseOptions quantize;
                                                      quantize.base = options.base;
                                                      quantize.weights = options.weights;
                                                      quantize.threads = options.threads;
                                                      quantize.method = options.method;
                                                      quantize.calibration.statistics = options.statistics;
                                                      quantize.calibration.record = options.record;
                                                      quantize.calibration.plan = options.plan;
                                                      buildQuantizePipeline(manager, quantize);
                                                    });
  PassPipelineRegistration<FusePipelineOptions>("skim-phase-fuse", "modes, merged linears, folded residuals, layouts",
                                                [](OpPassManager &manager, const FusePipelineOptions &options) {
                                                  buildFusePipeline(manager, options.mode, options.target,
                                                                    options.layout);
                                                });
}
