// RUN: skim-opt %s --convert-onnx-to-lm --split-input-file | FileCheck %s

// Causal as booleans: j <= i.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: lm.attention %{{.*}} {heads = 2 : i64, scale = 5.000000e-01 : f32}
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
  %zero = arith.constant dense<0> : tensor<i64>
  %one = arith.constant dense<1> : tensor<i64>
  %shape = onnx.node "Shape"(%ids) {node_attributes = {start = 1 : i64, end = 2 : i64}} : (tensor<?x?xi64>) -> !i
  %n = onnx.node "Squeeze"(%shape) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %range = onnx.node "Range"(%zero, %n, %one) : (tensor<i64>, !i, tensor<i64>) -> !i
  %row = onnx.node "Unsqueeze"(%range) {node_attributes = {axes = array<i64: 1>}} : (!i) -> !i
  %column = onnx.node "Unsqueeze"(%range) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %mask = onnx.node "LessOrEqual"(%column, %row) : (!i, !i) -> !b
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {scale = 0.5 : f32}} : (!f, !f, !f, !b) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// Causal as the negated complement, added as floats.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: lm.attention %{{.*}} {heads = 2 : i64, scale = 5.000000e-01 : f32}
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
  %zero = arith.constant dense<0> : tensor<i64>
  %one = arith.constant dense<1> : tensor<i64>
  %shape = onnx.node "Shape"(%ids) {node_attributes = {start = 1 : i64, end = 2 : i64}} : (tensor<?x?xi64>) -> !i
  %n = onnx.node "Squeeze"(%shape) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %range = onnx.node "Range"(%zero, %n, %one) : (tensor<i64>, !i, tensor<i64>) -> !i
  %row = onnx.node "Unsqueeze"(%range) {node_attributes = {axes = array<i64: 1>}} : (!i) -> !i
  %column = onnx.node "Unsqueeze"(%range) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %m = onnx.node "Greater"(%column, %row) : (!i, !i) -> !b
  %c0 = arith.constant dense<0.0> : tensor<f32>
  %c1 = arith.constant dense<-3.40282347E+38> : tensor<f32>
  %mask = onnx.node "Where"(%m, %c1, %c0) : (!b, tensor<f32>, tensor<f32>) -> !f
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {scale = 0.5 : f32}} : (!f, !f, !f, !f) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// A triangle of large negative numbers.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: lm.attention %{{.*}} {heads = 2 : i64, scale = 5.000000e-01 : f32}
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
  %sz = onnx.node "Shape"(%ids) {node_attributes = {start = 1 : i64, end = 2 : i64}} : (tensor<?x?xi64>) -> !i
  %sq = onnx.node "Concat"(%sz, %sz) {node_attributes = {axis = 0 : i64}} : (!i, !i) -> !i
  %full = onnx.node "ConstantOfShape"(%sq) {node_attributes = {value = dense<-1.0e9> : tensor<1xf32>}} : (!i) -> !f
  %k1 = arith.constant dense<1> : tensor<i64>
  %mask = onnx.node "Trilu"(%full, %k1) {node_attributes = {upper = 1 : i64}} : (!f, tensor<i64>) -> !f
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {scale = 0.5 : f32}} : (!f, !f, !f, !f) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// A window: i - 3 < j <= i.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: lm.attention %{{.*}} {heads = 2 : i64, scale = 5.000000e-01 : f32, window = 3 : i64}
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
  %zero = arith.constant dense<0> : tensor<i64>
  %one = arith.constant dense<1> : tensor<i64>
  %shape = onnx.node "Shape"(%ids) {node_attributes = {start = 1 : i64, end = 2 : i64}} : (tensor<?x?xi64>) -> !i
  %n = onnx.node "Squeeze"(%shape) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %range = onnx.node "Range"(%zero, %n, %one) : (tensor<i64>, !i, tensor<i64>) -> !i
  %row = onnx.node "Unsqueeze"(%range) {node_attributes = {axes = array<i64: 1>}} : (!i) -> !i
  %column = onnx.node "Unsqueeze"(%range) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %w = arith.constant dense<3> : tensor<i64>
  %low = onnx.node "Sub"(%row, %w) : (!i, tensor<i64>) -> !i
  %inside = onnx.node "Greater"(%column, %low) : (!i, !i) -> !b
  %causal = onnx.node "LessOrEqual"(%column, %row) : (!i, !i) -> !b
  %mask = onnx.node "And"(%inside, %causal) : (!b, !b) -> !b
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {scale = 0.5 : f32}} : (!f, !f, !f, !b) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// Causal and padding: (1 - attention_mask) times the lowest float.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: lm.attention %{{.*}} {heads = 2 : i64, scale = 5.000000e-01 : f32}
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
  %zero = arith.constant dense<0> : tensor<i64>
  %one = arith.constant dense<1> : tensor<i64>
  %shape = onnx.node "Shape"(%ids) {node_attributes = {start = 1 : i64, end = 2 : i64}} : (tensor<?x?xi64>) -> !i
  %n = onnx.node "Squeeze"(%shape) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %range = onnx.node "Range"(%zero, %n, %one) : (tensor<i64>, !i, tensor<i64>) -> !i
  %row = onnx.node "Unsqueeze"(%range) {node_attributes = {axes = array<i64: 1>}} : (!i) -> !i
  %column = onnx.node "Unsqueeze"(%range) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %m4 = onnx.node "Unsqueeze"(%am) {node_attributes = {axes = array<i64: 1, 2>}} : (tensor<?x?xi64>) -> !i
  %mf = onnx.node "Cast"(%m4) : (!i) -> !f
  %f1 = arith.constant dense<1.0> : tensor<f32>
  %lowest = arith.constant dense<-3.40282347E+38> : tensor<f32>
  %inv = onnx.node "Sub"(%f1, %mf) : (tensor<f32>, !f) -> !f
  %pad = onnx.node "Mul"(%inv, %lowest) : (!f, tensor<f32>) -> !f
  %c = onnx.node "LessOrEqual"(%column, %row) : (!i, !i) -> !b
  %mask = onnx.node "Where"(%c, %pad, %lowest) : (!b, !f, tensor<f32>) -> !f
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {scale = 0.5 : f32}} : (!f, !f, !f, !f) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// The operator's own triangle, and its soft cap.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// CHECK-LABEL: func.func @forward
// CHECK: lm.attention %{{.*}} {heads = 2 : i64, scale = 5.000000e-01 : f32, softcap = 2.000000e+01 : f32}
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
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {is_causal = 1 : i64, scale = 0.5 : f32, softcap = 20.0 : f32}} : (!f, !f, !f, none) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %h = onnx.node "Add"(%o, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}
