//===- GPULinearTest.cpp - every format on every GPU schedule ---------------===//
//
// Random components, decoded by the reference and multiplied in double, against
// the generated kernels in the simulator, which also traps what a device leaves
// undefined: awkward shapes, one to many rows of x, both modes. By default every
// format on every schedule and shape, in one of the modes and with some of the
// numbers of rows; SKIM_TEST_FULL takes the whole product.
//
//===----------------------------------------------------------------------===//

#include "RandomWeights.h"
#include "skim/Support/Threads.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/SimulatorLibrary.h"
#include "skim/Target/GPU/Tiles.h"

#include <cstdlib>
#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

namespace {
bool fullTests() { return std::getenv("SKIM_TEST_FULL") != nullptr; }

/// One linear in the simulator.
struct Case {
  RandomWeight weight;
  int64_t n, k;
  std::string mode = "f16";
  LinearEpilogue epilogue = LinearEpilogue::Store;
  bool biased = false;
};

/// True if decoded numbers are exact in f16 and scales apply to sums, in f32.
bool isExact(StringRef text) {
  static const char *const kRounded[] = {"f32", "bf16", "group = 20", "group = 8", "zero = f16", "scaled", "low_rank"};
  return llvm::none_of(kRounded, [&](const char *part) { return text.contains(part); });
}

/// What the launches of a case did, by kernel.
struct Outcome {
  std::vector<float> y;
  std::vector<sim::Counters> counters;
  std::string error;
};

Outcome simulate(MLIRContext &context, const Case &test, int64_t m, const std::vector<float> &x,
                 const std::vector<float> &bias, const std::vector<float> &gate, float before) {
  Outcome outcome;
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "kernels");
  LinearCall call;
  call.k = test.k;
  call.mode = test.mode;
  call.epilogue = test.epilogue;
  LinearPanel panel;
  panel.term = test.weight.term;
  panel.n = test.n;
  for (size_t i = 0; i < test.weight.bytes.size(); ++i)
    panel.weights.push_back(static_cast<int64_t>(i));
  panel.biasWeight = test.biased ? static_cast<int64_t>(test.weight.bytes.size()) : -1;
  call.panels.push_back(panel);
  auto target = parseGPUTarget("nvidia-sim:sm_80");
  auto plan = device::emitLinear(builder, module->getLoc(), kernels, *target, call, m);
  if (!plan) {
    outcome.error = plan.message();
    return outcome;
  }
  auto library = simulateKernels(*module);
  if (!library) {
    outcome.error = library.message();
    return outcome;
  }
  sim::Device device;
  sim::Address xAt = device.allocate("x", x.data(), x.size() * 4);
  std::vector<float> y(m * test.n, before);
  sim::Address yAt = device.allocate("y", y.data(), y.size() * 4);
  sim::Address gateAt = device.allocate("gate", gate.data(), gate.size() * 4);
  sim::Address scratch = device.allocate("scratch", std::max<int64_t>(plan->scratchBytes, 1));
  std::vector<sim::Address> weights;
  auto tiled = tiledComponents(test.weight.term, {test.n, test.k});
  for (auto [index, bytes] : llvm::enumerate(test.weight.bytes)) {
    std::vector<uint8_t> packed(bytes.size());
    packTiles(tiled[index], bytes, packed);
    weights.push_back(device.allocate("weight" + std::to_string(index), packed.data(), packed.size()));
    device.countBytes(weights.back());
  }
  weights.push_back(device.allocate("bias", bias.data(), bias.size() * 4));
  for (const device::LinearLaunch &launch : plan->launches) {
    std::vector<sim::Argument> arguments;
    for (const device::LaunchArgument &argument : launch.arguments)
      switch (argument.kind) {
      case device::LaunchArgument::X:
        arguments.push_back(sim::Argument::pointer(xAt + argument.offset));
        break;
      case device::LaunchArgument::Y:
        arguments.push_back(sim::Argument::pointer(yAt + argument.offset));
        break;
      case device::LaunchArgument::Gate:
        arguments.push_back(sim::Argument::pointer(gateAt + argument.offset));
        break;
      case device::LaunchArgument::Scratch:
        arguments.push_back(sim::Argument::pointer(scratch + argument.offset));
        break;
      case device::LaunchArgument::Weight:
        arguments.push_back(sim::Argument::pointer(weights[argument.value] + argument.offset));
        break;
      case device::LaunchArgument::Rows:
        arguments.push_back(sim::Argument::i32(static_cast<int32_t>(m)));
        break;
      case device::LaunchArgument::Stride:
        arguments.push_back(sim::Argument::i32(static_cast<int32_t>(test.n)));
        break;
      case device::LaunchArgument::Constant:
        arguments.push_back(sim::Argument::i32(static_cast<int32_t>(argument.value)));
        break;
      }
    sim::LaunchShape shape;
    for (int i = 0; i < 3; ++i)
      shape.grid[i] = static_cast<uint32_t>(launch.grid[i]);
    shape.block = {static_cast<uint32_t>(launch.threads), 1, 1};
    auto counters = (*library)->launch(device, launch.kernel, shape, arguments);
    if (!counters) {
      outcome.error = counters.message();
      return outcome;
    }
    outcome.counters.push_back(std::move(*counters));
  }
  outcome.y.resize(y.size());
  if (Error error = device.copyOut(outcome.y.data(), yAt, y.size() * 4))
    outcome.error = error.message();
  return outcome;
}

/// x of so few bits that rounding to f16 and bf16 leaves it alone.
std::vector<float> exactFloats(size_t count, std::mt19937 &random) {
  std::vector<float> values(count);
  for (float &value : values)
    value = static_cast<float>(static_cast<int>(random() % 129) - 64) / 16;
  return values;
}

void compare(MLIRContext &context, const Case &test, int64_t m, std::mt19937 &random) {
  int64_t n = test.n, k = test.k;
  SCOPED_TRACE(test.weight.text + " [" + std::to_string(n) + "x" + std::to_string(k) + "] rows " + std::to_string(m) +
               " " + test.mode);
  ASSERT_FALSE(test.weight.values.empty());
  std::vector<float> x = exactFloats(m * k, random), bias = exactFloats(n, random), gate = exactFloats(m * n, random);
  Outcome outcome = simulate(context, test, m, x, bias, gate, 0.25f);
  ASSERT_EQ(outcome.error, "");
  double worst = 0, worstAllowed = 1;
  for (int64_t row = 0; row < m; ++row)
    for (int64_t i = 0; i < n; ++i) {
      double sum = test.biased ? bias[i] : 0, size = std::abs(sum);
      for (int64_t j = 0; j < k; ++j) {
        double product = double(test.weight.values[i * k + j]) * x[row * k + j];
        sum += product;
        size += std::abs(product);
      }
      if (test.epilogue == LinearEpilogue::Add)
        sum += 0.25;
      if (test.epilogue == LinearEpilogue::Gate) {
        double silu = gate[row * n + i] / (1 + std::exp(-double(gate[row * n + i])));
        sum *= silu;
        size *= std::abs(silu);
      }
      // Of the sum of magnitudes: sums in f32; else four roundings to the mode's type (x·α, scale, weight, t = A·x).
      double unit = test.mode == "f16" ? 0x1p-11 : 0x1p-9;
      double allowed = size * (isExact(test.weight.text) && test.mode == "f16" ? 4e-6 : 4 * unit) + 1e-6;
      double error = std::abs(outcome.y[row * n + i] - sum);
      if (!(error / allowed <= worst / worstAllowed))
        worst = error, worstAllowed = allowed;
    }
  EXPECT_LE(worst, worstAllowed);
}

struct Shape {
  int64_t n, k;
};
constexpr Shape kShapes[] = {{1, 1}, {3, 5}, {15, 37}, {33, 130}, {257, 1024}};

/// Rows of x for the schedules: few, tiles of 16, tiles of 64 (and one more slab); all of them in a full run.
std::vector<int64_t> rowsOf(size_t number) {
  if (fullTests())
    return {1, 2, 5, 8, 9, 16, 33, 64, 70};
  constexpr int64_t few[] = {1, 2, 5, 8}, some[] = {9, 16}, many[] = {33, 64, 70};
  return {few[number % 4], some[number / 2 % 2], many[number % 3]};
}

class GPULinear : public testing::TestWithParam<const char *> {};
} // namespace

TEST_P(GPULinear, MatchesReference) {
  std::string mode = GetParam();
  struct Work {
    std::string text;
    Shape shape;
    size_t number;
  };
  std::vector<Work> all;
  for (auto [index, shape] : llvm::enumerate(kShapes)) {
    std::vector<std::string> terms(std::begin(kTerms), std::end(kTerms));
    for (const std::string &text : nestedTerms(shape.n, shape.k))
      terms.push_back(text);
    for (auto [number, text] : llvm::enumerate(terms))
      if (fullTests() || (number + index + (mode == "f16")) % 2 == 0)
        all.push_back({text, shape, number + index});
  }
  parallelFor(all.size(), 1, 0, [&](size_t begin, size_t, unsigned) {
    const Work &work = all[begin];
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(static_cast<unsigned>(begin));
    Case test{randomWeight(context, work.text, work.shape.n, work.shape.k, random), work.shape.n, work.shape.k, mode};
    test.biased = work.number % 3 == 0;
    test.epilogue = work.number % 4 == 1   ? LinearEpilogue::Add
                    : work.number % 4 == 2 ? LinearEpilogue::Gate
                                           : LinearEpilogue::Store;
    // Low-rank pairs add to y what a gate would have to multiply.
    if (StringRef(work.text).contains("low_rank") && test.epilogue == LinearEpilogue::Gate)
      test.epilogue = LinearEpilogue::Store;
    for (int64_t m : rowsOf(work.number))
      compare(context, test, m, random);
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, GPULinear, testing::Values("f16", "bf16"));

/// What a device would move: every byte of the weight once, in requests that waste nothing.
TEST(GPULinearCounts, WeightsAreReadOnceInWholeSectors) {
  const char *const terms[] = {"f16", "w4g128", "w8", "k1", "k2", "k3", "k4", "mx4", "p2"};
  parallelFor(std::size(terms), 1, 0, [&](size_t begin, size_t, unsigned) {
    const char *text = terms[begin];
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(5);
    // Blocks only, and with narrow blocks behind them; one row of x, and a slab.
    for (auto [k, m] : {std::pair<int64_t, int64_t>{4096, 1}, {1344, 1}, {1344, 16}}) {
      SCOPED_TRACE(std::string(text) + " " + std::to_string(k) + " rows " + std::to_string(m));
      Case test{randomWeight(context, text, 48, k, random), 48, k};
      std::vector<float> x = exactFloats(m * k, random);
      Outcome outcome = simulate(context, test, m, x, exactFloats(48, random), x, 0);
      ASSERT_EQ(outcome.error, "");
      ASSERT_EQ(outcome.counters.size(), 2u);
      const sim::Counters &counters = outcome.counters[1];
      const sim::BufferCounters *codes = counters.buffer("weight0");
      ASSERT_TRUE(codes && codes->counted);
      EXPECT_EQ(codes->leastReads, 1u);
      EXPECT_EQ(codes->mostReads, 1u);
      uint64_t sectors = 0;
      uint32_t inFlight = 0;
      for (const sim::OpCounters &op : counters.ops) {
        if (op.label != "weights")
          continue;
        EXPECT_EQ(op.sectors, op.idealSectors);
        sectors += op.sectors;
        inFlight = std::max(inFlight, op.loadsInFlight);
      }
      EXPECT_EQ(sectors * 32, codes->size);
      EXPECT_EQ(counters.bankConflicts(), 0u);
      // Those of one block of columns: what runs ahead in other iterations is beside them, unseen by this count.
      auto bits = static_cast<uint32_t>(tiledComponents(test.weight.term, {48, k})[0].bits);
      EXPECT_GE(inFlight, std::min(4u, bits));
      if (std::getenv("SKIM_DUMP_COUNTS"))
        std::printf("%s: %u loads in flight, %ld of %ld sectors\n%s\n", counters.kernel.c_str(), inFlight,
                    long(counters.sectors()), long(counters.idealSectors()), counters.json().c_str());
    }
  });
}
