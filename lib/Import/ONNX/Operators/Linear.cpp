//===- Linear.cpp - products with weights, plain and quantized --------------===//
#include "../Operator.h"

using namespace mlir;
using namespace skim::onnx;

/// Product of matrices in the last two dimensions, numpy rules.
static bool inferMatMul(NodeContext &ctx) {
  const Info &a = ctx.in(0), &b = ctx.in(1);
  if (a.element != b.element)
    return ctx.fail("operands of one type", ctx.text(a) + " and " + ctx.text(b));
  if (!a.shape || !b.shape) {
    ctx.set(0, a.element, std::nullopt);
    return true;
  }
  if (a.shape->empty() || b.shape->empty())
    return ctx.fail("operands of rank 1 or more", ctx.text(a) + " and " + ctx.text(b));
  Dims left = *a.shape, right = *b.shape;
  bool vectorLeft = left.size() == 1, vectorRight = right.size() == 1;
  if (vectorLeft)
    left.insert(left.begin(), ctx.constant(1));
  if (vectorRight)
    right.push_back(ctx.constant(1));
  std::optional<int64_t> ka = ctx.number(left.back()), kb = ctx.number(right[right.size() - 2]);
  if (ka && kb && *ka != *kb)
    return ctx.fail("one inner dimension", ctx.text(a) + " and " + ctx.text(b));
  Dims out;
  if (!ctx.broadcast(Dims(left.begin(), left.end() - 2), Dims(right.begin(), right.end() - 2), out))
    return false;
  if (!vectorLeft)
    out.push_back(left[left.size() - 2]);
  if (!vectorRight)
    out.push_back(right.back());
  ctx.set(0, a.element, out);
  return true;
}

static bool inferGemm(NodeContext &ctx) {
  bool transA = ctx.getInt("transA", 0) != 0, transB = ctx.getInt("transB", 0) != 0;
  ctx.setInt("transA", transA);
  ctx.setInt("transB", transB);
  ctx.setFloat("alpha", ctx.getFloat("alpha", 1));
  ctx.setFloat("beta", ctx.getFloat("beta", 1));
  const Info &a = ctx.in(0), &b = ctx.in(1);
  if (!a.shape || !b.shape) {
    ctx.set(0, a.element, Dims{ctx.dims.unknown(), ctx.dims.unknown()});
    return true;
  }
  if (a.shape->size() != 2 || b.shape->size() != 2)
    return ctx.fail("matrices", ctx.text(a) + " and " + ctx.text(b));
  std::optional<int64_t> ka = ctx.number((*a.shape)[transA ? 0 : 1]), kb = ctx.number((*b.shape)[transB ? 1 : 0]);
  if (ka && kb && *ka != *kb)
    return ctx.fail("one inner dimension", ctx.text(a) + " and " + ctx.text(b));
  ctx.set(0, a.element, Dims{(*a.shape)[transA ? 1 : 0], (*b.shape)[transB ? 0 : 1]});
  return true;
}

/// x [..., K] by codes [N, blocks, block * bits / 8]: onnxruntime's contrib spec.
static bool inferMatMulNBits(NodeContext &ctx) {
  std::optional<int64_t> k = ctx.getInt("K"), n = ctx.getInt("N"), block = ctx.getInt("block_size");
  if (!k || !n || !block || *k <= 0 || *n <= 0 || *block <= 0)
    return ctx.fail("attributes K, N and block_size", "a missing one");
  int64_t bits = ctx.getInt("bits", 4);
  ctx.setInt("bits", bits);
  if (bits < 1 || bits > 8)
    return ctx.fail("1 to 8 bits", std::to_string(bits));
  const Info &x = ctx.in(0), &codes = ctx.in(1), &scales = ctx.in(2);
  if (x.shape) {
    std::optional<int64_t> inner = x.shape->empty() ? std::nullopt : ctx.number(x.shape->back());
    if (x.shape->empty() || (inner && *inner != *k))
      return ctx.fail("an input of K = " + std::to_string(*k), ctx.text(x));
  }
  if (*k > INT32_MAX || *n > INT32_MAX || *block > INT32_MAX)
    return ctx.fail("sizes of 32 bits", std::to_string(*n) + "x" + std::to_string(*k));
  // Constants of another size are certain errors; the product is exact or unknown.
  int64_t blocks = (*k + *block - 1) / *block;
  auto holds = [&](const Info &info, int64_t perBlock) {
    if (!info.shape)
      return true;
    Dim wanted = ctx.product({ctx.constant(*n), ctx.constant(blocks), ctx.constant(perBlock)});
    std::optional<int> order = ctx.dims.compare(ctx.product(*info.shape), wanted);
    return !order || *order == 0;
  };
  if (!holds(codes, (*block * bits + 7) / 8))
    return ctx.fail("codes of N x " + std::to_string(blocks) + " blocks", ctx.text(codes));
  if (!holds(scales, 1))
    return ctx.fail("N x " + std::to_string(blocks) + " scales", ctx.text(scales));
  std::optional<Dims> out = x.shape;
  if (out)
    out->back() = ctx.constant(*n);
  ctx.set(0, x.element, out);
  return true;
}

/// Rows of a table quantized in blocks; codes packed along the last dimension.
static bool inferGatherBlockQuantized(NodeContext &ctx) {
  const Info &table = ctx.in(0), &indices = ctx.in(1), &scales = ctx.in(2);
  int64_t bits = ctx.getInt("bits", 4), block = ctx.getInt("block_size", 128);
  if (bits != 4 && bits != 8 && bits != 2)
    return ctx.fail("2, 4 or 8 bits", std::to_string(bits));
  int64_t gatherAxis = ctx.getInt("gather_axis", 0), quantizeAxis = ctx.getInt("quantize_axis", 1);
  if (ctx.rank(0) && (!ctx.normalizeAxis(gatherAxis, *ctx.rank(0), "gather_axis") ||
                      !ctx.normalizeAxis(quantizeAxis, *ctx.rank(0), "quantize_axis")))
    return false;
  ctx.setInt("bits", bits);
  ctx.setInt("block_size", block);
  ctx.setInt("gather_axis", gatherAxis);
  ctx.setInt("quantize_axis", quantizeAxis);
  if (!table.shape || !indices.shape) {
    ctx.set(0, scales.element, std::nullopt);
    return true;
  }
  Dims data = *table.shape;
  // uint8 holds 8 / bits codes along the last dimension; int4 types one each.
  if (table.element.isInteger(8) && bits < 8)
    data.back() = ctx.dims.multiply(data.back(), ctx.constant(8 / bits)).value_or(ctx.dims.unknown());
  Dims out(data.begin(), data.begin() + gatherAxis);
  out.append(indices.shape->begin(), indices.shape->end());
  out.append(data.begin() + gatherAxis + 1, data.end());
  ctx.set(0, scales.element, out);
  return true;
}

static bool inferDequantizeLinear(NodeContext &ctx) {
  int64_t axis;
  if (!ctx.rank(0) || *ctx.rank(0) > 0)
    if (!ctx.axisAttribute(1, ctx.rank(1).value_or(0) == 0 ? std::nullopt : ctx.rank(0), axis))
      return false;
  ctx.setInt("block_size", ctx.getInt("block_size", 0));
  ctx.attributes.erase("output_dtype");
  ctx.set(0, ctx.in(1).element, ctx.in(0).shape);
  return true;
}

static bool inferQuantizeLinear(NodeContext &ctx) {
  int64_t axis;
  if (!ctx.rank(0) || *ctx.rank(0) > 0)
    if (!ctx.axisAttribute(1, ctx.rank(1).value_or(0) == 0 ? std::nullopt : ctx.rank(0), axis))
      return false;
  ctx.setInt("block_size", ctx.getInt("block_size", 0));
  Type element = ctx.builder.getIntegerType(8, /*isSigned=*/false);
  if (ctx.has(2))
    element = ctx.in(2).element;
  else if (auto named = dyn_cast_or_null<TypeAttr>(ctx.attributes.get("output_dtype")))
    element = named.getValue();
  ctx.attributes.erase("output_dtype");
  ctx.set(0, element, ctx.in(0).shape);
  return true;
}

ArrayRef<Operator> skim::onnx::linearOperators() {
  static const Operator rows[] = {
      {"", "MatMul", 2, 2, 1, inferMatMul},
      {"", "Gemm", 2, 3, 1, inferGemm},
      {"com.microsoft", "MatMulNBits", 3, 6, 1, inferMatMulNBits},
      {"com.microsoft", "GatherBlockQuantized", 3, 4, 1, inferGatherBlockQuantized},
      {"", "DequantizeLinear", 2, 3, 1, inferDequantizeLinear},
      {"com.microsoft", "DequantizeLinear", 2, 3, 1, inferDequantizeLinear},
      {"", "QuantizeLinear", 2, 3, 1, inferQuantizeLinear},
  };
  return rows;
}
