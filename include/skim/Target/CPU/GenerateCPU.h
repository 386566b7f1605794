//===- GenerateCPU.h - compiles the model function for a CPU ----*- C++ -*-===//
#ifndef SKIM_TARGET_CPU_GENERATECPU_H
#define SKIM_TARGET_CPU_GENERATECPU_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "skim/Lane/LaneOps.h"

namespace skim {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "skim/Target/CPU/GenerateCPU.h.inc"

} // namespace skim

#endif // SKIM_TARGET_CPU_GENERATECPU_H
