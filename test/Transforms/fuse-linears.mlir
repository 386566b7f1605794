// RUN: skim-opt %s --skim-fuse-linears | FileCheck %s

// CHECK-LABEL: func.func @block
func.func @block(%h0: tensor<?x?x64xf32>, %norm: tensor<64xf32>) -> tensor<?x?x64xf32> {
  %e = lm.silu %h0 : tensor<?x?x64xf32>
  %x = lm.rms_norm %e, %norm {epsilon = 1.0e-5 : f32} : tensor<?x?x64xf32>, tensor<64xf32>
  // CHECK: %[[WG:.*]] = skim.external {{.*}} name = "gate"
  // CHECK: %[[WU:.*]] = skim.external {{.*}} name = "up"
  // CHECK-NEXT: skim.linear %{{.*}}, %[[WG]] {skim.group = 0 : i64}
  // CHECK-NEXT: skim.linear %{{.*}}, %[[WU]] {skim.group = 0 : i64}
  // CHECK-NEXT: lm.silu
  %wg = skim.external "w" offset = 0 name = "gate" : tensor<172x64xf32>
  %g = skim.linear %x, %wg : tensor<?x?x64xf32>, tensor<172x64xf32> -> tensor<?x?x172xf32>
  %s = lm.silu %g : tensor<?x?x172xf32>
  %wu = skim.external "w" offset = 44032 name = "up" : tensor<172x64xf32>
  %u = skim.linear %x, %wu : tensor<?x?x64xf32>, tensor<172x64xf32> -> tensor<?x?x172xf32>
  %m = arith.mulf %s, %u : tensor<?x?x172xf32>
  %wd = skim.external "w" offset = 88064 name = "down" : tensor<64x172xf32>
  // CHECK: skim.linear %{{[^{]*}} : tensor<?x?x172xf32>
  %d = skim.linear %m, %wd : tensor<?x?x172xf32>, tensor<64x172xf32> -> tensor<?x?x64xf32>
  // CHECK: arith.addf {{.*}} {skim.epilogue}
  %h1 = arith.addf %e, %d : tensor<?x?x64xf32>
  // The residual is read again: no epilogue.
  %d1 = skim.linear %u, %wd : tensor<?x?x172xf32>, tensor<64x172xf32> -> tensor<?x?x64xf32>
  %h2 = arith.addf %h1, %d1 : tensor<?x?x64xf32>
  %h3 = arith.addf %h2, %h1 : tensor<?x?x64xf32>
  return %h3 : tensor<?x?x64xf32>
}
