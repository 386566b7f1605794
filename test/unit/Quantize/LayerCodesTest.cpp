#include "skim/Quantize/LayerCodes.h"
#include "Layer.h"
#include "skim/Quantize/Codebook.h"

#include <cctype>
#include <gtest/gtest.h>
#include <numeric>
#include <set>

using namespace skim;

namespace {

double sum(const std::vector<double> &values) { return std::accumulate(values.begin(), values.end(), 0.0); }

/// Errors of a layer at one width after so much work.
std::vector<double> errorsAfter(const TestLayer &layer, unsigned bits, bool feedback, int rounds,
                                DType table = DType::I8) {
  const Sensitivity sensitivity = layer.sensitivity();
  CodeOptions options;
  options.table = table;
  options.feedback = feedback;
  options.rounds = rounds;
  auto matrix = quantizeLayer("layer", layer.view(), sensitivity, bits, options);
  EXPECT_TRUE(matrix) << matrix.message();
  const std::vector<float> decoded = decode(*matrix, CodebookFormat{bits, table, false});
  return sensitivity.rowErrors(layer.view(), MatrixView(decoded.data(), layer.rows, layer.columns));
}

TEST(LayerCodes, FeedbackBeatsRoundingAndLeastSquaresBeatFeedback) {
  const TestLayer layer(96, 200);
  for (unsigned bits : {1u, 2u, 3u, 4u}) {
    const double rounded = sum(errorsAfter(layer, bits, false, 0)), fed = sum(errorsAfter(layer, bits, true, 0)),
                 refined = sum(errorsAfter(layer, bits, true, 2));
    EXPECT_LT(fed, 0.8 * rounded) << bits;
    EXPECT_LT(refined, 0.95 * fed) << bits;
  }
}

TEST(LayerCodes, RoundsNeverRaiseTheObjective) {
  const TestLayer layer(70, 130, 5);
  for (DType table : {DType::I8, DType::F16, DType::BF16}) {
    for (bool feedback : {false, true}) {
      std::vector<double> before = errorsAfter(layer, 3, feedback, 0, table);
      for (int rounds = 1; rounds <= 4; ++rounds) {
        const std::vector<double> after = errorsAfter(layer, 3, feedback, rounds, table);
        for (int64_t n = 0; n < layer.rows; ++n)
          EXPECT_LE(after[n], before[n] * (1 + 1e-5)) << "row " << n << ", round " << rounds;
        before = after;
      }
    }
  }
}

TEST(LayerCodes, OfTheUnitMomentAreKMeans) {
  const TestLayer layer(20, 90, 3);
  const Sensitivity sensitivity = Sensitivity::unit(layer.rows, layer.columns);
  CodeOptions options;
  options.table = DType::F16;
  auto codes = quantizeLayer("layer", layer.view(), sensitivity, 3, options);
  auto kmeans = quantizeCodebook(layer.view(), {}, {3, DType::F16, false}, {});
  ASSERT_TRUE(codes && kmeans);
  EXPECT_NEAR(codes->squaredError, kmeans->squaredError, 1e-4 * kmeans->squaredError);
  EXPECT_LE(codes->squaredError, kmeans->squaredError * (1 + 1e-6));
}

TEST(LayerCodes, SmallRowsReachTheBestOfAllCodes) {
  // Every assignment of 6 columns to 2 entries, each with its best table.
  const TestLayer layer(40, 6, 11);
  const Sensitivity sensitivity = layer.sensitivity();
  CodeOptions options;
  options.table = DType::F16;
  options.rounds = 4;
  auto codes = quantizeLayer("layer", layer.view(), sensitivity, 1, options);
  ASSERT_TRUE(codes) << codes.message();
  const std::vector<float> decoded = decode(*codes, CodebookFormat{1, DType::F16, false});
  double found = 0, best = 0, rounded = sum(errorsAfter(layer, 1, false, 0, DType::F16));
  const double mean = std::accumulate(layer.energy.begin(), layer.energy.end(), 0.0) / double(layer.rows);
  for (int64_t n = 0; n < layer.rows; ++n) {
    const float *w = layer.weights.data() + n * 6;
    double least = INFINITY;
    for (unsigned mask = 0; mask < 64; ++mask) {
      // c = (PᵀFP)⁻¹PᵀFw by Cramer's rule.
      double a[2][2] = {}, g[2] = {}, constant = 0;
      for (int i = 0; i < 6; ++i) {
        for (int j = 0; j < 6; ++j) {
          const double f = layer.guided[i * 6 + j];
          a[mask >> i & 1][mask >> j & 1] += f;
          g[mask >> i & 1] += f * w[j];
          constant += f * w[i] * w[j];
        }
      }
      const double det = a[0][0] * a[1][1] - a[0][1] * a[1][0];
      const bool one = a[0][0] == 0 || a[1][1] == 0;
      const int q = a[0][0] == 0;
      least = std::min(
          least, one ? constant - g[q] * g[q] / a[q][q]
                     : constant - (g[0] * g[0] * a[1][1] - 2 * g[0] * g[1] * a[0][1] + g[1] * g[1] * a[0][0]) / det);
    }
    const double own = layer.quadratic(layer.guided, decoded, n);
    EXPECT_GE(own, least * (1 - 1e-3) - 1e-6);
    found += own * layer.energy[n] / mean;
    best += least * layer.energy[n] / mean;
  }
  // Coordinate descent ends in local optima; most of the way must be gone.
  EXPECT_LT(found - best, 0.35 * (rounded - best));
}

TEST(LayerCodes, RecordHoldsWhatItsCodesDecodeTo) {
  const TestLayer layer(66, 64, 7);
  const Sensitivity sensitivity = layer.sensitivity();
  RecordOptions options;
  options.errorsOfClusters = false;
  auto record = recordLayer("layer", layer.view(), sensitivity, options);
  ASSERT_TRUE(record) << record.message();
  ASSERT_EQ(record->widths(), 5u);
  for (unsigned b = 1; b <= 5; ++b) {
    const std::vector<float> decoded = decode(record->codes[b - 1], CodebookFormat{b, DType::I8, false});
    const std::vector<double> errors =
        sensitivity.rowErrors(layer.view(), MatrixView(decoded.data(), layer.rows, layer.columns));
    for (int64_t n = 0; n < layer.rows; ++n)
      EXPECT_NEAR(record->error(n, b), errors[n], 2e-3 * errors[n]) << n << " " << b;
  }
  for (ErrorMeasure measure : {ErrorMeasure::LFull, ErrorMeasure::SDiag}) {
    options.measure = measure;
    auto other = recordLayer("layer", layer.view(), sensitivity, options);
    ASSERT_TRUE(other) << other.message();
    EXPECT_EQ(other->codes[2].components[0].bytes, record->codes[2].components[0].bytes);
    const std::vector<float> decoded = decode(other->codes[2], CodebookFormat{3, DType::I8, false});
    EXPECT_FLOAT_EQ(
        other->error(5, 3),
        float(sensitivity.rowErrors(layer.view(), MatrixView(decoded.data(), layer.rows, layer.columns), measure)[5]));
  }
}

TEST(LayerCodes, ErrorsOfClustersAreThoseOfPlainKMeans) {
  const TestLayer layer(66, 64, 7);
  const Sensitivity sensitivity = layer.sensitivity();
  RecordOptions options, plain;
  plain.feedback = plain.errorsOfClusters = false;
  plain.rounds = 0;
  auto record = recordLayer("layer", layer.view(), sensitivity, options),
       rounded = recordLayer("layer", layer.view(), sensitivity, plain);
  ASSERT_TRUE(record && rounded);
  EXPECT_EQ(record->errors, rounded->errors);
  EXPECT_NE(record->codes[2].components[0].bytes, rounded->codes[2].components[0].bytes);
}

TEST(LayerCodes, FinishedRowsLieByWidthAndAreNoWorse) {
  const TestLayer layer(150, 72, 13);
  const Sensitivity sensitivity = layer.sensitivity();
  RecordOptions exact;
  exact.errorsOfClusters = false;
  auto record = recordLayer("layer", layer.view(), sensitivity, exact);
  ASSERT_TRUE(record) << record.message();
  std::vector<uint8_t> bits(layer.rows);
  for (int64_t n = 0; n < layer.rows; ++n)
    bits[n] = uint8_t(n % 7 == 0 ? 5 : 2 + n % 2);
  for (int rounds : {0, 3}) {
    FinishOptions options;
    options.rounds = rounds;
    auto finished = finishLayer("layer", *record, bits, layer.view(), sensitivity, options);
    ASSERT_TRUE(finished) << finished.message();
    ASSERT_EQ(finished->parts.size(), 3u);
    ASSERT_EQ(finished->permutation.size(), size_t(layer.rows));
    size_t stored = 0;
    for (const LayerPart &part : finished->parts)
      for (int64_t i = 0; i < part.matrix.rows; ++i, ++stored) {
        EXPECT_EQ(bits[finished->permutation[stored]], part.bits);
        if (i)
          EXPECT_LT(finished->permutation[stored - 1], finished->permutation[stored]);
      }
    const std::vector<float> decoded = decode(*finished, DType::I8, layer.columns);
    const MatrixView view(decoded.data(), layer.rows, layer.columns);
    const auto errors = sensitivity.rowErrors(layer.view(), view),
               full = sensitivity.rowErrors(layer.view(), view, ErrorMeasure::LFull);
    double before = 0;
    for (int64_t n = 0; n < layer.rows; ++n) {
      EXPECT_NEAR(finished->errors[n], errors[n], 2e-3 * errors[n]);
      EXPECT_NEAR(finished->lFull[n], full[n], 2e-3 * full[n]);
      EXPECT_LE(finished->errors[n], record->error(n, bits[n]) * (1 + 1e-4));
      before += record->error(n, bits[n]);
    }
    if (rounds)
      EXPECT_LT(sum(finished->errors), 0.995 * before);
  }
}

/// Rows of one part by the tests' own decoder.
static std::vector<float> decodePart(const LayerPart &part) {
  return isUniform(part.bits) ? decode(part.matrix, uniformFormatOf(part.bits))
                              : decode(part.matrix, codebookFormatOf(part.bits, DType::I8));
}

TEST(LayerCodes, FurtherTermsBesideCodebooks) {
  for (int64_t columns : {72, 300}) {
    const TestLayer layer(150, columns, 13);
    const Sensitivity sensitivity = layer.sensitivity();
    RecordOptions options;
    options.allTerms = true;
    auto record = recordLayer("layer", layer.view(), sensitivity, options);
    ASSERT_TRUE(record) << record.message();
    ASSERT_EQ(record->errors.size(), size_t(layer.rows) * record->terms());
    auto plain = recordLayer("layer", layer.view(), sensitivity, {});
    ASSERT_TRUE(plain) << plain.message();
    EXPECT_EQ(record->error(7, 3), plain->error(7, 3));
    for (size_t i = record->widths(); i < record->terms(); ++i) {
      const uint8_t term = record->term(i);
      const std::vector<uint8_t> terms(layer.rows, term);
      auto finished = finishLayer("layer", *record, terms, layer.view(), sensitivity);
      ASSERT_TRUE(finished) << finished.message();
      ASSERT_EQ(finished->parts.size(), 1u);
      uint64_t bytes = 0;
      for (const auto &component : finished->parts[0].matrix.components)
        bytes += component.bytes.size();
      EXPECT_EQ(bytes, layer.rows * storedRowBytes(term, DType::I8, columns) + sharedTableBytes(term));
      const std::vector<float> decoded = decodePart(finished->parts[0]);
      const auto errors = sensitivity.rowErrors(layer.view(), MatrixView(decoded.data(), layer.rows, columns));
      // What rounding to the nearest code loses is recorded; feedback and fitted grids and tables lose less.
      double rounded = 0;
      for (int64_t n = 0; n < layer.rows; ++n) {
        EXPECT_NEAR(finished->errors[n], errors[n], 2e-3 * errors[n] + 1e-9) << int(term);
        rounded += record->errors[n * record->terms() + i];
      }
      EXPECT_LT(sum(finished->errors), 0.8 * rounded) << int(term);
      FinishOptions less;
      less.rounds = 0;
      auto fed = finishLayer("layer", *record, terms, layer.view(), sensitivity, less);
      ASSERT_TRUE(fed) << fed.message();
      EXPECT_LT(sum(finished->errors), sum(fed->errors)) << int(term);
      // A table that rows share serves their sum.
      for (int64_t n = 0; n < layer.rows && !sharedTableBytes(term); ++n)
        EXPECT_LE(finished->errors[n], fed->errors[n] * (1 + 1e-4)) << int(term) << " row " << n;
      FinishOptions single;
      single.threads = 1;
      auto again = finishLayer("layer", *record, terms, layer.view(), sensitivity, single);
      ASSERT_TRUE(again) << again.message();
      for (size_t c = 0; c < again->parts[0].matrix.components.size(); ++c)
        EXPECT_EQ(again->parts[0].matrix.components[c].bytes, finished->parts[0].matrix.components[c].bytes);
    }
  }
}

TEST(LayerCodes, RowsOfManyKinds) {
  const TestLayer layer(150, 72, 13);
  const Sensitivity sensitivity = layer.sensitivity();
  RecordOptions options;
  options.allTerms = true;
  auto record = recordLayer("layer", layer.view(), sensitivity, options);
  ASSERT_TRUE(record) << record.message();
  const uint8_t kinds[] = {2, UniformRow + 8, AffineRow + 3, SharedRow + 3, HalfRow + 4, Affine64Row + 4};
  std::vector<uint8_t> terms(layer.rows);
  for (int64_t n = 0; n < layer.rows; ++n)
    terms[n] = kinds[n % 6];
  auto finished = finishLayer("layer", *record, terms, layer.view(), sensitivity);
  ASSERT_TRUE(finished) << finished.message();
  // In the order of their terms.
  ASSERT_EQ(finished->parts.size(), 6u);
  EXPECT_EQ(finished->permutation[25], 1u);
  for (size_t i = 0; i < 6; ++i) {
    const LayerPart &part = finished->parts[i];
    EXPECT_EQ(part.bits, kinds[i]);
    ASSERT_EQ(part.matrix.rows, 25);
    const std::vector<float> decoded = decodePart(part);
    for (int64_t row = 0; row < 25; ++row) {
      double error = 0;
      const int64_t n = finished->permutation[i * 25 + row];
      std::vector<float> whole(layer.rows * layer.columns);
      std::copy_n(decoded.begin() + row * layer.columns, layer.columns, whole.begin() + n * layer.columns);
      error = sensitivity.rowErrors(layer.view(), MatrixView(whole.data(), layer.rows, layer.columns))[n];
      EXPECT_NEAR(finished->errors[n], error, 2e-3 * error + 1e-9) << i << " " << row;
    }
  }
  EXPECT_EQ(finished->parts[2].matrix.find("zeros")->bytes.size(), 50u);
  EXPECT_EQ(finished->parts[3].matrix.find("table")->bytes.size(), 16u);
  EXPECT_EQ(finished->parts[4].matrix.find("table")->bytes.size(), 25u * 32);
  EXPECT_EQ(finished->parts[5].matrix.find("scales")->bytes.size(), 25u * 2 * 2); // the last group has 8 columns
}

TEST(LayerCodes, TermsHaveLettersAndFamilies) {
  std::set<char> letters;
  for (int64_t columns : {64, 576, 4096}) {
    const std::vector<uint8_t> further = furtherTerms(columns);
    const auto families = termFamilies(columns, 1, 5);
    std::set<uint8_t> covered;
    for (const auto &family : families) {
      EXPECT_EQ(std::set<uint8_t>(family.begin(), family.end()).size(), family.size());
      EXPECT_TRUE(std::equal(families[0].begin(), families[0].end(), family.begin()));
      for (uint8_t term : family) {
        covered.insert(term);
        EXPECT_EQ(termOfLetter(letterOf(term)), term) << int(term);
        EXPECT_TRUE(std::isalnum(static_cast<unsigned char>(letterOf(term))));
      }
    }
    EXPECT_EQ(covered.size(), 5 + further.size());
    for (uint8_t term : families[0])
      EXPECT_EQ(sharedTableBytes(term), 0u);
  }
  EXPECT_FALSE(termOfLetter('9'));
  EXPECT_FALSE(termOfLetter('"'));
}

TEST(LayerCodes, TableTypesAndScaling) {
  const TestLayer layer(64, 80, 17);
  const Sensitivity sensitivity = layer.sensitivity();
  auto record = recordLayer("layer", layer.view(), sensitivity, {});
  ASSERT_TRUE(record) << record.message();
  const std::vector<uint8_t> bits(layer.rows, 3);
  FinishOptions options;
  auto bytes = finishLayer("layer", *record, bits, layer.view(), sensitivity, options);
  options.table = DType::F16;
  auto halves = finishLayer("layer", *record, bits, layer.view(), sensitivity, options);
  ASSERT_TRUE(bytes && halves);
  EXPECT_NE(bytes->parts[0].matrix.find("table_scale"), nullptr);
  EXPECT_EQ(halves->parts[0].matrix.find("table_scale"), nullptr);
  EXPECT_NEAR(sum(bytes->errors), sum(halves->errors), 0.04 * sum(halves->errors));
  // With a scaling vector the decoded values times α are judged.
  options.alpha.resize(layer.columns);
  for (int64_t k = 0; k < layer.columns; ++k)
    options.alpha[k] = k % 2 ? 1.25f : 0.75f;
  auto scaled = finishLayer("layer", *record, bits, layer.view(), sensitivity, options);
  ASSERT_TRUE(scaled) << scaled.message();
  std::vector<float> decoded = decode(*scaled, DType::F16, layer.columns);
  for (size_t i = 0; i < decoded.size(); ++i)
    decoded[i] *= options.alpha[i % layer.columns];
  const auto errors = sensitivity.rowErrors(layer.view(), MatrixView(decoded.data(), layer.rows, layer.columns));
  EXPECT_NEAR(sum(errors), sum(scaled->errors), 2e-3 * sum(errors));
}

TEST(LayerCodes, ThreadsDoNotMatter) {
  const TestLayer layer(200, 96, 19);
  const Sensitivity sensitivity = layer.sensitivity();
  std::vector<uint8_t> bits(layer.rows);
  for (int64_t n = 0; n < layer.rows; ++n)
    bits[n] = uint8_t(1 + n % 3);
  std::vector<float> errors;
  std::vector<uint8_t> codes;
  for (unsigned threads : {1u, 2u, 7u}) {
    RecordOptions options;
    options.threads = threads;
    auto record = recordLayer("layer", layer.view(), sensitivity, options);
    ASSERT_TRUE(record) << record.message();
    FinishOptions finish;
    finish.threads = threads;
    auto finished = finishLayer("layer", *record, bits, layer.view(), sensitivity, finish);
    ASSERT_TRUE(finished) << finished.message();
    std::vector<uint8_t> all;
    for (const LayerPart &part : finished->parts)
      for (const auto &component : part.matrix.components)
        all.insert(all.end(), component.bytes.begin(), component.bytes.end());
    if (threads == 1) {
      errors = record->errors;
      codes = all;
    }
    EXPECT_EQ(record->errors, errors);
    EXPECT_EQ(all, codes);
  }
}

TEST(LayerCodes, DegenerateRowsAndColumns) {
  TestLayer layer(8, 40, 23);
  auto row = [&](int64_t n) { return layer.weights.data() + n * layer.columns; };
  std::fill_n(row(0), layer.columns, 0.0f);
  std::fill_n(row(1), layer.columns, -0.75f);
  for (int64_t k = 0; k < layer.columns; ++k) {
    row(2)[k] = float(k % 3);         // fewer values than centroids
    row(3)[k] = k == 7 ? 100 : 1e-6f; // one outlier
    row(4)[k] = 1e-7f * row(5)[k];
  }
  // Two columns that no token activates, and a moment of low rank.
  for (int64_t k : {4, 9})
    for (int64_t j = 0; j < layer.columns; ++j)
      for (std::vector<float> *m : {&layer.moment, &layer.guided})
        (*m)[k * layer.columns + j] = (*m)[j * layer.columns + k] = 0;
  for (int64_t i = 20; i < layer.columns; ++i)
    for (int64_t j = 0; j < layer.columns; ++j)
      layer.guided[i * layer.columns + j] = layer.guided[j * layer.columns + i] =
          layer.guided[(i - 20) * layer.columns + (j >= 20 ? j - 20 : j)];
  for (int64_t k = 0; k < layer.columns; ++k)
    layer.gradients[6 * layer.columns + k] = 0;
  layer.energy[6] = 0;
  const Sensitivity sensitivity = layer.sensitivity();
  auto record = recordLayer("layer", layer.view(), sensitivity, {});
  ASSERT_TRUE(record) << record.message();
  for (unsigned b = 1; b <= 5; ++b) {
    const std::vector<float> decoded = decode(record->codes[b - 1], CodebookFormat{b, DType::I8, false});
    for (size_t i = 0; i < decoded.size(); ++i)
      ASSERT_TRUE(std::isfinite(decoded[i])) << b << " " << i;
    for (int64_t k = 0; k < layer.columns; ++k) {
      EXPECT_EQ(decoded[k], 0);
      EXPECT_NEAR(decoded[layer.columns + k], -0.75f, 0.005f);
    }
    for (float error : record->errors)
      ASSERT_TRUE(std::isfinite(error) && error >= 0);
    // Columns that nothing reads are rounded to something of the row.
    EXPECT_LE(std::abs(decoded[7 * layer.columns + 4]), 4);
  }
  EXPECT_LT(record->error(2, 2), 1e-2 * record->error(5, 2)); // int8 holds 0, 1, 2 almost exactly
}

TEST(LayerCodes, BadInputIsAnError) {
  TestLayer layer(4, 16, 29);
  const Sensitivity sensitivity = layer.sensitivity();
  auto record = recordLayer("layer", layer.view(), sensitivity, {});
  ASSERT_TRUE(record) << record.message();
  auto message = [&](std::vector<uint8_t> bits) {
    return finishLayer("layer", *record, bits, layer.view(), sensitivity).message();
  };
  EXPECT_NE(message({3, 3, 6, 3}).find("row 2: expected 1 to 5 bits, got 6"), std::string::npos);
  EXPECT_NE(message({3, 3}).find("expected 4 rows, got 2"), std::string::npos);
  layer.weights[2 * 16 + 5] = NAN;
  EXPECT_NE(recordLayer("layer", layer.view(), sensitivity, {}).message().find("row 2, column 5"), std::string::npos);
  layer.weights[2 * 16 + 5] = 1e30f;
  EXPECT_NE(recordLayer("layer", layer.view(), sensitivity, {}).message().find("row 2"), std::string::npos);
  const Sensitivity other = Sensitivity::unit(4, 15);
  EXPECT_NE(recordLayer("layer", layer.view(), other, {}).message().find("expected 4 x 16, got 4 x 15"),
            std::string::npos);
}

} // namespace
