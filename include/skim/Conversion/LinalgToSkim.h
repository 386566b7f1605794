//===- LinalgToSkim.h - raises products to skim.linear ----------*- C++ -*-===//
#ifndef SKIM_CONVERSION_LINALGTOSKIM_H
#define SKIM_CONVERSION_LINALGTOSKIM_H

#include "mlir/Pass/Pass.h"

namespace mlir {
class RewritePatternSet;
}

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Conversion/LinalgToSkim.h.inc"

/// Patterns that raise linalg contractions with constant weights.
void populateLinalgToSkimPatterns(mlir::RewritePatternSet &patterns);

} // namespace skim

#endif // SKIM_CONVERSION_LINALGTOSKIM_H
