// RUN: skim-opt %s --split-input-file --verify-diagnostics

// Functions are named by the constraint in SkimEncodings.td and SkimOps.td that they break.

// expected-error @+1 {{expected f16, bf16 or f32, got 'f64'}}
func.func private @dense_c1(tensor<48x64xf16, #skim.dense<f64>>)

// -----

// expected-error @+1 {{expected bits from 1 to 8, got 9}}
func.func private @uniform_c1(tensor<48x64xf16, #skim.uniform<bits = 9>>)

// -----

// expected-error @+1 {{expected bits from 1 to 8, got 0}}
func.func private @uniform_c1_missing(tensor<48x64xf16, #skim.uniform<group = 32>>)

// -----

// expected-error @+1 {{expected a positive group below 2^31, got -4}}
func.func private @uniform_c2(tensor<48x64xf16, #skim.uniform<bits = 4, group = -4>>)

// -----

// expected-error @+1 {{expected 'asymmetric' beside zero = 'f16'}}
func.func private @uniform_c3_symmetric(tensor<48x64xf16, #skim.uniform<bits = 4, zero = f16>>)

// -----

// expected-error @+1 {{expected zero = f16 or f32, got 'i8'}}
func.func private @uniform_c3_type(tensor<48x64xf16, #skim.uniform<bits = 4, asymmetric, zero = i8>>)

// -----

// expected-error @+1 {{expected scale = f16 or f32, got 'bf16'}}
func.func private @uniform_c4(tensor<48x64xf16, #skim.uniform<bits = 4, scale = bf16>>)

// -----

// expected-error @+1 {{expected bits from 1 to 8, got 12}}
func.func private @codebook_c1(tensor<48x64xf16, #skim.codebook<bits = 12>>)

// -----

// expected-error @+1 {{expected table = f16, bf16 or i8, got 'i4'}}
func.func private @codebook_c2(tensor<48x64xf16, #skim.codebook<bits = 3, table = i4>>)

// -----

// expected-error @+1 {{expected scope = row or tensor, got column}}
func.func private @codebook_c3(tensor<48x64xf16, #skim.codebook<bits = 3, scope = column>>)

// -----

// expected-error @+1 {{expected bits from 2 to 8, got 1}}
func.func private @block_float_c1(tensor<48x64xf16, #skim.block_float<bits = 1, block = 16>>)

// -----

// expected-error @+1 {{expected a positive block below 2^31, got 0}}
func.func private @block_float_c2(tensor<48x64xf16, #skim.block_float<bits = 4, block = 0>>)

// -----

// expected-error @+1 {{expected bits = 4 with element = e2m1, got 3}}
func.func private @block_float_c3(tensor<48x64xf16, #skim.block_float<bits = 3, block = 16, element = e2m1>>)

// -----

// expected-error @+1 {{expected element = int, ocp_int or e2m1, got fp8}}
func.func private @block_float_element(tensor<48x64xf16, #skim.block_float<bits = 8, block = 16, element = fp8>>)

// -----

// expected-error @+1 {{expected bits from 1 to 8, got 9}}
func.func private @planes_c1(tensor<48x64xf16, #skim.planes<bits = 9>>)

// -----

// expected-error @+1 {{expected levels = 4 or 5, got 6}}
func.func private @planes_c2(tensor<48x64xf16, #skim.planes<bits = 2, levels = 6>>)

// -----

// expected-error @+1 {{expected a positive group below 2^31, got -1}}
func.func private @planes_c3(tensor<48x64xf16, #skim.planes<bits = 2, group = -1>>)

// -----

// expected-error @+1 {{expected at least one part with its number of rows}}
func.func private @rows_c1_empty(tensor<48x64xf16, #skim.rows<[]>>)

// -----

// expected-error @+1 {{expected a positive number of rows, got 0}}
func.func private @rows_c1_count(tensor<48x64xf16, #skim.rows<[#skim.dense<f16> : 0, #skim.dense<f32> : 48]>>)

// -----

// expected-error @+1 {{expected the order low_rank, scaled, rows, leaf, got #skim.scaled<#skim.dense<f16>> inside rows}}
func.func private @rows_c2(tensor<48x64xf16, #skim.rows<[#skim.scaled<#skim.dense<f16>> : 48]>>)

// -----

// expected-error @+1 {{expected bits from 1 to 8, got 9}}
func.func private @rows_inner(tensor<48x64xf16, #skim.rows<[#skim.codebook<bits = 9> : 48]>>)

// -----

// expected-error @+1 {{expected numbers of rows that sum to 48, got 47}}
func.func private @rows_c3_fewer(tensor<48x64xf16, #skim.rows<[#skim.dense<f16> : 40, #skim.dense<f32> : 7]>>)

// -----

// expected-error @+1 {{expected numbers of rows that sum to 48, got more}}
func.func private @rows_c3_overflow(tensor<48x64xf16, #skim.rows<[#skim.dense<f16> : 9223372036854775807, #skim.dense<f32> : 9223372036854775807]>>)

// -----

// expected-error @+1 {{expected the order low_rank, scaled, rows, leaf, got #skim.scaled<#skim.dense<f16>> inside scaled}}
func.func private @scaled_c1_twice(tensor<48x64xf16, #skim.scaled<#skim.scaled<#skim.dense<f16>>>>)

// -----

// expected-error @+1 {{expected a weight encoding inside scaled, got #skim.per_token<bits = 8>}}
func.func private @scaled_c1_activation(tensor<48x64xf16, #skim.scaled<#skim.per_token<bits = 8>>>)

// -----

// expected-error @+1 {{expected the order low_rank, scaled, rows, leaf}}
func.func private @low_rank_c1(tensor<48x64xf16, #skim.low_rank<#skim.low_rank<#skim.dense<f16>, rank = 1, factors = #skim.dense<f16>>, rank = 1, factors = #skim.dense<f16>>>)

// -----

// expected-error @+1 {{expected a positive rank, got 0}}
func.func private @low_rank_c2_zero(tensor<48x64xf16, #skim.low_rank<#skim.dense<f16>, rank = 0, factors = #skim.dense<f16>>>)

// -----

// expected-error @+1 {{expected a rank of at most 48, got 49}}
func.func private @low_rank_c2_large(tensor<48x64xf16, #skim.low_rank<#skim.dense<f16>, rank = 49, factors = #skim.dense<f16>>>)

// -----

// expected-error @+1 {{got #skim.rows<[#skim.dense<f16> : 48]> inside the factors of low_rank}}
func.func private @low_rank_c3(tensor<48x64xf16, #skim.low_rank<#skim.dense<f16>, rank = 2, factors = #skim.rows<[#skim.dense<f16> : 48]>>>)

// -----

// expected-error @+1 {{expected bits from 2 to 8, got 16}}
func.func private @per_token_c1(tensor<?x64xf32, #skim.per_token<bits = 16>>)

// -----

// expected-error @+1 {{expected a tensor of f16, bf16 or f32 with a last dimension for per_token, got rank 2 of 'i8'}}
func.func private @per_token_c2(tensor<?x64xi8, #skim.per_token<bits = 8>>)

// -----

// expected-error @+1 {{expected an element type f16, bf16 or f32 for an encoded tensor, got 'i32'}}
func.func private @weight_c1(tensor<48x64xi32, #skim.dense<f16>>)

// -----

// expected-error @+1 {{expected a weight of rank 2 (rows, columns), got rank 3}}
func.func private @weight_c2_rank(tensor<2x48x64xf16, #skim.codebook<bits = 3>>)

// -----

// expected-error @+1 {{expected static, positive sizes below 2^31 of an encoded weight, got 'tensor<?x64xf16>'}}
func.func private @weight_c2_dynamic(tensor<?x64xf16, #skim.codebook<bits = 3>>)

// -----

// expected-error @+1 {{expected static, positive sizes below 2^31 of an encoded weight, got 'tensor<0x64xf16>'}}
func.func private @weight_c2_empty(tensor<0x64xf16, #skim.codebook<bits = 3>>)

// -----

// expected-error @+1 {{expected static, positive sizes below 2^31 of an encoded weight, got 'tensor<2147483648x64xf16>'}}
func.func private @weight_c2_huge(tensor<2147483648x64xf16, #skim.codebook<bits = 3>>)

// -----

// expected-error @+1 {{'bits' is given twice}}
func.func private @parameter_twice(tensor<48x64xf16, #skim.codebook<bits = 3, bits = 4>>)

// -----

// expected-error @+1 {{unknown parameter 'width', expected one of bits, table, scope}}
func.func private @parameter_unknown(tensor<48x64xf16, #skim.codebook<width = 3>>)

// -----

func.func @external_c1() {
  // expected-error @+1 {{expected an offset of at least 0, got -1}}
  %0 = skim.external "file" offset = -1 : tensor<4xf32>
  return
}

// -----

func.func @external_c2() {
  // expected-error @+1 {{expected a plain tensor (components are assembled), got 'tensor<4x4xf16, #skim.dense<f16>>'}}
  %0 = skim.external "file" offset = 0 : tensor<4x4xf16, #skim.dense<f16>>
  return
}

// -----

func.func @external_c3_count() {
  // expected-error @+1 {{expected a stride for each dimension of 'tensor<4x4xf16>', got 1}}
  %0 = skim.external "file" offset = 0 strides = [1] : tensor<4x4xf16>
  return
}

// -----

func.func @external_c3_negative() {
  // expected-error @+1 {{expected strides of at least 0, got -1}}
  %0 = skim.external "file" offset = 0 strides = [-1] : tensor<4xf16>
  return
}

// -----

func.func @external_c4() {
  // expected-error @+1 {{expected a sha256 of 64 hexadecimal digits, got 'abc'}}
  %0 = skim.external "file" offset = 0 sha256 = "abc" : tensor<4xf16>
  return
}

// -----

func.func @external_c5() {
  // expected-error @+1 {{expected the name of a file}}
  %0 = skim.external "" offset = 0 : tensor<4xf16>
  return
}

// -----

func.func @assemble_c1(%c: tensor<48x24xi8>) {
  // expected-error @+1 {{expected an encoded weight, got 'tensor<48x64xf16>'}}
  %0 = skim.assemble %c : tensor<48x24xi8> to tensor<48x64xf16>
  return
}

// -----

func.func @assemble_c1_activation(%c: tensor<?x24xi8>) {
  // expected-error @+1 {{expected an encoded weight, got 'tensor<?x64xf16, #skim.block_float<bits = 4, block = 16>>'}}
  %0 = skim.assemble %c : tensor<?x24xi8> to tensor<?x64xf16, #skim.block_float<bits = 4, block = 16>>
  return
}

// -----

func.func @assemble_c2(%c: tensor<48x24xi8>) {
  // expected-error @+1 {{expected 2 components, got 1}}
  %0 = skim.assemble %c : tensor<48x24xi8> to tensor<48x64xf16, #skim.codebook<bits = 3>>
  return
}

// -----

func.func @assemble_c3(%c: tensor<48x24xi8>, %t: tensor<48x4xf16>) {
  // expected-error @+1 {{expected component 'table' of type 'tensor<48x8xf16>', got 'tensor<48x4xf16>'}}
  %0 = skim.assemble %c, %t : tensor<48x24xi8>, tensor<48x4xf16> to tensor<48x64xf16, #skim.codebook<bits = 3>>
  return
}

// -----

// Names of nested components carry their path.
func.func @assemble_c3_nested(%c: tensor<1x8xi8>, %t: tensor<1x4xf16>, %p: tensor<1xi32>) {
  // expected-error @+1 {{expected component 'rows.0.codes' of type 'tensor<1x16xi8>', got 'tensor<1x8xi8>'}}
  %0 = skim.assemble %c, %t, %p : tensor<1x8xi8>, tensor<1x4xf16>, tensor<1xi32> to tensor<1x64xf16, #skim.rows<[#skim.codebook<bits = 2> : 1]>>
  return
}

// -----

func.func @disassemble_c1(%w: tensor<48x64xf16>) {
  // expected-error @+1 {{expected an encoded weight, got 'tensor<48x64xf16>'}}
  %0 = skim.disassemble %w : tensor<48x64xf16> to tensor<48x24xi8>
  return
}

// -----

func.func @disassemble_c2(%w: tensor<48x64xf16, #skim.codebook<bits = 3>>) {
  // expected-error @+1 {{expected 2 components, got 1}}
  %0 = skim.disassemble %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x24xi8>
  return
}

// -----

func.func @disassemble_c3(%w: tensor<48x64xf16, #skim.codebook<bits = 3>>) {
  // expected-error @+1 {{expected component 'codes' of type 'tensor<48x24xi8>', got 'tensor<48x24xi4>'}}
  %0, %1 = skim.disassemble %w : tensor<48x64xf16, #skim.codebook<bits = 3>> to tensor<48x24xi4>, tensor<48x8xf16>
  return
}

// -----

func.func @convert_c1(%w: tensor<48x64xf16>) {
  // expected-error @+1 {{expected equal shapes, got 'tensor<48x64xf16>' and 'tensor<64x48xf16>'}}
  %0 = skim.convert %w : tensor<48x64xf16> to tensor<64x48xf16>
  return
}

// -----

func.func @convert_c2(%w: tensor<48x64xi8>) {
  // expected-error @+1 {{operand #0 must be ranked tensor of 16-bit float or bfloat16 type or 32-bit float or 64-bit float values, but got 'tensor<48x64xi8>'}}
  %0 = skim.convert %w : tensor<48x64xi8> to tensor<48x64xf32>
  return
}

// -----

func.func @linear_c1(%x: tensor<?x64xf32>, %w: tensor<64xf32>) {
  // expected-error @+1 {{expected a weight of rank 2 (rows, columns), got 'tensor<64xf32>'}}
  %0 = skim.linear %x, %w : tensor<?x64xf32>, tensor<64xf32> -> tensor<?x48xf32>
  return
}

// -----

func.func @linear_c2_rank(%x: tensor<?x64xf32>, %w: tensor<48x64xf32>) {
  // expected-error @+1 {{expected input and result of equal rank, got 'tensor<?x64xf32>' and 'tensor<48xf32>'}}
  %0 = skim.linear %x, %w : tensor<?x64xf32>, tensor<48x64xf32> -> tensor<48xf32>
  return
}

// -----

func.func @linear_c2_leading(%x: tensor<2x64xf32>, %w: tensor<48x64xf32>) {
  // expected-error @+1 {{expected equal leading dimensions, got 'tensor<2x64xf32>' and 'tensor<3x48xf32>'}}
  %0 = skim.linear %x, %w : tensor<2x64xf32>, tensor<48x64xf32> -> tensor<3x48xf32>
  return
}

// -----

func.func @linear_c3(%x: tensor<?x63xf32>, %w: tensor<48x64xf32>) {
  // expected-error @+1 {{expected an input of 64 columns, got 'tensor<?x63xf32>'}}
  %0 = skim.linear %x, %w : tensor<?x63xf32>, tensor<48x64xf32> -> tensor<?x48xf32>
  return
}

// -----

func.func @linear_c4(%x: tensor<?x64xf32>, %w: tensor<48x64xf32>) {
  // expected-error @+1 {{expected a result of 48 columns, got 'tensor<?x47xf32>'}}
  %0 = skim.linear %x, %w : tensor<?x64xf32>, tensor<48x64xf32> -> tensor<?x47xf32>
  return
}

// -----

func.func @linear_c5(%x: tensor<?x64xf32>, %w: tensor<48x64xf32>, %b: tensor<64xf32>) {
  // expected-error @+1 {{expected a bias of 48 elements, got 'tensor<64xf32>'}}
  %0 = skim.linear %x, %w bias %b : tensor<?x64xf32>, tensor<48x64xf32>, tensor<64xf32> -> tensor<?x48xf32>
  return
}

// -----

func.func @linear_types(%x: tensor<?x64xf32>, %w: tensor<48x64xf32>) {
  // expected-error @+1 {{expected two operand types without a bias}}
  %0 = skim.linear %x, %w : tensor<?x64xf32>, tensor<48x64xf32>, tensor<48xf32> -> tensor<?x48xf32>
  return
}

// -----

func.func @linear_c6(%x: tensor<?x64xf32>, %w: tensor<48x64xf32>) {
  // expected-error @+1 {{expected mode f32, bf16 or a8, got a4}}
  %0 = skim.linear %x, %w {mode = "a4"} : tensor<?x64xf32>, tensor<48x64xf32> -> tensor<?x48xf32>
  return
}

// -----

func.func @embed_c1(%i: tensor<?xi8>, %w: tensor<48x64xf32>) {
  // expected-error @+1 {{operand #0 must be ranked tensor of 32-bit signless integer or 64-bit signless integer values, but got 'tensor<?xi8>'}}
  %0 = skim.embed %i, %w : tensor<?xi8>, tensor<48x64xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @embed_c2(%i: tensor<?xi32>, %w: tensor<64xf32>) {
  // expected-error @+1 {{expected a table of rank 2, got 'tensor<64xf32>'}}
  %0 = skim.embed %i, %w : tensor<?xi32>, tensor<64xf32> -> tensor<?x64xf32>
  return
}

// -----

func.func @embed_c3(%i: tensor<?xi32>, %w: tensor<48x64xf32>) {
  // expected-error @+1 {{expected a result of shape 'tensor<?x64xf32>', got 'tensor<?x48xf32>'}}
  %0 = skim.embed %i, %w : tensor<?xi32>, tensor<48x64xf32> -> tensor<?x48xf32>
  return
}

// -----

func.func @observe_c1(%x: tensor<48x64xf32, #skim.dense<f32>>) {
  // expected-error @+1 {{expected a plain tensor with a last dimension, got 'tensor<48x64xf32, #skim.dense<f32>>'}}
  skim.observe %x {layer = "a"} : tensor<48x64xf32, #skim.dense<f32>>
  return
}

// -----

func.func @observe_c2(%x: tensor<?x64xf32>) {
  // expected-error @+1 {{expected the name of a layer}}
  skim.observe %x {layer = ""} : tensor<?x64xf32>
  return
}
