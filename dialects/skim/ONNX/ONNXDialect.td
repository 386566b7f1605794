//===- ONNXDialect.td - ONNX graphs as they are -----------------------------===//
#ifndef SKIM_ONNX_DIALECT_TD
#define SKIM_ONNX_DIALECT_TD

include "mlir/IR/OpBase.td"

def ONNX_Dialect : Dialect {
  let name = "onnx";
  let cppNamespace = "::skim::onnx";
  let summary = "ONNX graphs as they are";
  let description = [{
    One generic operation for every ONNX node, so that any graph can be looked
    at. Differences between opsets end at the importer: a node here has the
    meaning of its operator in opset 23 (com.microsoft: 1), with defaults made
    explicit and constant `axes`, `split` and `repeats` as attributes
    (include/skim/Import/ONNX/ImportONNX.h lists what is normalised).
  }];
}

#endif
