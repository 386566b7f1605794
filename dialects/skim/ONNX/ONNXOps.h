#ifndef SKIM_ONNX_ONNXOPS_H
#define SKIM_ONNX_ONNXOPS_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "skim/ONNX/ONNXDialect.h.inc"

#define GET_OP_CLASSES
#include "skim/ONNX/ONNXOps.h.inc"

#endif // SKIM_ONNX_ONNXOPS_H
