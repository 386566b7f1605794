// Short names of formats, components by name and type, counted bits.
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Location.h"
#include "mlir/IR/MLIRContext.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Skim/SkimEncodings.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace skim;

namespace {
class TermsTest : public ::testing::Test {
protected:
  TermsTest() { context.loadDialect<SkimDialect>(); }

  /// The attribute's text, then the activations if there are any; or the error.
  std::string parse(llvm::StringRef text) {
    std::string activations, error, result;
    WeightEncoding term = parseTerm(text, &context, activations, error);
    if (!term)
      return "error: " + error;
    EXPECT_TRUE(error.empty());
    llvm::raw_string_ostream(result) << term;
    return activations.empty() ? result : result + " " + activations;
  }
  WeightEncoding term(llvm::StringRef text) {
    std::string activations, error;
    return parseTerm(text, &context, activations, error);
  }
  std::string components(llvm::StringRef text, std::vector<int64_t> shape) {
    std::string result;
    llvm::raw_string_ostream stream(result);
    for (const Component &component : getComponents(term(text), shape))
      stream << component.name << " " << component.type << "\n";
    return result;
  }

  MLIRContext context;
};

TEST_F(TermsTest, short_names_are_terms) {
  EXPECT_EQ(parse("w4"), "#skim.uniform<bits = 4>");
  EXPECT_EQ(parse("w4g128"), "#skim.uniform<bits = 4, group = 128>");
  EXPECT_EQ(parse("w3g32a"), "#skim.uniform<bits = 3, group = 32, asymmetric>");
  EXPECT_EQ(parse("w2a"), "#skim.uniform<bits = 2, asymmetric>");
  EXPECT_EQ(parse("k3"), "#skim.codebook<bits = 3>");
  EXPECT_EQ(parse("k3i"), "#skim.codebook<bits = 3, table = i8>");
  EXPECT_EQ(parse("mx4"), "#skim.block_float<bits = 4, block = 16>");
  EXPECT_EQ(parse("p2"), "#skim.planes<bits = 2>");
  EXPECT_EQ(parse("p2b"), "#skim.planes<bits = 2, levels = 5>");
  EXPECT_EQ(parse("f16"), "#skim.dense<f16>");
  EXPECT_EQ(parse("bf16"), "#skim.dense<bf16>");
  EXPECT_EQ(parse("f32"), "#skim.dense<f32>");
  EXPECT_EQ(parse("k3i+r32"), "#skim.low_rank<#skim.codebook<bits = 3, table = i8>, rank = 32, "
                              "factors = #skim.block_float<bits = 8, block = 16>>");
}

TEST_F(TermsTest, activations_stand_behind) {
  EXPECT_EQ(parse("p2b-a8"), "#skim.planes<bits = 2, levels = 5> a8");
  EXPECT_EQ(parse("w4g128-a8"), "#skim.uniform<bits = 4, group = 128> a8");
  EXPECT_EQ(parse("mx4+r32-a8"), "#skim.low_rank<#skim.block_float<bits = 4, block = 16>, rank = 32, "
                                 "factors = #skim.block_float<bits = 8, block = 16>> a8");
}

TEST_F(TermsTest, attributes_are_terms) {
  EXPECT_EQ(parse("#skim.scaled<#skim.codebook<bits = 3>>"), "#skim.scaled<#skim.codebook<bits = 3>>");
  EXPECT_EQ(parse("#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>"),
            "#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>");
}

TEST_F(TermsTest, other_text_is_an_error_with_the_constraint) {
  for (const char *text : {"", "w", "q4", "w4g", "w4g128b", "k3x", "k3+r", "k3-a", "k3-a1", "k3-a9", "mx", "w4 ",
                           "p2bb", "w99999999999", "-a8", "+r32"})
    EXPECT_EQ(parse(text).substr(0, 34), "error: expected a format such as w") << text;
  EXPECT_EQ(parse("w9"), "error: expected bits from 1 to 8, got 9");
  EXPECT_EQ(parse("mx1"), "error: expected bits from 2 to 8, got 1");
  EXPECT_EQ(parse("k3+r0"), "error: expected a positive rank, got 0");
  EXPECT_EQ(parse("#skim.codebook<bits = 9>"), "error: expected bits from 1 to 8, got 9");
  EXPECT_EQ(parse("#skim.per_token<bits = 8>").substr(0, 33), "error: expected a weight encoding");
  EXPECT_EQ(parse("#skim.nothing").substr(0, 6), "error:");
  EXPECT_EQ(parse("#").substr(0, 6), "error:");
}

TEST_F(TermsTest, mutated_text_is_a_term_or_an_error) {
  const char *seeds[] = {"w4g128-a8", "k3i+r32", "#skim.uniform<bits = 4, group = 128, asymmetric, zero = f16>",
                         "#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>",
                         "#skim.low_rank<#skim.scaled<#skim.planes<bits = 2>>, rank = 2, factors = #skim.dense<f16>>"};
  const llvm::StringRef pieces = "#<>[](){},:=.-+\"' 0129abkwz\n\0#";
  uint64_t state = 1;
  auto next = [&](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  ScopedDiagnosticHandler silent(&context, [](Diagnostic &) { return success(); });
  for (int round = 0; round < 4000; ++round) {
    std::string text = seeds[next(std::size(seeds))];
    for (uint64_t change = next(4) + 1; change > 0; --change) {
      size_t at = next(text.size() + 1);
      switch (next(3)) {
      case 0:
        text.insert(at, 1, pieces[next(pieces.size())]);
        break;
      case 1:
        text.erase(at, next(8));
        break;
      default:
        text.resize(at);
      }
    }
    std::string activations, error;
    WeightEncoding result = parseTerm(text, &context, activations, error);
    EXPECT_EQ(static_cast<bool>(result), error.empty()) << text;
    // What parses has components that can be counted.
    if (result && succeeded(result.verifyWeight({48, 64}, Float16Type::get(&context),
                                                [&] { return emitError(UnknownLoc::get(&context)); })))
      EXPECT_GT(getStoredBits(result, {48, 64}), 0u) << text;
  }
}

TEST_F(TermsTest, names_come_back) {
  for (const char *text : {"w4", "w4g128", "w3g32a", "k3", "k3i", "mx4", "p2", "p2b", "k3i+r32", "w4g128+r8"})
    EXPECT_EQ(term(text).getShortName(), text);
  const char *long_name = "#skim.codebook<bits = 4, table = bf16, scope = tensor>";
  EXPECT_EQ(term(long_name).getShortName(), long_name);
}

TEST_F(TermsTest, components_carry_names_and_types) {
  EXPECT_EQ(components("bf16", {3, 5}), "data tensor<3x5xbf16>\n");
  EXPECT_EQ(components("w3g2a", {3, 5}), "codes tensor<3x2xi8>\nscales tensor<3x3xf16>\nzeros tensor<3x2xi8>\n");
  EXPECT_EQ(components("#skim.uniform<bits = 3, asymmetric, zero = f16>", {3, 5}),
            "codes tensor<3x2xi8>\nscales tensor<3x1xf16>\nzeros tensor<3x1xf16>\n");
  EXPECT_EQ(components("k3i", {3, 5}), "codes tensor<3x2xi8>\ntable tensor<3x8xi8>\ntable_scale tensor<3xf16>\n");
  EXPECT_EQ(components("#skim.codebook<bits = 2, scope = tensor>", {3, 5}),
            "codes tensor<3x2xi8>\ntable tensor<1x4xf16>\n");
  EXPECT_EQ(components("mx4", {3, 17}), "codes tensor<3x9xi8>\nexponents tensor<3x2xi8>\n");
  EXPECT_EQ(components("p2b", {3, 17}), "codes tensor<3x6xi8>\nscales tensor<3x1xf16>\nzeros tensor<3x1xi8>\n");
  EXPECT_EQ(components("p3b", {3, 17}), "codes tensor<3x12xi8>\nscales tensor<3x1xf16>\nzeros tensor<3x1xi8>\n");
}

TEST_F(TermsTest, nested_components_carry_their_path) {
  EXPECT_EQ(components("#skim.low_rank<#skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 1, #skim.dense<f16> : 2]>>, "
                       "rank = 2, factors = #skim.uniform<bits = 8>>",
                       {3, 5}),
            "rows.0.codes tensor<1x2xi8>\nrows.0.table tensor<1x4xf16>\nrows.1.data tensor<2x5xf16>\n"
            "permutation tensor<3xi16>\nalpha tensor<5xf16>\n"
            "low_rank.a.codes tensor<2x5xi8>\nlow_rank.a.scales tensor<2x1xf16>\n"
            "low_rank.b.codes tensor<3x2xi8>\nlow_rank.b.scales tensor<3x1xf16>\n");
}

TEST_F(TermsTest, bits_of_published_methods) {
  auto perWeight = [&](llvm::StringRef text, int64_t n, int64_t k) {
    return static_cast<double>(getStoredBits(term(text), {n, k})) / static_cast<double>(n * k);
  };
  EXPECT_DOUBLE_EQ(perWeight("w4g128", 4096, 4096), 4.125);
  EXPECT_DOUBLE_EQ(perWeight("k3", 4096, 4096), 3.0 + 8 * 16.0 / 4096);
  EXPECT_DOUBLE_EQ(perWeight("mx4", 4096, 4096), 4.5);
  // L2QER, W4 and rank 32 in 8 bits on a square layer: 4.5 and (8.5 · 2 · 32) / 4096.
  EXPECT_DOUBLE_EQ(perWeight("mx4+r32", 4096, 4096), 4.5 + 8.5 * 64 / 4096);
  // Three codes in 7 bits: 1366 · 7 bits fill 1196 bytes a row.
  EXPECT_DOUBLE_EQ(perWeight("p2b", 4096, 4096), (1196 * 8 + 24) / 4096.0);
}
} // namespace
