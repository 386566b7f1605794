//===- VerifyCache.h - checks that caches are never copied -*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_VERIFYCACHE_H
#define SKIM_TRANSFORMS_VERIFYCACHE_H

#include "mlir/Pass/Pass.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/VerifyCache.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_VERIFYCACHE_H
