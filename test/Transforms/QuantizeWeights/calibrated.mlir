// REQUIRES: numpy
// The quantizers that know what an error costs: each gives a smaller error at the layer's output than rounding.
// RUN: rm -rf %t && %python %S/../AllocateBits/make-inputs.py %t
// RUN: %python %S/check-calibrated.py %s %t

// RUN: not skim-opt %s --skim-assign-encodings=format=w4 --skim-quantize-weights="base=%t weights=%t/no.safetensors method=gptq" 2>&1 | FileCheck %s --check-prefix=STATISTICS
// RUN: not skim-opt %s --skim-assign-encodings="format=#skim.rows<[#skim.codebook<bits=2>:20,#skim.codebook<bits=3>:28]>" --skim-quantize-weights="base=%t weights=%t/no.safetensors statistics=%t/statistics" 2>&1 | FileCheck %s --check-prefix=PLAN
// STATISTICS: error: method needs statistics at --method gptq
// PLAN: error: rows of mixed width without a plan at a
func.func @forward(%x: tensor<?x?x64xf32>) -> tensor<?x?x48xf32> {
  %a = skim.external "weights.bin" offset = 0 name = "a.weight" : tensor<48x64xf32>
  %b = skim.external "weights.bin" offset = 12288 name = "b.weight" : tensor<48x64xf32>
  %y = skim.linear %x, %a {layer = "a"} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  %z = skim.linear %x, %b {layer = "b"} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  %s = arith.addf %y, %z : tensor<?x?x48xf32>
  return %s : tensor<?x?x48xf32>
}
