//===- Emit.cpp - from a module to a shared object --------------------------===//

#include "skim/Target/CPU/Emit.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "skim/Lane/LaneOps.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Transforms/CheckFusion.h"
#include "skim/Transforms/LowerLane.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"

#include <mutex>

using namespace mlir;
using namespace skim;

void skim::prepareEmission(MLIRContext &context) {
  DialectRegistry registry;
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  context.appendDialectRegistry(registry);
  context.loadDialect<func::FuncDialect, scf::SCFDialect, arith::ArithDialect, math::MathDialect, vector::VectorDialect,
                      LLVM::LLVMDialect, cf::ControlFlowDialect, SkimDialect, lane::LaneDialect>();
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargetInfos();
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
    registerConversionPasses();
    registerLowerLane();
    registerCheckFusion();
  });
}

std::string skim::loweringPipeline(const TargetInfo &target) {
  std::string features;
  for (auto [have, name] : {std::pair(target.hasF16C, "f16c"), std::pair(target.hasVBMI, "vbmi"),
                            std::pair(target.hasBF16, "bf16"), std::pair(target.hasVNNI, "vnni")})
    if (have)
      features += (features.empty() ? " features=" : ",") + std::string(name);
  // The fusion guarantee is checked on what was generated. Lane operations become vector and arith. Loops before vector
  // and arith, which lower to LLVM on their own.
  return "builtin.module(skim-check-fusion,lower-lane{isa=" + std::string(spellLaneSet(target.lanes)) + features +
         "},convert-scf-to-cf,convert-vector-to-llvm,convert-math-to-llvm,convert-arith-to-llvm,"
         "convert-index-to-llvm,convert-cf-to-llvm,convert-func-to-llvm,convert-ub-to-llvm,"
         "reconcile-unrealized-casts)";
}

/// The first error diagnostic of a phase, as the text of a Failure.
static Failure lowerFailure(const std::string &detail) {
  return fail("code generation failed", "lowering to LLVM", "", detail);
}

namespace {
struct Compiled {
  std::unique_ptr<llvm::LLVMContext> context = std::make_unique<llvm::LLVMContext>();
  std::unique_ptr<llvm::Module> module;
  std::unique_ptr<llvm::TargetMachine> machine;
};
} // namespace

static Error lowerToLLVMDialect(ModuleOp module, const TargetInfo &target) {
  std::string detail;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    if (detail.empty() && diagnostic.getSeverity() == DiagnosticSeverity::Error)
      detail = diagnostic.str();
    return success();
  });
  PassManager manager(module.getContext(), ModuleOp::getOperationName());
  std::string pipeline = loweringPipeline(target);
  StringRef inner = StringRef(pipeline).drop_front(strlen("builtin.module(")).drop_back();
  if (failed(parsePassPipeline(inner, manager)) || failed(manager.run(module)))
    return lowerFailure(detail);
  return Error::success();
}

/// Private functions become internal; no loop may turn into a call of the C
/// library, since there is none to link with.
static void setAttributes(llvm::Module &module, ModuleOp source, const TargetInfo &target) {
  for (llvm::Function &function : module) {
    if (function.isDeclaration())
      continue;
    auto op = source.lookupSymbol<LLVM::LLVMFuncOp>(function.getName());
    if (op && SymbolTable::getSymbolVisibility(op) == SymbolTable::Visibility::Private)
      function.setLinkage(llvm::GlobalValue::InternalLinkage);
    function.addFnAttr("target-cpu", target.cpu);
    function.addFnAttr("target-features", target.features);
    function.addFnAttr("no-builtins");
    function.addFnAttr(llvm::Attribute::NoUnwind);
    // Schedules choose the width; LLVM prefers 256 bits on some CPUs.
    function.addFnAttr("prefer-vector-width", std::to_string(std::max(128u, target.vectorBits)));
    if (target.simulated || target.lanes == LaneSet::Portable)
      continue;
    function.addFnAttr("min-legal-vector-width", std::to_string(target.vectorBits));
  }
}

/// `module` is in the LLVM dialect.
static Expected<Compiled> compileLowered(ModuleOp module, const TargetInfo &target) {
  Compiled compiled;
  compiled.module = translateModuleToLLVMIR(module, *compiled.context, "skim");
  if (!compiled.module)
    return lowerFailure("translation to LLVM IR declined");

  std::string detail;
  llvm::Triple triple(target.triple);
  const llvm::Target *llvmTarget = llvm::TargetRegistry::lookupTarget(triple, detail);
  if (!llvmTarget)
    return fail("code generation failed", target.name, "a target that this LLVM has", detail);
  compiled.machine.reset(llvmTarget->createTargetMachine(triple, target.cpu, target.features, llvm::TargetOptions(),
                                                         llvm::Reloc::PIC_, std::nullopt,
                                                         llvm::CodeGenOptLevel::Aggressive));
  compiled.module->setTargetTriple(triple);
  compiled.module->setDataLayout(compiled.machine->createDataLayout());
  setAttributes(*compiled.module, module, target);

  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = true;
  llvm::PassBuilder builder(compiled.machine.get(), tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graphs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(*compiled.module, modules);

  // Everything the code needs must be in it: an external name would fail at load time.
  for (const llvm::Function &function : *compiled.module)
    if (function.isDeclaration() && !function.isIntrinsic() && !function.use_empty())
      return fail("code generation failed", target.name, "code without external calls", function.getName().str());
  return compiled;
}

static Expected<Compiled> compile(ModuleOp module, const TargetInfo &target) {
  prepareEmission(*module.getContext());
  if (Error error = lowerToLLVMDialect(module, target))
    return error;
  return compileLowered(module, target);
}

static Error emitFile(Compiled &compiled, llvm::raw_pwrite_stream &stream, llvm::CodeGenFileType type) {
  llvm::legacy::PassManager passes;
  if (compiled.machine->addPassesToEmitFile(passes, stream, nullptr, type))
    return fail("code generation failed", compiled.module->getTargetTriple().str(), "an object writer", "none");
  passes.run(*compiled.module);
  return Error::success();
}

static Error link(const std::string &object, const std::string &path, const TargetInfo &target) {
  llvm::ErrorOr<std::string> linker = llvm::sys::findProgramByName("ld.lld", {SKIM_LLVM_TOOLS_DIR});
  if (!linker)
    linker = llvm::sys::findProgramByName("ld.lld-" SKIM_LLVM_VERSION_TEXT);
  if (!linker)
    linker = llvm::sys::findProgramByName("ld.lld");
  if (!linker)
    return fail("missing program", "PATH", "ld.lld", "none", "install lld-" SKIM_LLVM_VERSION_TEXT);
  SmallVector<StringRef> args = {*linker,
                                 "-shared",
                                 "--no-undefined",
                                 "--gc-sections",
                                 "--build-id=none",
                                 "--hash-style=gnu",
                                 "-z",
                                 "noexecstack",
                                 "-o",
                                 path,
                                 object};
  std::string detail, logPath = path + ".log";
  std::optional<StringRef> redirects[] = {StringRef(), StringRef(logPath), StringRef(logPath)};
  int status = llvm::sys::ExecuteAndWait(*linker, args, std::nullopt, redirects, 0, 0, &detail);
  if (auto log = llvm::MemoryBuffer::getFile(logPath); log && detail.empty())
    detail = (*log)->getBuffer().split('\n').first.str();
  llvm::sys::fs::remove(logPath);
  if (status != 0)
    return fail("linking failed", path, "a shared object", detail);
  return Error::success();
}

static Error writeSharedObject(Expected<Compiled> compiled, const TargetInfo &target, const std::string &path) {
  if (!compiled)
    return compiled.takeError();
  std::string object = path + ".o";
  std::error_code code;
  {
    llvm::raw_fd_ostream stream(object, code);
    if (code)
      return fail("cannot write", object, "", code.message());
    if (Error error = emitFile(*compiled, stream, llvm::CodeGenFileType::ObjectFile))
      return error;
    stream.flush();
    if (stream.has_error()) {
      std::string detail = stream.error().message();
      stream.clear_error();
      llvm::sys::fs::remove(object);
      return fail("cannot write", object, "", detail);
    }
  }
  Error error = link(object, path, target);
  llvm::sys::fs::remove(object);
  return error;
}

Error skim::emitSharedObject(ModuleOp module, const TargetInfo &target, const std::string &path) {
  return writeSharedObject(compile(module, target), target, path);
}

Error skim::emitLoweredSharedObject(ModuleOp module, const TargetInfo &target, const std::string &path) {
  prepareEmission(*module.getContext());
  return writeSharedObject(compileLowered(module, target), target, path);
}

Expected<std::string> skim::emitAssembly(ModuleOp module, const TargetInfo &target) {
  Expected<Compiled> compiled = compile(module, target);
  if (!compiled)
    return compiled.takeError();
  SmallString<0> text;
  llvm::raw_svector_ostream stream(text);
  if (Error error = emitFile(*compiled, stream, llvm::CodeGenFileType::AssemblyFile))
    return error;
  return std::string(text);
}
