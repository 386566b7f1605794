// RUN: skim-opt %s --skim-assign-layouts="target=cpu-sim:x86-64-v4 layout=turned" | FileCheck %s
// RUN: skim-opt %s --skim-assign-layouts="target=cpu:x86-64-v3" | FileCheck %s --check-prefix=NARROW
// RUN: skim-opt %s --skim-assign-layouts="target=cpu:x86-64-v3 layout=turned" | FileCheck %s --check-prefix=TURNED
// RUN: skim-opt %s --skim-assign-layouts="target=cpu:x86-64-v4" | FileCheck %s --check-prefix=ROWS
// RUN: skim-opt %s --skim-assign-layouts="target=cpu:portable" | FileCheck %s --check-prefix=ROWS
// RUN: skim-opt %s --skim-assign-layouts="target=cpu:x86-64-v4 layout=rows" | FileCheck %s --check-prefix=ROWS
// RUN: skim-opt %s --skim-assign-layouts="target=cpu:x86-64-v3" --skim-assign-layouts="target=cpu:x86-64-v4 layout=rows" | FileCheck %s --check-prefix=ROWS
// RUN: not skim-opt %s --skim-assign-layouts="target=tpu" 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not skim-opt %s --skim-assign-layouts="layout=diagonal" 2>&1 | FileCheck %s --check-prefix=LAYOUT

// ROWS-NOT: skim.layout
// TARGET: error: unknown target: expected cpu, {{.*}}, got tpu
// LAYOUT: error: option 'layout': expected auto, rows or turned, got 'diagonal'

!k3 = tensor<48x576xf16, #skim.codebook<bits = 3>>
!k8 = tensor<48x576xf16, #skim.codebook<bits = 8>>
!short = tensor<48x64xf16, #skim.codebook<bits = 3>>
!groups = tensor<48x576xf16, #skim.uniform<bits = 4, group = 32>>
!mixed = tensor<48x576xf16, #skim.rows<[#skim.codebook<bits = 2, table = i8> : 16, #skim.codebook<bits = 5, table = i8> : 32]>>

// Words as wide as what the mode computes on, vectors as wide as the target's.
// CHECK-LABEL: @chosen
// CHECK: mode = "bf16", skim.layout = #skim.layout<word = 16, lanes = 32>
// CHECK: mode = "f32", skim.layout = #skim.layout<word = 32, lanes = 16>
// CHECK: mode = "bf16", skim.layout = #skim.layout<word = 16, lanes = 32>
// NARROW-LABEL: @chosen
// NARROW: mode = "bf16", skim.layout = #skim.layout<word = 16, lanes = 16>
// NARROW: mode = "f32", skim.layout = #skim.layout<word = 32, lanes = 8>
// Five bits beside two: rows.
// NARROW-NOT: skim.layout
// NARROW: return
func.func @chosen(%x: tensor<?x576xf32>, %a: !k3, %b: !k3, %c: !mixed) -> (tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x48xf32>) {
  %0 = skim.linear %x, %a {mode = "bf16"} : tensor<?x576xf32>, !k3 -> tensor<?x48xf32>
  %1 = skim.linear %x, %b {mode = "f32"} : tensor<?x576xf32>, !k3 -> tensor<?x48xf32>
  %2 = skim.linear %x, %c {mode = "bf16"} : tensor<?x576xf32>, !mixed -> tensor<?x48xf32>
  return %0, %1, %2 : tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x48xf32>
}

// No whole block, groups that end inside of one, floats; eight bits only where they are asked for.
// NARROW-LABEL: @rows
// NARROW-NOT: skim.layout
// NARROW: return
// TURNED-LABEL: @rows
// TURNED-COUNT-3: skim.linear %{{.*}}, %{{.*}} : tensor
// TURNED: skim.layout = #skim.layout<word = 32, lanes = 8>
func.func @rows(%x: tensor<?x576xf32>, %y: tensor<?x64xf32>, %a: !short, %b: !groups, %c: tensor<48x576xf16>, %d: !k8)
    -> (tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x48xf32>) {
  %0 = skim.linear %y, %a : tensor<?x64xf32>, !short -> tensor<?x48xf32>
  %1 = skim.linear %x, %b : tensor<?x576xf32>, !groups -> tensor<?x48xf32>
  %2 = skim.linear %x, %c : tensor<?x576xf32>, tensor<48x576xf16> -> tensor<?x48xf32>
  %3 = skim.linear %x, %d : tensor<?x576xf32>, !k8 -> tensor<?x48xf32>
  return %0, %1, %2, %3 : tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x48xf32>
}

// A table that is read by rows stays so, though another operation assembles it; users in different modes agree on rows.
// CHECK-LABEL: @shared
// CHECK-NOT: skim.layout
// CHECK: return
func.func @shared(%ids: tensor<?xi32>, %x: tensor<?x576xf32>, %w: !k3) -> (tensor<?x576xf32>, tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x48xf32>) {
  %codes = skim.external "weights" offset = 0 : tensor<48x216xi8>
  %table = skim.external "weights" offset = 10368 : tensor<48x8xf16>
  %again = skim.external "weights" offset = 0 : tensor<48x216xi8>
  %t = skim.assemble %codes, %table : tensor<48x216xi8>, tensor<48x8xf16> to !k3
  %u = skim.assemble %again, %table : tensor<48x216xi8>, tensor<48x8xf16> to !k3
  %0 = skim.embed %ids, %t : tensor<?xi32>, !k3 -> tensor<?x576xf32>
  %1 = skim.linear %x, %u {mode = "bf16"} : tensor<?x576xf32>, !k3 -> tensor<?x48xf32>
  %2 = skim.linear %x, %w {mode = "bf16"} : tensor<?x576xf32>, !k3 -> tensor<?x48xf32>
  %3 = skim.linear %x, %w {mode = "f32"} : tensor<?x576xf32>, !k3 -> tensor<?x48xf32>
  return %0, %1, %2, %3 : tensor<?x576xf32>, tensor<?x48xf32>, tensor<?x48xf32>, tensor<?x48xf32>
}
