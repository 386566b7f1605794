// RUN: skim-opt %s --convert-linalg-to-skim | FileCheck %s

#mk = affine_map<(m, n, k) -> (m, k)>
#nk = affine_map<(m, n, k) -> (n, k)>
#mn = affine_map<(m, n, k) -> (m, n)>

// A weight that lies [K, N] is read through its strides.
// CHECK-LABEL: func.func @matmul_external
// CHECK-SAME: %[[X:.*]]: tensor<?x64xf32>
func.func @matmul_external(%x: tensor<?x64xf32>, %empty: tensor<?x48xf32>) -> tensor<?x48xf32> {
  // CHECK: %[[W:.*]] = skim.external "model.data" offset = 256 strides = [1, 48] name = "w" : tensor<48x64xf32>
  // CHECK: %[[Y:.*]] = skim.linear %[[X]], %[[W]] {layer = "model.layers.0.mlp.up_proj"} : tensor<?x64xf32>, tensor<48x64xf32> -> tensor<?x48xf32>
  // CHECK-NEXT: return %[[Y]]
  %w = skim.external "model.data" offset = 256 sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" name = "w" : tensor<64x48xf32>
  %zero = arith.constant 0.0 : f32
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x48xf32>) -> tensor<?x48xf32>
  %y = linalg.matmul {layer = "model.layers.0.mlp.up_proj"} ins(%x, %w : tensor<?x64xf32>, tensor<64x48xf32>) outs(%init : tensor<?x48xf32>) -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// CHECK-LABEL: func.func @matmul_transpose_b
func.func @matmul_transpose_b(%x: tensor<5x64xf32>) -> tensor<5x48xf32> {
  // CHECK: %[[W:.*]] = skim.external "model.data" offset = 0 : tensor<48x64xf32>
  // CHECK: skim.linear %{{.*}}, %[[W]] : tensor<5x64xf32>, tensor<48x64xf32> -> tensor<5x48xf32>
  %w = skim.external "model.data" offset = 0 : tensor<48x64xf32>
  %init = arith.constant dense<0.0> : tensor<5x48xf32>
  %y = linalg.matmul indexing_maps = [#mk, #nk, #mn] ins(%x, %w : tensor<5x64xf32>, tensor<48x64xf32>) outs(%init : tensor<5x48xf32>) -> tensor<5x48xf32>
  return %y : tensor<5x48xf32>
}

// CHECK-LABEL: func.func @matmul_of_transpose
func.func @matmul_of_transpose(%x: tensor<5x64xf32>, %t: tensor<64x48xf32>) -> tensor<5x48xf32> {
  // CHECK: %[[W:.*]] = skim.external "model.data" offset = 0 : tensor<48x64xf32>
  // CHECK: skim.linear %{{.*}}, %[[W]] :
  %w = skim.external "model.data" offset = 0 : tensor<48x64xf32>
  %wt = linalg.transpose ins(%w : tensor<48x64xf32>) outs(%t : tensor<64x48xf32>) permutation = [1, 0]
  %init = arith.constant dense<0.0> : tensor<5x48xf32>
  %y = linalg.matmul ins(%x, %wt : tensor<5x64xf32>, tensor<64x48xf32>) outs(%init : tensor<5x48xf32>) -> tensor<5x48xf32>
  return %y : tensor<5x48xf32>
}

// A small constant is transposed; the accumulator's bias becomes the linear's.
// CHECK-LABEL: func.func @matmul_constant_bias
// CHECK-SAME: %{{.*}}: tensor<5x2xf32>, %[[B:.*]]: tensor<3xf32>
func.func @matmul_constant_bias(%x: tensor<5x2xf32>, %b: tensor<3xf32>, %empty: tensor<5x3xf32>) -> tensor<5x3xf32> {
  // CHECK: %[[W:.*]] = arith.constant dense<{{\[\[}}1.000000e+00, 4.000000e+00], [2.000000e+00, 5.000000e+00], [3.000000e+00, 6.000000e+00]]> : tensor<3x2xf32>
  // CHECK: skim.linear %{{.*}}, %[[W]] bias %[[B]] :
  %w = arith.constant dense<[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]> : tensor<2x3xf32>
  %init = linalg.broadcast ins(%b : tensor<3xf32>) outs(%empty : tensor<5x3xf32>) dimensions = [0]
  %y = linalg.matmul ins(%x, %w : tensor<5x2xf32>, tensor<2x3xf32>) outs(%init : tensor<5x3xf32>) -> tensor<5x3xf32>
  return %y : tensor<5x3xf32>
}

// Any leading dimensions, the weight first, a residual in the accumulator.
// CHECK-LABEL: func.func @generic
// CHECK-SAME: %[[X:.*]]: tensor<?x?x64xf32>, %[[R:.*]]: tensor<?x?x48xf32>
func.func @generic(%x: tensor<?x?x64xf32>, %r: tensor<?x?x48xf32>) -> tensor<?x?x48xf32> {
  // CHECK: %[[Y:.*]] = skim.linear %[[X]], %{{.*}} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  // CHECK: arith.addf %[[Y]], %[[R]]
  %w = skim.external "model.data" offset = 0 : tensor<48x64xf32>
  %y = linalg.generic {
    indexing_maps = [affine_map<(b, s, n, k) -> (n, k)>, affine_map<(b, s, n, k) -> (b, s, k)>, affine_map<(b, s, n, k) -> (b, s, n)>],
    iterator_types = ["parallel", "parallel", "parallel", "reduction"]
  } ins(%w, %x : tensor<48x64xf32>, tensor<?x?x64xf32>) outs(%r : tensor<?x?x48xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %0 = arith.mulf %a, %b : f32
    %1 = arith.addf %0, %c : f32
    linalg.yield %1 : f32
  } -> tensor<?x?x48xf32>
  return %y : tensor<?x?x48xf32>
}

// A product of activations stays.
// CHECK-LABEL: func.func @activations_only
func.func @activations_only(%x: tensor<5x64xf32>, %z: tensor<64x48xf32>) -> tensor<5x48xf32> {
  // CHECK: linalg.matmul
  %init = arith.constant dense<0.0> : tensor<5x48xf32>
  %y = linalg.matmul ins(%x, %z : tensor<5x64xf32>, tensor<64x48xf32>) outs(%init : tensor<5x48xf32>) -> tensor<5x48xf32>
  return %y : tensor<5x48xf32>
}

// Largest instead of sum: no product.
// CHECK-LABEL: func.func @other_body
func.func @other_body(%x: tensor<5x64xf32>) -> tensor<5x48xf32> {
  // CHECK: linalg.generic
  %w = skim.external "model.data" offset = 0 : tensor<48x64xf32>
  %init = arith.constant dense<0.0> : tensor<5x48xf32>
  %y = linalg.generic {indexing_maps = [#mk, #nk, #mn], iterator_types = ["parallel", "parallel", "reduction"]}
    ins(%x, %w : tensor<5x64xf32>, tensor<48x64xf32>) outs(%init : tensor<5x48xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %0 = arith.mulf %a, %b : f32
    %1 = arith.maximumf %0, %c : f32
    linalg.yield %1 : f32
  } -> tensor<5x48xf32>
  return %y : tensor<5x48xf32>
}
