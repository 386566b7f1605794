// RUN: skim-opt %s --split-input-file --verify-diagnostics --skim-differentiate="function=f wrt=0"

// expected-error@+1 {{expected a function @f to differentiate}}
module {
  func.func @g(%x: tensor<4xf32>) -> tensor<4xf32> {
    return %x : tensor<4xf32>
  }
}

// -----

// expected-error@+1 {{expected a body of one block to differentiate}}
func.func private @f(tensor<4xf32>) -> tensor<4xf32>

// -----

// expected-error@+1 {{expected numbers of arguments below 0 in wrt, got 0}}
func.func @f() {
  return
}

// -----

// expected-error@+1 {{expected arguments of float type in wrt, got 'tensor<4xi32>' of argument 0}}
func.func @f(%x: tensor<4xi32>) -> tensor<4xi32> {
  return %x : tensor<4xi32>
}

// -----

// expected-error@+1 {{expected arguments of float type in wrt, got 'tensor<48x64xf16, #skim.codebook<bits = 3>>' of argument 0}}
func.func @f(%w: tensor<48x64xf16, #skim.codebook<bits = 3>>, %x: tensor<?x64xf32>) -> tensor<?x48xf32> {
  %y = skim.linear %x, %w : tensor<?x64xf32>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// -----

// expected-error@+1 {{expected no function @f_vjp}}
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}
func.func @f_vjp() {
  return
}

// -----

func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{'math.asin' op has no derivative}}
  %y = math.asin %x : tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// Not on the way from the argument to a result of float type.
func.func @f(%x: tensor<4xf32>, %z: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xi32>) {
  %y = math.asin %z : tensor<4xf32>
  %i = arith.fptosi %x : tensor<4xf32> to tensor<4xi32>
  %n = math.asin %x : tensor<4xf32>
  %s = arith.addf %x, %y : tensor<4xf32>
  return %s, %i : tensor<4xf32>, tensor<4xi32>
}

// -----

func.func @f(%cos: tensor<?x4xf32>, %sin: tensor<?x4xf32>, %x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  // expected-error@+1 {{'lm.rotary' op has no derivative with respect to operand #1}}
  %y = lm.rotary %x, %cos, %sin {heads = 8 : i64} : tensor<?x64xf32>, tensor<?x4xf32>
  return %y : tensor<?x64xf32>
}

// -----

func.func @f(%table: tensor<32x8xf32>, %ids: tensor<?xi32>) -> tensor<?x8xf32> {
  // expected-error@+1 {{'skim.embed' op has no derivative}}
  %y = skim.embed %ids, %table : tensor<?xi32>, tensor<32x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

func.func @f(%x: f32, %n: index) -> tensor<?xf32> {
  // expected-error@+1 {{'tensor.generate' op has no derivative}}
  %y = tensor.generate %n {
  ^bb0(%i: index):
    tensor.yield %x : f32
  } : tensor<?xf32>
  return %y : tensor<?xf32>
}

// -----

func.func @f(%x: tensor<4x5xf32>, %i: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{'linalg.reduce' op has no derivative: expected reductions to add to result #0 or to find its extremum from an initial value that is fixed}}
  %y = linalg.reduce { arith.mulf } ins(%x : tensor<4x5xf32>) outs(%i : tensor<4xf32>) dimensions = [1]
  return %y : tensor<4xf32>
}

// -----

func.func @f(%x: tensor<1x8x1xf32>, %k: tensor<3x1x1xf32>, %i: tensor<1x6x1xf32>) -> tensor<1x6x1xf32> {
  // expected-error@+1 {{op has no derivative with respect to operand #0: expected an indexing map that only permutes loops, got}}
  %y = linalg.conv_1d_nwc_wcf ins(%x, %k : tensor<1x8x1xf32>, tensor<3x1x1xf32>) outs(%i : tensor<1x6x1xf32>) -> tensor<1x6x1xf32>
  return %y : tensor<1x6x1xf32>
}

// -----

func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %e = tensor.empty() : tensor<4xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
      ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
  ^bb0(%a: f32, %o: f32):
    // expected-error@+1 {{'math.asin' op has no derivative}}
    %1 = math.asin %a : f32
    linalg.yield %1 : f32
  } -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

func.func @f(%x: tensor<?xf32>, %i: tensor<?xi32>) -> tensor<?xf32> {
  // expected-error@+1 {{'linalg.generic' op has no derivative with respect to a value that its region reads}}
  %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
      ins(%i : tensor<?xi32>) outs(%x : tensor<?xf32>) {
  ^bb0(%n: i32, %o: f32):
    %at = arith.index_cast %n : i32 to index
    %1 = tensor.extract %x[%at] : tensor<?xf32>
    linalg.yield %1 : f32
  } -> tensor<?xf32>
  return %y : tensor<?xf32>
}

// -----

func.func @f(%x: tensor<?x?x32xf32>, %c: tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>, %s: tensor<?xi32>, %n: tensor<?xi32>,
             %q: tensor<?x?x32xf32>) -> tensor<?x?x32xf32> {
  %k = lm.cache_append %x, %c, %s, %n : tensor<?x?x32xf32>, tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>, tensor<?xi32>
  // expected-error@+1 {{'lm.attention' op has no derivative with respect to operand #1, which is encoded}}
  %y = lm.attention %q, %k, %k, %s {heads = 4 : i64, scale = 1.0 : f32}
     : tensor<?x?x32xf32>, tensor<?x4x?x8xf32, #skim.per_token<bits = 8>>, tensor<?xi32> -> tensor<?x?x32xf32>
  return %y : tensor<?x?x32xf32>
}

// -----

// One value as several operands: each needs a derivative.
func.func @f(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %c = tensor.cast %x : tensor<?x2xf32> to tensor<?x2xf32>
  %s = tensor.extract_slice %c[0, 0] [2, 2] [1, 1] : tensor<?x2xf32> to tensor<2x2xf32>
  %t = tensor.extract_slice %s[0, 0] [2, 1] [1, 1] : tensor<2x2xf32> to tensor<2x1xf32>
  // expected-error@+1 {{'lm.rotary' op has no derivative with respect to operand #1}}
  %y = lm.rotary %s, %t, %t {heads = 1 : i64} : tensor<2x2xf32>, tensor<2x1xf32>
  %z = tensor.cast %y : tensor<2x2xf32> to tensor<?x2xf32>
  return %z : tensor<?x2xf32>
}

// -----

func.func @f(%table: tensor<48x8xf16>, %codes: tensor<48x24xi8>, %x: tensor<?x64xf32>) -> tensor<?x48xf32> {
  %w = skim.assemble %codes, %table : tensor<48x24xi8>, tensor<48x8xf16> to tensor<48x64xf16, #skim.codebook<bits = 3>>
  // expected-error@+1 {{'skim.linear' op has no derivative with respect to operand #1, which is encoded}}
  %y = skim.linear %x, %w : tensor<?x64xf32>, tensor<48x64xf16, #skim.codebook<bits = 3>> -> tensor<?x48xf32>
  return %y : tensor<?x48xf32>
}

// -----

func.func @f(%i: tensor<4xf32>, %x: tensor<4x5xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expected reductions to add to result #0 or to find its extremum from an initial value that is fixed}}
  %y = linalg.reduce { arith.maximumf } ins(%x : tensor<4x5xf32>) outs(%i : tensor<4xf32>) dimensions = [1]
  return %y : tensor<4xf32>
}

// -----

// Running sums.
func.func @f(%x: tensor<4xf32>, %s: tensor<f32>) -> (tensor<f32>, tensor<4xf32>) {
  // expected-error@+1 {{expected reductions to add to result #0}}
  %y:2 = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> ()>, affine_map<(i) -> (i)>],
                         iterator_types = ["reduction"]}
      ins(%x : tensor<4xf32>) outs(%s, %x : tensor<f32>, tensor<4xf32>) {
  ^bb0(%a: f32, %o: f32, %p: f32):
    %1 = arith.addf %o, %a : f32
    linalg.yield %1, %1 : f32, f32
  } -> (tensor<f32>, tensor<4xf32>)
  return %y#0, %y#1 : tensor<f32>, tensor<4xf32>
}
