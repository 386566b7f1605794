#include "Fisher.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

using namespace skim;

namespace {
const std::vector<double> p = {0.21, 0.05, 0.4, 0.14, 0, 0.2};
const int64_t vocabulary = int64_t(p.size());

/// The adjoint of the logits for a target.
std::vector<float> adjoint(int32_t target, float share) {
  std::vector<float> row;
  for (int64_t i = 0; i < vocabulary; ++i)
    row.push_back(share * float(p[i] - (i == target ? 1 : 0)));
  return row;
}

TEST(Fisher, DrawsHaveTheFisherAsSecondMoment) {
  const int64_t draws = 200000;
  std::vector<double> moment(vocabulary * vocabulary), mean(vocabulary);
  for (int64_t draw = 0; draw < draws; ++draw) {
    const int32_t target = int32_t(draw % vocabulary);
    std::vector<float> row = adjoint(target, 0.5f);
    drawFisher(row.data(), std::span(&target, 1), vocabulary, 0.5f, 7, uint64_t(draw));
    for (int64_t i = 0; i < vocabulary; ++i) {
      mean[i] += row[i] / double(draws);
      for (int64_t j = 0; j < vocabulary; ++j)
        moment[i * vocabulary + j] += 4 * double(row[i]) * row[j] / double(draws);
    }
  }
  // Elements are bounded by one, so means of 200,000 draws lie within 5 ÷ √200,000.
  for (int64_t i = 0; i < vocabulary; ++i) {
    EXPECT_NEAR(mean[i], 0, 0.011);
    for (int64_t j = 0; j < vocabulary; ++j)
      EXPECT_NEAR(moment[i * vocabulary + j], (i == j ? p[i] : 0) - p[i] * p[j], 0.011) << i << " " << j;
  }
}

TEST(Fisher, RowsDependOnTheirPlaceAndSeedOnly) {
  std::vector<float> both = adjoint(2, 1), second = adjoint(3, 1), other = second;
  both.insert(both.end(), second.begin(), second.end());
  const std::vector<int32_t> targets = {2, 3};
  drawFisher(both.data(), targets, vocabulary, 1, 3, 10);
  drawFisher(second.data(), std::span(targets).subspan(1), vocabulary, 1, 3, 11);
  drawFisher(other.data(), std::span(targets).subspan(1), vocabulary, 1, 4, 11);
  EXPECT_TRUE(std::equal(second.begin(), second.end(), both.begin() + vocabulary));
  EXPECT_NE(second, other);
}

} // namespace
