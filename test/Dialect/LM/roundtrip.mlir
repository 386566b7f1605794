// RUN: skim-opt %s | skim-opt | FileCheck %s
// RUN: skim-opt %s --mlir-print-op-generic | skim-opt | FileCheck %s
// RUN: skim-opt %s --emit-bytecode | skim-opt | FileCheck %s
// RUN: mlir-opt --load-dialect-plugin=%skim_plugin %s | FileCheck %s

// CHECK-LABEL: func.func @norms
func.func @norms(%x: tensor<?x?x64xf32>, %w: tensor<64xf32>, %part: tensor<8xf32>) -> tensor<?x?x64xf32> {
  // CHECK: lm.rms_norm %{{.*}}, %{{.*}} {epsilon = 9.99999974E-6 : f32} : tensor<?x?x64xf32>, tensor<64xf32>
  %0 = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32} : tensor<?x?x64xf32>, tensor<64xf32>
  // CHECK: lm.rms_norm %{{.*}}, %{{.*}} {epsilon = 0.000000e+00 : f32, heads = 8 : i64, offset = 1.000000e+00 : f32} : tensor<?x?x64xf32>, tensor<8xf32>
  %1 = lm.rms_norm %0, %part {epsilon = 0.0 : f32, offset = 1.0 : f32, heads = 8 : i64} : tensor<?x?x64xf32>, tensor<8xf32>
  // CHECK: lm.silu %{{.*}} : tensor<?x?x64xf32>
  %2 = lm.silu %1 : tensor<?x?x64xf32>
  return %2 : tensor<?x?x64xf32>
}

// CHECK-LABEL: func.func @attention
func.func @attention(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, %f: tensor<4xf32>,
                     %q: tensor<?x?x64xf32>, %k: tensor<?x?x32xf32>, %k0: tensor<?x4x?x8xf32>,
                     %v0: tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>) -> tensor<?x?x64xf32> {
  // CHECK: %[[P:.*]] = lm.positions %{{.*}}, %{{.*}} : tensor<?x?xi32>, tensor<?xi32>
  %p = lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>
  // CHECK: %[[COS:.*]], %[[SIN:.*]] = lm.rotary_table %[[P]], %{{.*}} {scale = 2.000000e+00 : f32} : tensor<?x?xi32>, tensor<4xf32> -> tensor<?x?x4xf32>
  %cos, %sin = lm.rotary_table %p, %f {scale = 2.0 : f32} : tensor<?x?xi32>, tensor<4xf32> -> tensor<?x?x4xf32>
  // CHECK: lm.rotary %{{.*}}, %[[COS]], %[[SIN]] {heads = 8 : i64} : tensor<?x?x64xf32>, tensor<?x?x4xf32>
  %q1 = lm.rotary %q, %cos, %sin {heads = 8 : i64} : tensor<?x?x64xf32>, tensor<?x?x4xf32>
  // CHECK: lm.rotary %{{.*}}, %[[COS]], %[[SIN]] {heads = 4 : i64, interleaved} : tensor<?x?x32xf32>, tensor<?x?x4xf32>
  %k1 = lm.rotary %k, %cos, %sin {heads = 4 : i64, interleaved} : tensor<?x?x32xf32>, tensor<?x?x4xf32>
  // CHECK: %[[K:.*]] = lm.cache_append %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  %k2 = lm.cache_append %k1, %k0, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  // An encoded cache.
  // CHECK: lm.cache_append %{{.*}} : tensor<?x?x32xf32>, tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>, tensor<?xi32>
  %v2 = lm.cache_append %k1, %v0, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>, tensor<?xi32>
  // CHECK: lm.attention %{{.*}}, %[[K]], %[[K]], %{{.*}} {heads = 8 : i64, scale = 2.500000e-01 : f32, softcap = 5.000000e+01 : f32, window = 16 : i64} : tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x64xf32>
  %y = lm.attention %q1, %k2, %k2, %start {heads = 8 : i64, scale = 0.25 : f32, window = 16 : i64, softcap = 50.0 : f32}
     : tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x64xf32>
  return %y : tensor<?x?x64xf32>
}

// CHECK-LABEL: func.func @head
func.func @head(%x: tensor<?x?x64xf32>, %rows: tensor<?xi32>, %logits: tensor<?x512xf32>) -> tensor<?xf32> {
  // CHECK: lm.gather_rows %{{.*}}, %{{.*}} : tensor<?x?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  %0 = lm.gather_rows %x, %rows : tensor<?x?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  // CHECK: lm.cross_entropy %{{.*}}, %{{.*}} : tensor<?x512xf32>, tensor<?xi32> -> tensor<?xf32>
  %1 = lm.cross_entropy %logits, %rows : tensor<?x512xf32>, tensor<?xi32> -> tensor<?xf32>
  return %1 : tensor<?xf32>
}
