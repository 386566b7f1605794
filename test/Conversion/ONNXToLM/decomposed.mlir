// RUN: skim-opt %s --convert-onnx-to-lm | FileCheck %s

// A decoder as TorchScript writes it: everything small operators, weights [K, N],
// casts around the norm, rotary by slices, keys and values behind a cache and
// repeated for the groups of queries.

// CHECK: module attributes {skim.model = {context = 8192 : i64, head_dim = 2 : i64, heads = 2 : i64, hidden = 4 : i64, kv_heads = 1 : i64, layers = 1 : i64, source = "", vocab = 8 : i64}}
// CHECK-LABEL: func.func @forward
// CHECK-SAME: (%[[TOKENS:.*]]: tensor<?x?xi32>, %[[START:.*]]: tensor<?xi32>, %[[COUNT:.*]]: tensor<?xi32>, %[[ROWS:.*]]: tensor<?xi32>, %[[K0:.*]]: tensor<?x1x?x2xf32> {skim.cache}, %[[V0:.*]]: tensor<?x1x?x2xf32> {skim.cache}) -> (tensor<?x8xf32>, tensor<?x1x?x2xf32>, tensor<?x1x?x2xf32>)
// CHECK: %[[TABLE:.*]] = skim.external "w" offset = 0 name = "embed" : tensor<8x4xf16>
// CHECK: %[[X:.*]] = skim.embed %[[TOKENS]], %[[TABLE]] {layer = "model.embed_tokens"}
// CHECK: %[[NW:.*]] = arith.constant dense<[1.000000e+00, 2.000000e+00, 3.000000e+00, 4.000000e+00]> : tensor<4xf16>
// CHECK: %[[N:.*]] = lm.rms_norm %[[X]], %[[NW]] {epsilon = 9.99999974E-6 : f32}
// CHECK: %[[WQ:.*]] = skim.external "w" offset = 128 strides = [1, 4] name = "q" : tensor<4x4xf16>
// CHECK: %[[Q:.*]] = skim.linear %[[N]], %[[WQ]] {layer = "model.layers.0.self_attn.q_proj", onnx_name = "/model/layers.0/self_attn/q_proj/MatMul"}
// CHECK: %[[P:.*]] = lm.positions %[[TOKENS]], %[[START]]
// CHECK: %[[F:.*]] = arith.constant dense<5.000000e-01> : tensor<1xf32>
// CHECK: %[[COS:.*]], %[[SIN:.*]] = lm.rotary_table %[[P]], %[[F]]
// CHECK: %[[QR:.*]] = lm.rotary %[[Q]], %[[COS]], %[[SIN]] {heads = 2 : i64}
// CHECK: %[[K:.*]] = skim.linear %[[N]], %{{.*}} {layer = "model.layers.0.self_attn.k_proj"
// CHECK: %[[KR:.*]] = lm.rotary %[[K]], %[[COS]], %[[SIN]] {heads = 1 : i64}
// CHECK: %[[KC:.*]] = lm.cache_append %[[KR]], %[[K0]], %[[START]], %[[COUNT]]
// CHECK: %[[V:.*]] = skim.linear %[[N]], %{{.*}} {layer = "model.layers.0.self_attn.v_proj"}
// CHECK: %[[VC:.*]] = lm.cache_append %[[V]], %[[V0]], %[[START]], %[[COUNT]]
// CHECK: %[[A:.*]] = lm.attention %[[QR]], %[[KC]], %[[VC]], %[[START]] {heads = 2 : i64, scale = 0.707106769 : f32}
// CHECK: %[[O:.*]] = skim.linear %[[A]], %{{.*}} {layer = "model.layers.0.self_attn.o_proj"}
// CHECK: %[[H:.*]] = arith.addf %[[X]], %[[O]]
// CHECK: %[[G:.*]] = skim.linear %[[H]], %{{.*}} {layer = "model.layers.0.mlp.gate_proj"}
// CHECK: %[[S:.*]] = lm.silu %[[G]]
// CHECK: %[[U:.*]] = skim.linear %[[H]], %{{.*}} {layer = "model.layers.0.mlp.up_proj"}
// CHECK: %[[M:.*]] = arith.mulf %[[S]], %[[U]]
// CHECK: %[[D:.*]] = skim.linear %[[M]], %{{.*}} {layer = "model.layers.0.mlp.down_proj"}
// CHECK: %[[R:.*]] = arith.addf %[[H]], %[[D]]
// CHECK: %[[L:.*]] = lm.gather_rows %[[R]], %[[ROWS]]
// CHECK: %[[Y:.*]] = skim.linear %[[L]], %{{.*}} {layer = "lm_head"}
// CHECK: return %[[Y]], %[[KC]], %[[VC]]
!f = tensor<*xf32>
!h = tensor<*xf16>
!i = tensor<*xi64>
!b = tensor<*xi1>
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids"}, %am: tensor<?x?xi64> {onnx.name = "attention_mask"},
                %pos: tensor<?x?xi64> {onnx.name = "position_ids"},
                %pk: tensor<?x1x?x2xf16> {onnx.name = "past_key_values.0.key"},
                %pv: tensor<?x1x?x2xf16> {onnx.name = "past_key_values.0.value"})
    -> (!h {onnx.name = "logits"}, !h {onnx.name = "present.0.key"}, !h {onnx.name = "present.0.value"}) {
  %table = skim.external "w" offset = 0 name = "embed" : tensor<8x4xf16>
  %wq = skim.external "w" offset = 128 name = "q" : tensor<4x4xf16>
  %wk = skim.external "w" offset = 192 name = "k" : tensor<4x2xf16>
  %wv = skim.external "w" offset = 224 name = "v" : tensor<4x2xf16>
  %wo = skim.external "w" offset = 256 name = "o" : tensor<4x4xf16>
  %wg = skim.external "w" offset = 320 name = "gate" : tensor<4x6xf16>
  %wu = skim.external "w" offset = 420 name = "up" : tensor<4x6xf16>
  %wd = skim.external "w" offset = 520 name = "down" : tensor<6x4xf16>
  %wh = skim.external "w" offset = 720 name = "head" : tensor<4x8xf16>
  %nw = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf16>

  %x = onnx.node "Gather"(%table, %ids) {node_attributes = {axis = 0 : i64}} : (tensor<8x4xf16>, tensor<?x?xi64>) -> !h
  // x · 1 / sqrt(mean(x²) + ε) in f32, then · w in f16.
  %two = arith.constant dense<2.0> : tensor<f32>
  %one = arith.constant dense<1.0> : tensor<f32>
  %eps = arith.constant dense<1.0e-5> : tensor<f32>
  %xf = onnx.node "Cast"(%x) : (!h) -> !f
  %sq = onnx.node "Pow"(%xf, %two) : (!f, tensor<f32>) -> !f
  %mean = onnx.node "ReduceMean"(%sq) {node_attributes = {axes = array<i64: 2>, keepdims = 1 : i64}} : (!f) -> !f
  %var = onnx.node "Add"(%mean, %eps) : (!f, tensor<f32>) -> !f
  %root = onnx.node "Sqrt"(%var) : (!f) -> !f
  %inv = onnx.node "Div"(%one, %root) : (tensor<f32>, !f) -> !f
  %scaled = onnx.node "Mul"(%xf, %inv) : (!f, !f) -> !f
  %half = onnx.node "Cast"(%scaled) : (!f) -> !h
  %norm = onnx.node "Mul"(%nw, %half) : (tensor<4xf16>, !h) -> !h

  // Sizes from the graph's own tensors.
  %c0 = arith.constant dense<0> : tensor<i64>
  %c1 = arith.constant dense<1> : tensor<i64>
  %c2 = arith.constant dense<2> : tensor<i64>
  %v2 = arith.constant dense<2> : tensor<1xi64>
  %v1 = arith.constant dense<1> : tensor<1xi64>
  %vm = arith.constant dense<-1> : tensor<1xi64>
  %xs = onnx.node "Shape"(%x) : (!h) -> !i
  %b0 = onnx.node "Gather"(%xs, %c0) {node_attributes = {axis = 0 : i64}} : (!i, tensor<i64>) -> !i
  %b = onnx.node "Unsqueeze"(%b0) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %s0 = onnx.node "Gather"(%xs, %c1) {node_attributes = {axis = 0 : i64}} : (!i, tensor<i64>) -> !i
  %s = onnx.node "Unsqueeze"(%s0) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %qshape = onnx.node "Concat"(%b, %s, %vm, %v2) {node_attributes = {axis = 0 : i64}} : (!i, !i, tensor<1xi64>, tensor<1xi64>) -> !i

  %q = onnx.node "MatMul"(%norm, %wq) {node_name = "/model/layers.0/self_attn/q_proj/MatMul"} : (!h, tensor<4x4xf16>) -> !h
  %k = onnx.node "MatMul"(%norm, %wk) : (!h, tensor<4x2xf16>) -> !h
  %v = onnx.node "MatMul"(%norm, %wv) : (!h, tensor<4x2xf16>) -> !h
  %q4 = onnx.node "Reshape"(%q, %qshape) : (!h, !i) -> !h
  %k4 = onnx.node "Reshape"(%k, %qshape) : (!h, !i) -> !h
  %v4 = onnx.node "Reshape"(%v, %qshape) : (!h, !i) -> !h
  %qt = onnx.node "Transpose"(%q4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!h) -> !h
  %kt = onnx.node "Transpose"(%k4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!h) -> !h
  %vt = onnx.node "Transpose"(%v4) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!h) -> !h

  // cos and sin of position · frequency, twice along the channels.
  %freq = arith.constant dense<0.5> : tensor<1x1x1xf32>
  %p3 = onnx.node "Unsqueeze"(%pos) {node_attributes = {axes = array<i64: 2>}} : (tensor<?x?xi64>) -> !i
  %pf = onnx.node "Cast"(%p3) : (!i) -> !f
  %angle = onnx.node "MatMul"(%pf, %freq) : (!f, tensor<1x1x1xf32>) -> !f
  %angles = onnx.node "Concat"(%angle, %angle) {node_attributes = {axis = 2 : i64}} : (!f, !f) -> !f
  %cos0 = onnx.node "Cos"(%angles) : (!f) -> !f
  %sin0 = onnx.node "Sin"(%angles) : (!f) -> !f
  %cos = onnx.node "Unsqueeze"(%cos0) {node_attributes = {axes = array<i64: 1>}} : (!f) -> !f
  %sin = onnx.node "Unsqueeze"(%sin0) {node_attributes = {axes = array<i64: 1>}} : (!f) -> !f
  %s0v = arith.constant dense<0> : tensor<1xi64>
  %s1v = arith.constant dense<1> : tensor<1xi64>
  %s3v = arith.constant dense<3> : tensor<1xi64>
  %end = arith.constant dense<9223372036854775807> : tensor<1xi64>
  %qa = onnx.node "Slice"(%qt, %s0v, %s1v, %s3v) : (!h, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> !h
  %qb = onnx.node "Slice"(%qt, %s1v, %end, %s3v) : (!h, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> !h
  %qn = onnx.node "Neg"(%qb) : (!h) -> !h
  %qh = onnx.node "Concat"(%qn, %qa) {node_attributes = {axis = 3 : i64}} : (!h, !h) -> !h
  %qc = onnx.node "Mul"(%qt, %cos) : (!h, !f) -> !h
  %qs = onnx.node "Mul"(%qh, %sin) : (!h, !f) -> !h
  %qr = onnx.node "Add"(%qc, %qs) : (!h, !h) -> !h
  %ka = onnx.node "Slice"(%kt, %s0v, %s1v, %s3v) : (!h, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> !h
  %kb = onnx.node "Slice"(%kt, %s1v, %end, %s3v) : (!h, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> !h
  %kn = onnx.node "Neg"(%kb) : (!h) -> !h
  %kh = onnx.node "Concat"(%kn, %ka) {node_attributes = {axis = 3 : i64}} : (!h, !h) -> !h
  %kc = onnx.node "Mul"(%kt, %cos) : (!h, !f) -> !h
  %ks = onnx.node "Mul"(%kh, %sin) : (!h, !f) -> !h
  %kr = onnx.node "Add"(%kc, %ks) : (!h, !h) -> !h

  // The cache, and one head for each query.
  %kall = onnx.node "Concat"(%pk, %kr) {node_attributes = {axis = 2 : i64}} : (tensor<?x1x?x2xf16>, !h) -> !h
  %vall = onnx.node "Concat"(%pv, %vt) {node_attributes = {axis = 2 : i64}} : (tensor<?x1x?x2xf16>, !h) -> !h
  %ps = onnx.node "Shape"(%pk) : (tensor<?x1x?x2xf16>) -> !i
  %past = onnx.node "Gather"(%ps, %c2) {node_attributes = {axis = 0 : i64}} : (!i, tensor<i64>) -> !i
  %total = onnx.node "Add"(%past, %s0) : (!i, !i) -> !i
  %t = onnx.node "Unsqueeze"(%total) {node_attributes = {axes = array<i64: 0>}} : (!i) -> !i
  %five = onnx.node "Concat"(%b, %v1, %v2, %t, %v2) {node_attributes = {axis = 0 : i64}} : (!i, tensor<1xi64>, tensor<1xi64>, !i, tensor<1xi64>) -> !i
  %four = onnx.node "Concat"(%b, %v2, %t, %v2) {node_attributes = {axis = 0 : i64}} : (!i, tensor<1xi64>, !i, tensor<1xi64>) -> !i
  %k5 = onnx.node "Unsqueeze"(%kall) {node_attributes = {axes = array<i64: 2>}} : (!h) -> !h
  %ke = onnx.node "Expand"(%k5, %five) : (!h, !i) -> !h
  %krep = onnx.node "Reshape"(%ke, %four) : (!h, !i) -> !h
  %v5 = onnx.node "Unsqueeze"(%vall) {node_attributes = {axes = array<i64: 2>}} : (!h) -> !h
  %ve = onnx.node "Expand"(%v5, %five) : (!h, !i) -> !h
  %vrep = onnx.node "Reshape"(%ve, %four) : (!h, !i) -> !h

  // j <= past + i and attention_mask[b, j].
  %i0 = onnx.node "Range"(%c0, %s0, %c1) : (tensor<i64>, !i, tensor<i64>) -> !i
  %i1 = onnx.node "Add"(%i0, %past) : (!i, !i) -> !i
  %j0 = onnx.node "Range"(%c0, %total, %c1) : (tensor<i64>, !i, tensor<i64>) -> !i
  %i = onnx.node "Unsqueeze"(%i1) {node_attributes = {axes = array<i64: 0, 1, 3>}} : (!i) -> !i
  %j = onnx.node "Unsqueeze"(%j0) {node_attributes = {axes = array<i64: 0, 1, 2>}} : (!i) -> !i
  %causal = onnx.node "LessOrEqual"(%j, %i) : (!i, !i) -> !b
  %m4 = onnx.node "Unsqueeze"(%am) {node_attributes = {axes = array<i64: 1, 2>}} : (tensor<?x?xi64>) -> !i
  %mb = onnx.node "Cast"(%m4) : (!i) -> !b
  %both = onnx.node "And"(%causal, %mb) : (!b, !b) -> !b
  %h0 = arith.constant dense<0.0> : tensor<f16>
  %hmin = arith.constant dense<-6.5504e+04> : tensor<f16>
  %mask = onnx.node "Where"(%both, %h0, %hmin) : (!b, tensor<f16>, tensor<f16>) -> !h

  %kT = onnx.node "Transpose"(%krep) {node_attributes = {perm = array<i64: 0, 1, 3, 2>}} : (!h) -> !h
  %product = onnx.node "MatMul"(%qr, %kT) : (!h, !h) -> !h
  %factor = arith.constant dense<0.707106769> : tensor<f32>
  %sc = onnx.node "Mul"(%product, %factor) : (!h, tensor<f32>) -> !h
  %masked = onnx.node "Add"(%sc, %mask) : (!h, !h) -> !h
  %prob = onnx.node "Softmax"(%masked) {node_attributes = {axis = 3 : i64}} : (!h) -> !h
  %a = onnx.node "MatMul"(%prob, %vrep) : (!h, !h) -> !h
  %at = onnx.node "Transpose"(%a) {node_attributes = {perm = array<i64: 0, 2, 1, 3>}} : (!h) -> !h
  %as = onnx.node "Concat"(%b, %s, %vm) {node_attributes = {axis = 0 : i64}} : (!i, !i, tensor<1xi64>) -> !i
  %ar = onnx.node "Reshape"(%at, %as) : (!h, !i) -> !h
  %o = onnx.node "MatMul"(%ar, %wo) : (!h, tensor<4x4xf16>) -> !h
  %h = onnx.node "Add"(%x, %o) : (!h, !h) -> !h

  %gate = onnx.node "MatMul"(%h, %wg) : (!h, tensor<4x6xf16>) -> !h
  %sig = onnx.node "Sigmoid"(%gate) : (!h) -> !h
  %act = onnx.node "Mul"(%gate, %sig) : (!h, !h) -> !h
  %up = onnx.node "MatMul"(%h, %wu) : (!h, tensor<4x6xf16>) -> !h
  %mlp = onnx.node "Mul"(%up, %act) : (!h, !h) -> !h
  %down = onnx.node "MatMul"(%mlp, %wd) : (!h, tensor<6x4xf16>) -> !h
  %r = onnx.node "Add"(%down, %h) : (!h, !h) -> !h
  %l = onnx.node "MatMul"(%r, %wh) : (!h, tensor<4x8xf16>) -> !h
  return %l, %kall, %vall : !h, !h, !h
}
