// RUN: skim-opt %s | skim-opt | FileCheck %s
// RUN: skim-opt %s --emit-bytecode | skim-opt | FileCheck %s
// RUN: mlir-opt --load-dialect-plugin=%skim_plugin %s | FileCheck %s

// CHECK-LABEL: func.func @node
func.func @node(%a: tensor<?x64xf32>, %b: tensor<64x512xf32>) -> tensor<?x512xf32> {
  // CHECK: onnx.node "MatMul"(%{{.*}}, %{{.*}}) {node_name = "/lm_head/MatMul", shapes = {{\[\[}}"batch", "512"]]} : (tensor<?x64xf32>, tensor<64x512xf32>) -> tensor<?x512xf32>
  %y = onnx.node "MatMul"(%a, %b) {node_name = "/lm_head/MatMul", shapes = [["batch", "512"]]} : (tensor<?x64xf32>, tensor<64x512xf32>) -> tensor<?x512xf32>
  return %y : tensor<?x512xf32>
}

// CHECK-LABEL: func.func @attributes
func.func @attributes(%x: tensor<?x4x6xf32>) -> tensor<3xi64> {
  // CHECK: onnx.node "ReduceSum"(%{{.*}}) {node_attributes = {axes = array<i64: 2>, keepdims = 1 : i64}, scope = "model.layers.0"}
  %s = onnx.node "ReduceSum"(%x) {node_attributes = {axes = array<i64: 2>, keepdims = 1 : i64}, scope = "model.layers.0"} : (tensor<?x4x6xf32>) -> tensor<?x4x1xf32>
  // CHECK: onnx.node "Shape"(%{{.*}}) {values = ["batch", "4", "1"]}
  %shape = onnx.node "Shape"(%s) {values = ["batch", "4", "1"]} : (tensor<?x4x1xf32>) -> tensor<3xi64>
  return %shape : tensor<3xi64>
}

// Operands and results that are left out.
// CHECK-LABEL: func.func @omitted
func.func @omitted(%x: tensor<2x8xf32>, %w: tensor<8xf32>) -> tensor<2x8xf32> {
  // CHECK: %[[NONE:.*]] = onnx.none
  %none = onnx.none
  // CHECK: onnx.node "SkipSimplifiedLayerNormalization"(%{{.*}}, %{{.*}}, %{{.*}}, %[[NONE]]) {domain = "com.microsoft"} : {{.*}} -> (tensor<2x8xf32>, none, none, tensor<2x8xf32>)
  %y:4 = onnx.node "SkipSimplifiedLayerNormalization"(%x, %x, %w, %none) {domain = "com.microsoft"} : (tensor<2x8xf32>, tensor<2x8xf32>, tensor<8xf32>, none) -> (tensor<2x8xf32>, none, none, tensor<2x8xf32>)
  return %y#3 : tensor<2x8xf32>
}

// CHECK-LABEL: func.func @constant
func.func @constant() -> tensor<2xui8> {
  // CHECK: onnx.constant dense<[7, 8]> : tensor<2xui8>
  %z = onnx.constant dense<[7, 8]> : tensor<2xui8>
  return %z : tensor<2xui8>
}

// CHECK-LABEL: func.func @bodies
func.func @bodies(%flag: tensor<i1>, %x: tensor<?xf32>) -> tensor<?xf32> {
  // CHECK: onnx.node "If"(%{{.*}}) : (tensor<i1>) -> tensor<?xf32> {
  // CHECK: onnx.yield %{{.*}} : tensor<?xf32>
  // CHECK: }, {
  // CHECK: onnx.yield %{{.*}} : tensor<?xf32>
  %y = onnx.node "If"(%flag) : (tensor<i1>) -> tensor<?xf32> {
    onnx.yield %x : tensor<?xf32>
  }, {
    %n = onnx.node "Neg"(%x) : (tensor<?xf32>) -> tensor<?xf32>
    onnx.yield %n : tensor<?xf32>
  }
  return %y : tensor<?xf32>
}
