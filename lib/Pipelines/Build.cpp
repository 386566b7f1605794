//===- Build.cpp - runs the phases -------------------------------------------===//

#include "skim/Pipelines/Build.h"

#include "Budget.h"
#include "DeviceCode.h"
#include "Manifest.h"
#include "TuneWeights.h"
#include "WeightsFile.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/IR/AsmState.h"
#include "mlir/Pass/PassManager.h"
#include "skim/Analysis/PlannedBytes.h"
#include "skim/Analysis/WeightReader.h"
#include "skim/Import/ONNX/ImportONNX.h"
#include "skim/InitAll.h"
#include "skim/Pipelines/PackageModel.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/PackageManifest.h"
#include "skim/Support/Sha256.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Target/CPU/Step.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/SimulatorLibrary.h"
#include "skim/Target/GPU/Tiles.h"
#include "skim/Transforms/AssignEncodings.h"
#include "skim/Transforms/AssignModes.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace skim;

static std::string folderOf(const std::string &path) {
  StringRef parent = llvm::sys::path::parent_path(path);
  return parent.empty() ? "." : parent.str();
}

namespace {
/// Turns diagnostics of passes into Failures, one line each, with their place.
class Diagnostics {
public:
  /// `model`: the location of what stands for the whole model, which is no node.
  Diagnostics(MLIRContext *context, std::vector<Failure> &failures, std::optional<Location> model = std::nullopt)
      : handler(context, [&failures, model](Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
            return success(); // warnings and notes belong to skim-opt
          Failure failure;
          failure.what = diagnostic.str();
          // Many messages name the place themselves.
          if (auto name = dyn_cast<NameLoc>(diagnostic.getLocation());
              name && (!model || Location(name) != *model) && !StringRef(failure.what).contains(name.getName()))
            failure.where = "node '" + name.getName().str() + "'";
          failures.push_back(std::move(failure));
          return success();
        }) {}

private:
  ScopedDiagnosticHandler handler;
};

class Build {
public:
  Build(const BuildOptions &options, BuildReport &report, std::vector<Failure> &failures)
      : options(options), report(report), failures(failures) {
    DialectRegistry registry;
    registerAllDialects(registry);
    registerImportONNXDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    // The machine's cores belong to the quantizers; passes here are small.
    context.disableMultithreading();
  }

  bool run();
  /// Import and raise alone.
  bool summarize(ModelSummary &summary);

private:
  bool fails(Error error) {
    if (error)
      failures.push_back(error.get());
    return static_cast<bool>(error);
  }
  /// Runs a pipeline that `build` fills; false with failures recorded.
  bool runPasses(ModuleOp target, llvm::function_ref<void(OpPassManager &)> build);
  /// Dumps the IR after a phase; true if the build stops here.
  bool finishPhase(Phase phase, ModuleOp target);
  bool import();
  bool raise() {
    return runPasses(*module, [&](OpPassManager &manager) {
      buildRaisePipeline(manager, {folderOf(options.model), options.context});
    });
  }
  bool load();
  bool calibrate();
  bool tune(const std::string &weights);
  bool allocate();
  bool chooseFormat();
  bool quantize(const std::string &weights);
  Expected<CalibrationFiles> calibrationFiles();
  bool describe();
  bool generate();
  bool generateDevices();
  /// A file of the package that is compiled, into the new one.
  Error adopt(const JsonCursor &manifest, const std::string &folder, const std::string &name);
  Error readTargets(const JsonCursor &manifest);
  Error adoptTargets(const JsonCursor &manifest, const std::string &folder);
  /// The weights file of a target's program, made where there is none that fits.
  Expected<std::string> placeWeights(const ProgramInfo &program, const std::string &folder);
  /// The canonical weights beside the dumped IR, which names them so.
  Error dumpWeights(const std::string &weights);
  Error makeDumpFolder();

  const BuildOptions &options;
  BuildReport &report;
  std::vector<Failure> &failures;
  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  std::optional<AtomicDirectory> work;
  CalibrationFiles files;
  std::string statistics;     // the file, given or made here
  bool ownStatistics = false; // made for this build alone
  Manifest manifest;
  std::vector<TargetInfo> targets;
  std::vector<GPUTarget> devices;
  /// Targets of a package that is compiled which stay as they are.
  struct Kept {
    std::string name, code, weights;
    std::vector<std::string> kernels; // of a device
    Json entry;
  };
  std::vector<Kept> kept;
  /// How codes lie in the work's weights.safetensors, and whether code that stands relies on it.
  StoredLayouts stored;
  bool storedInUse = false;
  bool stop = false;
};
} // namespace

/// The most tokens of a text, as a part of the module's facts.
static void setModelContext(ModuleOp module, int64_t context) {
  NamedAttrList facts(module->getAttrOfType<DictionaryAttr>("skim.model"));
  facts.set("context", Builder(module.getContext()).getI64IntegerAttr(context));
  module->setAttr("skim.model", facts.getDictionary(module.getContext()));
}

/// The model's context, by the facts that raising recorded.
static int64_t contextOf(ModuleOp module) {
  auto facts = module->getAttrOfType<DictionaryAttr>("skim.model");
  auto context = facts ? facts.getAs<IntegerAttr>("context") : IntegerAttr();
  return context && context.getInt() > 0 ? context.getInt() : 2048;
}

/// The module as text, or bytecode where the name ends in `.mlirbc`.
static Error writeModule(ModuleOp module, const std::string &path) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  if (StringRef(path).ends_with(".mlirbc")) {
    if (failed(writeBytecodeToFile(module, stream)))
      return fail("cannot write bytecode", path);
  } else {
    module.print(stream, OpPrintingFlags().assumeVerified());
    stream << "\n";
  }
  if (path == "-") {
    llvm::outs() << text;
    llvm::outs().flush();
    return Error::success();
  }
  return writeFileAtomically(path, text);
}

bool Build::runPasses(ModuleOp target, llvm::function_ref<void(OpPassManager &)> build) {
  PassManager manager(&context);
  build(manager);
  size_t before = failures.size();
  Diagnostics diagnostics(&context, failures, target.getLoc());
  if (succeeded(manager.run(target)))
    return true;
  if (failures.size() == before)
    failures.push_back(fail("a pass failed without saying why", options.model));
  return false;
}

/// A link where that is possible: it costs nothing.
static Error linkOrCopy(const std::string &from, const std::string &to) {
  if (llvm::sys::fs::create_hard_link(from, to))
    if (std::error_code code = llvm::sys::fs::copy_file(from, to))
      return fail("cannot copy", from, "room and permission for " + to, code.message());
  return Error::success();
}

Error Build::dumpWeights(const std::string &weights) {
  if (options.dumpPhasesTo.empty())
    return Error::success();
  if (Error error = makeDumpFolder())
    return error;
  std::string to = options.dumpPhasesTo + "/" + llvm::sys::path::filename(weights).str();
  if (llvm::sys::fs::equivalent(weights, to))
    return Error::success();
  llvm::sys::fs::remove(to);
  return stored.empty() ? linkOrCopy(weights, to) : rewriteWeights(weights, stored, to, {}, options.threads);
}

Error Build::makeDumpFolder() {
  if (std::error_code code = llvm::sys::fs::create_directories(options.dumpPhasesTo))
    return fail("cannot create folder", options.dumpPhasesTo, "a folder to write to", code.message());
  return Error::success();
}

bool Build::finishPhase(Phase phase, ModuleOp target) {
  if (!options.dumpPhasesTo.empty()) {
    if (fails(makeDumpFolder()))
      return true;
    std::string name = std::to_string(static_cast<int>(phase) + 1) + "-" + std::string(phaseName(phase)) + ".mlir";
    std::string path = options.dumpPhasesTo + "/" + name;
    OwningOpRef<ModuleOp> moved;
    if (phase <= Phase::Allocate) {
      Expected<std::string> prefix = externalPrefix(options.model, path);
      if (!prefix)
        return fails(prefix.takeError());
      moved = target.clone();
      prefixExternals(*moved, *prefix);
    }
    if (fails(writeModule(moved ? *moved : target, path)))
      return true;
  }
  if (options.compileTo != phase)
    return false;
  stop = true;
  // Until they are quantized, weights lie in the model's folder, wherever the IR goes.
  if (phase <= Phase::Allocate) {
    Expected<std::string> prefix = externalPrefix(options.model, options.output);
    if (!prefix)
      return fails(prefix.takeError());
    prefixExternals(target, *prefix);
  }
  fails(writeModule(target, options.output));
  return true;
}

/// The statistics' files. The record lies beside the statistics, so that the
/// next budget finds it, the plan in the package.
Expected<CalibrationFiles> Build::calibrationFiles() {
  CalibrationFiles files;
  files.base = folderOf(options.model);
  files.statistics = statistics;
  files.threads = options.threads;
  if (statistics.empty())
    return files;
  Expected<std::string> hash = sha256OfFile(options.model);
  if (!hash)
    return hash.takeError();
  files.modelHash = *hash;
  const AllocateOptions &allocate = options.allocate;
  files.record = statistics + (allocate.asPublished ? ".published" : "") + ".record";
  files.plan = allocate.plan;
  if (allocate.spends())
    files.plan = work ? work->file("plan.json")
                      : folderOf(options.output) + "/" + llvm::sys::path::stem(options.output).str() + ".plan.json";
  return files;
}

/// The largest single format of the method that fits the budget.
bool Build::chooseFormat() {
  const AllocateOptions &given = options.allocate;
  std::optional<std::pair<PlannedBytes, std::string>> best, least;
  for (const std::string &format : singleFormats(options.method)) {
    AllocateOptions tried = given;
    tried.bits = 0;
    tried.size = 0;
    tried.format = format;
    OwningOpRef<ModuleOp> copy = module->clone();
    if (!runPasses(*copy, [&](OpPassManager &manager) { buildAllocatePipeline(manager, tried); }))
      return false;
    PlannedBytes bytes = plannedBytes(*copy);
    if (!devices.empty())
      bytes.others += fillingBytes(*copy);
    bool fits = given.size ? bytes.total() <= given.size : bytes.bits() <= given.bits;
    if (fits && (!best || bytes.linears > best->first.linears))
      best = {bytes, format};
    if (!least || bytes.linears < least->first.linears)
      least = {bytes, format};
  }
  auto spell = [&](const PlannedBytes &bytes) {
    char text[64];
    std::snprintf(text, sizeof text, "%.4f bits", bytes.bits());
    return given.size ? std::to_string(bytes.total()) + " bytes" : std::string(text);
  };
  if (!best) {
    char text[64];
    std::snprintf(text, sizeof text, "%.4f bits", given.bits);
    return !fails(fail("budget below what the method can reach", given.size ? "--size" : "--bits",
                       "at least " + spell(least->first) + " (" + least->second + ")",
                       given.size ? std::to_string(given.size) + " bytes" : std::string(text)));
  }
  std::fprintf(stderr, "%s for %s\n", best->second.c_str(), spell(best->first).c_str());
  files.plan.clear(); // a single format needs none
  AllocateOptions chosen = given;
  chosen.bits = 0;
  chosen.size = 0;
  chosen.format = best->second;
  return runPasses(*module, [&](OpPassManager &manager) { buildAllocatePipeline(manager, chosen); });
}

/// Whether anything that was asked for needs to know what an error costs.
static bool needsStatistics(const BuildOptions &options) {
  const std::string &method = options.method;
  return !options.calibration.text.empty() || !options.calibration.tokenIds.empty() ||
         (options.allocate.spends() && (method.empty() || method == "skim" || method == "auto"));
}

/// Statistics of this model: those that were given, or new ones over the texts.
bool Build::calibrate() {
  statistics = options.statistics;
  if (!statistics.empty() || !needsStatistics(options))
    return true;
  if (options.calibration.text.empty() && options.calibration.tokenIds.empty())
    return !fails(fail("budget without calibration", options.allocate.size ? "--size" : "--bits", "--stats or --text",
                       "neither", "any plain text of the kind that the model will see"));
  statistics = work ? work->file(".statistics") : options.output + ".statistics";
  ownStatistics = true;
  CalibrateModelOptions calibration = options.calibration;
  calibration.model = options.model;
  calibration.tokenizer = options.tokenizer;
  calibration.calibrate.output = statistics;
  calibration.calibrate.threads = options.threads;
  // Packages are judged by their divergence; SKIM as published takes the text's own tokens.
  calibration.calibrate.labels = options.allocate.asPublished ? Labels::Text : Labels::Model;
  CalibrateReport calibrated;
  return calibrateModel(calibration, calibrated, failures);
}

/// Trains what the weights file holds on the divergence from the model.
bool Build::tune(const std::string &weights) {
  int steps = options.tuneSteps;
  if (steps < 0) {
    bool whole = options.method.empty() || options.method == "auto";
    bool text = !options.calibration.text.empty() || !options.calibration.tokenIds.empty();
    steps = whole && text && options.allocate.spends() && !options.allocate.asPublished ? defaultTuneSteps : 0;
  }
  if (steps == 0)
    return true;
  CalibrateModelOptions calibration = options.calibration;
  calibration.model = options.model;
  calibration.tokenizer = options.tokenizer;
  int64_t most = 0;
  std::unique_ptr<BlockModel> model = openBlockModel(options.model, Reverse::Norms, failures, &most);
  if (!model)
    return false;
  // Steps of two sequences, one a core on small machines; 256 tokens reach what tables can learn from.
  calibration.length =
      std::min<int64_t>(calibration.length > 0 ? calibration.length : 256, std::min<int64_t>(256, most));
  calibration.sequences = calibration.text.empty() ? 0 : int64_t(2) * steps;
  Expected<std::vector<std::vector<int32_t>>> sequences = calibrationSequences(calibration, most);
  if (!sequences && !calibration.text.empty()) {
    // A shorter text is seen more than once.
    calibration.sequences = 0;
    sequences = calibrationSequences(calibration, most);
  }
  if (!sequences)
    return !fails(sequences.takeError());
  TuneOptions tuning;
  tuning.sequences = std::move(*sequences);
  tuning.steps = steps;
  tuning.threads = options.threads;
  if (options.tuneRate > 0)
    tuning.rate = options.tuneRate;
  tuning.seed = options.calibration.seed;
  tuning.progress = [&, steps](int step, double divergence) {
    if (options.tuneProgress)
      options.tuneProgress(step, steps, divergence);
  };
  return !fails(tuneWeights(*module, weights, statistics, *model, tuning));
}

bool Build::allocate() {
  Expected<CalibrationFiles> found = calibrationFiles();
  if (!found)
    return !fails(found.takeError());
  files = std::move(*found);
  if (options.allocate.spends() && !options.method.empty() && options.method != "skim")
    return chooseFormat();
  AllocateOptions allocate = options.allocate;
  if (!devices.empty())
    allocate.tile = kTileRows;
  auto run = [&](ModuleOp on) {
    return runPasses(
        on, [&](OpPassManager &manager) { buildAllocatePipeline(manager, allocate, files, options.recordProgress); });
  };
  if (!allocate.size || devices.empty())
    return run(*module);
  // A size is of what a target maps: there, last tiles are filled up.
  while (true) {
    OwningOpRef<ModuleOp> copy = module->clone();
    if (!run(*copy))
      return false;
    uint64_t mapped = plannedBytes(*copy).total() + fillingBytes(*copy);
    if (mapped <= options.allocate.size) {
      module = std::move(copy);
      return true;
    }
    allocate.size -= std::min(mapped - options.allocate.size, allocate.size - 1);
  }
}

bool Build::quantize(const std::string &weights) {
  return runPasses(*module, [&](OpPassManager &manager) {
    QuantizePhaseOptions quantize;
    quantize.base = folderOf(options.model);
    quantize.weights = weights;
    quantize.threads = options.threads;
    quantize.progress = options.progress;
    quantize.method = options.method;
    quantize.calibration = files;
    buildQuantizePipeline(manager, quantize);
    // Nothing was quantized here: also weights that arrived so keep their numbers.
    const AllocateOptions &allocate = options.allocate;
    if (options.mode.empty() && allocate.format.empty() && !allocate.spends() && allocate.plan.empty())
      manager.addPass(createAssignModes());
  });
}

/// Each target has its own activation mode and code, from the same quantized IR.
bool Build::generate() {
  for (const TargetInfo &target : targets) {
    OwningOpRef<ModuleOp> own = module->clone();
    if (!runPasses(*own, [&](OpPassManager &manager) {
          buildFusePipeline(manager, options.mode.empty() ? target.defaultMode() : options.mode, target.name,
                            options.layout);
        }))
      return false;
    if (&target == &targets.front()) {
      if (kept.empty())
        manifest.setModes(*own);
      if (finishPhase(Phase::Fuse, *own))
        return false;
    }

    OwningOpRef<ModuleOp> code;
    Expected<ProgramInfo> program = [&]() -> Expected<ProgramInfo> {
      Diagnostics diagnostics(&context, failures);
      return generateStep(*own, target, code);
    }();
    if (!program)
      return !fails(program.takeError());
    if (program->context == 0)
      program->context = contextOf(*own);
    if (finishPhase(Phase::Generate, *code))
      return false;
    std::string folder = "targets/" + targetFolder(target.name);
    if (fails(work->makeFolder(folder)))
      return false;
    std::string file = folder + "/model.so";
    if (fails(emitSharedObject(*code, target, work->file(file))))
      return false;
    Expected<std::string> weights = placeWeights(*program, folder);
    if (!weights)
      return !fails(weights.takeError());
    if (fails(manifest.addTarget(*program, target, work->workPath(), file, *weights)))
      return false;
  }
  return true;
}

/// GPUs: weights in tiles; kernels for the device, or as code of this host.
bool Build::generateDevices() {
  for (const GPUTarget &target : devices) {
    OwningOpRef<ModuleOp> own = module->clone();
    if (!runPasses(*own, [&](OpPassManager &manager) {
          buildFusePipeline(manager, options.mode.empty() ? "f32" : options.mode, "", options.layout);
        }))
      return false;
    bool first = targets.empty() && &target == &devices.front();
    if (first && kept.empty())
      manifest.setModes(*own);
    if (first && finishPhase(Phase::Fuse, *own))
      return false;
    OwningOpRef<ModuleOp> code;
    Expected<device::StepProgram> program = [&]() -> Expected<device::StepProgram> {
      Diagnostics diagnostics(&context, failures);
      return device::generateStep(*own, target, code);
    }();
    if (!program)
      return !fails(program.takeError());
    if (program->context == 0)
      program->context = contextOf(*own);
    // A device's package should not ask more of the processor than that there is one.
    Expected<TargetInfo> host = parseCPUTarget(target.simulated ? "cpu" : "cpu:portable");
    if (!host)
      return !fails(host.takeError());
    std::string folder = "targets/" + targetFolder(target.name);
    DeviceFiles files;
    files.code = folder + "/model.so";
    files.weights = folder + "/weights.safetensors";
    int64_t sampleScratch = target.simulated ? generateSampler(*code, *host, program->vocabulary) : 0;
    if (finishPhase(Phase::Generate, *code) || fails(work->makeFolder(folder)))
      return false;
    if (target.simulated) {
      if (fails(checkInstructions(*code, target)) || fails(emitSimulation(*code, work->file(files.code))))
        return false;
    } else {
      Expected<int64_t> scratch = emitSampler(context, *host, program->vocabulary, work->file(files.code));
      if (!scratch)
        return !fails(scratch.takeError());
      sampleScratch = *scratch;
      if (fails(emitKernels(*code, target, *work, folder, files)))
        return false;
    }
    if (fails(writeDeviceWeights(work->file("weights.safetensors"), stored, work->file(files.weights), *program,
                                 options.threads)) ||
        fails(manifest.addDevice(*program, target, *host, sampleScratch, work->workPath(), files)))
      return false;
  }
  return true;
}

/// The first target's layouts become those of weights.safetensors; targets with
/// others have a file of their own.
Expected<std::string> Build::placeWeights(const ProgramInfo &program, const std::string &folder) {
  const std::string common = "weights.safetensors";
  StoredLayouts wanted = layoutsOf(program);
  std::string name = common;
  if (wanted != stored) {
    if (storedInUse)
      name = folder + "/" + common;
    if (Error error = rewriteWeights(work->file(common), stored, work->file(name), wanted, options.threads))
      return error;
  }
  if (name == common) {
    stored = std::move(wanted);
    storedInUse = true;
  }
  return name;
}

/// The package's own description of the quantized model, and the IR itself.
bool Build::describe() {
  manifest.addLayers(*module, report);
  return !fails(writeModule(*module, work->file("model.mlirbc"))) && !fails(manifest.addSource(options.model));
}

/// From ONNX to quantized IR; true if the build goes on.
bool Build::import() {
  // First: a wrong tokenizer shall not show after hours of quantizing.
  if (work && fails(manifest.addTokenizer(options, work->workPath())))
    return false;
  ImportedONNX imported = importONNX(options.model, &context);
  if (!imported) {
    failures = std::move(imported.failures);
    return false;
  }
  module = std::move(imported.module);
  if (finishPhase(Phase::Import, *module))
    return false;
  if (!raise())
    return false;
  if (finishPhase(Phase::Raise, *module) || !calibrate() || finishPhase(Phase::Calibrate, *module))
    return false;
  if (!allocate() || finishPhase(Phase::Allocate, *module))
    return false;
  if (options.dryRun) {
    reportPlan(*module, report);
    stop = true;
    return false;
  }
  if (!devices.empty() && fails(checkKernels(*module, options.mode)))
    return false;
  // Without a package the weights lie beside the IR that names them.
  std::string weights = work ? work->file("weights.safetensors")
                             : folderOf(options.output) + "/" +
                                   (options.output == "-" ? "weights" : llvm::sys::path::stem(options.output).str()) +
                                   ".safetensors";
  if (!quantize(weights) || !tune(weights) || fails(dumpWeights(weights)) || finishPhase(Phase::Quantize, *module))
    return false;
  if (ownStatistics)
    for (const std::string &file : {statistics, files.record})
      llvm::sys::fs::remove(file);
  return !work || describe();
}

/// The quantized IR, weights and tokenizer of a package.
bool Build::load() {
  std::string folder = options.model;
  Expected<Json> old = readPackageManifest(folder);
  if (!old)
    return !fails(old.takeError());
  JsonCursor root(*old, manifestPath(folder));
  if (options.compileTo && *options.compileTo < Phase::Fuse)
    return !fails(fail("phase of a package is done", folder, "--compile-to fuse, generate or package",
                       std::string(phaseName(*options.compileTo))));
  Expected<OwningOpRef<ModuleOp>> read = readPackageModel(root, folder, context);
  if (!read)
    return !fails(read.takeError());
  module = std::move(*read);
  if (options.context > 0)
    setModelContext(*module, options.context);
  if (fails(manifest.addFromPackage(root, report)))
    return false;
  if (fails(readTargets(root)) || fails(dumpWeights(folder + "/weights.safetensors")))
    return false;
  if (!work)
    return true;
  for (const char *name : {"model.mlirbc", "weights.safetensors", "tokenizer.json", "tokenizer.model",
                           "tokenizer_config.json", "generation_config.json"})
    if (llvm::sys::fs::exists(folder + "/" + name) && fails(adopt(root, folder, name)))
      return false;
  return !fails(adoptTargets(root, folder));
}

Error Build::adopt(const JsonCursor &manifest, const std::string &folder, const std::string &name) {
  std::string from = folder + "/" + name;
  Expected<JsonCursor> files = manifest.member("files");
  Expected<JsonCursor> facts = files ? files->member(name) : Expected<JsonCursor>(files.takeError());
  Expected<int64_t> bytes = facts ? facts->integer("bytes", 0) : Expected<int64_t>(facts.takeError());
  if (!bytes)
    return bytes.takeError();
  uint64_t size = 0;
  if (std::error_code code = llvm::sys::fs::file_size(from, size))
    return fail("cannot read file", from, "a readable file", code.message());
  if (size != static_cast<uint64_t>(*bytes))
    return fail("damaged file", from, std::to_string(*bytes) + " bytes", std::to_string(size));
  if (size_t slash = name.rfind('/'); slash != std::string::npos)
    if (Error error = work->makeFolder(name.substr(0, slash)))
      return error;
  return linkOrCopy(from, work->file(name));
}

/// How the common weights lie, and the targets that stay.
Error Build::readTargets(const JsonCursor &manifest) {
  Expected<JsonCursor> entries = manifest.member("targets");
  if (!entries)
    return entries.takeError();
  auto members = entries->members();
  if (!members)
    return members.takeError();
  for (const auto &[name, entry] : *members) {
    Kept target = {name, "", "", {}, entry.json()};
    Expected<std::string> weights = entry.string("weights_file"), code = entry.string("code");
    for (Error error : {weights.takeError(), code.takeError()})
      if (error)
        return error;
    target.weights = std::move(*weights);
    target.code = std::move(*code);
    // Names out of a manifest: only those that a build writes.
    std::string own = "targets/" + targetFolder(name);
    bool common = target.weights == "weights.safetensors";
    if (target.code != own + "/model.so" || (!common && target.weights != own + "/weights.safetensors"))
      return fail("damaged manifest", entry.place(), "files in " + own, target.code + " and " + target.weights);
    for (auto [key, file] : {std::pair("kernels", "/kernels.ptx"), std::pair("cubin", "/kernels.cubin")}) {
      Expected<std::string> found = entry.stringOr(key, "");
      if (!found)
        return found.takeError();
      if (found->empty())
        continue;
      if (*found != own + file)
        return fail("damaged manifest", entry.place(), "files in " + own, *found);
      target.kernels.push_back(*found);
    }
    if (common) {
      Expected<StoredLayouts> layouts = readLayouts(entry);
      if (!layouts)
        return layouts.takeError();
      stored = std::move(*layouts);
    }
    auto isMade = [&](const auto &made) { return made.name == name; };
    if (!options.onlyTargets && llvm::none_of(targets, isMade) && llvm::none_of(devices, isMade)) {
      storedInUse |= common;
      kept.push_back(std::move(target));
    }
  }
  return Error::success();
}

Error Build::adoptTargets(const JsonCursor &manifest, const std::string &folder) {
  for (const Kept &target : kept) {
    if (Error error = adopt(manifest, folder, target.code))
      return error;
    if (target.weights != "weights.safetensors")
      if (Error error = adopt(manifest, folder, target.weights))
        return error;
    for (const std::string &file : target.kernels)
      if (Error error = adopt(manifest, folder, file))
        return error;
    this->manifest.keepTarget(target.name, target.entry);
  }
  return Error::success();
}

bool Build::run() {
  // What can be wrong before any work is done.
  for (const std::string &name : options.targets) {
    if (StringRef(name).starts_with("nvidia")) {
      Expected<GPUTarget> device = parseGPUTarget(name);
      if (!device)
        return !fails(device.takeError());
      device->name = (device->simulated ? "nvidia-sim:" : "nvidia:") + device->chip;
      devices.push_back(std::move(*device));
      continue;
    }
    Expected<TargetInfo> target = parseCPUTarget(name);
    if (!target)
      return !fails(target.takeError());
    if (options.mode == "a8")
      return !fails(fail("no kernel", "activation mode a8", "f32 or bf16", "a8", "a8 runs on GPUs"));
    targets.push_back(std::move(*target));
  }
  if (!options.compileTo || options.compileTo == Phase::Package) {
    Expected<AtomicDirectory> created = AtomicDirectory::create(options.output, options.resume);
    if (!created)
      return !fails(created.takeError());
    work.emplace(std::move(*created));
    // No phase of this version can continue in its middle: what an interrupted run left is made anew.
    if (work->resumed() && fails(work->clear()))
      return false;
  }
  bool isPackage = llvm::sys::fs::is_directory(options.model);
  if (!(isPackage ? load() : import()))
    return stop && failures.empty();
  if (!generate() || !generateDevices())
    return stop && failures.empty();
  return !fails(manifest.write(options, work->workPath())) && !fails(work->commit());
}

bool Build::summarize(ModelSummary &summary) {
  ImportedONNX imported = importONNX(options.model, &context);
  if (!imported) {
    failures = std::move(imported.failures);
    return false;
  }
  module = std::move(imported.module);
  if (!raise())
    return false;
  llvm::DenseSet<Value> counted;
  auto add = [&](Value weight, std::optional<StringRef> layer, std::optional<StringRef> onnxName) {
    auto type = cast<RankedTensorType>(weight.getType());
    summary.layers.push_back({layer.value_or("").str(), onnxName.value_or("").str(), formatName(type),
                              type.getDimSize(0), type.getDimSize(1)});
    if (counted.insert(weight).second)
      summary.parameters += type.getNumElements();
  };
  module->walk([&](Operation *op) {
    if (auto linear = dyn_cast<LinearOp>(op))
      add(linear.getWeight(), linear.getLayer(), linear.getOnnxName());
    else if (auto embed = dyn_cast<EmbedOp>(op))
      add(embed.getTable(), embed.getLayer(), embed.getOnnxName());
  });
  // Norms and biases, as far as they are no part of a weight.
  module->walk([&](Operation *op) {
    if (!isa<ExternalOp, arith::ConstantOp>(op) || llvm::any_of(op->getUsers(), llvm::IsaPred<AssembleOp>))
      return;
    auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
    if (type && type.getRank() > 0 && isa<FloatType>(type.getElementType()) && counted.insert(op->getResult(0)).second)
      summary.parameters += type.getNumElements();
  });
  return true;
}

bool skim::summarizeModel(const std::string &model, ModelSummary &summary, std::vector<Failure> &failures) {
  BuildOptions options;
  options.model = model;
  BuildReport report;
  return Build(options, report, failures).summarize(summary);
}

bool skim::buildPackage(const BuildOptions &options, BuildReport &report, std::vector<Failure> &failures) {
  return Build(options, report, failures).run() && failures.empty();
}

bool skim::importModel(const std::string &model, const std::string &output, bool raise,
                       std::vector<Failure> &failures) {
  BuildOptions options;
  options.model = model;
  options.output = output;
  options.compileTo = raise ? Phase::Raise : Phase::Import;
  BuildReport report;
  return buildPackage(options, report, failures);
}
