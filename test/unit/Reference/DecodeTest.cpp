// Stored bits and values of every term, computed by hand.
#include "skim/Reference/Decode.h"

#include "mlir/IR/MLIRContext.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Support/Float16.h"
#include "gtest/gtest.h"

#include <cmath>

using namespace mlir;
using namespace skim;

namespace {
using Bytes = std::vector<uint8_t>;

class DecodeTest : public ::testing::Test {
protected:
  DecodeTest() { context.loadDialect<SkimDialect>(); }

  WeightEncoding term(llvm::StringRef text) {
    std::string activations, error;
    WeightEncoding result = parseTerm(text, &context, activations, error);
    EXPECT_TRUE(result) << text.str() << ": " << error;
    return result;
  }

  /// Decodes; `bits` is what the components must count.
  std::vector<float> decode(llvm::StringRef text, std::vector<int64_t> shape, const std::vector<Bytes> &components) {
    WeightEncoding encoding = term(text);
    if (!encoding)
      return {};
    uint64_t bits = 0;
    std::vector<llvm::ArrayRef<uint8_t>> views;
    for (const Bytes &bytes : components) {
      views.push_back(bytes);
      bits += 8 * bytes.size();
    }
    EXPECT_EQ(getStoredBits(encoding, shape), bits) << text.str();
    return decodeWeight(encoding, shape, views);
  }

  static Bytes halves(std::initializer_list<float> values) {
    Bytes bytes;
    for (float value : values) {
      uint16_t half = f32ToF16(value);
      bytes.push_back(half & 255);
      bytes.push_back(half >> 8);
    }
    return bytes;
  }

  MLIRContext context;
};

using V = std::vector<float>;

TEST_F(DecodeTest, dense_is_the_number) {
  EXPECT_EQ(decode("f16", {1, 2}, {halves({1.5f, -2.0f})}), V({1.5f, -2.0f}));
  EXPECT_EQ(decode("bf16", {2, 1}, {{0x80, 0x3f, 0x00, 0xc0}}), V({1.0f, -2.0f}));
  EXPECT_EQ(decode("f32", {1, 1}, {{0, 0, 0x20, 0x41}}), V({10.0f}));
}

TEST_F(DecodeTest, uniform_symmetric_codes_are_offset) {
  // Codes 0, 7, 8, 15, 9 stand for -8, -1, 0, 7, 1; a row of 5 fills 3 bytes.
  EXPECT_EQ(decode("w4", {1, 5}, {{0x70, 0xf8, 0x09}, halves({0.5f})}), V({-4, -0.5f, 0, 3.5f, 0.5f}));
}

TEST_F(DecodeTest, uniform_three_bits_cross_bytes_and_the_last_group_is_short) {
  // Codes 7 6 5 and 4 3 as one number, the first lowest:
  // 7 + 6·8 + 5·64 + 4·512 + 3·4096 = 14711 = 0x3977.
  EXPECT_EQ(decode("w3g3", {1, 5}, {{0x77, 0x39}, halves({1, 10})}), V({3, 2, 1, 0, -10}));
}

TEST_F(DecodeTest, uniform_asymmetric_zeros_are_packed_rows) {
  // Two groups; zeros 1 and 3 in 2 bits: 0b1101.
  EXPECT_EQ(decode("w2g2a", {1, 3}, {{0b110110}, halves({1, 2}), {0b1101}}), V({1, 0, 0}));
  // Each row's zeros begin at a byte.
  EXPECT_EQ(decode("w2g1a", {2, 1}, {{3, 0}, halves({1, 1}), {1, 2}}), V({2, -2}));
}

TEST_F(DecodeTest, uniform_float_zero_and_wide_scale) {
  EXPECT_EQ(decode("#skim.uniform<bits = 2, asymmetric, zero = f16>", {1, 2}, {{0b1100}, halves({2}), halves({0.5f})}),
            V({-1, 5}));
  EXPECT_EQ(decode("#skim.uniform<bits = 8, scale = f32>", {1, 2}, {{0, 255}, {0, 0, 0x80, 0x3f}}), V({-128, 127}));
}

TEST_F(DecodeTest, codebook_tables_by_row_by_tensor_and_in_integers) {
  EXPECT_EQ(decode("k1", {2, 2}, {{0b01, 0b10}, halves({1, 2, 3, 4})}), V({2, 1, 3, 4}));
  EXPECT_EQ(decode("#skim.codebook<bits = 1, scope = tensor>", {2, 2}, {{0b01, 0b10}, halves({1, 2})}),
            V({2, 1, 1, 2}));
  EXPECT_EQ(decode("k1i", {2, 1}, {{1, 0}, {5, 0x80, 0xff, 7}, halves({0.5f, 2})}), V({-64, -2}));
  EXPECT_EQ(decode("#skim.codebook<bits = 1, table = bf16>", {1, 1}, {{1}, {0, 0, 0x80, 0xbf}}), V({-1}));
}

TEST_F(DecodeTest, block_float_is_the_papers_mxint) {
  // w4, e = 1 (stored 128): value = ±m·2^(1-3). Codes 7, 15, 0, 9 → 7, -7, 0, -1 quarters.
  EXPECT_EQ(decode("mx4", {1, 4}, {{0xf7, 0x90}, {128}}), V({1.75f, -1.75f, 0, -0.25f}));
  // Two blocks of two; w2 is ternary: m in {0, 1}, value ±2^(e-1). Codes 01, 11, 01.
  EXPECT_EQ(decode("#skim.block_float<bits = 2, block = 2>", {1, 3}, {{0b011101}, {127, 130}}), V({0.5f, -0.5f, 4}));
}

TEST_F(DecodeTest, block_float_of_ocp) {
  // Two's complement with bits - 2 fraction bits: 0x40 = 1, 0xc0 = -1, 0x80 = -2.
  EXPECT_EQ(decode("#skim.block_float<bits = 8, block = 32, element = ocp_int>", {1, 3}, {{0x40, 0xc0, 0x80}, {128}}),
            V({2, -2, -4}));
  // e2m1: 7 = 6, 9 = -0.5, 2 = 1.
  EXPECT_EQ(decode("#skim.block_float<bits = 4, block = 32, element = e2m1>", {1, 3}, {{0x97, 0x02}, {126}}),
            V({3, -0.25f, 0.5f}));
  EXPECT_TRUE(
      std::isnan(decode("#skim.block_float<bits = 4, block = 32, element = e2m1>", {1, 1}, {{0}, {255}}).front()));
}

TEST_F(DecodeTest, planes_lie_one_after_another) {
  // q = 2, 1, 3: plane 0 = 0b110, plane 1 = 0b101.
  EXPECT_EQ(decode("p2", {1, 3}, {{0b110, 0b101}, halves({0.5f}), {1}}), V({0.5f, 0, 1}));
  // Bit balance of one bit: levels 0 to 2 in two planes.
  EXPECT_EQ(decode("p1b", {1, 3}, {{0b010, 0b100}, halves({1}), {1}}), V({-1, 0, 1}));
}

TEST_F(DecodeTest, planes_of_five_levels_hold_three_codes_in_seven_bits) {
  // (4, 3, 2) = 4 + 15 + 50 = 69; (1) = 1: 69 + 1·128 = 197 in 14 bits: 2 bytes.
  EXPECT_EQ(decode("p2b", {1, 4}, {{197, 0}, halves({1}), {2}}), V({2, 1, 0, -1}));
  EXPECT_EQ(getStoredBits(term("p2b"), {1, 24}), 7u * 8 + 16 + 8);
}

TEST_F(DecodeTest, rows_permute) {
  EXPECT_EQ(decode("#skim.rows<[#skim.dense<f16> : 1, #skim.codebook<bits = 1> : 2]>", {3, 1},
                   {halves({9}), {0, 1}, halves({1, 2, 3, 4}), {2, 0, 0, 0, 1, 0}}),
            V({1, 4, 9}));
}

TEST_F(DecodeTest, rows_need_a_permutation) {
  Bytes data = halves({1, 2}), twice = {1, 0, 1, 0}, outside = {0, 0, 2, 0};
  WeightEncoding encoding = term("#skim.rows<[#skim.dense<f16> : 2]>");
  EXPECT_TRUE(decodeWeight(encoding, {2, 1}, {data, twice}).empty());
  EXPECT_TRUE(decodeWeight(encoding, {2, 1}, {data, outside}).empty());
}

TEST_F(DecodeTest, scaled_does_not_scale_the_low_rank_part) {
  EXPECT_EQ(decode("#skim.scaled<#skim.dense<f16>>", {2, 2}, {halves({1, 2, 3, 4}), halves({10, 100})}),
            V({10, 200, 30, 400}));
  EXPECT_EQ(decode("#skim.low_rank<#skim.scaled<#skim.dense<f16>>, rank = 1, factors = #skim.dense<f16>>", {2, 2},
                   {halves({1, 2, 3, 4}), halves({10, 100}), halves({1, -1}), halves({1, 2})}),
            V({11, 199, 32, 398}));
}

TEST_F(DecodeTest, low_rank_factors_are_encoded_along_their_last_dimension) {
  // mx8 factors: A [1, 17] has two blocks, B [1, 1] one. e = 7 (134): value = m.
  Bytes a(17, 0);
  a[0] = 3, a[16] = 0x85; // 3 and -5
  std::vector<float> w =
      decode("#skim.low_rank<#skim.dense<f32>, rank = 1, factors = #skim.block_float<bits = 8, block = 16>>", {1, 17},
             {Bytes(68, 0), a, {134, 134}, {2}, {134}});
  EXPECT_EQ(w[0], 6);
  EXPECT_EQ(w[1], 0);
  EXPECT_EQ(w[16], -10);
}

TEST_F(DecodeTest, stored_bits_count_padding) {
  EXPECT_EQ(getStoredBits(term("w3"), {2, 3}), 2u * (16 + 16));        // 9 bits → 2 bytes
  EXPECT_EQ(getStoredBits(term("k3"), {48, 64}), 48u * (24 + 16) * 8); // 24 code bytes, 8 halves a row
  EXPECT_EQ(getStoredBits(term("mx4"), {1, 17}), 9u * 8 + 2 * 8);
  EXPECT_EQ(getStoredBits(term("p3"), {1, 9}), 3u * 2 * 8 + 16 + 8);
  EXPECT_EQ(getStoredBits(term("#skim.rows<[#skim.dense<f16> : 65537]>"), {65537, 1}), 65537u * (16 + 32));
  EXPECT_EQ(getStoredBits(term("mx4+r2"), {16, 32}), 16u * (16 + 2) * 8 + (2 * (32 + 2) + 16 * (2 + 1)) * 8);
}

TEST_F(DecodeTest, wrong_sizes_are_refused) {
  Bytes two(2), one(1);
  EXPECT_TRUE(decodeWeight(term("w4"), {1, 2}, {one}).empty());
  EXPECT_TRUE(decodeWeight(term("w4"), {1, 2}, {one, one}).empty());
  EXPECT_TRUE(decodeWeight(term("w4"), {1, 0}, {two, two}).empty());
  EXPECT_TRUE(decodeWeight({}, {1, 1}, {}).empty());
}
} // namespace
