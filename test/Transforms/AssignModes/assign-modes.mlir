// RUN: skim-opt %s --skim-assign-modes=mode=bf16 | FileCheck %s
// RUN: skim-opt %s --skim-assign-modes | FileCheck %s --check-prefix=F32
// RUN: not skim-opt %s --skim-assign-modes=mode=a4 2>&1 | FileCheck %s --check-prefix=BAD

// BAD: error: option 'mode': expected f32, bf16 or a8, got 'a4'

// CHECK-LABEL: func.func @modes
// CHECK: skim.linear {{.*}}layer = "plain", mode = "f32"
// CHECK: skim.linear {{.*}}layer = "quantized", mode = "bf16"
// CHECK: skim.linear {{.*}}layer = "dense", mode = "f32"
// CHECK: skim.linear {{.*}}layer = "asked", mode = "f32"
// F32: layer = "quantized", mode = "f32"
func.func @modes(%x: tensor<?x64xf32>, %w: tensor<64x64xf32>, %k: tensor<64x64xf32, #skim.codebook<bits = 3>>,
                 %d: tensor<64x64xf32, #skim.dense<f16>>) -> tensor<?x64xf32> {
  %0 = skim.linear %x, %w {layer = "plain"} : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32>
  %1 = skim.linear %0, %k {layer = "quantized"} : tensor<?x64xf32>, tensor<64x64xf32, #skim.codebook<bits = 3>> -> tensor<?x64xf32>
  %2 = skim.linear %1, %d {layer = "dense"} : tensor<?x64xf32>, tensor<64x64xf32, #skim.dense<f16>> -> tensor<?x64xf32>
  %3 = skim.linear %2, %k {layer = "asked", mode = "f32"} : tensor<?x64xf32>, tensor<64x64xf32, #skim.codebook<bits = 3>> -> tensor<?x64xf32>
  return %3 : tensor<?x64xf32>
}
