// RUN: skim-opt %s --canonicalize | FileCheck %s

#k3 = #skim.codebook<bits = 3>

// CHECK-LABEL: func.func @disassemble_of_assemble
// CHECK-SAME: %[[CODES:.*]]: tensor<48x24xi8>, %[[TABLE:.*]]: tensor<48x8xf16>
func.func @disassemble_of_assemble(%codes: tensor<48x24xi8>, %table: tensor<48x8xf16>) -> (tensor<48x24xi8>, tensor<48x8xf16>) {
  // CHECK-NEXT: return %[[CODES]], %[[TABLE]]
  %w = skim.assemble %codes, %table : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #k3>
  %0, %1 = skim.disassemble %w : tensor<48x64xf16, #k3> to tensor<48x24xi8>, tensor<48x8xf16>
  return %0, %1 : tensor<48x24xi8>, tensor<48x8xf16>
}

// CHECK-LABEL: func.func @assemble_of_disassemble
// CHECK-SAME: %[[W:.*]]: tensor<48x64xf16, #skim.codebook<bits = 3>>
func.func @assemble_of_disassemble(%w: tensor<48x64xf16, #k3>) -> tensor<48x64xf16, #k3> {
  // CHECK-NEXT: return %[[W]]
  %0, %1 = skim.disassemble %w : tensor<48x64xf16, #k3> to tensor<48x24xi8>, tensor<48x8xf16>
  %2 = skim.assemble %0, %1 : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #k3>
  return %2 : tensor<48x64xf16, #k3>
}

// Another table: another weight.
// CHECK-LABEL: func.func @assemble_of_other_components
func.func @assemble_of_other_components(%w: tensor<48x64xf16, #k3>, %t: tensor<48x8xf16>) -> tensor<48x64xf16, #k3> {
  // CHECK: skim.assemble
  %0, %1 = skim.disassemble %w : tensor<48x64xf16, #k3> to tensor<48x24xi8>, tensor<48x8xf16>
  %2 = skim.assemble %0, %t : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #k3>
  return %2 : tensor<48x64xf16, #k3>
}

// CHECK-LABEL: func.func @convert_to_itself
// CHECK-SAME: %[[W:.*]]: tensor
func.func @convert_to_itself(%w: tensor<48x64xf16>) -> tensor<48x64xf16> {
  // CHECK-NEXT: return %[[W]]
  %0 = skim.convert %w : tensor<48x64xf16> to tensor<48x64xf16>
  return %0 : tensor<48x64xf16>
}

// Decoding rounds to f32 first anyway.
// CHECK-LABEL: func.func @convert_through_f32
// CHECK-SAME: %[[W:.*]]: tensor
func.func @convert_through_f32(%w: tensor<48x64xf16, #k3>) -> tensor<48x64xf16> {
  // CHECK-NEXT: %[[D:.*]] = skim.convert %[[W]] : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x64xf16>
  // CHECK-NEXT: return %[[D]]
  %0 = skim.convert %w : tensor<48x64xf16, #k3> to tensor<48x64xf32>
  %1 = skim.convert %0 : tensor<48x64xf32> to tensor<48x64xf16>
  return %1 : tensor<48x64xf16>
}

// CHECK-LABEL: func.func @convert_there_and_back
// CHECK-SAME: %[[W:.*]]: tensor
func.func @convert_there_and_back(%w: tensor<48x64xf16>) -> tensor<48x64xf16> {
  // CHECK-NEXT: return %[[W]]
  %0 = skim.convert %w : tensor<48x64xf16> to tensor<48x64xf32>
  %1 = skim.convert %0 : tensor<48x64xf32> to tensor<48x64xf16>
  return %1 : tensor<48x64xf16>
}

// Rounding to f16 on the way stays.
// CHECK-LABEL: func.func @convert_that_rounds
func.func @convert_that_rounds(%w: tensor<48x64xf32>) -> tensor<48x64xf32> {
  // CHECK-COUNT-2: skim.convert
  %0 = skim.convert %w : tensor<48x64xf32> to tensor<48x64xf16>
  %1 = skim.convert %0 : tensor<48x64xf16> to tensor<48x64xf32>
  return %1 : tensor<48x64xf32>
}

// Quantizing again is not the same weight.
// CHECK-LABEL: func.func @convert_that_quantizes
func.func @convert_that_quantizes(%w: tensor<48x64xf16, #k3>) -> tensor<48x64xf16, #k3> {
  // CHECK-COUNT-2: skim.convert
  %0 = skim.convert %w : tensor<48x64xf16, #k3> to tensor<48x64xf32>
  %1 = skim.convert %0 : tensor<48x64xf32> to tensor<48x64xf16, #k3>
  return %1 : tensor<48x64xf16, #k3>
}

// CHECK-LABEL: func.func @convert_of_dense
// CHECK-SAME: %[[D:.*]]: tensor
func.func @convert_of_dense(%d: tensor<48x64xf16>) -> tensor<48x64xf16> {
  // CHECK-NEXT: return %[[D]]
  %w = skim.assemble %d : tensor<48x64xf16> to tensor<48x64xf32, #skim.dense<f16>>
  %0 = skim.convert %w : tensor<48x64xf32, #skim.dense<f16>> to tensor<48x64xf16>
  return %0 : tensor<48x64xf16>
}

// A product decodes by itself.
// CHECK-LABEL: func.func @linear_of_decoded
// CHECK-SAME: %[[X:.*]]: tensor<?x64xf32>, %[[W:.*]]: tensor
func.func @linear_of_decoded(%x: tensor<?x64xf32>, %w: tensor<48x64xf16, #k3>) -> tensor<?x48xf32> {
  // CHECK-NEXT: skim.linear %[[X]], %[[W]] {layer = "a"}
  %d = skim.convert %w : tensor<48x64xf16, #k3> to tensor<48x64xf32>
  %y = skim.linear %x, %d {layer = "a"} : tensor<?x64xf32>, tensor<48x64xf32> -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// CHECK-LABEL: func.func @embed_of_decoded
// CHECK-SAME: %[[I:.*]]: tensor<?xi32>, %[[W:.*]]: tensor
func.func @embed_of_decoded(%i: tensor<?xi32>, %w: tensor<48x64xf16, #k3>) -> tensor<?x64xf32> {
  // CHECK-NEXT: skim.embed %[[I]], %[[W]]
  %d = skim.convert %w : tensor<48x64xf16, #k3> to tensor<48x64xf32>
  %y = skim.embed %i, %d : tensor<?xi32>, tensor<48x64xf32> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// CHECK-LABEL: func.func @linear_of_rounded
func.func @linear_of_rounded(%x: tensor<?x64xf32>, %w: tensor<48x64xf16, #k3>) -> tensor<?x48xf32> {
  // CHECK: skim.convert
  %d = skim.convert %w : tensor<48x64xf16, #k3> to tensor<48x64xf16>
  %y = skim.linear %x, %d : tensor<?x64xf32>, tensor<48x64xf16> -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// Pure operations without uses go; observe stays.
// CHECK-LABEL: func.func @dead
func.func @dead(%x: tensor<?x64xf32>, %w: tensor<48x64xf16, #k3>) {
  // CHECK-NEXT: skim.observe
  // CHECK-NEXT: return
  skim.observe %x {layer = "a"} : tensor<?x64xf32>
  %0 = skim.linear %x, %w : tensor<?x64xf32>, tensor<48x64xf16, #k3> -> tensor<?x48xf32>
  %1 = skim.external "file" offset = 0 : tensor<4xf32>
  return
}
