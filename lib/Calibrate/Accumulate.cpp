#include "Accumulate.h"

#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace skim;

/// Rows and columns of a tile of sums: small enough that its f64 stay in a
/// core's cache over the sequences of a batch, large enough for BLAS.
static constexpr int64_t tileSize = 256;

static int64_t tilesOf(int64_t extent) { return (extent + tileSize - 1) / tileSize; }
static int64_t tileExtent(int64_t extent, int64_t tile) { return std::min(tileSize, extent - tile * tileSize); }

std::vector<float *> SequenceObservation::inputs() {
  std::vector<float *> out;
  for (std::vector<float> &values : x)
    out.push_back(values.data());
  return out;
}
std::vector<float *> SequenceObservation::adjoints() {
  std::vector<float *> out;
  for (std::vector<float> &values : dz)
    out.push_back(values.data());
  return out;
}

/// f64 of the upper tiles of a square of order k.
static int64_t momentElements(int64_t k) {
  int64_t count = 0;
  for (int64_t i = 0; i < tilesOf(k); ++i)
    for (int64_t j = i; j < tilesOf(k); ++j)
      count += tileExtent(k, i) * tileExtent(k, j);
  return count;
}

Expected<PartSums> PartSums::create(const std::string &path, const std::vector<PartLayer> &layers,
                                    const std::vector<PartInput> &inputs, int groups, GradientSums gradients) {
  const bool guided = gradients != GradientSums::None, all = gradients == GradientSums::All;
  int64_t elements = 0;
  for (const PartInput &input : inputs)
    elements += momentElements(input.columns);
  for (const PartLayer &layer : layers)
    elements += (guided ? groups * momentElements(layer.columns) : 0) +
                (all ? momentElements(layer.rows) + layer.rows * layer.columns : 0);
  Expected<Scratch> scratch = Scratch::open(path, static_cast<uint64_t>(elements) * sizeof(double));
  if (!scratch)
    return scratch.takeError();

  PartSums sums(std::move(*scratch));
  sums.layers = layers;
  sums.inputs = inputs;
  sums.groups = groups;
  sums.gradients = gradients;
  double *at = sums.scratch.as<double>();
  for (size_t i = 0; i < inputs.size(); ++i) {
    sums.moments.push_back({MomentOf::Input, i, 0, at});
    at += momentElements(inputs[i].columns);
    sums.firstMoment.emplace_back(inputs[i].columns);
    sums.absMax.emplace_back(inputs[i].columns);
  }
  for (size_t l = 0; guided && l < layers.size(); ++l) {
    for (int g = 0; g < groups; ++g, at += momentElements(layers[l].columns))
      sums.moments.push_back({MomentOf::GuidedInput, l, g, at});
    if (all) {
      sums.moments.push_back({MomentOf::Output, l, 0, at});
      at += momentElements(layers[l].rows);
      sums.squares.push_back(at);
      at += layers[l].rows * layers[l].columns;
    }
    sums.outputSquares.emplace_back(layers[l].rows);
  }
  for (const Moment &moment : sums.moments) {
    int64_t k = sums.orderOf(moment);
    double *tile = moment.sums;
    for (int64_t i = 0; i < tilesOf(k); ++i)
      for (int64_t j = i; j < tilesOf(k); ++j) {
        sums.tasks.push_back({&moment, 0, i, j, tile});
        tile += tileExtent(k, i) * tileExtent(k, j);
      }
  }
  for (size_t l = 0; l < sums.squares.size(); ++l) {
    double *tile = sums.squares[l];
    for (int64_t i = 0; i < tilesOf(layers[l].rows); ++i)
      for (int64_t j = 0; j < tilesOf(layers[l].columns); ++j) {
        sums.tasks.push_back({nullptr, l, i, j, tile});
        tile += tileExtent(layers[l].rows, i) * tileExtent(layers[l].columns, j);
      }
  }
  return sums;
}

int64_t PartSums::orderOf(const Moment &moment) const {
  switch (moment.kind) {
  case MomentOf::Input:
    return inputs[moment.index].columns;
  case MomentOf::GuidedInput:
    return layers[moment.index].columns;
  case MomentOf::Output:
    return layers[moment.index].rows;
  }
  return 0;
}

int64_t PartSums::bytesPerToken() const {
  int64_t elements = 0;
  for (const PartInput &input : inputs)
    elements += input.columns;
  for (const PartLayer &layer : layers)
    elements += (gradients == GradientSums::All ? layer.rows : 0) + (gradients == GradientSums::None ? 0 : groups);
  return elements * static_cast<int64_t>(sizeof(float));
}

void PartSums::prepare(SequenceObservation &one, int64_t tokens) const {
  one.tokens = tokens;
  one.x.resize(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    one.x[i].resize(tokens * inputs[i].columns);
  if (gradients == GradientSums::Outputs) {
    one.sensitivity.resize(layers.size());
    one.outputSquares.resize(layers.size());
    for (size_t l = 0; l < layers.size(); ++l) {
      one.sensitivity[l].assign(groups * tokens, 0);
      one.outputSquares[l].assign(layers[l].rows, 0);
    }
  }
  if (gradients != GradientSums::All)
    return;
  one.dz.resize(layers.size());
  for (size_t l = 0; l < layers.size(); ++l)
    one.dz[l].resize(tokens * layers[l].rows);
}

Error PartSums::derive(SequenceObservation &one) const {
  one.firstMoment.resize(inputs.size());
  one.absMax.resize(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    int64_t k = inputs[i].columns;
    one.firstMoment[i].assign(k, 0);
    one.absMax[i].assign(k, 0);
    for (int64_t t = 0; t < one.tokens; ++t)
      for (int64_t j = 0; j < k; ++j) {
        float value = one.x[i][t * k + j];
        one.firstMoment[i][j] += value;
        one.absMax[i][j] = std::max(one.absMax[i][j], std::fabs(value));
      }
    for (double sum : one.firstMoment[i])
      if (!std::isfinite(sum))
        return fail("an activation is no number", layers[inputs[i].firstLayer].name, "finite inputs",
                    std::to_string(sum));
  }
  if (gradients == GradientSums::All) {
    one.outputSquares.resize(one.dz.size());
    one.sensitivity.resize(one.dz.size());
  }
  for (size_t l = 0; l < one.dz.size(); ++l) {
    int64_t n = layers[l].rows;
    std::vector<double> &squares = one.outputSquares[l];
    squares.assign(n, 0);
    one.sensitivity[l].assign(groups * one.tokens, 0);
    for (int64_t t = 0; t < one.tokens; ++t) {
      const float *row = one.dz[l].data() + t * n;
      for (int g = 0; g < groups; ++g) {
        int64_t begin = n * g / groups, end = n * (g + 1) / groups;
        double sum = 0;
        for (int64_t j = begin; j < end; ++j) {
          double square = double(row[j]) * row[j];
          squares[j] += square;
          sum += square;
        }
        one.sensitivity[l][g * one.tokens + t] = static_cast<float>(sum / std::max<int64_t>(1, end - begin));
      }
    }
  }
  for (size_t l = 0; gradients != GradientSums::None && l < layers.size(); ++l)
    for (double sum : one.outputSquares[l]) // NaN and what f32 moments cannot hold
      if (!(sum <= std::numeric_limits<float>::max()))
        return fail("a gradient is no number", layers[l].name, "finite gradients", std::to_string(sum));
  return Error::success();
}

void PartSums::run(const Task &task, const std::vector<SequenceObservation> &sequences, size_t count,
                   std::vector<float> &product, std::vector<float> &scaled) const {
  // The product is leftᵀ·right: of one observation with itself (a moment), or of dz with x.
  const Moment *moment = task.moment;
  bool ofInput = moment && moment->kind == MomentOf::Input, ofOutput = moment && moment->kind == MomentOf::Output;
  size_t layer = moment ? moment->index : task.layer;
  size_t input = ofInput ? moment->index : layers[layer].input;
  bool leftIsOutput = !moment || ofOutput;
  int64_t n = leftIsOutput ? layers[layer].rows : inputs[input].columns;
  int64_t k = ofOutput ? layers[layer].rows : inputs[input].columns;
  int64_t rows = tileExtent(n, task.row), columns = tileExtent(k, task.column);
  product.resize(tileSize * tileSize);
  for (size_t s = 0; s < count; ++s) {
    const SequenceObservation &one = sequences[s];
    const float *right = (ofOutput ? one.dz[layer].data() : one.x[input].data()) + task.column * tileSize;
    int64_t rightStride = k;
    if (moment && moment->kind == MomentOf::GuidedInput) {
      // s·x of this tile's columns.
      const float *weights = one.sensitivity[layer].data() + moment->group * one.tokens;
      scaled.resize(one.tokens * columns);
      for (int64_t t = 0; t < one.tokens; ++t)
        for (int64_t j = 0; j < columns; ++j)
          scaled[t * columns + j] = weights[t] * right[t * k + j];
      right = scaled.data();
      rightStride = columns;
    }
    const float *left = (leftIsOutput ? one.dz[layer].data() : one.x[input].data()) + task.row * tileSize;
    blasProduct(true, false, rows, columns, one.tokens, left, n, right, rightStride, false, product.data(), columns);
    int64_t elements = rows * columns;
    if (moment)
      for (int64_t i = 0; i < elements; ++i)
        task.sums[i] += product[i];
    else
      for (int64_t i = 0; i < elements; ++i)
        task.sums[i] += double(product[i]) * product[i];
  }
}

void PartSums::add(std::vector<SequenceObservation> &sequences, size_t count, unsigned threads) {
  for (size_t s = 0; s < count; ++s) {
    const SequenceObservation &one = sequences[s];
    for (size_t i = 0; i < inputs.size(); ++i)
      for (int64_t j = 0; j < inputs[i].columns; ++j) {
        firstMoment[i][j] += one.firstMoment[i][j];
        absMax[i][j] = std::max(absMax[i][j], one.absMax[i][j]);
      }
    for (size_t l = 0; l < one.outputSquares.size(); ++l)
      for (int64_t j = 0; j < layers[l].rows; ++j)
        outputSquares[l][j] += one.outputSquares[l][j];
  }
  unsigned workers = resolveThreads(threads);
  std::vector<std::vector<float>> products(workers), scaled(workers);
  parallelFor(tasks.size(), 1, workers, [&](size_t begin, size_t end, unsigned worker) {
    for (size_t i = begin; i < end; ++i)
      run(tasks[i], sequences, count, products[worker], scaled[worker]);
  });
}

std::vector<float> PartSums::packed(const Moment &moment) const {
  int64_t k = orderOf(moment);
  std::vector<float> out(triangleSize(k));
  const double *tile = moment.sums;
  for (int64_t i = 0; i < tilesOf(k); ++i)
    for (int64_t j = i; j < tilesOf(k); ++j) {
      int64_t rows = tileExtent(k, i), columns = tileExtent(k, j);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = i == j ? r : 0; c < columns; ++c)
          out[triangleIndex(k, i * tileSize + r, j * tileSize + c)] = static_cast<float>(tile[r * columns + c]);
      tile += rows * columns;
    }
  return out;
}

Error PartSums::write(StatisticsWriter &writer, size_t first) const {
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::vector<float> sums(firstMoment[i].begin(), firstMoment[i].end());
    if (Error error = writer.writeInput(first + inputs[i].firstLayer, packed(moments[i]), sums, absMax[i]))
      return error;
  }
  for (size_t l = 0; l < outputSquares.size(); ++l) {
    std::vector<float> guided, outputMoment;
    for (const Moment &moment : moments) {
      if (moment.kind == MomentOf::Input || moment.index != l)
        continue;
      std::vector<float> one = packed(moment);
      if (moment.kind == MomentOf::Output)
        outputMoment = std::move(one);
      else
        guided.insert(guided.end(), one.begin(), one.end());
    }
    std::vector<float> output(outputSquares[l].begin(), outputSquares[l].end());
    if (Error error = writer.writeGuided(first + l, guided))
      return error;
    if (Error error = writer.writeOutputGradients(first + l, output))
      return error;
    if (gradients != GradientSums::All)
      continue;
    if (Error error = writer.writeOutputMoment(first + l, outputMoment))
      return error;
    int64_t n = layers[l].rows, k = layers[l].columns;
    const double *tile = squares[l];
    for (int64_t i = 0; i < tilesOf(n); ++i) {
      int64_t rows = tileExtent(n, i);
      std::vector<float> band(rows * k);
      for (int64_t j = 0; j < tilesOf(k); ++j) {
        int64_t columns = tileExtent(k, j);
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 0; c < columns; ++c)
            band[r * k + j * tileSize + c] = static_cast<float>(tile[r * columns + c]);
        tile += rows * columns;
      }
      if (Error error = writer.writeSquaredGradients(first + l, i * tileSize, band))
        return error;
    }
  }
  return Error::success();
}
