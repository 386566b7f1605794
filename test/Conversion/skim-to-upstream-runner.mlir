// What the reference lowering leaves runs through upstream's own pipeline.
//
// RUN: skim-opt %s --convert-skim-to-upstream --canonicalize --cse \
// RUN:   --one-shot-bufferize=bufferize-function-boundaries --convert-linalg-to-loops --convert-scf-to-cf \
// RUN:   --expand-strided-metadata --lower-affine --convert-arith-to-llvm --convert-math-to-llvm --convert-math-to-libm \
// RUN:   --finalize-memref-to-llvm --convert-func-to-llvm --convert-cf-to-llvm --reconcile-unrealized-casts \
// RUN: | mlir-runner -e main --entry-point-result=void --shared-libs=%mlir_lib_dir/libmlir_runner_utils.so,%mlir_lib_dir/libmlir_c_runner_utils.so \
// RUN: | FileCheck %s

#term = #skim.low_rank<#skim.scaled<#skim.rows<[#skim.codebook<bits = 1> : 1, #skim.codebook<bits = 2> : 1]>>,
                       rank = 1, factors = #skim.dense<f16>>

func.func private @printMemrefF32(%ptr: tensor<*xf32>)

// As in test/Reference/nested.mlir.
func.func @linear(%x: tensor<?x3xf32>, %w: tensor<2x3xf16, #term>) -> tensor<?x2xf32> {
  %y = skim.linear %x, %w : tensor<?x3xf32>, tensor<2x3xf16, #term> -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

func.func @main() {
  %codes0 = arith.constant dense<[[5]]> : tensor<1x1xi8>
  %table0 = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf16>
  %codes1 = arith.constant dense<[[19]]> : tensor<1x1xi8>
  %table1 = arith.constant dense<[[0.0, 1.0, 4.0, 8.0]]> : tensor<1x4xf16>
  %rows = arith.constant dense<[1, 0]> : tensor<2xi16>
  %alpha = arith.constant dense<[1.0, 2.0, 0.5]> : tensor<3xf16>
  %a = arith.constant dense<[[1.0, -1.0, 0.0]]> : tensor<1x3xf16>
  %b = arith.constant dense<[[1.0], [2.0]]> : tensor<2x1xf16>
  %w = skim.assemble %codes0, %table0, %codes1, %table1, %rows, %alpha, %a, %b
     : tensor<1x1xi8>, tensor<1x2xf16>, tensor<1x1xi8>, tensor<1x4xf16>, tensor<2xi16>, tensor<3xf16>,
       tensor<1x3xf16>, tensor<2x1xf16> to tensor<2x3xf16, #term>
  %x = arith.constant dense<[[1.0, 10.0, 100.0]]> : tensor<1x3xf32>
  %xd = tensor.cast %x : tensor<1x3xf32> to tensor<?x3xf32>
  %y = call @linear(%xd, %w) : (tensor<?x3xf32>, tensor<2x3xf16, #term>) -> tensor<?x2xf32>
  // CHECK: {{\[\[}}49, 104]]
  %u = tensor.cast %y : tensor<?x2xf32> to tensor<*xf32>
  call @printMemrefF32(%u) : (tensor<*xf32>) -> ()
  return
}
