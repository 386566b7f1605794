// RUN: rm -rf %t && mkdir %t
// RUN: %python %S/make-weights.py %t
// RUN: skim-opt %s --skim-assign-encodings="format=k3 keep=^b$=w4g32" --skim-quantize-weights="base=%t weights=%t/out.safetensors" | FileCheck %s
// RUN: %python %S/check-weights.py %t
// The same bytes on any number of threads.
// RUN: skim-opt %s --skim-assign-encodings="format=k3 keep=^b$=w4g32" --skim-quantize-weights="base=%t weights=%t/one.safetensors threads=1" -o /dev/null
// RUN: skim-opt %s --skim-assign-encodings="format=k3 keep=^b$=w4g32" --skim-quantize-weights="base=%t weights=%t/seven.safetensors threads=7" -o /dev/null
// RUN: cmp %t/out.safetensors %t/one.safetensors && cmp %t/out.safetensors %t/seven.safetensors

// RUN: not skim-opt %s --skim-assign-encodings="format=k3" --skim-quantize-weights="base=%t/nan weights=%t/bad.safetensors" 2>&1 | FileCheck %s --check-prefix=NAN
// RUN: not skim-opt %s --skim-assign-encodings="format=k3" --skim-quantize-weights="base=%t/short weights=%t/bad.safetensors" 2>&1 | FileCheck %s --check-prefix=SHORT
// RUN: not skim-opt %s --skim-assign-encodings="format=k3" --skim-quantize-weights="base=%t/absent weights=%t/bad.safetensors" 2>&1 | FileCheck %s --check-prefix=ABSENT
// RUN: not skim-opt %s --skim-assign-encodings="format=mx4" --skim-quantize-weights="base=%t weights=%t/bad.safetensors" 2>&1 | FileCheck %s --check-prefix=FORMAT
// RUN: not ls %t/bad.safetensors

// NAN: error: {{.*}}weight{{.*}} at a.weight row 3{{.*}}column 5
// SHORT: error: weight leaves its file
// ABSENT: error: {{.*}}weights.bin
// FORMAT: error: no quantizer for this format at {{.*}}: expected uniform, codebook or dense, got mx4

// CHECK-LABEL: func.func @forward
// CHECK-DAG: %[[CODES:.*]] = skim.external "out.safetensors" offset = {{.*}} name = "a.weight.codes" : tensor<48x24xi8>
// CHECK-DAG: %[[TABLE:.*]] = skim.external "out.safetensors" offset = {{.*}} name = "a.weight.table" : tensor<48x8xf16>
// CHECK-DAG: %[[A:.*]] = skim.assemble %[[CODES]], %[[TABLE]] : {{.*}} to tensor<48x64xf32, #skim.codebook<bits = 3>>
// CHECK-DAG: name = "b.weight.scales" : tensor<64x2xf16>
// CHECK-DAG: %[[EMBED:.*]] = skim.external {{.*}}name = "model.embed_tokens.weight" : tensor<48x64xf16>
// CHECK-DAG: name = "model.norm.weight" : tensor<48xf32>
// CHECK: skim.embed %{{.*}}, %[[EMBED]] {layer = "model.embed_tokens"
// CHECK: skim.linear %{{.*}}, %[[A]] {layer = "a", skim.error = {{.*}} : f32}
func.func @forward(%ids: tensor<?x?xi32>) -> tensor<?x?x48xf32> {
  %w = skim.external "weights.bin" offset = 0 name = "a.weight" : tensor<48x64xf32>
  // The same numbers as a transposed weight.
  %w2 = skim.external "weights.bin" offset = 0 strides = [1, 64] name = "b.weight" : tensor<64x48xf32>
  %t = skim.external "weights.bin" offset = 12288 name = "model.embed_tokens.weight" : tensor<48x64xf16>
  %n = skim.external "weights.bin" offset = 12288 name = "model.norm.weight" : tensor<48xf16>
  %x = skim.embed %ids, %t {layer = "model.embed_tokens"} : tensor<?x?xi32>, tensor<48x64xf16> -> tensor<?x?x64xf32>
  %y = skim.linear %x, %w {layer = "a"} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  %m = lm.rms_norm %y, %n {epsilon = 1.0e-5 : f32} : tensor<?x?x48xf32>, tensor<48xf16>
  %z = skim.linear %m, %w2 {layer = "b"} : tensor<?x?x48xf32>, tensor<64x48xf32> -> tensor<?x?x64xf32>
  %l = skim.linear %z, %t {layer = "lm_head"} : tensor<?x?x64xf32>, tensor<48x64xf16> -> tensor<?x?x48xf32>
  return %l : tensor<?x?x48xf32>
}
