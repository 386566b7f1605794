#include "skim/Quantize/KMeans.h"
#include "Clones.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

using namespace skim;

//===----------------------------------------------------------------------===//
// The dynamic programme
//===----------------------------------------------------------------------===//

namespace {

/// Eight lanes on every CPU, so that every CPU looks at the same candidates.
constexpr size_t lanes = 8;
typedef double Vector __attribute__((vector_size(64)));
typedef double UnalignedVector __attribute__((vector_size(64), aligned(8)));

constexpr double infinity = std::numeric_limits<double>::infinity();

/// One layer: D[k][·] from D[k−1][·]. Arrays are indexed by the number of
/// values i in the prefix, 0 … n, and have `lanes` more entries behind.
struct Layer {
  size_t n;
  size_t k;
  const double *s0, *s1, *s2;
  const double *previous;
  double *current;
  const uint32_t *previousSplit; // null for k = 2
  uint32_t *split;
  bool onlyWhole; // only the prefix of all n values is wanted
};

SKIM_INLINE Vector load(const double *p) { return *reinterpret_cast<const UnalignedVector *>(p); }
SKIM_INLINE Vector broadcast(double x) { return Vector{x, x, x, x, x, x, x, x}; }

/// D[k−1][j] + cost of one cluster over the values j … i−1, in all lanes. The
/// cost, Σwx² − (Σwx)²/Σw, may come out below zero by rounding.
SKIM_INLINE Vector candidate(const Vector &dj, const Vector &d0, const Vector &d1, const Vector &d2) {
  Vector cost = d2 - d1 * d1 / d0;
  cost = cost > 0.0 ? cost : broadcast(0.0);
  return dj + cost;
}

const Vector ramp = {0, 1, 2, 3, 4, 5, 6, 7};

/// The first best j in [low, high] for the prefix i.
SKIM_INLINE void scanRow(const Layer &layer, size_t i, size_t low, size_t high) {
  const Vector i0 = broadcast(layer.s0[i]), i1 = broadcast(layer.s1[i]), i2 = broadcast(layer.s2[i]);
  Vector best = broadcast(infinity), at = broadcast(double(low));
  const Vector last = broadcast(double(high));
  for (size_t j = low; j <= high; j += lanes) {
    const Vector index = broadcast(double(j)) + ramp;
    const Vector value =
        candidate(load(layer.previous + j), i0 - load(layer.s0 + j), i1 - load(layer.s1 + j), i2 - load(layer.s2 + j));
    const auto better = (value < best) & (index <= last);
    best = better ? value : best;
    at = better ? index : at;
  }
  double value = best[0], where = at[0];
  for (size_t lane = 1; lane < lanes; ++lane) {
    if (best[lane] < value || (best[lane] == value && at[lane] < where)) {
      value = best[lane];
      where = at[lane];
    }
  }
  layer.current[i] = value;
  layer.split[i] = static_cast<uint32_t>(where);
}

/// The prefixes i … i+7 at once, lane by lane, over j in [low, high].
SKIM_INLINE void scanGroup(const Layer &layer, size_t i, size_t low, size_t high) {
  const Vector i0 = load(layer.s0 + i), i1 = load(layer.s1 + i), i2 = load(layer.s2 + i);
  const Vector own = broadcast(double(i)) + ramp;
  Vector best = broadcast(infinity), at = broadcast(double(low));
  for (size_t j = low; j <= high; ++j) {
    const Vector index = broadcast(double(j));
    const Vector value = candidate(broadcast(layer.previous[j]), i0 - broadcast(layer.s0[j]),
                                   i1 - broadcast(layer.s1[j]), i2 - broadcast(layer.s2[j]));
    // A cluster must not be empty; this also drops the lanes' 0/0.
    const auto better = (value < best) & (index < own);
    best = better ? value : best;
    at = better ? index : at;
  }
  size_t count = std::min(lanes, layer.n + 1 - i);
  for (size_t lane = 0; lane < count; ++lane) {
    layer.current[i + lane] = best[lane];
    layer.split[i + lane] = static_cast<uint32_t>(at[lane]);
  }
}

/// The prefixes k, k+8, k+16, … and n by divide and conquer with lanes over j;
/// then what lies between, with lanes over i: there the ranges of j are short.
SKIM_CLONES void solveLayer(const Layer &layer) {
  const size_t n = layer.n, k = layer.k;
  auto lowest = [&](size_t i, size_t bound) {
    // The split also grows with k.
    return layer.previousSplit ? std::max<size_t>(bound, layer.previousSplit[i]) : bound;
  };
  scanRow(layer, n, lowest(n, k - 1), n - 1);
  if (n == k || layer.onlyWhole)
    return;
  scanRow(layer, k, k - 1, k - 1);
  // Prefixes k + 8·m; m = 0 is known, and n stands for the first beyond.
  const size_t coarse = (n - k + lanes - 1) / lanes;
  auto prefix = [&](size_t m) { return std::min(n, k + lanes * m); };
  for (size_t stride = std::bit_ceil(coarse) / 2; stride; stride /= 2) {
    for (size_t m = stride; m < coarse; m += 2 * stride) {
      size_t i = prefix(m), above = prefix(std::min(coarse, m + stride));
      size_t low = lowest(i, layer.split[prefix(m - stride)]);
      size_t high = std::min<size_t>(i - 1, layer.split[above]);
      scanRow(layer, i, std::min(low, high), high);
    }
  }
  for (size_t m = 0; m < coarse; ++m) {
    size_t i = prefix(m), low = layer.split[i], high = layer.split[prefix(m + 1)];
    scanGroup(layer, i, std::min(low, high), high);
  }
}

/// Bits of a float whose unsigned order is that of the numbers; -0 is 0.
uint32_t orderedBits(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

float fromOrderedBits(uint32_t bits) { return std::bit_cast<float>(bits & 0x80000000u ? bits & 0x7FFFFFFFu : ~bits); }

/// Sorts by the upper half of the words: three passes of 11 bits.
void radixSort(std::vector<uint64_t> &words, std::vector<uint64_t> &spare) {
  constexpr unsigned digit = 11, passes = 3, size = 1u << digit;
  uint32_t counts[passes][size] = {};
  for (uint64_t word : words)
    for (unsigned pass = 0; pass < passes; ++pass)
      ++counts[pass][(word >> (32 + digit * pass)) & (size - 1)];
  spare.resize(words.size());
  for (unsigned pass = 0; pass < passes; ++pass) {
    uint32_t sum = 0;
    for (uint32_t &count : counts[pass])
      sum += std::exchange(count, sum);
    for (uint64_t word : words)
      spare[counts[pass][(word >> (32 + digit * pass)) & (size - 1)]++] = word;
    std::swap(words, spare);
  }
}

} // namespace

//===----------------------------------------------------------------------===//
// KMeans1D
//===----------------------------------------------------------------------===//

void KMeans1D::sortAndMerge(std::span<const float> values, const float *weights) {
  order.resize(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    order[i] = uint64_t(orderedBits(values[i])) << 32 | uint32_t(i);
  // A histogram of 2048 entries does not pay for short rows.
  if (order.size() < 512)
    std::sort(order.begin(), order.end());
  else
    radixSort(order, spare);

  float largest = 0;
  if (weights)
    for (size_t i = 0; i < values.size(); ++i)
      largest = std::max(largest, weights[i]);
  const double least = double(largest) * 0x1p-30;
  x.clear();
  w.clear();
  uint32_t last = 0;
  for (uint64_t word : order) {
    uint32_t key = static_cast<uint32_t>(word >> 32);
    double weight = largest > 0 ? std::max(double(weights[static_cast<uint32_t>(word)]), least) : 1.0;
    if (x.empty() || key != last) {
      x.push_back(fromOrderedBits(key));
      w.push_back(weight);
      last = key;
    } else {
      w.back() += weight;
    }
  }
}

void KMeans1D::prefixSums() {
  const size_t n = x.size(), size = n + 1 + lanes;
  for (std::vector<double> *sums : {&s0, &s1, &s2, &previous, &current})
    sums->assign(size, 0.0);
  // Only differences count, so the sums run outwards from the median: then no
  // sum of small values contains a far one, and outliers cost no precision.
  const size_t middle = n / 2;
  shift = x[middle];
  for (size_t i = middle; i < n; ++i) {
    double d = x[i] - shift;
    s0[i + 1] = s0[i] + w[i];
    s1[i + 1] = s1[i] + w[i] * d;
    s2[i + 1] = s2[i] + w[i] * d * d;
  }
  for (size_t i = middle; i-- > 0;) {
    double d = x[i] - shift;
    s0[i] = s0[i + 1] - w[i];
    s1[i] = s1[i + 1] - w[i] * d;
    s2[i] = s2[i + 1] - w[i] * d * d;
  }
}

void KMeans1D::layers(unsigned last, bool onlyMax) {
  const size_t n = x.size();
  errors.assign(last, 0.0);
  for (size_t i = 1; i <= n; ++i) {
    double d0 = s0[i] - s0[0], d1 = s1[i] - s1[0], d2 = s2[i] - s2[0];
    current[i] = std::max(0.0, d2 - d1 * d1 / d0);
  }
  errors[0] = current[n];
  split.resize((n + 1) * (last - 1));
  for (unsigned k = 2; k <= last; ++k) {
    std::swap(previous, current);
    uint32_t *own = split.data() + (k - 2) * (n + 1);
    Layer layer = {n,
                   k,
                   s0.data(),
                   s1.data(),
                   s2.data(),
                   previous.data(),
                   current.data(),
                   k == 2 ? nullptr : own - (n + 1),
                   own,
                   onlyMax && k == last};
    solveLayer(layer);
    errors[k - 1] = current[n];
  }
}

void KMeans1D::fit(std::span<const float> values, const float *weights, unsigned maxCentroids, bool onlyMax) {
  sortAndMerge(values, weights);
  solved = static_cast<unsigned>(std::min<size_t>(maxCentroids, x.size()));
  if (maxCentroids >= x.size() && onlyMax)
    return;
  prefixSums();
  layers(solved, onlyMax);
}

double KMeans1D::error(unsigned k) const { return k >= x.size() ? 0.0 : errors[k - 1]; }

std::vector<size_t> KMeans1D::boundaries(unsigned k) const {
  const size_t n = x.size();
  std::vector<size_t> bounds(k + 1);
  bounds[k] = n;
  for (unsigned q = k; q > 1; --q)
    bounds[q - 1] = split[(q - 2) * (n + 1) + bounds[q]];
  bounds[0] = 0;
  return bounds;
}

void KMeans1D::centroids(unsigned k, float *out) const {
  const size_t n = x.size();
  if (k >= n) {
    std::copy(x.begin(), x.end(), out);
    std::fill(out + n, out + k, x.back());
    return;
  }
  std::vector<size_t> bounds = boundaries(k);
  for (unsigned q = 0; q < k; ++q) {
    // Summed anew, relative to the cluster's first value: exact enough for any spread of weights.
    double base = x[bounds[q]], sum = 0, weight = 0;
    for (size_t i = bounds[q]; i < bounds[q + 1]; ++i) {
      sum += w[i] * (x[i] - base);
      weight += w[i];
    }
    out[q] = static_cast<float>(base + sum / weight);
  }
}

template <typename Visit> void KMeans1D::walk(std::span<const float> table, Visit visit) const {
  size_t code = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    double distance = std::abs(double(x[i]) - table[code]);
    for (size_t next = code + 1; next < table.size(); ++next) {
      double other = std::abs(double(x[i]) - table[next]);
      if (other < distance) {
        code = next;
        distance = other;
      } else if (table[next] > table[code]) {
        break;
      }
    }
    visit(i, code, distance);
  }
}

double KMeans1D::assign(std::span<const float> table, uint8_t *codes) const {
  double sum = 0;
  size_t position = 0;
  walk(table, [&](size_t i, size_t code, double distance) {
    sum += w[i] * distance * distance;
    uint32_t key = static_cast<uint32_t>(order[position] >> 32);
    for (; position < order.size() && static_cast<uint32_t>(order[position] >> 32) == key; ++position)
      codes[static_cast<uint32_t>(order[position])] = static_cast<uint8_t>(code);
  });
  return sum;
}

void KMeans1D::nearestMeans(std::span<const float> table, double *means) const {
  std::vector<double> sums(table.size(), 0.0), weights(table.size(), 0.0);
  walk(table, [&](size_t i, size_t code, double) {
    sums[code] += w[i] * (double(x[i]) - table[code]);
    weights[code] += w[i];
  });
  for (size_t q = 0; q < table.size(); ++q)
    if (weights[q] > 0)
      means[q] = table[q] + sums[q] / weights[q];
}
