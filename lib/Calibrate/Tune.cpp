//===- Tune.cpp - tables trained on the divergence from the model ------------===//

#include "skim/Calibrate/Tune.h"

#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

using namespace skim;

namespace {
/// What one sequence of a step needs between forward and backward.
struct Pass {
  std::span<const int32_t> tokens;
  std::vector<std::vector<float>> hidden; // [parts][n · hidden]: input of each part of the quantized model
  std::vector<float> teacher;             // hidden state of the model itself
  std::vector<float> logits, target;      // [n · vocabulary]
  std::vector<float> adjoint, next;
  std::vector<std::vector<float>> x, dz, norms;
  double divergence = 0;
};

/// Adam's state of an array of values [rows, perRow].
struct Moments {
  std::vector<float> first, second, gradient;
  std::vector<float> unit; // [rows]: what a step is measured by

  void resize(size_t values) {
    first.assign(values, 0.0f);
    second = gradient = first;
  }
};

/// A part's weights, the model's and with what is quantized of them.
struct BothWeights {
  PartWeights dense, student;
};

/// How far a step goes, and Adam's corrections in it.
struct Rate {
  float rate, correct1, correct2;
};

/// Of the squares of weights and of their errors.
struct Squares {
  double errors = 0, weights = 0;
  void operator+=(const Squares &other) {
    errors += other.errors;
    weights += other.weights;
  }
  float relative() const { return weights > 0 ? static_cast<float>(std::sqrt(errors / weights)) : 0; }
};

class Tuner {
public:
  Tuner(const BlockModel &model, TunedModel &tuned, const TuneOptions &options)
      : model(model), tuned(tuned), weights(tuned.weights), options(options) {}
  Error run();

private:
  /// The state of every value, and the units that it is trained in.
  Error prepare();
  /// The same of a part's layers. Adds their squares, and their relative errors to `relative`.
  Expected<Squares> prepareLayers(size_t part, double &relative);
  Squares prepareLayer(const PartLayer &layer, TunableWeight &weight, const BothWeights &both);
  void prepareNorms(size_t part, float relative);
  std::vector<Pass> passesOf(std::span<const size_t> sequences) const;
  /// Trains on these sequences; their divergence before.
  Expected<double> step(int number, std::span<const size_t> sequences);
  Error forward(std::vector<Pass> &passes);
  /// Divergences, from the hidden states; to be trained on: the adjoints of these and of the head's norms, too.
  Error head(std::vector<Pass> &passes, bool train);
  Error backward(std::vector<Pass> &passes);
  /// The gradient of a weight [rows, columns] from the adjoints of its outputs.
  std::vector<float> gradientOf(const PartLayer &layer, size_t index, const std::vector<Pass> &passes) const;
  /// A scaling vector's gradient: dα = Σ rows dW ∘ W ÷ α.
  void scaleGradient(const PartLayer &layer, const std::vector<float> &alpha, const std::vector<float> &gradient,
                     const std::vector<float> &weight, std::vector<float> &out) const;
  /// Room for the adjoints of a part's norms, and their sum over the passes.
  std::vector<float *> normsOf(size_t part, Pass &pass) const;
  void gatherNorms(size_t part, const std::vector<Pass> &passes);
  void update(int number);
  /// One step of a row's values.
  static void move(const Rate &rate, Moments &state, size_t row, int64_t perRow, std::vector<float> &values);
  /// A part's weights, with the quantized ones in place of the model's.
  Expected<PartWeights> quantized(size_t part, const PartWeights &dense) const;
  /// A part's weights as the model has them, and quantized.
  Expected<BothWeights> load(size_t part) const;
  /// The norms alone, in place.
  void setNorms(size_t part, PartWeights &student) const;
  void eachPass(std::vector<Pass> &passes, const std::function<void(Pass &)> &body) const {
    parallelFor(passes.size(), 1, options.threads, [&](size_t begin, size_t end, unsigned) {
      for (size_t i = begin; i < end; ++i)
        body(passes[i]);
    });
  }

  const BlockModel &model;
  TunedModel &tuned;
  std::map<std::string, TunableWeight> &weights; // of `tuned`
  const TuneOptions &options;
  std::map<std::string, std::vector<Moments>> moments; // by layer and part of it
  std::map<std::string, Moments> scaleMoments;         // by layer with a scaling vector
  std::vector<std::vector<Moments>> normMoments;       // as tuned.norms
  float relativeError = 0;                             // mean of the tuned layers, see TuneOptions::rate
};
} // namespace

static constexpr float beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f;
/// What is worse than this, at 2 bits and below, is not trained faster.
static constexpr float mostError = 0.5f;
/// Steps until the rate is reached.
static constexpr int warmSteps = 5;
/// Rows of values that a thread takes at once.
static constexpr size_t grain = 16;

/// Units of vectors that scale columns: their own values, as far as the error goes.
static void setUnits(Moments &state, const std::vector<float> &values, float offset, float relative) {
  state.resize(values.size());
  for (float value : values)
    state.unit.push_back(std::fabs(value + offset) * relative);
}

Squares Tuner::prepareLayer(const PartLayer &layer, TunableWeight &weight, const BothWeights &both) {
  const float *exact = both.dense.arrays[layer.weight].data(), *decoded = both.student.arrays[layer.weight].data();
  Squares sum;
  for (TunablePart &values : weight.parts) {
    Moments state;
    state.resize(values.values().size());
    std::vector<double> errors(values.numSets());
    for (int64_t stored = 0; stored < values.numRows(); ++stored) {
      Squares row;
      for (int64_t at = values.rowOf(stored) * layer.columns, end = at + layer.columns; at < end; ++at)
        row += {(double(decoded[at]) - exact[at]) * (double(decoded[at]) - exact[at]), double(exact[at]) * exact[at]};
      errors[values.setOf(stored)] += row.errors;
      sum += row;
    }
    const int64_t rowsOfSet = values.numRows() / std::max<int64_t>(1, values.numSets());
    for (double error : errors)
      state.unit.push_back(
          static_cast<float>(std::sqrt(error / double(std::max<int64_t>(1, rowsOfSet * layer.columns)))));
    moments[layer.name].push_back(std::move(state));
  }
  if (!weight.alpha.empty())
    setUnits(scaleMoments[layer.name], weight.alpha, 0, sum.relative());
  return sum;
}

Expected<Squares> Tuner::prepareLayers(size_t part, double &relative) {
  Expected<BothWeights> both = load(part);
  if (!both)
    return both.takeError();
  Squares sum;
  for (const PartLayer &layer : model.layers(part))
    if (auto found = weights.find(layer.name); found != weights.end()) {
      Squares ofLayer = prepareLayer(layer, found->second, *both);
      sum += ofLayer;
      relative += ofLayer.relative();
    }
  return sum;
}

void Tuner::prepareNorms(size_t part, float relative) {
  const std::vector<PartNorm> &norms = model.norms(part);
  tuned.norms[part].resize(norms.size());
  normMoments[part].resize(norms.size());
  for (size_t i = 0; i < norms.size(); ++i) {
    if (!norms[i].weight)
      tuned.norms[part][i].clear();
    setUnits(normMoments[part][i], tuned.norms[part][i], norms[i].offset, relative);
  }
}

Error Tuner::prepare() {
  tuned.norms.resize(model.parts());
  normMoments.resize(model.parts());
  Squares whole;
  double relative = 0;
  for (size_t part = 0; part < model.head(); ++part) {
    Expected<Squares> squares = prepareLayers(part, relative);
    if (!squares)
      return squares.takeError();
    prepareNorms(part, squares->relative());
    whole += *squares;
  }
  for (size_t part = model.head(); part < model.parts(); ++part)
    prepareNorms(part, whole.relative());
  relativeError = weights.empty() ? 0 : std::min(mostError, static_cast<float>(relative / double(weights.size())));
  return Error::success();
}

Expected<BothWeights> Tuner::load(size_t part) const {
  Expected<PartWeights> dense = model.load(part);
  if (!dense)
    return dense.takeError();
  Expected<PartWeights> student = quantized(part, *dense);
  if (!student)
    return student.takeError();
  return BothWeights{std::move(*dense), std::move(*student)};
}

void Tuner::setNorms(size_t part, PartWeights &student) const {
  for (auto [norm, values] : llvm::zip(model.norms(part), tuned.norms[part]))
    if (norm.weight && !values.empty())
      student.arrays[*norm.weight] = values;
}

Expected<PartWeights> Tuner::quantized(size_t part, const PartWeights &dense) const {
  PartWeights result = dense;
  for (const PartLayer &layer : model.layers(part)) {
    auto found = weights.find(layer.name);
    if (found == weights.end())
      continue;
    if (found->second.rows != layer.rows || found->second.columns != layer.columns)
      return fail("tuned weight does not fit the model", layer.name,
                  std::to_string(layer.rows) + "x" + std::to_string(layer.columns),
                  std::to_string(found->second.rows) + "x" + std::to_string(found->second.columns));
    found->second.decode(result.arrays[layer.weight].data(), options.threads);
  }
  setNorms(part, result);
  return result;
}

/// Hidden states of the model and of the quantized one, side by side.
Error Tuner::forward(std::vector<Pass> &passes) {
  eachPass(passes, [&](Pass &pass) {
    pass.hidden.resize(model.parts());
    for (std::vector<float> &hidden : pass.hidden)
      hidden.resize(pass.tokens.size() * model.hiddenSize());
    model.embed(pass.tokens, pass.hidden[0].data());
    pass.teacher = pass.next = pass.hidden[0];
  });
  for (size_t part = 0; part < model.head(); ++part) {
    Expected<BothWeights> both = load(part);
    if (!both)
      return both.takeError();
    eachPass(passes, [&](Pass &pass) {
      model.forward(part, both->dense, pass.tokens, pass.teacher.data(), pass.next.data());
      std::swap(pass.teacher, pass.next);
      model.forward(part, both->student, pass.tokens, pass.hidden[part].data(), pass.hidden[part + 1].data());
    });
  }
  return Error::success();
}

/// KL(p ‖ q) of each token and its adjoint (q − p) ÷ tokens, in place of `logits`.
static double divergence(const float *target, float *logits, int64_t vocabulary, float share) {
  auto normalizer = [&](const float *row) {
    float most = *std::max_element(row, row + vocabulary);
    double sum = 0;
    for (int64_t i = 0; i < vocabulary; ++i)
      sum += std::exp(row[i] - most);
    return static_cast<float>(most + std::log(sum));
  };
  float p = normalizer(target), q = normalizer(logits);
  double sum = 0;
  for (int64_t i = 0; i < vocabulary; ++i) {
    float logP = target[i] - p, logQ = logits[i] - q, probability = std::exp(logP);
    sum += double(probability) * (logP - logQ);
    logits[i] = (std::exp(logQ) - probability) * share;
  }
  return sum;
}

Error Tuner::head(std::vector<Pass> &passes, bool train) {
  Expected<PartWeights> dense = model.load(model.head());
  if (!dense)
    return dense.takeError();
  int64_t vocabulary = model.vocabulary();
  size_t tokens = 0;
  for (const Pass &pass : passes)
    tokens += pass.tokens.size();
  eachPass(passes, [&](Pass &pass) {
    pass.target.resize(pass.tokens.size() * vocabulary);
    model.logits(*dense, pass.tokens.size(), pass.teacher.data(), pass.target.data());
  });
  setNorms(model.head(), *dense); // and all else is the model's
  eachPass(passes, [&](Pass &pass) {
    size_t count = pass.tokens.size();
    pass.logits.resize(count * vocabulary);
    model.logits(*dense, count, pass.hidden[model.head()].data(), pass.logits.data());
    pass.divergence = 0;
    for (size_t i = 0; i < count; ++i)
      pass.divergence += divergence(pass.target.data() + i * vocabulary, pass.logits.data() + i * vocabulary,
                                    vocabulary, 1.0f / static_cast<float>(tokens));
    if (!train)
      return;
    pass.adjoint.resize(count * model.hiddenSize());
    model.logitsBackward(*dense, count, pass.hidden[model.head()].data(), pass.logits.data(), pass.adjoint.data(),
                         normsOf(model.head(), pass));
  });
  if (train)
    gatherNorms(model.head(), passes);
  return Error::success();
}

std::vector<float *> Tuner::normsOf(size_t part, Pass &pass) const {
  std::vector<float *> out;
  pass.norms.assign(model.norms(part).size(), {});
  for (auto [norm, values] : llvm::zip(model.norms(part), pass.norms))
    if (norm.weight) {
      values.resize(norm.channels);
      out.push_back(values.data());
    }
  return out;
}

void Tuner::gatherNorms(size_t part, const std::vector<Pass> &passes) {
  for (auto [i, state] : llvm::enumerate(normMoments[part])) {
    std::fill(state.gradient.begin(), state.gradient.end(), 0.0f);
    for (const Pass &pass : passes)
      for (size_t k = 0; k < state.gradient.size(); ++k)
        state.gradient[k] += pass.norms[i][k];
  }
}

std::vector<float> Tuner::gradientOf(const PartLayer &layer, size_t index, const std::vector<Pass> &passes) const {
  // Fixed stripes of rows, each by one thread over all sequences in their order.
  std::vector<float> gradient(layer.rows * layer.columns);
  constexpr int64_t stripe = 64;
  parallelFor((layer.rows + stripe - 1) / stripe, 1, options.threads, [&](size_t begin, size_t end, unsigned) {
    int64_t first = int64_t(begin) * stripe, count = std::min(layer.rows, int64_t(end) * stripe) - first;
    for (size_t i = 0; i < passes.size(); ++i)
      blasProduct(/*transposeA=*/true, /*transposeB=*/false, count, layer.columns,
                  static_cast<int64_t>(passes[i].tokens.size()), passes[i].dz[index].data() + first, layer.rows,
                  passes[i].x[layer.input].data(), layer.columns, /*accumulate=*/i > 0,
                  gradient.data() + first * layer.columns, layer.columns);
  });
  return gradient;
}

void Tuner::scaleGradient(const PartLayer &layer, const std::vector<float> &alpha, const std::vector<float> &gradient,
                          const std::vector<float> &weight, std::vector<float> &out) const {
  parallelFor(alpha.size(), 64, options.threads, [&](size_t begin, size_t end, unsigned) {
    std::fill(out.begin() + begin, out.begin() + end, 0.0f);
    for (int64_t n = 0; n < layer.rows; ++n)
      for (size_t k = begin, at = n * layer.columns + begin; k < end; ++k, ++at)
        out[k] += gradient[at] * weight[at];
    for (size_t k = begin; k < end; ++k)
      out[k] = alpha[k] != 0 ? out[k] / alpha[k] : 0;
  });
}

/// Gradients of all values, summed over sequences in their order.
Error Tuner::backward(std::vector<Pass> &passes) {
  for (size_t part = model.head(); part-- > 0;) {
    Expected<BothWeights> both = load(part);
    if (!both)
      return both.takeError();
    const std::vector<PartLayer> &layers = model.layers(part);
    eachPass(passes, [&](Pass &pass) {
      size_t count = pass.tokens.size();
      std::vector<float *> x, dz;
      pass.x.resize(model.inputs(part).size());
      for (auto [values, input] : llvm::zip(pass.x, model.inputs(part))) {
        values.resize(count * input.columns);
        x.push_back(values.data());
      }
      pass.dz.resize(layers.size());
      for (auto [values, layer] : llvm::zip(pass.dz, layers)) {
        values.resize(count * layer.rows);
        dz.push_back(values.data());
      }
      pass.next.resize(pass.adjoint.size());
      model.backward(part, both->student, pass.tokens, pass.hidden[part].data(), pass.adjoint.data(), pass.next.data(),
                     x, dz, normsOf(part, pass));
      std::swap(pass.adjoint, pass.next);
    });
    for (size_t index = 0; index < layers.size(); ++index) {
      const PartLayer &layer = layers[index];
      auto found = weights.find(layer.name);
      if (found == weights.end())
        continue;
      std::vector<float> gradient = gradientOf(layer, index, passes);
      const TunableWeight &weight = found->second;
      for (auto [values, state] : llvm::zip(weight.parts, moments[layer.name])) {
        std::fill(state.gradient.begin(), state.gradient.end(), 0.0f);
        parallelFor(values.numSets(), grain, options.threads, [&](size_t begin, size_t end, unsigned) {
          values.accumulate(begin, end, weight.alpha.empty() ? nullptr : weight.alpha.data(), gradient.data(),
                            state.gradient.data());
        });
      }
      if (!weight.alpha.empty())
        scaleGradient(layer, weight.alpha, gradient, both->student.arrays[layer.weight],
                      scaleMoments[layer.name].gradient);
    }
    gatherNorms(part, passes);
  }
  return Error::success();
}

void Tuner::move(const Rate &rate, Moments &state, size_t row, int64_t perRow, std::vector<float> &values) {
  for (int64_t i = row * perRow; i < int64_t(row + 1) * perRow; ++i) {
    // In units of the row, so that epsilon means the same everywhere.
    float gradient = state.gradient[i] * state.unit[row];
    state.first[i] = beta1 * state.first[i] + (1 - beta1) * gradient;
    state.second[i] = beta2 * state.second[i] + (1 - beta2) * gradient * gradient;
    float change = state.first[i] / rate.correct1 / (std::sqrt(state.second[i] / rate.correct2) + epsilon);
    values[i] -= rate.rate * state.unit[row] * change;
  }
}

/// Adam on all values.
void Tuner::update(int number) {
  float progress = options.steps > 1 ? float(number - 1) / float(options.steps - 1) : 0;
  // Adam's first steps go by the whole rate whatever the gradient is: they are shorter.
  Rate rate = {options.rate * relativeError * (0.55f + 0.45f * std::cos(3.14159265f * progress)) *
                   std::min(1.0f, float(number) / float(warmSteps)),
               1 - std::pow(beta1, float(number)), 1 - std::pow(beta2, float(number))};
  for (auto &[name, weight] : weights)
    for (auto [part, state] : llvm::zip(weight.parts, moments[name]))
      parallelFor(part.numSets(), grain, options.threads, [&](size_t begin, size_t end, unsigned) {
        for (size_t row = begin; row < end; ++row)
          move(rate, state, row, part.valuesPerRow(), part.values());
      });
  auto moveVector = [&](Moments &state, std::vector<float> &values) {
    for (size_t k = 0; k < values.size(); ++k)
      move(rate, state, k, 1, values);
  };
  for (auto &[name, state] : scaleMoments)
    moveVector(state, weights.at(name).alpha);
  for (auto [states, norms] : llvm::zip(normMoments, tuned.norms))
    for (auto [state, values] : llvm::zip(states, norms))
      moveVector(state, values);
}

std::vector<Pass> Tuner::passesOf(std::span<const size_t> sequences) const {
  std::vector<Pass> passes(sequences.size());
  for (auto [pass, index] : llvm::zip(passes, sequences))
    pass.tokens = options.sequences[index];
  return passes;
}

/// The mean divergence of a token, from what `head` found.
static double meanDivergence(const std::vector<Pass> &passes) {
  double sum = 0;
  size_t tokens = 0;
  for (const Pass &pass : passes) {
    sum += pass.divergence;
    tokens += pass.tokens.size();
  }
  return sum / double(tokens);
}

Expected<double> Tuner::step(int number, std::span<const size_t> sequences) {
  std::vector<Pass> passes = passesOf(sequences);
  if (Error error = forward(passes))
    return error;
  if (Error error = head(passes, /*train=*/true))
    return error;
  if (Error error = backward(passes))
    return error;
  double divergence = meanDivergence(passes);
  if (!std::isfinite(divergence))
    return fail("tuning diverged", "step " + std::to_string(number), "a finite divergence", std::to_string(divergence),
                "tune at a lower rate");
  update(number);
  if (options.progress)
    options.progress(number, divergence);
  return divergence;
}

Error Tuner::run() {
  if (Error error = prepare())
    return error;
  TunedModel before = tuned;
  std::vector<size_t> order(options.sequences.size()), first;
  std::iota(order.begin(), order.end(), size_t(0));
  std::mt19937_64 random(options.seed);
  size_t next = order.size();
  double start = 0;
  for (int number = 1; number <= options.steps; ++number) {
    std::vector<size_t> chosen;
    while (chosen.size() < size_t(std::max(1, options.batch))) {
      if (next == order.size()) {
        // Not std::shuffle, whose result is the library's affair.
        for (size_t i = order.size(); i > 1; --i)
          std::swap(order[i - 1], order[random() % i]);
        next = 0;
      }
      chosen.push_back(order[next++]);
    }
    Expected<double> divergence = step(number, chosen);
    if (!divergence)
      return divergence.takeError();
    if (number == 1) {
      start = *divergence;
      first = chosen;
    }
  }
  // A rate that is too high for a model must not cost it anything.
  std::vector<Pass> passes = passesOf(first);
  if (Error error = forward(passes))
    return error;
  if (Error error = head(passes, /*train=*/false))
    return error;
  if (!(meanDivergence(passes) <= start))
    tuned = std::move(before);
  return Error::success();
}

Error skim::tune(const BlockModel &model, TunedModel &tuned, const TuneOptions &options) {
  if (options.sequences.empty())
    return fail("nothing to tune on", "", "sequences of tokens", "none");
  return Tuner(model, tuned, options).run();
}
