//===- TensorLibrary.cpp - compiles and loads functions on dense tensors ----===//

#include "skim/Target/CPU/TensorLibrary.h"

#include "TensorPasses.h"
#include "skim/Target/CPU/Emit.h"

#include "mlir/Dialect/Arith/Transforms/BufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Bufferization/Transforms/FuncBufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/Transforms/AllInterfaces.h"
#include "mlir/Dialect/SCF/Transforms/BufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Tensor/IR/TensorInferTypeOpInterfaceImpl.h"
#include "mlir/Dialect/Tensor/Transforms/BufferizableOpInterfaceImpl.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FileSystem.h"

#include <dlfcn.h>

using namespace mlir;
using namespace skim;

int64_t TensorSlot::elements(int64_t size) const {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent < 0 ? size : extent;
  return count;
}

void TensorLibrary::Function::run(std::span<const void *const> inputs, std::span<void *const> outputs,
                                  int64_t size) const {
  SmallVector<const void *, 64> tensors(inputs.begin(), inputs.end());
  tensors.append(outputs.begin(), outputs.end());
  code(tensors.data(), size);
}

/// The types of a public function, or an error where it is none for us.
static Expected<TensorLibrary::Function> describe(func::FuncOp function) {
  TensorLibrary::Function result;
  result.name = function.getName().str();
  auto add = [&](TypeRange types, std::vector<TensorSlot> &slots) {
    for (Type type : types) {
      auto tensor = dyn_cast<RankedTensorType>(type);
      if (!tensor || tensor.getEncoding())
        return false;
      TensorSlot slot;
      for (int64_t extent : tensor.getShape())
        slot.shape.push_back(ShapedType::isDynamic(extent) ? -1 : extent);
      slot.element = tensor.getElementType();
      slots.push_back(std::move(slot));
    }
    return true;
  };
  if (!add(function.getArgumentTypes(), result.arguments) || !add(function.getResultTypes(), result.results))
    return fail("cannot compile function", result.name, "ranked tensors without encodings", "another type");
  return result;
}

static Error lower(ModuleOp module) {
  DialectRegistry registry;
  arith::registerBufferizableOpInterfaceExternalModels(registry);
  bufferization::func_ext::registerBufferizableOpInterfaceExternalModels(registry);
  linalg::registerAllDialectInterfaceImplementations(registry);
  scf::registerBufferizableOpInterfaceExternalModels(registry);
  tensor::registerBufferizableOpInterfaceExternalModels(registry);
  tensor::registerInferTypeOpInterfaceExternalModels(registry);
  registry.insert<bufferization::BufferizationDialect>();
  module.getContext()->appendDialectRegistry(registry);
  module.getContext()->loadDialect<bufferization::BufferizationDialect>();
  // Callers keep their inputs: nothing is computed in place of an argument.
  Builder builder(module.getContext());
  for (func::FuncOp function : module.getOps<func::FuncOp>())
    for (unsigned i = 0; i < function.getNumArguments(); ++i)
      function.setArgAttr(i, bufferization::BufferizationDialect::kWritableAttrName, builder.getBoolAttr(false));
  std::string detail;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    if (detail.empty() && diagnostic.getSeverity() == DiagnosticSeverity::Error)
      detail = diagnostic.str();
    return success();
  });
  PassManager manager(module.getContext(), ModuleOp::getOperationName());
  buildTensorPipeline(manager);
  if (failed(manager.run(module)))
    return fail("code generation failed", "functions on tensors", "", detail);
  return Error::success();
}

Expected<std::unique_ptr<TensorLibrary>> TensorLibrary::build(ModuleOp module, const TargetInfo &target,
                                                              const TensorHost &host) {
  if (!hostCanRun(target))
    return fail("cannot run code", target.name, "a host with " + target.features, "this one");
  std::unique_ptr<TensorLibrary> library(new TensorLibrary());
  for (func::FuncOp function : module.getOps<func::FuncOp>()) {
    if (!function.isPublic() || function.isExternal())
      continue;
    Expected<Function> described = describe(function);
    if (!described)
      return described.takeError();
    library->functions.push_back(std::move(*described));
  }
  prepareEmission(*module.getContext());
  if (Error error = lower(module))
    return error;

  SmallString<128> path;
  if (std::error_code code = llvm::sys::fs::createTemporaryFile("skim-tensor", "so", path))
    return fail("cannot write", "the folder of temporary files", "", code.message());
  Error error = emitLoweredSharedObject(module, target, path.str().str());
  if (!error) {
    library->handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library->handle)
      error = fail("cannot load", path.str().str(), "", dlerror());
  }
  llvm::sys::fs::remove(path);
  if (error)
    return error;
  for (Function &function : library->functions)
    function.code =
        reinterpret_cast<void (*)(const void *const *, int64_t)>(dlsym(library->handle, function.name.c_str()));
  auto setHost = reinterpret_cast<void (*)(const TensorHost *)>(dlsym(library->handle, kSetHost.data()));
  setHost(&host);
  return library;
}

TensorLibrary::~TensorLibrary() {
  if (handle)
    dlclose(handle);
}

const TensorLibrary::Function *TensorLibrary::find(std::string_view name) const {
  for (const Function &function : functions)
    if (function.name == name)
      return &function;
  return nullptr;
}
