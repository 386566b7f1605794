#include "skim/Calibrate/Calibrate.h"

#include "Accumulate.h"
#include "Fisher.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/Json.h"
#include "skim/Support/Resources.h"
#include "skim/Support/Sha256.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <ctime>
#include <filesystem>

using namespace skim;

/// Positions of a sequence whose logits are made at once: a vocabulary is wide.
static constexpr int64_t headRows = 128;
/// What observations of a batch of sequences may take.
static constexpr int64_t batchBytes = int64_t(384) << 20;
static constexpr size_t mostInBatch = 16;

namespace {
class Run {
public:
  Run(const BlockModel &model, const CalibrateOptions &options, WorkFolder &work)
      : model(model), options(options), work(work), threads(resolveThreads(options.threads)) {}

  Error prepare();
  Error run();
  uint64_t tokens() const { return offsets.back() / static_cast<uint64_t>(model.hiddenSize()); }

private:
  struct Step {
    const char *phase;
    size_t part;
    bool writes; ///< statistics of the part's layers
    Error (Run::*run)(size_t part);
  };
  std::vector<Step> steps() const;
  void discard(const Step &step) const;
  std::string hiddenFile(size_t part) const { return work.file("hidden." + std::to_string(part)); }
  /// The adjoint of a part's input.
  std::string adjointFile(size_t part) const { return work.file("adjoint." + std::to_string(part)); }
  std::span<const int32_t> inputsOf(size_t s) const { return std::span(options.sequences[s]).first(lengthOf(s)); }
  std::span<const int32_t> targetsOf(size_t s) const { return std::span(options.sequences[s]).subspan(1); }
  size_t lengthOf(size_t s) const { return options.sequences[s].size() - 1; }
  size_t count() const { return options.sequences.size(); }
  Error openHidden(const std::string &path, bool keep, std::optional<Scratch> &out) const;
  /// Runs `observe` on sequences side by side, batch by batch, and adds what they gave to the part's statistics.
  Error collect(size_t part, const std::function<void(size_t s, SequenceObservation &)> &observe);
  Error embed(size_t part);
  Error forwardPart(size_t part);
  Error headPart(size_t part);
  void addFisher(const float *dz, std::span<const int32_t> targets, float share, int64_t first,
                 SequenceObservation &one) const;
  Error backwardPart(size_t part);

  const BlockModel &model;
  const CalibrateOptions &options;
  WorkFolder &work;
  unsigned threads;
  std::vector<uint64_t> offsets;  // of sequences in hidden files, in elements
  std::vector<size_t> firstLayer; // of parts
  std::optional<StatisticsWriter> writer;
  std::string state;
  size_t done = 0; // steps
};
} // namespace

Error skim::checkSequences(const std::vector<std::vector<int32_t>> &sequences, int64_t vocabulary) {
  if (sequences.empty())
    return fail("nothing to calibrate on", "the text", "at least one sequence", "none");
  for (size_t s = 0; s < sequences.size(); ++s) {
    std::string where = "sequence " + std::to_string(s + 1);
    if (sequences[s].size() < 2)
      return fail("sequence too short", where, "at least 2 tokens", std::to_string(sequences[s].size()));
    for (int32_t id : sequences[s])
      if (id < 0 || id >= vocabulary)
        return fail("token out of range", where, "ids from 0 to " + std::to_string(vocabulary - 1), std::to_string(id));
  }
  return Error::success();
}

Error skim::checkWork(const CalibrateOptions &options) { return WorkFolder::check(options.output, options.resume); }

static std::string hashOf(const std::vector<std::vector<int32_t>> &sequences) {
  Sha256 hash;
  for (const std::vector<int32_t> &sequence : sequences) {
    uint64_t length = sequence.size();
    hash.update(std::string_view(reinterpret_cast<const char *>(&length), sizeof(length)));
    hash.update(std::string_view(reinterpret_cast<const char *>(sequence.data()), sequence.size() * sizeof(int32_t)));
  }
  return hash.hex();
}

Error Run::prepare() {
  offsets.push_back(0);
  for (size_t s = 0; s < count(); ++s)
    offsets.push_back(offsets.back() + lengthOf(s) * static_cast<uint64_t>(model.hiddenSize()));

  StatisticsFacts facts;
  facts.modelHash = options.modelHash;
  facts.textHash = hashOf(options.sequences);
  facts.options = options.description;
  facts.tokens = tokens();
  facts.sequences = count();
  facts.gradients = options.gradients;
  facts.groups = options.groups;
  std::vector<StatisticsLayer> layers;
  for (size_t part = 0; part < model.parts(); ++part) {
    firstLayer.push_back(layers.size());
    for (const PartLayer &layer : model.layers(part)) {
      const PartInput &input = model.inputs(part)[layer.input];
      bool weights = part != model.head();
      layers.push_back({layer.name, model.layers(part)[input.firstLayer].name, layer.rows, layer.columns, true, weights,
                        /*outputMoment=*/weights});
    }
  }

  state = dumpJson(Json{{"model", facts.modelHash},
                        {"text", facts.textHash},
                        {"options", facts.options},
                        {"gradients", facts.gradients},
                        {"labels", options.labels == Labels::Model ? "model" : "text"},
                        {"output_moments", facts.gradients},
                        {"groups", facts.groups}});
  if (work.resumed())
    if (Expected<Json> old = parseJsonFile(work.file("state.json"))) {
      JsonCursor cursor(*old, work.file("state.json"));
      Expected<std::string> key = cursor.string("key");
      Expected<int64_t> steps = cursor.integer("done", 0);
      if (!key || !steps)
        return key ? steps.takeError() : key.takeError();
      if (*key != state)
        return fail("unfinished work has other options", work.file("state.json"), state, *key,
                    "remove it, or use its options");
      done = static_cast<size_t>(*steps);
    }
  SafetensorsWriter::Options how;
  how.resumable = true;
  how.resume = done > 0;
  Expected<StatisticsWriter> created = StatisticsWriter::create(work.file("statistics"), std::move(layers), facts, how);
  if (!created)
    return created.takeError();
  writer.emplace(std::move(*created));
  if (!writer->resumed())
    done = 0;
  return Error::success();
}

Error Run::openHidden(const std::string &path, bool keep, std::optional<Scratch> &out) const {
  Expected<Scratch> opened = Scratch::open(path, offsets.back() * sizeof(float), keep);
  if (!opened)
    return opened.takeError();
  out.emplace(std::move(*opened));
  return Error::success();
}

Error Run::collect(size_t part, const std::function<void(size_t s, SequenceObservation &)> &observe) {
  GradientSums gradients = !options.gradients     ? GradientSums::None
                           : part == model.head() ? GradientSums::Outputs
                                                  : GradientSums::All;
  Expected<PartSums> sums =
      PartSums::create(work.file("sums"), model.layers(part), model.inputs(part), options.groups, gradients);
  if (!sums)
    return sums.takeError();
  int64_t longest = 0;
  for (size_t s = 0; s < count(); ++s)
    longest = std::max<int64_t>(longest, lengthOf(s));
  size_t fitting = static_cast<size_t>(batchBytes / std::max<int64_t>(1, longest * sums->bytesPerToken()));
  size_t batch = std::clamp<size_t>(fitting, std::min<size_t>(threads, mostInBatch), mostInBatch);
  std::vector<SequenceObservation> observations(std::min(batch, count()));
  for (size_t begin = 0; begin < count(); begin += batch) {
    size_t size = std::min(batch, count() - begin);
    Error error = parallelForWithErrors(size, 1, threads, [&](size_t first, size_t end, unsigned) -> Error {
      for (size_t i = first; i < end; ++i) {
        sums->prepare(observations[i], static_cast<int64_t>(lengthOf(begin + i)));
        observe(begin + i, observations[i]);
        if (Error error = sums->derive(observations[i]))
          return error;
      }
      return Error::success();
    });
    if (error)
      return error;
    sums->add(observations, size, threads);
  }
  return sums->write(*writer, firstLayer[part]);
}

Error Run::embed(size_t) {
  std::optional<Scratch> out;
  if (Error error = openHidden(hiddenFile(0), false, out))
    return error;
  for (size_t s = 0; s < count(); ++s)
    model.embed(inputsOf(s), out->as<float>() + offsets[s]);
  return Error::success();
}

Error Run::forwardPart(size_t part) {
  std::optional<Scratch> in, out;
  if (Error error = openHidden(hiddenFile(part), true, in))
    return error;
  if (Error error = openHidden(hiddenFile(part + 1), false, out))
    return error;
  Expected<PartWeights> weights = model.load(part);
  if (!weights)
    return weights.takeError();
  float *source = in->as<float>(), *target = out->as<float>();
  if (options.gradients || model.layers(part).empty()) {
    parallelFor(count(), 1, threads, [&](size_t begin, size_t end, unsigned) {
      for (size_t s = begin; s < end; ++s)
        model.forward(part, *weights, inputsOf(s), source + offsets[s], target + offsets[s]);
    });
  } else if (Error error = collect(part, [&](size_t s, SequenceObservation &one) {
               model.observe(part, *weights, inputsOf(s), source + offsets[s], target + offsets[s], one.inputs());
             }))
    return error;
  return Error::success();
}

/// What the head's outputs add to its sums. Over the targets that the model
/// itself expects the mean of (p − 1[target])² is p·(1 − p): unlike the square
/// of one target's gradient it knows tokens that the text happens to lack.
void Run::addFisher(const float *dz, std::span<const int32_t> targets, float share, int64_t first,
                    SequenceObservation &one) const {
  const int64_t vocabulary = model.vocabulary();
  std::vector<double> &energy = one.outputSquares.front();
  for (size_t t = 0; t < targets.size(); ++t)
    for (int g = 0; g < options.groups; ++g) {
      int64_t begin = vocabulary * g / options.groups, end = vocabulary * (g + 1) / options.groups;
      double sum = 0;
      for (int64_t i = begin; i < end; ++i) {
        double p = double(dz[t * vocabulary + i]) / share + (i == targets[t] ? 1 : 0);
        double square = std::max(0.0, p * (1 - p)) * share * share;
        energy[i] += square;
        sum += square;
      }
      one.sensitivity.front()[g * one.tokens + first + t] =
          static_cast<float>(sum / double(std::max<int64_t>(1, end - begin)));
    }
}

Error Run::headPart(size_t part) {
  std::optional<Scratch> in, adjoint;
  if (Error error = openHidden(hiddenFile(part), true, in))
    return error;
  if (Error error = openHidden(adjointFile(part), false, adjoint))
    return error;
  Expected<PartWeights> weights = model.load(part);
  if (!weights)
    return weights.takeError();
  int64_t hidden = model.hiddenSize();
  Error error = collect(part, [&](size_t s, SequenceObservation &one) {
    const float *h = in->as<float>() + offsets[s];
    if (!options.gradients)
      return model.observe(part, *weights, inputsOf(s), h, nullptr, one.inputs());
    float *dh = adjoint->as<float>() + offsets[s], *x = one.x.front().data();
    int64_t columns = model.inputs(part).front().columns, length = static_cast<int64_t>(lengthOf(s));
    // The loss is the mean over the sequence's targets.
    std::vector<float> share(headRows, 1.0f / static_cast<float>(length)), dz(headRows * model.vocabulary());
    for (int64_t at = 0; at < length; at += headRows) {
      int64_t rows = std::min(headRows, length - at);
      std::span<const int32_t> targets = targetsOf(s).subspan(at, rows);
      model.lossBackward(*weights, targets, h + at * hidden, share.data(), dh + at * hidden, x + at * columns,
                         dz.data());
      addFisher(dz.data(), targets, share.front(), at, one);
      if (options.labels == Labels::Text)
        continue;
      drawFisher(dz.data(), targets, model.vocabulary(), share.front(), s, static_cast<uint64_t>(at));
      model.logitsBackward(*weights, rows, h + at * hidden, dz.data(), dh + at * hidden);
    }
  });
  return error;
}

Error Run::backwardPart(size_t part) {
  std::optional<Scratch> in, outAdjoint, inAdjoint;
  if (Error error = openHidden(hiddenFile(part), true, in))
    return error;
  if (Error error = openHidden(adjointFile(part + 1), true, outAdjoint))
    return error;
  if (Error error = openHidden(adjointFile(part), false, inAdjoint))
    return error;
  Expected<PartWeights> weights = model.load(part);
  if (!weights)
    return weights.takeError();
  Error error = collect(part, [&](size_t s, SequenceObservation &one) {
    model.backward(part, *weights, inputsOf(s), in->as<float>() + offsets[s], outAdjoint->as<float>() + offsets[s],
                   inAdjoint->as<float>() + offsets[s], one.inputs(), one.adjoints());
  });
  return error;
}

std::vector<Run::Step> Run::steps() const {
  std::vector<Step> all = {{"embed", 0, false, &Run::embed}};
  for (size_t part = 0; part < model.head(); ++part)
    all.push_back({"forward", part, !options.gradients, &Run::forwardPart});
  all.push_back({"head", model.head(), true, &Run::headPart});
  if (options.gradients)
    // What lies before the first layer has no statistics.
    for (size_t part = model.head(); part-- > 0 && !model.layers(part).empty();)
      all.push_back({"backward", part, true, &Run::backwardPart});
  return all;
}

Error Run::run() {
  std::vector<Step> all = steps();
  for (size_t i = 0; i < all.size(); ++i) {
    const Step &step = all[i];
    if (i < done) {
      // The run that is resumed wrote these.
      for (size_t l = 0; step.writes && l < model.layers(step.part).size(); ++l)
        writer->adopt(firstLayer[step.part] + l);
      continue;
    }
    if (Error error = (this->*step.run)(step.part))
      return error;
    if (Error error = writeFileAtomically(work.file("state.json"), dumpJson(Json{{"key", state}, {"done", i + 1}})))
      return error;
    done = i + 1;
    discard(step);
    if (options.progress)
      options.progress({step.phase, done, all.size(),
                        step.run == &Run::embed || model.layers(step.part).empty()
                            ? "embeddings"
                            : model.layers(step.part).front().name});
  }
  if (Error error = writer->finish())
    return error;
  std::error_code code;
  std::filesystem::rename(work.file("statistics"), options.output, code);
  if (code)
    return fail("cannot write", options.output, "", code.message());
  work.remove();
  return Error::success();
}

/// Files that no later step reads.
void Run::discard(const Step &step) const {
  std::error_code ignored;
  if (step.run == &Run::backwardPart) {
    std::filesystem::remove(adjointFile(step.part + 1), ignored);
    std::filesystem::remove(hiddenFile(step.part + 1), ignored);
  } else if (step.run == &Run::forwardPart && !options.gradients) {
    std::filesystem::remove(hiddenFile(step.part), ignored);
  }
}

/// CPU time of all threads: other processes on the machine do not count.
static double cpuSeconds() {
  timespec now;
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// How long `report.flops` of products like the model's own take on as many threads.
static void measureProducts(const BlockModel &model, unsigned threads, CalibrateReport &report) {
  int64_t m = 512, k = model.hiddenSize(), n = k;
  for (size_t part = 0; part < model.head(); ++part)
    for (const PartLayer &layer : model.layers(part))
      n = std::max({n, layer.rows, layer.columns});
  unsigned workers = resolveThreads(threads);
  std::vector<std::vector<float>> a(workers), b(workers), c(workers);
  for (unsigned i = 0; i < workers; ++i) {
    a[i].assign(m * k, 0.5f);
    b[i].assign(k * n, 0.25f);
    c[i].assign(m * n, 0);
  }
  double flops = 2.0 * static_cast<double>(m * n * k), seconds = 0, cpu = 0;
  int64_t repeats = std::max<int64_t>(1, static_cast<int64_t>(2e9 / flops)) * workers;
  for (int turn = 0; turn < 5; ++turn) {
    Stopwatch watch;
    double before = cpuSeconds();
    parallelFor(repeats, 1, workers, [&](size_t begin, size_t end, unsigned worker) {
      for (size_t i = begin; i < end; ++i)
        blasProduct(false, true, m, n, k, a[worker].data(), k, b[worker].data(), k, false, c[worker].data(), n);
    });
    double share = report.flops / (flops * static_cast<double>(repeats));
    double took = watch.seconds() * share, tookCpu = (cpuSeconds() - before) * share;
    seconds = turn ? std::min(seconds, took) : took;
    cpu = turn ? std::min(cpu, tookCpu) : tookCpu;
  }
  report.productSeconds = seconds;
  report.productCpuSeconds = cpu;
}

Error skim::calibrate(const BlockModel &model, const CalibrateOptions &options, CalibrateReport &report) {
  if (Error error = checkSequences(options.sequences, model.vocabulary()))
    return error;
  Expected<WorkFolder> work = WorkFolder::create(options.output, options.resume);
  if (!work)
    return work.takeError();
  Stopwatch watch;
  double before = blasOperations(), cpuBefore = cpuSeconds();
  Run run(model, options, *work);
  Error error = run.prepare();
  if (!error)
    error = run.run();
  if (error) {
    // It would fail again; only what was killed is worth continuing.
    work->remove();
    return error;
  }
  report.seconds = watch.seconds();
  report.cpuSeconds = cpuSeconds() - cpuBefore;
  report.tokens = run.tokens();
  report.sequences = options.sequences.size();
  report.flops = blasOperations() - before;
  measureProducts(model, options.threads, report);
  return Error::success();
}
