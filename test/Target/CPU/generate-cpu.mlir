// RUN: skim-opt %s --skim-generate-cpu=target=cpu:x86-64-v3 --split-input-file --verify-diagnostics | FileCheck %s

// A norm, gate and up in one call, silu·mul in one kernel, the residual in the
// linear's epilogue: each level ends in one barrier.
// CHECK: module attributes {skim.program = {barriers = 7 : i64, caches = [],
// CHECK-SAME: vocabulary = 24 : i64
// CHECK-SAME: weights = ["embed", "norm", "gate", "up", "down"]
// CHECK: llvm.mlir.global external constant @skim_abi_version(1 : i32)
// CHECK-LABEL: func.func @skim_step
// CHECK: call @rms_norm_c16
// CHECK: llvm.call %{{.*}} : !llvm.ptr, (!llvm.ptr, i32) -> ()
// CHECK: call @[[LINEAR:.*]](
// CHECK: llvm.call %{{.*}} : !llvm.ptr, (!llvm.ptr, i32) -> ()
// CHECK: call @"map_c40_mulf(silu(i0),i1)"
// CHECK: llvm.call %{{.*}} : !llvm.ptr, (!llvm.ptr, i32) -> ()
// CHECK: call @gather_rows_c16
// CHECK-NOT: call @map
// CHECK: return
// CHECK-LABEL: func.func @skim_sample
func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x24xf32> {
  %we = skim.external "w" offset = 0 name = "embed" : tensor<24x16xf32>
  %wn = skim.external "w" offset = 4096 name = "norm" : tensor<16xf32>
  %wg = skim.external "w" offset = 8192 name = "gate" : tensor<40x16xf32>
  %wu = skim.external "w" offset = 12288 name = "up" : tensor<40x16xf32>
  %wd = skim.external "w" offset = 16384 name = "down" : tensor<16x40xf32>
  %h0 = skim.embed %tokens, %we : tensor<?x?xi32>, tensor<24x16xf32> -> tensor<?x?x16xf32>
  %x = lm.rms_norm %h0, %wn {epsilon = 1.0e-5 : f32} : tensor<?x?x16xf32>, tensor<16xf32>
  %g = skim.linear %x, %wg {skim.group = 0 : i64} : tensor<?x?x16xf32>, tensor<40x16xf32> -> tensor<?x?x40xf32>
  %u = skim.linear %x, %wu {skim.group = 0 : i64} : tensor<?x?x16xf32>, tensor<40x16xf32> -> tensor<?x?x40xf32>
  %s = lm.silu %g : tensor<?x?x40xf32>
  %m = arith.mulf %s, %u : tensor<?x?x40xf32>
  %d = skim.linear %m, %wd : tensor<?x?x40xf32>, tensor<16x40xf32> -> tensor<?x?x16xf32>
  %h1 = arith.addf %h0, %d {skim.epilogue} : tensor<?x?x16xf32>
  %last = lm.gather_rows %h1, %rows : tensor<?x?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
  %logits = skim.linear %last, %we : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x24xf32>
  return %logits : tensor<?x24xf32>
}

// -----

// expected-error-re @+1 {{unsupported operation at {{.*}}generate-cpu.mlir:47: expected an operation with a kernel, got lm.cross_entropy}}
module {
  func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x24xf32> {
    %we = skim.external "w" offset = 0 name = "embed" : tensor<24x16xf32>
    %h0 = skim.embed %tokens, %we : tensor<?x?xi32>, tensor<24x16xf32> -> tensor<?x?x16xf32>
    %last = lm.gather_rows %h0, %rows : tensor<?x?x16xf32>, tensor<?xi32> -> tensor<?x16xf32>
    %loss = lm.cross_entropy %last, %rows : tensor<?x16xf32>, tensor<?xi32> -> tensor<?xf32>
    %logits = skim.linear %last, %we : tensor<?x16xf32>, tensor<24x16xf32> -> tensor<?x24xf32>
    return %logits : tensor<?x24xf32>
  }
}
