#include "skim/Quantize/TunableWeight.h"
#include "Layer.h"
#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/RoundToNearest.h"

#include <gtest/gtest.h>
#include <numeric>

using namespace skim;

namespace {

std::vector<uint32_t> places(int64_t rows) {
  std::vector<uint32_t> result(rows);
  std::iota(result.rbegin(), result.rend(), 0u); // stored rows lie the other way round
  return result;
}

/// Moves all values a little.
TunableWeight trained(TunablePart part, const QuantizedMatrix &matrix) {
  const std::vector<float> moves = normalValues(part.values().size(), 3);
  for (size_t i = 0; i < moves.size(); ++i)
    part.values()[i] *= 1 + 0.05f * moves[i];
  TunableWeight weight;
  weight.rows = matrix.rows;
  weight.columns = matrix.columns;
  weight.parts.push_back(std::move(part));
  return weight;
}

/// Stores trained values, and compares with what the tests' own decoder reads.
template <typename Format>
void expectStored(TunablePart part, QuantizedMatrix matrix, const Format &format, double tolerance) {
  TunableWeight weight = trained(std::move(part), matrix);
  const int64_t n = matrix.rows, k = matrix.columns;
  std::vector<float> wanted(n * k), stored(n * k);
  weight.decode(wanted.data(), 1);
  QuantizedMatrix *matrices[] = {&matrix};
  weight.store(matrices, Sensitivity::unit(n, k), 1);
  weight.decode(stored.data(), 1);
  const std::vector<float> read = decode(matrix, format);
  for (int64_t row = 0; row < n; ++row)
    for (int64_t j = 0; j < k; ++j) {
      const float value = stored[(n - 1 - row) * k + j];
      EXPECT_EQ(value, read[row * k + j]) << row << " " << j;
      EXPECT_NEAR(value, wanted[(n - 1 - row) * k + j], tolerance) << row << " " << j;
    }
}

TEST(TunableWeight, ValuesAreThoseThatAreStored) {
  const TestLayer layer(24, 70);
  for (unsigned bits : {1u, 3u, 5u})
    for (DType table : {DType::I8, DType::F16, DType::BF16}) {
      CodeOptions options;
      options.table = table;
      auto matrix = quantizeLayer("layer", layer.view(), layer.sensitivity(), bits, options);
      ASSERT_TRUE(matrix) << matrix.message();
      const CodebookFormat format{bits, table, false};
      // Half a step of 127 of the largest entry (which may have six per cent more range), or half of bf16's last place.
      expectStored(TunablePart::codebook(*matrix, format, places(layer.rows)), *matrix, format,
                   table == DType::I8 ? 4.2 * 1.06 / 254 : 4.2 / 512);
    }
  const CodebookFormat one{3, DType::F16, true};
  SharedTableFit fit(one);
  ASSERT_FALSE(fit.add(layer.view(), {}, {}));
  auto table = fit.solve();
  ASSERT_TRUE(table) << table.message();
  auto shared = encodeWithTable(layer.view(), one, *table, {});
  ASSERT_TRUE(shared) << shared.message();
  TunablePart part = TunablePart::codebook(*shared, one, places(layer.rows));
  EXPECT_EQ(part.values().size(), 8u);
  expectStored(std::move(part), *shared, one, 4.2 / 2048);
  for (UniformFormat format :
       {UniformFormat{4, 32, false}, UniformFormat{3, 0, true, true}, UniformFormat{2, 16, true}}) {
    auto matrix = quantizeUniform(layer.view(), format, {});
    ASSERT_TRUE(matrix) << matrix.message();
    expectStored(TunablePart::uniform(*matrix, format, places(layer.rows)), *matrix, format, 0.01);
  }
}

TEST(TunableWeight, EntriesOfATableMakeUpForEachOthersRounding) {
  const TestLayer layer(24, 70);
  const Sensitivity sensitivity = layer.sensitivity();
  auto matrix = quantizeLayer("layer", layer.view(), sensitivity, 4, {});
  ASSERT_TRUE(matrix) << matrix.message();
  const int64_t n = layer.rows, k = layer.columns;
  const std::vector<float> &moment = sensitivity.objective();
  // δ·F·δᵀ of each row against the trained values.
  auto errors = [&](const Sensitivity &by, unsigned threads) {
    TunableWeight weight = trained(TunablePart::codebook(*matrix, {4, DType::I8, false}, places(n)), *matrix);
    std::vector<float> wanted(n * k), stored(n * k);
    weight.decode(wanted.data(), 1);
    QuantizedMatrix copy = *matrix, *matrices[] = {&copy};
    weight.store(matrices, by, threads);
    weight.decode(stored.data(), 1);
    std::vector<double> result(n);
    for (int64_t row = 0; row < n; ++row)
      for (int64_t i = 0; i < k; ++i)
        for (int64_t j = 0; j < k; ++j)
          result[row] += double(stored[row * k + i] - wanted[row * k + i]) * moment[i * k + j] *
                         (stored[row * k + j] - wanted[row * k + j]);
    return result;
  };
  const std::vector<double> alone = errors(Sensitivity::unit(n, k), 1), together = errors(sensitivity, 1);
  EXPECT_EQ(together, errors(sensitivity, 3));
  EXPECT_LT(std::accumulate(together.begin(), together.end(), 0.0),
            0.8 * std::accumulate(alone.begin(), alone.end(), 0.0));
}

/// The gradient of a part's values against differences.
void expectGradients(TunablePart part, const TestLayer &layer) {
  const std::vector<float> slope = normalValues(layer.rows * layer.columns, 9);
  std::vector<float> alpha = normalValues(layer.columns, 10), gradient(part.values().size()),
                     decoded(layer.rows * layer.columns);
  part.accumulate(0, part.numSets(), alpha.data(), slope.data(), gradient.data());
  auto value = [&] {
    part.decode(0, layer.rows, alpha.data(), decoded.data());
    return std::inner_product(decoded.begin(), decoded.end(), slope.begin(), 0.0);
  };
  for (size_t i = 0; i < gradient.size(); ++i) {
    const float before = part.values()[i];
    part.values()[i] = before + 0.5f;
    const double up = value();
    part.values()[i] = before - 0.5f;
    EXPECT_NEAR(up - value(), gradient[i], 1e-4) << i;
    part.values()[i] = before;
  }
}

TEST(TunableWeight, GradientsOfValuesAreSumsOverTheirWeights) {
  const TestLayer layer(6, 40);
  auto own = quantizeLayer("layer", layer.view(), layer.sensitivity(), 2, {});
  ASSERT_TRUE(own) << own.message();
  expectGradients(TunablePart::codebook(*own, {2, DType::I8, false}, places(layer.rows)), layer);
  const UniformFormat grids{3, 16};
  auto uniform = quantizeUniform(layer.view(), grids, {});
  ASSERT_TRUE(uniform) << uniform.message();
  expectGradients(TunablePart::uniform(*uniform, grids, places(layer.rows)), layer);
  const CodebookFormat format{2, DType::F16, true};
  auto shared = encodeWithTable(layer.view(), format, {{}, {}, {-2.0f, -0.5f, 0.5f, 2.0f}}, {});
  ASSERT_TRUE(shared) << shared.message();
  expectGradients(TunablePart::codebook(*shared, format, places(layer.rows)), layer);
}

} // namespace
