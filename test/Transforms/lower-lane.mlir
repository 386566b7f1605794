// RUN: skim-opt %s --lower-lane | FileCheck %s --check-prefixes=CHECK,PORTABLE
// RUN: skim-opt %s --lower-lane=isa=avx2 | FileCheck %s --check-prefixes=CHECK,AVX2
// RUN: skim-opt %s --lower-lane="isa=avx512 features=vbmi,bf16,vnni" | FileCheck %s --check-prefixes=CHECK,AVX512
// RUN: skim-opt %s --lower-lane=isa=avx512 | FileCheck %s --check-prefixes=CHECK,WORDS
// RUN: not skim-opt %s --lower-lane=isa=mmx 2>&1 | FileCheck %s --check-prefix=ISA
// RUN: not skim-opt %s --lower-lane=features=sse 2>&1 | FileCheck %s --check-prefix=FEATURE
// RUN: skim-opt %s --lower-lane=isa=avx2 --convert-vector-to-llvm --convert-arith-to-llvm --convert-func-to-llvm \
// RUN:   --reconcile-unrealized-casts | FileCheck %s --check-prefix=LLVM

// ISA: expected isa = portable, avx2 or avx512, got mmx
// FEATURE: expected features f16c, vbmi, bf16 or vnni, got sse
// LLVM-NOT: lane.
// LLVM-NOT: builtin.unrealized_conversion_cast

// CHECK-NOT: lane.

// Sixteen three-bit codes in six bytes.
// CHECK-LABEL: func.func @spread16
// PORTABLE: vector.shuffle
// PORTABLE: arith.shrui
// PORTABLE: arith.andi
// AVX512: llvm.call_intrinsic "llvm.x86.avx512.permvar.qi.512"
// AVX512: arith.shrui
// AVX512-NOT: arith.andi
// WORDS: llvm.call_intrinsic "llvm.x86.avx512.permvar.hi.512"
// CHECK: return
func.func @spread16(%bytes: vector<16xi8>) -> vector<16xi32> {
  %0 = lane.spread %bytes bits 3 junk : vector<16xi8> -> vector<16xi32>
  return %0 : vector<16xi32>
}

// CHECK-LABEL: func.func @spread8
// AVX2: llvm.call_intrinsic "llvm.x86.avx2.pshuf.b"
// AVX2: arith.shrui
// AVX2: arith.andi
// CHECK: return
func.func @spread8(%bytes: vector<16xi8>) -> vector<8xi32> {
  %0 = lane.spread %bytes bits 5 : vector<16xi8> -> vector<8xi32>
  return %0 : vector<8xi32>
}

// A table of eight fits into one register; a tree of choices otherwise.
// CHECK-LABEL: func.func @lookup8
// PORTABLE-COUNT-7: arith.select
// AVX2: llvm.call_intrinsic "llvm.x86.avx2.permps"
// CHECK: return
func.func @lookup8(%table: vector<8xf32>, %q: vector<8xi32>) -> vector<8xf32> {
  %0 = lane.lookup %table, %q : vector<8xf32>, vector<8xi32> -> vector<8xf32>
  return %0 : vector<8xf32>
}

// Two permutes and a blend on AVX2.
// CHECK-LABEL: func.func @lookup16
// AVX2-COUNT-2: llvm.call_intrinsic "llvm.x86.avx2.permps"
// AVX2: arith.select
// CHECK: return
func.func @lookup16(%table: vector<16xf32>, %q: vector<8xi32>) -> vector<8xf32> {
  %0 = lane.lookup %table, %q : vector<16xf32>, vector<8xi32> -> vector<8xf32>
  return %0 : vector<8xf32>
}

// CHECK-LABEL: func.func @lookup_wide
// AVX512: llvm.call_intrinsic "llvm.x86.avx512.permvar.hi.512"
// AVX512: llvm.call_intrinsic "llvm.x86.avx512.vpermi2var.ps.512"
// CHECK: return
func.func @lookup_wide(%small: vector<16xbf16>, %q16: vector<32xi16>, %large: vector<32xf32>, %q32: vector<16xi32>)
    -> (vector<32xbf16>, vector<16xf32>) {
  %0 = lane.lookup %small, %q16 : vector<16xbf16>, vector<32xi16> -> vector<32xbf16>
  %1 = lane.lookup %large, %q32 : vector<32xf32>, vector<16xi32> -> vector<16xf32>
  return %0, %1 : vector<32xbf16>, vector<16xf32>
}

// CHECK-LABEL: func.func @dots
// PORTABLE: llvm.intr.fmuladd
// PORTABLE: arith.muli
// AVX512: llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"
// AVX512: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"
// CHECK: return
func.func @dots(%a: vector<32xbf16>, %f: vector<16xf32>, %b: vector<64xi8>, %i: vector<16xi32>)
    -> (vector<16xf32>, vector<16xi32>) {
  %0 = lane.dot_bf16 %a, %a, %f : vector<32xbf16>, vector<16xf32>
  %1 = lane.dot_u8s8 %b, %b, %i : vector<64xi8>, vector<16xi32>
  return %0, %1 : vector<16xf32>, vector<16xi32>
}

// Without f16c a conversion is arithmetic, never a call.
// CHECK-LABEL: func.func @converts
// PORTABLE-NOT: arith.extf
// PORTABLE: arith.mulf
// AVX512: llvm.call_intrinsic "llvm.x86.avx512bf16.cvtneps2bf16.512"
// CHECK: return
func.func @converts(%h: vector<16xf16>) -> vector<16xbf16> {
  %0 = lane.extend %h : vector<16xf16> -> vector<16xf32>
  %1 = lane.round %0 : vector<16xf32> -> vector<16xbf16>
  return %1 : vector<16xbf16>
}

// CHECK-LABEL: func.func @memory
// WORDS: llvm.intr.masked.load
// PORTABLE: llvm.load {{.*}} -> vector<8xi8>
// PORTABLE: llvm.load {{.*}} -> vector<4xi8>
// CHECK: llvm.intr.masked.gather
// CHECK: return
func.func @memory(%p: !llvm.ptr, %q: vector<16xi32>) -> (vector<16xi8>, vector<16xf32>) {
  %0 = lane.load %p first 12 : vector<16xi8>
  %1 = lane.gather %p, %q : vector<16xi32> -> vector<16xf32>
  return %0, %1 : vector<16xi8>, vector<16xf32>
}

// CHECK-LABEL: func.func @sum
// CHECK-COUNT-4: arith.addf
// CHECK: vector.extract
func.func @sum(%v: vector<16xf32>) -> f32 {
  %0 = lane.fma %v, %v, %v : vector<16xf32>
  %1 = lane.reduce %0 : vector<16xf32>
  return %1 : f32
}
