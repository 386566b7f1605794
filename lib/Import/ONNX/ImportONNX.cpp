#include "skim/Import/ONNX/ImportONNX.h"

#include "Importer.h"
#include "skim/ONNX/ONNXOps.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Skim/SkimOps.h"

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

Expected<std::string> skim::externalPrefix(const std::string &model, const std::string &output) {
  namespace fs = std::filesystem;
  std::error_code error;
  // Absolute first: a folder that does not exist yet has no canonical name.
  auto folderOf = [&](const std::string &path) {
    fs::path folder = error ? fs::path() : fs::absolute(fs::path(path), error).parent_path();
    return error ? fs::path() : fs::weakly_canonical(folder, error);
  };
  fs::path from = folderOf(model), to = folderOf(output == "-" ? "./-" : output);
  if (error)
    return fail("cannot find the model's folder", model, "a readable folder", error.message());
  fs::path prefix = from.lexically_relative(to);
  return prefix == "." ? std::string() : prefix.generic_string() + "/";
}

void skim::prefixExternals(ModuleOp module, const std::string &prefix) {
  if (!prefix.empty())
    module.walk([&](ExternalOp op) { op.setFile(prefix + op.getFile().str()); });
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
