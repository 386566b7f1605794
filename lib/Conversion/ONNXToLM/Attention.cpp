//===- Attention.cpp - attention, fused and decomposed ----------------------===//

#include "Raiser.h"

#include <cmath>

using namespace mlir;
using namespace skim::raise;
using skim::onnx::NodeOp;

/// `e` at [b, h, j, d] is select(j < past, cache[b, g, j, d], new[b, g, j − past, d]),
/// g = h / (heads / kv heads), or without a cache new[b, g, j, d] alone.
std::optional<Raiser::CacheMatch> Raiser::matchCache(const AttentionMatch &match, Expr e, Role role) {
  const char *what = role == Role::PastKey ? "keys" : "values";
  auto fail = [&](std::string got) {
    report(match.op, std::string(what) + " from a cache and new ones behind them", std::move(got));
    return std::nullopt;
  };
  CacheMatch out;
  // How many heads there are: the cache says, else the linear layer.
  Value past, input;
  x.walk(e, [&](Expr inner) {
    if (inner->kind != Kind::Load)
      return;
    if (graph.inputOf(inner->tensor).role == role)
      past = inner->tensor;
    else if (isActivation(inner))
      input = inner->tensor;
  });
  if (graph.hasCache && !past)
    return fail(x.text(e));
  if (past) {
    out.layer = graph.inputOf(past).layer;
    out.heads = Graph::number((*graph.shape(past))[1]).value_or(0);
  } else if (input) {
    out.layer = attentions;
    out.heads = cast<RankedTensorType>(input.getType()).getShape().back() / match.size;
  }
  if (out.heads < 1 || match.heads % out.heads)
    return fail(std::to_string(out.heads) + " heads for " + std::to_string(match.heads) + " of queries");
  // Groups of queries read the same head.
  int64_t repeat = match.heads / out.heads;
  out.g = match.h;
  if (repeat > 1) {
    out.g = x.index(x.number(static_cast<double>(out.heads)));
    Expr r = x.index(x.number(static_cast<double>(repeat)));
    e = x.substitute(e, {{match.h, x.add(x.mul(out.g, x.number(static_cast<double>(repeat))), r)}});
    bool dependsOnR = false;
    x.walk(e, [&](Expr inner) { dependsOnR |= inner == r; });
    if (dependsOnR)
      return fail("heads that are not shared by groups of " + std::to_string(repeat));
  }
  std::vector<Term> terms = x.terms(e);
  if (terms.size() == 1 && terms[0].factors.size() == 1 && terms[0].factors[0].base->kind == Kind::Select) {
    out.coefficient = terms[0].coefficient;
    e = terms[0].factors[0].base;
  }
  out.whole = e;
  out.s = x.index(graph.length);
  if (past) {
    Expr isNew = x.nonNegative(x.sub(match.j, graph.past));
    bool inverted = isNew->kind == Kind::Not;
    if (e->kind != Kind::Select || e->args[0] != (inverted ? isNew->args[0] : isNew))
      return fail(x.text(e));
    Expr old = e->args[inverted ? 1 : 2];
    if (old != x.load(past, {match.b, out.g, match.j, match.d}))
      return fail(x.text(old));
    e = e->args[inverted ? 2 : 1];
  }
  out.added = x.substitute(e, {{match.j, x.add(graph.past, out.s)}});
  return out;
}

void Raiser::buildAttention(const AttentionMatch &match) {
  NodeOp op = match.op;
  Location loc = op.getLoc();
  std::optional<CacheMatch> key = matchCache(match, match.key, Role::PastKey);
  std::optional<CacheMatch> value = matchCache(match, match.value, Role::PastValue);
  std::optional<Heads> q, k, v;
  if (key && value) {
    if (key->layer != value->layer || key->heads != value->heads)
      report(op, "keys and values of one cache",
             "layers " + std::to_string(key->layer) + " and " + std::to_string(value->layer));
    q = matchHeads(op, match.query, match.b, match.h, match.i, match.d, match.heads, match.size, "queries");
    k = matchHeads(op, key->added, match.b, key->g, key->s, match.d, key->heads, match.size, "keys");
    v = matchHeads(op, value->added, match.b, value->g, value->s, match.d, value->heads, match.size, "values");
  }
  ++attentions;
  auto type = activationType(match.heads * match.size);
  // The graph's result is [batch, heads, length, size].
  auto inHeads = [&](Value activation) {
    Expr channel = x.add(x.mul(match.h, x.number(static_cast<double>(match.size))), match.d);
    return Raised(activation, {match.b, match.h, match.i, match.d}, {match.b, match.i, channel});
  };
  if (!q || !k || !v || v->cosine || v->coefficient != 1 || value->coefficient != 1) {
    if (q && k && v)
      report(op, "values as a linear layer computes them", "values rotated or scaled");
    Value standIn = UnrealizedConversionCastOp::create(builder, loc, Type(type), ValueRange()).getResult(0);
    graph.setRaised(op.getResult(0), inHeads(standIn));
    return;
  }
  heads = match.heads;
  Cache &cache = cacheOf(key->layer, key->heads, match.size);
  if (cache.newKey) {
    report(op, "one attention for each cache", "a second for layer " + std::to_string(key->layer));
    return;
  }
  cache.b = match.b;
  cache.g = key->g;
  cache.j = match.j;
  cache.d = match.d;
  cache.keyElement = key->whole;
  cache.valueElement = value->g == key->g ? value->whole : x.substitute(value->whole, {{value->g, key->g}});
  Value query = buildRotary(*q, match.heads, loc);
  cache.newKey = lm::CacheAppendOp::create(builder, loc, cache.key.getType(), buildRotary(*k, key->heads, loc),
                                           cache.key, start, count);
  cache.newValue = lm::CacheAppendOp::create(builder, loc, cache.value.getType(), v->value, cache.value, start, count);
  double scale = match.mask.scale * q->coefficient * k->coefficient * key->coefficient;
  auto attention = lm::AttentionOp::create(
      builder, loc, type, query, cache.newKey, cache.newValue, start, builder.getI64IntegerAttr(match.heads),
      builder.getF32FloatAttr(static_cast<float>(scale)),
      match.mask.window ? builder.getI64IntegerAttr(*match.mask.window) : IntegerAttr(),
      match.mask.softcap ? builder.getF32FloatAttr(static_cast<float>(*match.mask.softcap)) : FloatAttr());
  graph.setRaised(op.getResult(0), inHeads(attention));
}

/// softmax(mask(scale · q·kᵀ)) · v: called for every product of two activations.
void Raiser::raiseSoftmaxAttention(NodeOp op) {
  Value result = op.getResult(0), weights = Graph::operand(op, 0), values = Graph::operand(op, 1);
  const std::optional<Dims> &dims = graph.shape(result);
  if (!dims || dims->size() != 4 || (*dims)[0] != graph.batch || (*dims)[2] != graph.length || !values)
    return;
  std::optional<int64_t> number = Graph::number((*dims)[1]), size = Graph::number((*dims)[3]);
  const std::optional<Dims> &weightDims = graph.shape(weights);
  if (!number || !size || !weightDims || weightDims->size() != 4 || weightDims->back() != graph.total)
    return;
  AttentionMatch match;
  match.op = op;
  match.heads = *number;
  match.size = *size;
  match.b = x.index(graph.batch);
  match.h = x.index((*dims)[1]);
  match.i = x.index(graph.length);
  match.j = x.index(graph.total);
  match.d = x.index((*dims)[3]);
  SmallVector<Expr> at{match.b, match.h, match.i, match.j};
  Expr probability = graph.element(weights, at);
  // select(isnan(p), 0, p): torch's guard for rows without any key.
  if (probability->kind == Kind::Select && probability->args[0]->kind == Kind::Apply &&
      probability->args[0]->name == "isnan" && probability->args[0]->args[0] == probability->args[2] &&
      probability->args[1]->isNumber(0))
    probability = probability->args[2];
  auto softmax = probability->kind == Kind::Load ? probability->tensor.getDefiningOp<NodeOp>() : NodeOp();
  if (!softmax || !Graph::is(softmax, "", "Softmax") || ArrayRef<Expr>(probability->args) != ArrayRef<Expr>(at))
    return;
  int64_t axis = Graph::getInt(softmax, "axis", -1);
  if (axis != -1 && axis != 3)
    return report(softmax, "a softmax over the last axis", "axis " + std::to_string(axis));
  Expr scores = graph.element(Graph::operand(softmax, 0), at);
  Expr product = nullptr;
  x.walk(scores, [&](Expr e) {
    if (e->kind == Kind::Load && ArrayRef<Expr>(e->args) == ArrayRef<Expr>(at))
      if (auto node = e->tensor.getDefiningOp<NodeOp>(); node && Graph::is(node, "", "MatMul"))
        product = e;
  });
  if (!product)
    return report(softmax, "scores that are a product of queries and keys", x.text(scores));
  auto scoresOp = product->tensor.getDefiningOp<NodeOp>();
  const std::optional<Dims> &queryDims = graph.shape(Graph::operand(scoresOp, 0));
  if (!queryDims || queryDims->back() != (*dims)[3])
    return report(softmax, "keys of the size of values", "others");
  std::optional<Mask> mask = proveMask(softmax, scores, product, match.i, match.j);
  if (mask)
    match.mask = *mask;
  match.query = graph.element(Graph::operand(scoresOp, 0), {match.b, match.h, match.i, match.d});
  match.key = graph.element(Graph::operand(scoresOp, 1), {match.b, match.h, match.d, match.j});
  match.value = graph.element(values, {match.b, match.h, match.j, match.d});
  buildAttention(match);
}

/// ai.onnx Attention (opset 23) on [batch, heads, length, size].
void Raiser::raiseAttentionNode(NodeOp op) {
  Value q = Graph::operand(op, 0), k = Graph::operand(op, 1), v = Graph::operand(op, 2);
  auto fail = [&](std::string expected, std::string got) { report(op, std::move(expected), std::move(got)); };
  if (!q || !k || !v || Graph::operand(op, 4) || Graph::operand(op, 5) || op.getNumResults() != 1)
    return fail("queries, keys and values with the cache in front, one result", "another form");
  std::optional<Dims> qs = graph.shape(q), ks = graph.shape(k), vs = graph.shape(v);
  for (auto [operand, dims] : {std::pair(q, &qs), std::pair(k, &ks), std::pair(v, &vs)})
    if (!*dims)
      return reportCause(operand, "heads [batch, heads, length, size]");
  if (qs->size() != 4 || ks->size() != 4 || vs->size() != 4)
    return fail("operands [batch, heads, length, size]", "others");
  std::optional<int64_t> number = Graph::number((*qs)[1]), size = Graph::number((*qs)[3]),
                         kvNumber = Graph::number((*ks)[1]);
  if (!number || !size || !kvNumber || *kvNumber < 1 || *number % *kvNumber || (*vs)[3] != (*qs)[3] ||
      (*vs)[1] != (*ks)[1] || (*ks)[2] != graph.total || (*qs)[2] != graph.length)
    return fail("heads of one size over batch, length and past", "others");
  AttentionMatch match;
  match.op = op;
  match.heads = *number;
  match.size = *size;
  match.b = x.index(graph.batch);
  match.h = x.index((*qs)[1]);
  match.i = x.index(graph.length);
  match.j = x.index(graph.total);
  match.d = x.index((*qs)[3]);
  Expr g = x.floorDiv(match.h, x.number(static_cast<double>(*number / *kvNumber)));
  match.query = graph.element(q, {match.b, match.h, match.i, match.d});
  match.key = graph.element(k, {match.b, g, match.j, match.d});
  match.value = graph.element(v, {match.b, g, match.j, match.d});
  // The scores as the operator defines them.
  double scale = Graph::getFloat(op, "scale", 0);
  scale = scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(*size));
  Expr product = x.load(op.getResult(0), {match.b, match.h, match.i, match.j});
  Expr scores = x.mul(product, x.number(scale));
  if (double cap = Graph::getFloat(op, "softcap", 0); cap > 0)
    scores = x.mul(x.number(cap), x.apply("tanh", {x.mul(scores, x.number(1 / cap))}));
  Expr hidden = x.number(-std::numeric_limits<double>::infinity());
  if (Value maskOperand = Graph::operand(op, 3)) {
    std::optional<Dims> dims = graph.shape(maskOperand);
    if (!dims || dims->size() > 4)
      return fail("a mask of known shape", "another");
    SmallVector<Expr> all{match.b, match.h, match.i, match.j}, at;
    for (auto [n, dim] : llvm::enumerate(*dims))
      at.push_back(dim->isNumber(1) ? x.number(0) : all[n + 4 - dims->size()]);
    Expr mask = graph.element(maskOperand, at);
    scores =
        getElementTypeOrSelf(maskOperand.getType()).isInteger(1) ? x.select(mask, scores, hidden) : x.add(scores, mask);
  }
  if (Graph::getInt(op, "is_causal", 0)) // the lower triangle, whatever the cache holds
    scores = x.select(x.nonNegative(x.sub(match.i, match.j)), scores, hidden);
  std::optional<Mask> mask = proveMask(op, scores, product, match.i, match.j);
  if (mask)
    match.mask = *mask;
  buildAttention(match);
}

/// com.microsoft GroupQueryAttention: attention with lengths, cache and rotary in one.
void Raiser::raiseGroupQueryAttention(NodeOp op) {
  auto fail = [&](std::string expected, std::string got) { report(op, std::move(expected), std::move(got)); };
  int64_t number = Graph::getInt(op, "num_heads", 0), kvNumber = Graph::getInt(op, "kv_num_heads", 0);
  Value q = Graph::operand(op, 0), k = Graph::operand(op, 1), v = Graph::operand(op, 2);
  Value pastKey = Graph::operand(op, 3), pastValue = Graph::operand(op, 4), lengths = Graph::operand(op, 5);
  std::optional<Dims> dims = q ? graph.shape(q) : std::nullopt;
  std::optional<int64_t> channels = dims && dims->size() == 3 ? Graph::number(dims->back()) : std::nullopt;
  if (number < 1 || kvNumber < 1 || number % kvNumber || !channels || !k != !v || op.getNumResults() < 3)
    return fail("queries [batch, length, channels] and heads", "another form");
  int64_t parts = k ? number : number + 2 * kvNumber;
  if (*channels < 1 || *channels % parts)
    return fail("channels that divide into " + std::to_string(parts) + " heads", std::to_string(*channels));
  int64_t size = *channels / parts;
  Input keyInput = pastKey ? graph.inputOf(pastKey) : Input(),
        valueInput = pastValue ? graph.inputOf(pastValue) : Input();
  if (keyInput.role != Role::PastKey || valueInput.role != Role::PastValue || keyInput.layer != valueInput.layer)
    return fail("past_key_values.N.key and value", "another cache");
  for (unsigned extra : {10u, 11u, 12u, 13u})
    if (Graph::operand(op, extra))
      return fail("no attention bias, head sink or quantized cache", "operand " + std::to_string(extra));
  if (Graph::getInt(op, "smooth_softmax", 0) > 0)
    return fail("smooth_softmax 0", "1");

  Expr b = x.index(graph.batch), s = x.index(graph.length);
  // seqlens_k = (sum of attention_mask) − 1: the length of each sequence.
  Expr last = lengths && graph.shape(lengths) ? graph.element(lengths, Dims(graph.shape(lengths)->size(), b)) : nullptr;
  bool proven = false;
  if (last) {
    Expr sum = x.add(last, 1);
    auto reduce = sum->kind == Kind::Load ? sum->tensor.getDefiningOp<NodeOp>() : NodeOp();
    Value input = reduce && Graph::is(reduce, "", "ReduceSum") ? Graph::operand(reduce, 0) : Value();
    Expr column = x.index(graph.total);
    proven = input && graph.attentionMask && sum->args[0] == b && graph.shape(reduce.getResult(0)) &&
             Graph::number(x.number(static_cast<double>(graph.shape(reduce.getResult(0))->size()))) &&
             (*graph.shape(reduce.getResult(0)))[0] == graph.batch && graph.shape(input) &&
             graph.shape(input)->size() == 2 &&
             graph.element(input, {b, column}) == x.load(graph.attentionMask, {b, column});
  }
  if (!proven)
    return fail("lengths seqlens_k that are the sum of attention_mask less 1", last ? x.text(last) : "none");

  Expr h = x.index(x.number(static_cast<double>(number))), g = x.index(x.number(static_cast<double>(kvNumber)));
  Expr d = x.index(x.number(static_cast<double>(size)));
  auto channel = [&](Expr head, int64_t firstHead) {
    return x.add(x.mul(x.add(head, static_cast<double>(firstHead)), x.number(static_cast<double>(size))), d);
  };
  // Before anything is built on them: they must be activations.
  for (auto [operand, width] : {std::pair(q, *channels), std::pair(k, kvNumber * size), std::pair(v, kvNumber * size)})
    if (operand && !graph.getRaised(operand) && !graph.shape(operand))
      require(operand, width);
  std::optional<Heads> qh =
      matchHeads(op, graph.element(q, {b, s, channel(h, 0)}), b, h, s, d, number, size, "queries");
  std::optional<Heads> kh =
      matchHeads(op, graph.element(k ? k : q, {b, s, channel(g, k ? 0 : number)}), b, g, s, d, kvNumber, size, "keys");
  std::optional<Heads> vh = matchHeads(op, graph.element(v ? v : q, {b, s, channel(g, v ? 0 : number + kvNumber)}), b,
                                       g, s, d, kvNumber, size, "values");
  double factor = 1;
  if (qh && kh && Graph::getInt(op, "do_rotary", 0)) {
    Value cosine = Graph::operand(op, 7), sine = Graph::operand(op, 8);
    std::optional<Dims> table = cosine && sine ? graph.shape(cosine) : std::nullopt;
    std::optional<int64_t> half = table && table->size() == 2 ? Graph::number(table->back()) : std::nullopt;
    std::string why = "tables of another shape";
    Heads rotated;
    bool matched = false;
    if (half && *half > 0 && 2 * *half <= size && !qh->cosine && !kh->cosine) {
      Expr column = x.index(table->back()), position = x.add(graph.past, s);
      matched = rotaryTable(graph.element(cosine, {position, column}), graph.element(sine, {position, column}), b, s,
                            column, *half, rotated, why);
      if (matched && 2 * *half < size && rotated.coefficient != 1) {
        matched = false;
        why = "a scale on a part of the head";
      }
    }
    if (!matched) {
      fail("cosines and sines of positions times frequencies", why);
      qh.reset();
    } else {
      for (Heads *heads : {&*qh, &*kh}) {
        heads->cosine = rotated.cosine;
        heads->sine = rotated.sine;
        heads->interleaved = Graph::getInt(op, "rotary_interleaved", 0);
      }
      factor = rotated.coefficient * rotated.coefficient;
    }
  }
  ++attentions;
  Location loc = op.getLoc();
  auto type = activationType(number * size);
  if (!qh || !kh || !vh || vh->cosine || vh->coefficient != 1) {
    Value standIn = UnrealizedConversionCastOp::create(builder, loc, Type(type), ValueRange()).getResult(0);
    return graph.setRaised(op.getResult(0), {standIn});
  }
  Cache &cache = cacheOf(keyInput.layer, kvNumber, size);
  if (cache.newKey)
    return fail("one attention for each cache", "a second for layer " + std::to_string(keyInput.layer));
  heads = number;
  cache.presentKey = op.getResult(1);
  cache.presentValue = op.getResult(2);
  Value query = buildRotary(*qh, number, loc);
  cache.newKey = lm::CacheAppendOp::create(builder, loc, cache.key.getType(), buildRotary(*kh, kvNumber, loc),
                                           cache.key, start, count);
  cache.newValue = lm::CacheAppendOp::create(builder, loc, cache.value.getType(), vh->value, cache.value, start, count);
  double scale = Graph::getFloat(op, "scale", 0);
  scale = (scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(size))) * qh->coefficient * kh->coefficient * factor;
  int64_t window = Graph::getInt(op, "local_window_size", -1);
  double cap = Graph::getFloat(op, "softcap", 0);
  auto attention =
      lm::AttentionOp::create(builder, loc, type, query, cache.newKey, cache.newValue, start,
                              builder.getI64IntegerAttr(number), builder.getF32FloatAttr(static_cast<float>(scale)),
                              window > 0 ? builder.getI64IntegerAttr(window) : IntegerAttr(),
                              cap > 0 ? builder.getF32FloatAttr(static_cast<float>(cap)) : FloatAttr());
  graph.setRaised(op.getResult(0), {attention});
}
