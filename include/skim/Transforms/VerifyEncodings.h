//===- VerifyEncodings.h - checks that encoded tensors stay fenced in -*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_VERIFYENCODINGS_H
#define SKIM_TRANSFORMS_VERIFYENCODINGS_H

#include "mlir/Pass/Pass.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/VerifyEncodings.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_VERIFYENCODINGS_H
