//===- AssignModes.h - decides the activation mode of linears ---*- C++ -*-===//
#ifndef SKIM_TRANSFORMS_ASSIGNMODES_H
#define SKIM_TRANSFORMS_ASSIGNMODES_H

#include "mlir/Pass/Pass.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Transforms/AssignModes.h.inc"

} // namespace skim

#endif // SKIM_TRANSFORMS_ASSIGNMODES_H
