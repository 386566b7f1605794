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

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FormatVariadic.h"

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

  /// The text of a model in Inputs.
  static std::string input(const std::string &name) { return slurp(SKIM_TEST_INPUTS "/" + name); }

  /// What went wrong, or nothing.
  std::string load(const std::string &text, const std::string &targetName, bool fuse = true) {
    DialectRegistry registry;
    registerAllDialects(registry);
    registry.insert<func::FuncDialect, arith::ArithDialect, math::MathDialect>();
    context.appendDialectRegistry(registry);
    module = parseSourceString<ModuleOp>(text, &context);
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
  int64_t referenceCapacity = 256;

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

/// A step against the reference, on several numbers of threads; then the next step may follow.
void check(Sequences &sequences, const std::vector<std::vector<int32_t>> &tokens) {
  std::vector<float> expected = sequences.reference(tokens);
  std::vector<float> first = sequences.step(tokens, 1);
  expectClose(first, expected);
  for (int threads : {2, 3, 7})
    EXPECT_EQ(sequences.step(tokens, threads), first) << threads << " threads";
  sequences.advance(tokens);
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
      ASSERT_EQ(entry->load(Model::input("llama.mlir"), target, fuse), "");
    }
    model = entry.get();
  }
  Model *model = nullptr;
};

TEST_P(Step, Prefill) {
  Sequences sequences(*model, {64});
  check(sequences, {randomTokens(53, 1)});
}

TEST_P(Step, SeveralBlocksOfKeys) {
  Sequences sequences(*model, {256, 200});
  check(sequences, {randomTokens(150, 11), randomTokens(67, 12)});
  check(sequences, {randomTokens(1, 13), randomTokens(1, 14)});
  check(sequences, {randomTokens(20, 15), randomTokens(70, 16)});
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

//===--- attention and rotary embedding alone ---===//

struct AttentionCase {
  int heads, keyHeads, size, columns;
  bool interleaved = false;
  int window = 0;
  double softcap = 0;
};

/// Queries, keys and values straight from tables, the attention as logits.
std::string attentionModel(const AttentionCase &c) {
  std::string result;
  llvm::raw_string_ostream out(result);
  int q = c.heads * c.size, k = c.keyHeads * c.size;
  std::string cache = llvm::formatv("tensor<?x{0}x?x{1}xf32>", c.keyHeads, c.size);
  out << "func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, "
         "%rows: tensor<?xi32>, %k0: "
      << cache << " {skim.cache}, %v0: " << cache << " {skim.cache}) -> (tensor<?x" << q << "xf32>, " << cache << ", "
      << cache << ") {\n";
  int64_t offset = 0;
  for (auto [name, channels] : {std::pair("q", q), {"k", k}, {"v", k}}) {
    out << llvm::formatv("%w{0} = skim.external \"weights.bin\" offset = {1} name = \"{0}\" : tensor<57x{2}xf32>\n"
                         "%{0} = skim.embed %tokens, %w{0} : tensor<?x?xi32>, tensor<57x{2}xf32> -> "
                         "tensor<?x?x{2}xf32>\n",
                         name, offset, channels);
    offset += 57 * channels * 4;
  }
  out << llvm::formatv("%wf = skim.external \"weights.bin\" offset = {0} name = \"f\" : tensor<{1}xf32>\n"
                       "%p = lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>\n"
                       "%cos, %sin = lm.rotary_table %p, %wf : tensor<?x?xi32>, tensor<{1}xf32> -> "
                       "tensor<?x?x{1}xf32>\n",
                       offset, c.columns);
  for (auto [name, heads, channels] : {std::tuple("q", c.heads, q), {"k", c.keyHeads, k}})
    out << llvm::formatv("%{0}r = lm.rotary %{0}, %cos, %sin {{heads = {1} : i64{2}} : tensor<?x?x{3}xf32>, "
                         "tensor<?x?x{4}xf32>\n",
                         name, heads, c.interleaved ? ", interleaved" : "", channels, c.columns);
  for (auto [name, input] : {std::pair("k", "kr"), {"v", "v"}})
    out << llvm::formatv("%{0}1 = lm.cache_append %{1}, %{0}0, %start, %count : tensor<?x?x{2}xf32>, {3}, "
                         "tensor<?xi32>\n",
                         name, input, k, cache);
  std::string more;
  if (c.window)
    more += llvm::formatv(", window = {0} : i64", c.window);
  if (c.softcap != 0)
    more += llvm::formatv(", softcap = {0:f} : f32", c.softcap);
  out << llvm::formatv("%y = lm.attention %qr, %k1, %v1, %start {{heads = {0} : i64, scale = 1.0 : f32{1}} : "
                       "tensor<?x?x{2}xf32>, {3}, tensor<?xi32> -> tensor<?x?x{2}xf32>\n"
                       "%l = lm.gather_rows %y, %rows : tensor<?x?x{2}xf32>, tensor<?xi32> -> tensor<?x{2}xf32>\n"
                       "return %l, %k1, %v1 : tensor<?x{2}xf32>, {3}, {3}\n}\n",
                       c.heads, more, q, cache);
  return result;
}

TEST(AttentionKernels, HeadSizesWindowsAndGroups) {
  for (const char *target : {"cpu", "cpu:portable", "cpu-sim:x86-64-v4"})
    for (AttentionCase c : std::vector<AttentionCase>{{9, 3, 64, 32},
                                                      {2, 1, 16, 8, true},
                                                      {4, 4, 32, 8, false, 70},
                                                      {8, 1, 80, 20, false, 64, 5.0},
                                                      {1, 1, 128, 64, false, 0, 30.0},
                                                      {3, 3, 6, 3, true, 1}}) {
      SCOPED_TRACE(std::string(target) + " " + std::to_string(c.heads) + "x" + std::to_string(c.size));
      Model model;
      ASSERT_EQ(model.load(attentionModel(c), target), "");
      Sequences sequences(model, {256, 210});
      check(sequences, {randomTokens(131, 1), randomTokens(67, 2)});
      check(sequences, {randomTokens(1, 3), randomTokens(1, 4)});
      check(sequences, {randomTokens(6, 5), randomTokens(69, 6)});
    }
}

//===--- functions ---===//

/// A model of `body`, which computes %y [?x?xCxf32] from %x, rows of a table
/// [57, C], and from %p, positions.
std::string functionModel(int channels, const std::string &body) {
  return llvm::formatv("func.func @forward(%tokens: tensor<?x?xi32>, %start: tensor<?xi32>, %count: tensor<?xi32>, "
                       "%rows: tensor<?xi32>) -> tensor<?x{0}xf32> {{\n"
                       "%w = skim.external \"weights.bin\" offset = 0 name = \"w\" : tensor<57x{0}xf32>\n"
                       "%f = skim.external \"weights.bin\" offset = 65536 name = \"f\" : tensor<{0}xf32>\n"
                       "%x = skim.embed %tokens, %w : tensor<?x?xi32>, tensor<57x{0}xf32> -> tensor<?x?x{0}xf32>\n"
                       "%p = lm.positions %tokens, %start : tensor<?x?xi32>, tensor<?xi32>\n"
                       "{1}\n"
                       "%l = lm.gather_rows %y, %rows : tensor<?x?x{0}xf32>, tensor<?xi32> -> tensor<?x{0}xf32>\n"
                       "return %l : tensor<?x{0}xf32>\n}\n",
                       channels, body);
}

TEST(Functions, ElementwiseAccuracy) {
  constexpr int channels = 37;
  struct Case {
    const char *operation;
    double (*expected)(double);
    double low, high, relative, absolute;
  };
  for (const char *target : {"cpu", "cpu:portable"})
    for (Case c : {Case{"math.exp", [](double x) { return std::exp(x); }, -90, 88.2, 2.4e-7, 1.2e-38},
                   Case{"math.tanh", [](double x) { return std::tanh(x); }, -12, 12, 0, 2e-7},
                   Case{"math.sqrt", [](double x) { return std::sqrt(x); }, 0, 100, 1.2e-7, 0},
                   Case{"lm.silu", [](double x) { return x / (1 + std::exp(-x)); }, -80, 80, 6e-7, 0}}) {
      SCOPED_TRACE(std::string(target) + " " + c.operation);
      Model model;
      std::string type = "tensor<?x?x" + std::to_string(channels) + "xf32>";
      ASSERT_EQ(model.load(functionModel(channels, std::string("%y = ") + c.operation + " %x : " + type), target), "");
      float *table = reinterpret_cast<float *>(model.storage[0].data.get());
      for (int i = 0; i < 57 * channels; ++i)
        table[i] = static_cast<float>(c.low + (c.high - c.low) * i / (57 * channels - 1));
      std::vector<int32_t> tokens(57);
      std::iota(tokens.rbegin(), tokens.rend(), 0); // rows are asked for backwards
      std::vector<float> got = Sequences(model, {0}).step({tokens}, 2);
      for (int i = 0; i < 57 * channels; ++i) {
        double expected = c.expected(table[i]);
        ASSERT_NEAR(got[i], expected, std::abs(expected) * c.relative + c.absolute) << table[i];
      }
    }
}

TEST(Functions, RotaryTables) {
  constexpr int columns = 23;
  for (const char *target : {"cpu", "cpu:portable"})
    for (bool sine : {false, true}) {
      SCOPED_TRACE(std::string(target) + (sine ? " sine" : " cosine"));
      Model model;
      std::string type = "tensor<?x?x" + std::to_string(columns) + "xf32>";
      std::string table = std::string(sine ? "%c, %y" : "%y, %s") +
                          " = lm.rotary_table %p, %f : tensor<?x?xi32>, tensor<" + std::to_string(columns) +
                          "xf32> -> " + type;
      ASSERT_EQ(model.load(functionModel(columns, table), target), "");
      auto index = llvm::find_if(model.info.weights, [](const ProgramWeight &w) { return w.name == "f"; }) -
                   model.info.weights.begin();
      float *frequencies = reinterpret_cast<float *>(model.storage[index].data.get());
      for (int i = 0; i < columns; ++i)
        frequencies[i] = std::pow(10000.0f, -float(i) / columns);
      for (int32_t start : {0, 4000, 131072 - 57}) {
        Sequences sequences(model, {0});
        sequences.start[0] = start;
        std::vector<float> got = sequences.step({std::vector<int32_t>(57)}, 2);
        for (int s = 0; s < 57; ++s)
          for (int i = 0; i < columns; ++i) {
            float angle = float(start + 56 - s) * frequencies[i]; // rows run backwards
            double expected = sine ? std::sin(double(angle)) : std::cos(double(angle));
            ASSERT_NEAR(got[s * columns + i], expected, 2e-7) << start + 56 - s << " " << i;
          }
      }
    }
}

TEST(Sample, CutsAndInverts) {
  Model model;
  ASSERT_EQ(model.load(Model::input("llama.mlir"), "cpu"), "");
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
