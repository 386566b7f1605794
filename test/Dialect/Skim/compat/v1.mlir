// What v1.mlirbc holds: every encoding and operation of version 1. That file is
// never written again; a new version gets a file of its own.
//
// RUN: skim-opt %S/v1.mlirbc -o %t.read.mlir
// RUN: skim-opt %s -o %t.text.mlir
// RUN: diff %t.read.mlir %t.text.mlir
//
// It loads through the plugin too.
// RUN: mlir-opt --load-dialect-plugin=%skim_plugin %S/v1.mlirbc | diff - %t.text.mlir

func.func private @dense_f16(tensor<48x64xf16, #skim.dense<f16>>)
func.func private @dense_bf16(tensor<48x64xf16, #skim.dense<bf16>>)
func.func private @dense_f32(tensor<48x64xf32, #skim.dense<f32>>)

func.func private @uniform(tensor<48x64xf16, #skim.uniform<bits = 4>>)
func.func private @uniform_group(tensor<48x64xf16, #skim.uniform<bits = 4, group = 128>>)
func.func private @uniform_asymmetric(tensor<48x64xf16, #skim.uniform<bits = 4, group = 128, asymmetric>>)
func.func private @uniform_any_order(tensor<48x64xf16, #skim.uniform<asymmetric, group = 128, bits = 4>>)
func.func private @uniform_zero(tensor<48x64xf16, #skim.uniform<bits = 2, group = 16, asymmetric, zero = f16, scale = f32>>)

func.func private @codebook(tensor<48x64xf16, #skim.codebook<bits = 3>>)
func.func private @codebook_default(tensor<48x64xf16, #skim.codebook<bits = 3, table = f16, scope = row>>)
func.func private @codebook_i8(tensor<48x64xf16, #skim.codebook<bits = 3, table = i8>>)
func.func private @codebook_tensor(tensor<48x64xf16, #skim.codebook<bits = 8, table = bf16, scope = tensor>>)

func.func private @block_float(tensor<48x64xf16, #skim.block_float<bits = 4, block = 16>>)
func.func private @block_float_default(tensor<48x64xf16, #skim.block_float<bits = 4, element = int>>)
func.func private @block_float_ocp(tensor<48x64xf16, #skim.block_float<bits = 8, block = 32, element = ocp_int>>)
func.func private @block_float_e2m1(tensor<48x64xf16, #skim.block_float<bits = 4, block = 32, element = e2m1>>)
func.func private @block_float_activation(tensor<?x?x64xf32, #skim.block_float<bits = 8, block = 16>>)

func.func private @planes(tensor<48x64xf16, #skim.planes<bits = 2>>)
func.func private @planes_default(tensor<48x64xf16, #skim.planes<bits = 2, levels = 4>>)
func.func private @planes_balance(tensor<48x64xf16, #skim.planes<bits = 2, levels = 5>>)
func.func private @planes_group(tensor<48x64xf16, #skim.planes<bits = 3, levels = 9, group = 32>>)

#k2 = #skim.codebook<bits = 2>
func.func private @rows(tensor<48x64xf16, #skim.rows<[#k2 : 16, #skim.codebook<bits = 3> : 32]>>)
func.func private @rows_mixed(tensor<3x64xf16, #skim.rows< [ #skim.uniform<bits = 4, group = 32, asymmetric>:1 , #skim.dense<f16>  : 2 ] >>)

func.func private @scaled(tensor<48x64xf16, #skim.scaled<#skim.codebook<bits = 3>>>)
func.func private @skim(tensor<48x64xf16, #skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>>>)
func.func private @l2qer(tensor<48x64xf16, #skim.low_rank<#skim.block_float<bits = 4, block = 16>, rank = 32, factors = #skim.block_float<bits = 8, block = 16>>>)
func.func private @abq(tensor<48x64xf16, #skim.scaled<#skim.planes<bits = 2, levels = 5>>>)
func.func private @all(tensor<48x64xf16, #skim.low_rank<#skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3, table = i8> : 32]>>, rank = 4, factors = #skim.uniform<bits = 8>>>)

func.func private @per_token(tensor<?x?x64xf32, #skim.per_token<bits = 8>>)
func.func private @per_token_cache(tensor<?x4x?x8xf32, #skim.per_token<bits = 4, asymmetric>>)

func.func @operations(%x: tensor<?x?x64xf32>, %codes: tensor<48x24xi8>, %table: tensor<48x8xf16>,
                      %bias: tensor<48xf32>, %ids: tensor<?x?xi64>) -> tensor<?x?x48xf32> {
  %0 = skim.external "model.onnx.data" offset = 4096 : tensor<64xf32>
  %1 = skim.external "m" offset = 8 strides = [1, 64] sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" name = "model.norm.weight" : tensor<64x2xf32>
  %w = skim.assemble %codes, %table : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #skim.codebook<bits = 3>>
  %2, %3 = skim.disassemble %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x24xi8>, tensor<48x8xf16>
  %d = skim.convert %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x64xf32>
  skim.observe %x {layer = "model.layers.0.mlp.up_proj"} : tensor<?x?x64xf32>
  %e = skim.embed %ids, %w {layer = "model.embed_tokens"} : tensor<?x?xi64>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x?x64xf32>
  %y = skim.linear %e, %w bias %bias {layer = "a", onnx_name = "b", mode = "f32"} : tensor<?x?x64xf32>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x?x48xf32>
  %z = skim.linear %x, %d : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}

func.func @norms(%x: tensor<?x?x64xf32>, %w: tensor<64xf32>, %part: tensor<8xf32>) -> tensor<?x?x64xf32> {
  %0 = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32} : tensor<?x?x64xf32>, tensor<64xf32>
  %1 = lm.rms_norm %0, %part {epsilon = 0.0 : f32, offset = 1.0 : f32, heads = 8 : i64} : tensor<?x?x64xf32>, tensor<8xf32>
  %2 = lm.silu %1 : tensor<?x?x64xf32>
  return %2 : tensor<?x?x64xf32>
}

func.func @attention(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, %f: tensor<4xf32>,
                     %q: tensor<?x?x64xf32>, %k: tensor<?x?x32xf32>, %k0: tensor<?x4x?x8xf32>,
                     %v0: tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>) -> tensor<?x?x64xf32> {
  %p = lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>
  %cos, %sin = lm.rotary_table %p, %f {scale = 2.0 : f32} : tensor<?x?xi32>, tensor<4xf32> -> tensor<?x?x4xf32>
  %q1 = lm.rotary %q, %cos, %sin {heads = 8 : i64} : tensor<?x?x64xf32>, tensor<?x?x4xf32>
  %k1 = lm.rotary %k, %cos, %sin {heads = 4 : i64, interleaved} : tensor<?x?x32xf32>, tensor<?x?x4xf32>
  %k2 = lm.cache_append %k1, %k0, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  %v2 = lm.cache_append %k1, %v0, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>, tensor<?xi32>
  %y = lm.attention %q1, %k2, %k2, %start {heads = 8 : i64, scale = 0.25 : f32, window = 16 : i64, softcap = 50.0 : f32}
     : tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x64xf32>
  return %y : tensor<?x?x64xf32>
}

func.func @head(%x: tensor<?x?x64xf32>, %rows: tensor<?xi32>, %logits: tensor<?x512xf32>) -> tensor<?xf32> {
  %0 = lm.gather_rows %x, %rows : tensor<?x?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  %1 = lm.cross_entropy %logits, %rows : tensor<?x512xf32>, tensor<?xi32> -> tensor<?xf32>
  return %1 : tensor<?xf32>
}
