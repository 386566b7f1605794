//===- ExpressionTest.cpp - normal forms of element expressions -------------===//

#include "Conversion/ONNXToLM/Expression.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace skim::raise;

namespace {
struct ExpressionTest : testing::Test {
  Expressions x;
  Expr batch = x.symbol("batch", 1), length = x.symbol("length", 1), past = x.symbol("past", 0);
  Expr total = x.add(past, length);
  Expr number(double value) { return x.number(value); }
};
} // namespace

TEST_F(ExpressionTest, SumsHaveOneForm) {
  Expr a = x.add(x.mul(batch, number(2)), length), b = x.add(length, x.add(batch, batch));
  EXPECT_EQ(a, b);
  EXPECT_EQ(x.sub(a, b), number(0));
  EXPECT_EQ(x.mul(x.add(batch, 1), x.add(batch, -1)), x.add(x.mul(batch, batch), -1));
}

TEST_F(ExpressionTest, RootsAndReciprocals) {
  Expr y = x.apply("tanh", {length});
  EXPECT_EQ(x.pow(x.pow(y, 0.5), -1), x.pow(y, -0.5));
  EXPECT_EQ(x.mul(y, x.pow(y, -1)), number(1));
  // sqrt(y²) is |y|, not y.
  EXPECT_NE(x.pow(x.pow(y, 2), 0.5), y);
  EXPECT_EQ(x.pow(number(4), -0.5), number(0.5));
}

TEST_F(ExpressionTest, SplitAndJoinedIndices) {
  Expr h = x.index(number(9)), d = x.index(number(64)), channel = x.index(number(576));
  Expr joined = x.add(x.mul(h, number(64)), d);
  EXPECT_EQ(x.floorDiv(joined, number(64)), h);
  EXPECT_EQ(x.mod(joined, number(64)), d);
  // Apart and together again.
  EXPECT_EQ(x.add(x.mul(x.floorDiv(channel, number(64)), number(64)), x.mod(channel, number(64))), channel);
  // What is less than the unit of the rest falls away.
  Expr row = x.index(x.mul(length, number(4)));
  EXPECT_EQ(x.floorDiv(x.add(x.mul(row, number(64)), d), number(256)), x.floorDiv(row, number(4)));
  // By a size: [batch, total] flattened.
  Expr b = x.index(batch), j = x.index(total);
  Expr flat = x.add(x.mul(b, total), j);
  EXPECT_EQ(x.floorDiv(flat, total), b);
  EXPECT_EQ(x.mod(flat, total), j);
  EXPECT_EQ(x.divideExactly(x.mul(x.mul(batch, total), number(64)), x.mul(total, number(8))), x.mul(batch, number(8)));
  EXPECT_FALSE(x.divideExactly(x.mul(batch, number(3)), number(2)));
}

TEST_F(ExpressionTest, OneValueIsNoVariable) { EXPECT_EQ(x.index(number(1)), number(0)); }

TEST_F(ExpressionTest, Bounds) {
  Expr i = x.index(length), j = x.index(total);
  EXPECT_TRUE(x.alwaysNonNegative(x.add(x.sub(total, j), -1)));
  EXPECT_TRUE(x.alwaysNonNegative(x.add(x.sub(total, x.add(past, i)), -1)));
  EXPECT_FALSE(x.alwaysNonNegative(x.sub(x.add(past, i), j)));
  EXPECT_TRUE(x.alwaysNonNegative(x.add(length, -1))); // a sequence has a token
  EXPECT_FALSE(x.alwaysNonNegative(x.add(past, -1)));
  EXPECT_EQ(x.nonNegative(x.sub(j, x.add(total, 3))), number(0));
  EXPECT_EQ(x.apply("max", {i, x.add(i, 2)}), x.add(i, 2));
}

TEST_F(ExpressionTest, ConditionsAndTheirNegations) {
  Expr i = x.index(length), j = x.index(length);
  Expr causal = x.nonNegative(x.sub(i, j)), future = x.nonNegative(x.add(x.sub(j, i), -1));
  EXPECT_EQ(x.logicalNot(causal), future);
  EXPECT_EQ(x.select(causal, i, j), x.select(future, j, i));
  EXPECT_EQ(x.select(causal, number(1), number(0)), causal);
  EXPECT_EQ(x.isZero(x.add(length, 1)), number(0));
  EXPECT_EQ(x.logicalOr(causal, number(1)), number(1));
}

TEST_F(ExpressionTest, SubstitutionTakesOneBranch) {
  Expr d = x.index(number(8)), half = number(4);
  Expr rotated = x.select(x.nonNegative(x.sub(d, half)), x.sub(d, half), x.neg(x.add(d, half)));
  Expr low = x.index(half);
  EXPECT_EQ(x.substitute(rotated, {{d, low}}), x.neg(x.add(low, half)));
  EXPECT_EQ(x.substitute(rotated, {{d, x.add(low, half)}}), low);
}

TEST_F(ExpressionTest, FunctionsOfNumbers) {
  Expr i = x.index(length);
  Expr angle = x.mul(i, number(0.5));
  EXPECT_EQ(x.substitute(x.apply("cos", {angle}), {{i, number(3)}}), number(std::cos(1.5)));
  EXPECT_EQ(x.apply("trunc", {i}), i);
}
