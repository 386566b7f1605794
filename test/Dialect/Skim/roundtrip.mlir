// RUN: skim-opt %s | skim-opt | FileCheck %s
// RUN: mlir-opt --load-dialect-plugin=%skim_plugin %s | FileCheck %s

#uniform = #skim.uniform<bits = 4, group = 32, asymmetric>
// CHECK-LABEL: func.func @linear
// CHECK-SAME: tensor<48x64xf16, #skim.uniform<bits = 4, group = 32, asymmetric>>
func.func @linear(%x: tensor<?x64xf16>, %w: tensor<48x64xf16, #uniform>) -> tensor<?x48xf16> {
  // CHECK: skim.linear %{{.*}}, %{{.*}} : tensor<?x64xf16>, tensor<48x64xf16, #skim.uniform<bits = 4, group = 32, asymmetric>> -> tensor<?x48xf16>
  %y = skim.linear %x, %w : tensor<?x64xf16>, tensor<48x64xf16, #uniform> -> tensor<?x48xf16>
  return %y : tensor<?x48xf16>
}
