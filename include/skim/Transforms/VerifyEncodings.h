//===- VerifyEncodings.h - checks that encoded tensors stay fenced in -*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_VERIFYENCODINGS_H
#define SKIM_TRANSFORMS_VERIFYENCODINGS_H

#include "mlir/Pass/Pass.h"

#include <cstdint>

namespace skim {

/// Bytes of tensor data that one attribute in IR may hold; more lies in a file.
inline constexpr uint64_t kMaxTensorData = uint64_t(64) << 10;

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/VerifyEncodings.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_VERIFYENCODINGS_H
