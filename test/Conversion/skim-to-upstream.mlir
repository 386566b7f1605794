// RUN: skim-opt %s --convert-skim-to-upstream --split-input-file --verify-diagnostics | FileCheck %s

#term = #skim.scaled<#skim.codebook<bits = 4>>

// Encoded values become their components, in signatures, calls and control flow.
// CHECK-LABEL: func.func @callee(
// CHECK-SAME: %{{.*}}: tensor<?x8xf32>, %[[CODES:.*]]: tensor<4x4xi8>, %[[TABLE:.*]]: tensor<4x16xf16>, %[[ALPHA:.*]]: tensor<8xf16>) -> tensor<?x4xf32>
// CHECK: linalg.generic
// CHECK: tensor.extract %[[CODES]]
// CHECK: tensor.extract %[[TABLE]]
// CHECK: tensor.extract %[[ALPHA]]
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "reduction"]
// CHECK-NOT: skim.linear
func.func @callee(%x: tensor<?x8xf32>, %w: tensor<4x8xf16, #term>) -> tensor<?x4xf32> {
  %y = skim.linear %x, %w : tensor<?x8xf32>, tensor<4x8xf16, #term> -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// CHECK-LABEL: func.func @caller(
func.func @caller(%x: tensor<?x8xf32>, %codes: tensor<4x4xi8>, %table: tensor<4x16xf16>, %alpha: tensor<8xf16>, %c: i1) -> tensor<?x4xf32> {
  %w = skim.assemble %codes, %table, %alpha : tensor<4x4xi8>, tensor<4x16xf16>, tensor<8xf16> to tensor<4x8xf16, #term>
  // CHECK: scf.if %{{.*}} -> (tensor<4x4xi8>, tensor<4x16xf16>, tensor<8xf16>)
  %v = scf.if %c -> tensor<4x8xf16, #term> {
    scf.yield %w : tensor<4x8xf16, #term>
  } else {
    scf.yield %w : tensor<4x8xf16, #term>
  }
  // CHECK: call @callee(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) : (tensor<?x8xf32>, tensor<4x4xi8>, tensor<4x16xf16>, tensor<8xf16>)
  %y = call @callee(%x, %v) : (tensor<?x8xf32>, tensor<4x8xf16, #term>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// Externals stay; calibration's marks go.
// CHECK-LABEL: func.func @plain
func.func @plain(%x: tensor<?x?x8xf32>) -> tensor<?x?x4xf32> {
  // CHECK: %[[W:.*]] = skim.external
  %w = skim.external "model.data" offset = 0 : tensor<4x8xf16>
  // CHECK-NOT: skim.observe
  skim.observe %x {layer = "a"} : tensor<?x?x8xf32>
  // CHECK: linalg.generic {{.*}} ins(%{{.*}}, %[[W]] : tensor<?x?x8xf32>, tensor<4x8xf16>)
  %y = skim.linear %x, %w : tensor<?x?x8xf32>, tensor<4x8xf16> -> tensor<?x?x4xf32>
  return %y : tensor<?x?x4xf32>
}

// -----

func.func @quantizing(%w: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // expected-error @+1 {{failed to legalize operation 'skim.convert' that was explicitly marked illegal}}
  %q = skim.convert %w : tensor<4x8xf32> to tensor<4x8xf32, #skim.codebook<bits = 2>>
  %d = skim.convert %q : tensor<4x8xf32, #skim.codebook<bits = 2>> to tensor<4x8xf32>
  return %d : tensor<4x8xf32>
}

// -----

func.func @encoded_cache(%x: tensor<?x?x8xf32>, %c: tensor<?x1x?x8xf32>, %s: tensor<?xi32>) {
  %q = skim.convert %c : tensor<?x1x?x8xf32> to tensor<?x1x?x8xf32>
  // expected-error @+1 {{failed to legalize operation 'skim.convert' that was explicitly marked illegal}}
  %e = skim.convert %q : tensor<?x1x?x8xf32> to tensor<?x1x?x8xf32, #skim.per_token<bits = 8>>
  return
}
