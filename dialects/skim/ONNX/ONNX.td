//===- ONNX.td - the whole dialect, for documentation and tools ------------===//
include "skim/ONNX/ONNXDialect.td"
include "skim/ONNX/ONNXOps.td"
