#include "TableRounding.h"
#include "skim/Support/Float16.h"

#include <algorithm>
#include <cmath>

using namespace skim;

float skim::tableScaleFor(float largest) { return roundToF16(largest / 127); }

void skim::roundEntries(DType type, float scale, std::span<float> values) {
  for (float &value : values) {
    if (type == DType::F16)
      value = roundToF16(value);
    else if (type == DType::BF16)
      value = roundToBF16(value);
    else
      value = scale == 0 ? 0.0f : scale * std::nearbyint(std::clamp(value / scale, -127.0f, 127.0f));
  }
}

/// Solves (A + ridge)·Δ = g by Cholesky; entries without codes stay.
static std::vector<double> solve(std::span<const double> normal, std::span<const double> gradient) {
  const size_t n = gradient.size();
  double trace = 0;
  for (size_t i = 0; i < n; ++i)
    trace += normal[i * n + i];
  const double ridge = 1e-7 * trace / double(n);
  std::vector<double> lower(n * n, 0.0), x(gradient.begin(), gradient.end());
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = (normal[i * n + j] + normal[j * n + i]) / 2 + (i == j ? ridge : 0.0);
      for (size_t k = 0; k < j; ++k)
        sum -= lower[i * n + k] * lower[j * n + k];
      if (i != j)
        lower[i * n + j] = lower[j * n + j] > 0 ? sum / lower[j * n + j] : 0.0;
      else
        lower[i * n + i] = sum > ridge / 2 ? std::sqrt(sum) : 0.0; // what others determine does not move
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k)
      x[i] -= lower[i * n + k] * x[k];
    x[i] = lower[i * n + i] > 0 ? x[i] / lower[i * n + i] : 0.0;
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k)
      x[i] -= lower[k * n + i] * x[k];
    x[i] = lower[i * n + i] > 0 ? x[i] / lower[i * n + i] : 0.0;
  }
  return x;
}

namespace {

/// The quadratic Δᵀ·A·Δ − 2·gᵀ·Δ around a table, and its gradient kept current.
class Quadratic {
public:
  Quadratic(std::span<const double> normal, std::span<const double> gradient, const std::vector<float> &origin)
      : normal(normal), gradient(gradient), origin(origin), n(gradient.size()) {}

  double value(const std::vector<float> &table) const {
    double sum = 0;
    for (size_t i = 0; i < n; ++i)
      sum += (double(table[i]) - origin[i]) * (slope(table, i) - gradient[i]);
    return sum;
  }
  /// (A·Δ − g)_i.
  double slope(const std::vector<float> &table, size_t i) const {
    double sum = -gradient[i];
    for (size_t j = 0; j < n; ++j)
      sum += (normal[i * n + j] + normal[j * n + i]) / 2 * (double(table[j]) - origin[j]);
    return sum;
  }
  double curvature(size_t i) const { return normal[i * n + i]; }

private:
  std::span<const double> normal, gradient;
  const std::vector<float> &origin;
  size_t n;
};

} // namespace

bool skim::improveTable(std::span<const double> normal, std::span<const double> gradient, DType type,
                        std::vector<float> &values, float &scale) {
  const size_t n = values.size();
  const Quadratic quadratic(normal, gradient, values);
  const std::vector<double> change = solve(normal, gradient);
  std::vector<float> wanted(n);
  float largest = 0;
  for (size_t i = 0; i < n; ++i) {
    wanted[i] = float(values[i] + change[i]);
    largest = std::max(largest, std::abs(wanted[i]));
  }
  if (type == DType::F16 && largest > f16Max)
    return false;
  // I8: a grid that is a little coarser may fit better, and what rounding one entry spoils the others make up for.
  constexpr int passes = 3;
  const int candidates = type == DType::I8 ? 4 : 1;
  double least = 0;
  std::vector<float> best;
  float newScale = scale;
  for (int candidate = 0; candidate < candidates; ++candidate) {
    const float grid = type == DType::I8 ? tableScaleFor(largest * (1 + 0.01f * float(candidate))) : 0.0f;
    if (!std::isfinite(grid) || (type == DType::I8 && grid == 0))
      break;
    std::vector<float> table = wanted;
    roundEntries(type, grid, table);
    for (int pass = 0; pass < passes && type == DType::I8; ++pass) {
      bool moved = false;
      for (size_t i = 0; i < n; ++i) {
        if (quadratic.curvature(i) <= 0)
          continue;
        float to[1] = {float(table[i] - quadratic.slope(table, i) / quadratic.curvature(i))};
        roundEntries(type, grid, to);
        moved |= to[0] != table[i];
        table[i] = to[0];
      }
      if (!moved)
        break;
    }
    const double value = quadratic.value(table);
    if (value < least) {
      least = value;
      best = std::move(table);
      newScale = grid;
    }
  }
  if (best.empty())
    return false;
  values = std::move(best);
  scale = newScale;
  return true;
}
