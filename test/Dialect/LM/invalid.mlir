// RUN: skim-opt %s --split-input-file --verify-diagnostics

// Functions are named by the constraint in LMOps.td that they break.

func.func @rms_norm_c1_heads(%x: tensor<2x63xf32>, %w: tensor<63xf32>) {
  // expected-error @+1 {{expected channels that divide into 8 heads, got 'tensor<2x63xf32>'}}
  %0 = lm.rms_norm %x, %w {epsilon = 0.0 : f32, heads = 8 : i64} : tensor<2x63xf32>, tensor<63xf32>
  return
}

// -----

func.func @rms_norm_c1_dynamic(%x: tensor<2x?xf32>, %w: tensor<63xf32>) {
  // expected-error @+1 {{expected channels that divide into 1 heads, got 'tensor<2x?xf32>'}}
  %0 = lm.rms_norm %x, %w {epsilon = 0.0 : f32} : tensor<2x?xf32>, tensor<63xf32>
  return
}

// -----

func.func @rms_norm_c2_weight(%x: tensor<2x64xf32>, %w: tensor<32xf32>) {
  // expected-error @+1 {{expected a weight of 64 elements, got 'tensor<32xf32>'}}
  %0 = lm.rms_norm %x, %w {epsilon = 0.0 : f32} : tensor<2x64xf32>, tensor<32xf32>
  return
}

// -----

func.func @rms_norm_c3_epsilon(%x: tensor<2x64xf32>, %w: tensor<64xf32>) {
  // expected-error @+1 {{expected an epsilon of at least 0, got -1.000000e+00}}
  %0 = lm.rms_norm %x, %w {epsilon = -1.0 : f32} : tensor<2x64xf32>, tensor<64xf32>
  return
}

// -----

func.func @silu_integers(%x: tensor<2x64xi32>) {
  // expected-error @+1 {{operand #0 must be ranked tensor of}}
  %0 = lm.silu %x : tensor<2x64xi32>
  return
}

// -----

func.func @positions_c1_rank(%t: tensor<2x3x4xi32>, %s: tensor<2xi32>) {
  // expected-error @+1 {{operand #0 must be 2D tensor of}}
  %0 = lm.positions %t, %s : tensor<2x3x4xi32>, tensor<2xi32>
  return
}

// -----

func.func @positions_c2_batch(%t: tensor<2x3xi32>, %s: tensor<3xi32>) {
  // expected-error @+1 {{expected a batch of 2, got 3 in 'tensor<3xi32>'}}
  %0 = lm.positions %t, %s : tensor<2x3xi32>, tensor<3xi32>
  return
}

// -----

func.func @rotary_table_c1_shape(%p: tensor<2x3xi32>, %f: tensor<4xf32>) {
  // expected-error @+1 {{expected tables of shape 'tensor<2x3x4xf32>', got 'tensor<2x3x5xf32>'}}
  %0, %1 = lm.rotary_table %p, %f : tensor<2x3xi32>, tensor<4xf32> -> tensor<2x3x5xf32>
  return
}

// -----

func.func @rotary_c1_heads(%x: tensor<2x3x64xf32>, %t: tensor<2x3x4xf32>) {
  // expected-error @+1 {{expected channels that divide into 0 heads, got 'tensor<2x3x64xf32>'}}
  %0 = lm.rotary %x, %t, %t {heads = 0 : i64} : tensor<2x3x64xf32>, tensor<2x3x4xf32>
  return
}

// -----

func.func @rotary_c2_columns(%x: tensor<2x3x64xf32>, %t: tensor<2x3x5xf32>) {
  // expected-error @+1 {{expected tables of rank 3 and at most 4 columns, got 'tensor<2x3x5xf32>'}}
  %0 = lm.rotary %x, %t, %t {heads = 8 : i64} : tensor<2x3x64xf32>, tensor<2x3x5xf32>
  return
}

// -----

func.func @rotary_c3_tokens(%x: tensor<2x3x64xf32>, %t: tensor<2x4x4xf32>) {
  // expected-error @+1 {{expected tables of shape 'tensor<2x3x4xf32>', got 'tensor<2x4x4xf32>'}}
  %0 = lm.rotary %x, %t, %t {heads = 8 : i64} : tensor<2x3x64xf32>, tensor<2x4x4xf32>
  return
}

// -----

func.func @cache_append_c1_static(%x: tensor<?x?x32xf32>, %c: tensor<?x?x?x8xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected a cache [batch, heads, capacity, size] with static heads and size, got 'tensor<?x?x?x8xf32>'}}
  %0 = lm.cache_append %x, %c, %s, %s : tensor<?x?x32xf32>, tensor<?x?x?x8xf32>, tensor<?xi32>
  return
}

// -----

func.func @cache_append_c2_channels(%x: tensor<?x?x31xf32>, %c: tensor<?x4x?x8xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected 32 channels, got 'tensor<?x?x31xf32>'}}
  %0 = lm.cache_append %x, %c, %s, %s : tensor<?x?x31xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  return
}

// -----

func.func @cache_append_c3_batch(%x: tensor<2x?x32xf32>, %c: tensor<3x4x?x8xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected a batch of 3, got 2 in 'tensor<2x?x32xf32>'}}
  %0 = lm.cache_append %x, %c, %s, %s : tensor<2x?x32xf32>, tensor<3x4x?x8xf32>, tensor<?xi32>
  return
}

// -----

func.func @attention_c1_size(%q: tensor<?x?x64xf32>, %k: tensor<?x4x?x16xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected keys of head size 8, got 'tensor<?x4x?x16xf32>'}}
  %0 = lm.attention %q, %k, %k, %s {heads = 8 : i64, scale = 1.0 : f32}
     : tensor<?x?x64xf32>, tensor<?x4x?x16xf32>, tensor<?xi32> -> tensor<?x?x64xf32>
  return
}

// -----

func.func @attention_c2_values(%q: tensor<?x?x64xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x2x?x8xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected keys and values of equal heads and capacity, got 'tensor<?x4x?x8xf32>' and 'tensor<?x2x?x8xf32>'}}
  %0 = "lm.attention"(%q, %k, %v, %s) {heads = 8 : i64, scale = 1.0 : f32}
     : (tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?xi32>) -> tensor<?x?x64xf32>
  return
}

// -----

func.func @attention_c3_groups(%q: tensor<?x?x64xf32>, %k: tensor<?x3x?x8xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected a number of heads that is a multiple of the 3 key heads, got 8}}
  %0 = lm.attention %q, %k, %k, %s {heads = 8 : i64, scale = 1.0 : f32}
     : tensor<?x?x64xf32>, tensor<?x3x?x8xf32>, tensor<?xi32> -> tensor<?x?x64xf32>
  return
}

// -----

func.func @attention_c4_window(%q: tensor<?x?x64xf32>, %k: tensor<?x4x?x8xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected a positive window, got 0}}
  %0 = lm.attention %q, %k, %k, %s {heads = 8 : i64, scale = 1.0 : f32, window = 0 : i64}
     : tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x64xf32>
  return
}

// -----

func.func @attention_c4_softcap(%q: tensor<?x?x64xf32>, %k: tensor<?x4x?x8xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected a positive softcap, got -1.000000e+00}}
  %0 = lm.attention %q, %k, %k, %s {heads = 8 : i64, scale = 1.0 : f32, softcap = -1.0 : f32}
     : tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x64xf32>
  return
}

// -----

func.func @attention_c5_result(%q: tensor<?x?x64xf32>, %k: tensor<?x4x?x8xf32>, %s: tensor<?xi32>) {
  // expected-error @+1 {{expected a result of shape 'tensor<?x?x64xf32>', got 'tensor<?x?x32xf32>'}}
  %0 = lm.attention %q, %k, %k, %s {heads = 8 : i64, scale = 1.0 : f32}
     : tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x32xf32>
  return
}

// -----

func.func @attention_c6_batch(%q: tensor<2x?x64xf32>, %k: tensor<?x4x?x8xf32>, %s: tensor<3xi32>) {
  // expected-error @+1 {{expected a batch of 2, got 3 in 'tensor<3xi32>'}}
  %0 = lm.attention %q, %k, %k, %s {heads = 8 : i64, scale = 1.0 : f32}
     : tensor<2x?x64xf32>, tensor<?x4x?x8xf32>, tensor<3xi32> -> tensor<2x?x64xf32>
  return
}

// -----

func.func @gather_rows_c1_rank(%x: tensor<?x64xf32>, %r: tensor<?xi32>) {
  // expected-error @+1 {{operand #0 must be 3D tensor of}}
  %0 = lm.gather_rows %x, %r : tensor<?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  return
}

// -----

func.func @gather_rows_c2_shape(%x: tensor<?x?x64xf32>, %r: tensor<5xi32>) {
  // expected-error @+1 {{expected a result of shape 'tensor<5x64xf32>', got 'tensor<4x64xf32>'}}
  %0 = lm.gather_rows %x, %r : tensor<?x?x64xf32>, tensor<5xi32> -> tensor<4x64xf32>
  return
}

// -----

func.func @gather_rows_c2_elements(%x: tensor<?x?x64xf32>, %r: tensor<5xi32>) {
  // expected-error @+1 {{expected a result of 'f32', got 'tensor<5x64xf16>'}}
  %0 = lm.gather_rows %x, %r : tensor<?x?x64xf32>, tensor<5xi32> -> tensor<5x64xf16>
  return
}

// -----

func.func @cross_entropy_c1_targets(%x: tensor<4x512xf32>, %t: tensor<5xi32>) {
  // expected-error @+1 {{expected targets of shape 'tensor<4xi32>', got 'tensor<5xi32>'}}
  %0 = lm.cross_entropy %x, %t : tensor<4x512xf32>, tensor<5xi32> -> tensor<4xf32>
  return
}

// -----

func.func @cross_entropy_c2_result(%x: tensor<4x512xf32>, %t: tensor<4xi32>) {
  // expected-error @+1 {{expected a result of shape 'tensor<4xf32>', got 'tensor<5xf32>'}}
  %0 = lm.cross_entropy %x, %t : tensor<4x512xf32>, tensor<4xi32> -> tensor<5xf32>
  return
}
