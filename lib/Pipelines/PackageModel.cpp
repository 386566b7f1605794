#include "skim/Pipelines/PackageModel.h"
#include "skim/Support/PackageManifest.h"

#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace skim;

Expected<OwningOpRef<ModuleOp>> skim::readPackageModel(const JsonCursor &manifest, const std::string &folder,
                                                       MLIRContext &context) {
  const std::string name = "model.mlirbc";
  if (Error error = checkPackageFile(manifest, folder, name))
    return error;
  std::string detail = "other bytes";
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
      detail = diagnostic.str();
    return success();
  });
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(folder + "/" + name, &context);
  if (!module)
    return fail("damaged model", folder + "/" + name, "bytecode of Skim's dialects", detail);
  return std::move(module);
}

Expected<OwningOpRef<ModuleOp>> skim::readPackageModel(const std::string &folder, MLIRContext &context) {
  Expected<Json> manifest = readPackageManifest(folder);
  if (!manifest)
    return manifest.takeError();
  return readPackageModel(JsonCursor(*manifest, manifestPath(folder)), folder, context);
}
