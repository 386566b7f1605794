//===- skim-interpret.cpp - runs a function of IR through the reference -----===//
//
// Arguments come from a safetensors file as tensors `0`, `1`, …; results go to
// another likewise, or to standard output as text.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/AsmState.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Parser/Parser.h"
#include "skim/InitAll.h"
#include "skim/Reference/Interpreter.h"
#include "skim/Support/Safetensors.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace skim;
using namespace skim::reference;
namespace cl = llvm::cl;

static Type elementType(MLIRContext *context, DType type) {
  switch (type) {
  case DType::F64:
    return Float64Type::get(context);
  case DType::F32:
    return Float32Type::get(context);
  case DType::F16:
    return Float16Type::get(context);
  case DType::BF16:
    return BFloat16Type::get(context);
  case DType::BOOL:
    return IntegerType::get(context, 1);
  default:
    return IntegerType::get(context, 8 * dtypeSize(type));
  }
}

static DType storedType(Type type) {
  if (type.isF64())
    return DType::F64;
  if (type.isF32())
    return DType::F32;
  if (type.isF16())
    return DType::F16;
  if (type.isBF16())
    return DType::BF16;
  switch (elementBytes(type)) {
  case 1:
    return type.isInteger(1) ? DType::BOOL : DType::I8;
  case 2:
    return DType::I16;
  case 4:
    return DType::I32;
  default:
    return DType::I64;
  }
}

static int report(const std::string &message) {
  llvm::errs() << "skim-interpret: error: " << message << "\n";
  return 1;
}

static void print(const Tensor &tensor) {
  llvm::outs() << tensor.describe() << ":";
  std::vector<float> decoded;
  if (tensor.getEncoding())
    decoded = tensor.toFloats();
  for (int64_t i = 0, e = tensor.getNumElements(); i < e; ++i) {
    if (tensor.getEncoding())
      llvm::outs() << llvm::format(" %.9g", decoded[i]);
    else if (tensor.isFloat())
      llvm::outs() << llvm::format(" %.9g", tensor.at(i));
    else
      llvm::outs() << " " << tensor.intAt(i);
  }
  llvm::outs() << "\n";
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::opt<std::string> input(cl::Positional, cl::desc("<IR>"), cl::init("-"));
  cl::opt<std::string> name("function", cl::desc("function to call"), cl::init("forward"));
  cl::opt<std::string> arguments("inputs", cl::desc("safetensors file with the arguments"));
  cl::opt<std::string> output("o", cl::desc("safetensors file for the results (default: text)"));
  cl::opt<std::string> base("base", cl::desc("folder that external weights are relative to (default: the IR's)"));
  cl::ParseCommandLineOptions(argc, argv, "runs a function through Skim's reference\n");

  DialectRegistry registry;
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  skim::registerAllDialects(registry);
  MLIRContext context(registry);
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(input, &context);
  if (!module)
    return 1;
  auto function = module->lookupSymbol<func::FuncOp>(name);
  if (!function)
    return report("no function @" + name + " at " + input);

  std::optional<SafetensorsFile> file; // its mapping must outlive the call
  std::vector<Tensor> values;
  if (!arguments.empty()) {
    auto opened = SafetensorsFile::open(arguments);
    if (!opened)
      return report(opened.message());
    file.emplace(std::move(*opened));
    for (unsigned i = 0; i < function.getNumArguments(); ++i) {
      auto info = file->get(std::to_string(i));
      if (!info)
        return report(info.message());
      const TensorInfo &tensor = **info;
      values.push_back(Tensor(elementType(&context, tensor.type), tensor.shape, file->bytes(tensor).data(), nullptr));
    }
  }
  InterpreterOptions options;
  options.baseDirectory = base.empty() ? llvm::sys::path::parent_path(input).str() : base;
  auto results = interpret(function, values, options);
  if (!results)
    return report(results.message());

  if (output.empty()) {
    for (const Tensor &result : *results)
      print(result);
    return 0;
  }
  std::vector<NamedTensor> tensors;
  for (auto [i, result] : llvm::enumerate(*results)) {
    if (result.getEncoding())
      return report("result " + std::to_string(i) + " is encoded; convert it first");
    tensors.push_back({{std::to_string(i), storedType(result.getElementType()), result.getShape().vec()},
                       {result.getBytes().data(), result.getBytes().size()}});
  }
  if (Error error = writeSafetensors(output, tensors))
    return report(error.message());
  return 0;
}
