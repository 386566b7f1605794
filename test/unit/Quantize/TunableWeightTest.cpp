#include "skim/Quantize/TunableWeight.h"
#include "Layer.h"
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

/// Moves all values a little, stores them, and compares with what the tests' own decoder reads.
template <typename Format>
void expectStored(TunablePart part, QuantizedMatrix matrix, const Format &format, double tolerance) {
  const std::vector<float> moves = normalValues(part.values().size(), 3);
  for (size_t i = 0; i < moves.size(); ++i)
    part.values()[i] *= 1 + 0.05f * moves[i];
  const int64_t n = matrix.rows, k = matrix.columns;
  std::vector<float> wanted(n * k), stored(n * k);
  part.decode(0, n, nullptr, wanted.data());
  part.store(matrix);
  part.decode(0, n, nullptr, stored.data());
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
  for (UniformFormat format :
       {UniformFormat{4, 32, false}, UniformFormat{3, 0, true, true}, UniformFormat{2, 16, true}}) {
    auto matrix = quantizeUniform(layer.view(), format, {});
    ASSERT_TRUE(matrix) << matrix.message();
    expectStored(TunablePart::uniform(*matrix, format, places(layer.rows)), *matrix, format, 0.01);
  }
}

TEST(TunableWeight, GradientsOfValuesAreSumsOverTheirWeights) {
  const TestLayer layer(6, 40);
  auto matrix = quantizeLayer("layer", layer.view(), layer.sensitivity(), 2, {});
  ASSERT_TRUE(matrix) << matrix.message();
  TunablePart part = TunablePart::codebook(*matrix, {2, DType::I8, false}, places(layer.rows));
  const std::vector<float> slope = normalValues(layer.rows * layer.columns, 9);
  std::vector<float> alpha = normalValues(layer.columns, 10), gradient(part.values().size()),
                     decoded(layer.rows * layer.columns);
  part.accumulate(0, layer.rows, alpha.data(), slope.data(), gradient.data());
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

} // namespace
