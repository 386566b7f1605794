#include "skim/Import/ONNX/ImportONNX.h"

#include "Importer.h"
#include "skim/ONNX/ONNXOps.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Support/AtomicOutput.h"

#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/Support/SourceMgr.h"

#include <filesystem>

using namespace mlir;
using namespace skim;

ImportedONNX skim::importONNX(const std::string &path, MLIRContext *context, const ImportONNXOptions &options) {
  ImportedONNX out;
  Expected<wire::Model> model = wire::readModel(path);
  if (!model) {
    out.failures.push_back(model.failure());
    return out;
  }
  context->loadDialect<func::FuncDialect, arith::ArithDialect, SkimDialect, onnx::ONNXDialect>();
  return onnx::Importer(std::move(*model), path, context, options).run();
}

std::vector<Failure> skim::importONNXToFile(const std::string &path, const std::string &output,
                                            ImportONNXOptions options) {
  namespace fs = std::filesystem;
  bool isStandard = output == "-";
  std::error_code error;
  fs::path from = isStandard ? fs::path(".") : fs::path(output).parent_path();
  fs::path prefix = fs::relative(fs::path(path).parent_path().empty() ? fs::path(".") : fs::path(path).parent_path(),
                                 from.empty() ? fs::path(".") : from, error);
  if (error)
    return {fail("cannot find the model's folder", path, "a readable folder", error.message())};
  if (prefix != ".")
    options.filePrefix = prefix.generic_string() + "/";

  MLIRContext context;
  ImportedONNX imported = importONNX(path, &context, options);
  if (!imported)
    return imported.failures;
  std::string contents;
  llvm::raw_string_ostream stream(contents);
  if (StringRef(output).ends_with(".mlirbc")) {
    if (failed(writeBytecodeToFile(*imported.module, stream)))
      return {fail("cannot write bytecode", output)};
  } else {
    imported.module->print(stream);
  }
  if (isStandard) {
    llvm::outs() << contents;
    llvm::outs().flush();
    if (llvm::outs().has_error()) {
      std::string reason = llvm::outs().error().message();
      llvm::outs().clear_error();
      return {fail("cannot write", "standard output", "an open stream", reason)};
    }
    return {};
  }
  if (Error failure = writeFileAtomically(output, contents))
    return {failure.get()};
  return {};
}

void skim::registerImportONNXDialects(DialectRegistry &registry) {
  registry.insert<func::FuncDialect, arith::ArithDialect, SkimDialect, onnx::ONNXDialect>();
}

void skim::registerImportONNXTranslation() {
  static TranslateToMLIRRegistration registration(
      "import-onnx", "import an ONNX model; weights stay in its files",
      [](llvm::SourceMgr &sources, MLIRContext *context) -> OwningOpRef<Operation *> {
        // External data lies beside the model, so its path is needed, not its bytes.
        StringRef path = sources.getMemoryBuffer(sources.getMainFileID())->getBufferIdentifier();
        ImportedONNX imported = importONNX(path.str(), context);
        for (const Failure &failure : imported.failures)
          emitError(UnknownLoc::get(context)) << failure.message();
        if (!imported)
          return nullptr;
        return imported.module.release().getOperation();
      },
      registerImportONNXDialects);
}
