//===- GPULinearTest.cpp - every format on every GPU schedule ---------------===//
//
// Random components, decoded by the reference and multiplied in double, against
// the generated kernels in the simulator, which also traps what a device leaves
// undefined: awkward shapes, one to many rows of x, both modes. By default every
// format on every schedule, in one of the modes, on most shapes and with some of
// the numbers of rows; SKIM_TEST_FULL takes the whole product.
//
//===----------------------------------------------------------------------===//

#include "GPULinearCases.h"
#include "skim/Support/Threads.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/Tiles.h"

#include <cstdlib>
#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

namespace {
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
      if (fullTests() || (number + index) % 3 == (mode == "f16"))
        all.push_back({text, shape, number + index});
  }
  inParallel(all.size(), [&](size_t begin, MLIRContext &context) {
    const Work &work = all[begin];
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

/// What a device would move: every byte of the weight once, in requests that waste nothing.
TEST(GPULinearCounts, WeightsAreReadOnceInWholeSectors) {
  const char *const terms[] = {"f16", "w4g128", "w8", "k1", "k2", "k3", "k4", "mx4", "p2"};
  inParallel(std::size(terms), [&](size_t begin, MLIRContext &context) {
    const char *text = terms[begin];
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
  inParallel(std::size(terms), [&](size_t begin, MLIRContext &context) {
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
  inParallel(std::size(kinds), [&](size_t begin, MLIRContext &context) {
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
  inParallel(terms.size(), [&](size_t begin, MLIRContext &context) {
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
  inParallel(std::size(terms), [&](size_t begin, MLIRContext &context) {
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
  inParallel(all.size(), [&](size_t begin, MLIRContext &context) {
    auto [text, n, k] = all[begin];
    SCOPED_TRACE(std::string(text) + " [" + std::to_string(n) + "x" + std::to_string(k) + "]");
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
      std::vector<uint8_t> packed(tiled[index].bytes(bytes.size()));
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
