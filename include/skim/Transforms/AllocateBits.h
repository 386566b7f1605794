//===- AllocateBits.h - spends a budget over the linears --------*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_ALLOCATEBITS_H
#define SKIM_TRANSFORMS_ALLOCATEBITS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "skim/Skim/SkimDialect.h"

#include <functional>
#include <string>

namespace skim {

/// One layer whose errors and codes are known now.
struct RecordedLayer {
  std::string name;
  int64_t rows = 0, columns = 0;
  size_t index = 0, count = 0;
};
using RecordProgress = std::function<void(const RecordedLayer &)>;

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/AllocateBits.h.inc"

/// The same pass, telling `progress` of every layer that it records.
std::unique_ptr<mlir::Pass> createAllocateBits(const AllocateBitsOptions &options, RecordProgress progress);

} // namespace skim

#endif // SKIM_TRANSFORMS_ALLOCATEBITS_H
