// RUN: skim-opt %s --split-input-file --skim-differentiate="function=f wrt=0" | FileCheck %s

// The body is differentiated, the maps stay: a broadcast becomes a sum. The
// input that the derivative does not read is gone.
// CHECK-DAG:   #[[BOTH:.*]] = affine_map<(d0, d1) -> (d0, d1)>
// CHECK-DAG:   #[[LAST:.*]] = affine_map<(d0, d1) -> (d1)>
// CHECK-LABEL: func.func @f_vjp(
// CHECK-SAME:    %[[B:[^:]*]]: tensor<?xf32>, %[[A:[^:]*]]: tensor<?x?xf32>, %[[C:[^:]*]]: tensor<?x?xf32>, %[[DY:[^:]*]]: tensor<?x?xf32>)
// CHECK:         linalg.generic {indexing_maps = [#[[BOTH]], #[[BOTH]], #[[LAST]]], iterator_types = ["reduction", "parallel"]} ins(%[[A]], %[[DY]] :
// CHECK-NEXT:    ^bb0(%[[X:.*]]: f32, %[[G:.*]]: f32, %[[SUM:.*]]: f32):
// CHECK-NEXT:      %[[P:.*]] = arith.mulf %[[G]], %[[X]] : f32
// CHECK-NEXT:      %[[R:.*]] = arith.addf %[[SUM]], %[[P]] : f32
// CHECK-NEXT:      linalg.yield %[[R]] : f32
func.func @f(%b: tensor<?xf32>, %a: tensor<?x?xf32>, %c: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>,
                                        affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
                       iterator_types = ["parallel", "parallel"]}
      ins(%a, %b, %c : tensor<?x?xf32>, tensor<?xf32>, tensor<?x?xf32>) outs(%a : tensor<?x?xf32>) {
  ^bb0(%x: f32, %w: f32, %z: f32, %o: f32):
    %1 = arith.mulf %x, %w : f32
    %2 = arith.addf %1, %z : f32
    linalg.yield %2 : f32
  } -> tensor<?x?xf32>
  return %y : tensor<?x?xf32>
}

// -----

// A sum becomes a broadcast.
// CHECK-DAG:   #[[BOTH:.*]] = affine_map<(d0, d1) -> (d0, d1)>
// CHECK-DAG:   #[[FIRST:.*]] = affine_map<(d0, d1) -> (d0)>
// CHECK-LABEL: func.func @f_vjp(
// CHECK:         linalg.generic {indexing_maps = [#[[BOTH]], #[[FIRST]], #[[BOTH]]], iterator_types = ["parallel", "parallel"]}
// CHECK:           math.cos
func.func @f(%a: tensor<?x?xf32>, %i: tensor<?xf32>) -> tensor<?xf32> {
  %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>],
                       iterator_types = ["parallel", "reduction"]}
      ins(%a : tensor<?x?xf32>) outs(%i : tensor<?xf32>) {
  ^bb0(%x: f32, %o: f32):
    %1 = math.sin %x : f32
    %2 = arith.addf %o, %1 : f32
    linalg.yield %2 : f32
  } -> tensor<?xf32>
  return %y : tensor<?xf32>
}

// -----

// Products have products: aᵀ is read as it is stored.
// CHECK-LABEL: func.func @f_vjp(
// CHECK-SAME:    %[[A:[^:]*]]: tensor<4x?xf32>, %[[B:[^:]*]]: tensor<4x3xf32>, %[[C:[^:]*]]: tensor<?x3xf32>, %[[DC:[^:]*]]: tensor<?x3xf32>)
// CHECK:         %[[DA:.*]] = linalg.matmul indexing_maps = {{.*}} ins(%[[B]], %[[DC]] : tensor<4x3xf32>, tensor<?x3xf32>) outs(%{{.*}} : tensor<4x?xf32>)
// CHECK:         return %[[DA]]
func.func @f(%a: tensor<4x?xf32>, %b: tensor<4x3xf32>, %c: tensor<?x3xf32>) -> tensor<?x3xf32> {
  %y = linalg.matmul indexing_maps = [affine_map<(m, n, k) -> (k, m)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]
      ins(%a, %b : tensor<4x?xf32>, tensor<4x3xf32>) outs(%c : tensor<?x3xf32>) -> tensor<?x3xf32>
  return %y : tensor<?x3xf32>
}
