//===- CalibratedQuantizer.cpp - quantizers that know what errors cost ------===//

#include "CalibratedQuantizer.h"

#include "skim/Quantize/Awq.h"
#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/Gptq.h"
#include "skim/Quantize/RoundToNearest.h"
#include "skim/Quantize/RowCoupling.h"
#include "skim/Quantize/Skim.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Sha256.h"
#include "skim/Transforms/QuantizeWeights.h"

#include <numeric>

using namespace mlir;
using namespace skim;

/// One layer on its way.
struct CalibratedQuantizer::Work {
  std::string layer, method;
  int64_t rows = 0, columns = 0;
  std::vector<float> weights;
  std::optional<Sensitivity> sensitivity;
  std::map<std::string, std::vector<uint8_t>> components;
  std::vector<float> decoded; // what the components decode to

  MatrixView view() const { return MatrixView(weights.data(), rows, columns); }
  void take(const QuantizedMatrix &matrix, const std::string &prefix = "") {
    for (const QuantizedMatrix::Component &component : matrix.components)
      components[prefix + component.spec.name] = component.bytes;
  }
};

Expected<std::unique_ptr<CalibratedQuantizer>> CalibratedQuantizer::create(const CalibratedOptions &options,
                                                                           WeightReader &reader) {
  std::unique_ptr<CalibratedQuantizer> result(new CalibratedQuantizer(options, reader));
  if (options.statistics.empty()) {
    if (options.method == "gptq" || options.method == "awq" || options.method == "skim")
      return fail("method needs statistics", "--method " + options.method, "--stats or --text", "neither");
    return std::unique_ptr<CalibratedQuantizer>();
  }
  Expected<Statistics> statistics = Statistics::open(options.statistics);
  if (!statistics)
    return statistics.takeError();
  result->statistics.emplace(std::move(*statistics));
  if (!options.plan.empty()) {
    Expected<Plan> plan = Plan::read(options.plan);
    if (!plan)
      return plan.takeError();
    result->plan.emplace(std::move(*plan));
  }
  if (result->plan && !options.record.empty()) {
    Expected<std::string> hash = sha256OfFile(options.statistics);
    if (!hash)
      return hash.takeError();
    Expected<RecordFile> record = RecordFile::open(options.record, result->recordOptions(), {{"statistics", *hash}});
    // Without one its layers are recorded anew.
    if (record)
      result->record.emplace(std::move(*record));
  }
  return result;
}

RecordOptions CalibratedQuantizer::recordOptions() const {
  RecordOptions record;
  record.threads = options.threads;
  if (!plan)
    return record;
  record.minBits = plan->minBits;
  record.maxBits = plan->maxBits;
  record.table = plan->table == "i8" ? DType::I8 : plan->table == "f16" ? DType::F16 : DType::BF16;
  record.allTerms = plan->allTerms;
  if (plan->asPublished)
    record.measure = ErrorMeasure::LFull;
  return record;
}

std::string CalibratedQuantizer::inputOf(const std::string &layer) const {
  const LayerStatistics *facts = statistics->find(layer);
  return facts ? facts->input : std::string();
}

/// The method that was asked for as far as it is one for this format, else the format's best.
std::string CalibratedQuantizer::methodOf(const std::string &layer, WeightEncoding encoding) const {
  std::string method = options.method;
  if (plan) {
    if (!plan->method.empty())
      method = plan->method;
    if (const LayerPlan *entry = plan->find(layer); entry && !entry->method.empty())
      method = entry->method;
  }
  Attribute term = encoding;
  if (isa<RowsAttr>(term))
    return "skim";
  if (isa<CodebookAttr>(term))
    return method == "kmeans" ? "kmeans" : "skim";
  if (auto scaled = dyn_cast<ScaledAttr>(term))
    return isa<UniformAttr>(scaled.getInner()) ? "awq" : "skim";
  return method == "rtn" ? "rtn" : "gptq";
}

Expected<bool> CalibratedQuantizer::handles(const std::string &layer, WeightEncoding encoding) const {
  if (!statistics->find(layer))
    return false;
  Attribute term = encoding;
  const LayerPlan *entry = plan ? plan->find(layer) : nullptr;
  // 8 bits of a vocabulary's rows cost nothing: no time for feedback.
  if (auto grid = dyn_cast<UniformAttr>(term); grid && layer == "lm_head" && grid.getBits() == 8)
    return false;
  auto outer = dyn_cast<ScaledAttr>(term);
  Attribute inner = outer ? outer.getInner() : term;
  if (isa<UniformAttr>(inner))
    return outer || (entry && !entry->widths.empty()) || methodOf(layer, encoding) == "gptq";
  SmallVector<Attribute> parts = {inner};
  auto rows = dyn_cast<RowsAttr>(inner);
  if (rows)
    parts.assign(rows.getParts().begin(), rows.getParts().end());
  // One table for a whole weight is a term of a plan; named as a format it is exact k-means without calibration.
  const bool isPlanned = rows || (entry && !entry->widths.empty());
  for (Attribute part : parts)
    if (auto leaf = dyn_cast<CodebookAttr>(part);
        !(leaf && (isPlanned || !leaf.getTensorScope())) && !(rows && isa<UniformAttr>(part))) {
      if (!rows && !outer)
        return false;
      return fail("no quantizer for this format", layer, "codebooks with a table a row", encoding.getShortName());
    }
  if ((rows || outer) && (!entry || entry->widths.empty()))
    return fail(rows ? "rows of mixed width without a plan" : "scaled codebooks without a plan", layer,
                "a plan with the width of each row", "none");
  return true;
}

Expected<std::vector<float>> CalibratedQuantizer::load(Operation *source, int64_t &rows, int64_t &columns) {
  Expected<WeightRows> matrix = reader.rows(source);
  if (!matrix)
    return matrix.takeError();
  rows = matrix->rows();
  columns = matrix->columns();
  std::vector<float> values(rows * columns);
  matrix->read(0, rows, values.data());
  matrix->release();
  return values;
}

Error CalibratedQuantizer::codebook(Work &work, CodebookAttr attr) {
  CodebookFormat format = formatOf(attr);
  QuantizeOptions common;
  common.threads = options.threads;
  CodeOptions codes;
  codes.table = format.table;
  codes.threads = options.threads;
  // Nothing is recorded for one width: take the time that finishing takes.
  FinishOptions thorough;
  codes.rounds = thorough.rounds;
  codes.cycles = thorough.cycles;
  Expected<QuantizedMatrix> matrix =
      work.method == "kmeans" ? quantizeCodebook(work.view(), work.sensitivity->elementWeights(), format, common)
                              : quantizeLayer(work.layer, work.view(), *work.sensitivity, format.bits, codes);
  if (!matrix)
    return matrix.takeError();
  if (work.method != "kmeans") {
    FinishedLayer whole;
    whole.parts.push_back({static_cast<uint8_t>(format.bits), std::move(*matrix)});
    whole.permutation.resize(work.rows);
    std::iota(whole.permutation.begin(), whole.permutation.end(), 0u);
    if (Error error = couple(work, format.table, whole))
      return error;
    *matrix = std::move(whole.parts.front().matrix);
  }
  work.take(*matrix);
  decodeCodebook(*matrix, format, work.decoded.data(), work.columns, options.threads);
  return Error::success();
}

bool CalibratedQuantizer::isCoupled(const std::string &layer) const {
  const LayerStatistics *facts = statistics->find(layer);
  return facts && !facts->outputMoment.empty();
}

/// Rows with each other's errors in view, where the statistics tell how they meet.
Error CalibratedQuantizer::couple(Work &work, DType table, FinishedLayer &layer) {
  if (!isCoupled(work.layer))
    return Error::success();
  CouplingOptions coupling;
  coupling.table = table;
  coupling.threads = options.threads;
  return coupleRows(work.layer, layer, statistics->find(work.layer)->outputMoment, work.view(), *work.sensitivity,
                    coupling);
}

/// What a permutation of rows stores.
static std::vector<uint8_t> packPermutation(const std::vector<uint32_t> &permutation) {
  std::vector<uint8_t> bytes;
  bool wide = permutation.size() > 65536;
  for (uint32_t row : permutation)
    for (int shift = 0; shift < (wide ? 32 : 16); shift += 8)
      bytes.push_back(static_cast<uint8_t>(row >> shift));
  return bytes;
}

/// Rows at the widths of the plan.
Error CalibratedQuantizer::planned(Work &work, Attribute attr) {
  const LayerPlan *entry = plan->find(work.layer);
  if (static_cast<int64_t>(entry->widths.size()) != work.rows)
    return fail("plan does not fit the model", options.plan + " " + work.layer, std::to_string(work.rows) + " widths",
                std::to_string(entry->widths.size()));
  Expected<FinishedLayer> finished = finish(work, entry->widths);
  return finished ? store(work, attr, *finished) : finished.takeError();
}

/// The layer's codes and tables at the planned widths.
Expected<FinishedLayer> CalibratedQuantizer::finish(Work &work, std::span<const uint8_t> widths) {
  Expected<LayerRecord> recorded = fail("no record");
  if (record)
    recorded = record->load(work.layer, work.columns);
  if (!recorded)
    recorded = plan->asPublished ? recordAsPublished(work.layer, work.view(), *work.sensitivity, recordOptions())
                                 : recordLayer(work.layer, work.view(), *work.sensitivity, recordOptions());
  if (!recorded)
    return recorded.takeError();
  for (uint8_t bits : widths)
    if (kindOf(bits) == CodebookRow && (bits < recorded->minBits || bits > recorded->maxBits))
      return fail("plan does not fit the record", options.plan + " " + work.layer,
                  "widths from " + std::to_string(recorded->minBits) + " to " + std::to_string(recorded->maxBits),
                  std::to_string(bits));
  FinishOptions finish;
  finish.table = recordOptions().table;
  finish.threads = options.threads;
  // What coupling does next begins with the tables; more rounds before it gain nothing.
  const bool coupled = !plan->asPublished && isCoupled(work.layer);
  if (coupled)
    finish.rounds = 1;
  if (plan->asPublished)
    finish.rounds = 0;
  Expected<FinishedLayer> finished = finishLayer(work.layer, *recorded, widths, work.view(), *work.sensitivity, finish);
  if (finished && coupled)
    if (Error error = couple(work, finish.table, *finished))
      return error;
  return finished;
}

/// Puts parts where the encoding has them.
Error CalibratedQuantizer::store(Work &work, Attribute encoding, FinishedLayer &finished) {
  auto rows = dyn_cast<RowsAttr>(encoding);
  SmallVector<Attribute> parts = {encoding};
  SmallVector<int64_t> counts = {work.rows};
  if (rows) {
    parts.assign(rows.getParts().begin(), rows.getParts().end());
    counts.assign(rows.getCounts().begin(), rows.getCounts().end());
  }
  if (finished.parts.size() != parts.size())
    return fail("plan does not fit its widths", work.layer, std::to_string(parts.size()) + " parts",
                std::to_string(finished.parts.size()));
  int64_t stored = 0;
  for (auto [index, part] : llvm::enumerate(finished.parts)) {
    auto codebook = dyn_cast<CodebookAttr>(parts[index]);
    auto grid = dyn_cast<UniformAttr>(parts[index]);
    unsigned bits = codebook ? codebook.getBits() : grid ? grid.getBits() : 0;
    if (bitsOf(part.bits) != bits || isUniform(part.bits) != bool(grid) || part.matrix.rows != counts[index])
      return fail("plan does not fit its widths", work.layer,
                  std::to_string(counts[index]) + " rows of " + std::to_string(bits) + " bits",
                  std::to_string(part.matrix.rows) + " of " + std::to_string(bitsOf(part.bits)));
    work.take(part.matrix, rows ? "rows." + std::to_string(index) + "." : "");
    std::vector<float> decoded(part.matrix.rows * work.columns);
    if (grid)
      decodeUniform(part.matrix, formatOf(grid), decoded.data());
    else
      decodeCodebook(part.matrix, formatOf(codebook), decoded.data(), work.columns, options.threads);
    for (int64_t row = 0; row < part.matrix.rows; ++row)
      std::copy_n(decoded.begin() + row * work.columns, work.columns,
                  work.decoded.begin() + int64_t(finished.permutation[stored + row]) * work.columns);
    stored += part.matrix.rows;
  }
  if (rows)
    work.components["permutation"] = packPermutation(finished.permutation);
  return Error::success();
}

/// SKIM's α with its codes and tables.
Error CalibratedQuantizer::scaled(Work &work, ScaledAttr attr) {
  const LayerPlan *entry = plan->find(work.layer);
  if (static_cast<int64_t>(entry->widths.size()) != work.rows)
    return fail("plan does not fit the model", options.plan + " " + work.layer, std::to_string(work.rows) + " widths",
                std::to_string(entry->widths.size()));
  ScaledLinear linear = {work.layer, work.view(), &*work.sensitivity, entry->widths};
  ScalingOptions scaling;
  scaling.measure = plan->asPublished ? ErrorMeasure::LFull : ErrorMeasure::LossWeighted;
  scaling.table = recordOptions().table;
  scaling.threads = options.threads;
  Expected<ScaledLayers> trained = quantizeScaled(std::span(&linear, 1), scaling);
  if (!trained)
    return trained.takeError();
  if (Error error = store(work, attr.getInner(), trained->layers.front()))
    return error;
  std::vector<float> alpha = trained->alpha;
  alpha.resize(work.columns, 1.0f);
  std::vector<uint8_t> &bytes = work.components["alpha"];
  for (float value : alpha) {
    uint16_t half = f32ToF16(value);
    bytes.push_back(half & 0xff);
    bytes.push_back(half >> 8);
  }
  for (int64_t i = 0; i < work.rows * work.columns; ++i)
    work.decoded[i] *= alpha[i % work.columns];
  return Error::success();
}

Error CalibratedQuantizer::uniform(Work &work, UniformAttr attr) {
  GptqOptions gptq;
  gptq.threads = options.threads;
  Expected<GptqFactor> factor = factorGptq(work.sensitivity->objective(), work.columns, gptq);
  if (!factor)
    return factor.takeError();
  UniformFormat format = formatOf(attr);
  Expected<QuantizedMatrix> matrix = quantizeGptq(work.view(), *factor, format, gptq);
  if (!matrix)
    return matrix.takeError();
  work.take(*matrix);
  decodeUniform(*matrix, format, work.decoded.data());
  return Error::success();
}

Error CalibratedQuantizer::scaledUniform(Work &work, ScaledAttr attr, UniformAttr inner, ArrayRef<SharedInput> peers) {
  UniformFormat format = formatOf(inner);
  AwqOptions awq;
  awq.threads = options.threads;
  const std::vector<float> &moment = work.sensitivity->plain();
  const LayerStatistics *facts = statistics->find(work.layer);
  std::vector<float> &alpha = alphas[facts->input + " " + cast<WeightEncoding>(Attribute(attr)).getShortName()];
  if (alpha.empty()) {
    std::vector<std::vector<float>> owned;
    std::vector<MatrixView> views;
    for (const SharedInput &peer : peers) {
      if (peer.layer == work.layer) {
        views.push_back(work.view());
        continue;
      }
      int64_t rows = 0, columns = 0;
      Expected<std::vector<float>> values = load(peer.source, rows, columns);
      if (!values)
        return values.takeError();
      owned.push_back(std::move(*values));
      views.emplace_back(owned.back().data(), rows, columns);
    }
    Expected<AwqScale> found = findAwqScale(
        views, moment, rootMeanSquare(moment, work.columns, std::max<uint64_t>(1, statistics->tokens())), format, awq);
    if (!found)
      return found.takeError();
    alpha = std::move(found->alpha);
  }
  std::vector<float> diagonal(work.columns);
  for (int64_t k = 0; k < work.columns; ++k)
    diagonal[k] = moment[k * work.columns + k];
  Expected<QuantizedMatrix> matrix = quantizeScaledUniform(work.view(), alpha, diagonal, format, awq);
  if (!matrix)
    return matrix.takeError();
  work.take(*matrix);
  decodeUniform(*matrix, format, work.decoded.data());
  for (int64_t i = 0; i < work.rows * work.columns; ++i)
    work.decoded[i] *= alpha[i % work.columns];
  return Error::success();
}

Expected<CalibratedWeight> CalibratedQuantizer::quantize(const std::string &layer, Operation *source,
                                                         WeightEncoding encoding, ArrayRef<SharedInput> peers) {
  Work work;
  work.layer = layer;
  work.method = methodOf(layer, encoding);
  Expected<std::vector<float>> values = load(source, work.rows, work.columns);
  if (!values)
    return values.takeError();
  work.weights = std::move(*values);
  QuantizeOptions common;
  common.threads = options.threads;
  if (Error error = checkFinite(work.view(), layer.c_str(), common))
    return error;
  work.decoded.resize(work.weights.size());
  Expected<const LayerStatistics *> facts = statistics->get(layer, work.rows, work.columns);
  if (!facts)
    return facts.takeError();
  Expected<Sensitivity> sensitivity = Sensitivity::create(**facts, work.rows, layer);
  if (!sensitivity)
    return sensitivity.takeError();
  work.sensitivity.emplace(std::move(*sensitivity));

  Attribute term = encoding;
  const LayerPlan *entry = plan ? plan->find(layer) : nullptr;
  bool isPlanned = entry && !entry->widths.empty();
  Error error;
  if (isPlanned && isa<UniformAttr>(term))
    error = planned(work, term);
  else if (auto attr = dyn_cast<UniformAttr>(term))
    error = uniform(work, attr);
  else if (auto attr = dyn_cast<ScaledAttr>(term))
    error = isa<UniformAttr>(attr.getInner()) ? scaledUniform(work, attr, cast<UniformAttr>(attr.getInner()), peers)
                                              : scaled(work, attr);
  else if (isPlanned)
    error = planned(work, term);
  else
    error = codebook(work, cast<CodebookAttr>(term));
  if (error)
    return error;

  CalibratedWeight result;
  for (const Component &component : getComponents(encoding, {work.rows, work.columns})) {
    auto found = work.components.find(component.name);
    if (found == work.components.end() || found->second.size() * 8 != component.getBits())
      return fail("quantizer gave no component", layer,
                  component.name + " of " + std::to_string(component.getBits() / 8) + " bytes",
                  found == work.components.end() ? "none" : std::to_string(found->second.size()) + " bytes");
    result.components.push_back(std::move(found->second));
  }
  result.errors = WeightErrors::of(work.view(), MatrixView(work.decoded.data(), work.rows, work.columns),
                                   *work.sensitivity, options.threads);
  return result;
}
