// Values by hand (numpy), of the operations and of their reference lowering.
//
// RUN: skim-interpret %s --function=attention | FileCheck %s --check-prefix=ATTENTION
// RUN: skim-interpret %s --function=norms | FileCheck %s --check-prefix=NORMS
// RUN: skim-interpret %s --function=rotary | FileCheck %s --check-prefix=ROTARY
// RUN: skim-interpret %s --function=head | FileCheck %s --check-prefix=HEAD
// RUN: skim-opt %s --convert-skim-to-upstream -o %t.mlir
// RUN: skim-interpret %t.mlir --function=attention | FileCheck %s --check-prefix=ATTENTION
// RUN: skim-interpret %t.mlir --function=norms | FileCheck %s --check-prefix=NORMS
// RUN: skim-interpret %t.mlir --function=rotary | FileCheck %s --check-prefix=ROTARY
// RUN: skim-interpret %t.mlir --function=head | FileCheck %s --check-prefix=HEAD

func.func @attention() -> (tensor<2x2x4x2xf32>, tensor<2x2x8xf32>, tensor<2x2x8xf32>) {
  %q = arith.constant dense<[[[-0.75, -0.25, 1.75, 0.75, -1.75, 0.0, -0.5, 0.25], [-1.5, 0.25, 0.25, 1.5, 0.25, 0.5, -1.5, 2.25]], [[-2.0, 1.0, -0.25, -1.0, -0.75, -0.75, 0.5, 0.0], [1.5, -1.75, 0.0, -1.0, 0.75, -2.0, -0.25, 0.25]]]> : tensor<2x2x8xf32>
  %k = arith.constant dense<[[[-1.5, 1.0, 0.25, 1.0], [1.0, -1.0, -0.75, -0.25]], [[0.75, 0.75, -0.75, -0.5], [-0.75, -0.5, -0.25, -0.25]]]> : tensor<2x2x4xf32>
  %v = arith.constant dense<[[[2.0, -0.5, -0.25, 0.5], [-1.0, -0.25, 0.0, 0.75]], [[-1.25, 1.25, -0.25, 0.25], [0.75, 0.75, 1.0, 0.25]]]> : tensor<2x2x4xf32>
  %k0 = arith.constant dense<[[[[0.0, 0.25], [-1.0, 1.25], [-0.75, -1.25], [2.0, -0.25]], [[-1.25, 1.75], [-0.25, 1.0], [-0.75, -0.25], [-1.75, -2.0]]], [[[-1.0, 0.0], [0.75, 2.5], [-1.0, 1.0], [-0.5, -0.25]], [[-1.5, -1.5], [-0.75, -1.25], [0.0, -0.75], [1.25, 0.25]]]]> : tensor<2x2x4x2xf32>
  %v0 = arith.constant dense<[[[[0.25, 1.25], [0.5, 0.0], [0.0, 0.0], [1.0, 0.75]], [[0.25, 0.75], [-0.5, 0.5], [-1.5, 1.25], [0.0, 0.25]]], [[[0.5, 0.0], [-0.25, 1.25], [0.0, -1.0], [0.5, -1.75]], [[1.75, -0.25], [0.0, 2.25], [2.25, 0.0], [0.5, 1.0]]]]> : tensor<2x2x4x2xf32>
  %start = arith.constant dense<[0, 2]> : tensor<2xi32>
  %count = arith.constant dense<[1, 2]> : tensor<2xi32>
  %k1 = lm.cache_append %k, %k0, %start, %count : tensor<2x2x4xf32>, tensor<2x2x4x2xf32>, tensor<2xi32>
  %v1 = lm.cache_append %v, %v0, %start, %count : tensor<2x2x4xf32>, tensor<2x2x4x2xf32>, tensor<2xi32>
  %y = lm.attention %q, %k1, %v1, %start {heads = 4 : i64, scale = 0.5 : f32} : tensor<2x2x8xf32>, tensor<2x2x4x2xf32>, tensor<2xi32> -> tensor<2x2x8xf32>
  %z = lm.attention %q, %k1, %v1, %start {heads = 4 : i64, scale = 0.5 : f32, window = 2 : i64, softcap = 1.5 : f32} : tensor<2x2x8xf32>, tensor<2x2x4x2xf32>, tensor<2xi32> -> tensor<2x2x8xf32>
  return %k1, %y, %z : tensor<2x2x4x2xf32>, tensor<2x2x8xf32>, tensor<2x2x8xf32>
}
// ATTENTION: 2x2x4x2xf32: -1.5 1 -1 1.25 -0.75 -1.25 2 -0.25 0.25 1 -0.25 1 -0.75 -0.25 -1.75 -2 -1 {{-?}}0 0.75 2.5 0.75 0.75 -0.75 -0.5 -1.5 -1.5 -0.75 -1.25 -0.75 -0.5 -0.25 -0.25
// ATTENTION-NEXT: 2x2x8xf32: 2 -0.5 2 -0.5 -0.25 0.5 -0.25 0.5 1.3776{{[0-9]*}} -0.29255{{[0-9]*}} 1.1567{{[0-9]*}} -0.21891{{[0-9]*}} -0.37109{{[0-9]*}} 0.5 -0.39816{{[0-9]*}} 0.5 0.017381{{[0-9]*}} 0.57772{{[0-9]*}} -0.13905{{[0-9]*}} 0.54872{{[0-9]*}} 0.73447{{[0-9]*}} 0.64643{{[0-9]*}} 0.42445{{[0-9]*}} 0.81043{{[0-9]*}} -0.11749{{[0-9]*}} 0.83099{{[0-9]*}} 0.16338{{[0-9]*}} 0.66923{{[0-9]*}} 0.70071{{[0-9]*}} 0.77519{{[0-9]*}} 0.62754{{[0-9]*}} 0.59721{{[0-9]*}}
// ATTENTION-NEXT: 2x2x8xf32: 2 -0.5 2 -0.5 -0.25 0.5 -0.25 0.5 1.3297{{[0-9]*}} -0.27657{{[0-9]*}} 1.1738{{[0-9]*}} -0.22460{{[0-9]*}} -0.37120{{[0-9]*}} 0.5 -0.38893{{[0-9]*}} 0.5 -0.54950{{[0-9]*}} 1.25 -0.89961{{[0-9]*}} 1.25 -0.11012{{[0-9]*}} 1.3689{{[0-9]*}} -0.125 1.25 -0.26554{{[0-9]*}} 1.0038{{[0-9]*}} 0.048201{{[0-9]*}} 0.92544{{[0-9]*}} 0.35577{{[0-9]*}} 0.25 0.36523{{[0-9]*}} 0.25
func.func @norms() -> (tensor<1x2x6xf32>, tensor<1x2x6xf32>, tensor<1x2x6xf32>) {
  %x = arith.constant dense<[[[1.75, -0.25, 0.25, 1.25, 0.25, 0.75], [0.5, -1.25, -0.75, -2.75, -0.25, 1.25]]]> : tensor<1x2x6xf32>
  %w = arith.constant dense<[-1.0, 1.25, 1.0, 0.0, 0.0, 0.0]> : tensor<6xf32>
  %part = arith.constant dense<[-0.75, -0.25, 0.0]> : tensor<3xf32>
  %0 = lm.rms_norm %x, %w {epsilon = 0.5 : f32} : tensor<1x2x6xf32>, tensor<6xf32>
  %1 = lm.rms_norm %x, %part {epsilon = 0.25 : f32, offset = 1.0 : f32, heads = 2 : i64} : tensor<1x2x6xf32>, tensor<3xf32>
  %2 = lm.silu %x : tensor<1x2x6xf32>
  return %0, %1, %2 : tensor<1x2x6xf32>, tensor<1x2x6xf32>, tensor<1x2x6xf32>
}
// NORMS: 1x2x6xf32: -1.4812{{[0-9]*}} -0.26450{{[0-9]*}} 0.21160{{[0-9]*}} {{-?}}0 {{-?}}0 {{-?}}0 -0.32094{{[0-9]*}} -1.0029{{[0-9]*}} -0.48141{{[0-9]*}} {{-?}}0 {{-?}}0 {{-?}}0
// NORMS-NEXT: 1x2x6xf32: 0.38188{{[0-9]*}} -0.16366{{[0-9]*}} 0.21821{{[0-9]*}} 0.31580{{[0-9]*}} 0.18948{{[0-9]*}} 0.75793{{[0-9]*}} 0.12247{{[0-9]*}} -0.91855{{[0-9]*}} -0.73484{{[0-9]*}} -0.37774{{[0-9]*}} -0.10302{{[0-9]*}} 0.68680{{[0-9]*}}
// NORMS-NEXT: 1x2x6xf32: 1.4909{{[0-9]*}} -0.10945{{[0-9]*}} 0.14054{{[0-9]*}} 0.97162{{[0-9]*}} 0.14054{{[0-9]*}} 0.50938{{[0-9]*}} 0.31122{{[0-9]*}} -0.27837{{[0-9]*}} -0.24061{{[0-9]*}} -0.16523{{[0-9]*}} -0.10945{{[0-9]*}} 0.97162{{[0-9]*}}
func.func @rotary() -> (tensor<1x2xi32>, tensor<1x2x2xf32>, tensor<1x2x12xf32>, tensor<1x2x12xf32>) {
  %x = arith.constant dense<[[[0.5, 0.75, -0.75, 0.75, -0.75, -0.25, 0.25, 0.0, -0.25, 0.25, -0.5, -0.75], [-0.25, 1.0, 0.0, 2.0, 0.25, -3.0, -0.5, 1.75, 0.0, -0.5, -0.75, 1.25]]]> : tensor<1x2x12xf32>
  %tokens = arith.constant dense<[[0, 0]]> : tensor<1x2xi32>
  %start = arith.constant dense<[3]> : tensor<1xi32>
  %f = arith.constant dense<[1.0, 0.25]> : tensor<2xf32>
  %p = lm.positions %tokens, %start : tensor<1x2xi32>, tensor<1xi32>
  %cos, %sin = lm.rotary_table %p, %f {scale = 2.0 : f32} : tensor<1x2xi32>, tensor<2xf32> -> tensor<1x2x2xf32>
  %0 = lm.rotary %x, %cos, %sin {heads = 2 : i64} : tensor<1x2x12xf32>, tensor<1x2x2xf32>
  %1 = lm.rotary %x, %cos, %sin {heads = 2 : i64, interleaved} : tensor<1x2x12xf32>, tensor<1x2x2xf32>
  return %p, %sin, %0, %1 : tensor<1x2xi32>, tensor<1x2x2xf32>, tensor<1x2x12xf32>, tensor<1x2x12xf32>
}
// ROTARY: 1x2xi32: 3 4
// ROTARY-NEXT: 1x2x2xf32: 0.28224{{[0-9]*}} 1.3632{{[0-9]*}} -1.5136{{[0-9]*}} 1.6829{{[0-9]*}}
// ROTARY-NEXT: 1x2x12xf32: -0.77831{{[0-9]*}} 0.075075{{[0-9]*}} 1.6261{{[0-9]*}} 2.1199{{[0-9]*}} -0.75 -0.25 -0.42443{{[0-9]*}} -0.34081{{[0-9]*}} 0.56555{{[0-9]*}} 0.36584{{[0-9]*}} -0.5 -0.75 0.32682{{[0-9]*}} -2.2852{{[0-9]*}} 0.37840{{[0-9]*}} 3.8441{{[0-9]*}} 0.25 -3 0.65364{{[0-9]*}} 2.7325{{[0-9]*}} 0.75680{{[0-9]*}} 2.4048{{[0-9]*}} -0.75 1.25
// ROTARY-NEXT: 1x2x12xf32: -1.2016{{[0-9]*}} -1.3438{{[0-9]*}} -2.1199{{[0-9]*}} 0.075075{{[0-9]*}} -0.75 -0.25 -0.49499{{[0-9]*}} 0.070560{{[0-9]*}} -0.70666{{[0-9]*}} 0.025025{{[0-9]*}} -0.5 -0.75 1.8404{{[0-9]*}} -0.92888{{[0-9]*}} -3.3658{{[0-9]*}} 2.1612{{[0-9]*}} 0.25 -3 3.3024{{[0-9]*}} -1.5309{{[0-9]*}} 0.84147{{[0-9]*}} -0.54030{{[0-9]*}} -0.75 1.25
func.func @head() -> (tensor<2x3xf32>, tensor<2xf32>) {
  %x = arith.constant dense<[[[1.0, 0.75, 0.5], [1.5, 0.75, -1.25]], [[0.75, 0.25, 0.0], [0.75, 0.0, -3.0]]]> : tensor<2x2x3xf32>
  %rows = arith.constant dense<[3, 0]> : tensor<2xi32>
  %targets = arith.constant dense<[2, 0]> : tensor<2xi32>
  %0 = lm.gather_rows %x, %rows : tensor<2x2x3xf32>, tensor<2xi32> -> tensor<2x3xf32>
  %1 = lm.cross_entropy %0, %targets : tensor<2x3xf32>, tensor<2xi32> -> tensor<2xf32>
  return %0, %1 : tensor<2x3xf32>, tensor<2xf32>
}
// HEAD: 2x3xf32: 0.75 {{-?}}0 -3 1 0.75 0.5
// HEAD-NEXT: 2xf32: 4.1527{{[0-9]*}} 0.86933{{[0-9]*}}
