// RUN: skim-opt %s --skim-generate-gpu-linear | FileCheck %s
// RUN: skim-opt %s --skim-generate-gpu-linear="rows=4" | FileCheck %s --check-prefix=FEW
// RUN: skim-opt %s --skim-generate-gpu-linear="rows=16" | FileCheck %s --check-prefix=MANY
// RUN: skim-opt %s --skim-generate-gpu-linear --skim-lower-gpu | FileCheck %s --check-prefix=NVVM
// RUN: skim-opt %s --skim-generate-gpu-linear | skim-translate --gpu-to-ptx --gpu-target=nvidia:sm_90 | FileCheck %s --check-prefix=PTX
// RUN: skim-opt %s --skim-generate-gpu-linear="mode=bf16" | skim-translate --gpu-to-ptx | FileCheck %s --check-prefix=BF16
// RUN: not skim-opt %s --skim-generate-gpu-linear="target=nvidia:sm_70" 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not skim-opt %s --skim-generate-gpu-linear="mode=f32" 2>&1 | FileCheck %s --check-prefix=MODE
// RUN: not skim-opt %s --skim-generate-gpu-linear="rows=0" 2>&1 | FileCheck %s --check-prefix=ROWS
// RUN: not skim-translate %s --gpu-to-ptx 2>&1 | FileCheck %s --check-prefix=NONE

// TARGET: error: unknown target: expected one of nvidia:sm_80, {{.*}}, got nvidia:sm_70
// MODE: error: no kernel at activation mode f32: expected f16, bf16 or a8, got f32
// ROWS: error: option 'rows': expected a positive number, got 0
// NONE: error: expected a gpu.module

// Three tiles of 16 rows; two blocks of 256 columns for two warps.
// CHECK: skim.linear
// CHECK-NOT: kernel = @pack
// CHECK-SAME: grid = array<i64: 3, 1, 1>, kernel = @one_k3_k512_f16_w2, threads = 64
// FEW: kernel = @pack_k512_f16, threads = 128
// FEW-SAME: grid = array<i64: 3, 1, 1>, kernel = @few_k3_k512_f16_w2, threads = 64
// MANY: kernel = @many_k3_k512_f16_w8_x16
// A term's parts: two pieces of one launch that write through the permutation, on the same packed x.
// CHECK: skim.linear
// CHECK-SAME: grid = array<i64: 3, 1, 1>, kernel = @one_k2_rows16_scaled_partial_n1_k3_rows16_scaled_partial_n1_k512_f16_w2
// CHECK-NOT: kernel = @one
// FEW: skim.linear
// FEW-SAME: kernel = @pack_k512_f16_scaled
// FEW-SAME: grid = array<i64: 3, 1, 1>, kernel = @few_k2_rows16_partial_n1_k3_rows16_partial_n1_k512_f16_w2
// FEW-NOT: kernel = @few
// A low-rank part: of one row all is one launch, three blocks and four that multiply A; of more, x is packed where A
// multiplies it, B is part of the sums.
// CHECK: skim.linear
// CHECK-NOT: kernel = @pack
// CHECK-SAME: [{grid = array<i64: 7, 1, 1>, kernel = @one_k3_k512_f16_w2_m1_a32mx8_n1_s4_b4_r32mx8, threads = 64 : i64}]
// FEW: skim.linear
// FEW-NOT: kernel = @pack
// FEW-SAME: kernel = @few_mx8_k512_f16_w2_halves_pack,
// FEW-SAME: kernel = @few_k3_k512_f16_w2_r32mx8
// Four tiles on many multiprocessors: blocks share their columns.
// CHECK: skim.linear
// CHECK-SAME: grid = array<i64: 4, 4, 1>, kernel = @one_k3_k8192_f16_w8_split
// FEW: skim.linear
// FEW-SAME: grid = array<i64: 4, 4, 1>, kernel = @few_k3_k8192_f16_w8_split

// CHECK: gpu.module @kernels
// CHECK: gpu.func @one_k3_k512_f16_w2(
// FEW: gpu.func @few_k3_k512_f16_w2(
// Three requests of 16 bytes a lane hold its 128 codes of a block.
// CHECK-COUNT-3: ld.global.nc.cs.v4.b32
// CHECK: nvvm.mma.sync

// x passes through shared memory.
// MANY: gpu.func @many_k3_k512_f16_w8_x16(
// MANY: nvvm.cp.async.shared.global
// MANY: nvvm.cp.async.wait.group 1
// MANY: gpu.barrier
// MANY: nvvm.mma.sync

// NVVM: llvm.func @one_k3_k512_f16_w2({{.*}}nvvm.maxntid = array<i32: 64, 1, 1>
// NVVM: nvvm.prmt
// NVVM: nvvm.mma.sync
// NVVM: nvvm.barrier

// PTX: .target sm_90
// PTX: .entry one_k3_k512_f16_w2(
// PTX: ld.global.nc.cs.v4.b32
// PTX: prmt.b32
// PTX: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
// BF16: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
func.func @linear(%x: tensor<1x512xf32>, %w: tensor<48x512xf16, #skim.codebook<bits = 3>>) -> tensor<1x48xf32> {
  %y = skim.linear %x, %w : tensor<1x512xf32>, tensor<48x512xf16, #skim.codebook<bits = 3>> -> tensor<1x48xf32>
  return %y : tensor<1x48xf32>
}

!mixed = tensor<48x512xf16, #skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>>>
func.func @panels(%x: tensor<1x512xf32>, %w: !mixed) -> tensor<1x48xf32> {
  %y = skim.linear %x, %w : tensor<1x512xf32>, !mixed -> tensor<1x48xf32>
  return %y : tensor<1x48xf32>
}

!corrected = tensor<48x512xf16, #skim.low_rank<#skim.codebook<bits = 3>, rank = 32, factors = #skim.block_float<bits = 8, block = 16>>>
func.func @low_rank(%x: tensor<1x512xf32>, %w: !corrected) -> tensor<1x48xf32> {
  %y = skim.linear %x, %w : tensor<1x512xf32>, !corrected -> tensor<1x48xf32>
  return %y : tensor<1x48xf32>
}

!wide = tensor<64x8192xf16, #skim.codebook<bits = 3>>
func.func @split(%x: tensor<1x8192xf32>, %w: !wide) -> tensor<1x64xf32> {
  %y = skim.linear %x, %w : tensor<1x8192xf32>, !wide -> tensor<1x64xf32>
  return %y : tensor<1x64xf32>
}
