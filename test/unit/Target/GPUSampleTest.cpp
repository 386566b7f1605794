//===- GPUSampleTest.cpp - choosing tokens on the device --------------------===//

#include "Simulation.h"
#include "Step/Kernels.h"
#include "skim/Runtime/DeviceStep.h"
#include "skim/Target/GPU/Emit.h"

#include <algorithm>
#include <cmath>
#include <random>

using namespace mlir;
using namespace skim;

namespace {

/// The number that the CPU draws (skim_rt_uniform).
float uniformOf(uint64_t seed, uint64_t counter) {
  uint64_t z = seed + counter * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<float>(z >> 40) * 0x1p-24f;
}

/// Where a token's part of the probabilities begins and ends, after the cuts that abi.h describes; 0 and 0 if it is
/// cut.
std::pair<double, double> partOf(const std::vector<float> &logits, const SampleState &state, int32_t token) {
  float top = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  for (float x : logits)
    p.push_back(std::exp((static_cast<double>(x) - top) / state.temperature));
  std::vector<size_t> order(p.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  size_t kept = state.topK > 0 ? std::min<size_t>(order.size(), static_cast<size_t>(state.topK)) : order.size();
  double total = 0, sum = 0;
  for (size_t i = 0; i < kept; ++i)
    total += p[order[i]];
  size_t nucleus = 0;
  // A border that lies within rounding belongs to both sides: one more is allowed.
  while (nucleus < kept && sum < static_cast<double>(state.topP) * total * (1 + 1e-6))
    sum += p[order[nucleus++]];
  std::vector<bool> in(p.size());
  for (size_t i = 0; i < nucleus; ++i)
    in[order[i]] = true;
  double before = 0, all = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    if (i == static_cast<size_t>(token))
      before = all;
    all += in[i] ? p[i] : 0;
  }
  if (!in[static_cast<size_t>(token)])
    return {0, 0};
  return {before / all, (before + p[static_cast<size_t>(token)]) / all};
}

/// The kernel for a vocabulary, in the simulator.
struct Sampler {
  MLIRContext context;
  sim::Device device;
  std::unique_ptr<sim::Module> module;
  device::StepKernel kernel;
  int64_t vocabulary;

  explicit Sampler(int64_t vocabulary) : vocabulary(vocabulary) {
    prepareGPUEmission(context);
    prepareSimulation(context);
    auto source = ModuleOp::create(UnknownLoc::get(&context));
    OwningOpRef<ModuleOp> owner(source);
    OpBuilder builder(source.getBodyRegion());
    auto kernels = gpu::GPUModuleOp::create(builder, source.getLoc(), "step");
    kernel = device::sampleKernel({builder, source.getLoc(), kernels}, vocabulary);
    auto built = simulateKernels(source);
    EXPECT_TRUE(bool(built)) << built.message();
    if (built)
      module = std::move(*built);
  }

  /// Tokens for rows of logits; `states` as the kernel leaves them.
  std::vector<int32_t> run(const std::vector<float> &logits, std::vector<SampleState> &states) {
    size_t rows = states.size();
    std::vector<int32_t> start, count, chosen(rows), tokens(rows), wanted(rows);
    for (size_t r = 0; r < rows; ++r) {
      start.push_back(static_cast<int32_t>(10 * r));
      count.push_back(static_cast<int32_t>(r + 1));
    }
    std::vector<sim::Address> at;
    auto put = [&](const char *name, const void *data, size_t bytes) {
      at.push_back(device.allocate(name, data, bytes));
      return sim::Argument::pointer(at.back());
    };
    std::vector<sim::Argument> arguments = {put("logits", logits.data(), logits.size() * 4),
                                            put("states", states.data(), rows * sizeof(SampleState))};
    for (auto *list : {&chosen, &tokens, &start, &count, &wanted})
      arguments.push_back(put("list", list->data(), rows * 4));
    sim::LaunchShape shape{{static_cast<uint32_t>(rows), 1, 1}, {static_cast<uint32_t>(kernel.threads), 1, 1}};
    auto counters = module->launch(device, kernel.name, shape, arguments);
    EXPECT_TRUE(bool(counters)) << counters.message();
    auto get = [&](size_t index, void *data, size_t bytes) {
      Error error = device.copyOut(data, at[index], bytes);
      EXPECT_FALSE(bool(error)) << error.message();
    };
    get(1, states.data(), rows * sizeof(SampleState));
    size_t index = 2;
    for (auto *list : {&chosen, &tokens, &start, &count, &wanted})
      get(index++, list->data(), rows * 4);
    for (sim::Address address : at)
      device.release(address);
    // What the next step reads.
    EXPECT_EQ(tokens, chosen);
    for (size_t r = 0; r < rows; ++r) {
      EXPECT_EQ(start[r], static_cast<int32_t>(10 * r + r + 1));
      EXPECT_EQ(count[r], 1);
      EXPECT_EQ(wanted[r], static_cast<int32_t>(r));
    }
    return chosen;
  }
};

std::vector<float> randomLogits(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(static_cast<size_t>(count));
  for (float &x : logits)
    x = normal(random);
  return logits;
}

} // namespace

TEST(GPUSample, Greedy) {
  for (int64_t vocabulary : {1, 31, 57, 512, 5000}) {
    Sampler sampler(vocabulary);
    ASSERT_TRUE(sampler.module);
    std::vector<float> logits = randomLogits(vocabulary, 3), second = randomLogits(vocabulary, 4);
    // The largest stands twice: the first one counts.
    float top = *std::max_element(logits.begin(), logits.end());
    logits[static_cast<size_t>(vocabulary) - 1] = logits[static_cast<size_t>(vocabulary) / 2] = top;
    auto first = [](const std::vector<float> &x) {
      return static_cast<int32_t>(std::max_element(x.begin(), x.end()) - x.begin());
    };
    std::vector<int32_t> expected = {first(logits), first(second)};
    logits.insert(logits.end(), second.begin(), second.end());
    std::vector<SampleState> states(2, SampleState{0, 5, 0.5f, 0, 9, 4});
    EXPECT_EQ(sampler.run(logits, states), expected) << vocabulary;
    EXPECT_EQ(states[0].counter, 4u) << "nothing was drawn";
  }
}

TEST(GPUSample, DrawsWhatTheCpuDraws) {
  for (int64_t vocabulary : {57, 512, 3000}) {
    Sampler sampler(vocabulary);
    ASSERT_TRUE(sampler.module);
    std::vector<float> row = randomLogits(vocabulary, 5);
    for (SampleState how :
         {SampleState{1, 0, 1, 0, 0, 0}, SampleState{0.7f, 10, 1, 0, 0, 0}, SampleState{1.3f, 0, 0.8f, 0, 0, 0},
          SampleState{2, 40, 0.9f, 0, 0, 0}, SampleState{0.01f, 0, 0.5f, 0, 0, 0}}) {
      std::vector<float> logits;
      std::vector<SampleState> states;
      for (uint64_t r = 0; r < 8; ++r) {
        logits.insert(logits.end(), row.begin(), row.end());
        how.seed = 77 + r / 2;
        how.counter = r * 1000;
        states.push_back(how);
      }
      std::vector<SampleState> before = states;
      std::vector<int32_t> tokens = sampler.run(logits, states);
      for (size_t r = 0; r < tokens.size(); ++r) {
        ASSERT_TRUE(tokens[r] >= 0 && tokens[r] < vocabulary);
        EXPECT_EQ(states[r].counter, before[r].counter + 1);
        double drawn = static_cast<double>(uniformOf(before[r].seed, before[r].counter + 1));
        auto [begin, end] = partOf(row, before[r], tokens[r]);
        EXPECT_TRUE(begin - 1e-5 <= drawn && drawn <= end + 1e-5)
            << "vocabulary " << vocabulary << ", top-k " << how.topK << ", top-p " << how.topP << ": drew " << drawn
            << ", token " << tokens[r] << " has " << begin << " to " << end;
      }
    }
  }
}

TEST(GPUSample, TiesAtTheCutGoToLowerTokens) {
  Sampler sampler(57);
  ASSERT_TRUE(sampler.module);
  std::vector<float> row(57, 1.0f);
  std::vector<float> logits;
  std::vector<SampleState> states;
  for (uint64_t r = 0; r < 32; ++r) {
    logits.insert(logits.end(), row.begin(), row.end());
    states.push_back({1, 3, 1, 0, r, 0});
  }
  std::vector<bool> seen(57);
  for (int32_t token : sampler.run(logits, states))
    seen[static_cast<size_t>(token)] = true;
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 3);
  EXPECT_TRUE(seen[0] && seen[1] && seen[2]);
}
