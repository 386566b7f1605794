#include "skim/Quantize/RowCoupling.h"
#include "Layer.h"

#include <gtest/gtest.h>
#include <limits>
#include <numeric>

using namespace skim;

namespace {

/// A layer whose outputs' gradients have a few directions in common.
struct Coupled {
  TestLayer layer;
  std::vector<double> outputs; // G [N,N]
  std::vector<float> packed;

  explicit Coupled(int64_t rows, int64_t columns, unsigned seed, double common = 1)
      : layer(rows, columns, seed), outputs(rows * rows) {
    const std::vector<float> basis = normalValues(3 * rows, seed + 40);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < rows; ++j) {
        for (int64_t d = 0; d < 3; ++d)
          outputs[i * rows + j] += common * basis[d * rows + i] * basis[d * rows + j];
        outputs[i * rows + j] += i == j ? 0.5 : 0;
        // Energies over two orders of magnitude.
        outputs[i * rows + j] *= std::sqrt(double(layer.energy[i]) * layer.energy[j]);
      }
    for (int64_t i = 0; i < rows; ++i)
      layer.energy[i] = float(outputs[i * rows + i]);
    pack();
  }
  void pack() {
    packed.clear();
    for (int64_t i = 0; i < layer.rows; ++i)
      for (int64_t j = i; j < layer.rows; ++j)
        packed.push_back(float(outputs[i * layer.rows + j]));
  }
  FinishedLayer finished(const Sensitivity &sensitivity, DType table = DType::I8, unsigned threads = 0,
                         std::vector<float> alpha = {}) const {
    std::vector<uint8_t> bits(layer.rows);
    for (int64_t n = 0; n < layer.rows; ++n)
      bits[n] = uint8_t(2 + n % 3);
    RecordOptions record;
    record.threads = threads;
    auto recorded = recordLayer("layer", layer.view(), sensitivity, record);
    FinishOptions finish;
    finish.table = table;
    finish.threads = threads;
    finish.alpha = std::move(alpha);
    auto result = finishLayer("layer", *recorded, bits, layer.view(), sensitivity, finish);
    EXPECT_TRUE(result) << result.message();
    return std::move(*result);
  }
  /// tr(G'·Δ·F·Δᵀ) by loops, G' with its elements off the diagonal × share.
  double loss(const FinishedLayer &found, double share, DType table = DType::I8,
              const std::vector<float> &alpha = {}) const {
    std::vector<float> decoded = decode(found, table, layer.columns);
    const int64_t n = layer.rows, k = layer.columns;
    for (size_t i = 0; i < decoded.size() && !alpha.empty(); ++i)
      decoded[i] *= alpha[i % k];
    std::vector<double> delta(n * k), right(n * k);
    for (int64_t i = 0; i < n * k; ++i)
      delta[i] = double(decoded[i]) - layer.weights[i];
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < k; ++j)
        for (int64_t l = 0; l < k; ++l)
          right[i * k + j] += delta[i * k + l] * layer.guided[l * k + j];
    double sum = 0;
    for (int64_t a = 0; a < n; ++a)
      for (int64_t b = 0; b < n; ++b)
        for (int64_t j = 0; j < k; ++j)
          sum += outputs[a * n + b] * (a == b ? 1 : share) * delta[a * k + j] * right[b * k + j];
    return sum;
  }
};

std::vector<uint8_t> bytesOf(const FinishedLayer &layer) {
  std::vector<uint8_t> all;
  for (const LayerPart &part : layer.parts)
    for (const auto &component : part.matrix.components)
      all.insert(all.end(), component.bytes.begin(), component.bytes.end());
  return all;
}

TEST(RowCoupling, LowersTheCoupledLossAndNeverRaisesIt) {
  const Coupled coupled(72, 60, 3);
  const Sensitivity sensitivity = coupled.layer.sensitivity();
  for (float share : {0.7f, 1.0f}) {
    FinishedLayer found = coupled.finished(sensitivity);
    const double before = coupled.loss(found, share);
    double last = before;
    for (int sweeps = 1; sweeps <= 4; ++sweeps) {
      found = coupled.finished(sensitivity);
      CouplingOptions options;
      options.share = share;
      options.sweeps = sweeps;
      Error error = coupleRows("layer", found, coupled.packed, coupled.layer.view(), sensitivity, options);
      ASSERT_FALSE(error) << error.message();
      const double now = coupled.loss(found, share);
      EXPECT_LE(now, last * (1 + 1e-5)) << sweeps;
      last = now;
    }
    EXPECT_LT(last, 0.8 * before) << share;
  }
}

TEST(RowCoupling, ReportsSquaresOfTheNewCodes) {
  const Coupled coupled(40, 48, 5);
  const Sensitivity sensitivity = coupled.layer.sensitivity();
  FinishedLayer found = coupled.finished(sensitivity);
  ASSERT_FALSE(coupleRows("layer", found, coupled.packed, coupled.layer.view(), sensitivity));
  const std::vector<float> decoded = decode(found, DType::I8, coupled.layer.columns);
  double squares = 0, stored = 0;
  EXPECT_TRUE(found.errors.empty() && found.lFull.empty());
  for (size_t i = 0; i < decoded.size(); ++i)
    squares += std::pow(double(decoded[i]) - coupled.layer.weights[i], 2);
  for (const LayerPart &part : found.parts)
    stored += part.matrix.squaredError;
  EXPECT_NEAR(stored, squares, 1e-5 * squares);
}

TEST(RowCoupling, TableTypesAndScaling) {
  const Coupled coupled(48, 40, 7);
  const Sensitivity sensitivity = coupled.layer.sensitivity();
  std::vector<float> alpha(coupled.layer.columns);
  for (size_t k = 0; k < alpha.size(); ++k)
    alpha[k] = k % 2 ? 1.25f : 0.75f;
  for (DType table : {DType::F16, DType::BF16, DType::I8}) {
    FinishedLayer found = coupled.finished(sensitivity, table, 0, alpha);
    const double before = coupled.loss(found, 0.7, table, alpha);
    CouplingOptions options;
    options.table = table;
    options.alpha = alpha;
    ASSERT_FALSE(coupleRows("layer", found, coupled.packed, coupled.layer.view(), sensitivity, options));
    EXPECT_LT(coupled.loss(found, 0.7, table, alpha), 0.9 * before);
  }
}

TEST(RowCoupling, ThreadsDoNotMatter) {
  const Coupled coupled(400, 32, 9);
  const Sensitivity sensitivity = coupled.layer.sensitivity();
  std::vector<uint8_t> bytes;
  for (unsigned threads : {1u, 2u, 7u}) {
    FinishedLayer found = coupled.finished(sensitivity, DType::I8, threads);
    CouplingOptions options;
    options.threads = threads;
    ASSERT_FALSE(coupleRows("layer", found, coupled.packed, coupled.layer.view(), sensitivity, options));
    if (bytes.empty())
      bytes = bytesOf(found);
    EXPECT_EQ(bytesOf(found), bytes);
  }
}

TEST(RowCoupling, RowsWithoutGradientStay) {
  Coupled coupled(40, 36, 11);
  for (int64_t j = 0; j < coupled.layer.rows; ++j)
    coupled.outputs[6 * coupled.layer.rows + j] = coupled.outputs[j * coupled.layer.rows + 6] = 0;
  coupled.layer.energy[6] = 0;
  coupled.pack();
  const Sensitivity sensitivity = coupled.layer.sensitivity();
  FinishedLayer found = coupled.finished(sensitivity);
  const std::vector<float> before = decode(found, DType::I8, coupled.layer.columns);
  ASSERT_FALSE(coupleRows("layer", found, coupled.packed, coupled.layer.view(), sensitivity));
  const std::vector<float> after = decode(found, DType::I8, coupled.layer.columns);
  const int64_t k = coupled.layer.columns;
  EXPECT_TRUE(std::equal(before.begin() + 6 * k, before.begin() + 7 * k, after.begin() + 6 * k));
  EXPECT_NE(before, after);
}

TEST(RowCoupling, BadStatisticsAreNamed) {
  Coupled coupled(20, 24, 13);
  const Sensitivity sensitivity = coupled.layer.sensitivity();
  FinishedLayer found = coupled.finished(sensitivity);
  auto message = [&](const std::vector<float> &packed) {
    return coupleRows("model.layers.0", found, packed, coupled.layer.view(), sensitivity).message();
  };
  std::vector<float> broken = coupled.packed;
  broken.pop_back();
  EXPECT_NE(message(broken).find("expected 210 values, got 209"), std::string::npos);
  broken = coupled.packed;
  broken[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(message(broken).find("model.layers.0.output_gradient_second_moment"), std::string::npos);
  broken = coupled.packed;
  broken[0] = -1;
  EXPECT_NE(message(broken).find("sum of squares is negative"), std::string::npos);
}

} // namespace
