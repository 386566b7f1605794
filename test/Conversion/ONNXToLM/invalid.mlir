// RUN: skim-opt %s --convert-onnx-to-lm --split-input-file --verify-diagnostics

// A table that is none of cosines and sines: one entry differs in the third digit.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// expected-error @below {{graph is no decoder that can be raised: 1 reason}}
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"},
                %pk: tensor<?x1x?x?xf32> {onnx.name = "past_key_values.0.key"},
                %pv: tensor<?x1x?x?xf32> {onnx.name = "past_key_values.0.value"})
    -> (!f {onnx.name = "logits"}, !f {onnx.name = "present.0.key"}, !f {onnx.name = "present.0.value"}) {
  %none = onnx.none
  %nw = arith.constant dense<1.0> : tensor<4xf32>
  %cos = arith.constant dense<[[1.0], [0.540302306], [-0.416146837], [-0.989992497]]> : tensor<4x1xf32>
  %sin = arith.constant dense<[[0.0], [0.841470985], [0.909297427], [0.142]]> : tensor<4x1xf32>
  %sum = onnx.node "ReduceSum"(%am) {node_attributes = {axes = array<i64: 1>, keepdims = 0 : i64}} : (tensor<?x?xi64>) -> !i
  %c1 = arith.constant dense<1> : tensor<1xi64>
  %last = onnx.node "Sub"(%sum, %c1) : (!i, tensor<1xi64>) -> !i
  %lens = onnx.node "Cast"(%last) : (!i) -> tensor<*xi32>
  %as = onnx.node "Shape"(%am) {node_attributes = {start = 1 : i64, end = 2 : i64}} : (tensor<?x?xi64>) -> !i
  %total = onnx.node "Cast"(%as) : (!i) -> tensor<*xi32>
  %wqkv = skim.external "w" offset = 128 name = "model.layers.0.attn.qkv_proj.MatMul.weight" : tensor<4x8xf32>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf32>
  %wh = skim.external "w" offset = 320 name = "head" : tensor<4x8xf32>
  %wt = onnx.node "Transpose"(%wh) {node_attributes = {perm = array<i64: 1, 0>}} : (tensor<4x8xf32>) -> !f
  %x = onnx.node "Gather"(%wt, %ids) {node_attributes = {axis = 0 : i64}} : (!f, tensor<?x?xi64>) -> !f
  %n = onnx.node "SimplifiedLayerNormalization"(%x, %nw) {node_attributes = {axis = 2 : i64, epsilon = 1.0e-5 : f32}} : (!f, tensor<4xf32>) -> !f
  %q = onnx.node "MatMul"(%n, %wqkv) {node_name = "/model/layers.0/attn/qkv_proj/MatMul"} : (!f, tensor<4x8xf32>) -> !f
  // expected-error @below {{cannot raise com.microsoft::GroupQueryAttention at node 'gqa': expected cosines and sines of positions times frequencies, got a table whose row 3, column 0}}
  %a, %k1, %v1 = onnx.node "GroupQueryAttention"(%q, %none, %none, %pk, %pv, %lens, %total, %cos, %sin)
    {domain = "com.microsoft", node_name = "gqa", node_attributes = {num_heads = 2 : i64, kv_num_heads = 1 : i64, do_rotary = 1 : i64, local_window_size = 5 : i64}}
    : (!f, none, none, tensor<?x1x?x?xf32>, tensor<?x1x?x?xf32>, tensor<*xi32>, tensor<*xi32>, tensor<4x1xf32>, tensor<4x1xf32>) -> (!f, !f, !f)
  %o = onnx.node "MatMul"(%a, %wo) {node_name = "/model/layers.0/attn/o_proj/MatMul"} : (!f, tensor<4x4xf32>) -> !f
  %y, %u0, %u1, %h = onnx.node "SkipSimplifiedLayerNormalization"(%x, %o, %nw) {domain = "com.microsoft", node_attributes = {epsilon = 1.0e-5 : f32}} : (!f, !f, tensor<4xf32>) -> (!f, none, none, !f)
  %z = onnx.node "Add"(%h, %y) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%z, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l, %k1, %v1 : !f, !f, !f
}

// -----

// All reasons at once, equal ones once.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// expected-error @below {{graph is no decoder that can be raised: 3 reasons}}
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"})
    -> (!f {onnx.name = "logits"}) {
  %table = skim.external "w" offset = 0 name = "embed" : tensor<8x4xf32>
  %wq = skim.external "w" offset = 128 name = "q" : tensor<4x4xf32>
  %wk = skim.external "w" offset = 192 name = "k" : tensor<4x2xf32>
  %wv = skim.external "w" offset = 224 name = "v" : tensor<4x2xf32>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf32>
  %wh = skim.external "w" offset = 320 name = "head" : tensor<4x8xf32>
  %x = onnx.node "Gather"(%table, %ids) {node_attributes = {axis = 0 : i64}} : (tensor<8x4xf32>, tensor<?x?xi64>) -> !f
  // expected-error @below {{cannot raise com.example::Magic at node 'first': expected an operator that can be raised, got unsupported operator, 2 occurrences}}
  %x1 = onnx.node "Magic"(%x) {domain = "com.example", node_name = "first"} : (!f) -> !f
  %x2 = onnx.node "Magic"(%x) {domain = "com.example", node_name = "second"} : (!f) -> !f
  %q = onnx.node "MatMul"(%x1, %wq) : (!f, tensor<4x4xf32>) -> !f
  %k = onnx.node "MatMul"(%x2, %wk) : (!f, tensor<4x2xf32>) -> !f
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
  %next = onnx.node "Add"(%row, %one) : (!i, tensor<i64>) -> !i
  %mask = onnx.node "LessOrEqual"(%column, %next) : (!i, !i) -> !b
  // expected-error @below {{expected a mask}}
  %a = onnx.node "Attention"(%qt, %kt, %vt, %mask) {node_name = "attention", node_attributes = {scale = 0.5 : f32}} : (!f, !f, !f, !b) -> !f
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %as = arith.constant dense<[0, 0, 4]> : tensor<3xi64>
  %ar = onnx.node "Reshape"(%at, %as) : (!f, tensor<3xi64>) -> !f
  %o = onnx.node "MatMul"(%ar, %wo) : (!f, tensor<4x4xf32>) -> !f
  %three = arith.constant dense<3.0> : tensor<f32>
  %o3 = onnx.node "Pow"(%o, %three) : (!f, tensor<f32>) -> !f
  // expected-error @below {{cannot raise Add}}
  %h = onnx.node "Add"(%o3, %x) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%h, %wh) : (!f, tensor<4x8xf32>) -> !f
  return %l : !f
}

// -----

// Keys that are not those that the graph gives back.
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
// expected-error @below {{graph is no decoder that can be raised: 1 reason}}
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"},
                %pk: tensor<?x1x?x?xf32> {onnx.name = "past_key_values.0.key"},
                %pv: tensor<?x1x?x?xf32> {onnx.name = "past_key_values.0.value"})
    -> (!f {onnx.name = "logits"}, !f {onnx.name = "present.0.key"}, !f {onnx.name = "present.0.value"}) {
  %none = onnx.none
  %nw = arith.constant dense<1.0> : tensor<4xf32>
  %cos = arith.constant dense<[[1.0], [0.540302306], [-0.416146837], [-0.989992497]]> : tensor<4x1xf32>
  %sin = arith.constant dense<[[0.0], [0.841470985], [0.909297427], [0.141120008]]> : tensor<4x1xf32>
  %sum = onnx.node "ReduceSum"(%am) {node_attributes = {axes = array<i64: 1>, keepdims = 0 : i64}} : (tensor<?x?xi64>) -> !i
  %c1 = arith.constant dense<1> : tensor<1xi64>
  %last = onnx.node "Sub"(%sum, %c1) : (!i, tensor<1xi64>) -> !i
  %lens = onnx.node "Cast"(%last) : (!i) -> tensor<*xi32>
  %as = onnx.node "Shape"(%am) {node_attributes = {start = 1 : i64, end = 2 : i64}} : (tensor<?x?xi64>) -> !i
  %total = onnx.node "Cast"(%as) : (!i) -> tensor<*xi32>
  %wqkv = skim.external "w" offset = 128 name = "model.layers.0.attn.qkv_proj.MatMul.weight" : tensor<4x8xf32>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf32>
  %wh = skim.external "w" offset = 320 name = "head" : tensor<4x8xf32>
  %wt = onnx.node "Transpose"(%wh) {node_attributes = {perm = array<i64: 1, 0>}} : (tensor<4x8xf32>) -> !f
  %x = onnx.node "Gather"(%wt, %ids) {node_attributes = {axis = 0 : i64}} : (!f, tensor<?x?xi64>) -> !f
  %n = onnx.node "SimplifiedLayerNormalization"(%x, %nw) {node_attributes = {axis = 2 : i64, epsilon = 1.0e-5 : f32}} : (!f, tensor<4xf32>) -> !f
  %q = onnx.node "MatMul"(%n, %wqkv) {node_name = "/model/layers.0/attn/qkv_proj/MatMul"} : (!f, tensor<4x8xf32>) -> !f
  %a, %k1, %v1 = onnx.node "GroupQueryAttention"(%q, %none, %none, %pk, %pv, %lens, %total, %cos, %sin)
    {domain = "com.microsoft", node_name = "gqa", node_attributes = {num_heads = 2 : i64, kv_num_heads = 1 : i64, do_rotary = 1 : i64, local_window_size = 5 : i64}}
    : (!f, none, none, tensor<?x1x?x?xf32>, tensor<?x1x?x?xf32>, tensor<*xi32>, tensor<*xi32>, tensor<4x1xf32>, tensor<4x1xf32>) -> (!f, !f, !f)
  %o = onnx.node "MatMul"(%a, %wo) {node_name = "/model/layers.0/attn/o_proj/MatMul"} : (!f, tensor<4x4xf32>) -> !f
  %y, %u0, %u1, %h = onnx.node "SkipSimplifiedLayerNormalization"(%x, %o, %nw) {domain = "com.microsoft", node_attributes = {epsilon = 1.0e-5 : f32}} : (!f, !f, tensor<4xf32>) -> (!f, none, none, !f)
  %z = onnx.node "Add"(%h, %y) : (!f, !f) -> !f
  %l = onnx.node "MatMul"(%z, %wh) : (!f, tensor<4x8xf32>) -> !f
  // expected-error @below {{expected present keys of layer 0 to be what its attention reads}}
  %twice = onnx.node "Add"(%k1, %k1) {node_name = "twice"} : (!f, !f) -> !f
  return %l, %twice, %v1 : !f, !f, !f
}
