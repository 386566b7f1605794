//===- GPULinearBytesTest.cpp - x in bytes ----------------------------------===//

#include "GPULinearCases.h"
#include "skim/Target/GPU/Emit.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

/// x in bytes: weights that are integers, whatever is around them.
TEST(GPULinearBytes, MatchesReference) {
  std::vector<Work> all;
  for (auto [index, shape] : llvm::enumerate(kShapes)) {
    std::string half = std::to_string(shape.n / 2), rest = std::to_string(shape.n - shape.n / 2);
    std::vector<std::string> terms = {"w4g128",
                                      "w4g32a",
                                      "w3g64",
                                      "w2",
                                      "w1a",
                                      "w5g128",
                                      "w8",
                                      "w7g128a",
                                      "k1i",
                                      "k2i",
                                      "k3i",
                                      "k4i",
                                      "k5i",
                                      "k8i",
                                      "#skim.codebook<bits = 2, table = i8, scope = tensor>",
                                      "#skim.uniform<bits = 4, group = 64, scale = f32>",
                                      "p1",
                                      "p2",
                                      "p2b",
                                      "p3b",
                                      "p8",
                                      "#skim.planes<bits = 2, group = 32>",
                                      "#skim.planes<bits = 3, group = 128>",
                                      "#skim.planes<bits = 4, group = 256>",
                                      "#skim.scaled<#skim.planes<bits = 2, group = 384>>",
                                      "#skim.scaled<#skim.codebook<bits = 3, table = i8>>"};
    if (shape.n > 1)
      terms.push_back("#skim.rows<[#skim.codebook<bits = 2, table = i8> : " + half +
                      ", #skim.uniform<bits = 3, group = 32, asymmetric> : " + rest + "]>");
    if (shape.k > 64) {
      terms.push_back("#skim.low_rank<#skim.codebook<bits = 3, table = i8>, rank = 20, factors = #skim.dense<f16>>");
      terms.push_back("k4i+r32");
    }
    for (auto [number, text] : llvm::enumerate(terms))
      if (fullTests() || (number + index) % 2 == 0)
        all.push_back({text, shape, number + index});
  }
  inParallel(all.size(), [&](size_t begin, MLIRContext &context) {
    const Work &work = all[begin];
    std::mt19937 random(static_cast<unsigned>(begin));
    Case test = caseOf(context, work, "a8", random);
    for (int64_t m : rowsOf(work.number)) {
      Outcome outcome = compare(context, test, m, random);
      ASSERT_FALSE(outcome.counters.empty());
      // B·t is behind the product.
      const std::string &last = outcome.counters.back().kernel;
      EXPECT_NE(last.find(hasPair(work.text) ? "_f16_" : "_a8_"), std::string::npos) << last;
    }
    if (StringRef(work.text).contains("codebook") || work.text[0] == 'k' || (work.number / 2 % 3 && !fullTests()))
      return;
    // Chips without binary products.
    test.target = "nvidia-sim:sm_100";
    for (int64_t m : rowsOf(work.number))
      if (m <= 8)
        EXPECT_EQ(compare(context, test, m, random).counters.back().kernel.find("_b1"), std::string::npos);
  });
}

/// Planes of a weight beside bytes: each is multiplied with x as it wants it.
TEST(GPULinearBytes, PlanesBesideOthers) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  prepareGPUEmission(context);
  prepareSimulation(context);
  std::mt19937 random(21);
  for (int64_t m : {1, 3}) {
    Case test{randomWeight(context, "p2", 40, 700, random), 40, 700, "a8"};
    test.more.push_back({randomWeight(context, "k3i", 24, 700, random), 24});
    test.more.push_back({randomWeight(context, "p2", 17, 700, random), 17});
    Outcome outcome = compare(context, test, m, random);
    auto launched = [&](StringRef part) {
      return llvm::count_if(outcome.counters,
                            [&](const auto &counters) { return StringRef(counters.kernel).contains(part); });
    };
    EXPECT_EQ(launched("_b1_"), m == 1);
    EXPECT_EQ(launched("pack_"), m == 1 ? 0 : 1);
    EXPECT_EQ(outcome.counters.size(), 2u);
  }
}

/// Every byte of the codes once, in whole sectors, and no bank twice.
TEST(GPULinearBytes, Counts) {
  const char *const terms[] = {"w4g128", "w8", "k2i", "k3i", "k4i", "p2", "#skim.planes<bits = 4, group = 128>"};
  inParallel(std::size(terms), [&](size_t begin, MLIRContext &context) {
    std::mt19937 random(3);
    for (int64_t m : {1, 5, 16, 64}) {
      Case test{randomWeight(context, terms[begin], 48, 2048, random), 48, 2048, "a8"};
      Outcome outcome = compare(context, test, m, random);
      ASSERT_EQ(outcome.counters.size(), m == 1 ? 1u : 2u);
      const sim::Counters &counters = outcome.counters.back();
      bool binary = m == 1 && terms[begin][0] != 'k' && StringRef(terms[begin]) != "w8";
      EXPECT_EQ(counters.kernel.find("_b1") != std::string::npos, binary) << counters.kernel;
      EXPECT_EQ(outcome.counters.front().bankConflicts(), 0u) << terms[begin] << " " << m;
      EXPECT_EQ(counters.bankConflicts(), 0u) << terms[begin] << " " << m;
      const sim::BufferCounters *codes = counters.buffer("weight0");
      ASSERT_TRUE(codes);
      EXPECT_EQ(codes->leastReads, 1u) << terms[begin] << " " << m;
      EXPECT_EQ(codes->mostReads, 1u) << terms[begin] << " " << m;
    }
  });
}

TEST(GPULinearBytes, OtherWeightsFail) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  prepareGPUEmission(context);
  prepareSimulation(context);
  std::mt19937 random(3);
  for (auto [text, message] :
       {std::pair<const char *, const char *>{"f16", "no kernel for activations a8 at #skim.dense<f16>: expected "
                                                     "values that are integers of 8 bits, got others"},
        {"k3", "expected values that are integers of 8 bits"},
        {"p8b", "expected values that are integers of 8 bits"},
        {"mx4", "expected values that are integers of 8 bits"},
        {"#skim.uniform<bits = 4, group = 20>", "expected groups of multiples of 32 columns, got 20"},
        {"#skim.uniform<bits = 8, asymmetric>", "expected values that are integers of 8 bits"},
        {"#skim.uniform<bits = 4, group = 32, asymmetric, zero = f16>",
         "expected values that are integers of 8 bits"}}) {
    Case test{randomWeight(context, text, 16, 256, random), 16, 256, "a8"};
    Outcome outcome =
        simulate(context, test, 1, std::vector<float>(256), std::vector<float>(16), std::vector<float>(16), 0);
    EXPECT_NE(outcome.error.find(message), std::string::npos) << text << ": " << outcome.error;
  }
}
