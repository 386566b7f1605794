// A LLaMA of two layers: grouped queries everywhere; layer 1 has biases, 16-bit
// weights, a window, a soft cap and interleaved rotary embedding of half a head.
func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, %rows: tensor<?xi32>,
    %k0: tensor<?x2x?x8xf32> {skim.cache}, %v0: tensor<?x2x?x8xf32> {skim.cache}, %k1: tensor<?x2x?x8xf32> {skim.cache}, %v1: tensor<?x2x?x8xf32> {skim.cache})
    -> (tensor<?x57xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>)
    attributes {skim.context = 256 : i64} {
  %embed = skim.external "weights.bin" offset = 0 name = "model.embed_tokens.weight" : tensor<57x48xf32>
  %h0 = skim.embed %tokens, %embed : tensor<?x?xi32>, tensor<57x48xf32> -> tensor<?x?x48xf32>
  %p = lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>
  %f0 = arith.constant dense<[1.0, 0.1, 0.01, 0.001]> : tensor<4xf32>
  %f1 = arith.constant dense<[1.0, 0.01]> : tensor<2xf32>
  %cos0, %sin0 = lm.rotary_table %p, %f0 : tensor<?x?xi32>, tensor<4xf32> -> tensor<?x?x4xf32>
  %cos1, %sin1 = lm.rotary_table %p, %f1 {scale = 1.25 : f32} : tensor<?x?xi32>, tensor<2xf32> -> tensor<?x?x2xf32>
  %n0a = skim.external "weights.bin" offset = 10944 name = "model.layers.0.input_layernorm.weight" : tensor<48xf32>
  %x0 = lm.rms_norm %h0, %n0a {epsilon = 1.0e-5 : f32} : tensor<?x?x48xf32>, tensor<48xf32>
  %wq0 = skim.external "weights.bin" offset = 11136 name = "model.layers.0.self_attn.q_proj.weight" : tensor<48x48xf32>
  %q0 = skim.linear %x0, %wq0 {layer = "model.layers.0.self_attn.q_proj"} : tensor<?x?x48xf32>, tensor<48x48xf32> -> tensor<?x?x48xf32>
  %wkk0 = skim.external "weights.bin" offset = 20352 name = "model.layers.0.self_attn.k_proj.weight" : tensor<16x48xf32>
  %kk0 = skim.linear %x0, %wkk0 {layer = "model.layers.0.self_attn.k_proj"} : tensor<?x?x48xf32>, tensor<16x48xf32> -> tensor<?x?x16xf32>
  %wvv0 = skim.external "weights.bin" offset = 23424 name = "model.layers.0.self_attn.v_proj.weight" : tensor<16x48xf32>
  %vv0 = skim.linear %x0, %wvv0 {layer = "model.layers.0.self_attn.v_proj"} : tensor<?x?x48xf32>, tensor<16x48xf32> -> tensor<?x?x16xf32>
  %qr0 = lm.rotary %q0, %cos0, %sin0 {heads = 6 : i64} : tensor<?x?x48xf32>, tensor<?x?x4xf32>
  %kr0 = lm.rotary %kk0, %cos0, %sin0 {heads = 2 : i64} : tensor<?x?x16xf32>, tensor<?x?x4xf32>
  %ka0 = lm.cache_append %kr0, %k0, %start, %count : tensor<?x?x16xf32>, tensor<?x2x?x8xf32>, tensor<?xi32>
  %va0 = lm.cache_append %vv0, %v0, %start, %count : tensor<?x?x16xf32>, tensor<?x2x?x8xf32>, tensor<?xi32>
  %y0 = lm.attention %qr0, %ka0, %va0, %start {heads = 6 : i64, scale = 0.35355339 : f32}
      : tensor<?x?x48xf32>, tensor<?x2x?x8xf32>, tensor<?xi32> -> tensor<?x?x48xf32>
  %wo0 = skim.external "weights.bin" offset = 26496 name = "model.layers.0.self_attn.o_proj.weight" : tensor<48x48xf32>
  %o0 = skim.linear %y0, %wo0 {layer = "model.layers.0.self_attn.o_proj"} : tensor<?x?x48xf32>, tensor<48x48xf32> -> tensor<?x?x48xf32>
  %h0m = arith.addf %h0, %o0 : tensor<?x?x48xf32>
  %n0b = skim.external "weights.bin" offset = 35712 name = "model.layers.0.post_attention_layernorm.weight" : tensor<48xf32>
  %z0 = lm.rms_norm %h0m, %n0b {epsilon = 1.0e-5 : f32} : tensor<?x?x48xf32>, tensor<48xf32>
  %wg0 = skim.external "weights.bin" offset = 35904 name = "model.layers.0.mlp.gate_proj.weight" : tensor<84x48xf32>
  %g0 = skim.linear %z0, %wg0 {layer = "model.layers.0.mlp.gate_proj"} : tensor<?x?x48xf32>, tensor<84x48xf32> -> tensor<?x?x84xf32>
  %wu0 = skim.external "weights.bin" offset = 52032 name = "model.layers.0.mlp.up_proj.weight" : tensor<84x48xf32>
  %u0 = skim.linear %z0, %wu0 {layer = "model.layers.0.mlp.up_proj"} : tensor<?x?x48xf32>, tensor<84x48xf32> -> tensor<?x?x84xf32>
  %s0 = lm.silu %g0 : tensor<?x?x84xf32>
  %m0 = arith.mulf %s0, %u0 : tensor<?x?x84xf32>
  %wd0 = skim.external "weights.bin" offset = 68160 name = "model.layers.0.mlp.down_proj.weight" : tensor<48x84xf32>
  %d0 = skim.linear %m0, %wd0 {layer = "model.layers.0.mlp.down_proj"} : tensor<?x?x84xf32>, tensor<48x84xf32> -> tensor<?x?x48xf32>
  %h1 = arith.addf %h0m, %d0 : tensor<?x?x48xf32>
  %n1a = skim.external "weights.bin" offset = 84288 name = "model.layers.1.input_layernorm.weight" : tensor<48xf32>
  %x1 = lm.rms_norm %h1, %n1a {epsilon = 1.0e-5 : f32} : tensor<?x?x48xf32>, tensor<48xf32>
  %wq1 = skim.external "weights.bin" offset = 84480 name = "model.layers.1.self_attn.q_proj.weight" : tensor<48x48xf16>
  %bq1 = skim.external "weights.bin" offset = 89088 name = "model.layers.1.self_attn.q_proj.bias" : tensor<48xf32>
  %q1 = skim.linear %x1, %wq1 bias %bq1 {layer = "model.layers.1.self_attn.q_proj"} : tensor<?x?x48xf32>, tensor<48x48xf16> -> tensor<?x?x48xf32>
  %wkk1 = skim.external "weights.bin" offset = 89280 name = "model.layers.1.self_attn.k_proj.weight" : tensor<16x48xf16>
  %bkk1 = skim.external "weights.bin" offset = 90816 name = "model.layers.1.self_attn.k_proj.bias" : tensor<16xf32>
  %kk1 = skim.linear %x1, %wkk1 bias %bkk1 {layer = "model.layers.1.self_attn.k_proj"} : tensor<?x?x48xf32>, tensor<16x48xf16> -> tensor<?x?x16xf32>
  %wvv1 = skim.external "weights.bin" offset = 90880 name = "model.layers.1.self_attn.v_proj.weight" : tensor<16x48xf16>
  %bvv1 = skim.external "weights.bin" offset = 92416 name = "model.layers.1.self_attn.v_proj.bias" : tensor<16xf32>
  %vv1 = skim.linear %x1, %wvv1 bias %bvv1 {layer = "model.layers.1.self_attn.v_proj"} : tensor<?x?x48xf32>, tensor<16x48xf16> -> tensor<?x?x16xf32>
  %nq = skim.external "weights.bin" offset = 92480 name = "model.layers.1.self_attn.q_norm.weight" : tensor<8xf32>
  %qn = lm.rms_norm %q1, %nq {epsilon = 1.0e-6 : f32, offset = 1.0 : f32, heads = 6 : i64} : tensor<?x?x48xf32>, tensor<8xf32>
  %qr1 = lm.rotary %qn, %cos1, %sin1 {heads = 6 : i64, interleaved} : tensor<?x?x48xf32>, tensor<?x?x2xf32>
  %kr1 = lm.rotary %kk1, %cos1, %sin1 {heads = 2 : i64, interleaved} : tensor<?x?x16xf32>, tensor<?x?x2xf32>
  %ka1 = lm.cache_append %kr1, %k1, %start, %count : tensor<?x?x16xf32>, tensor<?x2x?x8xf32>, tensor<?xi32>
  %va1 = lm.cache_append %vv1, %v1, %start, %count : tensor<?x?x16xf32>, tensor<?x2x?x8xf32>, tensor<?xi32>
  %y1 = lm.attention %qr1, %ka1, %va1, %start {heads = 6 : i64, scale = 0.35355339 : f32, window = 11 : i64, softcap = 3.0 : f32}
      : tensor<?x?x48xf32>, tensor<?x2x?x8xf32>, tensor<?xi32> -> tensor<?x?x48xf32>
  %wo1 = skim.external "weights.bin" offset = 92544 name = "model.layers.1.self_attn.o_proj.weight" : tensor<48x48xf16>
  %o1 = skim.linear %y1, %wo1 {layer = "model.layers.1.self_attn.o_proj"} : tensor<?x?x48xf32>, tensor<48x48xf16> -> tensor<?x?x48xf32>
  %h1m = arith.addf %h1, %o1 : tensor<?x?x48xf32>
  %n1b = skim.external "weights.bin" offset = 97152 name = "model.layers.1.post_attention_layernorm.weight" : tensor<48xf32>
  %z1 = lm.rms_norm %h1m, %n1b {epsilon = 1.0e-5 : f32} : tensor<?x?x48xf32>, tensor<48xf32>
  %wg1 = skim.external "weights.bin" offset = 97344 name = "model.layers.1.mlp.gate_proj.weight" : tensor<84x48xf16>
  %g1 = skim.linear %z1, %wg1 {layer = "model.layers.1.mlp.gate_proj"} : tensor<?x?x48xf32>, tensor<84x48xf16> -> tensor<?x?x84xf32>
  %wu1 = skim.external "weights.bin" offset = 105408 name = "model.layers.1.mlp.up_proj.weight" : tensor<84x48xf16>
  %u1 = skim.linear %z1, %wu1 {layer = "model.layers.1.mlp.up_proj"} : tensor<?x?x48xf32>, tensor<84x48xf16> -> tensor<?x?x84xf32>
  %s1 = lm.silu %g1 : tensor<?x?x84xf32>
  %m1 = arith.mulf %s1, %u1 : tensor<?x?x84xf32>
  %wd1 = skim.external "weights.bin" offset = 113472 name = "model.layers.1.mlp.down_proj.weight" : tensor<48x84xf16>
  %d1 = skim.linear %m1, %wd1 {layer = "model.layers.1.mlp.down_proj"} : tensor<?x?x84xf32>, tensor<48x84xf16> -> tensor<?x?x48xf32>
  %h2 = arith.addf %h1m, %d1 : tensor<?x?x48xf32>
  %last = lm.gather_rows %h2, %rows : tensor<?x?x48xf32>, tensor<?xi32> -> tensor<?x48xf32>
  %nf = skim.external "weights.bin" offset = 121536 name = "model.norm.weight" : tensor<48xf32>
  %xf = lm.rms_norm %last, %nf {epsilon = 1.0e-5 : f32} : tensor<?x48xf32>, tensor<48xf32>
  %logits = skim.linear %xf, %embed {layer = "lm_head"} : tensor<?x48xf32>, tensor<57x48xf32> -> tensor<?x57xf32>
  return %logits, %ka0, %va0, %ka1, %va1 : tensor<?x57xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>
}
