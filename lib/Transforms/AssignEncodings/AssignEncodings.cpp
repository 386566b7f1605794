//===- AssignEncodings.cpp - decides the encoding of every weight -----------===//

#include "skim/Transforms/AssignEncodings.h"

#include "skim/Quantize/Plan.h"
#include "skim/Skim/SkimOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/Regex.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_ASSIGNENCODINGS
#include "skim/Transforms/AssignEncodings.h.inc"
} // namespace skim

using namespace skim;

namespace {
/// `keep`: a layer's name that matches gets the term.
struct Override {
  llvm::Regex regex;
  std::string term;
  WeightEncoding encoding;
};

/// Everything that uses one weight.
struct WeightUses {
  SmallVector<Operation *> users;
  SmallVector<StringRef> layers;
  bool isEmbedding = false, isHead = false;
};

class AssignEncodingsPass : public skim::impl::AssignEncodingsBase<AssignEncodingsPass> {
public:
  using AssignEncodingsBase::AssignEncodingsBase;
  void runOnOperation() override;

private:
  /// Parses an option; null with an error emitted where it is no term.
  FailureOr<WeightEncoding> parse(StringRef option, StringRef text) {
    std::string activations, error;
    WeightEncoding encoding = parseTerm(text, &getContext(), activations, error);
    if (encoding && activations.empty())
      return encoding;
    if (encoding)
      error =
          "expected a weight's format (activations such as -a8 belong to the whole model), got '" + text.str() + "'";
    return getOperation().emitError() << "option '" << option << "': " << error;
  }
};
} // namespace

/// The element type that a weight is kept in where nothing was asked for.
static WeightEncoding denseAsIs(Type type) {
  Type element = cast<RankedTensorType>(type).getElementType();
  return cast<WeightEncoding>(Attribute(DenseAttr::get(type.getContext(), element)));
}

/// The plan's entry for a weight that is used under these names.
static const LayerPlan *findLayer(const Plan &plan, ArrayRef<StringRef> names) {
  for (StringRef name : names)
    if (const LayerPlan *entry = plan.find(name.str()))
      return entry;
  return nullptr;
}

void AssignEncodingsPass::runOnOperation() {
  ModuleOp module = getOperation();
  WeightEncoding linearTerm, headTerm, embeddingTerm;
  for (auto [name, text, term] : {std::tuple<StringRef, StringRef, WeightEncoding *>("format", format, &linearTerm),
                                  {"head", head, &headTerm},
                                  {"embeddings", embeddings, &embeddingTerm}}) {
    if (text.empty())
      continue;
    FailureOr<WeightEncoding> parsed = parse(name, text);
    if (failed(parsed))
      return signalPassFailure();
    *term = *parsed;
  }
  bool headOpen = false;
  std::optional<Plan> terms;
  if (!plan.empty()) {
    Expected<Plan> read = Plan::read(plan);
    if (!read) {
      module.emitError() << read.message();
      return signalPassFailure();
    }
    terms.emplace(std::move(*read));
  }
  if (linearTerm || open || terms) {
    // 16 bits are what every deployment of a quantized model keeps these in.
    auto half = cast<WeightEncoding>(Attribute(DenseAttr::get(&getContext(), Float16Type::get(&getContext()))));
    headOpen = open && openHead && !headTerm;
    if (!headTerm)
      headTerm = embeddingTerm ? embeddingTerm : half;
    if (!embeddingTerm)
      embeddingTerm = headTerm;
  }

  std::vector<Override> overrides;
  for (const std::string &text : keep) {
    size_t split = text.rfind('=');
    // The term may hold `=` itself (`#skim.uniform<bits = 4>`): it begins at the last `=#` then.
    if (size_t hash = text.find("=#"); hash != std::string::npos)
      split = hash;
    Override entry;
    std::string error;
    if (split == std::string::npos || split == 0) {
      module.emitError() << "option 'keep': expected REGEX=TERM, got '" << text << "'";
      return signalPassFailure();
    }
    entry.regex = llvm::Regex(StringRef(text).take_front(split));
    entry.term = text.substr(split + 1);
    if (!entry.regex.isValid(error)) {
      module.emitError() << "option 'keep': expected a regular expression, got '" << StringRef(text).take_front(split)
                         << "' (" << error << ")";
      return signalPassFailure();
    }
    FailureOr<WeightEncoding> parsed = parse("keep", entry.term);
    if (failed(parsed))
      return signalPassFailure();
    entry.encoding = *parsed;
    overrides.push_back(std::move(entry));
  }

  llvm::MapVector<Value, WeightUses> weights;
  module.walk([&](Operation *op) {
    Value weight;
    StringRef layer;
    if (auto linear = dyn_cast<LinearOp>(op)) {
      weight = linear.getWeight();
      layer = linear.getLayer().value_or("");
    } else if (auto embed = dyn_cast<EmbedOp>(op)) {
      weight = embed.getTable();
      layer = embed.getLayer().value_or("");
    } else {
      return;
    }
    WeightUses &uses = weights[weight];
    uses.users.push_back(op);
    uses.layers.push_back(layer);
    uses.isEmbedding |= isa<EmbedOp>(op);
    uses.isHead |= isa<LinearOp>(op) && layer == "lm_head";
  });

  SmallVector<bool> used(overrides.size());
  for (auto &[weight, uses] : weights) {
    WeightEncoding encoding = getEncoding(weight.getType());
    bool quantized = encoding && !isa<DenseAttr>(encoding), isOpen = false;
    if (!quantized || requantize) {
      // A weight that is both (tied) follows the head: its quality is what the logits see.
      WeightEncoding wanted = uses.isHead ? headTerm : uses.isEmbedding ? embeddingTerm : linearTerm;
      if (const LayerPlan *entry = terms ? findLayer(*terms, uses.layers) : nullptr) {
        FailureOr<WeightEncoding> parsed = parse("plan", entry->term);
        if (failed(parsed))
          return signalPassFailure();
        wanted = *parsed;
      }
      if (uses.isHead && headOpen)
        isOpen = true;
      else if (wanted)
        encoding = wanted;
      else if (open)
        isOpen = true;
    }
    for (auto [index, entry] : llvm::enumerate(overrides))
      if (llvm::any_of(uses.layers, [&](StringRef layer) { return entry.regex.match(layer); })) {
        encoding = entry.encoding;
        isOpen = false;
        used[index] = true;
      }
    if (isOpen)
      continue;
    if (!encoding)
      encoding = denseAsIs(weight.getType());
    auto type = cast<RankedTensorType>(weight.getType());
    if (failed(encoding.verifyWeight(type.getShape(), type.getElementType(),
                                     [&] { return uses.users.front()->emitOpError(); })))
      return signalPassFailure();
    for (Operation *user : uses.users)
      user->setAttr(kEncodingAttr, encoding);
  }
  for (auto [index, entry] : llvm::enumerate(overrides))
    if (!used[index]) {
      module.emitError() << "option 'keep': no layer matches '" << keep[index] << "'";
      return signalPassFailure();
    }
}
