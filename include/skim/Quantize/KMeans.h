//===- KMeans.h - exact weighted k-means in one dimension -------*- C++ -*-===//
//
// Dynamic programming over the sorted values: D[k][i], the least weighted sum
// of squared distances of the i smallest values to k centroids, is
// min over j of D[k−1][j] + cost(j, i). The optimal j grows with i (the cost is
// a concave Monge array), so each layer takes O(n log n) by divide and conquer
// (Wang and Song, "Ckmeans.1d.dp", R Journal 2011; Grønlund et al., "Fast exact
// k-means, k-medians and Bregman divergence clustering in 1D", 2017). One table
// answers every number of centroids up to the largest asked for.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_QUANTIZE_KMEANS_H
#define SKIM_QUANTIZE_KMEANS_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace skim {

/// Solves one row after another, keeping its memory between them. Results are
/// the same on every CPU and do not depend on earlier rows.
class KMeans1D {
public:
  /// Finds the optima for 1 … `maxCentroids` centroids (at most 256) of finite
  /// `values` (at least one). `weights` ≥ 0, one a value, or null for ones.
  /// Weights below 2^-30 of the largest count as that: a value without weight
  /// influences nothing measurable but still has a place. With all weights zero
  /// the values count alike. With `onlyMax`, only `maxCentroids` may be asked
  /// for, which saves most of the last layer.
  void fit(std::span<const float> values, const float *weights, unsigned maxCentroids, bool onlyMax = false);

  /// Number of different values of the row.
  size_t distinct() const { return x.size(); }

  /// The weighted sum of squared distances with the best `k` centroids.
  double error(unsigned k) const;

  /// The best `k` centroids, ascending; where fewer values differ, each is a
  /// centroid and the largest is repeated.
  void centroids(unsigned k, float *out) const;

  /// For each value the index of the nearest entry of the ascending `table`
  /// (the lower one if two are equally near or equal); `codes` has one byte a
  /// value. Returns the weighted sum of squared distances.
  double assign(std::span<const float> table, uint8_t *codes) const;

  /// For each entry of the ascending `table`, the weighted mean of the values
  /// nearest to it; entries without values keep what `means` holds.
  void nearestMeans(std::span<const float> table, double *means) const;

private:
  void sortAndMerge(std::span<const float> values, const float *weights);
  void prefixSums();
  void layers(unsigned last, bool onlyMax);
  std::vector<size_t> boundaries(unsigned k) const;
  template <typename Visit> void walk(std::span<const float> table, Visit visit) const;

  // The input in ascending order: key (ordered bits of the value) << 32 | index.
  std::vector<uint64_t> order, spare;
  std::vector<float> x;           // distinct values, ascending
  std::vector<double> w;          // their weights
  std::vector<double> s0, s1, s2; // sums of w, w·x, w·x² over the first i, relative to the median
  double shift = 0;               // the median: x − shift is what was summed
  std::vector<double> previous, current;
  std::vector<uint32_t> split; // split[(k−2)·(n+1) + i]: where the last of k clusters of the first i begins
  std::vector<double> errors;  // errors[k−1] = D[k][n]
  unsigned solved = 0;
};

} // namespace skim

#endif // SKIM_QUANTIZE_KMEANS_H
