//===- OutlineBlocks.h - a function for each decoder block ------*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_OUTLINEBLOCKS_H
#define SKIM_TRANSFORMS_OUTLINEBLOCKS_H

#include "mlir/Pass/Pass.h"

namespace skim {

/// On a call of an outlined function: the layers of its linears, in the order
/// in which they stand in the function (array of strings, discardable).
inline constexpr llvm::StringLiteral kLayersAttr = "skim.layers";

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/OutlineBlocks.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_OUTLINEBLOCKS_H
