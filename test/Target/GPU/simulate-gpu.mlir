// RUN: skim-opt %s --skim-simulate-gpu | FileCheck %s

// Loops with hooks inside say where lanes are; others stay as they are. Shared variables have addresses.
// CHECK-LABEL: func.func @skim_sim_kernel_0(%arg0: !llvm.ptr, %arg1: !llvm.ptr)
// CHECK: llvm.inttoptr %{{.*}} : i64 to !llvm.ptr<1>
// CHECK: %[[BASE:.*]] = arith.constant 1040 : i64
// CHECK: llvm.inttoptr %[[BASE]] : i64 to !llvm.ptr<3>
// CHECK: llvm.call %{{.*}}(%arg0, %[[LOOP:.*]], %{{.*}}) : !llvm.ptr, (!llvm.ptr, i32, i32) -> ()
// CHECK: scf.for
// CHECK-NEXT: constant 0 : i32
// CHECK-NEXT: constant 1 : i32
// CHECK: llvm.ptrtoint
// CHECK: %[[AT:.*]] = llvm.call %{{.*}}(%arg0, %{{.*}}, %{{.*}}) : !llvm.ptr, (!llvm.ptr, i32, i64) -> !llvm.ptr
// CHECK: llvm.load %[[AT]] {alignment = 4 : i64} : !llvm.ptr -> f32
// CHECK: llvm.call
// CHECK: llvm.call
// CHECK: scf.for
// CHECK-NOT: llvm.call
// CHECK: }
// CHECK: llvm.call %{{.*}} : !llvm.ptr, (!llvm.ptr, i32, !llvm.ptr, !llvm.ptr) -> ()
// CHECK-NOT: gpu.
// CHECK: llvm.mlir.global external constant @skim_sim_description("{\22kernels\22:[{\22arguments\22:[8,4],\22name\22:\22both\22,
// CHECK-SAME: \22kind\22:\22loop\22
// CHECK-SAME: \22in_flight\22:1,\22kind\22:\22load\22,\22label\22:\22x\22,\22name\22:\22llvm.load\22,\22piece\22:4
// CHECK-SAME: \22kind\22:\22store\22,{{.*}}\22shared\22:true
// CHECK-SAME: \22kind\22:\22barrier\22
// CHECK-SAME: \22shared\22:144
gpu.module @kernels {
  llvm.mlir.global internal @unused() {addr_space = 3 : i32} : !llvm.array<64 x f32>
  llvm.mlir.global internal @first() {addr_space = 3 : i32} : !llvm.array<9 x i8>
  llvm.mlir.global internal @second() {addr_space = 3 : i32} : !llvm.array<32 x f32>
  gpu.func @both(%x: !llvm.ptr<1>, %n: i32) kernel {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %second = llvm.mlir.addressof @second : !llvm.ptr<3>
    %first = llvm.mlir.addressof @first : !llvm.ptr<3>
    scf.for %i = %c0 to %n step %c1 : i32 {
      %v = llvm.load %x {skim.label = "x"} : !llvm.ptr<1> -> f32
      llvm.store %v, %second : f32, !llvm.ptr<3>
    }
    %zero = arith.constant 0 : i8
    llvm.store %zero, %first : i8, !llvm.ptr<3>
    %sum = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %c0) -> i32 : i32 {
      %next = arith.addi %acc, %i : i32
      scf.yield %next : i32
    }
    nvvm.barrier0
    gpu.return
  }
}
