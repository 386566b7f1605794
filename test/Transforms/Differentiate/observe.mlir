// RUN: skim-opt %s --skim-differentiate="function=mlp wrt=0 observe" | FileCheck %s
// RUN: skim-opt %s --skim-differentiate="function=mlp wrt=1,0" | FileCheck %s --check-prefix=WEIGHT

// CHECK-LABEL: func.func @mlp_vjp(
// CHECK-SAME:    %[[X:[^:]*]]: tensor<?x8xf32>, %[[WG:[^:]*]]: tensor<4x8xf16>, %[[WU:[^:]*]]: tensor<4x8xf16>, %[[WD:[^:]*]]: tensor<8x4xf16>, %[[DY:[^:]*]]: tensor<?x8xf32>)
// CHECK-SAME:    -> (tensor<?x8xf32>, tensor<?x8xf32> {skim.input = "gate"}, tensor<?x4xf32> {skim.output_adjoint = "gate"},
// CHECK-SAME:        tensor<?x4xf32> {skim.output_adjoint = "up"}, tensor<?x4xf32> {skim.input = "down"}, tensor<?x8xf32> {skim.output_adjoint = "down"})
// The forward pass: all that is read again, and not the result.
// CHECK:         %[[G:.*]] = skim.linear %[[X]], %[[WG]] {layer = "gate"}
// CHECK-NEXT:    %[[U:.*]] = skim.linear %[[X]], %[[WU]] {layer = "up"}
// CHECK-NEXT:    %[[S:.*]] = lm.silu %[[G]]
// CHECK-NEXT:    %[[M:.*]] = arith.mulf %[[S]], %[[U]]
// CHECK-NOT:     skim.linear
// CHECK-NOT:     skim.observe
// And back.
// CHECK:         %[[DOWN:.*]] = arith.extf %[[WD]] : tensor<8x4xf16> to tensor<8x4xf32>
// CHECK:         %[[DM:.*]] = linalg.matmul ins(%[[DY]], %[[DOWN]] : tensor<?x8xf32>, tensor<8x4xf32>)
// CHECK:         %[[DS:.*]] = arith.mulf %[[DM]], %[[U]]
// CHECK:         %[[DU:.*]] = arith.mulf %[[DM]], %[[S]]
// CHECK:         %[[DG:.*]] = linalg.generic {{.*}} ins(%[[G]], %[[DS]] : tensor<?x4xf32>, tensor<?x4xf32>)
// CHECK:         %[[DXU:.*]] = linalg.matmul ins(%[[DU]]
// CHECK:         %[[SUM:.*]] = arith.addf %[[DY]], %[[DXU]]
// CHECK:         %[[DXG:.*]] = linalg.matmul ins(%[[DG]]
// CHECK:         %[[DX:.*]] = arith.addf %[[SUM]], %[[DXG]]
// CHECK:         return %[[DX]], %[[X]], %[[DG]], %[[DU]], %[[M]], %[[DY]]

// A weight's gradient is dzᵀ·x; results come in the order of wrt.
// WEIGHT:      #[[LEFT:.*]] = affine_map<(d0, d1, d2) -> (d2, d0)>
// WEIGHT:      func.func @mlp_vjp({{.*}}) -> (tensor<4x8xf16>, tensor<?x8xf32>)
// WEIGHT:      %[[DW:.*]] = linalg.matmul indexing_maps = [#[[LEFT]], #{{.*}}, #{{.*}}] ins(%{{.*}}, %{{.*}} : tensor<?x4xf32>, tensor<?x8xf32>)
// WEIGHT:      arith.truncf %[[DW]] : tensor<4x8xf32> to tensor<4x8xf16>
func.func @mlp(%x: tensor<?x8xf32>, %wg: tensor<4x8xf16>, %wu: tensor<4x8xf16>, %wd: tensor<8x4xf16>) -> tensor<?x8xf32> {
  skim.observe %x {layer = "gate"} : tensor<?x8xf32>
  %g = skim.linear %x, %wg {layer = "gate"} : tensor<?x8xf32>, tensor<4x8xf16> -> tensor<?x4xf32>
  %u = skim.linear %x, %wu {layer = "up"} : tensor<?x8xf32>, tensor<4x8xf16> -> tensor<?x4xf32>
  %s = lm.silu %g : tensor<?x4xf32>
  %m = arith.mulf %s, %u : tensor<?x4xf32>
  %d = skim.linear %m, %wd {layer = "down"} : tensor<?x4xf32>, tensor<8x4xf16> -> tensor<?x8xf32>
  %y = arith.addf %x, %d : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
