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

/// One linear in the simulator, or some on the same x.
struct Case {
  RandomWeight weight;
  int64_t n, k;
  std::string mode = "f16";
  LinearEpilogue epilogue = LinearEpilogue::Store;
  bool biased = false;
  std::vector<std::pair<RandomWeight, int64_t>> more = {}; // with their rows
  int multiprocessors = 108;
  bool descending = false;  // order of blocks
  int repeats = 1;          // of all launches, on the same memory
  int32_t firstCounter = 0; // what the counters begin with
  uint64_t requests = uint64_t(1) << 30;
  const char *target = "nvidia-sim:sm_80";

  int64_t columns() const {
    int64_t sum = n;
    for (const auto &[other, rows] : more)
      sum += rows;
    return sum;
  }
};

/// True if decoded numbers are exact in f16 and scales apply to sums, in f32.
bool isExact(StringRef text) {
  static const char *const kRounded[] = {"f32", "bf16", "group = 20", "group = 8", "zero = f16", "scaled", "low_rank"};
  return llvm::none_of(kRounded, [&](const char *part) { return text.contains(part); });
}

bool hasPair(StringRef text) { return text.contains("low_rank") || text.contains("+r"); }

/// What the launches of a case did, by kernel.
struct Outcome {
  std::vector<float> y;
  std::vector<sim::Counters> counters;
  std::vector<std::array<int64_t, 3>> grids;
  std::vector<uint8_t> scratch;
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
  sim::Device device;
  std::vector<sim::Address> weights;
  int64_t columns = 0;
  auto addPanel = [&](const RandomWeight &weight, int64_t n) {
    LinearPanel panel;
    panel.term = weight.term;
    panel.n = n;
    panel.yColumn = columns;
    auto tiled = tiledComponents(weight.term, {n, test.k});
    for (auto [index, bytes] : llvm::enumerate(weight.bytes)) {
      std::vector<uint8_t> packed(bytes.size());
      packTiles(tiled[index], bytes, packed);
      panel.weights.push_back(static_cast<int64_t>(weights.size()));
      weights.push_back(device.allocate("weight" + std::to_string(weights.size()), packed.data(), packed.size()));
      device.countBytes(weights.back());
    }
    if (test.biased) {
      panel.biasWeight = static_cast<int64_t>(weights.size());
      weights.push_back(device.allocate("bias", bias.data() + columns, n * 4));
    }
    columns += n;
    call.panels.push_back(panel);
  };
  addPanel(test.weight, test.n);
  for (const auto &[weight, n] : test.more)
    addPanel(weight, n);
  auto target = parseGPUTarget(test.target);
  target->multiprocessors = test.multiprocessors;
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
  sim::Address xAt = device.allocate("x", x.data(), x.size() * 4);
  std::vector<float> y(m * columns, before);
  sim::Address yAt = device.allocate("y", y.data(), y.size() * 4);
  sim::Address gateAt = device.allocate("gate", gate.data(), gate.size() * 4);
  sim::Address scratch = device.allocate("scratch", std::max<int64_t>(plan->scratchBytes, 1));
  std::vector<uint32_t> zeros(plan->counters + 1);
  zeros[0] = static_cast<uint32_t>(test.firstCounter);
  sim::Address counters = device.allocate("counters", zeros.data(), zeros.size() * 4);
  device.limitRequests(test.requests);
  std::vector<device::LinearLaunch> launches;
  for (int i = 0; i < test.repeats; ++i)
    launches.insert(launches.end(), plan->launches.begin(), plan->launches.end());
  for (const device::LinearLaunch &launch : launches) {
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
      case device::LaunchArgument::Counters:
        arguments.push_back(sim::Argument::pointer(counters));
        break;
      case device::LaunchArgument::Weight:
        arguments.push_back(sim::Argument::pointer(weights[argument.value] + argument.offset));
        break;
      case device::LaunchArgument::Rows:
        arguments.push_back(sim::Argument::i32(static_cast<int32_t>(m)));
        break;
      case device::LaunchArgument::Stride:
        arguments.push_back(sim::Argument::i32(static_cast<int32_t>(columns)));
        break;
      case device::LaunchArgument::Constant:
        arguments.push_back(sim::Argument::i32(static_cast<int32_t>(argument.value)));
        break;
      }
    sim::LaunchShape shape;
    for (int i = 0; i < 3; ++i)
      shape.grid[i] = static_cast<uint32_t>(launch.extents(m)[i]);
    shape.block = {static_cast<uint32_t>(launch.threads), 1, 1};
    shape.descending = test.descending;
    auto counted = (*library)->launch(device, launch.kernel, shape, arguments);
    if (!counted) {
      outcome.error = counted.message();
      return outcome;
    }
    outcome.counters.push_back(std::move(*counted));
    outcome.grids.push_back(launch.extents(m));
  }
  if (Error error = device.copyOut(zeros.data(), counters, zeros.size() * 4))
    outcome.error = error.message();
  for (uint32_t counter : zeros)
    if (counter)
      outcome.error = "a counter is not zero behind a launch";
  outcome.scratch.resize(plan->scratchBytes);
  if (Error error = device.copyOut(outcome.scratch.data(), scratch, outcome.scratch.size()))
    outcome.error = error.message();
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

/// α of a weight, or nothing.
std::vector<float> alphaOf(const RandomWeight &weight, int64_t n, int64_t k) {
  std::vector<float> alpha;
  for (auto [component, bytes] : llvm::zip(getComponents(weight.term, {n, k}), weight.bytes))
    for (int64_t i = 0; component.kind == ComponentKind::Alpha && i < k; ++i) {
      uint16_t half;
      std::memcpy(&half, bytes.data() + 2 * i, 2);
      alpha.push_back(f16ToF32(half));
    }
  return alpha;
}

/// What a row of x is for weights [.., k] once x·α is bytes: each as it should be, s·q ÷ α.
std::vector<double> asBytes(const float *x, int64_t k, const std::vector<float> &alpha) {
  auto scaled = [&](int64_t j) { return alpha.empty() ? x[j] : x[j] * alpha[static_cast<size_t>(j)]; };
  float largest = 0;
  for (int64_t j = 0; j < k; ++j)
    largest = std::max(largest, std::fabs(scaled(j)));
  float factor = largest > 0 ? 127 / largest : 0, scale = largest * (1.0f / 127);
  std::vector<double> result;
  for (int64_t j = 0; j < k; ++j) {
    double byte = std::nearbyint(scaled(j) * factor);
    result.push_back(byte * scale / (alpha.empty() ? 1 : static_cast<double>(alpha[static_cast<size_t>(j)])));
  }
  return result;
}

Outcome compare(MLIRContext &context, const Case &test, int64_t m, std::mt19937 &random) {
  int64_t n = test.columns(), k = test.k;
  std::vector<float> values = test.weight.values;
  std::vector<bool> exact(test.n, isExact(test.weight.text));
  for (const auto &[weight, rows] : test.more) {
    values.insert(values.end(), weight.values.begin(), weight.values.end());
    exact.insert(exact.end(), rows, isExact(weight.text));
  }
  SCOPED_TRACE(test.weight.text + " [" + std::to_string(n) + "x" + std::to_string(k) + "] rows " + std::to_string(m) +
               " " + test.mode);
  EXPECT_EQ(values.size(), static_cast<size_t>(n * k));
  std::vector<float> x = exactFloats(m * k, random), bias = exactFloats(n, random), gate = exactFloats(m * n, random);
  const bool a8 = test.mode == "a8", isPair = hasPair(test.weight.text);
  std::vector<float> alpha = alphaOf(test.weight, test.n, k);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; a8 && i < m * k; ++i)
    if (isPair) // bytes hold x, so that pairs, which have it in f16, mean the same
      x[i] = i % k ? x[i] : 127.0f / 16;
    else // one row is zero
      x[i] = i / k == 1 ? 0 : normal(random);
  Outcome outcome = simulate(context, test, m, x, bias, gate, 0.25f);
  EXPECT_EQ(outcome.error, "");
  if (!outcome.error.empty() || values.size() != static_cast<size_t>(n * k))
    return outcome;
  double worst = 0, worstAllowed = 1;
  for (int64_t row = 0; row < m; ++row) {
    std::vector<double> own(x.begin() + row * k, x.begin() + (row + 1) * k);
    if (a8)
      own = asBytes(x.data() + row * k, k, alpha);
    for (int64_t i = 0; i < n; ++i) {
      double sum = test.biased ? bias[i] : 0, size = std::abs(sum);
      for (int64_t j = 0; j < k; ++j) {
        double product = values[i * k + j] * own[j];
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
      // Bytes are exact, whatever is around them.
      double unit = test.mode == "bf16" ? 0x1p-9 : 0x1p-11;
      bool isExactSum = a8 ? !isPair : exact[i] && test.mode == "f16";
      double allowed = size * (isExactSum ? 4e-6 : 4 * unit) + 1e-6;
      double error = std::abs(outcome.y[row * n + i] - sum);
      if (!(error / allowed <= worst / worstAllowed))
        worst = error, worstAllowed = allowed;
    }
  }
  EXPECT_LE(worst, worstAllowed);
  return outcome;
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

/// The chip with wgmma, and rows of x for its schedule: parts of a slab of 128, one, one and a part.
constexpr const char *kWgmma = "nvidia-sim:sm_90a";
std::vector<int64_t> wideRowsOf(size_t number) {
  if (fullTests())
    return {65, 70, 128, 129, 200};
  constexpr int64_t rows[] = {70, 65, 129};
  return {rows[number % 3]};
}

struct Work {
  std::string text;
  Shape shape;
  size_t number;
};

/// A case of a sweep, with what is around the weight chosen by its number.
Case caseOf(MLIRContext &context, const Work &work, const std::string &mode, std::mt19937 &random) {
  Case test{randomWeight(context, work.text, work.shape.n, work.shape.k, random), work.shape.n, work.shape.k, mode};
  test.biased = work.number % 3 == 0;
  // On few multiprocessors blocks take two tiles each (of one row of x), warps do (of more than 32).
  test.multiprocessors = work.number % 5 < 2 ? 4 : 108;
  test.epilogue = work.number % 4 == 1   ? LinearEpilogue::Add
                  : work.number % 4 == 2 ? LinearEpilogue::Gate
                                         : LinearEpilogue::Store;
  return test;
}

class GPULinear : public testing::TestWithParam<const char *> {};
} // namespace

TEST_P(GPULinear, MatchesReference) {
  std::string mode = GetParam();
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
    Case test = caseOf(context, work, mode, random);
    // Of permuted rows with low-rank pairs the gate is in a launch behind: the one case that is always taken.
    if (StringRef(work.text).contains("low_rank") && StringRef(work.text).contains("rows<") && work.shape.k > 64)
      test.epilogue = LinearEpilogue::Gate;
    for (int64_t m : rowsOf(work.number))
      compare(context, test, m, random);
    test.target = kWgmma;
    for (int64_t m : wideRowsOf(work.number))
      compare(context, test, m, random);
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, GPULinear, testing::Values("f16", "bf16"));

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
  parallelFor(all.size(), 1, 0, [&](size_t begin, size_t, unsigned) {
    const Work &work = all[begin];
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
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
  parallelFor(std::size(terms), 1, 0, [&](size_t begin, size_t, unsigned) {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
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
      test.multiprocessors = k == 4096 ? 2 : 108; // two tiles of a block, and one
      std::vector<float> x = exactFloats(m * k, random);
      Outcome outcome = simulate(context, test, m, x, exactFloats(48, random), x, 0);
      ASSERT_EQ(outcome.error, "");
      ASSERT_EQ(outcome.counters.size(), m == 1 ? 1u : 2u); // one row is packed where it is multiplied
      const sim::Counters &counters = outcome.counters.back();
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

namespace {
/// Every byte of these weights' codes was read once by some launch.
void expectReadOnce(const Outcome &outcome, std::initializer_list<size_t> codes) {
  for (size_t index : codes) {
    uint64_t reads = 0;
    for (const sim::Counters &counters : outcome.counters)
      if (const sim::BufferCounters *buffer = counters.buffer("weight" + std::to_string(index)))
        if (buffer->counted && buffer->mostReads) {
          EXPECT_EQ(buffer->leastReads, buffer->mostReads) << index;
          reads += buffer->mostReads;
        }
    EXPECT_EQ(reads, 1u) << "weight " << index;
  }
}
} // namespace

/// Few tiles: blocks share the columns of a tile, add up in order and leave the counters as they were.
TEST(GPULinearLaunches, ColumnsAreSplitOverBlocks) {
  const char *const terms[] = {"k3", "w4g128", "w8", "mx4", "f16"};
  parallelFor(std::size(terms), 1, 0, [&](size_t begin, size_t, unsigned) {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(11);
    // One row of x, a few, and more in one slab and in two; what is left behind whole spans is the last block's.
    for (auto [n, k, m] : {std::tuple<int64_t, int64_t, int64_t>{32, 8192, 1},
                           {41, 4096 + 64 + 37, 3},
                           {128, 2048, 16},
                           {150, 1024 + 64 + 37, 70}}) {
      bool many = m > 8;
      size_t sharing = many ? 2 : 1; // the grid's extent of blocks that share a tile
      Case test{randomWeight(context, terms[begin], n, k, random), n, k};
      test.epilogue = LinearEpilogue::Add;
      Outcome outcome = compare(context, test, m, random);
      ASSERT_EQ(outcome.grids.size(), m == 1 ? 1u : 2u);
      EXPECT_GE(outcome.grids.back()[sharing], 2);
      EXPECT_EQ(outcome.counters.back().bankConflicts(), 0u);
      if (m <= 64 && n % 16 == 0)
        EXPECT_EQ(outcome.counters.back().buffer("weight0")->mostReads, 1u);
      if (many)
        continue;
      // A device with few multiprocessors is full without.
      test.multiprocessors = 1;
      outcome = compare(context, test, m, random);
      EXPECT_EQ(outcome.grids.back()[sharing], 1);
    }
  });
}

/// Up to eight rows of x that tiles share, where each for itself would wait for them.
TEST(GPULinearLaunches, TilesShareFewRows) {
  const std::pair<const char *, const char *> kinds[] = {
      {"k3", "f16"}, {"w4g128a", "bf16"}, {"mx4", "f16"}, {"k4i", "a8"}, {"p2", "a8"}};
  parallelFor(std::size(kinds), 1, 0, [&](size_t begin, size_t, unsigned) {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(23);
    auto [term, mode] = kinds[begin];
    for (auto [n, k, m] : {std::tuple<int64_t, int64_t, int64_t>{256, 1024, 8}, {300, 1024 + 64 + 37, 7}}) {
      Case test{randomWeight(context, term, n, k, random), n, k, mode};
      test.biased = true;
      test.target = "nvidia-sim:sm_90";
      test.multiprocessors = 1;
      const sim::Counters shared = compare(context, test, m, random).counters.back();
      EXPECT_EQ(shared.kernel.substr(0, 5), "many_") << shared.kernel;
      EXPECT_EQ(shared.bankConflicts(), 0u);
      if (n % 16 == 0)
        EXPECT_EQ(shared.buffer("weight0")->mostReads, 1u);
    }
  });
}

/// Every third scale, and the last of some rows, becomes zero; all scales of the first row do.
static void zeroSomeScales(MLIRContext &context, Case &test) {
  std::vector<uint8_t> &scales = test.weight.bytes[1];
  size_t groups = scales.size() / 2 / test.n;
  for (size_t i = 0; i < scales.size() / 2; ++i)
    if (i < groups || i % 3 == 0 || (i % groups == groups - 1 && i / groups % 2))
      putFloat(scales, Float16Type::get(&context), i, 0);
  std::vector<ArrayRef<uint8_t>> views(test.weight.bytes.begin(), test.weight.bytes.end());
  test.weight.values = decodeWeight(test.weight.term, {test.n, test.k}, views);
}

/// Products of m rows of x and weights with scales of groups, some zero; `prepare` chooses the schedule, `kernel` is in
/// its name.
static void checkScalesOfGroups(ArrayRef<const char *> terms, int64_t m, unsigned seed, const char *kernel,
                                function_ref<void(Case &)> prepare) {
  parallelFor(terms.size(), 1, 0, [&](size_t begin, size_t, unsigned) {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(seed);
    for (auto [n, k] : {Shape{37, 453}, Shape{32, 1024}}) {
      Case test{randomWeight(context, terms[begin], n, k, random), n, k};
      zeroSomeScales(context, test);
      prepare(test);
      Outcome outcome = compare(context, test, m, random);
      ASSERT_EQ(outcome.counters.size(), 2u);
      EXPECT_NE(outcome.counters[1].kernel.find(kernel), std::string::npos) << outcome.counters[1].kernel;
      EXPECT_EQ(outcome.counters[1].bankConflicts(), 0u) << terms[begin];
    }
  });
}

/// Where a warp has two tiles: sums in units of the last scale, also if that is zero. Codes in blocks, narrow blocks
/// and rows; groups that are longer, as long and shorter than a piece of x.
TEST(GPULinearLaunches, ScalesOfGroupsInPlace) {
  checkScalesOfGroups({"w4g128", "w4g128a", "w3g64", "w2g64", "#skim.planes<bits = 3, group = 128>", "w4g256"}, 40, 13,
                      "_t2", [](Case &test) { test.multiprocessors = 1; });
}

/// The same with wgmma: groups end where warps meet; some longer than what a warp requests together.
TEST(GPULinearWide, ScalesOfGroups) {
  checkScalesOfGroups({"w4g128", "w4g128a", "w3g64", "w2g64", "#skim.planes<bits = 3, group = 128>", "w4g512"}, 70, 14,
                      "wide_", [](Case &test) { test.target = kWgmma; });
}

/// Blocks that share columns, two (the last one keeps its sums) and more; what is left behind whole spans is the
/// last's. Every byte of the codes is read once a slab, in whole sectors.
TEST(GPULinearWide, ColumnsAreSplitOverBlocks) {
  const char *const terms[] = {"k3", "w4g128", "k4", "p2", "f16"};
  parallelFor(std::size(terms), 1, 0, [&](size_t begin, size_t, unsigned) {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(15);
    for (auto [n, k, m, multiprocessors] :
         {std::tuple<int64_t, int64_t, int64_t, int>{128, 2048, 70, 4}, {300, 1024 + 64 + 37, 140, 12}}) {
      Case test{randomWeight(context, terms[begin], n, k, random), n, k};
      test.target = kWgmma;
      test.epilogue = LinearEpilogue::Add;
      test.multiprocessors = multiprocessors;
      Outcome outcome = compare(context, test, m, random);
      ASSERT_EQ(outcome.grids.size(), 2u);
      EXPECT_GE(outcome.grids[1][2], 2);
      EXPECT_TRUE(StringRef(outcome.counters[1].kernel).starts_with("wide_")) << outcome.counters[1].kernel;
      const sim::Counters &counters = outcome.counters[1];
      EXPECT_EQ(counters.bankConflicts(), 0u);
      if (n % 16)
        continue;
      const sim::BufferCounters *codes = counters.buffer("weight0");
      EXPECT_EQ(codes->leastReads, outcome.grids[1][1]);
      EXPECT_EQ(codes->mostReads, outcome.grids[1][1]);
      for (const sim::OpCounters &op : counters.ops)
        if (op.label == "weights")
          EXPECT_EQ(op.sectors, op.idealSectors);
    }
  });
}

/// x as wgmma reads it: of each 8 rows and 32 columns four core matrices, of which row r is 16 bytes, the 16 words
/// transposed as 4×4. Zeros behind the last column.
TEST(GPULinearWide, PackedAsMatrices) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  prepareGPUEmission(context);
  prepareSimulation(context);
  std::mt19937 random(16);
  constexpr int64_t n = 16, k = 70, m = 67, packed = 96;
  Case test{randomWeight(context, "k3", n, k, random), n, k};
  test.target = kWgmma;
  std::vector<float> x = exactFloats(m * k, random);
  Outcome outcome = simulate(context, test, m, x, exactFloats(n, random), x, 0);
  ASSERT_EQ(outcome.error, "");
  ASSERT_EQ(outcome.counters[0].kernel, "pack_k70_f16_matrices");
  for (int64_t row = 0; row < m; ++row)
    for (int64_t column = 0; column < packed; ++column) {
      int64_t word = column % 32 / 2;
      int64_t at =
          (row / 8 * (packed / 32) + column / 32) * 512 + word % 4 * 128 + row % 8 * 16 + word / 4 * 4 + column % 2 * 2;
      APFloat expected(column < k ? x[row * k + column] : 0.0f);
      bool inexact;
      expected.convert(APFloat::IEEEhalf(), APFloat::rmNearestTiesToEven, &inexact);
      ASSERT_EQ(outcome.scratch[at] | outcome.scratch[at + 1] << 8, expected.bitcastToAPInt().getZExtValue())
          << row << " " << column;
    }
}

/// Linears on the same x, in several encodings and sizes, are one launch.
TEST(GPULinearLaunches, LinearsOnTheSameInputAreOneLaunch) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  prepareGPUEmission(context);
  prepareSimulation(context);
  std::mt19937 random(12);
  int64_t k = 0;
  auto weight = [&](const char *text, int64_t n) { return std::pair(randomWeight(context, text, n, k, random), n); };
  const char *const rows = "#skim.rows<[#skim.codebook<bits = 2> : 16, #skim.codebook<bits = 3> : 32]>";
  for (int64_t m : {1, 3, 12}) {
    k = m == 3 ? 4096 : 512;
    Case test{randomWeight(context, "k3", 64, k, random), 64, k};
    test.more = {weight("k3", 16), weight("k3", 32)};
    Outcome outcome = compare(context, test, m, random);
    EXPECT_EQ(outcome.counters.size(), m == 1 ? 1u : 2u); // pack, and all three
    expectReadOnce(outcome, {0, 2, 4});

    test.more = {weight("w4g128", 37), weight("k3", 16), weight(rows, 48), weight(rows, 48)};
    test.biased = true;
    test.multiprocessors = 2000;
    outcome = compare(context, test, m, random);
    EXPECT_EQ(outcome.counters.size(), m == 1 ? 1u : 2u);
    test.epilogue = LinearEpilogue::Add;
    compare(context, test, m, random);
    if (m != 12)
      continue;
    test.target = kWgmma;
    outcome = compare(context, test, 75, random);
    EXPECT_EQ(outcome.counters.size(), 2u);
  }
}

namespace {
std::string lowRank(const std::string &base, int64_t rank, const std::string &factors) {
  return "#skim.low_rank<" + base + ", rank = " + std::to_string(rank) + ", factors = " + factors + ">";
}
} // namespace

/// t = A·x and what reads it in one launch: in any order of blocks, twice on the same memory, the same bits.
TEST(GPULinearLaunches, LowRankIsOneLaunch) {
  const std::string mx8 = "#skim.block_float<bits = 8, block = 32>", k3 = "#skim.codebook<bits = 3>",
                    w4g128 = "#skim.uniform<bits = 4, group = 128>", f16 = "#skim.dense<f16>";
  struct Work {
    std::string base, factors;
    int64_t rank, n, k;
    int multiprocessors;
    std::vector<std::pair<std::string, int64_t>> more = {};
    LinearEpilogue epilogue = LinearEpilogue::Store;
  };
  const std::vector<Work> all = {
      {k3, mx8, 32, 112, 4096, 4},                       // blocks of two tiles, the last of one
      {w4g128, mx8, 32, 64, 1344, 108},                  // splits, narrow blocks of A
      {w4g128, f16, 40, 41, 1024 + 37, 4},               // a canonical tile of A and of B, and rows of A behind blocks
      {k3, "#skim.codebook<bits = 4>", 64, 48, 512, 20}, // A with tables
      {f16, "#skim.uniform<bits = 2, group = 64>", 96, 160, 512, 2},
      {k3, "#skim.dense<f32>", 16, 32, 320, 108, {}, LinearEpilogue::Gate},
      {k3, mx8, 300, 32, 256, 108, {}, LinearEpilogue::Gate}, // B has blocks and narrow ones
      // Pairs of two kinds, equal ones together, and a linear without.
      {k3, mx8, 32, 64, 512, 108, {{lowRank(w4g128, 8, f16), 37}, {k3, 32}, {lowRank(k3, 32, mx8), 64}}},
      {k3, mx8, 32, 64, 512, 3, {{lowRank(k3, 32, mx8), 64}, {lowRank(k3, 32, mx8), 64}}},
  };
  parallelFor(all.size(), 1, 0, [&](size_t begin, size_t, unsigned) {
    const Work &work = all[begin];
    for (const char *mode : {"f16", "bf16"}) {
      if (std::string(mode) == "bf16" && begin % 4 && !fullTests())
        continue;
      MLIRContext context(MLIRContext::Threading::DISABLED);
      prepareGPUEmission(context);
      prepareSimulation(context);
      std::mt19937 random(static_cast<unsigned>(begin) + 40);
      Case test{randomWeight(context, lowRank(work.base, work.rank, work.factors), work.n, work.k, random), work.n,
                work.k, mode};
      for (const auto &[text, n] : work.more)
        test.more.push_back({randomWeight(context, text, n, work.k, random), n});
      test.multiprocessors = work.multiprocessors;
      test.epilogue = work.epilogue;
      test.biased = begin % 2 == 1;
      std::mt19937 same = random;
      Outcome usual = compare(context, test, 1, random);
      ASSERT_EQ(usual.counters.size(), 1u) << begin;
      auto pair = cast<LowRankAttr>(test.weight.term);
      size_t a = getComponents(cast<WeightEncoding>(pair.getBase()), {work.n, work.k}).size();
      if (work.rank % 16 == 0 && work.k % 64 == 0)
        expectReadOnce(usual, {0, a});
      test.descending = true;
      test.repeats = 2;
      Outcome turned = compare(context, test, 1, same);
      EXPECT_EQ(usual.y, turned.y) << begin;
    }
  });
}

/// What waits for units that nobody multiplies is found, not hung up on.
TEST(GPULinearLaunches, LowRankWithoutFirstFactorIsTrapped) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  prepareGPUEmission(context);
  prepareSimulation(context);
  std::mt19937 random(3);
  std::string text = lowRank("#skim.codebook<bits = 3>", 16, "#skim.dense<f16>");
  Case test{randomWeight(context, text, 16, 64, random), 16, 64};
  test.firstCounter = 1 << 20; // units that others are said to have claimed
  test.requests = 20000;
  std::vector<float> x = exactFloats(64, random);
  Outcome outcome = simulate(context, test, 1, x, x, x, 0);
  EXPECT_NE(outcome.error.find("GPU kernel does not end"), std::string::npos) << outcome.error;
}

/// No result depends on the order of blocks: splits, several pieces, few rows and many.
TEST(GPULinearLaunches, AnyOrderOfBlocks) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  prepareGPUEmission(context);
  prepareSimulation(context);
  std::mt19937 random(21);
  Case test{randomWeight(context, "w4g128", 48, 4096, random), 48, 4096};
  test.more = {{randomWeight(context, "k3", 32, 4096, random), 32}};
  for (int64_t m : {1, 3, 12}) {
    std::mt19937 first = random, second = random;
    test.descending = false;
    Outcome usual = compare(context, test, m, first);
    test.descending = true;
    EXPECT_EQ(usual.y, compare(context, test, m, second).y) << m;
  }
}

/// Rows of every leaf, looked up in the tiles that linears read.
TEST(GPUEmbed, RowsOfTiles) {
  struct Work {
    const char *text;
    int64_t n, k;
  };
  std::vector<Work> all;
  for (auto [index, text] : llvm::enumerate(kTerms))
    if (!StringRef(text).contains("scaled")) {
      all.push_back({text, 33, 130});
      if (fullTests() || index % 3 == 0)
        all.push_back({text, 48, 608});
    }
  parallelFor(all.size(), 1, 0, [&](size_t begin, size_t, unsigned) {
    auto [text, n, k] = all[begin];
    SCOPED_TRACE(std::string(text) + " [" + std::to_string(n) + "x" + std::to_string(k) + "]");
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(static_cast<unsigned>(begin));
    RandomWeight weight = randomWeight(context, text, n, k, random);
    ASSERT_EQ(weight.values.size(), static_cast<size_t>(n * k));
    OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
    OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
    auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "kernels");
    auto embed = device::emitEmbed(builder, module->getLoc(), kernels, weight.term, n, k);
    ASSERT_TRUE(bool(embed)) << embed.message();
    auto library = simulateKernels(*module);
    ASSERT_TRUE(bool(library)) << library.message();
    std::vector<int32_t> tokens = {0, 7, 8, 15, 16, static_cast<int32_t>(n - 1), 7};
    sim::Device device;
    std::vector<sim::Argument> arguments = {
        sim::Argument::pointer(device.allocate("tokens", tokens.data(), tokens.size() * 4))};
    std::vector<float> y(tokens.size() * k);
    sim::Address yAt = device.allocate("y", y.size() * 4);
    arguments.push_back(sim::Argument::pointer(yAt));
    auto tiled = tiledComponents(weight.term, {n, k});
    for (auto [index, bytes] : llvm::enumerate(weight.bytes)) {
      std::vector<uint8_t> packed(bytes.size());
      packTiles(tiled[index], bytes, packed);
      arguments.push_back(
          sim::Argument::pointer(device.allocate("weight" + std::to_string(index), packed.data(), packed.size())));
    }
    sim::LaunchShape shape;
    shape.grid = {static_cast<uint32_t>(tokens.size()), static_cast<uint32_t>(embed->gridY), 1};
    shape.block = {static_cast<uint32_t>(embed->threads), 1, 1};
    auto counters = (*library)->launch(device, embed->kernel, shape, arguments);
    ASSERT_TRUE(bool(counters)) << counters.message();
    ASSERT_FALSE(bool(device.copyOut(y.data(), yAt, y.size() * 4)));
    for (size_t row = 0; row < tokens.size(); ++row)
      for (int64_t column = 0; column < k; ++column) {
        float expected = weight.values[tokens[row] * k + column], got = y[row * k + column];
        // Exact before the scale, but for the difference to zero points that are floats, which is rounded to f16.
        float unit = StringRef(text).contains("zero = f16") ? 0x1p-11f : 1e-6f, allowed = unit * std::abs(expected);
        ASSERT_LE(std::abs(got - expected), allowed) << tokens[row] << " " << column;
      }
  });
}
