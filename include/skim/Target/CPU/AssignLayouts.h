//===- AssignLayouts.h - decides how a target's weights lie -----*- C++ -*-===//
#ifndef SKIM_TARGET_CPU_ASSIGNLAYOUTS_H
#define SKIM_TARGET_CPU_ASSIGNLAYOUTS_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Target/CPU/AssignLayouts.h.inc"

} // namespace skim

#endif // SKIM_TARGET_CPU_ASSIGNLAYOUTS_H
