#include "skim/Quantize/Sensitivity.h"
#include "Blas.h"
#include "skim/Quantize/Statistics.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace skim;

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

static std::string place(const std::string &layer, const char *tensor) { return layer + "." + tensor; }

static Error checkSize(size_t got, int64_t expected, const std::string &where) {
  if (got == size_t(expected))
    return Error::success();
  return fail("statistics do not fit the layer", where, std::to_string(expected) + " values", std::to_string(got));
}

/// NaN and infinity anywhere; below zero where `squares`.
static Error checkValues(std::span<const float> values, const std::string &where, bool squares) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      return fail("statistics are not finite", where + "[" + std::to_string(i) + "]", "finite numbers",
                  std::isnan(values[i]) ? "NaN" : "infinity", "calibrate again");
    if (squares && values[i] < 0)
      return fail("a sum of squares is negative", where + "[" + std::to_string(i) + "]", "at least 0",
                  std::to_string(values[i]), "calibrate again");
  }
  return Error::success();
}

/// Copies a [K,K] moment; of zeros: the unit matrix.
static Expected<std::vector<float>> copyMoment(std::span<const float> full, int64_t k, const std::string &where) {
  if (Error error = checkValues(full, where, false))
    return error;
  std::vector<float> moment(full.begin(), full.end());
  bool zero = true;
  for (int64_t i = 0; i < k; ++i) {
    float diagonal = moment[i * k + i];
    if (diagonal < 0)
      return fail("a sum of squares is negative", where + "[" + std::to_string(i) + "," + std::to_string(i) + "]",
                  "at least 0", std::to_string(diagonal), "calibrate again");
    zero &= diagonal == 0;
  }
  for (int64_t i = 0; zero && i < k; ++i)
    moment[i * k + i] = 1;
  return moment;
}

static double trace(const std::vector<float> &moment, int64_t k) {
  double sum = 0;
  for (int64_t i = 0; i < k; ++i)
    sum += moment[i * k + i];
  return sum;
}

/// Mixes a guided moment with the plain one and adds the ridge.
static void regularise(std::vector<float> &moment, const std::vector<float> &plain, int64_t k,
                       const SensitivityOptions &options) {
  const double sum = trace(moment, k);
  if (&moment != &plain) {
    const float own = 1 - options.plainShare, other = float(options.plainShare * sum / trace(plain, k));
    for (size_t i = 0; i < moment.size(); ++i)
      moment[i] = own * moment[i] + other * plain[i];
  }
  for (int64_t i = 0; i < k; ++i)
    moment[i * k + i] += float(options.ridge * sum / double(k));
}

//===----------------------------------------------------------------------===//
// Construction
//===----------------------------------------------------------------------===//

Expected<Sensitivity> Sensitivity::fromMatrices(int64_t rows, int64_t columns, std::span<const float> moment,
                                                std::span<const float> guided, std::span<const float> squaredGradients,
                                                std::span<const float> outputEnergy, const std::string &layer,
                                                const SensitivityOptions &options) {
  Sensitivity result;
  result.numRows = rows;
  result.numColumns = columns;
  const int64_t square = columns * columns;
  if (Error error = checkSize(moment.size(), square, place(layer, "input_second_moment")))
    return error;
  auto plain = copyMoment(moment, columns, place(layer, "input_second_moment"));
  if (!plain)
    return plain.takeError();
  if (options.guided && !guided.empty()) {
    const std::string where = place(layer, "guided_second_moment");
    const int64_t groups = std::max<int64_t>(1, int64_t(guided.size()) / std::max<int64_t>(1, square));
    if (Error error = checkSize(guided.size(), groups * square, where))
      return error;
    for (int64_t group = 0; group < groups; ++group) {
      auto one = copyMoment(guided.subspan(group * square, square), columns, where);
      if (!one)
        return one.takeError();
      regularise(*one, *plain, columns, options);
      result.moments.push_back(std::move(*one));
    }
    result.isGuided = true;
  } else {
    result.moments.push_back(*plain);
    regularise(result.moments[0], result.moments[0], columns, options);
  }
  result.plainMoment = std::move(*plain);

  result.weightOfRow.assign(rows, 1.0f);
  if (!outputEnergy.empty()) {
    const std::string where = place(layer, "output_squared_gradient");
    if (Error error = checkSize(outputEnergy.size(), rows, where))
      return error;
    if (Error error = checkValues(outputEnergy, where, true))
      return error;
    const double mean = std::accumulate(outputEnergy.begin(), outputEnergy.end(), 0.0) / double(rows);
    for (int64_t n = 0; n < rows && options.rowWeights && mean > 0; ++n)
      result.weightOfRow[n] = float(outputEnergy[n] / mean);
  }

  // Rows without gradients of their own have the moment's diagonal.
  auto diagonal = [&](int64_t row, float *out) {
    const std::vector<float> &own = result.moments[row * result.groups() / rows];
    for (int64_t k = 0; k < columns; ++k)
      out[k] = own[k * columns + k];
  };
  if (squaredGradients.empty() && result.groups() == 1) {
    result.sharedElement = true;
    result.element.resize(columns);
    diagonal(0, result.element.data());
    return result;
  }
  result.element.resize(rows * columns);
  if (!squaredGradients.empty()) {
    const std::string where = place(layer, "squared_gradient");
    if (Error error = checkSize(squaredGradients.size(), rows * columns, where))
      return error;
    if (Error error = checkValues(squaredGradients, where, true))
      return error;
    std::copy(squaredGradients.begin(), squaredGradients.end(), result.element.begin());
  }
  for (int64_t n = 0; n < rows; ++n) {
    float *row = result.element.data() + n * columns;
    if (std::all_of(row, row + columns, [](float g) { return g == 0; }))
      diagonal(n, row);
  }
  return result;
}

Expected<Sensitivity> Sensitivity::create(const LayerStatistics &statistics, int64_t rows, const std::string &layer,
                                          const SensitivityOptions &options) {
  const int64_t k = statistics.columns, square = k * k, triangle = triangleSize(k);
  if (Error error = checkSize(statistics.secondMoment.size(), triangle, place(layer, "input_second_moment")))
    return error;
  std::vector<float> moment(square), guided, squares;
  unpackTriangle(statistics.secondMoment, k, moment.data());
  if (options.guided && !statistics.guidedMoment.empty()) {
    if (Error error = checkSize(statistics.guidedMoment.size(), statistics.groups * triangle,
                                place(layer, "guided_second_moment")))
      return error;
    guided.resize(statistics.groups * square);
    for (int group = 0; group < statistics.groups; ++group)
      unpackTriangle(statistics.guidedMoment.subspan(group * triangle, triangle), k, guided.data() + group * square);
  }
  if (!statistics.squaredGradient.empty()) {
    if (Error error = checkSize(statistics.squaredGradient.size(), rows * k, place(layer, "squared_gradient")))
      return error;
    squares.resize(rows * k);
    for (int64_t n = 0; n < rows; ++n)
      statistics.squaredGradientRow(n, squares.data() + n * k);
  }
  return fromMatrices(rows, k, moment, guided, squares, statistics.outputSquaredGradient, layer, options);
}

Sensitivity Sensitivity::unit(int64_t rows, int64_t columns) {
  Sensitivity result;
  result.numRows = rows;
  result.numColumns = columns;
  result.moments.emplace_back(columns * columns, 0.0f);
  for (int64_t k = 0; k < columns; ++k)
    result.moments[0][k * columns + k] = 1;
  result.plainMoment = result.moments[0];
  result.weightOfRow.assign(rows, 1.0f);
  result.element.assign(columns, 1.0f);
  result.sharedElement = true;
  return result;
}

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

std::vector<double> Sensitivity::rowErrors(const MatrixView &weights, const MatrixView &approximation,
                                           ErrorMeasure measure, unsigned threads) const {
  useOneBlasThread();
  constexpr int64_t tile = 64;
  const int64_t k = numColumns;
  const bool full = measure == ErrorMeasure::LossWeighted || measure == ErrorMeasure::LFull;
  std::vector<double> errors(numRows, 0.0);
  const MatrixView element = elementWeights();
  auto tileErrors = [&](int64_t begin, int64_t end, const std::vector<float> &moment) {
    std::vector<float> delta(tile * k, 0.0f), product;
    for (int64_t n = begin; n < end; ++n)
      for (int64_t j = 0; j < k; ++j)
        delta[(n - begin) * k + j] = approximation.row(n)[j] - weights.row(n)[j];
    if (full) {
      product.resize(tile * k);
      gemm(tile, k, k, 1.0f, delta.data(), k, false, moment.data(), k, 0.0f, product.data(), k);
    }
    for (int64_t n = begin; n < end; ++n) {
      const float *d = delta.data() + (n - begin) * k, *p = full ? product.data() + (n - begin) * k : nullptr;
      double sum = 0;
      for (int64_t j = 0; j < k; ++j) {
        if (full)
          sum += double(d[j]) * p[j];
        else
          sum += double(d[j]) * d[j] * (measure == ErrorMeasure::LDiag ? moment[j * k + j] : element.row(n)[j]);
      }
      errors[n] = std::max(0.0, measure == ErrorMeasure::LossWeighted ? sum * weightOfRow[n] : sum);
    }
  };
  for (int64_t group = 0; group < groups(); ++group) {
    const int64_t first = groupBegin(group), count = groupEnd(group) - first;
    const std::vector<float> &moment = measure == ErrorMeasure::LossWeighted ? objective(group) : plain();
    parallelFor(count, tile, threads,
                [&](size_t begin, size_t end, unsigned) { tileErrors(first + begin, first + end, moment); });
  }
  return errors;
}

WeightErrors WeightErrors::of(const MatrixView &weights, const MatrixView &decoded, const Sensitivity &sensitivity,
                              unsigned threads) {
  WeightErrors result;
  for (int64_t n = 0; n < weights.rows; ++n)
    for (int64_t k = 0; k < weights.columns; ++k) {
      double weight = weights.row(n)[k], delta = weight - decoded.row(n)[k];
      result.squaredError += delta * delta;
      result.squaredNorm += weight * weight;
    }
  std::vector<float> zeros(weights.columns);
  MatrixView nothing(zeros.data(), weights.rows, weights.columns, 0);
  auto sum = [&](const MatrixView &other, ErrorMeasure measure) {
    std::vector<double> errors = sensitivity.rowErrors(weights, other, measure, threads);
    return std::accumulate(errors.begin(), errors.end(), 0.0);
  };
  double norm = sum(nothing, ErrorMeasure::LFull);
  result.outputError = norm > 0 ? sum(decoded, ErrorMeasure::LFull) / norm : 0;
  result.lossError = sum(decoded, ErrorMeasure::LossWeighted);
  return result;
}
