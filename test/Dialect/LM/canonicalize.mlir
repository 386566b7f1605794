// RUN: skim-opt %s --canonicalize --cse | FileCheck %s

// Operations are pure: what is unused goes, equal ones merge.
// CHECK-LABEL: func.func @pure
func.func @pure(%x: tensor<?x?x64xf32>, %w: tensor<64xf32>) -> (tensor<?x?x64xf32>, tensor<?x?x64xf32>) {
  // CHECK-NEXT: %[[N:.*]] = lm.rms_norm
  // CHECK-NEXT: return %[[N]], %[[N]]
  %0 = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32} : tensor<?x?x64xf32>, tensor<64xf32>
  %1 = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32, heads = 1 : i64} : tensor<?x?x64xf32>, tensor<64xf32>
  %2 = lm.silu %0 : tensor<?x?x64xf32>
  return %0, %1 : tensor<?x?x64xf32>, tensor<?x?x64xf32>
}
