#include "Dimension.h"

#include <gtest/gtest.h>

using namespace skim::onnx;

TEST(Dimension, ParsesWhatExportersWrite) {
  DimensionTable dims;
  Dim past = dims.symbol("past_sequence_length"), now = dims.symbol("sequence_length");
  EXPECT_EQ(dims.parse("past_sequence_length + sequence_length"), *dims.add(now, past));
  EXPECT_EQ(dims.parse("s16 + s17"), dims.parse("s17+s16"));
  EXPECT_EQ(dims.parse("2*(a + 3) - a"), dims.parse("a + 6"));
  EXPECT_EQ(dims.value(dims.parse("64")), 64);
  EXPECT_EQ(dims.text(dims.parse("b*s + 1")), "b*s + 1");
}

TEST(Dimension, OtherTextIsOneSymbol) {
  DimensionTable dims;
  for (const char *text : {"a +", "max(1, s)", "batch size", "(a", "", "a // 2", "99999999999999999999", "((((((((("})
    EXPECT_EQ(dims.text(dims.parse(text)), text) << text;
  EXPECT_EQ(dims.parse("a +"), dims.parse("a +"));
  EXPECT_EQ(dims.parse("max(1, s)"), dims.symbol("max(1, s)"));
  std::string deep(500, '(');
  EXPECT_EQ(dims.text(dims.parse(deep)), deep);
}

TEST(Dimension, Arithmetic) {
  DimensionTable dims;
  Dim a = dims.symbol("a"), b = dims.symbol("b"), two = dims.constant(2);
  Dim product = *dims.multiply(*dims.multiply(a, b), two);
  EXPECT_EQ(dims.divide(product, b), *dims.multiply(a, two));
  EXPECT_EQ(dims.divide(product, two), *dims.multiply(a, b));
  EXPECT_EQ(dims.divide(a, b), std::nullopt);
  EXPECT_EQ(dims.divide(*dims.add(a, two), two), std::nullopt);
  EXPECT_EQ(dims.divide(a, dims.constant(0)), std::nullopt);
  EXPECT_EQ(dims.divide(dims.constant(INT64_MIN), dims.constant(-1)), std::nullopt);
  EXPECT_EQ(dims.add(dims.constant(INT64_MAX), dims.constant(1)), std::nullopt);
  EXPECT_EQ(dims.multiply(dims.constant(INT64_MAX), two), std::nullopt);
  EXPECT_EQ(dims.value(*dims.subtract(product, product)), 0);
}

TEST(Dimension, OrderWhereCertain) {
  DimensionTable dims;
  Dim a = dims.symbol("a"), minusOne = dims.constant(-1);
  // A size is at least 0: `Equal(shape, -1)` is false.
  EXPECT_EQ(dims.compare(a, minusOne), 1);
  EXPECT_EQ(dims.compare(minusOne, a), -1);
  EXPECT_EQ(dims.compare(a, a), 0);
  EXPECT_EQ(dims.compare(a, dims.constant(0)), std::nullopt);
  EXPECT_EQ(dims.compare(a, dims.symbol("b")), std::nullopt);
  EXPECT_EQ(dims.compare(dims.unknown(/*signedValue=*/true), minusOne), std::nullopt);
  EXPECT_TRUE(dims.nonNegative(*dims.add(a, dims.constant(3))));
  EXPECT_FALSE(dims.nonNegative(*dims.subtract(a, dims.constant(3))));
}
