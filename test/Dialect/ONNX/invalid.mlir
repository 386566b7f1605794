// RUN: skim-opt %s --split-input-file --verify-diagnostics

// Functions are named by the constraint in ONNXOps.td that they break.

func.func @node_c1_operator(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected the name of an operator, got an empty op_type}}
  %0 = onnx.node ""(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @node_c2_results(%x: tensor<?xf32>) {
  // expected-error @+1 {{expected shapes of 1 results, got 2}}
  %0 = onnx.node "Neg"(%x) {shapes = [["n"], ["n"]]} : (tensor<?xf32>) -> tensor<?xf32>
  return
}

// -----

func.func @node_c2_texts(%x: tensor<?xf32>) {
  // expected-error @+1 {{expected a list of texts as shape of result #0, got [4]}}
  %0 = onnx.node "Neg"(%x) {shapes = [[4]]} : (tensor<?xf32>) -> tensor<?xf32>
  return
}

// -----

func.func @node_c2_rank(%x: tensor<?xf32>) {
  // expected-error @+1 {{expected a shape of 'tensor<?xf32>' for result #0, got ["n", "4"]}}
  %0 = onnx.node "Neg"(%x) {shapes = [["n", "4"]]} : (tensor<?xf32>) -> tensor<?xf32>
  return
}

// -----

func.func @node_c2_static(%x: tensor<?x4xf32>) {
  // expected-error @+1 {{expected dimension 4 in the shape of result #0, got 5}}
  %0 = onnx.node "Neg"(%x) {shapes = [["n", "5"]]} : (tensor<?x4xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @node_c3_floats(%x: tensor<2xf32>) {
  // expected-error @+1 {{expected values of one static integer result, got 'tensor<2xf32>'}}
  %0 = onnx.node "Neg"(%x) {values = ["a", "b"]} : (tensor<2xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @node_c3_count(%x: tensor<?x4xf32>) {
  // expected-error @+1 {{expected 2 values, got 1}}
  %0 = onnx.node "Shape"(%x) {values = ["a"]} : (tensor<?x4xf32>) -> tensor<2xi64>
  return
}

// -----

func.func @node_c4_bodies(%flag: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error @+1 {{expected bodies that yield 1 values}}
  %0 = onnx.node "If"(%flag) : (tensor<i1>) -> tensor<4xf32> {
    onnx.yield
  }
  return
}

// -----

func.func @yield_parent(%x: tensor<4xf32>) {
  // expected-error @+1 {{expects parent op 'onnx.node'}}
  onnx.yield %x : tensor<4xf32>
}
