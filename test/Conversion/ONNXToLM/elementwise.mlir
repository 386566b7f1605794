// RUN: skim-opt %s --convert-onnx-to-lm --split-input-file | FileCheck %s

// RMSNormalization of opset 23.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: lm.rms_norm %{{.*}}, %{{.*}} {epsilon = 9.99999997E-7 : f32} : tensor<?x?x4xf32>, tensor<4xf32>
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"})
    -> (!f {onnx.name = "logits"}) {
  %table = skim.external "w" offset = 0 name = "embed" : tensor<8x4xf32>
  %wq = skim.external "w" offset = 128 name = "q" : tensor<4x4xf32>
  %wk = skim.external "w" offset = 192 name = "k" : tensor<4x2xf32>
  %wv = skim.external "w" offset = 224 name = "v" : tensor<4x2xf32>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf32>
  %wh = skim.external "w" offset = 320 name = "head" : tensor<4x8xf32>
  %x = onnx.node "Gather"(%table, %ids) {node_attributes = {axis = 0 : i64}} : (tensor<8x4xf32>, tensor<?x?xi64>) -> !f
  %w = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %n = onnx.node "RMSNormalization"(%x, %w) {node_attributes = {axis = 2 : i64, epsilon = 1.0e-6 : f32}} : (!f, tensor<4xf32>) -> !f
  %q = onnx.node "MatMul"(%n, %wq) : (!f, tensor<4x4xf32>) -> !f
  %k = onnx.node "MatMul"(%n, %wk) : (!f, tensor<4x2xf32>) -> !f
  %v = onnx.node "MatMul"(%n, %wv) : (!f, tensor<4x2xf32>) -> !f
  %qs = arith.constant dense<[0, 0, 2, 2]> : tensor<4xi64>
  %ks = arith.constant dense<[0, 0, 1, 2]> : tensor<4xi64>
  %q4 = onnx.node "Reshape"(%q, %qs) : (!f, tensor<4xi64>) -> !f
  %k4 = onnx.node "Reshape"(%k, %ks) : (!f, tensor<4xi64>) -> !f
  %v4 = onnx.node "Reshape"(%v, %ks) : (!f, tensor<4xi64>) -> !f
  %qt = onnx.node "Transpose"(%q4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %kt = onnx.node "Transpose"(%k4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %vt = onnx.node "Transpose"(%v4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %mask = onnx.none
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {is_causal = 1 : i64}} : (!f, !f, !f, none) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// x · (x · x averaged + ε)^-0.5 · (1 + w), torch's words for Gemma.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: lm.rms_norm %{{.*}}, %{{.*}} {epsilon = 9.99999997E-7 : f32, offset = 1.000000e+00 : f32} : tensor<?x?x4xf32>, tensor<4xf32>
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"})
    -> (!f {onnx.name = "logits"}) {
  %table = skim.external "w" offset = 0 name = "embed" : tensor<8x4xf32>
  %wq = skim.external "w" offset = 128 name = "q" : tensor<4x4xf32>
  %wk = skim.external "w" offset = 192 name = "k" : tensor<4x2xf32>
  %wv = skim.external "w" offset = 224 name = "v" : tensor<4x2xf32>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf32>
  %wh = skim.external "w" offset = 320 name = "head" : tensor<4x8xf32>
  %x = onnx.node "Gather"(%table, %ids) {node_attributes = {axis = 0 : i64}} : (tensor<8x4xf32>, tensor<?x?xi64>) -> !f
  %w = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %eps = arith.constant dense<1.0e-6> : tensor<f32>
  %f1 = arith.constant dense<1.0> : tensor<f32>
  %sq = onnx.node "Mul"(%x, %x) : (!f, !f) -> !f
  %mean = onnx.node "ReduceMean"(%sq) {node_attributes = {axes = array<i64: 2>, keepdims = 1 : i64}} : (!f) -> !f
  %var = onnx.node "Add"(%mean, %eps) : (!f, tensor<f32>) -> !f
  %root = onnx.node "Sqrt"(%var) : (!f) -> !f
  %inv = onnx.node "Reciprocal"(%root) : (!f) -> !f
  %w1 = onnx.node "Add"(%w, %f1) : (tensor<4xf32>, tensor<f32>) -> !f
  %unit = onnx.node "Mul"(%x, %inv) : (!f, !f) -> !f
  %n = onnx.node "Mul"(%unit, %w1) : (!f, !f) -> !f
  %q = onnx.node "MatMul"(%n, %wq) : (!f, tensor<4x4xf32>) -> !f
  %k = onnx.node "MatMul"(%n, %wk) : (!f, tensor<4x2xf32>) -> !f
  %v = onnx.node "MatMul"(%n, %wv) : (!f, tensor<4x2xf32>) -> !f
  %qs = arith.constant dense<[0, 0, 2, 2]> : tensor<4xi64>
  %ks = arith.constant dense<[0, 0, 1, 2]> : tensor<4xi64>
  %q4 = onnx.node "Reshape"(%q, %qs) : (!f, tensor<4xi64>) -> !f
  %k4 = onnx.node "Reshape"(%k, %ks) : (!f, tensor<4xi64>) -> !f
  %v4 = onnx.node "Reshape"(%v, %ks) : (!f, tensor<4xi64>) -> !f
  %qt = onnx.node "Transpose"(%q4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %kt = onnx.node "Transpose"(%k4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %vt = onnx.node "Transpose"(%v4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %mask = onnx.none
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {is_causal = 1 : i64}} : (!f, !f, !f, none) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// Each head of the queries by itself.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: %[[Q:.*]] = skim.linear %{{.*}} {layer = "model.layers.0.self_attn.q_proj"}
// CHECK: %[[N:.*]] = lm.rms_norm %[[Q]], %{{.*}} {epsilon = 9.99999974E-6 : f32, heads = 2 : i64} : tensor<?x?x4xf32>, tensor<2xf32>
// CHECK: lm.attention %[[N]], 
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"})
    -> (!f {onnx.name = "logits"}) {
  %table = skim.external "w" offset = 0 name = "embed" : tensor<8x4xf32>
  %wq = skim.external "w" offset = 128 name = "q" : tensor<4x4xf32>
  %wk = skim.external "w" offset = 192 name = "k" : tensor<4x2xf32>
  %wv = skim.external "w" offset = 224 name = "v" : tensor<4x2xf32>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf32>
  %wh = skim.external "w" offset = 320 name = "head" : tensor<4x8xf32>
  %x = onnx.node "Gather"(%table, %ids) {node_attributes = {axis = 0 : i64}} : (tensor<8x4xf32>, tensor<?x?xi64>) -> !f
  %q = onnx.node "MatMul"(%x, %wq) : (!f, tensor<4x4xf32>) -> !f
  %k = onnx.node "MatMul"(%x, %wk) : (!f, tensor<4x2xf32>) -> !f
  %v = onnx.node "MatMul"(%x, %wv) : (!f, tensor<4x2xf32>) -> !f
  %qs = arith.constant dense<[0, 0, 2, 2]> : tensor<4xi64>
  %ks = arith.constant dense<[0, 0, 1, 2]> : tensor<4xi64>
  %q4 = onnx.node "Reshape"(%q, %qs) : (!f, tensor<4xi64>) -> !f
  %k4 = onnx.node "Reshape"(%k, %ks) : (!f, tensor<4xi64>) -> !f
  %v4 = onnx.node "Reshape"(%v, %ks) : (!f, tensor<4xi64>) -> !f
  %w = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %qn = onnx.node "SimplifiedLayerNormalization"(%q4, %w) {node_attributes = {axis = 3 : i64, epsilon = 1.0e-5 : f32}} : (!f, tensor<2xf32>) -> !f
  %qt = onnx.node "Transpose"(%qn) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %kt = onnx.node "Transpose"(%k4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %vt = onnx.node "Transpose"(%v4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %mask = onnx.none
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {is_causal = 1 : i64}} : (!f, !f, !f, none) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// A packed gate and up projection, split; x · sigmoid(x).
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: %[[H:.*]] = arith.addf
// CHECK: %[[WG:.*]] = skim.external "w" offset = 512 strides = [1, 6] name = "packed" : tensor<3x4xf32>
// CHECK: %[[G:.*]] = skim.linear %[[H]], %[[WG]] {layer = "model.layers.0.mlp.gate_proj"}
// CHECK: %[[S:.*]] = lm.silu %[[G]]
// CHECK: %[[WU:.*]] = skim.external "w" offset = 524 strides = [1, 6] name = "packed" : tensor<3x4xf32>
// CHECK: %[[U:.*]] = skim.linear %[[H]], %[[WU]] {layer = "model.layers.0.mlp.up_proj"}
// CHECK: arith.mulf %[[S]], %[[U]]
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"})
    -> (!f {onnx.name = "logits"}) {
  %table = skim.external "w" offset = 0 name = "embed" : tensor<8x4xf32>
  %wq = skim.external "w" offset = 128 name = "q" : tensor<4x4xf32>
  %wk = skim.external "w" offset = 192 name = "k" : tensor<4x2xf32>
  %wv = skim.external "w" offset = 224 name = "v" : tensor<4x2xf32>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf32>
  %wh = skim.external "w" offset = 320 name = "head" : tensor<4x8xf32>
  %x = onnx.node "Gather"(%table, %ids) {node_attributes = {axis = 0 : i64}} : (tensor<8x4xf32>, tensor<?x?xi64>) -> !f
  %q = onnx.node "MatMul"(%x, %wq) : (!f, tensor<4x4xf32>) -> !f
  %k = onnx.node "MatMul"(%x, %wk) : (!f, tensor<4x2xf32>) -> !f
  %v = onnx.node "MatMul"(%x, %wv) : (!f, tensor<4x2xf32>) -> !f
  %qs = arith.constant dense<[0, 0, 2, 2]> : tensor<4xi64>
  %ks = arith.constant dense<[0, 0, 1, 2]> : tensor<4xi64>
  %q4 = onnx.node "Reshape"(%q, %qs) : (!f, tensor<4xi64>) -> !f
  %k4 = onnx.node "Reshape"(%k, %ks) : (!f, tensor<4xi64>) -> !f
  %v4 = onnx.node "Reshape"(%v, %ks) : (!f, tensor<4xi64>) -> !f
  %qt = onnx.node "Transpose"(%q4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %kt = onnx.node "Transpose"(%k4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %vt = onnx.node "Transpose"(%v4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %mask = onnx.none
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {is_causal = 1 : i64}} : (!f, !f, !f, none) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %wp = skim.external "w" offset = 512 name = "packed" : tensor<4x6xf32>
  %wd = skim.external "w" offset = 768 name = "down" : tensor<3x4xf32>
  %p = onnx.node "MatMul"(%h, %wp) : (!f, tensor<4x6xf32>) -> !f
  %gate, %up = onnx.node "Split"(%p) {node_attributes = {axis = 2 : i64, split = array<i64: 3, 3>}} : (!f) -> (!f, !f)
  %sig = onnx.node "Sigmoid"(%gate) : (!f) -> !f
  %act = onnx.node "Mul"(%sig, %gate) : (!f, !f) -> !f
  %m = onnx.node "Mul"(%up, %act) : (!f, !f) -> !f
  %d = onnx.node "MatMul"(%m, %wd) : (!f, tensor<3x4xf32>) -> !f
  %r = onnx.node "Add"(%h, %d) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%r, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// A bias after the product.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: %[[B:.*]] = arith.constant dense<[5.000000e-01, 1.500000e+00, 2.500000e+00, 3.500000e+00]> : tensor<4xf32>
// CHECK: skim.linear %{{.*}}, %{{.*}} bias %[[B]] {layer = "model.layers.0.self_attn.q_proj"}
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"})
    -> (!f {onnx.name = "logits"}) {
  %table = skim.external "w" offset = 0 name = "embed" : tensor<8x4xf32>
  %wq = skim.external "w" offset = 128 name = "q" : tensor<4x4xf32>
  %wk = skim.external "w" offset = 192 name = "k" : tensor<4x2xf32>
  %wv = skim.external "w" offset = 224 name = "v" : tensor<4x2xf32>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf32>
  %wh = skim.external "w" offset = 320 name = "head" : tensor<4x8xf32>
  %x = onnx.node "Gather"(%table, %ids) {node_attributes = {axis = 0 : i64}} : (tensor<8x4xf32>, tensor<?x?xi64>) -> !f
  %q = onnx.node "MatMul"(%x, %wq) : (!f, tensor<4x4xf32>) -> !f
  %bias = arith.constant dense<[0.5, 1.5, 2.5, 3.5]> : tensor<4xf32>
  %qb = onnx.node "Add"(%bias, %q) : (tensor<4xf32>, !f) -> !f
  %k = onnx.node "MatMul"(%x, %wk) : (!f, tensor<4x2xf32>) -> !f
  %v = onnx.node "MatMul"(%x, %wv) : (!f, tensor<4x2xf32>) -> !f
  %qs = arith.constant dense<[0, 0, 2, 2]> : tensor<4xi64>
  %ks = arith.constant dense<[0, 0, 1, 2]> : tensor<4xi64>
  %q4 = onnx.node "Reshape"(%qb, %qs) : (!f, tensor<4xi64>) -> !f
  %k4 = onnx.node "Reshape"(%k, %ks) : (!f, tensor<4xi64>) -> !f
  %v4 = onnx.node "Reshape"(%v, %ks) : (!f, tensor<4xi64>) -> !f
  %qt = onnx.node "Transpose"(%q4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %kt = onnx.node "Transpose"(%k4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %vt = onnx.node "Transpose"(%v4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %mask = onnx.none
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {is_causal = 1 : i64}} : (!f, !f, !f, none) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}
