// REQUIRES: numpy
// RUN: rm -rf %t && %python %S/make-inputs.py %t
// RUN: skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/record plan=%t/plan.json bits=3.6" -o %t/allocated.mlir
// RUN: FileCheck %s < %t/allocated.mlir
// RUN: skim-opt %t/allocated.mlir --skim-quantize-weights="base=%t weights=%t/out.safetensors statistics=%t/statistics record=%t/record plan=%t/plan.json" | FileCheck %s --check-prefix=QUANTIZED
// RUN: %python %S/check-plan.py %t 3.6 %t/out.safetensors

// The same bytes on any number of threads, from the record or without it.
// RUN: skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/record7 plan=%t/plan7.json bits=3.6 threads=7" -o /dev/null
// RUN: cmp %t/record %t/record7 && cmp %t/plan.json %t/plan7.json
// RUN: skim-opt %t/allocated.mlir --skim-quantize-weights="base=%t weights=%t/out7.safetensors statistics=%t/statistics plan=%t/plan.json threads=7" -o /dev/null
// RUN: cmp %t/out.safetensors %t/out7.safetensors

// Another budget from the same record; a layer that has an encoding counts.
// RUN: skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/record plan=%t/plan.json bits=2.8 pareto=%t/pareto.csv" -o /dev/null
// RUN: %python %S/check-pareto.py %t/pareto.csv
// RUN: %python %S/check-plan.py %t 2.8
// RUN: cmp %t/record %t/record7
// RUN: skim-opt %s --skim-assign-encodings="open keep=b=w4" --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/kept plan=%t/plan.json bits=3.6" | FileCheck %s --check-prefix=KEPT

// SKIM as its paper has it.
// RUN: skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/published plan=%t/plan.json bits=4.5 min-bits=2 max-bits=4 as-published scaling table=f16" | FileCheck %s --check-prefix=PUBLISHED
// RUN: skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/published plan=%t/plan.json bits=6.3 min-bits=2 max-bits=4 as-published scaling table=f16" | skim-opt --skim-quantize-weights="base=%t weights=%t/out.safetensors statistics=%t/statistics record=%t/published plan=%t/plan.json" -o /dev/null
// RUN: skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/published plan=%t/plan.json bits=5.6 min-bits=2 max-bits=4 as-published mixing=false table=f16" | FileCheck %s --check-prefix=NEITHER

// RUN: not skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/record plan=%t/no.json bits=1.1" 2>&1 | FileCheck %s --check-prefix=BUDGET
// RUN: not skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/nan record=%t/no plan=%t/no.json bits=3" 2>&1 | FileCheck %s --check-prefix=NAN
// RUN: not skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/no plan=%t/no.json bits=3 model-hash=x" 2>&1 | FileCheck %s --check-prefix=MODEL
// RUN: not skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/absent record=%t/no plan=%t/no.json bits=3" 2>&1 | FileCheck %s --check-prefix=ABSENT
// RUN: not skim-opt %s --skim-assign-encodings=open --skim-allocate-bits="base=%t statistics=%t/statistics record=%t/no plan=%t/no.json bits=3 size=100" 2>&1 | FileCheck %s --check-prefix=BOTH
// RUN: not ls %t/no %t/no.json

// BUDGET: error: budget below what the format can reach at --bits: expected at least {{1\.5[0-9]*}} bits, got 1.1000 bits
// NAN: error: {{.*}} b{{.*}}guided
// MODEL: error: statistics of another model
// ABSENT: error: {{.*}}absent
// BOTH: error: allocation needs a budget: expected either bits or size, got both

// CHECK: skim.embed {{.*}}skim.encoding = #skim.dense<f16>
// CHECK: skim.linear {{.*}}layer = "a", skim.encoding = #skim.rows<[#skim.codebook<bits = {{[0-9]}}, table = i8> : {{[0-9]+}},
// CHECK: skim.linear {{.*}}layer = "b", skim.encoding = #skim.rows<[#skim.codebook<bits =
// CHECK: skim.linear {{.*}}layer = "lm_head", skim.encoding = #skim.dense<f16>

// QUANTIZED: skim.linear {{.*}}layer = "a", skim.error = {{.*}}, skim.loss_error = {{.*}}, skim.output_error =

// PUBLISHED: layer = "a", skim.encoding = #skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : {{[0-9]+}}, #skim.codebook<bits = 3>
// NEITHER: layer = "a", skim.encoding = #skim.codebook<bits = 3>

// KEPT: layer = "a", skim.encoding = #skim.rows<
// KEPT: layer = "b", skim.encoding = #skim.uniform<bits = 4>
func.func @forward(%ids: tensor<?x?xi32>) -> tensor<?x?x48xf32> {
  %t = skim.external "weights.bin" offset = 0 name = "model.embed_tokens.weight" : tensor<48x64xf32>
  %a = skim.external "weights.bin" offset = 0 name = "a.weight" : tensor<48x64xf32>
  %b = skim.external "weights.bin" offset = 12288 name = "b.weight" : tensor<48x64xf32>
  %x = skim.embed %ids, %t {layer = "model.embed_tokens"} : tensor<?x?xi32>, tensor<48x64xf32> -> tensor<?x?x64xf32>
  %y = skim.linear %x, %a {layer = "a"} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  %z = skim.linear %x, %b {layer = "b"} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  %s = arith.addf %y, %z : tensor<?x?x48xf32>
  %l = skim.linear %x, %t {layer = "lm_head"} : tensor<?x?x64xf32>, tensor<48x64xf32> -> tensor<?x?x48xf32>
  %r = arith.addf %s, %l : tensor<?x?x48xf32>
  return %r : tensor<?x?x48xf32>
}
