//===- PackageModel.h - the IR of a package ---------------------*- C++ -*-===//
#ifndef SKIM_PIPELINES_PACKAGEMODEL_H
#define SKIM_PIPELINES_PACKAGEMODEL_H

#include "skim/Support/Error.h"
#include "skim/Support/Json.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace skim {

/// The quantized model in a package. MLIR's bytecode reader trusts its input
/// more than a damaged file deserves, so the file's hash is checked before.
Expected<mlir::OwningOpRef<mlir::ModuleOp>> readPackageModel(const JsonCursor &manifest, const std::string &folder,
                                                             mlir::MLIRContext &context);
/// The same, from the folder's manifest.
Expected<mlir::OwningOpRef<mlir::ModuleOp>> readPackageModel(const std::string &folder, mlir::MLIRContext &context);

} // namespace skim

#endif // SKIM_PIPELINES_PACKAGEMODEL_H
