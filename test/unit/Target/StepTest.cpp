//===- StepTest.cpp - a compiled step against the reference interpreter -----===//

#include "skim/Target/CPU/Step.h"
#include "../Support/TemporaryFolder.h"
#include "skim-rt/abi.h"
#include "skim/InitAll.h"
#include "skim/LM/LMOps.h"
#include "skim/Reference/Interpreter.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/Float16.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Transforms/FuseLinears.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <cmath>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <thread>

using namespace mlir;
using namespace skim;

namespace {

/// Waits until all threads have arrived; counts arrivals of rounds.
struct Barrier {
  int threads;
  std::atomic<int> arrived = 0, round = 0;
  static void wait(void *context, int32_t) {
    auto &self = *static_cast<Barrier *>(context);
    int before = self.round;
    if (++self.arrived == self.threads) {
      self.arrived = 0;
      ++self.round;
    } else {
      while (self.round == before)
        std::this_thread::yield();
    }
  }
};

/// 64-byte aligned floats.
struct Aligned {
  explicit Aligned(size_t bytes) : data(static_cast<char *>(std::aligned_alloc(64, (bytes + 127) / 64 * 64))) {
    std::memset(data.get(), 0xFF, bytes); // NaN: what was not written shows
  }
  struct Free {
    void operator()(char *p) const { std::free(p); }
  };
  std::unique_ptr<char, Free> data;
};

/// The model with random weights, compiled.
struct Model {
  MLIRContext context;
  TemporaryFolder folder;
  OwningOpRef<ModuleOp> module;
  func::FuncOp forward;
  ProgramInfo info;
  std::vector<Aligned> storage;
  std::vector<const void *> weights;
  skim_step_fn step = nullptr;
  skim_sample_fn sample = nullptr;

  /// What went wrong, or nothing.
  std::string load(const std::string &targetName, bool fuse) {
    DialectRegistry registry;
    registerAllDialects(registry);
    registry.insert<func::FuncDialect, arith::ArithDialect>();
    context.appendDialectRegistry(registry);
    module = parseSourceFile<ModuleOp>(SKIM_TEST_INPUTS "/llama.mlir", &context);
    if (!module)
      return "no model";
    forward = module->lookupSymbol<func::FuncOp>("forward");
    writeWeights();
    PassManager passes(&context);
    if (fuse)
      passes.addPass(createFuseLinears());
    if (failed(passes.run(*module)))
      return "passes failed";
    auto target = parseCPUTarget(targetName);
    if (!target)
      return target.message();
    OwningOpRef<ModuleOp> code;
    auto generated = generateStep(*module, *target, code);
    if (!generated)
      return generated.message();
    info = std::move(*generated);
    std::string path = folder / "model.so";
    if (Error error = emitSharedObject(*code, *target, path))
      return error.message();
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library)
      return dlerror();
    step = reinterpret_cast<skim_step_fn>(dlsym(library, SKIM_STEP_SYMBOL));
    sample = reinterpret_cast<skim_sample_fn>(dlsym(library, SKIM_SAMPLE_SYMBOL));
    auto version = static_cast<const int32_t *>(dlsym(library, SKIM_ABI_VERSION_SYMBOL));
    if (!step || !sample || !version || *version != SKIM_ABI_VERSION)
      return "missing symbols";
    return loadWeights();
  }

  void writeWeights() {
    std::string bytes;
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    forward.walk([&](ExternalOp external) {
      auto type = cast<RankedTensorType>(external.getType());
      size_t offset = external.getOffset(), n = type.getNumElements();
      size_t size = type.getElementTypeBitWidth() / 8;
      bytes.resize(std::max(bytes.size(), offset + n * size));
      for (size_t i = 0; i < n; ++i) {
        float value = type.getRank() == 1 ? 0.5f + 0.2f * normal(random)
                                          : normal(random) / std::sqrt(static_cast<float>(type.getDimSize(1)));
        if (size == 2) {
          uint16_t half = f32ToF16(value);
          std::memcpy(bytes.data() + offset + 2 * i, &half, 2);
        } else {
          std::memcpy(bytes.data() + offset + 4 * i, &value, 4);
        }
      }
    });
    folder.write("weights.bin", bytes);
  }

  std::string loadWeights() {
    std::string bytes = slurp(folder / "weights.bin");
    for (const ProgramWeight &weight : info.weights) {
      size_t size = weight.type.getNumElements() * weight.type.getElementTypeBitWidth() / 8;
      Aligned &copy = storage.emplace_back(size);
      if (auto external = weight.source.getDefiningOp<ExternalOp>()) {
        if (external.getType() != weight.type)
          return "unexpected conversion of " + weight.name;
        std::memcpy(copy.data.get(), bytes.data() + external.getOffset(), size);
      } else {
        auto values = cast<DenseElementsAttr>(weight.source.getDefiningOp<arith::ConstantOp>().getValue());
        for (auto [i, value] : llvm::enumerate(values.getValues<float>()))
          reinterpret_cast<float *>(copy.data.get())[i] = value;
      }
      weights.push_back(copy.data.get());
    }
    return "";
  }
};

/// Sequences with their caches, in the compiled program and in the reference.
struct Sequences {
  Model &model;
  std::vector<int64_t> capacities;
  std::vector<Aligned> blocks;
  std::vector<int32_t> start;
  std::vector<reference::Tensor> caches;
  int64_t referenceCapacity = 64;

  Sequences(Model &model, std::vector<int64_t> capacities) : model(model), capacities(capacities) {
    start.resize(capacities.size());
    for (int64_t capacity : capacities) {
      int64_t bytes = 0;
      for (const ProgramCache &cache : model.info.caches)
        bytes += cache.heads * cache.dim * cache.bytesPerElement * capacity;
      blocks.emplace_back(bytes);
    }
    for (const ProgramCache &cache : model.info.caches)
      caches.emplace_back(Float32Type::get(&model.context),
                          ArrayRef<int64_t>{int64_t(capacities.size()), cache.heads, referenceCapacity, cache.dim});
  }

  /// The logits of all valid rows.
  std::vector<float> step(const std::vector<std::vector<int32_t>> &tokens, int threads) {
    Inputs in = inputs(tokens);
    std::vector<void *> pointers;
    for (Aligned &block : blocks)
      pointers.push_back(block.data.get());
    int64_t rows = in.length * int64_t(tokens.size());
    Aligned scratch(model.info.scratchFixed + model.info.scratchPerRow * rows + model.info.scratchPerThread * threads);
    std::vector<float> logits(in.rows.size() * model.info.vocabulary + 1, -77);
    Barrier barrier{threads};
    skim_step_args args = {};
    args.batch = tokens.size();
    args.length = in.length;
    args.tokens = in.tokens.data();
    args.start = start.data();
    args.count = in.count.data();
    args.num_rows = in.rows.size();
    args.rows = in.rows.data();
    args.caches = pointers.data();
    args.capacity = capacities.data();
    args.weights = model.weights.data();
    args.logits = logits.data();
    args.scratch = scratch.data.get();
    args.barrier = Barrier::wait;
    args.barrier_context = &barrier;
    std::vector<std::thread> pool;
    for (int32_t t = 1; t < threads; ++t)
      pool.emplace_back([&, t] { model.step(&args, t, threads); });
    model.step(&args, 0, threads);
    for (std::thread &thread : pool)
      thread.join();
    EXPECT_EQ(logits.back(), -77);
    logits.pop_back();
    return logits;
  }

  std::vector<float> reference(const std::vector<std::vector<int32_t>> &tokens) {
    Inputs in = inputs(tokens);
    auto ints = [&](ArrayRef<int64_t> shape, const std::vector<int32_t> &values) {
      return reference::Tensor::integers(
          &model.context, 32, shape, llvm::to_vector(llvm::map_range(values, [](int32_t v) { return int64_t(v); })));
    };
    int64_t batch = tokens.size();
    std::vector<reference::Tensor> arguments = {ints({batch, in.length}, in.tokens), ints({batch}, start),
                                                ints({batch}, in.count), ints({int64_t(in.rows.size())}, in.rows)};
    arguments.insert(arguments.end(), caches.begin(), caches.end());
    reference::InterpreterOptions options;
    options.baseDirectory = model.folder.path;
    auto results = reference::interpret(model.forward, arguments, options);
    EXPECT_TRUE(bool(results)) << results.message();
    if (!results)
      return {};
    caches.assign(results->begin() + 1, results->end());
    return results->front().toFloats();
  }

  void advance(const std::vector<std::vector<int32_t>> &tokens) {
    for (size_t b = 0; b < tokens.size(); ++b)
      start[b] += int32_t(tokens[b].size());
  }

private:
  struct Inputs {
    int64_t length = 0;
    std::vector<int32_t> tokens, count, rows;
  };
  Inputs inputs(const std::vector<std::vector<int32_t>> &tokens) {
    Inputs in;
    for (auto &sequence : tokens)
      in.length = std::max<int64_t>(in.length, sequence.size());
    for (auto &sequence : tokens) {
      for (size_t s = 0; s < sequence.size(); ++s)
        in.rows.push_back(int32_t(in.tokens.size() + s));
      in.count.push_back(int32_t(sequence.size()));
      in.tokens.insert(in.tokens.end(), sequence.begin(), sequence.end());
      in.tokens.resize(in.length * in.count.size());
    }
    std::reverse(in.rows.begin(), in.rows.end()); // any order
    return in;
  }
};

std::vector<int32_t> randomTokens(int n, int seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t &token : tokens)
    token = random() % 57;
  return tokens;
}

void expectClose(const std::vector<float> &got, const std::vector<float> &expected) {
  ASSERT_EQ(got.size(), expected.size());
  float worst = 0;
  for (size_t i = 0; i < got.size(); ++i)
    worst = std::isfinite(got[i]) ? std::max(worst, std::abs(got[i] - expected[i])) : INFINITY;
  EXPECT_LT(worst, 2e-5f);
}

class Step : public testing::TestWithParam<std::tuple<const char *, bool>> {
protected:
  void SetUp() override {
    auto [target, fuse] = GetParam();
    if (auto parsed = parseCPUTarget(target); !parsed || !hostCanRun(*parsed))
      GTEST_SKIP() << target << " does not run here";
    // Compiled once for all tests of a target.
    static std::map<ParamType, std::unique_ptr<Model>> models;
    std::unique_ptr<Model> &entry = models[GetParam()];
    if (!entry) {
      entry = std::make_unique<Model>();
      ASSERT_EQ(entry->load(target, fuse), "");
    }
    model = entry.get();
  }
  Model *model = nullptr;

  void check(Sequences &sequences, const std::vector<std::vector<int32_t>> &tokens) {
    std::vector<float> expected = sequences.reference(tokens);
    std::vector<float> first = sequences.step(tokens, 1);
    expectClose(first, expected);
    for (int threads : {2, 3, 7})
      EXPECT_EQ(sequences.step(tokens, threads), first) << threads << " threads";
    sequences.advance(tokens);
  }
};

TEST_P(Step, Prefill) {
  Sequences sequences(*model, {64});
  check(sequences, {randomTokens(53, 1)});
}

TEST_P(Step, Chunks) {
  Sequences sequences(*model, {64});
  std::vector<float> whole = Sequences(*model, {64}).step({randomTokens(60, 2)}, 2);
  std::vector<int32_t> tokens = randomTokens(60, 2);
  std::vector<float> joined;
  for (auto [from, to] : {std::pair(0, 21), {21, 23}, {23, 60}}) {
    std::vector<int32_t> chunk(tokens.begin() + from, tokens.begin() + to);
    std::vector<float> part = sequences.step({chunk}, 2);
    joined.insert(joined.begin(), part.begin(), part.end()); // rows run backwards
    sequences.advance({chunk});
  }
  expectClose(joined, whole);
}

TEST_P(Step, Decode) {
  Sequences sequences(*model, {64});
  check(sequences, {randomTokens(17, 3)});
  for (int i = 0; i < 4; ++i)
    check(sequences, {randomTokens(1, 10 + i)});
}

TEST_P(Step, BatchOfUnequalLengths) {
  Sequences sequences(*model, {64, 70, 33});
  check(sequences, {randomTokens(7, 4), randomTokens(30, 5), randomTokens(1, 6)});
  check(sequences, {randomTokens(1, 7), randomTokens(1, 8), randomTokens(1, 9)});
  check(sequences, {randomTokens(5, 7), randomTokens(2, 8), randomTokens(9, 9)});
}

INSTANTIATE_TEST_SUITE_P(Targets, Step,
                         testing::Values(std::tuple("cpu", true), std::tuple("cpu", false),
                                         std::tuple("cpu:portable", true), std::tuple("cpu:x86-64-v3", true),
                                         std::tuple("cpu-sim:x86-64-v4", true)));

TEST(Sample, CutsAndInverts) {
  Model model;
  ASSERT_EQ(model.load("cpu", true), "");
  std::vector<float> logits(57);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (float &value : logits)
    value = std::round(8 * normal(random)) / 4; // ties
  Aligned scratch(model.info.sampleScratch);
  auto sample = [&](float temperature, int k, float p, float uniform) {
    return model.sample(logits.data(), 57, temperature, k, p, uniform, scratch.data.get());
  };
  EXPECT_EQ(sample(0, 0, 1, 0.5f), std::max_element(logits.begin(), logits.end()) - logits.begin());
  for (float temperature : {0.5f, 1.0f, 2.0f})
    for (int k : {0, 1, 5, 20, 100})
      for (float p : {0.0f, 0.3f, 0.9f, 1.0f}) {
        // The slow way: sort, cut, cut, walk in the order of ids.
        std::vector<int> order(57);
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.end(),
                  [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
        std::vector<double> weight(57);
        double total = 0;
        size_t kept = k > 0 && k < 57 ? k : 57;
        for (size_t i = 0; i < kept; ++i)
          total += weight[order[i]] = std::exp((double(logits[order[i]]) - logits[order[0]]) / temperature);
        double sum = 0;
        for (size_t i = 0; i < kept; ++i) {
          if (p < 1 && i > 0 && sum >= p * total)
            weight[order[i]] = 0;
          sum += weight[order[i]];
        }
        for (float uniform : {0.0f, 0.123f, 0.5f, 0.777f, 0.99f}) {
          double goal = uniform * sum, running = 0;
          int expected = -1;
          for (int i = 0; i < 57 && expected < 0; ++i)
            if ((running += weight[i]) > goal)
              expected = i;
          EXPECT_EQ(sample(temperature, k, p, uniform), expected)
              << temperature << " " << k << " " << p << " " << uniform;
        }
      }
}

} // namespace
