// RUN: skim-opt %s | skim-opt | FileCheck %s
// RUN: skim-opt %s --mlir-print-op-generic | skim-opt | FileCheck %s
// RUN: skim-opt %s --emit-bytecode | skim-opt | FileCheck %s
// RUN: mlir-opt --load-dialect-plugin=%skim_plugin %s | FileCheck %s

// Every encoding, with defaults left out and every parameter given.

// CHECK: @dense_f16(tensor<48x64xf16, #skim.dense<f16>>)
func.func private @dense_f16(tensor<48x64xf16, #skim.dense<f16>>)
// CHECK: @dense_bf16(tensor<48x64xf16, #skim.dense<bf16>>)
func.func private @dense_bf16(tensor<48x64xf16, #skim.dense<bf16>>)
// CHECK: @dense_f32(tensor<48x64xf32, #skim.dense<f32>>)
func.func private @dense_f32(tensor<48x64xf32, #skim.dense<f32>>)

// CHECK: @uniform(tensor<48x64xf16, #skim.uniform<bits = 4>>)
func.func private @uniform(tensor<48x64xf16, #skim.uniform<bits = 4>>)
// CHECK: @uniform_group(tensor<48x64xf16, #skim.uniform<bits = 4, group = 128>>)
func.func private @uniform_group(tensor<48x64xf16, #skim.uniform<bits = 4, group = 128>>)
// CHECK: @uniform_asymmetric(tensor<48x64xf16, #skim.uniform<bits = 4, group = 128, asymmetric>>)
func.func private @uniform_asymmetric(tensor<48x64xf16, #skim.uniform<bits = 4, group = 128, asymmetric>>)
// CHECK: @uniform_any_order(tensor<48x64xf16, #skim.uniform<bits = 4, group = 128, asymmetric>>)
func.func private @uniform_any_order(tensor<48x64xf16, #skim.uniform<asymmetric, group = 128, bits = 4>>)
// CHECK: @uniform_zero(tensor<48x64xf16, #skim.uniform<bits = 2, group = 16, asymmetric, zero = f16, scale = f32>>)
func.func private @uniform_zero(tensor<48x64xf16, #skim.uniform<bits = 2, group = 16, asymmetric, zero = f16, scale = f32>>)

// CHECK: @codebook(tensor<48x64xf16, #skim.codebook<bits = 3>>)
func.func private @codebook(tensor<48x64xf16, #skim.codebook<bits = 3>>)
// CHECK: @codebook_default(tensor<48x64xf16, #skim.codebook<bits = 3>>)
func.func private @codebook_default(tensor<48x64xf16, #skim.codebook<bits = 3, table = f16, scope = row>>)
// CHECK: @codebook_i8(tensor<48x64xf16, #skim.codebook<bits = 3, table = i8>>)
func.func private @codebook_i8(tensor<48x64xf16, #skim.codebook<bits = 3, table = i8>>)
// CHECK: @codebook_tensor(tensor<48x64xf16, #skim.codebook<bits = 8, table = bf16, scope = tensor>>)
func.func private @codebook_tensor(tensor<48x64xf16, #skim.codebook<bits = 8, table = bf16, scope = tensor>>)

// CHECK: @block_float(tensor<48x64xf16, #skim.block_float<bits = 4, block = 16>>)
func.func private @block_float(tensor<48x64xf16, #skim.block_float<bits = 4, block = 16>>)
// CHECK: @block_float_default(tensor<48x64xf16, #skim.block_float<bits = 4, block = 16>>)
func.func private @block_float_default(tensor<48x64xf16, #skim.block_float<bits = 4, element = int>>)
// CHECK: @block_float_ocp(tensor<48x64xf16, #skim.block_float<bits = 8, block = 32, element = ocp_int>>)
func.func private @block_float_ocp(tensor<48x64xf16, #skim.block_float<bits = 8, block = 32, element = ocp_int>>)
// CHECK: @block_float_e2m1(tensor<48x64xf16, #skim.block_float<bits = 4, block = 32, element = e2m1>>)
func.func private @block_float_e2m1(tensor<48x64xf16, #skim.block_float<bits = 4, block = 32, element = e2m1>>)
// CHECK: @block_float_activation(tensor<?x?x64xf32, #skim.block_float<bits = 8, block = 16>>)
func.func private @block_float_activation(tensor<?x?x64xf32, #skim.block_float<bits = 8, block = 16>>)

// CHECK: @planes(tensor<48x64xf16, #skim.planes<bits = 2>>)
func.func private @planes(tensor<48x64xf16, #skim.planes<bits = 2>>)
// CHECK: @planes_default(tensor<48x64xf16, #skim.planes<bits = 2>>)
func.func private @planes_default(tensor<48x64xf16, #skim.planes<bits = 2, levels = 4>>)
// CHECK: @planes_balance(tensor<48x64xf16, #skim.planes<bits = 2, levels = 5>>)
func.func private @planes_balance(tensor<48x64xf16, #skim.planes<bits = 2, levels = 5>>)
// CHECK: @planes_group(tensor<48x64xf16, #skim.planes<bits = 3, levels = 9, group = 32>>)
func.func private @planes_group(tensor<48x64xf16, #skim.planes<bits = 3, levels = 9, group = 32>>)

// Aliases and terms in place, before a count.
#k2 = #skim.codebook<bits = 2>
// CHECK: @rows(tensor<48x64xf16, #skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>>)
func.func private @rows(tensor<48x64xf16, #skim.rows<[#k2 : 16, #skim.codebook<bits = 3> : 32]>>)
// CHECK: @rows_mixed(tensor<3x64xf16, #skim.rows<[#skim.uniform<bits = 4, group = 32, asymmetric> : 1, #skim.dense<f16> : 2]>>)
func.func private @rows_mixed(tensor<3x64xf16, #skim.rows< [ #skim.uniform<bits = 4, group = 32, asymmetric>:1 , #skim.dense<f16>  : 2 ] >>)

// CHECK: @scaled(tensor<48x64xf16, #skim.scaled<#skim.codebook<bits = 3>>>)
func.func private @scaled(tensor<48x64xf16, #skim.scaled<#skim.codebook<bits = 3>>>)
// CHECK: @skim(tensor<48x64xf16, #skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>>>)
func.func private @skim(tensor<48x64xf16, #skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>>>)
// CHECK: @l2qer(tensor<48x64xf16, #skim.low_rank<#skim.block_float<bits = 4, block = 16>, rank = 32, factors = #skim.block_float<bits = 8, block = 16>>>)
func.func private @l2qer(tensor<48x64xf16, #skim.low_rank<#skim.block_float<bits = 4, block = 16>, rank = 32, factors = #skim.block_float<bits = 8, block = 16>>>)
// CHECK: @abq(tensor<48x64xf16, #skim.scaled<#skim.planes<bits = 2, levels = 5>>>)
func.func private @abq(tensor<48x64xf16, #skim.scaled<#skim.planes<bits = 2, levels = 5>>>)
// CHECK: @all(tensor<48x64xf16, #skim.low_rank<#skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3, table = i8> : 32]>>, rank = 4, factors = #skim.uniform<bits = 8>>>)
func.func private @all(tensor<48x64xf16, #skim.low_rank<#skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3, table = i8> : 32]>>, rank = 4, factors = #skim.uniform<bits = 8>>>)

// CHECK: @per_token(tensor<?x?x64xf32, #skim.per_token<bits = 8>>)
func.func private @per_token(tensor<?x?x64xf32, #skim.per_token<bits = 8>>)
// CHECK: @per_token_cache(tensor<?x4x?x8xf32, #skim.per_token<bits = 4, asymmetric>>)
func.func private @per_token_cache(tensor<?x4x?x8xf32, #skim.per_token<bits = 4, asymmetric>>)

// CHECK-LABEL: func.func @operations
func.func @operations(%x: tensor<?x?x64xf32>, %codes: tensor<48x24xi8>, %table: tensor<48x8xf16>,
                      %bias: tensor<48xf32>, %ids: tensor<?x?xi64>) -> tensor<?x?x48xf32> {
  // CHECK: skim.external "model.onnx.data" offset = 4096 : tensor<64xf32>
  %0 = skim.external "model.onnx.data" offset = 4096 : tensor<64xf32>
  // CHECK: skim.external "m" offset = 8 strides = [1, 64] sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" name = "model.norm.weight" : tensor<64x2xf32>
  %1 = skim.external "m" offset = 8 strides = [1, 64] sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" name = "model.norm.weight" : tensor<64x2xf32>
  // CHECK: %[[W:.*]] = skim.assemble %{{.*}}, %{{.*}} : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #skim.codebook<bits = 3>>
  %w = skim.assemble %codes, %table : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #skim.codebook<bits = 3>>
  // CHECK: %{{.*}}:2 = skim.disassemble %[[W]] : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x24xi8>, tensor<48x8xf16>
  %2, %3 = skim.disassemble %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x24xi8>, tensor<48x8xf16>
  // CHECK: skim.convert %[[W]] : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x64xf32>
  %d = skim.convert %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x64xf32>
  // CHECK: skim.observe %{{.*}} {layer = "model.layers.0.mlp.up_proj"} : tensor<?x?x64xf32>
  skim.observe %x {layer = "model.layers.0.mlp.up_proj"} : tensor<?x?x64xf32>
  // CHECK: skim.embed %{{.*}}, %[[W]] {layer = "model.embed_tokens"} : tensor<?x?xi64>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x?x64xf32>
  %e = skim.embed %ids, %w {layer = "model.embed_tokens"} : tensor<?x?xi64>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x?x64xf32>
  // CHECK: skim.linear %{{.*}}, %[[W]] bias %{{.*}} {layer = "a", mode = "f32", onnx_name = "b"} : tensor<?x?x64xf32>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x?x48xf32>
  %y = skim.linear %e, %w bias %bias {layer = "a", onnx_name = "b", mode = "f32"} : tensor<?x?x64xf32>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x?x48xf32>
  // A bias of other elements than the result's is spelled.
  // CHECK: skim.linear %{{.*}}, %[[W]] bias %{{.*}} : tensor<?x?x64xf32>, tensor<48x64xf16, #skim.codebook<bits = 3>>, tensor<48xf16> -> tensor<?x?x48xf32>
  %b16 = skim.external "m" offset = 0 : tensor<48xf16>
  %y16 = skim.linear %e, %w bias %b16 : tensor<?x?x64xf32>, tensor<48x64xf16, #skim.codebook<bits = 3>>, tensor<48xf16> -> tensor<?x?x48xf32>
  // CHECK: skim.linear %{{.*}}, %{{.*}} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  %z = skim.linear %x, %d : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}
