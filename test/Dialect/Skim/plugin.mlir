// Dialects and passes load into stock mlir-opt, where they work beside upstream's.
//
// RUN: mlir-opt --load-dialect-plugin=%skim_plugin --load-pass-plugin=%skim_plugin %s \
// RUN:   --pass-pipeline="builtin.module(convert-linalg-to-skim,skim-verify-encodings)" | FileCheck %s
// RUN: mlir-opt --load-dialect-plugin=%skim_plugin --load-pass-plugin=%skim_plugin %s \
// RUN:   --pass-pipeline="builtin.module(convert-linalg-to-skim,convert-skim-to-upstream,canonicalize,cse)" \
// RUN: | FileCheck %s --check-prefix=BACK

// CHECK-LABEL: func.func @forward
// CHECK: skim.linear
// BACK-LABEL: func.func @forward
// BACK-NOT: skim.linear
// BACK: linalg.generic
func.func @forward(%x: tensor<5x64xf32>) -> tensor<5x48xf32> {
  %w = skim.external "model.data" offset = 0 : tensor<64x48xf32>
  %zero = arith.constant dense<0.0> : tensor<5x48xf32>
  %y = linalg.matmul ins(%x, %w : tensor<5x64xf32>, tensor<64x48xf32>) outs(%zero : tensor<5x48xf32>) -> tensor<5x48xf32>
  return %y : tensor<5x48xf32>
}
