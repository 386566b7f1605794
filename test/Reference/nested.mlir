// RUN: skim-interpret %s | FileCheck %s

// low_rank over scaled over rows of codebooks, by hand. Stored rows: row 0 is
// logical row 1 (1-bit codes 1,0,1: table [1, 2] gives 2 1 2), row 1 is logical
// row 0 (2-bit codes 3,0,1: table [0, 1, 4, 8] gives 8 0 1). alpha = [1, 2, 0.5].
// low rank: B = [1, 2]ᵀ, A = [1, -1, 0], in f16.
#term = #skim.low_rank<#skim.scaled<#skim.rows<[#skim.codebook<bits = 1> : 1, #skim.codebook<bits = 2> : 1]>>,
                       rank = 1, factors = #skim.dense<f16>>

func.func @forward() -> (tensor<2x3xf32>, tensor<1x2xf32>, tensor<2x3xf16>) {
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
  // CHECK: 2x3xf32: 9 -1 0.5 4 0 1
  %d = skim.convert %w : tensor<2x3xf16, #term> to tensor<2x3xf32>
  %x = arith.constant dense<[[1.0, 10.0, 100.0]]> : tensor<1x3xf32>
  // CHECK: 1x2xf32: 49 104
  %y = skim.linear %x, %w : tensor<1x3xf32>, tensor<2x3xf16, #term> -> tensor<1x2xf32>
  %ids = arith.constant dense<[1, 0]> : tensor<2xi32>
  // CHECK: 2x3xf16: 4 0 1 9 -1 0.5
  %e = skim.embed %ids, %w : tensor<2xi32>, tensor<2x3xf16, #term> -> tensor<2x3xf16>
  return %d, %y, %e : tensor<2x3xf32>, tensor<1x2xf32>, tensor<2x3xf16>
}
