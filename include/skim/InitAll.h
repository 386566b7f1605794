//===- InitAll.h - registers all of Skim ------------------------*- C++ -*-===//
#ifndef SKIM_INITALL_H
#define SKIM_INITALL_H

namespace mlir {
class DialectRegistry;
}

namespace skim {

/// Skim's dialects with their external models (not upstream's).
void registerAllDialects(mlir::DialectRegistry &registry);

/// Skim's passes and named pipelines, for textual pipelines.
void registerAllPasses();

} // namespace skim

#endif // SKIM_INITALL_H
