//===- Emit.cpp - from a gpu.module to PTX and cubin ------------------------===//

#include "skim/Target/GPU/Emit.h"

#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "skim/Skim/SkimDialect.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"

#include <mutex>

using namespace mlir;
using namespace skim;

void skim::prepareGPUEmission(MLIRContext &context) {
  DialectRegistry registry;
  registerBuiltinDialectTranslation(registry);
  registerGPUDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
  context.appendDialectRegistry(registry);
  context.loadDialect<arith::ArithDialect, cf::ControlFlowDialect, gpu::GPUDialect, LLVM::LLVMDialect,
                      math::MathDialect, NVVM::NVVMDialect, scf::SCFDialect, vector::VectorDialect, SkimDialect>();
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeAllTargetInfos();
    llvm::InitializeAllTargets();
    llvm::InitializeAllTargetMCs();
    llvm::InitializeAllAsmPrinters();
    registerConversionPasses();
    registerTransformsPasses();
  });
}

std::string skim::gpuLoweringPipeline() {
  // Mathematics before the rest: CUDA's own library is not at hand, the device's instructions are enough.
  return "builtin.module(gpu.module(canonicalize,cse,convert-scf-to-cf,convert-vector-to-llvm,convert-math-to-llvm,"
         "convert-arith-to-llvm,convert-gpu-to-nvvm),convert-cf-to-llvm,reconcile-unrealized-casts)";
}

static Failure lowerFailure(const std::string &detail) {
  return fail("code generation failed", "lowering to NVVM", "", detail);
}

/// Functions of the device's own, in f32; sqrt rounds correctly, the others err by two units in the last place.
/// (convert-gpu-to-nvvm would call CUDA's library.)
static void lowerMath(ModuleOp module) {
  module.walk([](Operation *op) {
    auto replace = [&](StringRef intrinsic, std::optional<double> before = {}, std::optional<double> after = {}) {
      Type f32 = Float32Type::get(op->getContext());
      if (op->getResultTypes() != TypeRange(f32))
        return;
      OpBuilder b(op);
      Location loc = op->getLoc();
      auto times = [&](Value value, std::optional<double> factor) -> Value {
        if (!factor)
          return value;
        return arith::MulFOp::create(b, loc, value, arith::ConstantOp::create(b, loc, b.getF32FloatAttr(*factor)));
      };
      Value result = LLVM::CallIntrinsicOp::create(b, loc, f32, b.getStringAttr(intrinsic),
                                                   ValueRange(times(op->getOperand(0), before)))
                         .getResult(0);
      op->replaceAllUsesWith(ValueRange(times(result, after)));
      op->erase();
    };
    llvm::TypeSwitch<Operation *>(op)
        .Case<math::SqrtOp>([&](auto) { replace("llvm.nvvm.sqrt.rn.f"); })
        .Case<math::RsqrtOp>([&](auto) { replace("llvm.nvvm.rsqrt.approx.f"); })
        .Case<math::Exp2Op>([&](auto) { replace("llvm.nvvm.ex2.approx"); })
        .Case<math::ExpOp>([&](auto) { replace("llvm.nvvm.ex2.approx", llvm::numbers::log2e); })
        .Case<math::Log2Op>([&](auto) { replace("llvm.nvvm.lg2.approx.f"); })
        .Case<math::LogOp>([&](auto) { replace("llvm.nvvm.lg2.approx.f", {}, llvm::numbers::ln2); });
  });
}

static Error lowerToNVVM(ModuleOp module) {
  lowerMath(module);
  std::string detail;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    if (detail.empty() && diagnostic.getSeverity() == DiagnosticSeverity::Error)
      detail = diagnostic.str();
    return success();
  });
  PassManager manager(module.getContext(), ModuleOp::getOperationName());
  std::string pipeline = gpuLoweringPipeline();
  StringRef inner = StringRef(pipeline).drop_front(strlen("builtin.module(")).drop_back();
  if (failed(parsePassPipeline(inner, manager)) || failed(manager.run(module)))
    return lowerFailure(detail);
  return Error::success();
}

Error skim::checkInstructions(ModuleOp module, const GPUTarget &target) {
  Operation *wrong = nullptr;
  if (target.chip != "sm_90a")
    module.walk([&](Operation *op) {
      auto text = dyn_cast<LLVM::InlineAsmOp>(op);
      bool wgmma =
          text ? text.getAsmString().contains("wgmma.") : op->getName().getStringRef().starts_with("nvvm.wgmma.");
      if (wgmma)
        wrong = op;
      return wgmma ? WalkResult::interrupt() : WalkResult::advance();
    });
  if (!wrong)
    return Error::success();
  auto kernel = wrong->getParentOfType<gpu::GPUFuncOp>();
  return fail("code generation failed", kernel ? "kernel '" + kernel.getName().str() + "'" : target.name,
              "sm_90a, which alone has wgmma", target.chip);
}

Expected<std::string> skim::emitPTX(ModuleOp module, StringRef name, const GPUTarget &target) {
  prepareGPUEmission(*module.getContext());
  if (Error error = checkInstructions(module, target))
    return error;
  if (Error error = lowerToNVVM(module))
    return error;
  auto source = module.lookupSymbol<gpu::GPUModuleOp>(name);
  if (!source)
    return lowerFailure("no gpu.module @" + name.str());
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> device = translateModuleToLLVMIR(source, context, name);
  if (!device)
    return lowerFailure("translation to LLVM IR declined");

  std::string detail;
  llvm::Triple triple("nvptx64-nvidia-cuda");
  const llvm::Target *llvmTarget = llvm::TargetRegistry::lookupTarget(triple, detail);
  if (!llvmTarget)
    return fail("code generation failed", target.name, "an LLVM with the NVPTX target", detail);
  std::unique_ptr<llvm::TargetMachine> machine(
      llvmTarget->createTargetMachine(triple, target.chip, target.features, llvm::TargetOptions(), std::nullopt,
                                      std::nullopt, llvm::CodeGenOptLevel::Aggressive));
  device->setTargetTriple(triple);
  device->setDataLayout(machine->createDataLayout());

  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
  llvm::PipelineTuningOptions tuning;
  // Schedules unroll by themselves what pays.
  tuning.LoopUnrolling = false;
  tuning.LoopVectorization = false;
  tuning.SLPVectorization = false;
  llvm::PassBuilder builder(machine.get(), tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graphs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(*device, modules);

  SmallString<0> text;
  llvm::raw_svector_ostream stream(text);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::AssemblyFile))
    return fail("code generation failed", target.name, "a PTX writer", "none");
  passes.run(*device);
  return std::string(text);
}

//===----------------------------------------------------------------------===//
// ptxas
//===----------------------------------------------------------------------===//

std::optional<std::string> skim::findPtxas() {
  if (auto found = llvm::sys::findProgramByName("ptxas"))
    return *found;
  SmallVector<std::string> folders;
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char *home = std::getenv(variable))
      folders.push_back(std::string(home) + "/bin");
  folders.push_back(SKIM_PTXAS_DIR);
  for (const std::string &folder : folders)
    if (auto found = llvm::sys::findProgramByName("ptxas", {StringRef(folder)}); found && !folder.empty())
      return *found;
  return std::nullopt;
}

/// Lines of `ptxas -v`: "Compiling entry function 'k' for …", "… bytes stack frame, … spill …", "Used … registers …";
/// before them those on wgmma, "(C7514) Potential Performance Loss: … in the function 'k'".
static std::vector<KernelUsage> parseUsage(StringRef log) {
  std::vector<KernelUsage> all;
  llvm::Regex entry("Compiling entry function '([^']*)'");
  llvm::Regex spills("([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads");
  llvm::Regex used("Used ([0-9]+) registers"), shared("([0-9]+) bytes smem");
  llvm::Regex wgmma("\\(C75[0-9]+\\) (.*) function '([^']*)'");
  llvm::StringMap<std::string> remarks;
  SmallVector<StringRef> lines, found;
  log.split(lines, '\n');
  for (StringRef line : lines) {
    if (wgmma.match(line, &found))
      remarks.try_emplace(found[2], found[1].str());
    if (entry.match(line, &found)) {
      all.emplace_back().kernel = found[1].str();
      all.back().wgmma = remarks.lookup(found[1]);
    }
    if (all.empty())
      continue;
    KernelUsage &last = all.back();
    if (spills.match(line, &found)) {
      found[1].getAsInteger(10, last.stackBytes);
      found[2].getAsInteger(10, last.spillStores);
      found[3].getAsInteger(10, last.spillLoads);
    }
    if (used.match(line, &found))
      found[1].getAsInteger(10, last.registers);
    if (shared.match(line, &found))
      found[1].getAsInteger(10, last.sharedBytes);
  }
  return all;
}

namespace {
/// A file that goes with its scope.
struct TemporaryFile {
  explicit TemporaryFile(StringRef suffix) { failed = bool(llvm::sys::fs::createTemporaryFile("skim", suffix, path)); }
  ~TemporaryFile() { llvm::sys::fs::remove(path); }
  SmallString<128> path;
  bool failed;
};
} // namespace

Expected<std::string> skim::assemble(const std::string &ptx, const GPUTarget &target, std::vector<KernelUsage> *usage) {
  std::optional<std::string> program = findPtxas();
  if (!program)
    return fail("missing program", "PATH and CUDA_HOME", "ptxas", "none", "PTX works without it");
  TemporaryFile source("ptx"), cubin("cubin"), log("log");
  std::error_code code;
  if (source.failed || cubin.failed || log.failed)
    return fail("cannot write", "the temporary folder");
  {
    llvm::raw_fd_ostream stream(source.path, code);
    stream << ptx;
  }
  if (code)
    return fail("cannot write", source.path.str().str(), "", code.message());
  SmallVector<StringRef> arguments = {*program, "-v", "-arch", target.chip, "-o", cubin.path, source.path};
  std::optional<StringRef> redirects[] = {StringRef(), StringRef(log.path), StringRef(log.path)};
  std::string detail;
  int status = llvm::sys::ExecuteAndWait(*program, arguments, std::nullopt, redirects, 0, 0, &detail);
  auto text = llvm::MemoryBuffer::getFile(log.path);
  if (status != 0) {
    if (text && detail.empty())
      detail = (*text)->getBuffer().split('\n').first.str();
    return fail("ptxas failed", target.name, "PTX that it takes", detail);
  }
  if (usage && text)
    *usage = parseUsage((*text)->getBuffer());
  auto binary = llvm::MemoryBuffer::getFile(cubin.path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!binary)
    return fail("cannot read", cubin.path.str().str());
  return (*binary)->getBuffer().str();
}
