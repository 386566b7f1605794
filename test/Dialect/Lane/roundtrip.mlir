// RUN: skim-opt %s --verify-roundtrip | FileCheck %s

// CHECK-LABEL: func.func @loads
func.func @loads(%p: !llvm.ptr, %q: vector<16xi32>) -> (vector<16xi8>, vector<16xf32>) {
  // CHECK: lane.load %{{.*}} first 12 : vector<16xi8>
  %0 = lane.load %p first 12 : vector<16xi8>
  // CHECK: lane.gather %{{.*}}, %{{.*}} : vector<16xi32> -> vector<16xf32>
  %1 = lane.gather %p, %q : vector<16xi32> -> vector<16xf32>
  return %0, %1 : vector<16xi8>, vector<16xf32>
}

// CHECK-LABEL: func.func @decode
func.func @decode(%bytes: vector<16xi8>, %table: vector<8xbf16>) -> (vector<32xbf16>, vector<16xi32>) {
  // CHECK: lane.spread %{{.*}} bits 3 junk : vector<16xi8> -> vector<32xi16>
  %q = lane.spread %bytes bits 3 junk : vector<16xi8> -> vector<32xi16>
  // CHECK: lane.spread %{{.*}} bits 8 : vector<16xi8> -> vector<16xi32>
  %n = lane.spread %bytes bits 8 : vector<16xi8> -> vector<16xi32>
  // CHECK: lane.lookup %{{.*}}, %{{.*}} : vector<8xbf16>, vector<32xi16> -> vector<32xbf16>
  %w = lane.lookup %table, %q : vector<8xbf16>, vector<32xi16> -> vector<32xbf16>
  return %w, %n : vector<32xbf16>, vector<16xi32>
}

// CHECK-LABEL: func.func @sums
func.func @sums(%a: vector<32xbf16>, %b: vector<64xi8>, %f: vector<16xf32>, %i: vector<16xi32>) -> (f32, vector<16xi32>) {
  // CHECK: lane.dot_bf16 %{{.*}}, %{{.*}}, %{{.*}} : vector<32xbf16>, vector<16xf32>
  %0 = lane.dot_bf16 %a, %a, %f : vector<32xbf16>, vector<16xf32>
  // CHECK: lane.dot_u8s8 %{{.*}}, %{{.*}}, %{{.*}} : vector<64xi8>, vector<16xi32>
  %1 = lane.dot_u8s8 %b, %b, %i : vector<64xi8>, vector<16xi32>
  // CHECK: lane.fma %{{.*}}, %{{.*}}, %{{.*}} : vector<16xf32>
  %2 = lane.fma %0, %f, %f : vector<16xf32>
  // CHECK: lane.reduce %{{.*}} : vector<16xf32>
  %3 = lane.reduce %2 : vector<16xf32>
  return %3, %1 : f32, vector<16xi32>
}

// CHECK-LABEL: func.func @converts
func.func @converts(%h: vector<16xf16>) -> vector<16xbf16> {
  // CHECK: lane.extend %{{.*}} : vector<16xf16> -> vector<16xf32>
  %0 = lane.extend %h : vector<16xf16> -> vector<16xf32>
  // CHECK: lane.round %{{.*}} : vector<16xf32> -> vector<16xbf16>
  %1 = lane.round %0 : vector<16xf32> -> vector<16xbf16>
  return %1 : vector<16xbf16>
}
