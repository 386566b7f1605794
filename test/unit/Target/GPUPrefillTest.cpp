//===- GPUPrefillTest.cpp - attention of many rows, against a plain one -----===//

#include "Simulation.h"
#include "Step/Kernels.h"
#include "skim/Runtime/DeviceStep.h"
#include "skim/Support/Float16.h"
#include "skim/Target/GPU/Emit.h"

#include <algorithm>
#include <cmath>
#include <random>

using namespace mlir;
using namespace skim;
using namespace skim::device;

namespace {
struct Sequence {
  int32_t start, count;
  int64_t capacity;
};

/// One kernel and what it is given.
struct Attention {
  AttentionSpec spec;
  int64_t planned; // rows that the step may have
  int64_t length;
  std::vector<Sequence> sequences;
  bool descending = false;

  StepKernel kernel = {};
  sim::Counters counters = {};
  std::vector<float> query = {}, out = {};
  std::vector<std::vector<float>> keys = {}, values = {}; // of each sequence [head, capacity, size]
  int64_t queryStride = 0, outStride = 0;

  void build(MLIRContext &context, OwningOpRef<ModuleOp> &source) {
    prepareGPUEmission(context);
    prepareSimulation(context);
    source = ModuleOp::create(UnknownLoc::get(&context));
    OpBuilder builder(source->getBodyRegion());
    auto kernels = gpu::GPUModuleOp::create(builder, source->getLoc(), "step");
    kernel = prefillKernel({builder, source->getLoc(), kernels}, spec, planned);
  }

  void run() {
    MLIRContext context;
    OwningOpRef<ModuleOp> source;
    build(context, source);
    auto module = simulateKernels(*source);
    ASSERT_TRUE(bool(module)) << module.message();
    std::mt19937 random(31);
    std::normal_distribution<float> normal;
    auto batch = static_cast<int64_t>(sequences.size()), rows = batch * length;
    queryStride = spec.heads * spec.keySize + (spec.aligned ? 4 : 1);
    outStride = spec.heads * spec.valueSize + 3;
    query.resize(rows * queryStride, NAN);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t c = 0; c < spec.heads * spec.keySize; ++c)
        query[row * queryStride + c] = 2 * normal(random);
    sim::Device device;
    std::vector<std::vector<float>> blocks;
    std::vector<sim::Address> pointers;
    std::vector<int64_t> capacities;
    std::vector<int32_t> starts, counts;
    const int64_t prefix = spec.keyHeads * spec.keySize * 4;
    for (const Sequence &sequence : sequences) {
      // What was not written shows.
      std::vector<float> key(spec.keyHeads * sequence.capacity * spec.keySize, NAN);
      std::vector<float> value(spec.keyHeads * sequence.capacity * spec.valueSize, NAN);
      for (int64_t head = 0; head < spec.keyHeads; ++head)
        for (int64_t j = 0; j < sequence.start + sequence.count; ++j) {
          for (int64_t c = 0; c < spec.keySize; ++c)
            key[(head * sequence.capacity + j) * spec.keySize + c] = normal(random);
          for (int64_t c = 0; c < spec.valueSize; ++c)
            value[(head * sequence.capacity + j) * spec.valueSize + c] = normal(random);
        }
      std::vector<float> &block = blocks.emplace_back(key);
      block.insert(block.end(), value.begin(), value.end());
      keys.push_back(std::move(key));
      values.push_back(std::move(value));
      pointers.push_back(device.allocate("cache", block.data(), block.size() * 4));
      capacities.push_back(sequence.capacity);
      starts.push_back(sequence.start);
      counts.push_back(sequence.count);
    }
    auto put = [&](const char *name, const auto &list) {
      return sim::Argument::pointer(device.allocate(name, list.data(), list.size() * sizeof list[0]));
    };
    auto number = [](int64_t value) { return sim::Argument::i32(static_cast<int32_t>(value)); };
    out.assign(rows * outStride, 7);
    sim::Address result = device.allocate("out", out.data(), out.size() * 4);
    std::vector<sim::Argument> arguments = {put("query", query),
                                            number(queryStride),
                                            sim::Argument::pointer(result),
                                            number(outStride),
                                            put("caches", pointers),
                                            put("capacities", capacities),
                                            put("starts", starts),
                                            put("counts", counts),
                                            number(length),
                                            number(0),
                                            number(prefix)};
    std::vector<int32_t> words(1024, 0);
    sim::Address counted = device.allocate("counters", words.data(), words.size() * 4);
    if (spec.splits > 1) {
      auto parts = static_cast<uint64_t>(rows * spec.heads * spec.splits);
      arguments.push_back(sim::Argument::pointer(device.allocate("parts", parts * spec.valueSize * 4)));
      arguments.push_back(sim::Argument::pointer(device.allocate("stats", parts * 8)));
      arguments.push_back(sim::Argument::pointer(counted));
    }
    int64_t tiles = batch * ((length + kernel.rows - 1) / kernel.rows);
    sim::LaunchShape shape{
        {static_cast<uint32_t>(tiles), static_cast<uint32_t>(kernel.gridY), static_cast<uint32_t>(kernel.gridZ)},
        {static_cast<uint32_t>(kernel.threads), 1, 1}};
    shape.descending = descending;
    auto launched = (*module)->launch(device, kernel.name, shape, arguments);
    ASSERT_TRUE(bool(launched)) << launched.message();
    counters = std::move(*launched);
    Error error = device.copyOut(out.data(), result, out.size() * 4);
    ASSERT_FALSE(bool(error)) << error.message();
    error = device.copyOut(words.data(), counted, words.size() * 4);
    ASSERT_FALSE(bool(error)) << error.message();
    EXPECT_EQ(std::count(words.begin(), words.end(), 0), 1024) << "counters are as they were";
  }

  /// Numbers are exact but for what is rounded to f16: queries, keys and values here too; weights, each by 2^-11 of it
  /// or, if it is next to nothing, of 2^-14 of the largest.
  void check() const {
    auto rounded = [](float x) { return static_cast<double>(roundToF16(x)); };
    int64_t sharing = spec.heads / spec.keyHeads;
    for (size_t s = 0; s < sequences.size(); ++s)
      for (int64_t index = 0; index < length; ++index)
        for (int64_t head = 0; head < spec.heads; ++head) {
          const Sequence &sequence = sequences[s];
          int64_t row = static_cast<int64_t>(s) * length + index, end = sequence.start + index + 1;
          int64_t begin = spec.window ? std::max<int64_t>(0, end - spec.window) : 0;
          std::vector<double> weights;
          double largest = -INFINITY, sum = 0;
          if (index >= sequence.count)
            begin = end; // padding
          for (int64_t j = begin; j < end; ++j) {
            const float *key = keys[s].data() + (head / sharing * sequence.capacity + j) * spec.keySize;
            const float *own = query.data() + row * queryStride + head * spec.keySize;
            double dot = 0;
            for (int64_t c = 0; c < spec.keySize; ++c)
              dot += rounded(key[c]) * rounded(own[c]);
            dot *= spec.scale;
            weights.push_back(spec.softcap != 0 ? std::tanh(dot / spec.softcap) * spec.softcap : dot);
            largest = std::max(largest, weights.back());
          }
          for (double &weight : weights)
            sum += weight = std::exp(weight - largest);
          for (int64_t c = 0; c < spec.valueSize; ++c) {
            double expected = 0, size = 0;
            for (int64_t j = begin; j < end; ++j) {
              double value = rounded(values[s][(head / sharing * sequence.capacity + j) * spec.valueSize + c]);
              expected += weights[j - begin] / sum * value;
              size += (weights[j - begin] + 0x1p-14) / sum * std::fabs(value);
            }
            float got = out[row * outStride + head * spec.valueSize + c];
            ASSERT_NEAR(got, expected, size * (0x1p-11 + 1e-5)) << "row " << row << " head " << head << " column " << c;
          }
        }
    for (size_t i = 0; i < out.size(); ++i)
      if (static_cast<int64_t>(i) % outStride >= spec.heads * spec.valueSize)
        ASSERT_EQ(out[i], 7) << "behind a row";
  }
};

AttentionSpec specOf(int64_t heads, int64_t keyHeads, int64_t keySize, int64_t valueSize) {
  return {heads, keyHeads, keySize, valueSize, 1 / std::sqrt(static_cast<double>(keySize)), 0, 0, true};
}
} // namespace

TEST(GPUPrefill, HeadsOfAllSizes) {
  for (auto [keySize, valueSize] : {std::pair<int64_t, int64_t>{8, 8}, {32, 32}, {64, 64}, {96, 40}, {128, 128}}) {
    Attention attention{specOf(2, 1, keySize, valueSize), 64, 37, {{0, 37, 40}, {70, 20, 90}}};
    attention.run();
    attention.check();
    EXPECT_EQ(attention.counters.bankConflicts(), 0u) << keySize;
  }
}

TEST(GPUPrefill, HeadsThatShareKeys) {
  // Three: the rows of a block are no multiple of them. And more rows than a block has, in eight warps.
  for (auto [heads, keyHeads, length] : {std::array<int64_t, 3>{6, 2, 50}, {4, 4, 150}, {20, 1, 9}, {64, 1, 3}}) {
    Attention attention{specOf(heads, keyHeads, 32, 16), 256, length, {{45, int32_t(length), 200}}};
    attention.run();
    attention.check();
  }
}

TEST(GPUPrefill, WindowAndSoftcap) {
  AttentionSpec spec = specOf(2, 2, 16, 16);
  spec.window = 50;
  spec.softcap = 3;
  Attention attention{spec, 256, 140, {{100, 140, 256}}};
  attention.run();
  attention.check();
}

TEST(GPUPrefill, RowsWithoutAlignment) {
  AttentionSpec spec = specOf(3, 3, 20, 7);
  spec.aligned = false;
  Attention attention{spec, 64, 17, {{3, 17, 21}, {0, 1, 1}}};
  attention.run();
  attention.check();
}

TEST(GPUPrefill, KeysInParts) {
  // The last parts have no keys for the first rows, and none at all of the second sequence. In either order of blocks.
  std::vector<float> before;
  for (bool descending : {false, true}) {
    AttentionSpec spec = specOf(4, 2, 64, 64);
    spec.splits = 4;
    Attention attention{spec, 64, 40, {{430, 40, 470}, {20, 31, 60}}, descending};
    attention.run();
    attention.check();
    EXPECT_TRUE(before.empty() || before == attention.out) << "bit by bit";
    before = attention.out;
  }
}

/// Of the shapes that models have: registers suffice.
TEST(GPUPrefill, AssemblesWithoutSpills) {
  if (!findPtxas())
    GTEST_SKIP() << "no ptxas";
  for (const char *name : {"nvidia:sm_80", "nvidia:sm_90"})
    for (auto [keySize, valueSize] : {std::pair<int64_t, int64_t>{64, 64}, {128, 128}, {80, 80}, {16, 8}})
      for (int64_t rows : {64, 256})
        for (int64_t splits : {1, 4}) {
          auto target = parseGPUTarget(name);
          ASSERT_TRUE(bool(target));
          AttentionSpec spec = specOf(32, 32, keySize, valueSize);
          spec.splits = splits;
          Attention attention{spec, rows, 0, {}};
          MLIRContext context(MLIRContext::Threading::DISABLED);
          OwningOpRef<ModuleOp> source;
          attention.build(context, source);
          auto ptx = emitPTX(*source, "step", *target);
          ASSERT_TRUE(bool(ptx)) << ptx.message();
          EXPECT_NE(ptx->find("mma.sync.aligned.m16n8k16"), std::string::npos);
          std::vector<KernelUsage> usage;
          auto cubin = assemble(*ptx, *target, &usage);
          ASSERT_TRUE(bool(cubin)) << cubin.message();
          ASSERT_EQ(usage.size(), 1u);
          EXPECT_EQ(usage[0].stackBytes + usage[0].spillLoads + usage[0].spillStores, 0) << usage[0].kernel;
          if (std::getenv("SKIM_DUMP_PTX"))
            std::printf("%s %s: %d registers, %d bytes of shared memory\n", usage[0].kernel.c_str(), name,
                        usage[0].registers, usage[0].sharedBytes);
        }
}
