//===- Mask.cpp - proofs about attention masks ------------------------------===//

#include "Raiser.h"

#include <set>

using namespace mlir;
using namespace skim::raise;
using skim::onnx::NodeOp;

/// What is added to a score that must not count: exporters write −∞, the least
/// number of their type (−65504 in f16) or something like −1e9.
static constexpr double kMasked = -1e4;

/// `scores`, the softmax's input at [b, h, i, j], is `product` scaled and masked.
/// Query i stands at position past + i. The scores may depend on the position j
/// of the key only through conditions on the distance t = past + i − j and on
/// attention_mask[b, j]; between the thresholds of these conditions nothing
/// changes, so that trying the numbers around them proves it for all.
std::optional<Mask> Raiser::proveMask(NodeOp op, Expr scores, Expr product, Expr i, Expr j) {
  Expr distance = x.sub(x.add(graph.past, i), j);
  struct Atom {
    Expr condition;
    /// Holds where sign·t + offset >= 0 (or == 0).
    int64_t sign, offset;
    bool equality;
  };
  SmallVector<Atom> atoms;
  SmallVector<Expr> padding;
  std::set<int64_t> thresholds{0};
  std::string foreign;
  x.walk(scores, [&](Expr e) {
    if (e->kind == Kind::Load && graph.attentionMask && e->tensor == graph.attentionMask) {
      if (e->args[0] == product->args[0] && e->args[1] == j)
        padding.push_back(e);
      else
        foreign = "attention_mask at row " + x.text(e->args[0]) + ", column " + x.text(e->args[1]);
      return;
    }
    if (e->kind != Kind::NonNegative && e->kind != Kind::Zero)
      return;
    for (int64_t sign : {1, -1}) {
      Expr rest = sign > 0 ? x.sub(e->args[0], distance) : x.add(e->args[0], distance);
      if (std::optional<int64_t> offset = Graph::number(rest)) {
        atoms.push_back({e, sign, *offset, e->kind == Kind::Zero});
        thresholds.insert(-sign * *offset);
        return;
      }
    }
    // A comparison with the mask itself holds a Load and is decided by it.
    bool readsMask = false;
    x.walk(e, [&](Expr inner) { readsMask |= inner->kind == Kind::Load && inner->tensor == graph.attentionMask; });
    if (!readsMask)
      foreign = x.text(e);
  });
  if (!foreign.empty()) {
    report(op, "a mask of position (causal, window) and attention_mask", "a condition on " + foreign);
    return std::nullopt;
  }
  std::set<int64_t> samples;
  for (int64_t threshold : thresholds)
    samples.insert({threshold - 1, threshold, threshold + 1});

  auto valueAt = [&](int64_t t, bool visible) {
    Substitution map;
    for (const Atom &atom : atoms) {
      int64_t left = atom.sign * t + atom.offset;
      map[atom.condition] = x.number(atom.equality ? left == 0 : left >= 0);
    }
    for (Expr load : padding)
      map[load] = x.number(visible);
    return x.substitute(scores, map);
  };
  auto fail = [&](Expr e, int64_t t, bool visible) {
    report(op, std::string("a mask that is 0 for causal keys in a window and at most -1e4 elsewhere"),
           x.text(e) + " at distance " + std::to_string(t) + (visible ? "" : ", padding"));
    return std::optional<Mask>();
  };

  // The score that counts: the key at the query's own position.
  Mask mask;
  Expr counted = valueAt(0, true);
  std::vector<Term> terms = x.terms(counted);
  if (terms.size() != 1 || terms[0].factors.size() != 1 || terms[0].factors[0].exponent != 1)
    return fail(counted, 0, true);
  Expr base = terms[0].factors[0].base;
  if (base == product) {
    mask.scale = terms[0].coefficient;
  } else if (base->kind == Kind::Apply && base->name == "tanh") {
    std::vector<Term> inner = x.terms(base->args[0]);
    if (inner.size() != 1 || inner[0].factors.size() != 1 || inner[0].factors[0].base != product ||
        inner[0].factors[0].exponent != 1)
      return fail(counted, 0, true);
    mask.softcap = terms[0].coefficient;
    mask.scale = terms[0].coefficient * inner[0].coefficient;
  } else {
    return fail(counted, 0, true);
  }

  // Keys at distance 0 … w − 1 count, w maybe infinite; all others do not.
  int64_t last = *samples.rbegin();
  for (int64_t t : samples) {
    Expr e = valueAt(t, true);
    bool allowed = e == counted;
    if (!allowed) {
      Expr added = x.sub(e, counted);
      bool masked = (e->isNumber() && e->number <= kMasked) || (added->isNumber() && added->number <= kMasked);
      if (!masked || t == 0)
        return fail(e, t, true);
    }
    if (t < 0 ? allowed : mask.window ? allowed : false)
      return fail(e, t, true);
    if (t > 0 && !allowed && !mask.window) {
      // The first that no longer counts; the samples before it all did.
      if (samples.count(t - 1) == 0)
        return fail(e, t, true);
      mask.window = t;
    }
    if (t == last && allowed && mask.window)
      return fail(e, t, true);
    if (padding.empty())
      continue;
    Expr hidden = valueAt(t, false);
    Expr added = x.sub(hidden, counted);
    if (!(hidden->isNumber() && hidden->number <= kMasked) && !(added->isNumber() && added->number <= kMasked))
      return fail(hidden, t, false);
  }
  return mask;
}
