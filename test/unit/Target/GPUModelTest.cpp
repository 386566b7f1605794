//===- GPUModelTest.cpp - counts and the performance model ------------------===//

#include "../../../lib/Target/GPU/Model/Ptx.h"
#include "../../../lib/Target/GPU/Model/Sass.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/LaunchModel.h"
#include "skim/Target/GPU/SimulatorLibrary.h"
#include "skim/Target/GPU/Step.h"
#include "skim/Transforms/FuseLinears.h"

#include "mlir/Pass/PassManager.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;
using namespace skim::device;

//===--- the model ---===//

TEST(GPUModel, Devices) {
  for (const std::string &chip : gpuChips())
    EXPECT_TRUE(bool(findDevice(chip))) << chip;
  EXPECT_EQ(findDevice("h200")->chip, "sm_90");
  EXPECT_EQ(findDevice("sm_90a")->key, "h100");
  EXPECT_NE(findDevice("voodoo").message().find("expected one of a100, "), std::string::npos);
  // Tensor rates as the data sheets have them: 312 and 71 teraflops.
  DeviceFigures a100 = *findDevice("a100"), rtx3090 = *findDevice("rtx3090");
  EXPECT_NEAR(2 * a100.mmaProducts * a100.clock * double(a100.multiprocessors), 312e12, 1e12);
  EXPECT_NEAR(2 * rtx3090.mmaProducts * rtx3090.clock * double(rtx3090.multiprocessors), 71e12, 1e12);
  // 989 teraflops of wgmma at 1.83 GHz; devices of other chips have none.
  for (const DeviceFigures &device : deviceTable())
    if (device.chip == "sm_90")
      EXPECT_NEAR(2 * device.wgmmaProducts * 1.83e9 * double(device.multiprocessors), 989e12, 1e12) << device.key;
    else
      EXPECT_EQ(device.wgmmaProducts, 0) << device.key;
}

TEST(GPUModel, Occupancy) {
  DeviceFigures h100 = *findDevice("h100"), rtx4090 = *findDevice("rtx4090");
  // By registers, threads, blocks and shared memory, as NVIDIA's calculator has them.
  EXPECT_EQ(occupancy(h100, 256, 64, 4224), 4);
  EXPECT_EQ(occupancy(h100, 256, 32, 4224), 8);
  EXPECT_EQ(occupancy(h100, 32, 16, 0), 32);
  EXPECT_EQ(occupancy(rtx4090, 32, 16, 0), 24);
  EXPECT_EQ(occupancy(h100, 256, 64, 100 << 10), 2);
  EXPECT_EQ(occupancy(rtx4090, 256, 64, 49 << 10), 2);
  EXPECT_EQ(occupancy(rtx4090, 256, 64, 52 << 10), 1);
  EXPECT_EQ(occupancy(h100, 1024, 255, 0), 0);
}

TEST(GPUModel, WhatBinds) {
  DeviceFigures h100 = *findDevice("h100");
  LaunchCosts costs;
  costs.blocks = 4 * h100.multiprocessors;
  costs.threads = 256;
  costs.registers = 64;
  costs.memoryBytes = costs.l2Bytes = h100.readBandwidth() * 20e-6;
  Prediction base = predict(h100, costs);
  EXPECT_EQ(base.bound, Bound::Memory);
  EXPECT_NEAR(base.microseconds, 20 + h100.node * 1e6, 1e-6);
  EXPECT_NEAR(base.share, 20 / base.microseconds, 1e-9);
  auto with = [&](auto change) {
    LaunchCosts other = costs;
    change(other);
    return predict(h100, other);
  };
  double warpsPerMicrosecond = h100.clock * 4 * double(h100.multiprocessors) * 1e-6;
  EXPECT_EQ(with([&](LaunchCosts &c) { c.pipes.issued = 30 * warpsPerMicrosecond; }).bound, Bound::Issue);
  EXPECT_NEAR(with([&](LaunchCosts &c) { c.pipes.issued = 30 * warpsPerMicrosecond; }).kernel, 30, 1e-6);
  // The integer pipe has half the lanes.
  EXPECT_NEAR(with([&](LaunchCosts &c) { c.pipes.alu = 15 * warpsPerMicrosecond; }).kernel, 30, 1e-6);
  EXPECT_EQ(with([&](LaunchCosts &c) { c.l2Bytes *= 3; }).bound, Bound::L2);
  EXPECT_EQ(with([&](LaunchCosts &c) { c.blockClocks = 30e-6 * h100.clock; }).bound, Bound::Latency);
  EXPECT_EQ(with([&](LaunchCosts &c) { c.memoryBytes = c.l2Bytes = 0; }).bound, Bound::Launch);
  // Work that is alone on a multiprocessor: few blocks take as long as many.
  auto small = with([&](LaunchCosts &c) {
    c.memoryBytes = c.l2Bytes = 0;
    c.blocks = 1;
    c.pipes.products = 30e-6 * h100.clock * h100.mmaProducts;
  });
  EXPECT_EQ(small.bound, Bound::MMA);
  EXPECT_NEAR(small.kernel, 30, 1e-6);
  // wgmma is the same pipe, faster.
  auto both = with([&](LaunchCosts &c) {
    c.memoryBytes = c.l2Bytes = 0;
    c.blocks = 1;
    c.pipes.products = 15e-6 * h100.clock * h100.mmaProducts;
    c.pipes.wgmma = 15e-6 * h100.clock * h100.wgmmaProducts;
  });
  EXPECT_EQ(both.bound, Bound::MMA);
  EXPECT_NEAR(both.kernel, 30, 1e-6);
  // Half a block more than there is room for takes a wave more.
  auto waves = with([&](LaunchCosts &c) {
    c.blocks = 4 * h100.multiprocessors + 1;
    c.blockClocks = 15e-6 * h100.clock;
  });
  EXPECT_NEAR(waves.latency, 30, 1e-6);
}

//===--- the walk ---===//

static const char *const kLoop = R"(
.version 7.0
.target sm_80
.visible .entry loop(
	.param .u64 .ptr .global .align 1 loop_param_0,
	.param .u32 loop_param_1
)
.maxntid 64, 1, 1
{
	.reg .pred 	%p<3>;
	.reg .b32 	%r<9>;
	.reg .b64 	%rd<5>;
	ld.param.b64 	%rd1, [loop_param_0];
	ld.param.b32 	%r1, [loop_param_1];
	mov.u32 	%r2, %tid.x;
	shr.u32 	%r3, %r2, 5;
	mul.wide.u32 	%rd2, %r3, 512;
	add.s64 	%rd3, %rd1, %rd2;
	mov.b32 	%r4, 0f00000000;
$L__BB0_1:
	// begin inline asm
	ld.global.nc.cs.v4.b32 {%r5, %r6, %r7, %r8}, [%rd3];
	// end inline asm
	fma.rn.f32 	%r4, %r5, %r6, %r4;
	add.s64 	%rd3, %rd3, 1024;
	add.s32 	%r3, %r3, 2;
	setp.lt.s32 	%p1, %r3, %r1;
	@%p1 bra 	$L__BB0_1;
	bar.sync 	0;
	setp.ne.b32 	%p2, %r2, 0;
	@%p2 bra 	$L__BB0_3;
	st.global.b32 	[%rd1], %r4;
$L__BB0_3:
	ret;
}
)";

TEST(PtxWalk, LoopsRunAsOftenAsOnADevice) {
  auto kernels = parsePtx(kLoop);
  ASSERT_TRUE(bool(kernels)) << kernels.message();
  ASSERT_EQ(kernels->size(), 1u);
  EXPECT_EQ(kernels->front().name, "loop");
  DeviceFigures device = *findDevice("h100");
  WalkLaunch launch;
  launch.threads = 64;
  launch.arguments = {4096, 9};
  auto memory = [](uint64_t address, uint64_t) { return WalkMemory{address >= 4096, nullptr}; };
  launch.memory = memory;
  auto result = walkBlock(kernels->front(), launch, device);
  ASSERT_TRUE(bool(result)) << result.message();
  // Warp 0: turns 0, 2, 4, 6, 8; warp 1: 1, 3, 5, 7. A turn has a load, fma, two counters, comparison and branch.
  EXPECT_EQ(result->pipes.fma, 9 + 2 * 2); // and a wide product a warp, at half rate
  EXPECT_EQ(result->pipes.alu, 9 * (2 + 1 + 1) + 2 * (1 + 2 + 1));
  EXPECT_EQ(result->unknown, 0);
  // The sum waits for each load: a turn is at least a latency.
  EXPECT_GT(result->clocks, 5 * device.memoryLatency);
  EXPECT_LT(result->clocks, 6 * device.memoryLatency);
  EXPECT_EQ(result->inFlight, 2 * 512);
  // The first data is used when it is there, the last when the fifth turn's is; behind it, that turn's sum is left.
  EXPECT_GE(result->firstUse, result->firstRequest + device.memoryLatency);
  EXPECT_GT(result->lastUse, 5 * device.memoryLatency);
  EXPECT_LE(result->lastUse, result->clocks);
  EXPECT_EQ(result->bytesBefore, 2 * 512);
  EXPECT_GT(result->workBehind, 0);
  // Threads that store nothing go the shorter way.
  EXPECT_EQ(walkBlock(kernels->front(), launch, device)->pipes.issued, result->pipes.issued);
  launch.arguments = {4096, 1};
  EXPECT_LT(walkBlock(kernels->front(), launch, device)->pipes.issued, result->pipes.issued);
}

/// `turns` wgmma of n columns, of which `pending` may be at work, as LLVM writes DeviceBuilder's; `work`: permutes
/// before each.
static std::string wgmmaLoop(int n, int turns, int pending, int work = 0, bool barrier = false) {
  std::string sums = "{";
  for (int i = 0; i < n / 2; ++i)
    sums += (i ? ", %r" : "%r") + std::to_string(100 + i);
  sums += "}";
  std::string permutes;
  for (int i = 0; i < work; ++i)
    permutes += "\tprmt.b32 \t%r" + std::to_string(300 + i) + ", %r1, %r1, 29538;\n";
  std::string name = "wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) + "k16.f32.f16.f16 " + sums;
  return ".entry k()\n{\n"
         "\tmov.b32 \t%r1, 0;\n"
         "$L__BB0_1:\n" +
         std::string(barrier ? "\tbar.sync \t0;\n" : "") + permutes +
         "\t// begin inline asm\n\twgmma.fence.sync.aligned;\n\t// end inline asm\n"
         "\tsetp.eq.b32 \t%p2, %r1, 0;\n\tselp.b32 \t%r6, 1, 0, %p2;\n"
         "\t{ .reg .pred add; setp.eq.b32 add, %r6, 0; " +
         name +
         ", {%r2, %r3, %r4, %r5}, %rd1, add, 1, 1, 0; }\n"
         "\twgmma.commit_group.sync.aligned;\n"
         "\twgmma.wait_group.sync.aligned " +
         std::to_string(pending) +
         ";\n"
         "\tadd.s32 \t%r1, %r1, 1;\n"
         "\tsetp.lt.s32 \t%p1, %r1, " +
         std::to_string(turns) +
         ";\n"
         "\t@%p1 bra \t$L__BB0_1;\n"
         "\twgmma.wait_group.sync.aligned 0;\n"
         "\tret;\n}\n";
}

TEST(PtxWalk, Wgmma) {
  DeviceFigures device = *findDevice("h100");
  // All sums are alive in the loop, and what it needs beside them.
  int64_t registers = estimateRegisters(parsePtx(wgmmaLoop(128, 1, 0))->front());
  EXPECT_GE(registers, 64 + 5);
  EXPECT_LE(registers, 64 + 16);
  auto walked = [&](int n, uint32_t threads, int pending, int work = 0, bool barrier = false) {
    auto kernels = parsePtx(wgmmaLoop(n, 100, pending, work, barrier));
    EXPECT_TRUE(bool(kernels)) << kernels.message();
    WalkLaunch launch;
    launch.threads = threads;
    auto memory = [](uint64_t, uint64_t) { return WalkMemory(); };
    launch.memory = memory;
    auto result = walkBlock(kernels->front(), launch, device);
    EXPECT_TRUE(bool(result)) << result.message();
    EXPECT_EQ(result->unknown, 0);
    return *result;
  };
  BlockWalk one = walked(128, 128, 1);
  EXPECT_EQ(one.pipes.wgmma, 100.0 * 64 * 128 * 16);
  EXPECT_EQ(one.pipes.products, 0);
  // Nothing but the tensor cores, which are never idle: 64 clocks a turn.
  EXPECT_NEAR(one.clocks, 6400, 100);
  // Two warpgroups share them.
  EXPECT_NEAR(walked(128, 256, 1).clocks, 12800, 200);
  // Short ones have an mma's latency if each is waited for, and the issue of a turn comes on top.
  BlockWalk waits = walked(8, 128, 0);
  EXPECT_GT(waits.clocks, 100 * device.mmaLatency);
  EXPECT_LT(waits.clocks, 100 * (device.mmaLatency + 25));
  EXPECT_LT(walked(8, 128, 1).clocks, waits.clocks);
  // 24 permutes and the loop's own 8 are 64 clocks, as long as a wgmma of 128 columns. A warp that waits for each does
  // one or the other; of four in a partition one multiplies while the others permute, unless a barrier makes them do it
  // all together.
  EXPECT_NEAR(walked(128, 128, 0, 24).clocks, 100 * (64 + 64), 1000);
  EXPECT_NEAR(walked(128, 512, 0, 24).clocks, 100 * 4 * 64, 2000);
  EXPECT_GT(walked(128, 512, 0, 24, true).clocks, 1.9 * 100 * 4 * 64);
}

TEST(Sass, Wgmma) {
  auto kernels =
      readSass(".text.k:\n"
               "        /*0000*/                   WARPGROUP.ARRIVE ;\n"
               "        /*0010*/                   HGMMA.64x128x16.F32 R24, R88, gdesc[UR8], R24, UP0, gsb0 ;\n"
               "        /*0020*/                   WARPGROUP.DEPBAR.LE gsb0, 0x1 ;\n"
               "        /*0030*/                   EXIT ;\n");
  const PipeCounts &counts = kernels["k"].rest;
  EXPECT_EQ(counts.issued, 4);
  EXPECT_EQ(counts.alu + counts.fma + counts.xu, 0);
}

TEST(PtxWalk, Damaged) {
  auto broken = parsePtx(".entry k()\n{\n\tbra \t$L__BB0_9;\n}\n");
  EXPECT_NE(broken.message().find("unreadable PTX at k"), std::string::npos) << broken.message();
  auto endless = parsePtx(".entry k()\n{\n$L__BB0_1:\n\tbra.uni \t$L__BB0_1;\n}\n");
  ASSERT_TRUE(bool(endless)) << endless.message();
  WalkLaunch launch;
  auto memory = [](uint64_t, uint64_t) { return WalkMemory(); };
  launch.memory = memory;
  auto walked = walkBlock(endless->front(), launch, *findDevice("h100"));
  EXPECT_NE(walked.message().find("kernel does not end"), std::string::npos) << walked.message();
}

//===--- launches ---===//

namespace {
class GPULaunches : public testing::Test {
protected:
  void SetUp() override {
    prepareGPUEmission(context);
    prepareSimulation(context);
  }
  ModelledLaunches linear(const std::string &text, int64_t n, int64_t k, int64_t m, int64_t sample,
                          const std::string &targetName = "nvidia:sm_80", int multiprocessors = 0) {
    std::string activations, error;
    WeightEncoding term = parseTerm(text, &context, activations, error);
    EXPECT_TRUE(term) << error;
    auto target = parseGPUTarget(targetName);
    if (multiprocessors)
      target->multiprocessors = multiprocessors;
    ModelOptions options;
    options.sample = sample;
    options.assemble = false;
    auto launches = modelLinear(context, *target, *findDevice(target->chip), term, n, k, m, "f16", options);
    EXPECT_TRUE(bool(launches)) << launches.message();
    return launches ? std::move(*launches) : ModelledLaunches();
  }
  MLIRContext context{MLIRContext::Threading::DISABLED};
};
} // namespace

/// Running a part of the blocks and scaling is exact: blocks do the same.
TEST_F(GPULaunches, CountsScaleWithBlocks) {
  for (auto [text, m] : {std::pair<const char *, int64_t>{"k3", 1}, {"w4g128", 1}, {"mx4", 16}}) {
    SCOPED_TRACE(std::string(text) + " rows " + std::to_string(m));
    ModelledLaunches all = linear(text, 1024, 512, m, 0), part = linear(text, 1024, 512, m, 4);
    ASSERT_EQ(all.launches.size(), part.launches.size());
    for (size_t i = 0; i < all.launches.size(); ++i) {
      const LaunchCosts &one = all.launches[i].costs, &other = part.launches[i].costs;
      SCOPED_TRACE(one.kernel);
      EXPECT_EQ(one.memoryBytes, other.memoryBytes);
      EXPECT_EQ(one.l2Bytes, other.l2Bytes);
      EXPECT_EQ(one.requests, other.requests);
      EXPECT_EQ(one.sharedClocks, other.sharedClocks);
      EXPECT_EQ(one.barriers, other.barriers);
      EXPECT_EQ(one.pipes.memory, other.pipes.memory);
    }
  }
}

/// So are those with first factors beside them, whose blocks are all run; but for the block that sets counters back.
TEST_F(GPULaunches, CountsOfLowRank) {
  for (auto [text, multiprocessors] : {std::pair<const char *, int>{"k3+r32", 108}, {"w4g128+r32", 33}}) {
    SCOPED_TRACE(text);
    ModelledLaunches all = linear(text, 1024, 512, 1, 0, "nvidia:sm_80", multiprocessors),
                     part = linear(text, 1024, 512, 1, 4, "nvidia:sm_80", multiprocessors);
    ASSERT_EQ(all.launches.size(), 1u);
    ASSERT_EQ(part.launches.size(), 1u);
    const LaunchCosts &one = all.launches[0].costs, &other = part.launches[0].costs;
    EXPECT_EQ(one.memoryBytes, other.memoryBytes);
    EXPECT_NEAR(one.requests, other.requests, 3);
    EXPECT_NEAR(one.l2Bytes, other.l2Bytes, 3 * 32);
    EXPECT_EQ(one.sharedClocks, other.sharedClocks);
    EXPECT_EQ(one.barriers, other.barriers);
    EXPECT_EQ(one.blockClocks, other.blockClocks);
  }
  // A sample of all blocks.
  EXPECT_EQ(linear("k3+r32", 48, 256, 1, 8).launches.size(), 1u);
}

/// What comes from memory is what the weight stores, and what mma multiplies is what there is to multiply.
TEST_F(GPULaunches, BytesAndProducts) {
  for (const char *text : {"k3", "w4g128", "f16"})
    for (int64_t m : {1, 64}) {
      SCOPED_TRACE(std::string(text) + " rows " + std::to_string(m));
      std::string activations, error;
      int64_t n = 2048, k = 4096;
      ModelledLaunches launches = linear(text, n, k, m, 8);
      double stored = static_cast<double>(getStoredBits(parseTerm(text, &context, activations, error), {n, k})) / 8;
      double products = 0;
      for (const ModelledLaunch &launch : launches.launches) {
        products += launch.costs.pipes.products;
        EXPECT_GT(launch.prediction.microseconds, 0);
        EXPECT_GE(launch.costs.registers, 16);
      }
      EXPECT_EQ(launches.memoryBytes, stored);
      EXPECT_EQ(products, static_cast<double>(n * k * (m == 1 ? 8 : 64)));
    }
}

/// PTX's estimate of registers is near what ptxas gives.
TEST_F(GPULaunches, EstimatedRegisters) {
  if (!findPtxas())
    GTEST_SKIP() << "no ptxas";
  std::string activations, error;
  for (const char *text : {"k3", "w4g128", "f16"}) {
    auto target = parseGPUTarget("nvidia:sm_80");
    WeightEncoding term = parseTerm(text, &context, activations, error);
    auto exact = modelLinear(context, *target, *findDevice("sm_80"), term, 256, 4096, 1, "f16");
    ASSERT_TRUE(bool(exact)) << exact.message();
    ModelledLaunches estimate = linear(text, 256, 4096, 1, 8);
    for (size_t i = 0; i < exact->launches.size(); ++i) {
      const LaunchCosts &known = exact->launches[i].costs, &guess = estimate.launches[i].costs;
      EXPECT_TRUE(known.exactRegisters);
      EXPECT_FALSE(guess.exactRegisters);
      EXPECT_NEAR(double(guess.registers), double(known.registers), 0.5 * double(known.registers)) << known.kernel;
    }
  }
}

/// A step of a small LLaMA: every weight comes from memory once, launches of equal layers are counted together.
TEST_F(GPULaunches, Step) {
  LlamaShape shape;
  shape.hidden = 512;
  shape.feedForward = 1024;
  shape.layers = 3;
  shape.vocabulary = 1024;
  shape.heads = 4;
  shape.cacheHeads = 2;
  shape.format = "w4g128";
  auto model = llamaModel(context, shape);
  ASSERT_TRUE(bool(model)) << model.message();
  PassManager passes(&context);
  passes.addPass(createFuseLinears());
  ASSERT_TRUE(succeeded(passes.run(**model)));
  auto target = parseGPUTarget("nvidia:sm_90");
  DeviceFigures device = *findDevice("sm_90");
  ModelOptions options;
  options.assemble = false;
  options.sample = 0; // no launch is large
  auto launches = modelStep(**model, *target, device, {.context = 64}, options);
  ASSERT_TRUE(bool(launches)) << launches.message();
  double weights = 512 * (512 + 2 * 256 + 512 + 3 * 1024);
  double linears = shape.layers * weights * (4 + 16.0 / 128) / 8, head = 1024 * 512 * 2;
  double norms = (2 * 3 + 1) * 512 * 4, row = 512 * 2, cache = 3 * 2 * 64 * 2 * 128 * 4;
  EXPECT_NEAR(launches->memoryBytes, linears + head + norms + row + cache, 0.02 * linears);
  double sum = 0;
  bool repeated = false;
  for (const ModelledLaunch &launch : launches->launches) {
    sum += static_cast<double>(launch.count) * launch.prediction.microseconds;
    repeated |= launch.count == 3;
  }
  EXPECT_TRUE(repeated);
  EXPECT_NEAR(sum, launches->microseconds, 1e-6);
  EXPECT_GT(launches->share(device), 0);
  EXPECT_LT(launches->share(device), 1);
  EXPECT_NE(modelStep(**model, *target, device, {.sequences = 513, .context = 64}, options)
                .message()
                .find("cannot model step"),
            std::string::npos);
}

/// What runs for a token of a 7B shape, and for 64: assembled without spills and local memory. (Layers are all alike.)
TEST_F(GPULaunches, StepsAssembleWithoutSpills) {
  if (!findPtxas())
    GTEST_SKIP() << "no ptxas";
  for (auto [format, targetName] : {std::pair<const char *, const char *>{"k3", "nvidia:sm_90"},
                                    {"k3", "nvidia:sm_90a"},
                                    {"k3+r32", "nvidia:sm_90"},
                                    {"w4g128", "nvidia:sm_80"},
                                    {"k2", "nvidia:sm_120"}}) {
    LlamaShape shape;
    shape.layers = 1;
    shape.format = format;
    auto model = llamaModel(context, shape);
    ASSERT_TRUE(bool(model)) << model.message();
    PassManager passes(&context);
    passes.addPass(createFuseLinears());
    ASSERT_TRUE(succeeded(passes.run(**model)));
    auto target = parseGPUTarget(targetName);
    OwningOpRef<ModuleOp> code;
    auto program = generateStep(**model, *target, code);
    ASSERT_TRUE(bool(program)) << program.message();
    auto ptx = emitPTX(*code, "step", *target);
    ASSERT_TRUE(bool(ptx)) << ptx.message();
    std::vector<KernelUsage> usage;
    auto cubin = assemble(*ptx, *target, &usage);
    ASSERT_TRUE(bool(cubin)) << cubin.message();
    EXPECT_GE(usage.size(), 10u);
    for (const KernelUsage &kernel : usage) {
      SCOPED_TRACE(kernel.kernel + " " + target->chip);
      EXPECT_EQ(kernel.spillStores + kernel.spillLoads + kernel.stackBytes, 0);
      EXPECT_GT(kernel.registers, 0);
      // A few rows: at least two blocks of eight warps in a multiprocessor, but for A in eight bits.
      if (StringRef(kernel.kernel).starts_with("few") && !StringRef(kernel.kernel).starts_with("few_mx8"))
        EXPECT_LE(kernel.registers, 128);
    }
  }
}

TEST_F(GPULaunches, WrongShapes) {
  LlamaShape shape;
  shape.heads = 7;
  EXPECT_NE(llamaModel(context, shape).message().find("invalid shape of a model"), std::string::npos);
  shape.heads = 32;
  shape.format = "zork";
  EXPECT_NE(llamaModel(context, shape).message().find("invalid format"), std::string::npos);
}
