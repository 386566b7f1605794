// RUN: skim-opt %s --skim-outline-blocks --split-input-file --verify-diagnostics | FileCheck %s

// Two equal blocks are one function; what they read of positions is in it. The head ends in the loss.
// CHECK-LABEL: func.func @block0(
// CHECK-SAME: %[[H:[a-z0-9]*]]: tensor<1x?x8xf32>, %[[TOKENS:[a-z0-9]*]]: tensor<1x?xi32>, %[[F:[a-z0-9]*]]: tensor<2xf32>, %[[WQ:[a-z0-9]*]]: tensor<8x8xf32>, %[[WK:[a-z0-9]*]]: tensor<4x8xf32>) -> tensor<1x?x8xf32>
// CHECK: %[[START:.*]] = arith.constant dense<0> : tensor<1xi32>
// CHECK: lm.positions %[[TOKENS]], %[[START]]
// CHECK: %[[Q:.*]] = skim.linear %[[H]], %[[WQ]] {layer = "model.layers.0.self_attn.q_proj"}
// CHECK: skim.linear %[[H]], %[[WK]]
// CHECK: linalg.transpose {{.*}} permutation = [0, 2, 1, 3]
// CHECK-NOT: lm.cache_append
// CHECK: lm.attention {{.*}} tensor<1x1x?x4xf32>, tensor<1xi32> -> tensor<1x?x8xf32>
// CHECK: return
// CHECK-NOT: @block1
// CHECK-LABEL: func.func @head(
// CHECK-SAME: tensor<1x?x8xf32>, %[[TARGETS:[a-z0-9]*]]: tensor<?xi32>, %{{.*}}: tensor<16x8xf32>) -> tensor<?xf32>
// CHECK: tensor.collapse_shape {{.*}} tensor<1x?x8xf32> into tensor<?x8xf32>
// CHECK: lm.cross_entropy %{{.*}}, %[[TARGETS]]
// CHECK-LABEL: func.func @forward(
// CHECK-SAME: %[[TOKENS:[a-z0-9]*]]: tensor<1x?xi32>, %[[TARGETS:[a-z0-9]*]]: tensor<?xi32>) -> tensor<?xf32>
// CHECK: %[[E:.*]] = skim.embed %[[TOKENS]]
// CHECK: %[[W:.*]] = skim.external "w" offset = 512 : tensor<8x8xf16>
// CHECK: %[[PLAIN:.*]] = skim.convert %[[W]] : tensor<8x8xf16> to tensor<8x8xf32>
// CHECK: %[[H1:.*]] = call @block0(%[[E]], %[[TOKENS]], %{{.*}}, %[[PLAIN]], %{{.*}}) {skim.layers = ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"]}
// CHECK: %[[H2:.*]] = call @block0(%[[H1]], %[[TOKENS]], {{.*}}) {skim.layers = ["model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj"]}
// CHECK: %[[LOSS:.*]] = call @head(%[[H2]], %[[TARGETS]], {{.*}}) {skim.layers = ["lm_head"]}
// CHECK: return %[[LOSS]]
func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, %rows: tensor<?xi32>,
                   %k0: tensor<?x1x?x4xf32> {skim.cache}, %k1: tensor<?x1x?x4xf32> {skim.cache})
    -> (tensor<?x16xf32>, tensor<?x1x?x4xf32>, tensor<?x1x?x4xf32>) {
  %table = skim.external "w" offset = 0 : tensor<16x8xf32>
  %h0 = skim.embed %tokens, %table : tensor<?x?xi32>, tensor<16x8xf32> -> tensor<?x?x8xf32>
  %wq0 = skim.external "w" offset = 512 : tensor<8x8xf16>
  %q0 = skim.linear %h0, %wq0 {layer = "model.layers.0.self_attn.q_proj"} : tensor<?x?x8xf32>, tensor<8x8xf16> -> tensor<?x?x8xf32>
  %p = lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>
  %f = arith.constant dense<[1.0, 0.1]> : tensor<2xf32>
  %cos, %sin = lm.rotary_table %p, %f : tensor<?x?xi32>, tensor<2xf32> -> tensor<?x?x2xf32>
  %r0 = lm.rotary %q0, %cos, %sin {heads = 2 : i64} : tensor<?x?x8xf32>, tensor<?x?x2xf32>
  %wk0 = skim.external "w" offset = 768 : tensor<4x8xf32>
  %n0 = skim.linear %h0, %wk0 {layer = "model.layers.0.self_attn.k_proj"} : tensor<?x?x8xf32>, tensor<4x8xf32> -> tensor<?x?x4xf32>
  %c0 = lm.cache_append %n0, %k0, %start, %count : tensor<?x?x4xf32>, tensor<?x1x?x4xf32>, tensor<?xi32>
  %a0 = lm.attention %r0, %c0, %c0, %start {heads = 2 : i64, scale = 0.5 : f32} : tensor<?x?x8xf32>, tensor<?x1x?x4xf32>, tensor<?xi32> -> tensor<?x?x8xf32>
  %h1 = arith.addf %h0, %a0 : tensor<?x?x8xf32>
  %wq1 = skim.external "w" offset = 1024 : tensor<8x8xf16>
  %q1 = skim.linear %h1, %wq1 {layer = "model.layers.1.self_attn.q_proj"} : tensor<?x?x8xf32>, tensor<8x8xf16> -> tensor<?x?x8xf32>
  %r1 = lm.rotary %q1, %cos, %sin {heads = 2 : i64} : tensor<?x?x8xf32>, tensor<?x?x2xf32>
  %wk1 = skim.external "w" offset = 1280 : tensor<4x8xf32>
  %n1 = skim.linear %h1, %wk1 {layer = "model.layers.1.self_attn.k_proj"} : tensor<?x?x8xf32>, tensor<4x8xf32> -> tensor<?x?x4xf32>
  %c1 = lm.cache_append %n1, %k1, %start, %count : tensor<?x?x4xf32>, tensor<?x1x?x4xf32>, tensor<?xi32>
  %a1 = lm.attention %r1, %c1, %c1, %start {heads = 2 : i64, scale = 0.5 : f32} : tensor<?x?x8xf32>, tensor<?x1x?x4xf32>, tensor<?xi32> -> tensor<?x?x8xf32>
  %h2 = arith.addf %h1, %a1 : tensor<?x?x8xf32>
  %g = lm.gather_rows %h2, %rows : tensor<?x?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  %y = skim.linear %g, %table {layer = "lm_head"} : tensor<?x8xf32>, tensor<16x8xf32> -> tensor<?x16xf32>
  return %y, %c0, %c1 : tensor<?x16xf32>, tensor<?x1x?x4xf32>, tensor<?x1x?x4xf32>
}

// -----

// A value of the first block that the second reads leaves no place to cut.
func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x8xf32> {
  %w = skim.external "w" offset = 0 : tensor<8x8xf32>
  %h0 = skim.embed %tokens, %w : tensor<?x?xi32>, tensor<8x8xf32> -> tensor<?x?x8xf32>
  // expected-error @+1 {{expected one tensor alive behind decoder block 0}}
  %a = skim.linear %h0, %w {layer = "layers.0.a"} : tensor<?x?x8xf32>, tensor<8x8xf32> -> tensor<?x?x8xf32>
  %b = skim.linear %a, %w {layer = "layers.1.a"} : tensor<?x?x8xf32>, tensor<8x8xf32> -> tensor<?x?x8xf32>
  %c = arith.addf %h0, %b : tensor<?x?x8xf32>
  %d = arith.addf %c, %a : tensor<?x?x8xf32>
  %g = lm.gather_rows %d, %rows : tensor<?x?x8xf32>, tensor<?xi32> -> tensor<?x8xf32>
  return %g : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{expected a model's function (tokens, start, count, rows, caches...) -> logits}}
func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  return %x : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{expected a function 'forward' to outline, got none}}
module {
}
