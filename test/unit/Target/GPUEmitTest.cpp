//===- GPUEmitTest.cpp - kernels for NVIDIA GPUs as PTX and machine code ----===//

#include "mlir/IR/Verifier.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/LinearFamily.h"

#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

namespace {
/// A module with the kernels of one linear.
OwningOpRef<ModuleOp> buildKernels(MLIRContext &context, const std::string &text, const std::string &mode, int64_t n,
                                   int64_t k, int64_t m, std::string &error,
                                   const std::string &targetName = "nvidia:sm_80") {
  prepareGPUEmission(context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "kernels");
  std::string activations;
  LinearCall call;
  call.k = k;
  call.mode = mode;
  LinearPanel panel;
  panel.term = parseTerm(text, &context, activations, error);
  if (!panel.term)
    return {};
  panel.n = n;
  for (size_t i = 0; i < getComponents(panel.term, {n, k}).size(); ++i)
    panel.weights.push_back(static_cast<int64_t>(i));
  call.panels.push_back(panel);
  auto target = parseGPUTarget(targetName);
  auto plan = device::emitLinear(builder, module->getLoc(), kernels, *target, call, m);
  if (!plan)
    error = plan.message();
  else if (failed(mlir::verify(*module)))
    error = "invalid kernels";
  return module;
}

const char *const kTerms[] = {"f16",
                              "bf16",
                              "f32",
                              "w4g128",
                              "w4g32a",
                              "w4g128a",
                              "w2g64",
                              "#skim.planes<bits = 3, group = 128>",
                              "w3g64",
                              "w2",
                              "w1a",
                              "w8",
                              "w6g32a",
                              "k1",
                              "k2",
                              "k3",
                              "k4",
                              "k5",
                              "k8",
                              "k3i",
                              "k5i",
                              "#skim.uniform<bits = 6, asymmetric, zero = f16>",
                              "mx4",
                              "mx8",
                              "mx2",
                              "p2",
                              "p3b",
                              "p2b-a8",
                              "#skim.block_float<bits = 4, block = 32, element = e2m1>"};
} // namespace

TEST(GPUTarget, Names) {
  auto target = parseGPUTarget("nvidia:sm_90a");
  ASSERT_TRUE(bool(target));
  EXPECT_EQ(target->sm, 90);
  EXPECT_FALSE(target->simulated);
  EXPECT_TRUE(parseGPUTarget("nvidia-sim:sm_80")->simulated);
  auto wrong = parseGPUTarget("nvidia:sm_70");
  ASSERT_FALSE(bool(wrong));
  EXPECT_NE(wrong.message().find("expected one of nvidia:sm_80"), std::string::npos) << wrong.message();
}

namespace {
/// Rows of x of which a warp takes two tiles of rows.
constexpr int64_t kTwoTiles = 512;

/// Compiles one linear [size, size], planned for a chip; where ptxas is, assembles it and looks for spills.
void expectClean(const GPUTarget &target, const std::string &text, const std::string &mode, int64_t m,
                 const GPUTarget &planned = *parseGPUTarget("nvidia:sm_80"), int64_t n = 4096, int64_t k = 4096) {
  SCOPED_TRACE(text + " " + mode + " rows " + std::to_string(m) + " " + target.chip);
  MLIRContext context(MLIRContext::Threading::DISABLED);
  std::string error;
  OwningOpRef<ModuleOp> module = buildKernels(context, text, mode, n, k, m, error, planned.name);
  ASSERT_EQ(error, "");
  auto ptx = emitPTX(*module, "kernels", target);
  ASSERT_TRUE(bool(ptx)) << ptx.message();
  if (const char *folder = std::getenv("SKIM_DUMP_PTX"))
    std::ofstream(std::string(folder) + "/" + text + "_" + mode + "_" + std::to_string(m) + "_" + target.chip + ".ptx")
        << *ptx;
  EXPECT_NE(ptx->find(".target " + target.chip), std::string::npos);
  bool wide = planned.hasWgmma() && m > 64 && mode != "a8";
  // Integers of up to four bits, in groups of 128 or by rows.
  bool binary = mode == "a8" && m == 1 && planned.hasBinary() &&
                llvm::is_contained({"w4g128", "w2", "p2", "#skim.planes<bits = 3, group = 128>"}, text);
  EXPECT_NE(ptx->find(binary         ? "mma.sync.aligned.m16n8k"
                      : wide         ? "wgmma.mma_async.sync.aligned.m64n"
                      : mode == "a8" ? "mma.sync.aligned.m16n8k32"
                                     : "mma.sync.aligned.m16n8k16"),
            std::string::npos);
  EXPECT_EQ(ptx->find(".b1.b1.s32.and.popc") != std::string::npos, binary);
  if (!findPtxas())
    return;
  std::vector<KernelUsage> usage;
  auto cubin = assemble(*ptx, target, &usage);
  ASSERT_TRUE(bool(cubin)) << cubin.message();
  EXPECT_EQ(usage.size(), m == 1 ? 1u : 2u);
  for (const KernelUsage &kernel : usage) {
    EXPECT_EQ(kernel.stackBytes + kernel.spillLoads + kernel.spillStores, 0) << kernel.kernel;
    EXPECT_GT(kernel.registers, 0) << kernel.kernel;
    EXPECT_EQ(kernel.wgmma, "") << kernel.kernel; // nothing waits for it but what says so
    if (std::getenv("SKIM_DUMP_PTX"))
      std::printf("%s %s: %d registers, %d bytes of shared memory\n", kernel.kernel.c_str(), target.chip.c_str(),
                  kernel.registers, kernel.sharedBytes);
  }
}
} // namespace

TEST(GPUEmit, EveryLeafAssemblesWithoutSpills) {
  auto target = parseGPUTarget("nvidia:sm_80");
  ASSERT_TRUE(bool(target));
  for (const char *text : kTerms)
    for (auto [mode, m] : {std::pair<const char *, int64_t>{"f16", 1},
                           {"bf16", 1},
                           {"f16", 8},
                           {"f16", 16},
                           {"bf16", 64},
                           {"f16", kTwoTiles},
                           {"bf16", kTwoTiles}})
      expectClean(*target, text, mode, m);
}

/// Weights whose last tile has fewer rows, and columns behind the blocks.
TEST(GPUEmit, PartialTilesAssembleWithoutSpills) {
  auto target = parseGPUTarget("nvidia:sm_80");
  ASSERT_TRUE(bool(target));
  for (const char *text : kTerms)
    for (int64_t m : {int64_t(1), int64_t(8), kTwoTiles})
      expectClean(*target, text, "f16", m, *target, 4090, 576);
}

/// What `auto` makes of layers: parts of any number of rows in many widths, one kernel for all calls of a shape.
TEST(GPUEmit, FamiliesAssembleWithoutSpills) {
  if (!findPtxas())
    GTEST_SKIP() << "no ptxas";
  constexpr int64_t n = 2300;
  auto layer = [](int64_t rows, const std::string &others) {
    return "#skim.rows<[#skim.codebook<bits = 1, table = i8> : 160, #skim.codebook<bits = 2, table = i8> : 500, "
           "#skim.codebook<bits = 4, table = i8> : 300, #skim.codebook<bits = 3, table = i8> : " +
           std::to_string(n - 960 - rows) + others + "]>";
  };
  const std::string layers[] = {
      layer(0, ""), layer(47, ", #skim.codebook<bits = 5, table = i8> : 47"),
      layer(3, ", #skim.uniform<bits = 6, asymmetric, zero = f16> : 2, #skim.uniform<bits = 8> : 1"),
      layer(115, ", #skim.uniform<bits = 3, group = 64> : 9, #skim.uniform<bits = 4, group = 64> : 99, "
                 "#skim.uniform<bits = 4, group = 64, asymmetric, zero = f16> : 7")};
  for (auto [chip, k] : {std::pair<const char *, int64_t>{"sm_80", 576}, {"sm_80", 4096}, {"sm_90a", 4096}}) {
    MLIRContext context(MLIRContext::Threading::DISABLED);
    prepareGPUEmission(context);
    OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
    OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
    auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "kernels");
    auto target = parseGPUTarget(std::string("nvidia:") + chip);
    std::vector<LinearCall> calls;
    for (const std::string &text : layers) {
      LinearCall call;
      call.k = k;
      call.mode = "f16";
      for (int panels = 0; panels < 2; ++panels) {
        LinearPanel panel;
        std::string activations, error;
        panel.term = parseTerm(text, &context, activations, error);
        ASSERT_TRUE(panel.term) << error;
        panel.n = n;
        panel.yColumn = panels * n;
        panel.weights.assign(getComponents(panel.term, {panel.n, k}).size(), 0);
        call.panels.push_back(panel);
      }
      calls.push_back(call);
    }
    device::LinearFamilies families(calls, *target);
    for (const LinearCall &call : calls)
      for (int64_t m : {1, 8, 64, 256}) {
        auto plan =
            device::emitLinear(builder, module->getLoc(), kernels, *target, call, m, nullptr, families.find(call));
        ASSERT_TRUE(bool(plan)) << plan.message();
      }
    auto ptx = emitPTX(*module, "kernels", *target);
    ASSERT_TRUE(bool(ptx)) << ptx.message();
    std::vector<KernelUsage> usage;
    auto cubin = assemble(*ptx, *target, &usage);
    ASSERT_TRUE(bool(cubin)) << cubin.message();
    for (const KernelUsage &kernel : usage)
      EXPECT_EQ(kernel.stackBytes + kernel.spillLoads + kernel.spillStores, 0) << chip << " " << kernel.kernel;
  }
}

/// But those that are left to mma.sync: short groups, wide codes, base five.
TEST(GPUEmit, EveryLeafAssemblesWithWgmma) {
  auto target = parseGPUTarget("nvidia:sm_90a");
  ASSERT_TRUE(bool(target));
  for (const char *text : {"f16", "bf16", "w4g128", "w4g128a", "w2g64", "#skim.planes<bits = 3, group = 128>", "w3g64",
                           "w2", "w1a", "k1", "k2", "k3", "k4", "k3i", "p2", "p3b"})
    for (const char *mode : {"f16", "bf16"})
      expectClean(*target, text, mode, 256, *target);
}

TEST(GPUEmit, EveryTargetAssemblesWithoutSpills) {
  for (const std::string &chip : gpuChips()) {
    auto target = parseGPUTarget("nvidia:" + chip);
    ASSERT_TRUE(bool(target));
    for (const char *text : {"f16", "w4g128", "k3"})
      for (int64_t m : {int64_t(1), int64_t(64), kTwoTiles})
        expectClean(*target, text, "f16", m);
    // Tables in memory: few registers are left.
    for (const char *text : {"k5", "k8"})
      expectClean(*target, text, "f16", 64, *target);
  }
}

/// Rows of x that tiles share where each for itself would wait for the second level of cache, and not elsewhere.
TEST(GPUEmit, FewRowsAreSharedWhereTheyBind) {
  struct Case {
    const char *chip, *text, *mode;
    int64_t size, m;
    const char *schedule;
  };
  for (const Case &test : {Case{"sm_90", "k3", "f16", 8192, 8, "many_"}, Case{"sm_90a", "w2", "a8", 8192, 8, "many_"},
                           // Slow memory; little x; one row; a weight as large as x.
                           Case{"sm_89", "k3", "f16", 8192, 8, "few_"}, Case{"sm_80", "w4g128", "f16", 8192, 8, "few_"},
                           Case{"sm_90", "k3", "f16", 1024, 8, "few_"}, Case{"sm_90", "k3", "f16", 8192, 1, "one_"},
                           Case{"sm_90", "f16", "f16", 8192, 8, "few_"}}) {
    MLIRContext context;
    std::string error, names;
    OwningOpRef<ModuleOp> module = buildKernels(context, test.text, test.mode, test.size, test.size, test.m, error,
                                                std::string("nvidia:") + test.chip);
    EXPECT_EQ(error, "");
    module->walk([&](gpu::GPUFuncOp kernel) { names += " " + kernel.getName().str(); });
    EXPECT_NE(names.find(std::string(" ") + test.schedule), std::string::npos) << test.chip << test.text << names;
  }
}

TEST(GPUEmit, BytesAssembleWithoutSpills) {
  for (const char *chip : {"sm_80", "sm_90a"}) {
    auto target = parseGPUTarget(std::string("nvidia:") + chip);
    ASSERT_TRUE(bool(target));
    for (const char *text : {"w4g128", "w3g64", "w4g32a", "w2", "w8", "k1i", "k2i", "k3i", "k4i", "k8i", "p2", "p8",
                             "#skim.planes<bits = 3, group = 128>", "#skim.planes<bits = 4, group = 64>"})
      for (int64_t m : {int64_t(1), int64_t(8), int64_t(64), kTwoTiles})
        expectClean(*target, text, "a8", m, *target);
  }
}

/// t = A·x beside the product, in tables' 64 registers too: every leaf with a pair of rank 32 over it.
TEST(GPUEmit, LowRankAssemblesWithoutSpills) {
  for (const char *chip : {"sm_80", "sm_90"}) {
    auto target = parseGPUTarget(std::string("nvidia:") + chip);
    ASSERT_TRUE(bool(target));
    for (std::string text : kTerms)
      if (text.find("-a8") == std::string::npos)
        expectClean(*target,
                    text[0] == '#' ? "#skim.low_rank<" + text + ", rank = 32, factors = #skim.dense<f16>>"
                                   : text + "+r32",
                    "f16", 1, *target, 8192, 8192);
  }
}

TEST(GPUEmit, ModesWithoutKernelFail) {
  MLIRContext context;
  std::string error;
  buildKernels(context, "k3", "f32", 16, 64, 1, error);
  EXPECT_EQ(error, "no kernel at activation mode f32: expected f16, bf16 or a8, got f32");
}

TEST(GPUEmit, MissingPtxasIsNamed) {
  if (findPtxas())
    GTEST_SKIP() << "ptxas is there";
  auto cubin = assemble("", *parseGPUTarget("nvidia:sm_80"));
  ASSERT_FALSE(bool(cubin));
  EXPECT_NE(cubin.message().find("missing program"), std::string::npos);
}
