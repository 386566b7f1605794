//===- LinearPieces.cpp - a linear layer taken apart ------------------------===//

#include "skim/Target/Common/LinearPieces.h"

#include "mlir/IR/BuiltinTypes.h"

using namespace mlir;
using namespace skim;

static size_t componentCount(Attribute term, int64_t n, int64_t k) {
  return getComponents(cast<WeightEncoding>(term), {n, k}).size();
}

/// Appends the pieces of `term`, whose components begin at `weights`.
static void appendPieces(Attribute term, int64_t k, ArrayRef<int64_t> weights, LinearPiece outer,
                         LinearPieces &panels) {
  if (auto lowRank = dyn_cast<LowRankAttr>(term)) {
    size_t base = componentCount(lowRank.getBase(), outer.n, k);
    size_t a = componentCount(lowRank.getFactors(), lowRank.getRank(), k);
    appendPieces(lowRank.getBase(), k, weights.take_front(base), outer, panels);
    panels.pairs.push_back({cast<WeightEncoding>(lowRank.getFactors()), lowRank.getRank(), outer.n, outer.yColumn,
                            SmallVector<int64_t>(weights.slice(base, a)),
                            SmallVector<int64_t>(weights.drop_front(base + a)), outer.layout});
    return;
  }
  if (auto scaled = dyn_cast<ScaledAttr>(term)) {
    outer.alpha = weights.back();
    return appendPieces(scaled.getInner(), k, weights.drop_back(), outer, panels);
  }
  if (auto rows = dyn_cast<RowsAttr>(term)) {
    outer.permutation = weights.back();
    outer.permutationType = IntegerType::get(term.getContext(), outer.n > 65536 ? 32 : 16);
    for (auto [part, count] : llvm::zip(rows.getParts(), rows.getCounts())) {
      LinearPiece piece = outer;
      piece.n = count;
      size_t used = componentCount(part, count, k);
      appendPieces(part, k, weights.take_front(used), piece, panels);
      weights = weights.drop_front(used);
      outer.firstRow += count;
    }
    return;
  }
  outer.leaf = cast<WeightEncoding>(term);
  outer.components.assign(weights.begin(), weights.end());
  panels.pieces.push_back(outer);
}

LinearPieces skim::takeApart(const LinearCall &call) {
  LinearPieces panels;
  for (const LinearPanel &panel : call.panels) {
    LinearPiece outer;
    outer.n = panel.n;
    outer.bias = panel.biasWeight;
    outer.yColumn = panel.yColumn;
    outer.layout = panel.layout;
    appendPieces(panel.term, call.k, panel.weights, outer, panels);
  }
  return panels;
}

LinearCall skim::factorCall(const LowRankPair &pair, const LinearCall &call, bool second) {
  LinearCall result;
  result.k = second ? pair.rank : call.k;
  result.mode = call.mode;
  result.epilogue = second ? LinearEpilogue::Add : LinearEpilogue::Store;
  LinearPanel panel;
  panel.term = pair.factors;
  panel.n = second ? pair.n : pair.rank;
  panel.weights = second ? pair.b : pair.a;
  panel.yColumn = second ? pair.yColumn : 0;
  panel.layout = pair.layout;
  result.panels.push_back(panel);
  return result;
}
