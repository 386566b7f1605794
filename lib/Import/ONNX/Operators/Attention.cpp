//===- Attention.cpp - fused attention and rotary embedding -----------------===//
#include "../Operator.h"

using namespace mlir;
using namespace skim::onnx;

static Dim scaled(NodeContext &ctx, Dim dim, int64_t times, int64_t by) {
  std::optional<Dim> product = ctx.dims.multiply(dim, ctx.constant(times));
  std::optional<Dim> out = product ? ctx.dims.divide(*product, ctx.constant(by)) : std::nullopt;
  return out ? *out : ctx.dims.unknown();
}

/// ai.onnx Attention (opset 23): Q, K, V as [B, H, S, D], or [B, S, H * D] with
/// q_num_heads and kv_num_heads; past K and V [B, H, P, D].
static bool inferAttention(NodeContext &ctx) {
  for (StringRef name : {"is_causal", "qk_matmul_output_mode"})
    ctx.setInt(name, ctx.getInt(name, 0));
  ctx.setFloat("softcap", ctx.getFloat("softcap", 0));
  const Info &q = ctx.in(0), &k = ctx.in(1), &v = ctx.in(2);
  Type element = q.element;
  if (!q.shape || !k.shape || !v.shape) {
    for (unsigned i = 0; i < 4; ++i)
      ctx.set(i, element, std::nullopt);
    return true;
  }
  size_t rank = q.shape->size();
  if ((rank != 3 && rank != 4) || k.shape->size() != rank || v.shape->size() != rank)
    return ctx.fail("q, k and v of rank 3 or 4", ctx.text(q) + ", " + ctx.text(k) + " and " + ctx.text(v));
  int64_t heads = ctx.getInt("q_num_heads", 0), kvHeads = ctx.getInt("kv_num_heads", 0);
  if (rank == 3 && (heads <= 0 || kvHeads <= 0))
    return ctx.fail("q_num_heads and kv_num_heads", "a missing one");
  Dim batch = (*q.shape)[0], length = (*q.shape)[rank - 2];
  Dim keyHeads = rank == 4 ? (*k.shape)[1] : ctx.constant(kvHeads);
  Dim keyDim = rank == 4 ? (*k.shape)[3] : scaled(ctx, (*k.shape)[2], 1, kvHeads);
  Dim valueDim = rank == 4 ? (*v.shape)[3] : scaled(ctx, (*v.shape)[2], 1, kvHeads);
  Dim total = (*k.shape)[rank - 2];
  if (ctx.has(4) && ctx.rank(4) == 4)
    total = ctx.addOrUnknown((*ctx.in(4).shape)[2], total);
  else if (ctx.has(4))
    total = ctx.dims.unknown();
  if (rank == 4)
    ctx.set(0, element, Dims{batch, (*q.shape)[1], length, valueDim});
  else
    ctx.set(0, element, Dims{batch, length, scaled(ctx, valueDim, heads, 1)});
  ctx.set(1, k.element, Dims{batch, keyHeads, total, keyDim});
  ctx.set(2, v.element, Dims{batch, keyHeads, total, valueDim});
  ctx.set(3, element, Dims{batch, rank == 4 ? (*q.shape)[1] : ctx.constant(heads), length, total});
  return true;
}

/// ai.onnx RotaryEmbedding (opset 23) and com.microsoft's, which has other
/// operands (input, position_ids, cos, sin) but the same result.
static bool inferRotary(NodeContext &ctx) {
  for (StringRef name : {"interleaved", "num_heads", "rotary_embedding_dim"})
    ctx.setInt(name, ctx.getInt(name, 0));
  return inferSameAsFirst(ctx);
}

/// com.microsoft GroupQueryAttention: query [B, S, H * D] with key and value
/// [B, S, Hkv * D], or packed query [B, S, (H + 2 Hkv) * D]; past [B, Hkv, P, D].
static bool inferGroupQueryAttention(NodeContext &ctx) {
  int64_t heads = ctx.getInt("num_heads", 0), kvHeads = ctx.getInt("kv_num_heads", 0);
  if (!ctx.has(5) || !ctx.has(6))
    return ctx.fail("seqlens_k and total_sequence_length", "an omitted one");
  if (heads <= 0 || kvHeads <= 0 || heads % kvHeads || heads > INT32_MAX)
    return ctx.fail("num_heads a multiple of kv_num_heads", std::to_string(heads) + " and " + std::to_string(kvHeads));
  for (StringRef name : {"do_rotary", "rotary_interleaved", "smooth_softmax"})
    ctx.setInt(name, ctx.getInt(name, 0));
  ctx.setInt("local_window_size", ctx.getInt("local_window_size", -1));
  ctx.setFloat("softcap", ctx.getFloat("softcap", 0));
  ctx.setFloat("scale", ctx.getFloat("scale", 0));
  const Info &q = ctx.in(0);
  if (!q.shape || q.shape->size() != 3) {
    if (q.shape)
      return ctx.fail("a query of rank 3", ctx.text(q));
    for (unsigned i = 0; i < 3; ++i)
      ctx.set(i, q.element, std::nullopt);
    return true;
  }
  bool packed = !ctx.has(1);
  Dim batch = (*q.shape)[0], length = (*q.shape)[1], width = (*q.shape)[2];
  int64_t parts = packed ? heads + 2 * kvHeads : heads;
  if (std::optional<int64_t> n = ctx.number(width); n && *n % parts)
    return ctx.fail("a width of " + std::to_string(parts) + " heads", std::to_string(*n));
  Dim headDim = scaled(ctx, width, 1, parts);
  ctx.set(0, q.element, Dims{batch, length, packed ? scaled(ctx, headDim, heads, 1) : width});
  Dim total = length;
  Type cache = q.element;
  if (ctx.has(3)) {
    cache = ctx.in(3).element;
    total = ctx.rank(3) == 4 ? ctx.addOrUnknown((*ctx.in(3).shape)[2], length) : ctx.dims.unknown();
  }
  Dims present{batch, ctx.constant(kvHeads), total, headDim};
  ctx.set(1, cache, present);
  ctx.set(2, cache, present);
  ctx.set(3, q.element, std::nullopt);
  return true;
}

/// com.microsoft MultiHeadAttention: query [B, S, H * D]; past [B, H, P, D].
static bool inferMultiHeadAttention(NodeContext &ctx) {
  int64_t heads = ctx.getInt("num_heads", 0);
  if (heads <= 0)
    return ctx.fail("num_heads", std::to_string(heads));
  ctx.setInt("unidirectional", ctx.getInt("unidirectional", 0));
  ctx.setFloat("scale", ctx.getFloat("scale", 0));
  const Info &q = ctx.in(0);
  if (ctx.rank(0) != 3 || !ctx.has(1) || ctx.rank(1) != 3 || !ctx.has(2) || ctx.rank(2) != 3) {
    // Packed layouts: the result's rank alone is sure.
    ctx.set(0, q.element, Dims{ctx.dims.unknown(), ctx.dims.unknown(), ctx.dims.unknown()});
    for (unsigned i = 1; i < 4; ++i)
      ctx.set(i, q.element, std::nullopt);
    return true;
  }
  Dim batch = (*q.shape)[0], length = (*q.shape)[1], total = (*ctx.in(1).shape)[1];
  ctx.set(0, q.element, Dims{batch, length, (*ctx.in(2).shape)[2]});
  if (ctx.has(6))
    total = ctx.rank(6) == 4 ? ctx.addOrUnknown((*ctx.in(6).shape)[2], total) : ctx.dims.unknown();
  Dim keyDim = scaled(ctx, (*ctx.in(1).shape)[2], 1, heads), valueDim = scaled(ctx, (*ctx.in(2).shape)[2], 1, heads);
  ctx.set(1, q.element, Dims{batch, ctx.constant(heads), total, keyDim});
  ctx.set(2, q.element, Dims{batch, ctx.constant(heads), total, valueDim});
  ctx.set(3, q.element, Dims{batch, ctx.constant(heads), length, total});
  return true;
}

ArrayRef<Operator> skim::onnx::attentionOperators() {
  static const Operator rows[] = {
      {"", "Attention", 3, 7, 4, inferAttention},
      {"", "RotaryEmbedding", 3, 4, 1, inferRotary},
      {"com.microsoft", "RotaryEmbedding", 4, 4, 1, inferRotary},
      {"com.microsoft", "GroupQueryAttention", 1, 14, 4, inferGroupQueryAttention},
      {"com.microsoft", "MultiHeadAttention", 1, 10, 4, inferMultiHeadAttention},
  };
  return rows;
}
