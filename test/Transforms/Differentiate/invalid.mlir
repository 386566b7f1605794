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
