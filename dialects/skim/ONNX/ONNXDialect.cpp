#include "skim/ONNX/ONNXOps.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

#include "skim/ONNX/ONNXDialect.cpp.inc"

#define GET_OP_CLASSES
#include "skim/ONNX/ONNXOps.cpp.inc"

void skim::onnx::ONNXDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "skim/ONNX/ONNXOps.cpp.inc"
      >();
}

OpFoldResult skim::onnx::ConstantOp::fold(FoldAdaptor) { return getValueAttr(); }
