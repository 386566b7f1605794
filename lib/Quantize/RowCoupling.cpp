#include "skim/Quantize/RowCoupling.h"
#include "Blas.h"
#include "RowTile.h"
#include "StoredRows.h"
#include "skim/Quantize/Statistics.h"
#include "skim/Support/Threads.h"

#include <algorithm>
#include <cmath>

using namespace skim;

namespace {
/// Rows that a thread takes at once. What a tile costs before its first row is
/// the moment's way through the cache: two large tiles of a batch beat many small ones.
int64_t tileRows(int64_t count) { return std::clamp<int64_t>((count / 2 + 7) / 8 * 8, 8, RowTile::lanes); }
/// A batch of rows makes up for the errors of the others together: about a
/// twelfth of them, so that little of what it makes up for is its own.
constexpr int64_t batches = 12;

/// What the layer was finished under, where that serves.
std::shared_ptr<const Objective> objectiveOf(const FinishedLayer &layer, const Sensitivity &sensitivity,
                                             const CouplingOptions &options) {
  const float damping = options.feedback ? options.damping : -1.0f;
  if (layer.objective && options.alpha.empty() && layer.objective->damping == damping)
    return layer.objective;
  return std::make_shared<Objective>(
      prepareObjective(sensitivity.objective(), sensitivity.columns(), damping, options.alpha));
}

class Coupling {
public:
  Coupling(const std::string &name, FinishedLayer &layer, const MatrixView &weights, const Sensitivity &sensitivity,
           const CouplingOptions &options)
      : name(name), layer(layer), weights(weights), sensitivity(sensitivity), options(options), n(weights.rows),
        k(weights.columns), objective(objectiveOf(layer, sensitivity, options)) {}

  Error setOutputs(std::span<const float> packed);
  void run();

private:
  const float *alpha() const { return options.alpha.empty() ? nullptr : options.alpha.data(); }
  void errorOf(const RowTile &tile, int64_t lane, const float *weight, float *out) const;
  void decodeAll();
  double loss();
  void sweep();
  std::vector<float> factors(const uint32_t *rows, int64_t count) const;
  void batch(LayerPart &part, const uint32_t *rows, int64_t first, int64_t count);

  const std::string &name;
  FinishedLayer &layer;
  const MatrixView &weights;
  const Sensitivity &sensitivity;
  const CouplingOptions &options;
  int64_t n, k;
  std::shared_ptr<const Objective> objective;
  std::vector<float> outputs; // [N,N]: share · G, zeros on the diagonal
  std::vector<float> energy;  // [N]: G's diagonal
  std::vector<float> delta;   // [N,K] ŵ − w, by logical row
};
} // namespace

Error Coupling::setOutputs(std::span<const float> packed) {
  const std::string where = name + ".output_gradient_second_moment";
  if (packed.size() != size_t(triangleSize(n)))
    return fail("statistics do not fit the layer", where, std::to_string(triangleSize(n)) + " values",
                std::to_string(packed.size()));
  outputs.resize(n * n);
  unpackTriangle(packed, n, outputs.data());
  for (int64_t i = 0; i < n; ++i) {
    energy.push_back(outputs[i * n + i]);
    outputs[i * n + i] = 0;
    if (energy.back() < 0)
      return fail("a sum of squares is negative", where + "[" + std::to_string(i) + "]", "at least 0",
                  std::to_string(energy.back()), "calibrate again");
  }
  for (float &value : outputs) {
    if (!std::isfinite(value))
      return fail("statistics are not finite", where, "finite numbers", std::isnan(value) ? "NaN" : "infinity",
                  "calibrate again");
    value *= options.share;
  }
  return Error::success();
}

/// δ of a lane's codes against a row's weights.
void Coupling::errorOf(const RowTile &tile, int64_t lane, const float *weight, float *out) const {
  tile.decode(lane, out);
  for (int64_t j = 0; j < k; ++j)
    out[j] = out[j] * (alpha() ? alpha()[j] : 1.0f) - weight[j];
}

/// tr(G·Δ·F·Δᵀ), by blocks of rows.
double Coupling::loss() {
  constexpr int64_t block = 192;
  const std::vector<float> &moment = sensitivity.objective();
  std::vector<double> sums(n);
  parallelFor(n, block, options.threads, [&](size_t begin, size_t end, unsigned) {
    int64_t count = int64_t(end - begin);
    std::vector<float> left(count * k), right(count * k);
    gemm(count, k, n, 1.0f, outputs.data() + begin * n, n, false, delta.data(), k, 0.0f, left.data(), k);
    gemm(count, k, k, 1.0f, delta.data() + begin * k, k, false, moment.data(), k, 0.0f, right.data(), k);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < k; ++j)
        sums[begin + i] += double(right[i * k + j]) *
                           (double(left[i * k + j]) + double(energy[begin + i]) * delta[(begin + i) * k + j]);
  });
  double sum = 0;
  for (double part : sums)
    sum += part;
  return sum;
}

/// G_bb⁻¹·G_bo of a batch b and all other rows o, [count, N], zeros at its own.
std::vector<float> Coupling::factors(const uint32_t *rows, int64_t count) const {
  std::vector<double> lower(count * count), inverse(count * count);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j <= i; ++j)
      lower[i * count + j] = outputs[rows[i] * n + rows[j]];
  for (int64_t i = 0; i < count; ++i)
    lower[i * count + i] = energy[rows[i]] > 0 ? energy[rows[i]] : 1;
  // Halving what rows share makes it positive definite in the end: the diagonal is.
  const int size = int(count);
  for (std::vector<double> tried = lower;; tried = lower) {
    int info = 0;
    dpotrf_("U", &size, tried.data(), &size, &info); // column-major upper: our lower
    if (info == 0)
      dtrtri_("U", "N", &size, tried.data(), &size, &info);
    if (info == 0) {
      lower = std::move(tried);
      break;
    }
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < i; ++j)
        lower[i * count + j] *= 0.5;
  }
  // lower is L⁻¹: the inverse is L⁻ᵀ·L⁻¹.
  for (int64_t l = 0; l < count; ++l)
    for (int64_t i = 0; i <= l; ++i)
      for (int64_t j = 0; j <= l; ++j)
        inverse[i * count + j] += lower[l * count + i] * lower[l * count + j];
  std::vector<float> left(inverse.begin(), inverse.end()), others(count * n), result(count * n);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(outputs.begin() + rows[i] * n, n, others.begin() + i * n);
    for (int64_t j = 0; j < count; ++j)
      others[i * n + rows[j]] = 0;
  }
  parallelFor(n, 128, options.threads, [&](size_t begin, size_t end, unsigned) {
    gemm(count, int64_t(end - begin), count, 1.0f, left.data(), count, false, others.data() + begin, n, 0.0f,
         result.data() + begin, n);
  });
  return result;
}

/// Rows `rows[0 … count)`, stored from `first` on in `part`.
void Coupling::batch(LayerPart &part, const uint32_t *rows, int64_t first, int64_t count) {
  const std::vector<float> shared = factors(rows, count);
  std::vector<float> next(count * k);
  parallelFor(count, tileRows(count), options.threads, [&](size_t begin, size_t end, unsigned) {
    int64_t used = int64_t(end - begin);
    // What the batch has to make up for.
    std::vector<float> shift(used * k), target(k);
    gemm(used, k, n, 1.0f, shared.data() + begin * n, n, false, delta.data(), k, 0.0f, shift.data(), k);
    RowTile tile = tileOf(part.bits, *objective, options.table);
    for (int64_t i = 0; i < used; ++i) {
      const float *weight = weights.row(rows[begin + i]);
      for (int64_t j = 0; j < k; ++j)
        target[j] = weight[j] - shift[i * k + j];
      tile.setRow(i, target.data(), alpha());
      loadLane(tile, i, part.matrix, first + int64_t(begin) + i, part.bits, options.table);
    }
    tile.fill(used);
    tile.renew(options.cycles);
    for (int64_t i = 0; i < used; ++i) {
      const int64_t row = rows[begin + i];
      float *changed = next.data() + (int64_t(begin) + i) * k;
      if (energy[row] <= 0) {
        std::copy_n(delta.data() + row * k, k, changed);
        continue;
      }
      storeLane(tile, i, part.matrix, first + int64_t(begin) + i, part.bits, options.table);
      errorOf(tile, i, weights.row(row), changed);
    }
  });
  // Only now: all tiles of a batch see the same errors.
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(next.data() + i * k, k, delta.data() + int64_t(rows[i]) * k);
}

void Coupling::sweep() {
  const int64_t size = std::max<int64_t>(16, (n / batches + 15) / 16 * 16);
  const uint32_t *rows = layer.permutation.data();
  for (LayerPart &part : layer.parts) {
    for (int64_t first = 0; first < part.matrix.rows; first += size)
      batch(part, rows + first, first, std::min(size, part.matrix.rows - first));
    rows += part.matrix.rows;
  }
}

void Coupling::decodeAll() {
  delta.resize(n * k);
  int64_t at = 0;
  for (const LayerPart &part : layer.parts) {
    parallelFor(part.matrix.rows, 16, options.threads, [&](size_t begin, size_t end, unsigned) {
      RowTile tile = tileOf(part.bits, *objective, options.table);
      for (size_t i = begin; i < end; ++i) {
        int64_t row = layer.permutation[at + i];
        loadLane(tile, 0, part.matrix, int64_t(i), part.bits, options.table);
        errorOf(tile, 0, weights.row(row), delta.data() + row * k);
      }
    });
    at += part.matrix.rows;
  }
}

void Coupling::run() {
  decodeAll();
  double least = loss();
  for (int number = 0; number < options.sweeps; ++number) {
    std::vector<LayerPart> before = layer.parts;
    sweep();
    double now = loss();
    if (!(now < least)) {
      layer.parts = std::move(before);
      decodeAll();
      break;
    }
    least = now;
  }
  std::vector<float> decoded(n * k);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j)
      decoded[i * k + j] = weights.row(i)[j] + delta[i * k + j];
  int64_t at = 0;
  for (LayerPart &part : layer.parts) {
    part.matrix.squaredError = part.matrix.squaredNorm = 0;
    for (int64_t i = 0; i < part.matrix.rows; ++i, ++at)
      addSquares(part.matrix, weights.row(layer.permutation[at]), decoded.data() + int64_t(layer.permutation[at]) * k);
  }
  layer.errors.clear();
  layer.lFull.clear();
}

Error skim::coupleRows(const std::string &name, FinishedLayer &layer, std::span<const float> outputMoment,
                       const MatrixView &weights, const Sensitivity &sensitivity, const CouplingOptions &options) {
  useOneBlasThread();
  if (weights.rows != sensitivity.rows() || weights.columns != sensitivity.columns() ||
      layer.permutation.size() != size_t(weights.rows))
    return fail("layer does not fit its sensitivities", name,
                std::to_string(sensitivity.rows()) + " x " + std::to_string(sensitivity.columns()),
                std::to_string(weights.rows) + " x " + std::to_string(weights.columns));
  if (weights.columns == 0 || sensitivity.groups() > 1)
    return Error::success();
  Coupling coupling(name, layer, weights, sensitivity, options);
  if (Error error = coupling.setOutputs(outputMoment))
    return error;
  coupling.run();
  return Error::success();
}
