//===- CheckFusion.h - fails if generated code holds decoded weights -*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_CHECKFUSION_H
#define SKIM_TRANSFORMS_CHECKFUSION_H

#include "mlir/Pass/Pass.h"

namespace skim {

/// On a kernel function: {bytes, elements, columns} of its buffer of decoded
/// weights and of the weight (dictionary of i64).
inline constexpr llvm::StringLiteral kDecodeBufferAttr = "skim.decode_buffer";
/// On a call of such a kernel: rows of the weight (i64).
inline constexpr llvm::StringLiteral kRowsAttr = "skim.rows";
/// On the call of the barrier (unit).
inline constexpr llvm::StringLiteral kBarrierAttr = "skim.barrier";
/// No buffer of decoded weights is larger.
inline constexpr int64_t kMaxDecodeBytes = 256 * 1024;

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/CheckFusion.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_CHECKFUSION_H
