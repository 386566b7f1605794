// RUN: skim-opt %s --convert-onnx-to-lm --split-input-file | FileCheck %s

// A decoder as onnxruntime-genai writes it. The packed q/k/v weight becomes three
// strided externals, the tied table one; the tables of cosines become frequencies.

// CHECK: skim.model = {context = 4 : i64, head_dim = 2 : i64, heads = 2 : i64, hidden = 4 : i64, kv_heads = 1 : i64
// CHECK-LABEL: func.func @forward
// CHECK: %[[T:.*]] = skim.external "w" offset = 320 strides = [1, 8] name = "head" : tensor<8x4xf32>
// CHECK: %[[X:.*]] = skim.embed %{{.*}}, %[[T]]
// CHECK: %[[N:.*]] = lm.rms_norm %[[X]]
// CHECK: %[[WQ:.*]] = skim.external "w" offset = 128 strides = [1, 8] name = "model.layers.0.attn.qkv_proj.MatMul.weight" : tensor<4x4xf32>
// CHECK: %[[Q:.*]] = skim.linear %[[N]], %[[WQ]] {layer = "model.layers.0.self_attn.q_proj"
// CHECK: dense<1.000000e+00> : tensor<1xf32>
// CHECK: %[[QR:.*]] = lm.rotary %[[Q]]
// CHECK: %[[WK:.*]] = skim.external "w" offset = 144 strides = [1, 8] name = "model.layers.0.attn.qkv_proj.MatMul.weight" : tensor<2x4xf32>
// CHECK: %[[K:.*]] = skim.linear %[[N]], %[[WK]] {layer = "model.layers.0.self_attn.k_proj"
// CHECK: %[[WV:.*]] = skim.external "w" offset = 152 strides = [1, 8] name = "model.layers.0.attn.qkv_proj.MatMul.weight" : tensor<2x4xf32>
// CHECK: %[[V:.*]] = skim.linear %[[N]], %[[WV]] {layer = "model.layers.0.self_attn.v_proj"
// CHECK: %[[A:.*]] = lm.attention %[[QR]], %{{.*}} {heads = 2 : i64, scale = 0.707106769 : f32, window = 5 : i64}
// CHECK: %[[O:.*]] = skim.linear %[[A]], %{{.*}} {layer = "model.layers.0.self_attn.o_proj"
// CHECK: %[[H:.*]] = arith.addf %[[X]], %[[O]]
// CHECK: %[[Y:.*]] = lm.rms_norm %[[H]]
// CHECK: %[[Z:.*]] = arith.addf %[[H]], %[[Y]]
// CHECK: lm.gather_rows %[[Z]]
// CHECK: skim.linear %{{.*}}, %[[T]] {layer = "lm_head"}
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
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
  return %l, %k1, %v1 : !f, !f, !f
}

// -----

// MatMulNBits and GatherBlockQuantized on the same codes: one encoded weight. K = 20 is
// padded to two blocks of 16 in the file, which strides leave out.

// CHECK-LABEL: func.func @forward
// CHECK: %[[C:.*]] = skim.external "w" offset = 0 name = "codes" : tensor<64x8xi8>
// CHECK: %[[S:.*]] = skim.external "w" offset = 512 name = "scales" : tensor<64x1xf32>
// CHECK: %[[W:.*]] = skim.assemble %[[C]], %[[S]] {{.*}} to tensor<64x16xf32, #skim.uniform<bits = 4, scale = f32>>
// CHECK: %[[X:.*]] = skim.embed %{{.*}}, %[[W]]
// CHECK: %[[C2:.*]] = skim.external "w" offset = 2048 strides = [16, 1] name = "down" : tensor<16x10xi8>
// CHECK: %[[S2:.*]] = skim.external "w" offset = 4096 name = "downs" : tensor<16x2xf32>
// CHECK: %[[Z2:.*]] = skim.external "w" offset = 4224 name = "downz" : tensor<16x1xi8>
// CHECK: skim.assemble %[[C2]], %[[S2]], %[[Z2]] {{.*}} to tensor<16x20xf32, #skim.uniform<bits = 4, group = 16, asymmetric, scale = f32>>
// CHECK: skim.linear %{{.*}}, %[[W]] {layer = "lm_head"
!f = tensor<*xf32>
!i = tensor<*xi64>
!b = tensor<*xi1>
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"})
    -> (!f {onnx.name = "logits"}) {
  %codes = skim.external "w" offset = 0 name = "codes" : tensor<64x1x8xui8>
  %scales = skim.external "w" offset = 512 name = "scales" : tensor<64x1xf32>
  %two = arith.constant dense<[64, 8]> : tensor<2xi64>
  %flat = onnx.node "Reshape"(%codes, %two) : (tensor<64x1x8xui8>, tensor<2xi64>) -> tensor<*xui8>
  %x = onnx.node "GatherBlockQuantized"(%flat, %ids, %scales) {domain = "com.microsoft", node_attributes = {bits = 4 : i64, block_size = 16 : i64, gather_axis = 0 : i64, quantize_axis = 1 : i64}} : (tensor<*xui8>, tensor<?x?xi64>, tensor<64x1xf32>) -> !f
  %shape = arith.constant dense<[0, 0, 1, 16]> : tensor<4xi64>
  %x4 = onnx.node "Reshape"(%x, %shape) : (!f, tensor<4xi64>) -> !f
  %xt = onnx.node "Transpose"(%x4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %none = onnx.none
  %a = onnx.node "Attention"(%xt, %xt, %xt, %none) {node_attributes = {is_causal = 1 : i64}} : (!f, !f, !f, none) -> !f
  %back = arith.constant dense<[0, 0, 16]> : tensor<3xi64>
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!f) -> !f
  %ar = onnx.node "Reshape"(%at, %back) : (!f, tensor<3xi64>) -> !f
  %wu = skim.external "w" offset = 6000 name = "up" : tensor<16x20xf32>
  %u = onnx.node "MatMul"(%ar, %wu) : (!f, tensor<16x20xf32>) -> !f
  %down = skim.external "w" offset = 2048 name = "down" : tensor<16x2x8xui8>
  %downs = skim.external "w" offset = 4096 name = "downs" : tensor<32xf32>
  %downz = skim.external "w" offset = 4224 name = "downz" : tensor<16xui8>
  %d = onnx.node "MatMulNBits"(%u, %down, %downs, %downz) {domain = "com.microsoft", node_attributes = {K = 20 : i64, N = 16 : i64, bits = 4 : i64, block_size = 16 : i64}} : (!f, tensor<16x2x8xui8>, tensor<32xf32>, tensor<16xui8>) -> !f
  %l = onnx.node "MatMulNBits"(%d, %codes, %scales) {domain = "com.microsoft", node_attributes = {K = 16 : i64, N = 64 : i64, bits = 4 : i64, block_size = 16 : i64}} : (!f, tensor<64x1x8xui8>, tensor<64x1xf32>) -> !f
  return %l : !f
}
