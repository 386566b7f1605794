//===- AllocationTest.cpp - allocation beside exhaustive search -----------===//
#include "skim/Quantize/Allocation.h"
#include "skim/Quantize/BitPacking.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <random>

using namespace skim;

//===----------------------------------------------------------------------===//
// Rows of one matrix, as published
//===----------------------------------------------------------------------===//

/// Errors that fall with the bits, by about four a bit; convex or not.
static std::vector<double> fallingErrors(size_t rows, size_t widths, bool convex, unsigned seed) {
  std::mt19937 random(seed);
  std::lognormal_distribution<double> size(0, 1);
  std::uniform_real_distribution<double> unit(0, 1);
  std::vector<double> errors;
  for (size_t n = 0; n < rows; ++n) {
    double error = size(random);
    for (size_t w = 0; w < widths; ++w, error *= convex ? 0.25 : 0.1 + 0.9 * unit(random))
      errors.push_back(error);
  }
  return errors;
}

TEST(RowAllocation, IsOptimalForConvexErrors) {
  const size_t rows = 7, widths = 3;
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::vector<double> errors = fallingErrors(rows, widths, true, seed);
    for (double target : {2.0, 2.25, 2.6, 3.0, 3.5, 4.0}) {
      auto bits = allocateRows(errors, rows, target, {2, 4});
      ASSERT_TRUE(bits) << bits.message();
      double got = 0;
      size_t used = 0;
      for (size_t n = 0; n < rows; ++n) {
        got += errors[n * widths + (*bits)[n] - 2];
        used += (*bits)[n];
      }
      EXPECT_EQ(used, size_t(std::floor(rows * target + 1e-9)));
      double best = 1e300;
      for (int code = 0; code < std::pow(3, rows); ++code) {
        double sum = 0;
        size_t total = 0;
        for (size_t n = 0, rest = code; n < rows; ++n, rest /= 3) {
          sum += errors[n * widths + rest % 3];
          total += 2 + rest % 3;
        }
        if (total <= used)
          best = std::min(best, sum);
      }
      EXPECT_NEAR(got, best, 1e-12 * best) << "seed " << seed << ", target " << target;
    }
  }
}

TEST(RowAllocation, FollowsTheAlgorithmWhereErrorsAreNotConvex) {
  const size_t rows = 50, widths = 4;
  std::vector<double> errors = fallingErrors(rows, widths, false, 3);
  auto bits = allocateRows(errors, rows, 2.7, {1, 4});
  ASSERT_TRUE(bits);
  // The algorithm with a scan in the heap's place.
  std::vector<uint8_t> expected(rows, 1);
  for (size_t used = rows; used < 135; ++used) {
    size_t best = rows;
    double gain = -1e300;
    for (size_t n = 0; n < rows; ++n) {
      if (expected[n] == 4)
        continue;
      double g = errors[n * widths + expected[n] - 1] - errors[n * widths + expected[n]];
      if (g > gain) {
        gain = g;
        best = n;
      }
    }
    ++expected[best];
  }
  EXPECT_EQ(*bits, expected);
}

TEST(RowAllocation, IntegerTargetsAndStarts) {
  // One row profits from bits, the others do not.
  std::vector<double> errors = {9, 1, 0.5, 1, 0.99, 0.98, 1, 0.99, 0.98, 1, 0.99, 0.98};
  RowAllocationOptions options{2, 4};
  EXPECT_EQ(*allocateRows(errors, 4, 3, options), (std::vector<uint8_t>{4, 4, 2, 2}));
  options.mixAtIntegers = false;
  EXPECT_EQ(*allocateRows(errors, 4, 3, options), (std::vector<uint8_t>{3, 3, 3, 3}));
  EXPECT_EQ(*allocateRows(errors, 4, 3.25, options), (std::vector<uint8_t>{4, 4, 3, 2}));
  options.startAtFloor = true;
  EXPECT_EQ(*allocateRows(errors, 4, 3.25, options), (std::vector<uint8_t>{4, 3, 3, 3}));
  EXPECT_EQ(*allocateRows(errors, 4, 4, options), (std::vector<uint8_t>{4, 4, 4, 4}));
}

TEST(RowAllocation, DegenerateInputs) {
  EXPECT_TRUE(allocateRows({}, 0, 3, {2, 4})->empty());
  EXPECT_EQ(*allocateRows(std::vector<double>{1, 1, 1}, 1, 3.9, {2, 4}), std::vector<uint8_t>{3});
  EXPECT_EQ(*allocateRows(std::vector<double>(9, 1.0), 3, 2.4, {2, 4}), (std::vector<uint8_t>{3, 2, 2}));
  EXPECT_EQ(allocateRows(std::vector<double>(9, 1.0), 3, 4.5, {2, 4}).message(),
            "target cannot be reached by mixing rows: expected from 2 to 4 bits a weight, got 4.5");
  EXPECT_EQ(allocateRows(std::vector<double>(8, 1.0), 3, 3, {2, 4}).message(),
            "errors do not fit the rows: expected 3 x 3 numbers, got 8");
  EXPECT_EQ(allocateRows(std::vector<double>{1, 1, 1, 1, NAN, 1}, 2, 3, {2, 4}).message(),
            "error of a row is not finite at row 1, 3 bits: expected a finite number, got nan");
  EXPECT_FALSE(allocateRows(std::vector<double>(9, 1.0), 3, NAN, {2, 4}));
}

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

/// Layers that own the errors their families look at.
struct TestModel {
  std::vector<AllocationLayer> layers;
  std::vector<AllocationGroup> groups;
  std::vector<std::unique_ptr<std::vector<double>>> storage;

  AllocationFamily family(std::vector<uint64_t> rowBytes, std::vector<double> errors, uint64_t fixedBytes = 0,
                          uint64_t mixedBytes = 0) {
    storage.push_back(std::make_unique<std::vector<double>>(std::move(errors)));
    return {"family", fixedBytes, mixedBytes, std::move(rowBytes), *storage.back()};
  }
};

struct Choice {
  uint64_t bytes;
  double error;
};

/// Every choice of a set of rows in one family, with what it stores.
static std::vector<Choice> choicesOf(const std::vector<const AllocationFamily *> &tied) {
  const size_t rows = tied[0]->rows(), widths = tied[0]->widths();
  std::vector<size_t> at(rows);
  std::vector<Choice> out;
  for (bool more = true; more;) {
    Choice choice{0, 0};
    bool mixed = false;
    for (const AllocationFamily *family : tied) {
      choice.bytes += family->fixedBytes;
      for (size_t n = 0; n < rows; ++n) {
        choice.bytes += family->rowBytes[at[n]];
        choice.error += family->errors[n * widths + at[n]];
        mixed |= at[n] != at[0];
      }
    }
    for (const AllocationFamily *family : tied)
      choice.bytes += mixed ? family->mixedBytes : 0;
    out.push_back(choice);
    more = false;
    for (size_t n = 0; n < rows && !more; ++n) {
      more = ++at[n] < widths;
      if (!more)
        at[n] = 0;
    }
  }
  return out;
}

static std::vector<Choice> sums(const std::vector<Choice> &a, const std::vector<Choice> &b) {
  std::vector<Choice> out;
  for (const Choice &x : a)
    for (const Choice &y : b)
      out.push_back({x.bytes + y.bytes, x.error + y.error});
  // Dominated sums are dropped so that the search stays small.
  std::sort(out.begin(), out.end(), [](const Choice &x, const Choice &y) {
    return x.bytes != y.bytes ? x.bytes < y.bytes : x.error < y.error;
  });
  std::vector<Choice> kept;
  for (const Choice &choice : out)
    if (kept.empty() || choice.error < kept.back().error)
      kept.push_back(choice);
  return kept;
}

/// All that a model can be, without dominated choices: ascending bytes, falling errors.
static std::vector<Choice> exhaustive(const TestModel &model) {
  std::vector<Choice> total = {{0, 0}};
  std::vector<bool> done(model.layers.size());
  for (size_t i = 0; i < model.layers.size(); ++i) {
    if (done[i])
      continue;
    AllocationGroup group{{i}};
    for (const AllocationGroup &candidate : model.groups)
      if (std::find(candidate.layers.begin(), candidate.layers.end(), i) != candidate.layers.end())
        group = candidate;
    for (size_t layer : group.layers)
      done[layer] = true;
    std::vector<Choice> unit;
    for (size_t f = 0; f < model.layers[i].families.size(); ++f) {
      std::vector<Choice> family = {{0, 0}};
      std::vector<const AllocationFamily *> tied;
      for (size_t layer : group.layers)
        tied.push_back(&model.layers[layer].families[f]);
      if (group.shares == AllocationGroup::Shares::Rows)
        family = choicesOf(tied);
      else
        for (const AllocationFamily *one : tied)
          family = sums(family, choicesOf({one}));
      unit.insert(unit.end(), family.begin(), family.end());
    }
    total = sums(total, unit);
  }
  return total;
}

static double bestWithin(const std::vector<Choice> &all, uint64_t budget) {
  double best = INFINITY;
  for (const Choice &choice : all)
    if (choice.bytes <= budget)
      best = choice.error;
  return best;
}

/// What an allocation says of itself is true.
static void expectConsistent(const TestModel &model, const Allocation &allocation, uint64_t budget) {
  uint64_t bytes = 0;
  double error = 0;
  ASSERT_EQ(allocation.layers.size(), model.layers.size());
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const LayerAllocation &layer = allocation.layers[i];
    const AllocationFamily &family = model.layers[i].families.at(layer.family);
    ASSERT_EQ(layer.widths.size(), family.rows());
    uint64_t own = family.fixedBytes;
    bool mixed = false;
    for (size_t n = 0; n < family.rows(); ++n) {
      own += family.rowBytes.at(layer.widths[n]);
      error += family.errors[n * family.widths() + layer.widths[n]];
      mixed |= layer.widths[n] != layer.widths[0];
    }
    own += mixed ? family.mixedBytes : 0;
    EXPECT_EQ(layer.mixed, mixed);
    EXPECT_EQ(layer.bytes, own);
    bytes += own;
  }
  EXPECT_EQ(allocation.bytes, bytes);
  EXPECT_NEAR(allocation.error, error, 1e-12 * std::abs(error));
  EXPECT_LE(allocation.bytes, budget);
  EXPECT_LE(allocation.errorBound, allocation.error);
  for (const AllocationGroup &group : model.groups) {
    for (size_t layer : group.layers) {
      EXPECT_EQ(allocation.layers[layer].family, allocation.layers[group.layers[0]].family);
      if (group.shares == AllocationGroup::Shares::Rows)
        EXPECT_EQ(allocation.layers[layer].widths, allocation.layers[group.layers[0]].widths);
    }
  }
}

/// A few small layers of up to three families, some of them grouped.
static TestModel randomModel(unsigned seed, bool terms) {
  std::mt19937 random(seed);
  auto upTo = [&](unsigned limit) { return random() % (limit + 1); };
  TestModel model;
  const size_t layers = 2 + upTo(2), kind = upTo(2);
  const size_t sharedFamilies = 1 + upTo(2), sharedRows = 2 + upTo(2);
  std::vector<std::vector<uint64_t>> shapes;
  for (size_t f = 0; f < sharedFamilies; ++f) {
    std::vector<uint64_t> bytes;
    for (unsigned w = 0, size = 3 + upTo(5); w < 2 + upTo(2); ++w, size += 1 + upTo(8))
      bytes.push_back(size);
    shapes.push_back(bytes);
  }
  for (size_t i = 0; i < layers; ++i) {
    AllocationLayer layer{"layer" + std::to_string(i), {}};
    for (const std::vector<uint64_t> &shape : shapes) {
      size_t rows = terms ? 1 : kind == 2 ? sharedRows : 1 + upTo(3);
      layer.families.push_back(model.family(shape, fallingErrors(rows, shape.size(), upTo(1), random()), upTo(9),
                                            terms ? 0 : upTo(1) * 2 * rows));
    }
    model.layers.push_back(std::move(layer));
  }
  if (kind == 1)
    model.groups.push_back({{0, 1}, AllocationGroup::Shares::Family});
  if (kind == 2)
    model.groups.push_back({{1, 0}, AllocationGroup::Shares::Rows});
  return model;
}

TEST(Allocation, BesideExhaustiveSearch) {
  size_t budgets = 0, optimal = 0;
  double excess = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    TestModel model = randomModel(seed, seed % 2);
    std::vector<Choice> all = exhaustive(model);
    auto allocator = Allocator::create(model.layers, model.groups);
    ASSERT_TRUE(allocator) << allocator.message();
    EXPECT_EQ(allocator->minimumBytes(), all.front().bytes);
    EXPECT_EQ(allocator->maximumBytes(), all.back().bytes);

    // At the hull's vertices there is nothing better.
    std::vector<ParetoPoint> curve = allocator->pareto(400);
    EXPECT_EQ(curve.front().bytes, all.front().bytes);
    EXPECT_EQ(curve.back().bytes, all.back().bytes);
    for (const ParetoPoint &point : curve) {
      EXPECT_NEAR(point.error, bestWithin(all, point.bytes), 1e-12 * all.front().error) << "seed " << seed;
      auto allocation = allocator->allocate(point.bytes);
      ASSERT_TRUE(allocation);
      EXPECT_NEAR(allocation->error, point.error, 1e-12 * all.front().error) << "seed " << seed;
    }
    // Between them the bound holds and the fill comes near.
    for (uint64_t budget = all.front().bytes; budget <= all.back().bytes + 3; ++budget) {
      auto allocation = allocator->allocate(budget);
      ASSERT_TRUE(allocation);
      expectConsistent(model, *allocation, budget);
      double best = bestWithin(all, budget);
      EXPECT_LE(allocation->errorBound, best * (1 + 1e-12)) << "seed " << seed << ", budget " << budget;
      EXPECT_GE(allocation->error, best * (1 - 1e-12));
      ++budgets;
      optimal += allocation->error <= best * (1 + 1e-12);
      excess += allocation->error / best - 1;
    }
  }
  // Tiny models are the worst case: one row is a tenth of what there is.
  EXPECT_GE(double(optimal), 0.9 * double(budgets)) << optimal << " of " << budgets;
  EXPECT_LE(excess / double(budgets), 0.01);
}

TEST(Allocation, UniformLayersOweNoPermutation) {
  TestModel model;
  // Every row gains alike: mixing would cost 6 bytes and save nothing at 12 and at 24 bytes.
  model.layers.push_back({"layer", {model.family({4, 8}, {4, 1, 4, 1, 4, 1}, 0, 6)}});
  for (auto [budget, bytes, mixed] : {std::tuple{12, 12, false}, {21, 12, false}, {22, 22, true}, {24, 24, false}}) {
    auto allocation = allocateGlobal(model.layers, {}, budget);
    ASSERT_TRUE(allocation);
    expectConsistent(model, *allocation, budget);
    EXPECT_EQ(allocation->bytes, uint64_t(bytes)) << budget;
    EXPECT_EQ(allocation->layers[0].mixed, mixed) << budget;
  }
}

TEST(Allocation, TiesGoToTheFirst) {
  TestModel model;
  for (int i = 0; i < 3; ++i)
    model.layers.push_back({"layer", {model.family({4, 8}, {4, 1, 4, 1}), model.family({4, 8}, {4, 1, 4, 1})}});
  auto allocation = allocateGlobal(model.layers, {}, 24 + 3 * 4);
  ASSERT_TRUE(allocation);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(allocation->layers[i].family, 0u);
  EXPECT_EQ(allocation->layers[0].widths, (std::vector<uint8_t>{1, 1}));
  EXPECT_EQ(allocation->layers[1].widths, (std::vector<uint8_t>{1, 0}));
  EXPECT_EQ(allocation->layers[2].widths, (std::vector<uint8_t>{0, 0}));
}

TEST(Allocation, DegenerateInputs) {
  TestModel model;
  model.layers.push_back({"empty", {model.family({4, 8}, {}, 5, 2)}});
  model.layers.push_back({"one", {model.family({8, 4, 6}, {1, 4, 1})}});
  model.layers.push_back({"equal", {model.family({4, 8}, {3, 3, 3, 3}, 0, 4)}});
  model.layers.push_back({"backward", {model.family({4, 8}, {1, 7, 1, 7}, 0, 4)}});
  model.layers.push_back({"zero", {model.family({4, 8}, {0, 0}, 0, 4)}});
  auto allocator = Allocator::create(model.layers);
  ASSERT_TRUE(allocator) << allocator.message();
  EXPECT_EQ(allocator->minimumBytes(), 5u + 4 + 8 + 8 + 4);
  EXPECT_EQ(allocator->maximumBytes(), 5u + 6 + 8 + 8 + 4);
  EXPECT_EQ(allocator->allocate(28).message(),
            "budget is below what the formats can reach: expected at least 29 bytes, got 28");
  auto allocation = allocator->allocate(1000);
  ASSERT_TRUE(allocation);
  expectConsistent(model, *allocation, 1000);
  EXPECT_EQ(allocation->bytes, 31u);
  EXPECT_EQ(allocation->layers[1].widths, std::vector<uint8_t>{2});

  auto none = Allocator::create({});
  ASSERT_TRUE(none);
  EXPECT_EQ(none->minimumBytes(), 0u);
  EXPECT_EQ(none->allocate(0)->bytes, 0u);
  EXPECT_EQ(none->pareto(5).size(), 1u);
}

TEST(Allocation, BadInputsAreNamed) {
  TestModel model;
  auto message = [&](std::vector<AllocationLayer> layers, std::vector<AllocationGroup> groups = {}) {
    return Allocator::create(layers, groups).message();
  };
  AllocationLayer nan{"mlp.up", {model.family({4, 8}, {1, 2, 3, NAN})}};
  EXPECT_EQ(message({nan}), "error of an allocation is not finite at mlp.up, family, row 1, width 1: expected a finite "
                            "number, got nan");
  EXPECT_NE(message({{"x", {model.family({4, 8}, {1, INFINITY})}}}).find("got inf"), std::string::npos);
  EXPECT_EQ(message({{"x", {}}}), "layer has nothing to choose from at x: expected at least one term, got none");
  EXPECT_NE(message({{"x", {model.family({4, 8}, {1, 2, 3})}}}).find("3 numbers for 2 widths"), std::string::npos);
  EXPECT_NE(message({{"x", {model.family({}, {})}}}), "");
  AllocationLayer a{"a", {model.family({4, 8}, {1, 0})}}, b{"b", {model.family({4, 8}, {1, 0, 1, 0})}};
  AllocationLayer two{"two", {model.family({4, 8}, {1, 0}), model.family({4, 8}, {1, 0})}};
  EXPECT_EQ(message({a, b}, {{{0, 1}}}), "");
  EXPECT_EQ(
      message({a, b}, {{{0, 1}, AllocationGroup::Shares::Rows}}),
      "layers that share their rows' widths differ in rows or widths at b and a, family: expected 1 x 2, got 2 x 2");
  EXPECT_EQ(message({a, two}, {{{0, 1}}}),
            "layers of a group have different terms at two and a: expected 1 terms, got 2");
  EXPECT_EQ(message({a, b}, {{{0, 1}}, {{1}}}), "layer is in two groups at b");
  EXPECT_NE(message({a, b}, {{{0, 2}}}), "");
}

TEST(Allocation, RowBytesAreWhatIsStored) {
  for (unsigned bits = 1; bits <= 8; ++bits) {
    for (int64_t columns : {1, 64, 577}) {
      CodebookFormat half{bits}, byte{bits, DType::I8}, shared{bits, DType::F16, true};
      UniformFormat grouped{bits, 32, true};
      EXPECT_EQ(3 * storedRowBytes(half, columns), storedBytes(componentsOf(half, 3, columns)));
      EXPECT_EQ(3 * storedRowBytes(byte, columns), storedBytes(componentsOf(byte, 3, columns)));
      EXPECT_EQ(3 * storedRowBytes(grouped, columns), storedBytes(componentsOf(grouped, 3, columns)));
      EXPECT_EQ(storedRowBytes(shared, columns), packedBytes(columns, bits));
    }
  }
  EXPECT_EQ(permutationBytes(65536), 131072u);
  EXPECT_EQ(permutationBytes(65537), 4u * 65537);
}

/// As many rows as SmolLM2-135M has, of its lengths.
static TestModel manyRows(bool coarse) {
  TestModel model;
  std::mt19937 random(5);
  std::lognormal_distribution<double> size(0, 1.5);
  for (int block = 0; block < 30; ++block) {
    for (auto [rows, columns] : {std::pair<int64_t, int64_t>{576, 576},
                                 {192, 576},
                                 {192, 576},
                                 {576, 576},
                                 {1536, 576},
                                 {1536, 576},
                                 {576, 1536}}) {
      AllocationLayer layer{"layer" + std::to_string(model.layers.size()), {}};
      for (DType table : {DType::F16, DType::I8}) {
        std::vector<uint64_t> bytes;
        for (unsigned bits = 1; bits <= 5; ++bits)
          bytes.push_back(storedRowBytes(CodebookFormat{bits, table}, columns) * (coarse ? rows : 1));
        const int64_t choosers = coarse ? 1 : rows;
        double scale = size(random) * (table == DType::I8 ? 1.01 : 1);
        std::vector<double> errors = fallingErrors(choosers, 5, true, random());
        for (double &error : errors)
          error *= scale;
        layer.families.push_back(model.family(bytes, errors, 0, coarse ? 0 : permutationBytes(rows)));
      }
      model.layers.push_back(std::move(layer));
    }
  }
  return model;
}

TEST(Allocation, MeetsBudgetsOfWholeModels) {
  for (bool coarse : {false, true}) {
    TestModel model = manyRows(coarse);
    auto allocator = Allocator::create(model.layers);
    ASSERT_TRUE(allocator);
    const uint64_t weights = 30 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576);
    for (double bits : {2.25, 2.5, 3.0, 3.25, 4.0}) {
      const auto budget = uint64_t(bits * double(weights) / 8);
      auto allocation = allocator->allocate(budget);
      ASSERT_TRUE(allocation) << allocation.message();
      expectConsistent(model, *allocation, budget);
      EXPECT_GE(double(allocation->bytes), 0.998 * double(budget)) << bits << (coarse ? " coarse" : "");
      EXPECT_LE(allocation->error, (coarse ? 1.001 : 1.00001) * allocation->errorBound) << bits;
    }
    std::vector<ParetoPoint> curve = allocator->pareto(100);
    EXPECT_GE(curve.size(), 90u);
    for (size_t i = 1; i < curve.size(); ++i) {
      EXPECT_GT(curve[i].bytes, curve[i - 1].bytes);
      EXPECT_LT(curve[i].error, curve[i - 1].error);
    }
  }
}

TEST(Allocation, MovesRowsToWholeTiles) {
  TestModel model = manyRows(false);
  const size_t widths = model.layers[0].families[0].widths();
  // Rows that no tiles divide, and fewer than a tile has.
  for (size_t rows : {41, 9})
    model.layers.push_back(
        {"few",
         {model.family(model.layers[0].families[0].rowBytes, fallingErrors(rows, widths, true, 3), 5, 2 * rows)}});
  auto allocator = Allocator::create(model.layers);
  ASSERT_TRUE(allocator);
  const size_t tile = 16;
  for (double share : {0.05, 0.2, 0.5, 0.8}) {
    const uint64_t least = allocator->minimumBytes(), range = allocator->maximumBytes() - least;
    auto allocation = allocator->allocate(least + uint64_t(double(range) * share));
    ASSERT_TRUE(allocation) << allocation.message();
    Allocation tiled = *allocation;
    moveToTiles(model.layers, tile, tiled);
    tiled.errorBound = 0;
    expectConsistent(model, tiled, UINT64_MAX);
    EXPECT_NE(tiled.layers[0].widths, allocation->layers[0].widths);
    for (size_t i = 0; i < model.layers.size(); ++i) {
      const std::vector<uint64_t> &rowBytes = model.layers[i].families[tiled.layers[i].family].rowBytes;
      std::map<uint64_t, size_t> counts; // by bytes of a row
      for (uint8_t width : tiled.layers[i].widths)
        ++counts[rowBytes[width]];
      EXPECT_EQ(counts.begin()->second % tile, tiled.layers[i].widths.size() % tile) << model.layers[i].name;
      for (auto it = std::next(counts.begin()); it != counts.end(); ++it)
        EXPECT_EQ(it->second % tile, 0u) << model.layers[i].name;
    }
    // It costs little: beside what the same bytes can be without tiles.
    auto free = allocator->allocate(tiled.bytes);
    ASSERT_TRUE(free) << free.message();
    EXPECT_GE(tiled.error, free->errorBound);
    EXPECT_LE(tiled.error, 1.03 * free->error) << share;
  }
}
