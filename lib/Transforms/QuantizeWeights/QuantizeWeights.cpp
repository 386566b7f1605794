//===- QuantizeWeights.cpp - quantizes weights into a file ------------------===//

#include "skim/Transforms/QuantizeWeights.h"

#include "CalibratedQuantizer.h"
#include "WeightWriter.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Transforms/AssignEncodings.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Path.h"

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_QUANTIZEWEIGHTS
#include "skim/Transforms/QuantizeWeights.h.inc"
} // namespace skim

using namespace skim;

namespace {
/// One tensor of the output file and where its elements come from.
struct Piece {
  Operation *source = nullptr;       // skim.external or arith.constant
  WeightEncoding encoding;           // null: elements are copied, or converted to `type`
  SmallVector<Component> components; // with an encoding
  RankedTensorType type;             // without one: the type that is written
  std::string name;                  // of the tensor, or the prefix of its components
  std::string layer;                 // for reports; empty: no linear or embedding
  SmallVector<LinearOp> linears;
  bool calibrated = false; // quantized with statistics
  /// Where statistics and plans have it: a tied table is the head's there.
  std::string calibratedAs() const { return LinearOp(linears.front()).getLayer().value_or("").str(); }
  size_t first = 0; // index of its first tensor in the file
};

class QuantizeWeightsPass : public skim::impl::QuantizeWeightsBase<QuantizeWeightsPass> {
public:
  using QuantizeWeightsBase::QuantizeWeightsBase;
  QuantizeWeightsPass(const QuantizeWeightsOptions &options, QuantizeProgress progress)
      : QuantizeWeightsBase(options), progress(std::move(progress)) {}
  void runOnOperation() override;

private:
  void collect(SmallVectorImpl<Piece> &pieces);
  void rewrite(Piece &piece, ArrayRef<TensorInfo> layout);

  QuantizeProgress progress;
};
} // namespace

std::unique_ptr<Pass> skim::createQuantizeWeights(const QuantizeWeightsOptions &options, QuantizeProgress progress) {
  return std::make_unique<QuantizeWeightsPass>(options, std::move(progress));
}

/// Names in the file are the parameters' Hugging Face names: `LAYER.weight`.
static std::string tensorName(Operation *source, StringRef layer, llvm::StringSet<> &taken) {
  auto external = dyn_cast<ExternalOp>(source);
  std::string name = !layer.empty() ? (layer + ".weight").str()
                     : external     ? external.getName().value_or("constant").str()
                                    : "constant";
  std::string unique = name;
  for (unsigned i = 1; !taken.insert(unique).second; ++i)
    unique = name + "." + std::to_string(i);
  return unique;
}

void QuantizeWeightsPass::collect(SmallVectorImpl<Piece> &pieces) {
  llvm::StringSet<> taken;
  getOperation().walk([&](Operation *source) {
    // Constants of the IR too, as far as they are weights: code reads all weights from the file.
    if (!isStored(source))
      return;
    auto type = cast<RankedTensorType>(source->getResult(0).getType());
    Piece piece;
    piece.source = source;
    bool isComponent = false;
    for (Operation *user : source->getUsers()) {
      auto planned = dyn_cast_or_null<WeightEncoding>(user->getAttr(kEncodingAttr));
      if (auto linear = dyn_cast<LinearOp>(user); linear && linear.getWeight() == source->getResult(0)) {
        piece.linears.push_back(linear);
        piece.encoding = planned;
        // A tied table is named after the head last: embeddings come first in a model, heads last.
        if (piece.layer.empty())
          piece.layer = linear.getLayer().value_or("").str();
      } else if (auto embed = dyn_cast<EmbedOp>(user)) {
        piece.encoding = planned;
        piece.layer = embed.getLayer().value_or("").str();
      } else if (isa<AssembleOp>(user)) {
        isComponent = true; // quantized in the source: codes are kept
      }
    }
    piece.name = tensorName(source, piece.layer, taken);
    piece.type = type;
    if (auto dense = dyn_cast_or_null<DenseAttr>(piece.encoding)) {
      piece.type = type.clone(dense.getType());
      piece.encoding = {};
    } else if (!piece.encoding && !isComponent && piece.layer.empty() && isa<FloatType>(type.getElementType())) {
      // Norms, biases and frequencies: small, and f32 in every kernel.
      piece.type = type.clone(Float32Type::get(&getContext()));
    }
    if (piece.encoding)
      piece.components = skim::getComponents(piece.encoding, type.getShape());
    pieces.push_back(std::move(piece));
  });
}

/// Replaces the source by externals in the new file, assembled where encoded.
void QuantizeWeightsPass::rewrite(Piece &piece, ArrayRef<TensorInfo> layout) {
  OpBuilder builder(piece.source);
  StringRef file = llvm::sys::path::filename(weights);
  auto external = [&](size_t index, Type type) -> Value {
    const TensorInfo &info = layout[index];
    return ExternalOp::create(builder, piece.source->getLoc(), type, file, info.offset, /*strides=*/nullptr,
                              /*sha256=*/nullptr, builder.getStringAttr(info.name));
  };
  Value replacement;
  if (!piece.encoding) {
    replacement = external(piece.first, piece.type);
  } else {
    SmallVector<Value> components;
    for (auto [index, component] : llvm::enumerate(piece.components))
      components.push_back(external(piece.first + index, component.type));
    auto type = cast<RankedTensorType>(piece.source->getResult(0).getType());
    auto encoded = RankedTensorType::get(type.getShape(), type.getElementType(), piece.encoding);
    replacement = AssembleOp::create(builder, piece.source->getLoc(), encoded, components);
  }
  // The type says it now.
  for (Operation *user : piece.source->getUsers())
    user->removeAttr(kEncodingAttr);
  piece.source->getResult(0).replaceAllUsesWith(replacement);
  piece.source->erase();
}

void QuantizeWeightsPass::runOnOperation() {
  SmallVector<Piece> pieces;
  collect(pieces);

  auto reportAt = [&](Operation *op, const Failure &failure) {
    op->emitError() << failure.message();
    signalPassFailure();
  };

  WeightReader reader(base);
  CalibratedOptions calibratedOptions = {method, statistics, record, plan, threads};
  Expected<std::unique_ptr<CalibratedQuantizer>> calibrated = CalibratedQuantizer::create(calibratedOptions, reader);
  if (!calibrated)
    return reportAt(getOperation(), calibrated.failure());
  // Linears by the input that they share.
  std::map<std::string, SmallVector<SharedInput>> peers;

  std::vector<TensorSpec> specs;
  for (Piece &piece : pieces) {
    piece.first = specs.size();
    // Before any work is done.
    if (piece.encoding && !piece.linears.empty() && *calibrated) {
      Expected<bool> handles = (*calibrated)->handles(piece.calibratedAs(), piece.encoding);
      if (!handles)
        return reportAt(piece.source, handles.failure());
      piece.calibrated = *handles;
      if (*handles)
        peers[(*calibrated)->inputOf(piece.calibratedAs())].push_back({piece.calibratedAs(), piece.source});
    }
    if (piece.encoding && !piece.calibrated && !WeightWriter::hasQuantizer(piece.encoding))
      return reportAt(piece.source, fail("no quantizer for this format", piece.layer, "uniform, codebook or dense",
                                         piece.encoding.getShortName()));
    auto add = [&](std::string name, RankedTensorType type) -> Error {
      std::optional<DType> dtype = dtypeOf(type.getElementType());
      if (!dtype)
        return fail("unsupported weight type", name, "f16, bf16, f32 or an integer", "another type");
      specs.push_back({std::move(name), *dtype, std::vector<int64_t>(type.getShape())});
      return Error::success();
    };
    if (!piece.encoding) {
      if (Error error = add(piece.name, piece.type))
        return reportAt(piece.source, error.get());
      continue;
    }
    for (const Component &component : piece.components)
      if (Error error = add(piece.name + "." + component.name, component.type))
        return reportAt(piece.source, error.get());
  }

  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(weights, std::move(specs));
  if (!writer)
    return reportAt(getOperation(), writer.failure());
  WeightWriter output(*writer, reader, threads);
  auto quantize = [&](Piece &piece) -> Expected<WeightResult> {
    if (!piece.encoding)
      return output.copy(piece.source, piece.type, piece.first);
    if (!piece.calibrated)
      return output.quantize(piece.source, piece.encoding, piece.components, piece.first);
    std::string layer = piece.calibratedAs();
    Expected<CalibratedWeight> weight =
        (*calibrated)->quantize(layer, piece.source, piece.encoding, peers[(*calibrated)->inputOf(layer)]);
    return weight ? output.write(*weight, piece.first) : weight.takeError();
  };

  size_t layers = llvm::count_if(pieces, [](const Piece &piece) { return !piece.layer.empty(); }), done = 0;
  for (Piece &piece : pieces) {
    Expected<WeightResult> written = quantize(piece);
    if (!written)
      return reportAt(piece.source, written.failure());
    Builder builder(&getContext());
    for (LinearOp linear : piece.linears) {
      linear->setAttr(kErrorAttr, builder.getF32FloatAttr(static_cast<float>(written->error)));
      if (written->outputError)
        linear->setAttr(kOutputErrorAttr, builder.getF32FloatAttr(static_cast<float>(*written->outputError)));
      if (written->lossError)
        linear->setAttr(kLossErrorAttr, builder.getF32FloatAttr(static_cast<float>(*written->lossError)));
    }
    if (!piece.layer.empty() && progress) {
      auto type = cast<RankedTensorType>(piece.source->getResult(0).getType());
      QuantizedLayer layer;
      layer.name = piece.layer;
      layer.format = piece.encoding ? piece.encoding.getShortName() : spellType(piece.type.getElementType());
      layer.rows = type.getDimSize(0);
      layer.columns = type.getRank() > 1 ? type.getDimSize(1) : 1;
      layer.sourceBytes = type.getNumElements() * type.getElementTypeBitWidth() / 8;
      layer.storedBytes = written->storedBytes;
      layer.error = written->error;
      layer.index = ++done;
      layer.count = layers;
      progress(layer);
    }
  }
  std::vector<TensorInfo> layout = writer->layout();
  if (Error error = writer->finish())
    return reportAt(getOperation(), error.get());
  for (Piece &piece : pieces)
    rewrite(piece, layout);
}
