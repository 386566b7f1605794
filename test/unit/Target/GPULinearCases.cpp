//===- GPULinearCases.cpp - linears in the simulator ------------------------===//

#include "GPULinearCases.h"

#include "skim/Reference/Activation.h"
#include "skim/Runtime/SimulatedProduct.h"
#include "skim/Support/Threads.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/Tiles.h"

#include <cstdlib>
#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

bool skim::fullTests() { return std::getenv("SKIM_TEST_FULL") != nullptr; }
bool skim::hasPair(StringRef text) { return text.contains("low_rank") || text.contains("+r"); }

void skim::inParallel(size_t count, function_ref<void(size_t, MLIRContext &)> body) {
  parallelFor(count, 1, 0, [&](size_t index, size_t, unsigned) {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    prepareSimulation(context);
    body(index, context);
  });
}

namespace {
/// True if decoded numbers are exact in f16 and scales apply to sums, in f32.
bool isExact(StringRef text) {
  static const char *const kRounded[] = {"f32", "bf16", "group = 20", "group = 8", "zero = f16", "scaled", "low_rank"};
  return llvm::none_of(kRounded, [&](const char *part) { return text.contains(part); });
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
} // namespace

std::vector<float> skim::exactFloats(size_t count, std::mt19937 &random) {
  std::vector<float> values(count);
  for (float &value : values)
    value = static_cast<float>(static_cast<int>(random() % 129) - 64) / 16;
  return values;
}

Outcome skim::simulate(MLIRContext &context, const Case &test, int64_t m, const std::vector<float> &x,
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
      std::vector<uint8_t> packed(tiled[index].bytes(bytes.size()));
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
  auto plan = device::emitLinear(builder, module->getLoc(), kernels, *target, call, m, nullptr, test.family);
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
    outcome.kernels.push_back(launch.product ? "cublas" : launch.kernel);
    if (launch.product) {
      auto [width, depth, bf16, add] = *launch.product;
      Error failed = sim::multiply(device, {width, depth, m, columns, bf16, add}, scratch + launch.arguments[0].offset,
                                   scratch + launch.arguments[1].offset, yAt);
      EXPECT_FALSE(bool(failed)) << failed.message();
      continue;
    }
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

Outcome skim::compare(MLIRContext &context, const Case &test, int64_t m, std::mt19937 &random) {
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
      own = reference::roundToBytes(ArrayRef(x).slice(row * k, k), alpha);
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
      bool isExactSum = a8 ? !isPair : exact[i] && test.mode == "f16" && !StringRef(test.target).ends_with("+cublas");
      double allowed = size * (isExactSum ? 4e-6 : 4 * unit) + 1e-6;
      double error = std::abs(outcome.y[row * n + i] - sum);
      if (!(error / allowed <= worst / worstAllowed))
        worst = error, worstAllowed = allowed;
    }
  }
  EXPECT_LE(worst, worstAllowed);
  return outcome;
}

std::vector<int64_t> skim::rowsOf(size_t number) {
  if (fullTests())
    return {1, 2, 5, 8, 9, 16, 33, 64, 70};
  constexpr int64_t few[] = {1, 2, 5, 8}, some[] = {9, 16}, many[] = {33, 64, 70};
  return {few[number % 4], some[number / 2 % 2], many[number % 3]};
}

std::vector<int64_t> skim::wideRowsOf(size_t number) {
  if (fullTests())
    return {65, 70, 128, 129, 200};
  constexpr int64_t rows[] = {70, 65, 129};
  return {rows[number % 3]};
}

Case skim::caseOf(MLIRContext &context, const Work &work, const std::string &mode, std::mt19937 &random) {
  Case test{randomWeight(context, work.text, work.shape.n, work.shape.k, random), work.shape.n, work.shape.k, mode};
  test.biased = work.number % 3 == 0;
  // On few multiprocessors blocks take two tiles each (of one row of x), warps do (of more than 32).
  test.multiprocessors = work.number % 5 < 2 ? 4 : 108;
  test.epilogue = work.number % 4 == 1   ? LinearEpilogue::Add
                  : work.number % 4 == 2 ? LinearEpilogue::Gate
                                         : LinearEpilogue::Store;
  return test;
}
