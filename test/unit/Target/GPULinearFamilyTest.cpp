//===- GPULinearFamilyTest.cpp - calls whose launches share kernels ---------===//

#include "GPULinearCases.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/LinearFamily.h"

#include <gtest/gtest.h>
#include <random>

using namespace mlir;
using namespace skim;
using device::LinearFamilies;
using device::LinearFamily;

namespace {
using Panels = std::vector<std::pair<std::string, int64_t>>; // terms with their rows

LinearCall callOf(MLIRContext &context, const Panels &panels, int64_t k) {
  LinearCall call;
  call.k = k;
  call.mode = "f16";
  for (const auto &[text, n] : panels) {
    LinearPanel panel;
    std::string activations, error;
    panel.term = parseTerm(text, &context, activations, error);
    EXPECT_TRUE(panel.term) << text << " " << error;
    panel.n = n;
    panel.weights.assign(getComponents(panel.term, {n, k}).size(), 0);
    call.panels.push_back(panel);
  }
  return call;
}

class GPULinearFamily : public testing::Test {
protected:
  void SetUp() override { prepareGPUEmission(context); }
  LinearCall callOf(const Panels &panels, int64_t k) { return ::callOf(context, panels, k); }

  MLIRContext context{MLIRContext::Threading::DISABLED};
};

std::string rows(ArrayRef<std::pair<const char *, int64_t>> parts) {
  std::string text = "#skim.rows<[";
  for (auto [part, count] : parts)
    text += (text.back() == '[' ? "" : ", ") + ("#skim." + std::string(part)) + " : " + std::to_string(count);
  return text + "]>";
}

const char *const k1 = "codebook<bits = 1, table = i8>", *const k2 = "codebook<bits = 2, table = i8>",
                  *const k3 = "codebook<bits = 3, table = i8>", *const w8 = "uniform<bits = 8>";
} // namespace

/// Layers whose rows have other widths each: one kernel, and each layer's own result. Some have no rows of a kind, one
/// of them many more than the others, one is of one format.
TEST_F(GPULinearFamily, LaunchesShareKernels) {
  const int64_t k = 320;
  const std::vector<Panels> layers = {
      {{rows({{k1, 17}, {k2, 40}, {w8, 39}}), 96}, {rows({{k1, 21}, {k2, 10}, {w8, 1}}), 32}},
      {{rows({{k1, 80}, {k2, 16}}), 96}, {"k2i", 32}},
      {{rows({{k1, 95}, {k3, 1}}), 96}, {rows({{k2, 15}, {k3, 17}}), 32}},
      // More of the same kinds, so that few kernels are worth it.
      {{rows({{k2, 95}, {k3, 1}}), 96}, {rows({{k2, 15}, {k3, 17}}), 32}},
      {{rows({{k1, 90}, {k2, 5}, {k3, 1}}), 96}, {rows({{k1, 16}, {w8, 16}}), 32}},
      {{rows({{k1, 90}, {k2, 5}, {w8, 1}}), 96}, {rows({{k3, 16}, {w8, 16}}), 32}},
      {{rows({{k1, 90}, {k3, 6}}), 96}, {rows({{k1, 16}, {k3, 16}}), 32}},
  };
  // On the last target layers with wide codes have another schedule.
  const std::pair<const char *, int64_t> ways[] = {
      {"nvidia-sim:sm_80", 1}, {"nvidia-sim:sm_80", 5}, {"nvidia-sim:sm_80", 40}, {kWgmma, 70}};
  inParallel(std::size(ways), [&](size_t way, MLIRContext &context) {
    auto [target, m] = ways[way];
    std::mt19937 random(static_cast<unsigned>(way));
    std::vector<LinearCall> calls;
    for (const Panels &panels : layers)
      calls.push_back(::callOf(context, panels, k));
    LinearFamilies families(calls, *parseGPUTarget(target));
    std::map<const LinearFamily *, std::vector<std::string>> kernels;
    for (size_t layer = 0; layer < 3; ++layer) {
      const Panels &panels = layers[layer];
      const LinearFamily *family = families.find(calls[layer]);
      ASSERT_TRUE(family);
      Case test{randomWeight(context, panels[0].first, panels[0].second, k, random), panels[0].second, k};
      for (const auto &[text, n] : llvm::drop_begin(panels))
        test.more.emplace_back(randomWeight(context, text, n, k, random), n);
      test.family = family;
      test.target = target;
      test.multiprocessors = 16;
      test.epilogue = m == 5 ? LinearEpilogue::Add : LinearEpilogue::Store;
      Outcome outcome = compare(context, test, m, random);
      EXPECT_EQ(outcome.kernels.size(), m == 1 ? 1u : 2u);
      EXPECT_EQ(outcome.kernels, kernels.try_emplace(family, outcome.kernels).first->second);
    }
    if (StringRef(target) != kWgmma)
      EXPECT_LE(kernels.size(), 2u);
  });
}

TEST_F(GPULinearFamily, FewKindsKeepTheirKernels) {
  auto target = parseGPUTarget("nvidia:sm_80");
  std::vector<LinearCall> calls = {callOf({{"w3g64", 64}}, 128), callOf({{"w4g64", 64}}, 128),
                                   callOf({{"w3g64", 64}}, 128), callOf({{"w4g64", 32}}, 128)};
  LinearFamilies families(calls, *target);
  EXPECT_EQ(families.find(calls[0]), families.find(calls[2]));
  EXPECT_NE(families.find(calls[0]), families.find(calls[1]));
  EXPECT_NE(families.find(calls[1]), families.find(calls[3]));
  EXPECT_EQ(families.find(calls[0])->slots.size(), 1u);
  // Not among them; and with pairs a call is on its own.
  EXPECT_FALSE(families.find(callOf({{"w2g64", 64}}, 128)));
  LinearCall pair = callOf({{"w3g64+r8", 64}}, 128);
  EXPECT_FALSE(LinearFamilies(pair, *target).find(pair));
}

/// A launch has room for so many pieces and no more.
TEST_F(GPULinearFamily, UnionsFitALaunch) {
  auto target = parseGPUTarget("nvidia:sm_80");
  std::vector<LinearCall> calls;
  for (int64_t bits = 1; bits <= 8; ++bits)
    for (int64_t others = 1; others <= 8; ++others) {
      auto part = [](const char *kind, int64_t width, const char *rest) {
        return kind + std::string("<bits = ") + std::to_string(width) + rest + ">";
      };
      std::string a = part("codebook", bits, ""), b = part("codebook", others, ", table = i8"),
                  c = part("uniform", bits, ""), d = part("uniform", others, ", asymmetric");
      std::string text = rows({{a.c_str(), 7}, {b.c_str(), 9}, {c.c_str(), 20}, {d.c_str(), 12}});
      calls.push_back(callOf({{text, 48}, {text, 48}}, 128));
    }
  LinearFamilies families(calls, *target);
  std::set<const LinearFamily *> all;
  for (const LinearCall &call : calls) {
    const LinearFamily *family = families.find(call);
    ASSERT_TRUE(family);
    EXPECT_LE(family->slots.size(), 24u);
    all.insert(family);
    int64_t rows = 0;
    for (const LinearFamily::Slot &slot : family->slots) {
      EXPECT_LE(slot.typical, slot.most);
      rows += slot.typical;
    }
    EXPECT_NEAR(rows, 96, 12); // means are rounded
  }
  EXPECT_LE(all.size(), 24u);
}
