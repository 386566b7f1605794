//===- LinearTest.cpp - every format on every schedule and lane set ---------===//
//
// Random components, decoded by the reference and multiplied in double, against
// the generated kernels: awkward shapes, one to many rows of x, codes in rows and
// turned. By default a part of the product of terms, shapes and targets;
// SKIM_TEST_FULL takes all of it.
//
//===----------------------------------------------------------------------===//

#include "RandomWeights.h"
#include "skim/Target/CPU/LinearLibrary.h"

#include "skim-rt/abi.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Support/Threads.h"
#include "skim/Target/CPU/Emit.h"
#include "skim/Target/CPU/Layout.h"
#include "skim/Target/Common/KernelBuilder.h"

#include <cstdlib>
#include <dlfcn.h>
#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

namespace {
/// A random weight as a case of the kernels' library.
struct Weight {
  LinearCase info;
  std::string text;
  std::vector<std::vector<uint8_t>> bytes; // as kernels read them
  std::vector<float> values;

  /// Components in a layout.
  void turn(LayoutAttr layout) {
    info.layout = layout;
    for (auto [codes, component] : llvm::zip(turnedCodes(info.term, {info.n, info.k}, layout), bytes)) {
      if (!codes.block)
        continue;
      std::vector<uint8_t> turned(component.size());
      packCodes(codes, component, turned);
      component = std::move(turned);
    }
  }
};

Weight makeWeight(MLIRContext &context, const std::string &text, int64_t n, int64_t k, std::mt19937 &random) {
  RandomWeight made = randomWeight(context, text, n, k, random);
  Weight weight;
  weight.info.term = made.term;
  weight.info.n = n;
  weight.info.k = k;
  weight.text = text;
  weight.bytes = std::move(made.bytes);
  weight.values = std::move(made.values);
  return weight;
}

class LinearSweep : public testing::TestWithParam<std::tuple<const char *, const char *>> {};

/// Compares row count `rows` of all weights of one shape.
void compare(LinearLibrary &library, std::vector<Weight> &weights, int64_t rows, bool bf16, ThreadTeam &team,
             std::mt19937 &random) {
  std::normal_distribution<float> normal;
  for (auto [index, weight] : llvm::enumerate(weights)) {
    SCOPED_TRACE(weight.text + " [" + std::to_string(weight.info.n) + "x" + std::to_string(weight.info.k) + "] rows " +
                 std::to_string(rows));
    int64_t n = weight.info.n, k = weight.info.k;
    std::vector<float> x(rows * k), y(rows * n, 0.25f), bias(n);
    for (float &value : x)
      value = normal(random);
    for (float &value : bias)
      value = normal(random);
    LinearRun run{x.data(), y.data(), rows, {}, bias.data()};
    // Copies that end where the component ends, so that a sanitizer sees reads beyond.
    for (const std::vector<uint8_t> &bytes : weight.bytes)
      run.components.push_back(bytes.data());
    library.run(index, run, team);
    double worst = 0, worstAllowed = 1;
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t i = 0; i < n; ++i) {
        double sum = weight.info.biased ? bias[i] : 0, size = std::abs(sum);
        if (weight.info.epilogue == LinearEpilogue::Add)
          sum += 0.25;
        for (int64_t j = 0; j < k; ++j) {
          double product = double(weight.values[i * k + j]) * x[m * k + j];
          sum += product;
          size += std::abs(product);
        }
        // Of the sum of magnitudes: f32 rounding, or bf16 rounding of x and of the table.
        double allowed = size * (bf16 ? 1.6e-2 : 4e-6) + 1e-6;
        double error = std::abs(y[m * n + i] - sum);
        if (!(error / allowed <= worst / worstAllowed))
          worst = error, worstAllowed = allowed;
      }
    EXPECT_LE(worst, worstAllowed);
  }
}
} // namespace

/// A module with `linear` of a term, or its embedding.
static Error emitOne(ModuleOp module, const TargetInfo &target, const Weight &weight, bool embed) {
  OpBuilder builder(module.getContext());
  Location loc = builder.getUnknownLoc();
  KernelBuilder b(builder, loc);
  func::FuncOp function = KernelBuilder::beginFunction(builder, module, loc, "test",
                                                       {b.ptr(), b.ptr(), b.ptr(), b.i64(), b.ptr(), b.i32(), b.i32()});
  function.setPublic();
  auto arguments = function.getArguments();
  LinearCall call;
  call.k = weight.info.k;
  call.mode = weight.info.mode;
  LinearPanel panel;
  panel.term = weight.info.term;
  panel.n = weight.info.n;
  for (size_t i = 0; i < weight.bytes.size(); ++i)
    panel.weights.push_back(static_cast<int64_t>(i));
  call.panels.push_back(panel);
  if (embed)
    return emitEmbed(builder, loc, module, target, panel.term, panel.n, call.k, panel.weights, arguments[1],
                     arguments[2], arguments[3], arguments[0], arguments[5], arguments[6]);
  KernelValues values{arguments[1], arguments[2], b.i64(panel.n), arguments[3], arguments[4],
                      arguments[4], arguments[0], arguments[5],   arguments[6]};
  return emitLinear(builder, loc, module, target, call, values);
}

TEST(Linear, ModesWithoutKernelFail) {
  MLIRContext context;
  prepareEmission(context);
  std::mt19937 random(1);
  Weight weight = makeWeight(context, "k3", 3, 5, random);
  weight.info.mode = "a8";
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  Error error = emitOne(*module, *parseCPUTarget("cpu"), weight, false);
  ASSERT_TRUE(bool(error));
  EXPECT_EQ(error.message(), "no kernel at activation mode a8: expected f32 or bf16, got a8 (a8 runs on GPUs)");
}

TEST(Linear, CompilesForARM) {
  auto target = parseCPUTarget("cpu:aarch64");
  ASSERT_TRUE(bool(target)) << target.message();
  for (const char *text : {"f16", "w4g128a", "k3", "k8", "mx4", "p2b", "#skim.scaled<#skim.codebook<bits = 4>>"}) {
    MLIRContext context;
    prepareEmission(context);
    std::mt19937 random(1);
    Weight weight = makeWeight(context, text, 40, 300, random);
    OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
    Error error = emitOne(*module, *target, weight, false);
    ASSERT_FALSE(bool(error)) << error.message();
    auto assembly = emitAssembly(*module, *target);
    ASSERT_TRUE(bool(assembly)) << assembly.message();
    EXPECT_NE(assembly->find("fmla"), std::string::npos) << text;
  }
}

TEST(Linear, EmbeddingMatchesReference) {
  for (const char *targetName : {"cpu", "cpu:portable"})
    for (const char *text : {"f32", "bf16", "w8", "w4g32a", "k4", "k8", "mx6", "p2"}) {
      SCOPED_TRACE(std::string(text) + " on " + targetName);
      MLIRContext context;
      prepareEmission(context);
      std::mt19937 random(3);
      Weight weight = makeWeight(context, text, 19, 77, random);
      auto target = parseCPUTarget(targetName);
      ASSERT_TRUE(bool(target)) << target.message();
      OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
      Error error = emitOne(*module, *target, weight, true);
      ASSERT_FALSE(bool(error)) << error.message();
      std::string path = testing::TempDir() + "skim_embed_" + std::to_string(getpid()) + ".so";
      error = emitSharedObject(*module, *target, path);
      ASSERT_FALSE(bool(error)) << error.message();
      void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      unlink(path.c_str());
      ASSERT_NE(library, nullptr) << dlerror();
      auto run = reinterpret_cast<void (*)(const skim_step_args *, const int32_t *, float *, int64_t, void *, int32_t,
                                           int32_t)>(dlsym(library, "test"));
      std::vector<const void *> components;
      for (const std::vector<uint8_t> &bytes : weight.bytes)
        components.push_back(bytes.data());
      skim_step_args args = {};
      args.weights = components.data();
      std::vector<int32_t> tokens = {18, 0, 7, 7, 3};
      std::vector<float> y(tokens.size() * 77);
      for (int32_t thread = 0; thread < 2; ++thread)
        run(&args, tokens.data(), y.data(), static_cast<int64_t>(tokens.size()), nullptr, thread, 2);
      for (size_t i = 0; i < y.size(); ++i) {
        float expected = weight.values[tokens[i / 77] * 77 + i % 77];
        EXPECT_NEAR(y[i], expected, 1e-6f * std::abs(expected) + 1e-12f) << i;
      }
      dlclose(library);
    }
}

static bool fullTests() { return std::getenv("SKIM_TEST_FULL") != nullptr; }

/// Terms on one shape, their codes in rows or turned.
static void sweepShape(const TargetInfo &target, const std::string &mode, int64_t n, int64_t k,
                       const std::vector<std::string> &terms, bool turned) {
  MLIRContext context;
  prepareEmission(context);
  std::mt19937 random(static_cast<unsigned>(n));
  std::vector<Weight> weights;
  std::vector<LinearCase> cases;
  for (const std::string &text : terms) {
    Weight weight = makeWeight(context, text, n, k, random);
    ASSERT_FALSE(weight.values.empty()) << text;
    weight.info.mode = mode;
    weight.info.biased = weights.size() % 3 == 0;
    weight.info.epilogue = weights.size() % 4 == 1 ? LinearEpilogue::Add : LinearEpilogue::Store;
    if (turned)
      weight.turn(turnedLayout(&context, target, mode));
    cases.push_back(weight.info);
    weights.push_back(std::move(weight));
  }
  auto library = LinearLibrary::build(context, target, cases);
  ASSERT_TRUE(bool(library)) << library.message();
  ThreadTeam team(2);
  for (int64_t rows : {1, 3, 40})
    compare(**library, weights, rows, mode == "bf16", team, random);
}

/// Sums over blocks of columns: what matters is where blocks end.
static const std::vector<std::string> kWideTerms = {"f16", "w4g32a", "k3", "mx4",
                                                    "#skim.scaled<#skim.codebook<bits = 4, table = i8>>"};
/// Terms whose codes a layout turns: codes that fit into words and that are cut, with and without groups.
static const std::vector<std::string> kTurnedTerms = {
    "k3", "w4g128", "k1", "k4", "k5", "k8", "w6", "#skim.scaled<#skim.codebook<bits = 3, table = i8>>"};
/// Every leaf in every way that decoders have to read it: what no target goes without.
static const std::vector<std::string> kBaseTerms = {"f16", "w4g32a", "w4g128", "k3", "k8", "mx4", "p2", "p2b"};

static std::vector<std::string> with(std::vector<std::string> terms, const std::vector<std::string> &more) {
  llvm::append_range(terms, more);
  return terms;
}

TEST_P(LinearSweep, MatchesReference) {
  auto [targetName, mode] = GetParam();
  auto target = parseCPUTarget(targetName);
  ASSERT_TRUE(bool(target)) << target.message();
  if (!hostCanRun(*target))
    GTEST_SKIP() << "this host cannot run " << targetName;
  struct Sweep {
    int64_t n, k;
    std::vector<std::string> terms;
    bool turned;
  };
  std::vector<Sweep> sweeps;
  auto sweep = [&](int64_t n, int64_t k, std::vector<std::string> terms, bool turned = false) {
    // In pieces, for all cores.
    for (size_t first = 0; first < terms.size(); first += 8)
      sweeps.push_back({n, k, {terms.begin() + first, terms.begin() + std::min(first + 8, terms.size())}, turned});
  };
  const std::vector<std::string> all(std::begin(kTerms), std::end(kTerms));
  auto share = [&](size_t number, size_t of) {
    std::vector<std::string> terms;
    for (size_t i = number % of; i < all.size(); i += of)
      terms.push_back(all[i]);
    return terms;
  };
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1}, {3, 5}, {15, 37}, {33, 130}, {257, 1024}};
  if (fullTests()) {
    for (auto [n, k] : shapes)
      sweep(n, k, with(all, nestedTerms(n, k)));
    sweep(72, 2500, with(kWideTerms, nestedTerms(72, 2500)));
    sweep(81, 1163, with(all, nestedTerms(81, 1163)), true);
    sweep(72, 2500, with(kTurnedTerms, nestedTerms(72, 2500)), true);
  } else {
    // The cost is compiling, and wide vectors without their instructions cost most. So all terms meet all schedules on
    // the lane sets together (software: three targets, AVX2, AVX-512 in f32: two, in bf16), every leaf on each, and the
    // small shapes have a share of the terms each, another for every target.
    StringRef name = testing::UnitTest::GetInstance()->current_test_info()->name();
    size_t number = 0;
    ASSERT_FALSE(name.rsplit('/').second.getAsInteger(10, number)) << name.str();
    bool software = target->lanes == LaneSet::Portable;
    // Enough rows for the batch schedule, and an odd number of columns.
    std::vector<std::string> terms = all;
    if (software)
      terms = with(kBaseTerms, share(number, 3));
    else if (mode == std::string("f32") && target->lanes == LaneSet::AVX512)
      terms = with(kBaseTerms, share(number, 2));
    std::vector<std::string> nested = nestedTerms(81, 651);
    sweep(81, 651, with(terms, software ? std::vector{nested.back()} : nested));
    for (auto [index, shape] : llvm::enumerate(shapes)) {
      auto [n, k] = shape;
      std::vector<std::string> some = share(index + std::size(shapes) * number, 24);
      if (index == number % std::size(shapes))
        some = with(some, nestedTerms(n, k));
      sweep(n, k, some);
    }
    sweep(72, 2500, {kWideTerms[number % kWideTerms.size()]});
    // Two blocks of the widest layout and some columns more; blocks of columns of the batch schedule.
    sweep(81, 1163, {kTurnedTerms.begin(), all.size() > terms.size() ? kTurnedTerms.begin() + 2 : kTurnedTerms.end()},
          true);
    if (!software)
      sweep(72, 2500, {"k3", nestedTerms(72, 2500).back()}, true);
  }
  // Compiling takes most of the time.
  parallelFor(sweeps.size(), 1, 0, [&, mode = mode](size_t begin, size_t, unsigned) {
    const Sweep &one = sweeps[begin];
    sweepShape(*target, mode, one.n, one.k, one.terms, one.turned);
  });
}

INSTANTIATE_TEST_SUITE_P(Targets, LinearSweep,
                         testing::Values(std::make_tuple("cpu:portable", "f32"),
                                         std::make_tuple("cpu-sim:x86-64-v4", "f32"),
                                         std::make_tuple("cpu-sim:x86-64-v4", "bf16"),
                                         std::make_tuple("cpu:x86-64-v3", "f32"),
                                         std::make_tuple("cpu:x86-64-v4", "f32"), std::make_tuple("cpu", "f32"),
                                         std::make_tuple("cpu", "bf16")));
