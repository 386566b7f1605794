// RUN: skim-opt %s --skim-verify-encodings --split-input-file --verify-diagnostics

func.func @fenced_in(%x: tensor<?x64xf32>, %codes: tensor<48x24xi8>, %table: tensor<48x8xf16>) -> tensor<?x48xf32> {
  %w = skim.assemble %codes, %table : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #skim.codebook<bits = 3>>
  %y = skim.linear %x, %w : tensor<?x64xf32>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// -----

func.func @escaped(%w: tensor<48x64xf16, #skim.codebook<bits = 3>>) -> tensor<64x48xf16> {
  // expected-error @+1 {{expected encoded tensors on skim, func, scf and lm cache operations only, got 'tensor<48x64xf16, #skim.codebook<bits = 3>>'}}
  %0 = arith.negf %w : tensor<48x64xf16, #skim.codebook<bits = 3>>
  %1 = tensor.empty() : tensor<64x48xf16>
  return %1 : tensor<64x48xf16>
}

// -----

// 64 KiB are allowed, and a splat is one element.
func.func @data() -> (tensor<1048576xf32>, tensor<2xi64>) {
  %splat = arith.constant dense<1.0> : tensor<1048576xf32>
  %small = arith.constant dense<[1, 2]> : tensor<2xi64>
  return %splat, %small : tensor<1048576xf32>, tensor<2xi64>
}
