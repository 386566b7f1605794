//===- TuneWeights.cpp - trains what a weights file holds -------------------===//

#include "TuneWeights.h"

#include "skim/Analysis/WeightReader.h"
#include "skim/LM/LMOps.h"
#include "skim/Quantize/Sensitivity.h"
#include "skim/Quantize/Statistics.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/StoredFloat.h"
#include "skim/Transforms/QuantizeWeights.h"
#include "llvm/Support/Endian.h"

#include <fcntl.h>
#include <set>
#include <unistd.h>

using namespace mlir;
using namespace skim;

namespace {
/// A leaf of a weight, with the places of its components in the file.
struct StoredPart {
  QuantizedMatrix matrix;
  std::vector<uint64_t> offsets; // of the components
};

/// A vector of floats in the file.
struct StoredVector {
  uint64_t offset = 0;
  DType type = DType::F32;
};

struct StoredWeight {
  std::vector<StoredPart> parts;
  std::optional<StoredVector> alpha;
};

class WeightTuner {
public:
  explicit WeightTuner(const std::string &path) : path(path) {}
  ~WeightTuner() {
    if (descriptor >= 0)
      ::close(descriptor);
  }
  Error open() {
    descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    return descriptor < 0 ? fail("cannot open", path, "a file to change", std::strerror(errno)) : Error::success();
  }
  Error add(LinearOp linear);
  /// The norms, which the quantized model has in the same order as the other.
  Error addNorms(ModuleOp quantized, const BlockModel &model);
  /// Writes a trained weight, which then is what the file holds.
  Error store(const std::string &name, const Sensitivity &sensitivity, unsigned threads);
  Error storeNorms();

  TunedModel tuned;

private:
  Expected<std::vector<uint8_t>> read(Value component) const;
  Expected<std::vector<float>> readVector(Value component, StoredVector &stored) const;
  Error write(const std::vector<uint8_t> &bytes, uint64_t offset) const;
  /// Also rounds `values` to what the file then holds.
  Error writeVector(const StoredVector &stored, std::vector<float> &values) const;
  Error addLeaf(Attribute leaf, ArrayRef<Value> components, int64_t rows, int64_t columns, std::vector<uint32_t> places,
                TunableWeight &weight, StoredWeight &stored);

  std::string path;
  int descriptor = -1;
  std::map<std::string, StoredWeight> storedOf;
  std::vector<std::vector<StoredVector>> storedNorms; // as tuned.norms
};
} // namespace

/// Whether training has something to do with this leaf. An int8 table of all rows is not rounded again.
static bool isTunable(Attribute leaf) {
  auto codebook = dyn_cast<CodebookAttr>(leaf);
  return isa<UniformAttr>(leaf) || (codebook && !(codebook.getTensorScope() && codebook.getTable().isInteger(8)));
}

Expected<std::vector<uint8_t>> WeightTuner::read(Value component) const {
  auto external = component.getDefiningOp<ExternalOp>();
  auto type = cast<RankedTensorType>(component.getType());
  if (!external)
    return fail("cannot tune", path, "components in the weights file", "another operation");
  std::vector<uint8_t> bytes(type.getNumElements() * type.getElementTypeBitWidth() / 8);
  if (::pread(descriptor, bytes.data(), bytes.size(), external.getOffset()) != static_cast<ssize_t>(bytes.size()))
    return fail("cannot read", path, std::to_string(bytes.size()) + " bytes", std::strerror(errno));
  return bytes;
}

Expected<std::vector<float>> WeightTuner::readVector(Value component, StoredVector &stored) const {
  Expected<std::vector<uint8_t>> bytes = read(component);
  if (!bytes)
    return bytes.takeError();
  Type element = getElementTypeOrSelf(component.getType());
  stored.type = element.isF16() ? DType::F16 : element.isBF16() ? DType::BF16 : DType::F32;
  stored.offset = component.getDefiningOp<ExternalOp>().getOffset();
  std::vector<float> values(bytes->size() / dtypeSize(stored.type));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = loadFloat(stored.type, bytes->data() + i * dtypeSize(stored.type));
  return values;
}

Error WeightTuner::write(const std::vector<uint8_t> &bytes, uint64_t offset) const {
  if (::pwrite(descriptor, bytes.data(), bytes.size(), offset) != static_cast<ssize_t>(bytes.size()))
    return fail("cannot write", path, std::to_string(bytes.size()) + " bytes", std::strerror(errno));
  return Error::success();
}

Error WeightTuner::writeVector(const StoredVector &stored, std::vector<float> &values) const {
  std::vector<uint8_t> bytes(values.size() * dtypeSize(stored.type));
  for (size_t i = 0; i < values.size(); ++i) {
    storeFloat(stored.type, values[i], bytes.data() + i * dtypeSize(stored.type));
    values[i] = loadFloat(stored.type, bytes.data() + i * dtypeSize(stored.type));
  }
  return write(bytes, stored.offset);
}

Error WeightTuner::addNorms(ModuleOp quantized, const BlockModel &model) {
  SmallVector<Value> scales;
  DenseMap<Value, int> users;
  quantized.walk([&](lm::RMSNormOp norm) {
    Value scale = norm.getWeight();
    if (auto convert = scale.getDefiningOp<ConvertOp>())
      scale = convert.getInput();
    scales.push_back(scale);
    ++users[scale];
  });
  size_t next = 0;
  for (size_t part = 0; part < model.parts(); ++part) {
    tuned.norms.emplace_back();
    storedNorms.emplace_back();
    for (const PartNorm &norm : model.norms(part)) {
      std::vector<float> &values = tuned.norms.back().emplace_back();
      StoredVector &stored = storedNorms.back().emplace_back();
      Value scale = next < scales.size() ? scales[next] : Value();
      ++next;
      if (!scale || !norm.weight || users[scale] > 1 || !scale.getDefiningOp<ExternalOp>())
        continue;
      Expected<std::vector<float>> read = readVector(scale, stored);
      if (!read)
        return read.takeError();
      values = std::move(*read);
      if (values.size() != size_t(norm.channels))
        return fail("cannot tune", path, "norm " + std::to_string(next) + " of " + std::to_string(norm.channels),
                    std::to_string(values.size()));
    }
  }
  return next == scales.size() ? Error::success()
                               : fail("cannot tune", path, std::to_string(next) + " norms, as the model has",
                                      std::to_string(scales.size()));
}

Error WeightTuner::addLeaf(Attribute leaf, ArrayRef<Value> components, int64_t rows, int64_t columns,
                           std::vector<uint32_t> places, TunableWeight &weight, StoredWeight &stored) {
  auto uniform = dyn_cast<UniformAttr>(leaf);
  std::vector<ComponentSpec> specs = uniform ? componentsOf(formatOf(uniform), rows, columns)
                                             : componentsOf(formatOf(cast<CodebookAttr>(leaf)), rows, columns);
  StoredPart part;
  part.matrix.rows = rows;
  part.matrix.columns = columns;
  for (auto [spec, value] : llvm::zip(specs, components)) {
    Expected<std::vector<uint8_t>> bytes = read(value);
    if (!bytes)
      return bytes.takeError();
    part.matrix.components.push_back({spec, std::move(*bytes)});
    part.offsets.push_back(value.getDefiningOp<ExternalOp>().getOffset());
  }
  weight.parts.push_back(
      uniform ? TunablePart::uniform(part.matrix, formatOf(uniform), std::move(places))
              : TunablePart::codebook(part.matrix, formatOf(cast<CodebookAttr>(leaf)), std::move(places)));
  stored.parts.push_back(std::move(part));
  return Error::success();
}

Error WeightTuner::add(LinearOp linear) {
  std::string name = linear.getLayer().value_or("").str();
  auto type = cast<RankedTensorType>(linear.getWeight().getType());
  Attribute term = getEncoding(type);
  auto assemble = linear.getWeight().getDefiningOp<AssembleOp>();
  // The head belongs to the embeddings, whose gradient nobody computes.
  if (!term || !assemble || name.empty() || name == "lm_head" || tuned.weights.count(name))
    return Error::success();
  SmallVector<Value> components(assemble.getComponents());
  TunableWeight weight;
  StoredWeight stored;
  weight.rows = type.getDimSize(0);
  weight.columns = type.getDimSize(1);
  if (auto scaled = dyn_cast<ScaledAttr>(term)) {
    stored.alpha.emplace();
    Expected<std::vector<float>> alpha = readVector(components.pop_back_val(), *stored.alpha);
    if (!alpha)
      return alpha.takeError();
    weight.alpha = std::move(*alpha);
    term = scaled.getInner();
  }
  std::vector<uint32_t> places(weight.rows);
  for (int64_t row = 0; row < weight.rows; ++row)
    places[row] = static_cast<uint32_t>(row);
  SmallVector<Attribute> leaves = {term};
  SmallVector<int64_t> counts = {weight.rows};
  if (auto rows = dyn_cast<RowsAttr>(term)) {
    Expected<std::vector<uint8_t>> bytes = read(components.pop_back_val());
    if (!bytes)
      return bytes.takeError();
    bool wide = weight.rows > 65536;
    for (int64_t row = 0; row < weight.rows; ++row)
      places[row] = wide ? llvm::support::endian::read32le(bytes->data() + 4 * row)
                         : llvm::support::endian::read16le(bytes->data() + 2 * row);
    leaves.assign(rows.getParts().begin(), rows.getParts().end());
    counts.assign(rows.getCounts().begin(), rows.getCounts().end());
  }
  if (!llvm::all_of(leaves, isTunable))
    return Error::success();
  int64_t first = 0;
  ArrayRef<Value> left = components;
  for (auto [leaf, count] : llvm::zip(leaves, counts)) {
    size_t used = getComponents(cast<WeightEncoding>(leaf), {count, weight.columns}).size();
    if (Error error =
            addLeaf(leaf, left.take_front(used), count, weight.columns,
                    std::vector<uint32_t>(places.begin() + first, places.begin() + first + count), weight, stored))
      return error;
    left = left.drop_front(used);
    first += count;
  }
  tuned.weights.emplace(name, std::move(weight));
  storedOf.emplace(name, std::move(stored));
  return Error::success();
}

Error WeightTuner::store(const std::string &name, const Sensitivity &sensitivity, unsigned threads) {
  StoredWeight &stored = storedOf.at(name);
  TunableWeight &weight = tuned.weights.at(name);
  std::vector<QuantizedMatrix *> matrices;
  for (StoredPart &part : stored.parts)
    matrices.push_back(&part.matrix);
  weight.store(matrices, sensitivity, threads);
  for (const StoredPart &part : stored.parts)
    for (auto [component, offset] : llvm::zip(part.matrix.components, part.offsets))
      if (Error error = write(component.bytes, offset))
        return error;
  return stored.alpha ? writeVector(*stored.alpha, weight.alpha) : Error::success();
}

Error WeightTuner::storeNorms() {
  for (auto [places, norms] : llvm::zip(storedNorms, tuned.norms))
    for (auto [place, values] : llvm::zip(places, norms))
      if (!values.empty())
        if (Error error = writeVector(place, values))
          return error;
  return Error::success();
}

/// Writes the tuned weights, and their errors on the linears, part by part of the model.
static Error storeWeights(ModuleOp quantized, WeightTuner &tuner, const std::string &statisticsPath,
                          const BlockModel &model, unsigned threads) {
  std::optional<Statistics> statistics;
  if (!statisticsPath.empty()) {
    Expected<Statistics> opened = Statistics::open(statisticsPath);
    if (!opened)
      return opened.takeError();
    statistics.emplace(std::move(*opened));
  }
  std::map<std::string, WeightErrors> found;
  std::set<std::string> judged; // where statistics know the layer
  for (size_t part = 0; part < model.head(); ++part) {
    Expected<PartWeights> dense = model.load(part);
    if (!dense)
      return dense.takeError();
    for (const PartLayer &layer : model.layers(part)) {
      auto tuned = tuner.tuned.weights.find(layer.name);
      if (tuned == tuner.tuned.weights.end())
        continue;
      const LayerStatistics *facts = statistics ? statistics->find(layer.name) : nullptr;
      Expected<Sensitivity> sensitivity =
          facts ? Sensitivity::create(*facts, layer.rows, layer.name) : Sensitivity::unit(layer.rows, layer.columns);
      if (!sensitivity)
        return sensitivity.takeError();
      if (facts)
        judged.insert(layer.name);
      if (Error error = tuner.store(layer.name, *sensitivity, threads))
        return error;
      std::vector<float> decoded(layer.rows * layer.columns);
      tuned->second.decode(decoded.data(), threads);
      found[layer.name] =
          WeightErrors::of(MatrixView(dense->arrays[layer.weight].data(), layer.rows, layer.columns),
                           MatrixView(decoded.data(), layer.rows, layer.columns), *sensitivity, threads);
    }
  }
  Builder builder(quantized.getContext());
  quantized.walk([&](LinearOp linear) {
    std::string name = linear.getLayer().value_or("").str();
    auto errors = found.find(name);
    if (errors == found.end())
      return;
    auto set = [&](StringRef attribute, double value) {
      linear->setAttr(attribute, builder.getF32FloatAttr(static_cast<float>(value)));
    };
    const WeightErrors &is = errors->second;
    set(kErrorAttr, is.squaredNorm > 0 ? is.squaredError / is.squaredNorm : 0);
    if (judged.count(name)) {
      set(kOutputErrorAttr, is.outputError);
      set(kLossErrorAttr, is.lossError);
    }
  });
  return Error::success();
}

Error skim::tuneWeights(ModuleOp quantized, const std::string &weights, const std::string &statistics,
                        const BlockModel &model, const TuneOptions &options) {
  WeightTuner tuner(weights);
  if (Error error = tuner.open())
    return error;
  Error failure;
  quantized.walk([&](LinearOp linear) {
    if (!failure)
      failure = tuner.add(linear);
  });
  if (failure)
    return failure;
  if (tuner.tuned.weights.empty())
    return fail("nothing to tune", "--tune", "linears in uniform or codebook formats", "none");
  if (Error error = tuner.addNorms(quantized, model))
    return error;
  if (Error error = tune(model, tuner.tuned, options))
    return error;
  if (Error error = tuner.storeNorms())
    return error;
  return storeWeights(quantized, tuner, statistics, model, options.threads);
}
