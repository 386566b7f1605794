// RUN: skim-opt %s --skim-assign-encodings="format=w4g32 keep=gate=k3 keep=gate.*7=#skim.dense<f16>" | FileCheck %s
// RUN: skim-opt %s --skim-assign-encodings | FileCheck %s --check-prefix=KEEP
// RUN: skim-opt %s --skim-assign-encodings="format=k3 head=w8" | FileCheck %s --check-prefix=HEAD
// RUN: not skim-opt %s --skim-assign-encodings="format=w9" 2>&1 | FileCheck %s --check-prefix=BITS
// RUN: not skim-opt %s --skim-assign-encodings="format=k3 keep=down=k2" 2>&1 | FileCheck %s --check-prefix=UNUSED
// RUN: not skim-opt %s --skim-assign-encodings="format=k3 keep=(=k2" 2>&1 | FileCheck %s --check-prefix=REGEX

// BITS: error: option 'format': expected bits from 1 to 8, got 9
// UNUSED: error: option 'keep': no layer matches 'down=k2'
// REGEX: error: option 'keep': expected a regular expression, got '('

// The last override that matches wins; a tied table follows the head.
// CHECK-LABEL: func.func @forward
// CHECK: skim.embed {{.*}}layer = "model.embed_tokens", skim.encoding = #skim.dense<f16>
// CHECK: skim.linear {{.*}}layer = "model.layers.0.mlp.gate_proj", skim.encoding = #skim.codebook<bits = 3>
// CHECK: skim.linear {{.*}}layer = "model.layers.0.mlp.gate_proj7", skim.encoding = #skim.dense<f16>
// CHECK: skim.linear {{.*}}layer = "model.layers.0.mlp.up_proj", skim.encoding = #skim.uniform<bits = 4, group = 32>
// CHECK: skim.linear {{.*}}layer = "lm_head", skim.encoding = #skim.dense<f16>

// KEEP: skim.embed {{.*}}skim.encoding = #skim.dense<f32>
// KEEP: skim.linear {{.*}}skim.encoding = #skim.dense<f32>

// HEAD: skim.embed {{.*}}skim.encoding = #skim.uniform<bits = 8>
// HEAD: lm_head", skim.encoding = #skim.uniform<bits = 8>
func.func @forward(%ids: tensor<?x?xi32>, %t: tensor<48x64xf32>, %g: tensor<64x64xf32>, %u: tensor<64x64xf32>,
                   %g7: tensor<64x64xf32>) -> tensor<?x?x48xf32> {
  %x = skim.embed %ids, %t {layer = "model.embed_tokens"} : tensor<?x?xi32>, tensor<48x64xf32> -> tensor<?x?x64xf32>
  %y = skim.linear %x, %g {layer = "model.layers.0.mlp.gate_proj"} : tensor<?x?x64xf32>, tensor<64x64xf32> -> tensor<?x?x64xf32>
  %y7 = skim.linear %y, %g7 {layer = "model.layers.0.mlp.gate_proj7"} : tensor<?x?x64xf32>, tensor<64x64xf32> -> tensor<?x?x64xf32>
  %z = skim.linear %y7, %u {layer = "model.layers.0.mlp.up_proj"} : tensor<?x?x64xf32>, tensor<64x64xf32> -> tensor<?x?x64xf32>
  %l = skim.linear %z, %t {layer = "lm_head"} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  return %l : tensor<?x?x48xf32>
}
