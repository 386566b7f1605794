// RUN: skim-opt %s --split-input-file --skim-differentiate="function=f wrt=0" --skim-verify-cache | FileCheck %s

// The adjoint of a rotation turns back.
// CHECK-LABEL: func.func @f_vjp(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x64xf32>, %[[COS:[^:]*]]: tensor<?x4xf32>, %[[SIN:[^:]*]]: tensor<?x4xf32>, %[[DY:[^:]*]]: tensor<?x64xf32>) -> tensor<?x64xf32>
// CHECK-NEXT:    %[[BACK:.*]] = arith.negf %[[SIN]]
// CHECK-NEXT:    %[[DX:.*]] = lm.rotary %[[DY]], %[[COS]], %[[BACK]] {heads = 8 : i64, interleaved}
// CHECK-NEXT:    return %[[DX]]
func.func @f(%x: tensor<?x64xf32>, %cos: tensor<?x4xf32>, %sin: tensor<?x4xf32>) -> tensor<?x64xf32> {
  %y = lm.rotary %x, %cos, %sin {heads = 8 : i64, interleaved} : tensor<?x64xf32>, tensor<?x4xf32>
  return %y : tensor<?x64xf32>
}

// -----

// Two operations: the sums over the channels, then dx. The weight's adjoint is not wanted.
// CHECK-LABEL: func.func @f_vjp(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x64xf16>, %[[W:[^:]*]]: tensor<64xf16>, %[[DY:[^:]*]]: tensor<?x64xf16>)
// CHECK:         %[[SUMS:.*]]:2 = linalg.generic {{.*}}iterator_types = ["parallel", "reduction"]
// CHECK-SAME:      ins(%[[X]], %[[W]], %[[DY]] : {{.*}}) outs(%{{.*}}, %{{.*}} : tensor<?xf32>, tensor<?xf32>)
// CHECK:         %[[DX:.*]] = linalg.generic {{.*}}iterator_types = ["parallel", "parallel"]
// CHECK-SAME:      ins(%[[X]], %[[W]], %[[DY]], %[[SUMS]]#0, %[[SUMS]]#1 : {{.*}}) outs(%{{.*}} : tensor<?x64xf16>)
// CHECK-NOT:     linalg.generic
// CHECK:         return %[[DX]]
func.func @f(%x: tensor<?x64xf16>, %w: tensor<64xf16>) -> tensor<?x64xf16> {
  %y = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32} : tensor<?x64xf16>, tensor<64xf16>
  return %y : tensor<?x64xf16>
}

// -----

// Heads become a dimension.
// CHECK-LABEL: func.func @f_vjp(
// CHECK:         tensor.expand_shape %{{.*}} {{\[\[}}0], [1, 2]] output_shape [%{{.*}}, 4, 16]
// CHECK:         linalg.generic {{.*}} outs(%{{.*}}, %{{.*}} : tensor<?x4xf32>, tensor<?x4xf32>)
// CHECK:         tensor.collapse_shape
func.func @f(%x: tensor<?x64xf32>, %w: tensor<16xf32>) -> tensor<?x64xf32> {
  %y = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32, heads = 4 : i64} : tensor<?x64xf32>, tensor<16xf32>
  return %y : tensor<?x64xf32>
}

// -----

// CHECK-LABEL: func.func @f_vjp(
// CHECK-SAME:    %[[L:[^:]*]]: tensor<?x512xf32>, %[[T:[^:]*]]: tensor<?xi32>, %[[DL:[^:]*]]: tensor<?xf32>)
// CHECK:         %[[MOST:.*]] = linalg.generic {{.*}}ins(%[[L]] : tensor<?x512xf32>)
// CHECK:           arith.maximumf
// CHECK:         %[[POWERS:.*]]:2 = linalg.generic {{.*}}ins(%[[L]], %[[MOST]] :
// CHECK:           math.exp
// The exponentials become the result where they are.
// CHECK:         %[[DLOGITS:.*]] = linalg.generic {{.*}}ins(%[[POWERS]]#1, %[[T]], %[[DL]] : {{.*}}) outs(%[[POWERS]]#0 :
// CHECK:           linalg.index 1
// CHECK-NOT:     tensor.extract
// CHECK:         return %[[DLOGITS]]
func.func @f(%l: tensor<?x512xf32>, %t: tensor<?xi32>) -> tensor<?xf32> {
  %y = lm.cross_entropy %l, %t : tensor<?x512xf32>, tensor<?xi32> -> tensor<?xf32>
  return %y : tensor<?xf32>
}

// -----

// Rows may be wanted twice: they are added one after the other, in place.
// CHECK-LABEL: func.func @f_vjp(
// CHECK:         %[[SUM:.*]] = scf.for %[[I:.*]] = %{{.*}} iter_args(%[[DX:.*]] = %{{.*}}) -> (tensor<?x64xf32>)
// CHECK:           %[[ROW:.*]] = arith.index_cast
// CHECK:           tensor.extract_slice %[[DX]][%[[ROW]], 0] [1, 64] [1, 1]
// CHECK:           arith.addf
// CHECK:           tensor.insert_slice %{{.*}} into %[[DX]][%[[ROW]], 0] [1, 64] [1, 1]
func.func @f(%x: tensor<?x?x64xf32>, %r: tensor<?xi32>) -> tensor<?x64xf32> {
  %y = lm.gather_rows %x, %r : tensor<?x?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// Nothing of the forward pass is needed, not even for sizes.
// CHECK-LABEL: func.func @f_vjp(
// CHECK-NOT:     lm.silu
// CHECK-NOT:     math.exp
// CHECK:         return
func.func @f(%x: tensor<?x?x64xf32>, %z: tensor<?x?x64xf32>) -> tensor<?x64xf32> {
  %s = lm.silu %z : tensor<?x?x64xf32>
  %a = arith.addf %s, %x : tensor<?x?x64xf32>
  %c = tensor.collapse_shape %a [[0, 1], [2]] : tensor<?x?x64xf32> into tensor<?x64xf32>
  return %c : tensor<?x64xf32>
}

// -----

// What a result does not depend on has the adjoint zero.
// CHECK-LABEL: func.func @f_vjp(
// CHECK:         %[[ZERO:.*]] = linalg.fill
// CHECK:         return %[[ZERO]] : tensor<?xf32>
func.func @f(%x: tensor<?xf32>, %z: tensor<?xf32>) -> tensor<?xf32> {
  return %z : tensor<?xf32>
}

// -----

// Both passes read the cache: it is no memory to write into. New tokens are read back from where they were put.
// CHECK-LABEL: func.func @f_vjp(
// CHECK-NOT:     skim.cache
// CHECK:         scf.for %[[B:.*]] = %{{.*}} to %{{.*}} step %{{.*}} iter_args(%[[DX:.*]] = %{{.*}}) -> (tensor<?x?x4x8xf32>)
// CHECK:           %[[NEW:.*]] = tensor.extract_slice %{{.*}}[%[[B]], 0, %[[FIRST:.*]], 0] [1, 4, %[[COUNT:.*]], 8] [1, 1, 1, 1]
// CHECK:           %[[TURNED:.*]] = linalg.transpose ins(%[[NEW]] : {{.*}}) permutation = [0, 2, 1, 3]
// CHECK:           tensor.insert_slice %[[TURNED]] into %[[DX]][%[[B]], 0, 0, 0] [1, %[[COUNT]], 4, 8] [1, 1, 1, 1]
func.func @f(%x: tensor<?x?x32xf32>, %c: tensor<?x4x?x8xf32> {skim.cache}, %s: tensor<?xi32>, %n: tensor<?xi32>) -> tensor<?x4x?x8xf32> {
  %y = lm.cache_append %x, %c, %s, %n : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  return %y : tensor<?x4x?x8xf32>
}
