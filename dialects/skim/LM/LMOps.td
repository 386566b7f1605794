//===- LMOps.td - language model operations -----------------*- tablegen -*-===//
#ifndef SKIM_LM_OPS_TD
#define SKIM_LM_OPS_TD

include "mlir/IR/OpBase.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "skim/LM/LMDialect.td"

class LM_Op<string mnemonic, list<Trait> traits = []> : Op<LM_Dialect, mnemonic, traits>;

def LM_RMSNormOp : LM_Op<"rms_norm", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "root mean square normalization";
  let description = [{
    `y[…,c] = x[…,c] / sqrt(mean_c(x²) + epsilon) · (weight[c] + offset)`; offset is 1
    for Gemma's (1 + w), else 0. Groups: with `heads = H` each of the H equal
    parts of the channels is normalized by itself, weight [C/H] shared (q/k norm).

    ```mlir
    %y = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32} : tensor<?x?x64xf32>, tensor<64xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, AnyRankedTensor:$weight, F32Attr:$epsilon,
                       DefaultValuedAttr<F32Attr, "0.0f">:$offset, DefaultValuedAttr<I64Attr, "1">:$heads);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$input `,` $weight attr-dict `:` type($input) `,` type($weight)";
  let hasVerifier = 1;
}

def LM_SiLUOp : LM_Op<"silu", [Pure, SameOperandsAndResultType]> {
  let summary = "x·sigmoid(x)";
  let description = [{
    ```mlir
    %y = lm.silu %x : tensor<?x?x172xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input)";
}

def LM_PositionsOp : LM_Op<"positions", [Pure, AllTypesMatch<["tokens", "result"]>]> {
  let summary = "the position of each token";
  let description = [{
    `p[b,s] = start[b] + s`.

    ```mlir
    %p = lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$tokens, AnyRankedTensor:$start);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$tokens `,` $start attr-dict `:` type($tokens) `,` type($start)";
}

def LM_RotaryTableOp : LM_Op<"rotary_table", [Pure]> {
  let summary = "cosines and sines of rotary embedding";
  let description = [{
    `cos[b,s,i] = scale·cos(positions[b,s]·frequencies[i])`, likewise sin;
    i in [0, D/2). The product is rounded to f32, as exporters compute it.

    ```mlir
    %cos, %sin = lm.rotary_table %p, %f : tensor<?x?xi32>, tensor<4xf32> -> tensor<?x?x4xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$positions, AnyRankedTensor:$frequencies,
                       DefaultValuedAttr<F32Attr, "1.0f">:$scale);
  let results = (outs AnyRankedTensor:$cos, AnyRankedTensor:$sin);
  let assemblyFormat = "$positions `,` $frequencies attr-dict `:` type($positions) `,` type($frequencies) `->` custom<SameTypes>(type($cos), type($sin))";
}

def LM_RotaryOp : LM_Op<"rotary", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "rotary position embedding";
  let description = [{
    For each of `heads` heads of dimension D, over its first 2·R channels (R: the
    tables' last dimension; the rest passes unchanged), with (a, b) = channels (i, i + R), or
    (2i, 2i + 1) when `interleaved`: a' = a·cos[i] − b·sin[i], b' = b·cos[i] + a·sin[i].

    ```mlir
    %y = lm.rotary %x, %cos, %sin {heads = 8 : i64} : tensor<?x?x64xf32>, tensor<?x?x4xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, AnyRankedTensor:$cos, AnyRankedTensor:$sin, I64Attr:$heads,
                       UnitAttr:$interleaved);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$input `,` $cos `,` $sin attr-dict `:` type($input) `,` custom<SameTypes>(type($cos), type($sin))";
  let hasVerifier = 1;
}

def LM_CacheAppendOp : LM_Op<"cache_append", [Pure, AllTypesMatch<["cache", "result"]>]> {
  let summary = "writes new keys or values into a cache, in place";
  let description = [{
    For s < count[b]: `result[b, h, start[b] + s, :] = input[b, s, h·D … ]`, all else as
    in `cache` [batch, heads, capacity, D]. Destination passing: the result is the
    same memory as `cache`, which has no other use after it; a cache is never copied.

    ```mlir
    %k1 = lm.cache_append %k, %k0, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, AnyRankedTensor:$cache, AnyRankedTensor:$start, AnyRankedTensor:$count);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $input `,` $cache `,` $start `,` $count attr-dict `:` type($input) `,` type($cache) `,` custom<SameTypes>(type($start), type($count))
  }];
  let hasVerifier = 1;
}

def LM_AttentionOp : LM_Op<"attention", [Pure]> {
  let summary = "causal attention over a cache";
  let description = [{
    Query row (b, s), head h, attends to cache entries j of head h / (heads / kv heads)
    with j ≤ p and, with `window = w`, j > p − w, where p = start[b] + s:
    `softmax_j(cap(scale·q·k_j))·v_j`, cap(x) = softcap·tanh(x / softcap) where
    `softcap` is given. query [batch, length, heads·D], caches [batch, kv heads, capacity, D]
    (the new tokens already appended).

    ```mlir
    %y = lm.attention %q, %k1, %v1, %start {heads = 8 : i64, scale = 0.35 : f32}
       : tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$query, AnyRankedTensor:$keys, AnyRankedTensor:$values, AnyRankedTensor:$start,
                       I64Attr:$heads, F32Attr:$scale, OptionalAttr<I64Attr>:$window, OptionalAttr<F32Attr>:$softcap);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $query `,` $keys `,` $values `,` $start attr-dict `:` type($query) `,` custom<SameTypes>(type($keys), type($values)) `,` type($start) `->` type($result)
  }];
  let hasVerifier = 1;
}

def LM_GatherRowsOp : LM_Op<"gather_rows", [Pure]> {
  let summary = "the rows whose logits are wanted";
  let description = [{
    `y[i,:] = x[b, s, :]` with rows[i] = b·length + s.

    ```mlir
    %y = lm.gather_rows %x, %rows : tensor<?x?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input, AnyRankedTensor:$rows);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$input `,` $rows attr-dict `:` type($input) `,` type($rows) `->` type($result)";
}

def LM_CrossEntropyOp : LM_Op<"cross_entropy", [Pure]> {
  let summary = "negative log likelihood of target tokens";
  let description = [{
    `loss[i] = log Σ_v exp(logits[i,v]) − logits[i, targets[i]]`, in nats; any leading dimensions.

    ```mlir
    %l = lm.cross_entropy %logits, %targets : tensor<?x512xf32>, tensor<?xi32> -> tensor<?xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$logits, AnyRankedTensor:$targets);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$logits `,` $targets attr-dict `:` type($logits) `,` type($targets) `->` type($result)";
}

#endif
