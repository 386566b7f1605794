// RUN: skim-opt %s --canonicalize --cse | FileCheck %s

// Nodes are pure: unused ones go, equal ones merge; constants too.
// CHECK-LABEL: func.func @pure
func.func @pure(%x: tensor<2x8xf32>) -> (tensor<2x8xf32>, tensor<2x8xf32>) {
  // CHECK-NEXT: %[[NONE:.*]] = onnx.none
  // CHECK-NEXT: %[[N:.*]] = onnx.node "Clip"(%{{.*}}, %[[NONE]], %[[NONE]])
  // CHECK-NEXT: return %[[N]], %[[N]]
  %none0 = onnx.none
  %none1 = onnx.none
  %zero = onnx.constant dense<0> : tensor<ui8>
  %a = onnx.node "Clip"(%x, %none0, %none1) : (tensor<2x8xf32>, none, none) -> tensor<2x8xf32>
  %b = onnx.node "Clip"(%x, %none1, %none0) : (tensor<2x8xf32>, none, none) -> tensor<2x8xf32>
  %c = onnx.node "Neg"(%x) : (tensor<2x8xf32>) -> tensor<2x8xf32>
  return %a, %b : tensor<2x8xf32>, tensor<2x8xf32>
}
