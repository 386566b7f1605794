//===- LaneOps.h - what kernels ask of a vector unit ------------*- C++ -*-===//
#ifndef SKIM_LANE_LANEOPS_H
#define SKIM_LANE_LANEOPS_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/LLVMIR/LLVMTypes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "skim/Lane/LaneDialect.h.inc"

#define GET_OP_CLASSES
#include "skim/Lane/LaneOps.h.inc"

#endif // SKIM_LANE_LANEOPS_H
