//===- LMOps.td - language model operations -----------------*- tablegen -*-===//
#ifndef SKIM_LM_OPS_TD
#define SKIM_LM_OPS_TD

include "mlir/IR/OpBase.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "skim/LM/LMDialect.td"

class LM_Op<string mnemonic, list<Trait> traits = []> : Op<LM_Dialect, mnemonic, traits>;

def LM_Float : AnyTypeOf<[F16, BF16, F32, F64]>;
def LM_Int : AnyTypeOf<[I32, I64]>;
def LM_FloatTensor : RankedTensorOf<[LM_Float]>;
def LM_FloatTensor3D : TensorRankOf<[LM_Float], [3]>;
def LM_Vector : TensorRankOf<[LM_Float], [1]>;
// Per sequence: start, count; per wanted row: rows.
def LM_IntVector : TensorRankOf<[LM_Int], [1]>;
def LM_IntMatrix : TensorRankOf<[LM_Int], [2]>;
def LM_IntTensor : RankedTensorOf<[LM_Int]>;
// [batch, heads, capacity, size], possibly encoded.
def LM_Cache : TensorRankOf<[LM_Float], [4]>;

def LM_RMSNormOp : LM_Op<"rms_norm", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "root mean square normalization";
  let description = [{
    `y[…,c] = x[…,c] / sqrt(mean_c(x²) + epsilon) · (weight[c] + offset)`; offset is 1
    for Gemma's (1 + w), else 0. Groups: with `heads = H` each of the H equal
    parts of the channels is normalized by itself, weight [C/H] shared (q/k norm).

    Constraints:
    * (rms_norm_c1) the channels are static and divide into `heads` equal parts.
    * (rms_norm_c2) the weight has as many elements as a part.
    * (rms_norm_c3) epsilon is not negative.

    ```mlir
    func.func @example(%x: tensor<?x?x64xf32>, %w: tensor<64xf32>) {
      %y = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32} : tensor<?x?x64xf32>, tensor<64xf32>
      return
    }
    ```
  }];
  let arguments = (ins LM_FloatTensor:$input, LM_Vector:$weight, F32Attr:$epsilon,
                       DefaultValuedAttr<F32Attr, "0.0f">:$offset, DefaultValuedAttr<I64Attr, "1">:$heads);
  let results = (outs LM_FloatTensor:$result);
  let assemblyFormat = "$input `,` $weight attr-dict `:` type($input) `,` type($weight)";
  let hasVerifier = 1;
}

def LM_SiLUOp : LM_Op<"silu", [Pure, SameOperandsAndResultType]> {
  let summary = "x·sigmoid(x)";
  let description = [{
    `y = x / (1 + exp(−x))`, element by element.

    ```mlir
    func.func @example(%x: tensor<?x?x172xf32>) {
      %y = lm.silu %x : tensor<?x?x172xf32>
      return
    }
    ```
  }];
  let arguments = (ins LM_FloatTensor:$input);
  let results = (outs LM_FloatTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input)";
}

def LM_PositionsOp : LM_Op<"positions", [Pure, AllTypesMatch<["tokens", "result"]>]> {
  let summary = "the position of each token";
  let description = [{
    `p[b,s] = start[b] + s`; the values of `tokens` do not matter, its shape does.

    Constraints:
    * (positions_c1) tokens is [batch, length], start is [batch], both of i32 or i64.
    * (positions_c2) the batches agree where they are static.

    ```mlir
    func.func @example(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>) {
      %p = lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>
      return
    }
    ```
  }];
  let arguments = (ins LM_IntMatrix:$tokens, LM_IntVector:$start);
  let results = (outs LM_IntMatrix:$result);
  let assemblyFormat = "$tokens `,` $start attr-dict `:` type($tokens) `,` type($start)";
  let hasVerifier = 1;
}

def LM_RotaryTableOp : LM_Op<"rotary_table", [Pure]> {
  let summary = "cosines and sines of rotary embedding";
  let description = [{
    `cos[…,i] = scale·cos(positions[…]·frequencies[i])`, likewise sin. The product
    is rounded to f32, as exporters compute it.

    Constraints:
    * (rotary_table_c1) the results' shape is that of positions, then the number of frequencies.

    ```mlir
    func.func @example(%p: tensor<?x?xi32>, %f: tensor<4xf32>) {
      %cos, %sin = lm.rotary_table %p, %f : tensor<?x?xi32>, tensor<4xf32> -> tensor<?x?x4xf32>
      return
    }
    ```
  }];
  let arguments = (ins LM_IntTensor:$positions, LM_Vector:$frequencies,
                       DefaultValuedAttr<F32Attr, "1.0f">:$scale);
  let results = (outs LM_FloatTensor:$cos, LM_FloatTensor:$sin);
  let assemblyFormat = [{
    $positions `,` $frequencies attr-dict `:` type($positions) `,` type($frequencies) `->` custom<SameTypes>(type($cos), type($sin))
  }];
  let hasVerifier = 1;
}

def LM_RotaryOp : LM_Op<"rotary", [Pure, AllTypesMatch<["input", "result"]>, AllTypesMatch<["cos", "sin"]>]> {
  let summary = "rotary position embedding";
  let description = [{
    For each of `heads` heads of dimension D, over its first 2·R channels (R: the
    tables' last dimension; the rest passes unchanged), with (a, b) = channels (i, i + R), or
    (2i, 2i + 1) when `interleaved`: a' = a·cos[i] − b·sin[i], b' = b·cos[i] + a·sin[i].

    Constraints:
    * (rotary_c1) the channels are static and divide into `heads` equal parts.
    * (rotary_c2) the tables have the input's rank and at most D/2 columns.
    * (rotary_c3) the tables' leading dimensions are the input's where static.

    ```mlir
    func.func @example(%x: tensor<?x?x64xf32>, %cos: tensor<?x?x4xf32>, %sin: tensor<?x?x4xf32>) {
      %y = lm.rotary %x, %cos, %sin {heads = 8 : i64} : tensor<?x?x64xf32>, tensor<?x?x4xf32>
      return
    }
    ```
  }];
  let arguments = (ins LM_FloatTensor:$input, LM_FloatTensor:$cos, LM_FloatTensor:$sin, I64Attr:$heads,
                       UnitAttr:$interleaved);
  let results = (outs LM_FloatTensor:$result);
  let assemblyFormat = "$input `,` $cos `,` $sin attr-dict `:` type($input) `,` type($cos)";
  let hasVerifier = 1;
}

def LM_CacheAppendOp : LM_Op<"cache_append", [Pure, AllTypesMatch<["cache", "result"]>, AllTypesMatch<["start", "count"]>]> {
  let summary = "writes new keys or values into a cache, in place";
  let description = [{
    For s < count[b]: `result[b, h, start[b] + s, :] = input[b, s, h·D … ]`, all else as
    in `cache` [batch, heads, capacity, D]. Destination passing: the result is the
    same memory as `cache`, which has no other use after it; a cache is never copied.
    start + count beyond the capacity has no meaning: the runtime checks it.

    Constraints:
    * (cache_append_c1) the cache is [batch, heads, capacity, D], heads and D static.
    * (cache_append_c2) the input is [batch, length, heads·D].
    * (cache_append_c3) the batches agree where they are static.

    ```mlir
    func.func @example(%k: tensor<?x?x32xf32>, %k0: tensor<?x4x?x8xf32>, %start: tensor<?xi32>, %count: tensor<?xi32>) {
      %k1 = lm.cache_append %k, %k0, %start, %count : tensor<?x?x32xf32>, tensor<?x4x?x8xf32>, tensor<?xi32>
      return
    }
    ```
  }];
  let arguments = (ins LM_FloatTensor3D:$input, LM_Cache:$cache, LM_IntVector:$start, LM_IntVector:$count);
  let results = (outs LM_Cache:$result);
  let assemblyFormat = [{
    $input `,` $cache `,` $start `,` $count attr-dict `:` type($input) `,` type($cache) `,` type($start)
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
    (the new tokens already appended). Rows past a sequence's count are padding:
    finite, without meaning.

    Constraints:
    * (attention_c1) the query's channels are static and divide into `heads` heads of the keys' size D.
    * (attention_c2) keys and values have equal batch, heads and capacity; heads and sizes are static.
    * (attention_c3) `heads` is a multiple of the kv heads.
    * (attention_c4) window and softcap are positive where given.
    * (attention_c5) the result is [batch, length, heads·size of values].
    * (attention_c6) the batches agree where they are static.

    ```mlir
    func.func @example(%q: tensor<?x?x64xf32>, %k: tensor<?x4x?x8xf32>, %v: tensor<?x4x?x8xf32>, %start: tensor<?xi32>) {
      %y = lm.attention %q, %k, %v, %start {heads = 8 : i64, scale = 0.35 : f32}
         : tensor<?x?x64xf32>, tensor<?x4x?x8xf32>, tensor<?xi32> -> tensor<?x?x64xf32>
      return
    }
    ```
  }];
  let arguments = (ins LM_FloatTensor3D:$query, LM_Cache:$keys, LM_Cache:$values, LM_IntVector:$start,
                       I64Attr:$heads, F32Attr:$scale, OptionalAttr<I64Attr>:$window, OptionalAttr<F32Attr>:$softcap);
  let results = (outs LM_FloatTensor3D:$result);
  let assemblyFormat = [{
    $query `,` $keys `,` $values `,` $start attr-dict `:` type($query) `,` custom<SameTypes>(type($keys), type($values)) `,` type($start) `->` type($result)
  }];
  let hasVerifier = 1;
}

def LM_GatherRowsOp : LM_Op<"gather_rows", [Pure]> {
  let summary = "the rows whose logits are wanted";
  let description = [{
    `y[i,:] = x[b, s, :]` with rows[i] = b·length + s. A row outside has no
    meaning: the runtime makes them.

    Constraints:
    * (gather_rows_c1) the input is [batch, length, C], rows is [R].
    * (gather_rows_c2) the result is [R, C] of the input's elements.

    ```mlir
    func.func @example(%x: tensor<?x?x64xf32>, %rows: tensor<?xi32>) {
      %y = lm.gather_rows %x, %rows : tensor<?x?x64xf32>, tensor<?xi32> -> tensor<?x64xf32>
      return
    }
    ```
  }];
  let arguments = (ins LM_FloatTensor3D:$input, LM_IntVector:$rows);
  let results = (outs TensorRankOf<[LM_Float], [2]>:$result);
  let assemblyFormat = "$input `,` $rows attr-dict `:` type($input) `,` type($rows) `->` type($result)";
  let hasVerifier = 1;
}

def LM_CrossEntropyOp : LM_Op<"cross_entropy", [Pure]> {
  let summary = "negative log likelihood of target tokens";
  let description = [{
    `loss[…] = log Σ_v exp(logits[…,v]) − logits[…, targets[…]]`, in nats.

    Constraints:
    * (cross_entropy_c1) the targets' shape is that of logits without the last dimension.
    * (cross_entropy_c2) the result's shape is that of targets.

    ```mlir
    func.func @example(%logits: tensor<?x512xf32>, %targets: tensor<?xi32>) {
      %l = lm.cross_entropy %logits, %targets : tensor<?x512xf32>, tensor<?xi32> -> tensor<?xf32>
      return
    }
    ```
  }];
  let arguments = (ins LM_FloatTensor:$logits, LM_IntTensor:$targets);
  let results = (outs LM_FloatTensor:$result);
  let assemblyFormat = "$logits `,` $targets attr-dict `:` type($logits) `,` type($targets) `->` type($result)";
  let hasVerifier = 1;
}

#endif
