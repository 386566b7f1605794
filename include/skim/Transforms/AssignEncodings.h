//===- AssignEncodings.h - decides the encoding of every weight -*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_ASSIGNENCODINGS_H
#define SKIM_TRANSFORMS_ASSIGNENCODINGS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "skim/Skim/SkimDialect.h"

namespace skim {

/// The attribute that carries the plan on skim.linear and skim.embed.
inline constexpr llvm::StringLiteral kEncodingAttr = "skim.encoding";

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/AssignEncodings.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_ASSIGNENCODINGS_H
