//===- GPULinearLibraryTest.cpp - decoded weights, and a library's product --===//

#include "GPULinearCases.h"
#include "skim/Target/GPU/Emit.h"

#include <gtest/gtest.h>
#include <random>

using namespace mlir;
using namespace skim;

static const char *const kLibrary = "nvidia-sim:sm_80+cublas";

/// Every leaf, in rows and columns that fill no tile and no block.
TEST(GPULinearLibrary, MatchesReference) {
  const char *const terms[] = {"f16",
                               "bf16",
                               "f32",
                               "w4g128",
                               "w3g64",
                               "w4g32a",
                               "w8",
                               "w1a",
                               "k1",
                               "k3",
                               "k4i",
                               "k5",
                               "k8i",
                               "mx4",
                               "p2",
                               "p3b",
                               "p2b",
                               "#skim.uniform<bits = 6, group = 20, asymmetric, zero = f16>",
                               "#skim.scaled<#skim.codebook<bits = 2>>",
                               "#skim.block_float<bits = 4, block = 32, element = e2m1>"};
  constexpr Shape shapes[] = {{3, 5}, {33, 130}, {20, 576}};
  inParallel(std::size(terms) * 2, [&](size_t index, MLIRContext &context) {
    std::mt19937 random(static_cast<unsigned>(index));
    Shape shape = shapes[index % std::size(shapes)];
    Case test{randomWeight(context, terms[index / 2], shape.n, shape.k, random), shape.n, shape.k};
    test.mode = index % 2 ? "bf16" : "f16";
    test.epilogue = index / 2 % 2 ? LinearEpilogue::Add : LinearEpilogue::Store;
    test.target = kLibrary;
    Outcome outcome = compare(context, test, 256, random);
    EXPECT_EQ(outcome.kernels.size(), 3u);
    EXPECT_EQ(outcome.kernels.back(), "cublas");
  });
}

/// Linears on the same x are one product, the parts of `rows` where y has their columns.
TEST(GPULinearLibrary, PanelsAndPartsAreOneProduct) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  prepareGPUEmission(context);
  prepareSimulation(context);
  std::mt19937 random(4);
  const char *const rows =
      "#skim.rows<[#skim.codebook<bits = 2, table = i8> : 5, #skim.uniform<bits = 4, group = 64> : 31]>";
  Case test{randomWeight(context, rows, 36, 320, random), 36, 320};
  test.more.emplace_back(randomWeight(context, "k3i", 16, 320, random), 16);
  test.more.emplace_back(randomWeight(context, rows, 36, 320, random), 36);
  test.target = kLibrary;
  Outcome outcome = compare(context, test, 300, random);
  EXPECT_EQ(outcome.kernels.size(), 3u);
  EXPECT_EQ(outcome.kernels.back(), "cublas");
}

/// What a library does not pay for or cannot do is ours: few rows, biases, low-rank pairs, bytes, several α.
TEST(GPULinearLibrary, OthersKeepKernels) {
  struct Other {
    const char *text, *mode;
    int64_t m;
    bool biased, pair;
  };
  for (const Other &other : {Other{"k3", "f16", 64, false, false}, Other{"k3", "f16", 256, true, false},
                             Other{"k3+r8", "f16", 256, false, false}, Other{"k3i", "a8", 256, false, false},
                             Other{"#skim.scaled<#skim.codebook<bits = 3>>", "f16", 256, false, true}}) {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(9);
    Case test{randomWeight(context, other.text, 33, 64, random), 33, 64, other.mode};
    test.biased = other.biased;
    test.target = kLibrary;
    if (other.pair)
      test.more.emplace_back(randomWeight(context, "k3", 16, 64, random), 16);
    Outcome outcome = compare(context, test, other.m, random);
    EXPECT_FALSE(llvm::is_contained(outcome.kernels, "cublas")) << other.text;
  }
}
