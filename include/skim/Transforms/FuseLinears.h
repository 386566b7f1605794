//===- FuseLinears.h - marks linears that one kernel call computes -*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_FUSELINEARS_H
#define SKIM_TRANSFORMS_FUSELINEARS_H

#include "mlir/Pass/Pass.h"

namespace skim {

/// On skim.linear: linears with the same number share their input and are
/// computed by one kernel call (discardable, i64).
inline constexpr llvm::StringLiteral kGroupAttr = "skim.group";

/// On arith.addf: the sum is computed in the epilogue of the linear that is one
/// of its operands, in the memory of the other (discardable, unit).
inline constexpr llvm::StringLiteral kEpilogueAttr = "skim.epilogue";

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/FuseLinears.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_FUSELINEARS_H
