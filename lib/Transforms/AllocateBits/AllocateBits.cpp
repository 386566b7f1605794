//===- AllocateBits.cpp - spends a budget over the linears ------------------===//

#include "skim/Transforms/AllocateBits.h"

#include "skim/Analysis/PlannedBytes.h"
#include "skim/Analysis/WeightReader.h"
#include "skim/Quantize/Allocation.h"
#include "skim/Quantize/LayerCodes.h"
#include "skim/Quantize/Plan.h"
#include "skim/Quantize/RecordFile.h"
#include "skim/Quantize/Skim.h"
#include "skim/Quantize/Statistics.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/Sha256.h"
#include "skim/Transforms/AssignEncodings.h"
#include "llvm/ADT/MapVector.h"

#include <cmath>
#include <deque>
#include <set>

using namespace mlir;

namespace skim {
#define GEN_PASS_DEF_ALLOCATEBITS
#include "skim/Transforms/AllocateBits.h.inc"
} // namespace skim

using namespace skim;

namespace {
/// A weight that the budget is spent on.
struct OpenLayer {
  std::string name;
  Operation *source = nullptr;
  int64_t rows = 0, columns = 0;
  std::vector<uint8_t> terms;                // RowTerm: what each row can be
  std::vector<std::vector<size_t>> families; // of `terms`: what the layer's rows can be together
  std::vector<float> errors;                 // [rows, terms]
  bool isHead = false, isTied = false;
  SmallVector<Operation *> users;

  /// Kernels that look rows up know no parts: a tied weight is of one term.
  bool mixes() const { return !isTied; }
  /// The term of a row that was given `chosen`.
  uint8_t termOf(const LayerAllocation &chosen, int64_t row) const {
    return terms[families[chosen.family][chosen.widths[mixes() ? row : 0]]];
  }
  /// What all rows lose with it.
  double errorOf(const LayerAllocation &chosen) const {
    double sum = 0;
    for (int64_t row = 0; row < rows; ++row)
      sum += errors[row * terms.size() + families[chosen.family][chosen.widths[mixes() ? row : 0]]];
    return sum;
  }
};

class AllocateBitsPass : public skim::impl::AllocateBitsBase<AllocateBitsPass> {
public:
  using AllocateBitsBase::AllocateBitsBase;
  AllocateBitsPass(const AllocateBitsOptions &options, RecordProgress progress)
      : AllocateBitsBase(options), progress(std::move(progress)) {}
  void runOnOperation() override {
    if (Error error = run()) {
      getOperation().emitError() << error.message();
      signalPassFailure();
    }
  }

private:
  Error run();
  Error checkOptions();
  Error collect();
  Error recordErrors();
  Error recordInto(const std::string &path, const std::map<std::string, std::string> &hashes);
  Expected<LayerRecord> recordOne(const OpenLayer &layer);
  Expected<Allocation> spend();
  Expected<Allocation> spendAsPublished();
  Error decide(const Allocation &allocation);
  Error writePareto(const Allocator &allocator) const;
  void take(OpenLayer &layer, const LayerRecord &record);
  void setFamilies(OpenLayer &layer) const;
  AllocationFamily familyOf(const OpenLayer &layer, size_t index, std::deque<std::vector<double>> &errors) const;
  uint64_t unusedTables(const Allocation &allocation) const;
  uint64_t storedBytes(const OpenLayer &layer, ArrayRef<uint8_t> widths) const;
  uint64_t alphaBytes(const OpenLayer &layer) const { return scaling ? 2 * layer.columns : 0; }
  Attribute encodingOf(uint8_t term) const;

  RecordProgress progress;
  RecordOptions recordOptions;
  DType tableType = DType::I8;
  std::optional<Statistics> statisticsFile;
  std::optional<WeightReader> reader;
  std::vector<OpenLayer> layers;
  uint64_t linearWeights = 0; // all linears but the head
  uint64_t fixedLinear = 0;   // bytes of linears that have their encoding already
  uint64_t fixedOther = 0;    // bytes of everything else
};
} // namespace

std::unique_ptr<Pass> skim::createAllocateBits(const AllocateBitsOptions &options, RecordProgress progress) {
  return std::make_unique<AllocateBitsPass>(options, std::move(progress));
}

Error AllocateBitsPass::checkOptions() {
  if (statistics.empty())
    return fail("allocation needs statistics", "option 'statistics'", "a statistics file", "none",
                "skim calibrate writes one");
  if ((bits > 0) == (size > 0))
    return fail("allocation needs a budget", "", "either bits or size", bits > 0 ? "both" : "none");
  if (minBits < 1 || maxBits > 8 || minBits > maxBits)
    return fail("widths out of range", "min-bits and max-bits", "1 <= min-bits <= max-bits <= 8",
                std::to_string(minBits) + " and " + std::to_string(maxBits));
  if (table == "f16")
    tableType = DType::F16;
  else if (table == "bf16")
    tableType = DType::BF16;
  else if (table != "i8")
    return fail("unknown table type", "option 'table'", "i8, f16 or bf16", table);
  if (method != "skim" && method != "auto")
    return fail("unknown method", "option 'method'", "skim or auto", method);
  if (!pareto.empty() && asPublished)
    return fail("no curve of the published allocation", "option 'pareto'", "a budget over the whole model",
                "as-published");
  if (allTerms && (asPublished || scaling))
    return fail("other rows than codebooks beside a scaling vector", "option 'all-terms'",
                "neither as-published nor scaling", "both");
  if (!mixing && !asPublished)
    return fail("allocation without mixing", "option 'mixing'", "as-published", "a budget over the whole model",
                "for one width everywhere use a format (k3i)");
  return Error::success();
}

/// Sorts the weights into those to decide and those that only count.
Error AllocateBitsPass::collect() {
  PlannedBytes planned = plannedBytes(getOperation());
  linearWeights = planned.linearWeights;
  fixedLinear = planned.linears;
  fixedOther = planned.others;
  for (auto &[weight, users] : planned.open) {
    OpenLayer layer;
    layer.source = weight.getDefiningOp();
    layer.users = users;
    for (Operation *op : users) {
      auto linear = dyn_cast<LinearOp>(op);
      layer.isTied |= !linear;
      if (linear && layer.name.empty())
        layer.name = linear.getLayer().value_or("").str();
    }
    if (layer.name.empty())
      return fail("embedding without an encoding", "skim-allocate-bits", "skim-assign-encodings before it", "none");
    layer.isHead = layer.name == "lm_head";
    if (layer.isHead && bits > 0)
      return fail("head without an encoding", "skim-allocate-bits", "a size", "bits, which do not count the head");
    if (!layer.source || !isa<ExternalOp, arith::ConstantOp>(layer.source))
      return fail("weight is not in a file", layer.name, "skim.external or a constant", "another value");
    auto type = cast<RankedTensorType>(weight.getType());
    layer.rows = type.getDimSize(0);
    layer.columns = type.getDimSize(1);
    layers.push_back(std::move(layer));
  }
  if (layers.empty())
    return fail("nothing to allocate", "the model", "linears without an encoding", "none");
  return Error::success();
}

Expected<LayerRecord> AllocateBitsPass::recordOne(const OpenLayer &layer) {
  Expected<const LayerStatistics *> facts = statisticsFile->get(layer.name, layer.rows, layer.columns);
  if (!facts)
    return facts.takeError();
  Expected<Sensitivity> sensitivity = Sensitivity::create(**facts, layer.rows, layer.name);
  if (!sensitivity)
    return sensitivity.takeError();
  Expected<WeightRows> rows = reader->rows(layer.source);
  if (!rows)
    return rows.takeError();
  std::vector<float> weights(layer.rows * layer.columns);
  rows->read(0, layer.rows, weights.data());
  rows->release();
  MatrixView view(weights.data(), layer.rows, layer.columns);
  return asPublished ? recordAsPublished(layer.name, view, *sensitivity, recordOptions)
                     : recordLayer(layer.name, view, *sensitivity, recordOptions);
}

Error AllocateBitsPass::recordInto(const std::string &path, const std::map<std::string, std::string> &hashes) {
  std::vector<RecordedShape> shapes;
  for (const OpenLayer &layer : layers)
    if (layer.terms.empty())
      shapes.push_back({layer.name, layer.rows, layer.columns});
  Expected<RecordWriter> writer = RecordWriter::create(path, shapes, recordOptions, hashes);
  if (!writer)
    return writer.takeError();
  for (auto [index, layer] : llvm::enumerate(layers)) {
    if (!layer.terms.empty())
      continue;
    Expected<LayerRecord> recorded = recordOne(layer);
    if (!recorded)
      return recorded.takeError();
    take(layer, *recorded);
    if (Error error = writer->add(layer.name, *recorded))
      return error;
    if (progress)
      progress({layer.name, layer.rows, layer.columns, index + 1, layers.size()});
  }
  return writer->finish();
}

/// What a layer's record says, comparable over the whole model.
void AllocateBitsPass::take(OpenLayer &layer, const LayerRecord &record) {
  layer.errors = record.errors;
  layer.terms.clear();
  for (size_t i = 0; i < record.terms(); ++i)
    layer.terms.push_back(record.term(i));
  setFamilies(layer);
}

/// Rows of a layer choose among a few kinds of terms at once: every part is code and, on GPUs, blocks of its own.
void AllocateBitsPass::setFamilies(OpenLayer &layer) const {
  layer.families.assign(1, {});
  if (!layer.mixes() || layer.terms.size() <= maxBits - minBits + 1) {
    for (size_t i = 0; i < layer.terms.size(); ++i)
      if (layer.mixes() || !sharedTableBytes(layer.terms[i]))
        layer.families.front().push_back(i);
    return;
  }
  layer.families.clear();
  for (const std::vector<uint8_t> &family : termFamilies(layer.columns, minBits, maxBits)) {
    layer.families.emplace_back();
    for (uint8_t term : family)
      layer.families.back().push_back(llvm::find(layer.terms, term) - layer.terms.begin());
  }
}

Error AllocateBitsPass::recordErrors() {
  Expected<Statistics> opened = Statistics::open(statistics);
  if (!opened)
    return opened.takeError();
  statisticsFile.emplace(std::move(*opened));
  if (Error error = modelHash.empty() ? Error::success() : statisticsFile->checkModel(modelHash))
    return error;
  reader.emplace(base);
  recordOptions.minBits = minBits;
  recordOptions.maxBits = maxBits;
  recordOptions.table = tableType;
  recordOptions.threads = threads;
  if (asPublished)
    recordOptions.measure = ErrorMeasure::LFull;
  recordOptions.allTerms = allTerms;
  for (OpenLayer &layer : layers) {
    const LayerStatistics *facts = layer.isHead ? statisticsFile->find(layer.name) : nullptr;
    // Nothing says what an error of this head costs: 8 bits cost nothing.
    if (layer.isHead && (!facts || facts->outputSquaredGradient.empty())) {
      layer.terms = {uint8_t(UniformRow + 8)};
      layer.families = {{0}};
      layer.errors.assign(layer.rows, 0);
    }
  }
  Expected<std::string> hash = sha256OfFile(statistics);
  if (!hash)
    return hash.takeError();
  std::map<std::string, std::string> hashes = {{"statistics", *hash}};
  // Layers that `keep` takes out change with the options, the others' codes do not:
  // a record serves if it has what is asked for.
  Expected<RecordFile> old = RecordFile::open(record, recordOptions, hashes);
  bool complete = static_cast<bool>(old);
  std::vector<LayerRecord> found;
  for (OpenLayer &layer : layers) {
    if (!complete)
      break;
    if (!layer.terms.empty())
      continue;
    Expected<LayerRecord> recorded = old->errors(layer.name, layer.columns);
    complete = recorded && recorded->rows == layer.rows;
    if (complete)
      found.push_back(std::move(*recorded));
  }
  if (!complete)
    return recordInto(record, hashes);
  size_t next = 0;
  for (OpenLayer &layer : layers)
    if (layer.terms.empty())
      take(layer, found[next++]);
  return Error::success();
}

/// What is left of a budget for the open layers, or the failure that says how
/// much is needed; in true bits where `bits` are the budget.
static Expected<uint64_t> remaining(uint64_t budget, uint64_t used, uint64_t minimum, uint64_t weights, double bits) {
  if (budget >= used + minimum)
    return budget - used;
  char needed[64], given[64];
  if (bits > 0) {
    std::snprintf(needed, sizeof needed, "at least %.4f bits", weights ? 8.0 * (used + minimum) / weights : 0.0);
    std::snprintf(given, sizeof given, "%.4f bits", bits);
  } else {
    std::snprintf(needed, sizeof needed, "at least %llu bytes", static_cast<unsigned long long>(used + minimum));
    std::snprintf(given, sizeof given, "%llu bytes", static_cast<unsigned long long>(budget));
  }
  return fail("budget below what the format can reach", bits > 0 ? "--bits" : "--size", needed, given);
}

Error AllocateBitsPass::writePareto(const Allocator &allocator) const {
  std::string csv = "bytes,bits,error\n";
  for (const ParetoPoint &point : allocator.pareto(100)) {
    char line[96];
    uint64_t bytes = fixedLinear + point.bytes;
    std::snprintf(line, sizeof line, "%llu,%.5f,%.9g\n", static_cast<unsigned long long>(bytes),
                  linearWeights ? 8.0 * bytes / linearWeights : 0.0, point.error);
    csv += line;
  }
  return writeFileAtomically(pareto, csv);
}

/// What a layer is with the terms of one of its families for its rows. `errors` keeps them.
AllocationFamily AllocateBitsPass::familyOf(const OpenLayer &layer, size_t index,
                                            std::deque<std::vector<double>> &errors) const {
  const std::vector<size_t> &chosen = layer.families[index];
  const size_t count = layer.terms.size();
  AllocationFamily family;
  std::vector<double> &own = errors.emplace_back();
  if (layer.mixes()) {
    family.name = "rows";
    family.mixedBytes = permutationBytes(layer.rows);
    family.fixedBytes = alphaBytes(layer);
    for (int64_t row = 0; row < layer.rows; ++row)
      for (size_t i : chosen)
        own.push_back(layer.errors[row * count + i]);
    for (size_t i : chosen) {
      family.rowBytes.push_back(storedRowBytes(layer.terms[i], tableType, layer.columns));
      family.fixedBytes += sharedTableBytes(layer.terms[i]);
    }
  } else {
    // One "row" that is the whole weight.
    family.name = "whole";
    own.resize(chosen.size());
    for (int64_t row = 0; row < layer.rows; ++row)
      for (auto [sum, i] : llvm::zip(own, chosen))
        sum += layer.errors[row * count + i];
    for (size_t i : chosen)
      family.rowBytes.push_back(layer.rows * storedRowBytes(layer.terms[i], tableType, layer.columns) +
                                sharedTableBytes(layer.terms[i]) + alphaBytes(layer));
  }
  std::vector<uint8_t> terms;
  for (size_t i : chosen)
    terms.push_back(layer.terms[i]);
  for (double &error : own)
    error *= familyMargin(terms);
  family.errors = own;
  return family;
}

Expected<Allocation> AllocateBitsPass::spend() {
  std::vector<AllocationLayer> problem;
  std::deque<std::vector<double>> errors;
  for (OpenLayer &layer : layers) {
    if (layer.errors.size() != static_cast<size_t>(layer.rows) * layer.terms.size())
      return fail("record does not fit", record, "errors of " + layer.name, "another number");
    problem.push_back({layer.name, {}});
    for (size_t family = 0; family < layer.families.size(); ++family)
      problem.back().families.push_back(familyOf(layer, family, errors));
  }
  Expected<Allocator> allocator = Allocator::create(problem);
  if (!allocator)
    return allocator.takeError();
  uint64_t budget = bits > 0 ? static_cast<uint64_t>(std::floor(bits * linearWeights / 8)) : uint64_t(size);
  Expected<uint64_t> left = remaining(budget, bits > 0 ? fixedLinear : fixedLinear + fixedOther,
                                      allocator->minimumBytes(), linearWeights, bits);
  if (!left)
    return left.takeError();
  if (!pareto.empty())
    if (Error error = writePareto(*allocator))
      return error;
  // A family pays for all its shared tables; what some layers do not use of them is spent again, and so is what whole
  // tiles save; what they cost is taken back.
  std::optional<Allocation> best;
  const int64_t least = allocator->minimumBytes();
  int64_t given = *left;
  for (int attempt = 0; attempt < 9 || !best; ++attempt) {
    Expected<Allocation> tried = allocator->allocate(std::max(given, least));
    if (!tried)
      return tried;
    if (tile > 1)
      moveToTiles(problem, tile, *tried);
    tried->bytes -= unusedTables(*tried);
    const int64_t over = static_cast<int64_t>(tried->bytes) - static_cast<int64_t>(*left);
    if (over <= 0 && best && !(tried->error < best->error))
      break;
    if (over <= 0)
      best = std::move(*tried);
    given -= attempt < 9 ? over : over << std::min(attempt - 8, 20);
  }
  return std::move(*best);
}

/// Bytes of tables that were paid for but have no rows.
uint64_t AllocateBitsPass::unusedTables(const Allocation &allocation) const {
  uint64_t unused = 0;
  for (auto [layer, chosen] : llvm::zip(layers, allocation.layers)) {
    if (!layer.mixes())
      continue;
    std::set<uint8_t> used;
    for (int64_t row = 0; row < layer.rows; ++row)
      used.insert(layer.termOf(chosen, row));
    for (size_t i : layer.families[chosen.family])
      unused += used.count(layer.terms[i]) ? 0 : sharedTableBytes(layer.terms[i]);
  }
  return unused;
}

/// Bytes of a layer whose rows have these widths (counted from minBits).
uint64_t AllocateBitsPass::storedBytes(const OpenLayer &layer, ArrayRef<uint8_t> widths) const {
  uint64_t bytes = alphaBytes(layer) + (llvm::all_equal(widths) ? 0 : permutationBytes(layer.rows));
  for (uint8_t width : widths)
    bytes += storedRowBytes(layer.terms[width], tableType, layer.columns);
  return bytes;
}

/// Algorithm 1 for each matrix, with the same mean number of bits everywhere.
/// The paper counts codes alone; a budget here is of all that is stored, so the
/// largest mean that fits is searched.
Expected<Allocation> AllocateBitsPass::spendAsPublished() {
  if (bits <= 0)
    return fail("the published allocation counts bits", "option 'size'", "bits", "a size in bytes");
  RowAllocationOptions rule;
  rule.minBits = minBits;
  rule.maxBits = maxBits;
  auto attempt = [&](double mean) -> Expected<Allocation> {
    Allocation result;
    for (const OpenLayer &layer : layers) {
      std::vector<double> errors(layer.errors.begin(), layer.errors.end());
      Expected<std::vector<uint8_t>> chosen =
          mixing ? allocateRows(errors, layer.rows, mean, rule)
                 : std::vector<uint8_t>(layer.rows, static_cast<uint8_t>(std::floor(mean)));
      if (!chosen)
        return chosen.takeError();
      LayerAllocation allocated;
      for (auto [row, width] : llvm::enumerate(*chosen)) {
        allocated.widths.push_back(width - minBits);
        allocated.error += layer.errors[row * (maxBits - minBits + 1) + width - minBits];
      }
      allocated.bytes = storedBytes(layer, allocated.widths);
      allocated.mixed = !llvm::all_equal(*chosen);
      result.bytes += allocated.bytes;
      result.error += allocated.error;
      result.layers.push_back(std::move(allocated));
    }
    return result;
  };
  Expected<Allocation> best = attempt(minBits);
  if (!best)
    return best;
  uint64_t budget = static_cast<uint64_t>(std::floor(bits * linearWeights / 8));
  if (Expected<uint64_t> left = remaining(budget, fixedLinear, best->bytes, linearWeights, bits); !left)
    return left.takeError();
  double low = minBits, high = maxBits;
  for (int step = 0; step < 20; ++step) {
    double middle = step == 0 ? high : (low + high) / 2;
    Expected<Allocation> tried = attempt(middle);
    if (!tried)
      return tried;
    bool fits = fixedLinear + tried->bytes <= budget;
    (fits ? low : high) = middle;
    if (fits)
      best = std::move(tried);
    if (fits && step == 0)
      break;
  }
  return best;
}

Attribute AllocateBitsPass::encodingOf(uint8_t term) const {
  MLIRContext *context = &const_cast<AllocateBitsPass *>(this)->getContext();
  Type half = Float16Type::get(context);
  if (isUniform(term)) {
    UniformFormat format = uniformFormatOf(term);
    return UniformAttr::get(context, format.bits, format.group, format.asymmetric, format.floatZero ? half : Type(),
                            half);
  }
  const CodebookFormat format = codebookFormatOf(term, tableType);
  Type table = format.table == DType::I8    ? Type(IntegerType::get(context, 8))
               : format.table == DType::F16 ? half
                                            : Type(BFloat16Type::get(context));
  return CodebookAttr::get(context, format.bits, table, format.tensorScope);
}

/// Encodings on the linears, widths of the rows in the plan.
Error AllocateBitsPass::decide(const Allocation &allocation) {
  Plan decided;
  decided.method = "skim";
  decided.modelHash = modelHash;
  decided.minBits = minBits;
  decided.maxBits = maxBits;
  decided.table = table;
  decided.asPublished = asPublished;
  decided.scaled = scaling;
  decided.allTerms = allTerms;
  MLIRContext *context = &getContext();
  uint64_t total = fixedLinear, heads = 0;
  for (auto [layer, chosen] : llvm::zip(layers, allocation.layers)) {
    LayerPlan entry;
    std::map<uint8_t, int64_t> counts; // parts are stored in the order of their terms
    for (int64_t row = 0; row < layer.rows; ++row) {
      uint8_t term = layer.termOf(chosen, row);
      entry.widths.push_back(term);
      ++counts[term];
    }
    SmallVector<Attribute> parts;
    SmallVector<int64_t> partRows;
    for (auto [term, count] : counts) {
      parts.push_back(encodingOf(term));
      partRows.push_back(count);
    }
    Attribute term = parts.size() == 1 ? parts.front() : Attribute(RowsAttr::get(context, parts, partRows));
    if (scaling)
      term = ScaledAttr::get(context, term);
    auto encoding = cast<WeightEncoding>(term);
    llvm::raw_string_ostream(entry.term) << term;
    entry.error = layer.errorOf(chosen);
    entry.bytes = getStoredBits(encoding, {layer.rows, layer.columns}) / 8;
    (layer.isHead ? heads : total) += entry.bytes;
    for (Operation *user : layer.users)
      user->setAttr(kEncodingAttr, term);
    decided.layers[layer.name] = std::move(entry);
  }
  decided.bytes = total;
  decided.bits = linearWeights ? 8.0 * total / linearWeights : 0;
  // The allocator's own count must be what the encodings say: a budget is a promise.
  if (total + heads != fixedLinear + allocation.bytes)
    return fail("allocation miscounted", "skim-allocate-bits", std::to_string(allocation.bytes) + " bytes",
                std::to_string(total + heads - fixedLinear));
  return decided.write(plan);
}

Error AllocateBitsPass::run() {
  if (Error error = checkOptions())
    return error;
  if (Error error = collect())
    return error;
  if (Error error = recordErrors())
    return error;
  Expected<Allocation> allocation = asPublished ? spendAsPublished() : spend();
  return allocation ? decide(*allocation) : allocation.takeError();
}
