//===- GPUStepTest.cpp - a model's step in the simulator --------------------===//

#include "../Support/TemporaryFolder.h"
#include "skim/InitAll.h"
#include "skim/Reference/Interpreter.h"
#include "skim/Runtime/SimulatedStep.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Json.h"
#include "skim/Target/GPU/SimulatorLibrary.h"
#include "skim/Target/GPU/Step.h"
#include "skim/Transforms/FuseLinears.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace mlir;
using namespace skim;

namespace {

/// A model of Inputs with random weights, its step in the simulator and the
/// reference.
struct Model {
  MLIRContext context;
  TemporaryFolder folder;
  OwningOpRef<ModuleOp> module;
  func::FuncOp forward;
  device::StepProgram program;
  std::vector<std::vector<char>> storage;
  std::unique_ptr<sim::SimulatedStep> step;
  int64_t bytesPerToken = 0;

  /// What went wrong, or nothing.
  std::string load(const std::string &name) {
    DialectRegistry registry;
    registerAllDialects(registry);
    registry.insert<func::FuncDialect, arith::ArithDialect, math::MathDialect>();
    context.appendDialectRegistry(registry);
    prepareSimulation(context);
    module = parseSourceString<ModuleOp>(slurp(SKIM_TEST_INPUTS "/" + name), &context);
    if (!module)
      return "no model";
    forward = module->lookupSymbol<func::FuncOp>("forward");
    writeWeights();
    PassManager passes(&context);
    passes.addPass(createFuseLinears());
    if (failed(passes.run(*module)))
      return "passes failed";
    auto target = parseGPUTarget("nvidia-sim:sm_80");
    if (!target)
      return target.message();
    OwningOpRef<ModuleOp> code;
    auto generated = device::generateStep(*module, *target, code);
    if (!generated)
      return generated.message();
    program = std::move(*generated);
    auto kernels = simulateKernels(*code);
    if (!kernels)
      return kernels.message();
    for (const ProgramCache &cache : program.caches)
      bytesPerToken += cache.heads * cache.dim * cache.bytesPerElement;
    std::vector<sim::StepWeight> weights = loadWeights();
    auto made =
        sim::SimulatedStep::create(std::move(*kernels), program.launches, weights, program.vocabulary, bytesPerToken);
    if (!made)
      return made.message();
    step = std::move(*made);
    return "";
  }

  void writeWeights() {
    std::string bytes;
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    forward.walk([&](ExternalOp external) {
      auto type = cast<RankedTensorType>(external.getType());
      size_t offset = external.getOffset(), n = static_cast<size_t>(type.getNumElements());
      size_t size = type.getElementTypeBitWidth() / 8;
      bytes.resize(std::max(bytes.size(), offset + n * size));
      for (size_t i = 0; i < n; ++i) {
        // Weights that f16 holds exactly: what remains is the rounding of activations.
        float value =
            roundToF16(type.getRank() == 1 ? 0.5f + 0.2f * normal(random)
                                           : normal(random) / std::sqrt(static_cast<float>(type.getDimSize(1))));
        uint16_t half = f32ToF16(value);
        std::memcpy(bytes.data() + offset + size * i, size == 2 ? static_cast<void *>(&half) : &value, size);
      }
    });
    folder.write("weights.bin", bytes);
  }

  std::vector<sim::StepWeight> loadWeights() {
    std::string bytes = slurp(folder / "weights.bin");
    std::vector<sim::StepWeight> weights;
    for (const device::StepWeight &weight : program.weights) {
      size_t size = static_cast<size_t>(weight.type.getNumElements()) * weight.type.getElementTypeBitWidth() / 8;
      std::vector<char> plain(size);
      if (auto external = weight.source.getDefiningOp<ExternalOp>()) {
        std::memcpy(plain.data(), bytes.data() + external.getOffset(), size);
      } else {
        auto elements = cast<DenseElementsAttr>(weight.source.getDefiningOp<arith::ConstantOp>().getValue());
        float *to = reinterpret_cast<float *>(plain.data());
        for (float value : elements.getValues<float>())
          *to++ = value;
      }
      auto tiledSize = static_cast<size_t>(weight.bytes());
      std::vector<char> &tiled = storage.emplace_back(tiledSize + 64);
      char *data = reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(tiled.data()) + 63) / 64 * 64);
      packTiles(weight.tiles, {reinterpret_cast<uint8_t *>(plain.data()), size},
                {reinterpret_cast<uint8_t *>(data), tiledSize});
      weights.push_back({weight.name, data, tiledSize});
    }
    return weights;
  }
};

/// Sequences with their caches, in the simulator and in the reference.
struct Sequences {
  Model &model;
  std::vector<int64_t> capacities;
  std::vector<std::vector<float>> blocks;
  std::vector<int32_t> start;
  std::vector<reference::Tensor> caches;

  Sequences(Model &model, std::vector<int64_t> capacities) : model(model), capacities(capacities) {
    start.resize(capacities.size());
    for (int64_t capacity : capacities) // NaN: what was not written shows
      blocks.emplace_back(static_cast<size_t>(capacity * model.bytesPerToken / 4), NAN);
    for (const ProgramCache &cache : model.program.caches)
      caches.emplace_back(Float32Type::get(&model.context),
                          ArrayRef<int64_t>{int64_t(capacities.size()), cache.heads, 256, cache.dim});
  }

  /// The logits of all valid rows, the last first: of the simulator and of the reference.
  void step(const std::vector<std::vector<int32_t>> &tokens, std::vector<float> &got, std::vector<float> &expected) {
    size_t length = 0, batch = tokens.size();
    for (const auto &sequence : tokens)
      length = std::max(length, sequence.size());
    std::vector<int32_t> padded, count, rows;
    for (const auto &sequence : tokens) {
      for (size_t s = 0; s < sequence.size(); ++s)
        rows.insert(rows.begin(), static_cast<int32_t>(padded.size() + s));
      count.push_back(static_cast<int32_t>(sequence.size()));
      padded.insert(padded.end(), sequence.begin(), sequence.end());
      padded.resize(length * count.size());
    }
    std::vector<void *> pointers;
    for (std::vector<float> &block : blocks)
      pointers.push_back(block.data());
    got.assign(rows.size() * static_cast<size_t>(model.program.vocabulary), NAN);
    skim_step_args args = {};
    args.batch = static_cast<int64_t>(batch);
    args.length = static_cast<int64_t>(length);
    args.tokens = padded.data();
    args.start = start.data();
    args.count = count.data();
    args.num_rows = static_cast<int64_t>(rows.size());
    args.rows = rows.data();
    args.caches = pointers.data();
    args.capacity = capacities.data();
    args.logits = got.data();
    Error error = model.step->run(args);
    ASSERT_FALSE(bool(error)) << error.message();

    auto ints = [&](ArrayRef<int64_t> shape, const std::vector<int32_t> &values) {
      return reference::Tensor::integers(
          &model.context, 32, shape, llvm::to_vector(llvm::map_range(values, [](int32_t v) { return int64_t(v); })));
    };
    std::vector<reference::Tensor> arguments = {ints({args.batch, args.length}, padded), ints({args.batch}, start),
                                                ints({args.batch}, count), ints({args.num_rows}, rows)};
    arguments.insert(arguments.end(), caches.begin(), caches.end());
    reference::InterpreterOptions options;
    options.baseDirectory = model.folder.path;
    auto results = reference::interpret(model.forward, arguments, options);
    ASSERT_TRUE(bool(results)) << results.message();
    caches.assign(results->begin() + 1, results->end());
    expected = results->front().toFloats();
    for (size_t b = 0; b < batch; ++b)
      start[b] += count[b];
  }

  void check(const std::vector<std::vector<int32_t>> &tokens) {
    std::vector<float> got, expected;
    step(tokens, got, expected);
    ASSERT_EQ(got.size(), expected.size());
    float worst = 0;
    for (size_t i = 0; i < got.size(); ++i)
      worst = std::isfinite(got[i]) ? std::max(worst, std::abs(got[i] - expected[i])) : INFINITY;
    // Activations are rounded to f16 before each of some ten linears in a row: 10 · 2^−11 of numbers around 1.
    EXPECT_LT(worst, 10 * 0x1p-11f);
  }
};

std::vector<int32_t> randomTokens(int n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t &token : tokens)
    token = static_cast<int32_t>(random() % 57);
  return tokens;
}

class GPUStep : public testing::Test {
protected:
  void SetUp() override {
    static std::unique_ptr<Model> loaded;
    if (!loaded) {
      loaded = std::make_unique<Model>();
      ASSERT_EQ(loaded->load("llama.mlir"), "");
    }
    model = loaded.get();
  }
  Model *model = nullptr;
};

} // namespace

TEST_F(GPUStep, PrefillAndDecode) {
  Sequences sequences(*model, {64});
  sequences.check({randomTokens(21, 1)});
  sequences.check({randomTokens(5, 2)});
  sequences.check({randomTokens(1, 3)});
  sequences.check({randomTokens(1, 4)});
}

TEST_F(GPUStep, LongContext) {
  // Keys of a context are shared by several blocks, whose parts the last of them puts together.
  EXPECT_NE(model->program.launches.find("_p4"), std::string::npos);
  Sequences sequences(*model, {256});
  for (unsigned i = 0; i < 3; ++i)
    sequences.check({randomTokens(64, 20 + i)});
  sequences.check({randomTokens(1, 23)});
  sequences.check({randomTokens(6, 24)});
  sequences.check({randomTokens(1, 25)});
}

TEST_F(GPUStep, LaunchesOfALayer) {
  // Norm, q, k, v; rotation and caches; attention; its parts, o with the residual; norm, gate, up; their product, down
  // with the residual.
  auto json = parseJson(model->program.launches, "launches");
  ASSERT_TRUE(bool(json));
  std::vector<std::string> kernels;
  for (const Json &launch : (*json)["variants"][0]["launches"])
    kernels.push_back(launch["kernel"]);
  auto first = std::find_if(kernels.begin(), kernels.end(), [](const std::string &name) {
    return name.starts_with("one") && name.find("_norm") != std::string::npos;
  });
  ASSERT_GE(kernels.end() - first, 6);
  const std::pair<const char *, const char *> expected[] = {{"one_", "_norm_"}, {"rotary_h6", ""},
                                                            {"attention_", ""}, {"one__skim_dense_f32__k48", ""},
                                                            {"one_", "_norm_"}, {"one__skim_dense_f32__k84", "_silu_"}};
  for (auto [begin, part] : expected) {
    EXPECT_TRUE(first->starts_with(begin) && first->find(part) != std::string::npos) << *first << " is no " << begin;
    ++first;
  }
}

TEST_F(GPUStep, Batch) {
  // Sequences of other lengths and capacities, with rows of padding.
  Sequences sequences(*model, {40, 33, 64});
  sequences.check({randomTokens(9, 5), randomTokens(17, 6), randomTokens(2, 7)});
  sequences.check({randomTokens(1, 8), randomTokens(1, 9), randomTokens(1, 10)});
}

TEST_F(GPUStep, GreedyTokens) {
  Sequences sequences(*model, {64});
  std::vector<int32_t> tokens = randomTokens(7, 11);
  size_t vocabulary = static_cast<size_t>(model->program.vocabulary);
  for (int i = 0; i < 16; ++i) {
    std::vector<float> got, expected;
    sequences.step({tokens}, got, expected);
    auto best = [&](const std::vector<float> &logits) { // of the last token, which comes first
      return static_cast<int32_t>(std::max_element(logits.begin(), logits.begin() + static_cast<int64_t>(vocabulary)) -
                                  logits.begin());
    };
    ASSERT_EQ(best(got), best(expected)) << "token " << i;
    tokens = {best(got)};
  }
}

TEST_F(GPUStep, Counts) {
  // No launch of a token has bank conflicts. (The model's columns are too few for tiles of weights.)
  Sequences sequences(*model, {64});
  sequences.check({randomTokens(3, 12)});
  std::vector<sim::Counters> trace;
  model->step->trace = &trace;
  sequences.check({randomTokens(1, 13)});
  model->step->trace = nullptr;
  ASSERT_FALSE(trace.empty());
  for (const sim::Counters &launch : trace)
    EXPECT_EQ(launch.bankConflicts(), 0u) << launch.kernel;
}

TEST(SimulatedStep, DamagedLaunches) {
  MLIRContext context;
  prepareSimulation(context);
  auto create = [&](const std::string &launches) {
    auto source = parseSourceString<ModuleOp>("gpu.module @kernels { gpu.func @k() kernel { gpu.return } }", &context);
    auto kernels = simulateKernels(*source);
    EXPECT_TRUE(bool(kernels)) << kernels.message();
    return sim::SimulatedStep::create(std::move(*kernels), launches, {}, 8, 0).message();
  };
  auto with = [&](const std::string &arguments, const std::string &kernel = "k",
                  const std::string &grid = "[0, 1, 1]") {
    return create("{\"version\": 1, \"scratch\": 0, \"variants\": [{\"rows\": 1, \"launches\": [{\"kernel\": \"" +
                  kernel + "\", \"grid\": " + grid + ", \"threads\": 32, \"arguments\": " + arguments + "}]}]}");
  };
  EXPECT_EQ(with("[]"), "");
  EXPECT_EQ(with("[[\"rows\", 0, 0]]"), "");
  for (const std::string &text : {std::string(""), std::string("{}"), std::string("[1]"),
                                  std::string("{\"version\": 1, \"scratch\": 0, \"variants\": []}"),
                                  std::string("{\"version\": 2, \"scratch\": 0, \"variants\": []}")})
    EXPECT_NE(create(text), "") << text;
  EXPECT_NE(with("[]", "other"), "");
  EXPECT_NE(with("[]", "k", "[0, 0, 1]"), "");
  EXPECT_NE(with("[]", "k", "[1]"), "");
  EXPECT_NE(with("[[\"weight\", 0, 0]]"), "");
  EXPECT_NE(with("[[\"nothing\", 0, 0]]"), "");
  EXPECT_NE(with("[[\"rows\", 0]]"), "");
  EXPECT_NE(with("7"), "");
}

TEST_F(GPUStep, TooManyRows) {
  Sequences sequences(*model, {128});
  skim_step_args args = {};
  args.batch = 1;
  args.length = 513;
  EXPECT_EQ(model->step->run(args).message(), "too many rows in a step: expected 512, got 513");
}
