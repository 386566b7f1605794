// RUN: skim-opt %s --skim-verify-cache --split-input-file --verify-diagnostics

func.func @chain(%x: tensor<?x?x32xf32>, %start: tensor<?xi32>, %count: tensor<?xi32>,
                 %k: tensor<?x4x?x8xf32> {skim.cache}) -> (tensor<?x?x32xf32>, tensor<?x4x?x8xf32>) {
  %k1 = lm.cache_append %x, %k, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  %y = lm.attention %x, %k1, %k1, %start {heads = 4 : i64, scale = 0.5 : f32}
     : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x32xf32>
  return %y, %k1 : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>
}

// -----

func.func @two_appends(%x: tensor<?x?x32xf32>, %start: tensor<?xi32>, %count: tensor<?xi32>,
                       %k: tensor<?x4x?x8xf32> {skim.cache}) -> tensor<?x4x?x8xf32> {
  // expected-error @+1 {{expected one append to cache 3, got two, which needs a copy}}
  %k1 = lm.cache_append %x, %k, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  %k2 = lm.cache_append %x, %k, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  return %k2 : tensor<?x4x?x8xf32>
}

// -----

func.func @stale_use(%x: tensor<?x?x32xf32>, %start: tensor<?xi32>, %count: tensor<?xi32>,
                     %k: tensor<?x4x?x8xf32> {skim.cache}) -> (tensor<?x?x32xf32>, tensor<?x4x?x8xf32>) {
  %k1 = lm.cache_append %x, %k, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
  // expected-error @+1 {{expected no use of cache 3 after lm.cache_append wrote into it, got this use}}
  %y = lm.attention %x, %k, %k1, %start {heads = 4 : i64, scale = 0.5 : f32}
     : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x32xf32>
  return %y, %k1 : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>
}

// -----

func.func @other_use(%k: tensor<?x4x?x8xf32> {skim.cache}) -> tensor<?x4x?x8xf32> {
  // expected-error @+1 {{expected cache 0 used by lm.cache_append, lm.attention and return only, got this use}}
  %0 = arith.negf %k : tensor<?x4x?x8xf32>
  return %0 : tensor<?x4x?x8xf32>
}

// -----

func.func @order(%k: tensor<?x4x?x8xf32> {skim.cache}, %v: tensor<?x4x?x8xf32> {skim.cache})
    -> (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) {
  // expected-error @+1 {{expected the last 2 results to be the caches in the order of the arguments, got something else}}
  return %v, %k : tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>
}
