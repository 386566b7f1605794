// RUN: skim-opt %s --skim-differentiate="function=f wrt=0,1,2" | FileCheck %s
// RUN: skim-opt %s --skim-differentiate="function=encoded wrt=0" --skim-verify-encodings | FileCheck %s --check-prefix=ENCODED

// Two key heads of three query heads each: a batch of two matrices, in which the
// queries of a key head are stacked. Seven products, no key is copied, no gathers.
// CHECK-LABEL: func.func @f_vjp(
// CHECK-SAME:    %[[Q0:[^:]*]]: tensor<1x?x24xf32>, %[[K0:[^:]*]]: tensor<1x2x?x4xf32>, %[[V0:[^:]*]]: tensor<1x2x?x4xf32>, %[[START:[^:]*]]: tensor<1xi32>, %[[DY0:[^:]*]]: tensor<1x?x24xf32>)
// CHECK-NOT:     lm.attention
// CHECK-NOT:     tensor.extract %
// CHECK:         %[[SPLIT:.*]] = tensor.expand_shape %[[Q0]] {{\[\[}}0], [1], [2, 3, 4]] output_shape [1, %{{.*}}, 2, 3, 4]
// CHECK:         %[[TURNED:.*]] = linalg.transpose ins(%[[SPLIT]] : {{.*}}) permutation = [0, 2, 3, 1, 4]
// CHECK:         %[[Q:.*]] = tensor.collapse_shape %[[TURNED]] {{\[\[}}0, 1], [2, 3], [4]] : tensor<1x2x3x?x4xf32> into tensor<2x?x4xf32>
// CHECK:         %[[K:.*]] = tensor.collapse_shape %[[K0]] {{.*}} into tensor<2x?x4xf32>
// CHECK:         %[[V:.*]] = tensor.collapse_shape %[[V0]] {{.*}} into tensor<2x?x4xf32>
// CHECK:         %[[PRODUCTS:.*]] = linalg.batch_matmul indexing_maps = {{.*}} ins(%[[Q]], %[[K]] :
// CHECK:         %[[FIVE:.*]] = tensor.expand_shape %[[PRODUCTS]]
// The scores, the exponentials and the weights share the products' memory.
// CHECK:         %[[SCORES:.*]]:2 = linalg.generic {{.*}} ins(%[[START]] : tensor<1xi32>) outs(%[[FIVE]], %{{.*}} :
// CHECK:           arith.maximumf
// CHECK:         %[[POWERS:.*]]:2 = linalg.generic {{.*}} ins(%[[SCORES]]#1 : {{.*}}) outs(%[[SCORES]]#0, %{{.*}} :
// CHECK:           math.exp
// CHECK:         %[[SHARES:.*]] = linalg.generic {{.*}} ins(%[[POWERS]]#1 : {{.*}}) outs(%[[POWERS]]#0 :
// CHECK:         %[[P:.*]] = tensor.collapse_shape %[[SHARES]]
// CHECK:         %[[Y:.*]] = linalg.batch_matmul ins(%[[P]], %[[V]] :
// CHECK:         %[[DY:.*]] = tensor.collapse_shape %{{.*}} {{\[\[}}0, 1], [2, 3], [4]]
// CHECK:         linalg.batch_matmul indexing_maps = {{.*}} ins(%[[P]], %[[DY]] :
// CHECK:         %[[INNER:.*]] = linalg.generic {{.*}} ins(%[[DY]], %[[Y]] :
// CHECK:         %[[DP:.*]] = linalg.batch_matmul indexing_maps = {{.*}} ins(%[[DY]], %[[V]] :
// CHECK:         %[[DS:.*]] = linalg.generic {{.*}} ins(%[[INNER]], %[[P]] : {{.*}}) outs(%[[DP]] :
// CHECK:         linalg.batch_matmul ins(%[[DS]], %[[K]] :
// CHECK:         linalg.batch_matmul indexing_maps = {{.*}} ins(%[[DS]], %[[Q]] :
func.func @f(%q: tensor<1x?x24xf32>, %k: tensor<1x2x?x4xf32>, %v: tensor<1x2x?x4xf32>, %start: tensor<1xi32>) -> tensor<1x?x24xf32> {
  %y = lm.attention %q, %k, %v, %start {heads = 6 : i64, scale = 0.5 : f32}
      : tensor<1x?x24xf32>, tensor<1x2x?x4xf32>, tensor<1xi32> -> tensor<1x?x24xf32>
  return %y : tensor<1x?x24xf32>
}

// Of an encoded cache only the values are read.
// ENCODED-LABEL: func.func @encoded_vjp(
// ENCODED-SAME:    %{{.*}}: tensor<?x?x32xf32>, %[[CACHE:[^:]*]]: tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>
// ENCODED:         skim.convert %[[CACHE]]
// ENCODED-NOT:     skim.convert
// ENCODED:         return
func.func @encoded(%q: tensor<?x?x32xf32>, %c: tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>, %s: tensor<?xi32>) -> tensor<?x?x32xf32> {
  %y = lm.attention %q, %c, %c, %s {heads = 4 : i64, scale = 1.0 : f32}
      : tensor<?x?x32xf32>, tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>, tensor<?xi32> -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}
