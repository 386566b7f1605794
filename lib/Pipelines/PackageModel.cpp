#include "skim/Pipelines/PackageModel.h"
#include "skim/Support/Sha256.h"

#include "mlir/Parser/Parser.h"

using namespace mlir;
using namespace skim;

Error skim::checkPackageFile(const JsonCursor &manifest, const std::string &folder, const std::string &name) {
  Expected<JsonCursor> files = manifest.member("files");
  if (!files)
    return files.takeError();
  Expected<JsonCursor> facts = files->member(name);
  if (!facts)
    return facts.takeError();
  Expected<std::string> expected = facts->string("sha256"), found = sha256OfFile(folder + "/" + name);
  if (!expected)
    return expected.takeError();
  if (!found)
    return found.takeError();
  if (*expected != *found)
    return fail("damaged file", folder + "/" + name, "sha256 " + *expected, *found);
  return Error::success();
}

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
  std::string path = folder + "/manifest.json";
  Expected<Json> json = parseJsonFile(path);
  if (!json)
    return json.takeError();
  JsonCursor manifest(*json, path);
  Expected<int64_t> version = manifest.integer("version");
  if (!version)
    return version.takeError();
  if (*version != 1)
    return fail("package of another version", folder, "version 1", std::to_string(*version));
  return readPackageModel(manifest, folder, context);
}
