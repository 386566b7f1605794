#include "Decode.h"
#include "skim/Quantize/BitPacking.h"
#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/KMeans.h"
#include "skim/Quantize/RoundToNearest.h"
#include "skim/Support/Float16.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace skim;

#define EXPECT_HAS(TEXT, PART) EXPECT_NE((TEXT).find(PART), std::string::npos) << (TEXT)

namespace {

constexpr std::pair<int64_t, int64_t> shapes[] = {{1, 1}, {3, 5}, {15, 37}, {33, 130}, {17, 600}, {2, 0}};

bool sameBytes(const QuantizedMatrix &a, const QuantizedMatrix &b) {
  bool same = a.components.size() == b.components.size() && a.squaredError == b.squaredError;
  for (size_t i = 0; same && i < a.components.size(); ++i)
    same = a.components[i].bytes == b.components[i].bytes;
  return same;
}

double errorOf(const std::vector<float> &values, const std::vector<float> &decoded) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i)
    sum += (double(values[i]) - decoded[i]) * (double(values[i]) - decoded[i]);
  return sum;
}

template <typename Format> void checkComponents(const QuantizedMatrix &m, const Format &format) {
  std::vector<ComponentSpec> specs = componentsOf(format, m.rows, m.columns);
  ASSERT_EQ(specs.size(), m.components.size());
  uint64_t total = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    EXPECT_EQ(specs[i].shape, m.components[i].spec.shape);
    EXPECT_EQ(m.components[i].bytes.size(), *tensorBytes(specs[i].type, specs[i].shape));
    if (specs[i].rowBytes)
      EXPECT_EQ(m.components[i].bytes.size(), specs[i].rowBytes * m.rows);
    total += m.components[i].bytes.size();
  }
  EXPECT_EQ(storedBytes(specs), total);
}

std::vector<UniformFormat> uniformFormats() {
  std::vector<UniformFormat> out;
  for (unsigned bits = 1; bits <= 8; ++bits)
    for (int64_t group : {int64_t(0), int64_t(16), int64_t(7)})
      for (int kind = 0; kind < 3; ++kind)
        for (DType scale : {DType::F16, DType::BF16, DType::F32})
          out.push_back({bits, group, kind > 0, kind == 2, scale});
  return out;
}

} // namespace

TEST(BitPacking, RoundTrip) {
  std::mt19937 random(1);
  for (unsigned bits = 1; bits <= 8; ++bits) {
    for (size_t count : {0u, 1u, 2u, 3u, 5u, 7u, 8u, 9u, 15u, 16u, 17u, 63u, 100u, 577u}) {
      std::vector<uint8_t> codes(count), back(count + 1, 0xEE);
      for (uint8_t &code : codes)
        code = static_cast<uint8_t>(random() & ((1u << bits) - 1));
      std::vector<uint8_t> packed(packedBytes(count, bits) + 1, 0xEE);
      packBits(codes.data(), count, bits, packed.data());
      EXPECT_EQ(packed.back(), 0xEE); // nothing beyond the row
      for (size_t k = 0; k < count; ++k)
        EXPECT_EQ(readCode(packed, 0, int64_t(k), bits), codes[k]);
      if (count * bits % 8) // padding is zero
        EXPECT_EQ(packed[count * bits / 8] >> (count * bits % 8), 0);
      unpackBits(packed.data(), count, bits, back.data());
      EXPECT_EQ(back.back(), 0xEE);
      back.pop_back();
      EXPECT_EQ(back, codes);
    }
  }
}

TEST(Uniform, EveryFormatAndShape) {
  for (const UniformFormat &format : uniformFormats()) {
    for (auto [rows, columns] : shapes) {
      std::vector<float> values = normalValues(rows * columns, unsigned(rows * 7 + columns));
      auto m = quantizeUniform({values.data(), rows, columns}, format, {});
      ASSERT_TRUE(m) << m.message();
      checkComponents(*m, format);
      std::vector<float> decoded = decode(*m, format);
      EXPECT_NEAR(m->squaredError, errorOf(values, decoded), 1e-6 * (1 + m->squaredNorm));
      // Each code is the nearest: no other code of the same grid decodes nearer.
      const auto &scales = m->find("scales")->bytes;
      int64_t size = format.groupSize(columns), groups = format.numGroups(columns);
      for (int64_t n = 0; n < rows; ++n) {
        for (int64_t k = 0; k < columns; ++k) {
          float scale = std::abs(readFloat(format.scale, scales, n * groups + k / size));
          float value = values[n * columns + k], got = decoded[n * columns + k];
          float slack = scale * 1e-3f + 1e-6f;
          unsigned code = readCode(m->find("codes")->bytes, n * ((columns * format.bits + 7) / 8), k, format.bits);
          bool edge = code == 0 || code == (1u << format.bits) - 1;
          if (!edge)
            EXPECT_LE(std::abs(value - got), scale / 2 + slack);
        }
      }
    }
  }
}

TEST(Uniform, ErrorFallsWithBits) {
  std::vector<float> values = normalValues(16 * 512, 4);
  for (bool asymmetric : {false, true}) {
    double last = INFINITY;
    for (unsigned bits = 2; bits <= 8; ++bits) {
      auto m = quantizeUniform({values.data(), 16, 512}, {bits, 64, asymmetric}, {});
      ASSERT_TRUE(m);
      EXPECT_LT(m->squaredError, last / 2);
      last = m->squaredError;
      UniformOptions clipping;
      clipping.searchClipping = true;
      auto clipped = quantizeUniform({values.data(), 16, 512}, {bits, 64, asymmetric}, clipping);
      ASSERT_TRUE(clipped);
      EXPECT_LE(clipped->squaredError, m->squaredError);
      EXPECT_NEAR(clipped->squaredError, errorOf(values, decode(*clipped, UniformFormat{bits, 64, asymmetric})), 1e-6);
    }
  }
}

TEST(Uniform, SpecialRows) {
  std::vector<float> values = {0, 0, 0, 0, 2, 2, 2, 2, -3, -3, -3, -3, 0, 5, 0, 0, 1e-9f, -1e-9f, 0, 0};
  for (const UniformFormat &format : uniformFormats()) {
    auto m = quantizeUniform({values.data(), 5, 4}, format, {});
    ASSERT_TRUE(m) << m.message();
    std::vector<float> decoded = decode(*m, format);
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(decoded[i], 0.0f);
    bool wide = format.bits > 1 || format.asymmetric; // one symmetric bit has one sign only
    for (int i = 4; wide && i < 12; ++i)
      EXPECT_NEAR(decoded[i], values[i], 0.02f * std::abs(values[i])) << format.bits << format.asymmetric;
    // Zero is exact with an integer zero point.
    if (!format.floatZero)
      for (int i : {12, 14, 15})
        EXPECT_EQ(decoded[i], 0.0f);
    for (float value : decoded)
      EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(Uniform, SymmetricExtremeIsExact) {
  // The largest magnitude lies on the grid, whatever its sign.
  std::vector<float> values = {0.5f, -0.25f, 0.125f, 0.0f, 8.0f, -1.0f, 3.0f, 2.0f};
  auto m = quantizeUniform({values.data(), 1, 8}, {4}, {});
  ASSERT_TRUE(m);
  EXPECT_EQ(decode(*m, UniformFormat{4})[4], 8.0f);
}

TEST(Uniform, Refusals) {
  std::vector<float> values = normalValues(4 * 8, 1);
  QuantizeOptions base;
  base.firstRow = 100;
  UniformOptions options;
  options.firstRow = 100;
  values[2 * 8 + 5] = NAN;
  EXPECT_EQ(quantizeUniform({values.data(), 4, 8}, {}, options).message(),
            "weight is not finite at row 102, column 5: expected finite numbers, got nan");
  EXPECT_HAS(quantizeCodebook({values.data(), 4, 8}, {}, {}, base).message(), "row 102, column 5");
  values[2 * 8 + 5] = -INFINITY;
  EXPECT_HAS(quantizeUniform({values.data(), 4, 8}, {}, options).message(), "got -inf");
  values[2 * 8 + 5] = 3e38f;
  EXPECT_HAS(quantizeUniform({values.data(), 4, 8}, {}, options).message(),
             "exceeds the range of its scales at row 102");
  EXPECT_HAS(quantizeUniform({values.data(), 4, 8}, {4, 0, true}, options).message(), "row 102");
  EXPECT_TRUE(quantizeUniform({values.data(), 4, 8}, {4, 0, true, false, DType::BF16}, options));
  EXPECT_HAS(quantizeCodebook({values.data(), 4, 8}, {}, {}, base).message(),
             "exceeds the range of its table at row 102");
  EXPECT_HAS(quantizeCodebook({values.data(), 4, 8}, {}, {3, DType::I8}, base).message(), "row 102");
  EXPECT_TRUE(quantizeCodebook({values.data(), 4, 8}, {}, {3, DType::BF16}, base));
  values[2 * 8 + 5] = 0;
  std::vector<float> weights(32, 1.0f);
  weights[9] = -1;
  EXPECT_HAS(quantizeCodebook({values.data(), 4, 8}, {weights.data(), 4, 8}, {}, base).message(),
             "sensitivity is negative at row 101");
  weights[9] = INFINITY;
  EXPECT_HAS(quantizeCodebook({values.data(), 4, 8}, {weights.data(), 4, 8}, {}, base).message(),
             "sensitivity is not finite at row 101, column 1");
  EXPECT_HAS(quantizeCodebook({values.data(), 4, 8}, {weights.data(), 2, 8}, {}, base).message(), "expected 4 x 8");
}

TEST(Codebook, EveryFormatAndShape) {
  for (unsigned bits = 1; bits <= 8; ++bits) {
    for (DType table : {DType::F16, DType::BF16, DType::I8}) {
      for (auto [rows, columns] : shapes) {
        CodebookFormat format = {bits, table};
        std::vector<float> values = normalValues(rows * columns, unsigned(rows + columns));
        auto m = quantizeCodebook({values.data(), rows, columns}, {}, format, {});
        ASSERT_TRUE(m) << m.message();
        checkComponents(*m, format);
        std::vector<float> decoded = decode(*m, format);
        EXPECT_NEAR(m->squaredError, errorOf(values, decoded), 1e-9 * (1 + m->squaredNorm));
        // Every code is the nearest entry of its row's table.
        const auto &bytes = m->find("table")->bytes;
        for (int64_t n = 0; n < rows; ++n) {
          for (int64_t k = 0; k < columns; ++k) {
            float value = values[n * columns + k], got = std::abs(value - decoded[n * columns + k]);
            for (int64_t q = 0; q < int64_t(1) << bits; ++q) {
              float entry = table == DType::I8 ? readFloat(DType::F16, m->find("table_scale")->bytes, n) *
                                                     float(static_cast<int8_t>(bytes[(n << bits) + q]))
                                               : readFloat(table, bytes, (n << bits) + q);
              EXPECT_GE(std::abs(value - entry), got);
            }
          }
        }
      }
    }
  }
}

TEST(Codebook, RoundingCostsLittle) {
  std::vector<float> values = normalValues(8 * 1000, 7);
  for (unsigned bits = 1; bits <= 5; ++bits) {
    double exact = 0;
    KMeans1D solver;
    for (int64_t n = 0; n < 8; ++n) {
      solver.fit(std::span(values).subspan(n * 1000, 1000), nullptr, 1u << bits, true);
      exact += solver.error(1u << bits);
    }
    auto f16 = quantizeCodebook({values.data(), 8, 1000}, {}, {bits, DType::F16}, {});
    auto bf16 = quantizeCodebook({values.data(), 8, 1000}, {}, {bits, DType::BF16}, {});
    auto i8 = quantizeCodebook({values.data(), 8, 1000}, {}, {bits, DType::I8}, {});
    ASSERT_TRUE(f16 && bf16 && i8);
    EXPECT_GE(f16->squaredError, exact * (1 - 1e-9));
    EXPECT_LE(f16->squaredError, exact * 1.0005);
    EXPECT_LE(bf16->squaredError, exact * 1.02);
    EXPECT_LE(i8->squaredError, exact * 1.1);
    // And far below a uniform grid with as many levels.
    auto grid = quantizeUniform({values.data(), 8, 1000}, {bits, 0, true}, {});
    ASSERT_TRUE(grid);
    EXPECT_LT(f16->squaredError, grid->squaredError);
  }
}

TEST(Codebook, ExactWhereValuesAreFew) {
  // Q4_1-like rows: 16 values that f16 holds exactly.
  std::vector<float> values(4 * 256);
  std::mt19937 random(3);
  for (float &value : values)
    value = roundToF16(0.01f * float(random() % 16) - 0.07f);
  auto m = quantizeCodebook({values.data(), 4, 256}, {}, {4}, {});
  ASSERT_TRUE(m);
  EXPECT_EQ(m->squaredError, 0.0);
  EXPECT_EQ(decode(*m, CodebookFormat{4}), values);
}

TEST(Codebook, WeightsMatter) {
  std::vector<float> values = normalValues(6 * 300, 1), weights = normalValues(6 * 300, 2), shared = weights;
  for (float &weight : weights)
    weight = weight * weight * weight * weight;
  auto weightedError = [&](const std::vector<float> &decoded) {
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i)
      sum += double(weights[i]) * (values[i] - decoded[i]) * (values[i] - decoded[i]);
    return sum;
  };
  CodebookFormat format = {3};
  auto plain = quantizeCodebook({values.data(), 6, 300}, {}, format, {});
  auto weighted = quantizeCodebook({values.data(), 6, 300}, {weights.data(), 6, 300}, format, {});
  ASSERT_TRUE(plain && weighted);
  EXPECT_LT(weightedError(decode(*weighted, format)), 0.9 * weightedError(decode(*plain, format)));
  EXPECT_GT(weighted->squaredError, plain->squaredError);
  // Stride 0 gives every row the same weights.
  std::vector<float> repeated;
  for (int n = 0; n < 6; ++n)
    repeated.insert(repeated.end(), weights.begin(), weights.begin() + 300);
  auto a = quantizeCodebook({values.data(), 6, 300}, {weights.data(), 6, 300, 0}, format, {});
  auto b = quantizeCodebook({values.data(), 6, 300}, {repeated.data(), 6, 300}, format, {});
  ASSERT_TRUE(a && b);
  EXPECT_TRUE(sameBytes(*a, *b));
}

TEST(Codebook, SharedTable) {
  for (DType table : {DType::F16, DType::BF16, DType::I8}) {
    CodebookFormat format = {3, table, true};
    std::vector<float> values = normalValues(20 * 50, 3);
    for (float &value : values)
      value = roundToF16(value); // bins are exact then
    SharedTableFit fit(format);
    for (int64_t first = 0; first < 20; first += 6) // uneven blocks
      ASSERT_FALSE(fit.add({values.data() + first * 50, std::min<int64_t>(6, 20 - first), 50}, {}, {}));
    auto stored = fit.solve();
    ASSERT_TRUE(stored) << stored.message();
    auto m = encodeWithTable({values.data(), 20, 50}, format, *stored, {});
    ASSERT_TRUE(m);
    checkComponents(*m, format);
    EXPECT_NEAR(errorOf(values, decode(*m, format)), m->squaredError, 1e-9);
    // The same as one long row.
    auto row = quantizeCodebook({values.data(), 1, 1000}, {}, {3, table}, {});
    ASSERT_TRUE(row);
    EXPECT_EQ(row->find("table")->bytes, m->find("table")->bytes);
    EXPECT_NEAR(row->squaredError, m->squaredError, 1e-9);
  }
}

TEST(Determinism, ThreadsAndBlocks) {
  const int64_t rows = 61, columns = 333;
  std::vector<float> values = normalValues(rows * columns, 11);
  CodebookFormat codebook = {3, DType::I8};
  UniformFormat uniform = {4, 32, true};
  auto run = [&](int64_t first, int64_t count, unsigned threads) {
    UniformOptions options;
    options.threads = threads;
    MatrixView block(values.data() + first * columns, count, columns);
    return std::pair(*quantizeCodebook(block, {}, codebook, options), *quantizeUniform(block, uniform, options));
  };
  auto whole = run(0, rows, 1);
  for (unsigned threads : {2u, 7u}) {
    auto other = run(0, rows, threads);
    EXPECT_TRUE(sameBytes(whole.first, other.first));
    EXPECT_TRUE(sameBytes(whole.second, other.second));
  }
  // Blocks of rows laid one after another are the whole.
  for (int64_t first = 0; first < rows; first += 17) {
    int64_t count = std::min<int64_t>(17, rows - first);
    auto part = run(first, count, 2);
    auto check = [&](const QuantizedMatrix &all, const QuantizedMatrix &some) {
      for (size_t c = 0; c < all.components.size(); ++c) {
        const auto &bytes = some.components[c].bytes;
        EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(),
                               all.components[c].bytes.begin() + all.components[c].spec.rowBytes * first));
      }
    };
    check(whole.first, part.first);
    check(whole.second, part.second);
  }
}
