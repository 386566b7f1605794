//===- SkimToUpstream.h - lowers skim and lm to upstream dialects -*- C++ -*-===//
#ifndef SKIM_CONVERSION_SKIMTOUPSTREAM_H
#define SKIM_CONVERSION_SKIMTOUPSTREAM_H

#include "mlir/Pass/Pass.h"
#include "mlir/Transforms/DialectConversion.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Conversion/SkimToUpstream.h.inc"

/// Adds the conversions of encoded weights to their components (1:N), so that
/// the patterns below may be used with a type converter of another stack.
void populateWeightTypeConversions(mlir::TypeConverter &converter);

/// Patterns for skim operations, decoding included.
void populateSkimToUpstreamPatterns(mlir::TypeConverter &converter, mlir::RewritePatternSet &patterns);

/// Patterns for lm operations.
void populateLMToUpstreamPatterns(mlir::TypeConverter &converter, mlir::RewritePatternSet &patterns);

} // namespace skim

#endif // SKIM_CONVERSION_SKIMTOUPSTREAM_H
