//===- GPUWgmmaTest.cpp - wgmma as PTX and machine code ---------------------===//

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Verifier.h"
#include "skim/Target/GPU/DeviceBuilder.h"
#include "skim/Target/GPU/Emit.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

using Values = KernelBuilder::Values;

namespace {
/// Each lane's n/2 sums of A·B: words of A in global memory, B copied to shared memory 32 columns at a time. Two sets
/// of A's words take turns. `early`: a sum is used while wgmma works on it.
OwningOpRef<ModuleOp> buildProduct(MLIRContext &context, int64_t n, bool bf16, bool early = false) {
  prepareGPUEmission(context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "kernels");
  DeviceBuilder b(builder, module->getLoc());
  auto kernel = DeviceBuilder::beginKernel(builder, kernels, module->getLoc(), "product",
                                           {b.globalPtr(), b.globalPtr(), b.globalPtr(), b.i32()}, 128);
  Type half = bf16 ? b.bf16() : b.f16();
  auto arguments = kernel.getBody().getArguments();
  Value thread = b.threadX(), shared = b.sharedMemory(kernels, "tile", std::max<int64_t>(n * 64, 128 * 16));
  auto pointer = [&](Value base, Value bytes) -> Value {
    return LLVM::GEPOp::create(builder, b.loc, base.getType(), b.i8(), base, ArrayRef<LLVM::GEPArg>{bytes});
  };
  Values sums = b.wgmmaFence(Values(static_cast<size_t>(n / 2), b.f32(0)));
  auto loop = scf::ForOp::create(builder, b.loc, b.i32(0), arguments[3], b.i32(1), sums);
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(loop.getBody());
    Value step = loop.getInductionVar();
    Values d(loop.getRegionIterArgs().begin(), loop.getRegionIterArgs().end());
    b.wgmmaWait(0, {});
    b.barrier();
    for (int64_t i = 0; i < n * 64; i += 128 * 16) { // whatever is copied beyond B is not read
      Value bytes = b.add(b.mul(thread, 16), i);
      b.copyAsync(pointer(shared, bytes), pointer(arguments[1], b.add(b.mul(step, n * 64), bytes)));
    }
    b.commitCopies();
    b.waitCopies(0);
    b.fenceProxyAsync();
    b.barrier();
    Value descriptor = b.wgmmaDescriptor(shared, n * 16, 128);
    for (int64_t set = 0; set < 2; ++set) {
      Value place = b.mul(b.add(b.mul(b.add(b.mul(step, 2), set), 128), thread), 16);
      Values a = b.words(pointer(arguments[0], place), 4, true);
      for (Value &word : a)
        word = b.mulPairs(word, b.word(0x3C003C00), half);
      a = b.wgmmaFence(a);
      Value first;
      if (set == 0)
        first = b.equal(step, b.i32(0));
      d = b.wgmma(d, a, b.wgmmaDescriptorAt(descriptor, b.i32(set * n * 32)), half, first);
      b.wgmmaCommit();
      if (early)
        d[0] = b.add(d[0], d[0]);
      b.wgmmaWait(1, {});
    }
    scf::YieldOp::create(builder, b.loc, d);
  }
  Values y = b.wgmmaWait(0, Values(loop.getResults().begin(), loop.getResults().end()));
  for (size_t i = 0; i < y.size(); ++i)
    b.store(y[i], pointer(arguments[2], b.add(b.mul(thread, n * 2), static_cast<int64_t>(4 * i))));
  return module;
}
} // namespace

/// The registers of the sums, for each wgmma of that name.
static std::vector<std::string> sumsOf(const std::string &ptx, const std::string &name) {
  std::vector<std::string> all;
  for (size_t at = 0; (at = ptx.find(name + " {", at)) != std::string::npos; ++at)
    all.push_back(ptx.substr(at + name.size(), ptx.find('}', at) - at - name.size()));
  return all;
}

TEST(GPUWgmma, AssemblesInPlace) {
  auto target = parseGPUTarget("nvidia:sm_90a");
  ASSERT_TRUE(bool(target));
  for (bool bf16 : {false, true})
    for (int64_t n : {8, 64, 128, 256}) {
      SCOPED_TRACE("n " + std::to_string(n));
      MLIRContext context(MLIRContext::Threading::DISABLED);
      OwningOpRef<ModuleOp> module = buildProduct(context, n, bf16);
      ASSERT_TRUE(succeeded(verify(*module)));
      auto ptx = emitPTX(*module, "kernels", *target);
      ASSERT_TRUE(bool(ptx)) << ptx.message();
      std::string type = bf16 ? ".bf16" : ".f16";
      std::vector<std::string> sums =
          sumsOf(*ptx, "wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) + "k16.f32" + type + type);
      ASSERT_EQ(sums.size(), 2u);
      EXPECT_EQ(sums[0], sums[1]); // nothing is copied between them
      EXPECT_EQ(std::count(sums[0].begin(), sums[0].end(), '%'), n / 2);
      for (const char *text : {"wgmma.fence.sync.aligned;", "wgmma.commit_group.sync.aligned;",
                               "wgmma.wait_group.sync.aligned 1;", "fence.proxy.async.shared::cta;"})
        EXPECT_NE(ptx->find(text), std::string::npos) << text;
      if (!findPtxas())
        continue;
      std::vector<KernelUsage> usage;
      auto cubin = assemble(*ptx, *target, &usage);
      ASSERT_TRUE(bool(cubin)) << cubin.message();
      ASSERT_EQ(usage.size(), 1u);
      EXPECT_EQ(usage[0].stackBytes + usage[0].spillLoads + usage[0].spillStores, 0);
      EXPECT_EQ(usage[0].wgmma, "");
      EXPECT_LE(usage[0].registers, n / 2 + 48);
    }
}

TEST(GPUWgmma, SerialisationIsSeen) {
  if (!findPtxas())
    GTEST_SKIP() << "no ptxas";
  auto target = parseGPUTarget("nvidia:sm_90a");
  MLIRContext context(MLIRContext::Threading::DISABLED);
  auto ptx = emitPTX(*buildProduct(context, 64, false, /*early=*/true), "kernels", *target);
  ASSERT_TRUE(bool(ptx)) << ptx.message();
  std::vector<KernelUsage> usage;
  auto cubin = assemble(*ptx, *target, &usage);
  ASSERT_TRUE(bool(cubin)) << cubin.message();
  EXPECT_NE(usage[0].wgmma.find("serialized"), std::string::npos) << usage[0].wgmma;
}
