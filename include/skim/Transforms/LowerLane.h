//===- LowerLane.h - lowers lane operations to an instruction set -*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_LOWERLANE_H
#define SKIM_TRANSFORMS_LOWERLANE_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/Pass.h"

namespace skim {

/// Instructions beyond the baseline of an instruction set.
struct LaneFeatures {
  bool f16c = false, vbmi = false, bf16 = false, vnni = false;
};

/// Lowerings for every CPU.
void populatePortableLanePatterns(mlir::RewritePatternSet &patterns, const LaneFeatures &features);
/// Lowerings for AVX2 and AVX-512, preferred to the portable ones.
void populateAVX2LanePatterns(mlir::RewritePatternSet &patterns, const LaneFeatures &features);
void populateAVX512LanePatterns(mlir::RewritePatternSet &patterns, const LaneFeatures &features);

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/LowerLane.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_LOWERLANE_H
