#include "skim/Quantize/KMeans.h"
#include "Decode.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <random>

using namespace skim;

namespace {

struct Row {
  std::vector<float> values, weights;
};

double clusterCost(const std::vector<std::pair<double, double>> &sorted, size_t begin, size_t end) {
  double sum = 0, weight = 0, cost = 0;
  for (size_t i = begin; i < end; ++i) {
    sum += sorted[i].second * sorted[i].first;
    weight += sorted[i].second;
  }
  if (weight == 0)
    return 0;
  for (size_t i = begin; i < end; ++i)
    cost += sorted[i].second * (sorted[i].first - sum / weight) * (sorted[i].first - sum / weight);
  return cost;
}

std::vector<std::pair<double, double>> sortedRow(const Row &row) {
  std::vector<std::pair<double, double>> sorted;
  for (size_t i = 0; i < row.values.size(); ++i)
    sorted.emplace_back(row.values[i], row.weights.empty() ? 1.0 : row.weights[i]);
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

/// Every way to cut the sorted row into at most k pieces.
double bruteForce(const Row &row, unsigned k) {
  auto sorted = sortedRow(row);
  std::function<double(size_t, unsigned)> best = [&](size_t begin, unsigned left) -> double {
    if (begin == sorted.size())
      return 0;
    if (left == 0)
      return INFINITY;
    double least = INFINITY;
    for (size_t end = begin + 1; end <= sorted.size(); ++end)
      least = std::min(least, clusterCost(sorted, begin, end) + best(end, left - 1));
    return least;
  };
  return best(0, k);
}

/// The textbook quadratic dynamic programme in long double.
double quadratic(const Row &row, unsigned k) {
  auto sorted = sortedRow(row);
  size_t n = sorted.size();
  std::vector<long double> previous(n + 1, INFINITY), current(n + 1);
  previous[0] = 0;
  for (unsigned q = 0; q < k; ++q) {
    for (size_t i = 0; i <= n; ++i) {
      current[i] = previous[i];
      long double mean = 0, weight = 0, cost = 0;
      for (size_t j = i; j-- > 0;) { // Welford, growing to the left
        long double w = sorted[j].second;
        if (w > 0) {
          weight += w;
          long double delta = sorted[j].first - mean;
          mean += delta * w / weight;
          cost += w * delta * (sorted[j].first - mean);
        }
        current[i] = std::min(current[i], previous[j] + cost);
      }
    }
    std::swap(previous, current);
  }
  return double(previous[n]);
}

double tableError(const Row &row, const std::vector<float> &table, const std::vector<uint8_t> &codes) {
  double sum = 0;
  for (size_t i = 0; i < row.values.size(); ++i) {
    double off = double(row.values[i]) - table[codes[i]];
    sum += (row.weights.empty() ? 1.0 : row.weights[i]) * off * off;
  }
  return sum;
}

/// What values without weight may cost: they count as 2^-30 of the largest weight.
double slack(const Row &row) {
  auto [least, most] = std::minmax_element(row.values.begin(), row.values.end());
  double range = double(*most) - *least;
  float largest = row.weights.empty() ? 1.0f : *std::max_element(row.weights.begin(), row.weights.end());
  bool light = std::any_of(row.weights.begin(), row.weights.end(), [&](float w) { return w < largest * 0x1p-30f; });
  return light ? 0x1p-30 * range * range * double(row.values.size()) * largest : 1e-30;
}

void checkAgainst(const Row &row, unsigned k, double expected, double scale) {
  KMeans1D solver;
  solver.fit(row.values, row.weights.empty() ? nullptr : row.weights.data(), k);
  EXPECT_NEAR(solver.error(k), expected, 1e-10 * scale + slack(row));
  std::vector<float> table(k);
  solver.centroids(k, table.data());
  EXPECT_TRUE(std::is_sorted(table.begin(), table.end()));
  std::vector<uint8_t> codes(row.values.size());
  double assigned = solver.assign(table, codes.data());
  // Centroids are floats: their rounding costs a little.
  EXPECT_NEAR(tableError(row, table, codes), expected, 1e-6 * scale + slack(row));
  EXPECT_NEAR(assigned, expected, 1e-6 * scale + slack(row));
  KMeans1D only;
  only.fit(row.values, row.weights.empty() ? nullptr : row.weights.data(), k, /*onlyMax=*/true);
  EXPECT_EQ(only.error(k), solver.error(k));
}

double totalCost(const Row &row) {
  auto sorted = sortedRow(row);
  return clusterCost(sorted, 0, sorted.size());
}

} // namespace

TEST(KMeans, BruteForceOnSmallRows) {
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 300; ++repeat) {
    Row row;
    size_t n = 1 + random() % 11;
    for (size_t i = 0; i < n; ++i) {
      // Small integers make duplicates and ties.
      row.values.push_back(repeat % 2 ? float(int(random() % 9)) - 4 : float(random()) / 4e9f - 0.5f);
      if (repeat % 3)
        row.weights.push_back(repeat % 3 == 1 ? float(random() % 4) : float(random()) / 4e9f);
    }
    // All weights zero counts as all alike.
    Row reference = row;
    if (!row.weights.empty() && std::count(row.weights.begin(), row.weights.end(), 0.0f) == int64_t(n))
      reference.weights.clear();
    for (unsigned k = 1; k <= 6; ++k) {
      if (reference.weights.size() != row.weights.size()) {
        KMeans1D solver;
        solver.fit(row.values, row.weights.data(), k);
        EXPECT_NEAR(solver.error(k), bruteForce(reference, k), 1e-8);
        continue;
      }
      checkAgainst(row, k, bruteForce(row, k), totalCost(row));
    }
  }
}

TEST(KMeans, QuadraticReference) {
  std::mt19937 random(2);
  for (size_t n : {9u, 63u, 64u, 65u, 127u, 300u}) {
    for (int kind = 0; kind < 5; ++kind) {
      Row row;
      row.values = normalValues(n, unsigned(n) * 10 + kind);
      if (kind == 1) // heavy tails
        for (float &value : row.values)
          value = value * value * value * std::abs(value);
      if (kind == 2) // f16-like: duplicates
        for (float &value : row.values)
          value = std::round(value * 16) / 16;
      if (kind == 3) { // outliers far beyond the rest
        row.values[n / 3] = 1e6f;
        row.values[n / 2] = -3e7f;
      }
      if (kind >= 2)
        for (size_t i = 0; i < n; ++i)
          row.weights.push_back(kind == 4 ? std::exp(normalValues(1, unsigned(i))[0] * 4) : float(1 + random() % 3));
      for (unsigned k : {1u, 2u, 3u, 5u, 8u, 16u, 31u}) {
        double expected = quadratic(row, k);
        // With outliers the tolerance is that of the inner values, which a careless sum of squares would lose.
        checkAgainst(row, k, expected, kind == 3 && k > 3 ? expected : totalCost(row));
      }
    }
  }
}

TEST(KMeans, NeverWorseThanLloyd) {
  std::mt19937 random(3);
  for (int repeat = 0; repeat < 6; ++repeat) {
    Row row;
    row.values = normalValues(1000, 100 + repeat);
    for (size_t i = 0; repeat % 2 && i < row.values.size(); ++i)
      row.weights.push_back(std::exp(normalValues(1, unsigned(i))[0]));
    unsigned k = repeat < 3 ? 8 : 16;
    KMeans1D solver;
    solver.fit(row.values, row.weights.empty() ? nullptr : row.weights.data(), k);
    double exact = solver.error(k);
    for (int start = 0; start < 50; ++start) {
      std::vector<double> centers(k);
      for (double &center : centers)
        center = row.values[random() % row.values.size()];
      double error = 0;
      for (int step = 0; step < 60; ++step) {
        std::vector<double> sums(k), weights(k);
        error = 0;
        for (size_t i = 0; i < row.values.size(); ++i) {
          size_t best = 0;
          for (size_t q = 1; q < k; ++q)
            if (std::abs(row.values[i] - centers[q]) < std::abs(row.values[i] - centers[best]))
              best = q;
          double w = row.weights.empty() ? 1 : row.weights[i], off = row.values[i] - centers[best];
          error += w * off * off;
          sums[best] += w * row.values[i];
          weights[best] += w;
        }
        for (size_t q = 0; q < k; ++q)
          if (weights[q] > 0)
            centers[q] = sums[q] / weights[q];
      }
      EXPECT_GE(error, exact * (1 - 1e-12));
    }
  }
}

TEST(KMeans, OneTableForAllCounts) {
  Row row;
  row.values = normalValues(700, 5);
  KMeans1D all;
  all.fit(row.values, nullptr, 256);
  double last = INFINITY;
  for (unsigned k = 1; k <= 256; ++k) {
    EXPECT_LE(all.error(k), last);
    last = all.error(k);
    if (k & (k - 1))
      continue;
    KMeans1D one;
    one.fit(row.values, nullptr, k, /*onlyMax=*/true);
    EXPECT_EQ(one.error(k), all.error(k));
    std::vector<float> a(k), b(k);
    all.centroids(k, a.data());
    one.centroids(k, b.data());
    EXPECT_EQ(a, b);
  }
}

TEST(KMeans, FewerValuesThanCentroids) {
  Row row = {{3, -1, 3, -0.0f, 0.0f}, {}};
  KMeans1D solver;
  solver.fit(row.values, nullptr, 8);
  EXPECT_EQ(solver.distinct(), 3u);
  EXPECT_EQ(solver.error(8), 0.0);
  std::vector<float> table(8);
  solver.centroids(8, table.data());
  EXPECT_EQ(table, (std::vector<float>{-1, 0, 3, 3, 3, 3, 3, 3}));
  std::vector<uint8_t> codes(5);
  EXPECT_EQ(solver.assign(table, codes.data()), 0.0);
  EXPECT_EQ(codes, (std::vector<uint8_t>{2, 0, 2, 1, 1}));
  // Fewer centroids than asked for at first.
  EXPECT_NEAR(solver.error(2), 2.0 / 3, 1e-12);
}

TEST(KMeans, ZeroWeights) {
  // The value without weight gets the nearest centroid and moves none.
  Row row = {{0, 1, 10, 100}, {1, 1, 0, 1}};
  KMeans1D solver;
  solver.fit(row.values, row.weights.data(), 2);
  std::vector<float> table(2);
  solver.centroids(2, table.data());
  EXPECT_NEAR(table[0], 0.5f, 1e-6f);
  EXPECT_NEAR(table[1], 100.0f, 1e-4f);
  std::vector<uint8_t> codes(4);
  solver.assign(table, codes.data());
  EXPECT_EQ(codes, (std::vector<uint8_t>{0, 0, 0, 1}));
  std::vector<float> none = {0, 0, 0, 0};
  solver.fit(row.values, none.data(), 2);
  solver.centroids(2, table.data());
  EXPECT_NEAR(table[0], 11.0f / 3, 1e-5f);
}

TEST(KMeans, DoesNotDependOnHistory) {
  Row a, b;
  a.values = normalValues(600, 8);
  b.values = normalValues(1100, 9);
  KMeans1D fresh, used;
  used.fit(b.values, nullptr, 32);
  for (KMeans1D *solver : {&fresh, &used})
    solver->fit(a.values, nullptr, 16);
  std::vector<float> x(16), y(16);
  fresh.centroids(16, x.data());
  used.centroids(16, y.data());
  EXPECT_EQ(x, y);
  EXPECT_EQ(fresh.error(16), used.error(16));
}
