#include "skim/Quantize/Sensitivity.h"
#include "Layer.h"

#include <gtest/gtest.h>
#include <numeric>

using namespace skim;

namespace {

/// Moments as they are.
SensitivityOptions bare() {
  SensitivityOptions options;
  options.plainShare = options.ridge = 0;
  return options;
}

TEST(Sensitivity, MixesMomentsAtTheirTraceAndAddsTheRidge) {
  const std::vector<float> moment = {1, 2, 2, 5}, guided = {8, -2, -2, 4};
  SensitivityOptions options;
  options.plainShare = 0.25f;
  options.ridge = 0.1f;
  auto mixed = Sensitivity::fromMatrices(3, 2, moment, guided, {}, {}, "layer", options);
  ASSERT_TRUE(mixed) << mixed.message();
  // 0.75·Hg + 0.25·2·H + 0.1·6
  const std::vector<float> expected = {7.1f, -0.5f, -0.5f, 6.1f};
  for (int i = 0; i < 4; ++i)
    EXPECT_FLOAT_EQ(mixed->objective()[i], expected[i]);
  EXPECT_EQ(mixed->plain(), moment);
  options.guided = false;
  auto plain = Sensitivity::fromMatrices(3, 2, moment, guided, {}, {}, "layer", options);
  ASSERT_TRUE(plain) << plain.message();
  EXPECT_FLOAT_EQ(plain->objective()[0], 1.3f);
  EXPECT_FLOAT_EQ(plain->objective()[1], 2);
  EXPECT_EQ(plain->plain(), moment);
}

TEST(Sensitivity, RowErrorsAreTheFormulas) {
  const TestLayer layer(70, 33);
  const Sensitivity sensitivity = layer.sensitivity();
  EXPECT_TRUE(sensitivity.guided());
  std::vector<float> other = layer.weights;
  const std::vector<float> noise = normalValues(other.size(), 9);
  for (size_t i = 0; i < other.size(); ++i)
    other[i] += 0.1f * noise[i];
  const MatrixView approximation(other.data(), layer.rows, layer.columns);
  auto errors = [&](ErrorMeasure measure) { return sensitivity.rowErrors(layer.view(), approximation, measure); };
  const auto weighted = errors(ErrorMeasure::LossWeighted), full = errors(ErrorMeasure::LFull),
             diag = errors(ErrorMeasure::LDiag), fisher = errors(ErrorMeasure::SDiag);
  const double mean = std::accumulate(layer.energy.begin(), layer.energy.end(), 0.0) / double(layer.rows);
  for (int64_t n = 0; n < layer.rows; ++n) {
    const double expected = layer.quadratic(layer.guided, other, n) * layer.energy[n] / mean;
    EXPECT_NEAR(weighted[n], expected, 1e-4 * expected);
    const double plain = layer.quadratic(layer.moment, other, n);
    EXPECT_NEAR(full[n], plain, 1e-4 * plain);
    double byDiagonal = 0, byGradient = 0;
    for (int64_t k = 0; k < layer.columns; ++k) {
      const double d = double(other[n * layer.columns + k]) - layer.weights[n * layer.columns + k];
      byDiagonal += d * d * layer.moment[k * layer.columns + k];
      byGradient += d * d * layer.gradients[n * layer.columns + k];
    }
    EXPECT_NEAR(diag[n], byDiagonal, 1e-5 * byDiagonal);
    EXPECT_NEAR(fisher[n], byGradient, 1e-5 * byGradient);
  }
}

TEST(Sensitivity, Fallbacks) {
  const int64_t rows = 3, columns = 2;
  const std::vector<float> moment = {4, 1, 1, 9}, gradients = {1, 2, 0, 0, 3, 4};
  auto some = Sensitivity::fromMatrices(rows, columns, moment, {}, gradients, {}, "layer", bare());
  ASSERT_TRUE(some) << some.message();
  EXPECT_FALSE(some->guided());
  EXPECT_EQ(some->objective(), moment);
  EXPECT_EQ(some->rowWeights(), std::vector<float>(3, 1.0f));
  EXPECT_EQ(some->elementWeights().row(0)[1], 2); // its own
  EXPECT_EQ(some->elementWeights().row(1)[1], 9); // a row of zeros: the moment's diagonal
  auto none = Sensitivity::fromMatrices(rows, columns, moment, {}, {}, {}, "layer", bare());
  ASSERT_TRUE(none) << none.message();
  EXPECT_EQ(none->elementWeights().row(2)[0], 4);
  // No token reached the layer.
  auto dead = Sensitivity::fromMatrices(rows, columns, std::vector<float>(4, 0.0f), {}, {}, std::vector<float>(3, 0.0f),
                                        "layer", bare());
  ASSERT_TRUE(dead) << dead.message();
  EXPECT_EQ(dead->objective(), (std::vector<float>{1, 0, 0, 1}));
  EXPECT_EQ(dead->rowWeights(), std::vector<float>(3, 1.0f));
}

TEST(Sensitivity, RowGroupsHaveTheirOwnMoments) {
  const std::vector<float> moment = {1, 0, 0, 1}, guided = {2, 0, 0, 3, 5, 0, 0, 7};
  auto groups = Sensitivity::fromMatrices(4, 2, moment, guided, {}, {}, "layer", bare());
  ASSERT_TRUE(groups) << groups.message();
  ASSERT_EQ(groups->groups(), 2);
  EXPECT_EQ(groups->groupBegin(1), 2);
  EXPECT_EQ(groups->objective(1)[3], 7);
  EXPECT_EQ(groups->elementWeights().row(1)[0], 2);
  EXPECT_EQ(groups->elementWeights().row(2)[0], 5);
  const std::vector<float> zeros(8, 0.0f), ones(8, 1.0f);
  EXPECT_EQ(groups->rowErrors(MatrixView(zeros.data(), 4, 2), MatrixView(ones.data(), 4, 2)),
            (std::vector<double>{5, 5, 12, 12}));
}

TEST(Sensitivity, BadStatisticsAreErrors) {
  auto message = [](std::vector<float> moment, std::vector<float> gradients, std::vector<float> energy) {
    return Sensitivity::fromMatrices(2, 2, moment, {}, gradients, energy, "model.layers.0.q").message();
  };
  const std::vector<float> good = {1, 0, 0, 1}, ones = {1, 1, 1, 1};
  EXPECT_NE(message({1, NAN, 0, 1}, ones, {1, 1}).find("model.layers.0.q.input_second_moment[1]"), std::string::npos);
  EXPECT_NE(message({1, 0, 0, -1}, ones, {1, 1}).find("negative"), std::string::npos);
  EXPECT_NE(message(good, {1, 1, INFINITY, 1}, {1, 1}).find("squared_gradient[2]"), std::string::npos);
  EXPECT_NE(message(good, ones, {1, -1}).find("output_squared_gradient[1]"), std::string::npos);
  EXPECT_NE(message({1, 0, 1}, ones, {1, 1}).find("expected 4 values, got 3"), std::string::npos);
  EXPECT_NE(message(good, ones, {1}).find("output_squared_gradient"), std::string::npos);
}

} // namespace
