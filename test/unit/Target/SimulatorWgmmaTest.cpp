//===- SimulatorWgmmaTest.cpp - wgmma in the simulator, right and wrong -----===//

#include "Simulation.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "skim/Support/Float16.h"
#include "skim/Target/GPU/DeviceBuilder.h"
#include "skim/Target/GPU/Emit.h"

#include <cmath>
#include <random>

using namespace mlir;
using namespace skim;
using Argument = sim::Argument;
using Values = KernelBuilder::Values;

namespace {
constexpr int64_t kColumns = 16, kStep = kColumns * 32; // of B, and its bytes in a k-step

/// What a kernel's body is written with: words of A [step][thread], B as it lies in shared memory, sums of each thread.
struct Kernel {
  DeviceBuilder b;
  Value a, x, y, n, thread, shared;

  Value at(Value base, Value bytes) {
    return LLVM::GEPOp::create(b.builder, b.loc, base.getType(), b.i8(), base, ArrayRef<LLVM::GEPArg>{bytes});
  }
  /// 16 bytes a thread, from byte `from` of both.
  void copy(int64_t from = 0) {
    Value bytes = b.add(b.mul(thread, 16), from);
    b.copyAsync(at(shared, bytes), at(x, bytes));
  }
  void copied() {
    b.commitCopies();
    b.waitCopies(0);
  }
  void stage() {
    copy();
    copied();
    b.fenceProxyAsync();
    b.barrier();
  }
  Values words(Value step) { return b.words(at(a, b.mul(b.add(b.mul(step, 128), thread), 16)), 4); }
  Values zeros() { return Values(kColumns / 2, b.f32(0)); }
  Value descriptor(int64_t from = 0) {
    return b.wgmmaDescriptorAt(b.wgmmaDescriptor(shared, kColumns * 16, 128), b.i32(from));
  }
  /// A wgmma on `sums` in a group of its own.
  Values multiply(ArrayRef<Value> sums, Value step, Value descriptor) {
    Values d = b.wgmma(sums, b.wgmmaFence(words(step)), descriptor, b.f16());
    b.wgmmaCommit();
    return d;
  }
  Values start() { return b.wgmmaFence(zeros()); }
  void store(ArrayRef<Value> sums) {
    for (size_t i = 0; i < sums.size(); ++i)
      b.store(sums[i], at(y, b.add(b.mul(thread, static_cast<int64_t>(4 * sums.size())), static_cast<int64_t>(4 * i))));
  }
  void loop(int64_t count, ArrayRef<Value> first, llvm::function_ref<Values(Value, Values)> body, Values *last) {
    auto op = scf::ForOp::create(b.builder, b.loc, b.i32(0), b.i32(count), b.i32(1), first);
    {
      OpBuilder::InsertionGuard guard(b.builder);
      b.builder.setInsertionPointToStart(op.getBody());
      Values arguments(op.getRegionIterArgs().begin(), op.getRegionIterArgs().end());
      Values next = body(op.getInductionVar(), arguments);
      if (!first.empty()) // else it is there
        scf::YieldOp::create(b.builder, b.loc, next);
    }
    if (last)
      last->assign(op.getResults().begin(), op.getResults().end());
  }
  void only(Value condition, llvm::function_ref<void()> body) {
    auto branch = scf::IfOp::create(b.builder, b.loc, condition, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b.builder);
    b.builder.setInsertionPointToStart(&branch.getThenRegion().front());
    body();
  }
};

using Body = llvm::function_ref<void(Kernel &)>;

OwningOpRef<ModuleOp> build(MLIRContext &context, int64_t threads, int64_t sharedBytes, Body body) {
  prepareSimulation(context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
  auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "kernels");
  DeviceBuilder b(builder, module->getLoc());
  auto kernel = DeviceBuilder::beginKernel(builder, kernels, module->getLoc(), "k",
                                           {b.globalPtr(), b.globalPtr(), b.globalPtr(), b.i32()}, threads);
  auto arguments = kernel.getBody().getArguments();
  Kernel k{b, arguments[0], arguments[1], arguments[2], arguments[3], b.threadX(), {}};
  k.shared = b.sharedMemory(kernels, "tile", sharedBytes);
  body(k);
  return module;
}

/// Runs one block on zeros and gives the trap's text, or that of the compiler.
std::string trapOf(Body body, int64_t threads = 128, int32_t n = 1) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  auto kernels = simulateKernels(*build(context, threads, 8192, body));
  if (!kernels)
    return kernels.message();
  sim::Device device;
  std::vector<uint8_t> zeros(65536);
  auto a = device.allocate("a", zeros.data(), zeros.size()), x = device.allocate("x", zeros.data(), zeros.size());
  auto y = device.allocate("y", zeros.size());
  return (*kernels)
      ->launch(device, "k", {.block = {static_cast<uint32_t>(threads), 1, 1}},
               {Argument::pointer(a), Argument::pointer(x), Argument::pointer(y), Argument::i32(n)})
      .message();
}
} // namespace

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// D = A·B (+ C) with `steps` k-steps; `leading`, `stride`: where core matrices lie in a k-step of n · 32 bytes.
static void checkProduct(int64_t n, bool bf16, int64_t steps, bool first, int64_t leading, int64_t stride) {
  SCOPED_TRACE("n " + std::to_string(n) + (bf16 ? " bf16" : " f16") + " leading " + std::to_string(leading));
  MLIRContext context(MLIRContext::Threading::DISABLED);
  int64_t bytes = steps * n * 32;
  auto kernels = simulateKernels(*build(context, 128, bytes, [&](Kernel &k) {
    k.loop(
        bytes / 256, {},
        [&](Value i, Values) -> Values {
          k.only(k.b.less(k.thread, k.b.i32(16)), [&] {
            Value place = k.b.add(k.b.mul(i, 256), k.b.mul(k.thread, 16));
            k.b.copyAsync(k.at(k.shared, place), k.at(k.x, place));
          });
          return {};
        },
        nullptr);
    k.copied();
    k.b.barrier();
    k.b.fenceProxyAsync(); // behind the barrier it does as well
    Values c;
    for (int64_t i = 0; i < n / 2; ++i)
      c.push_back(k.b.load(k.b.f32(), k.at(k.y, k.b.add(k.b.mul(k.thread, 2 * n), 4 * i))));
    Values sums = k.b.wgmmaFence(c);
    Value descriptor = k.b.wgmmaDescriptor(k.shared, leading, stride);
    k.loop(
        steps, sums,
        [&](Value step, Values d) {
          Value choice;
          if (first)
            choice = k.b.equal(step, k.b.i32(0));
          d = k.b.wgmma(d, k.b.wgmmaFence(k.words(step)), k.b.wgmmaDescriptorAt(descriptor, k.b.mul(step, n * 32)),
                        bf16 ? k.b.bf16() : k.b.f16(), choice);
          k.b.wgmmaCommit();
          k.b.wgmmaWait(0, {});
          return d;
        },
        &sums);
    k.store(k.b.wgmmaWait(0, sums));
  }));
  ASSERT_TRUE(bool(kernels)) << kernels.message();

  std::mt19937 random(static_cast<unsigned>(n));
  std::normal_distribution<float> normal;
  auto narrow = [&](float value) { return bf16 ? f32ToBF16(value) : f32ToF16(value); };
  auto wide = [&](uint16_t half) { return double(bf16 ? bf16ToF32(half) : f16ToF32(half)); };
  size_t k = static_cast<size_t>(16 * steps), columns = static_cast<size_t>(n);
  std::vector<uint16_t> a(64 * k), b(k * columns), words(64 * k), tile(k * columns);
  std::vector<float> c(64 * columns);
  for (uint16_t &value : a)
    value = narrow(normal(random));
  for (uint16_t &value : b)
    value = narrow(normal(random));
  for (float &value : c)
    value = normal(random);
  // PTX ISA, register fragments and core matrices of wgmma, written once more for each element.
  for (size_t row = 0; row < 64; ++row)
    for (size_t j = 0; j < k; ++j) {
      size_t lane = row / 16 * 32 + row % 8 * 4 + j % 8 / 2, word = row % 16 / 8 + j % 16 / 8 * 2;
      words[((j / 16 * 128 + lane) * 4 + word) * 2 + j % 2] = a[row * k + j];
    }
  for (size_t j = 0; j < k; ++j)
    for (size_t column = 0; column < columns; ++column) {
      size_t core = j % 16 / 8 * static_cast<size_t>(leading) + column / 8 * static_cast<size_t>(stride);
      tile[(j / 16 * columns * 32 + core + column % 8 * 16) / 2 + j % 8] = b[j * columns + column];
    }
  auto sumAt = [&](size_t row, size_t column) {
    size_t lane = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
    return lane * columns / 2 + column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
  };
  std::vector<float> y(64 * columns);
  for (size_t row = 0; row < 64; ++row)
    for (size_t column = 0; column < columns; ++column)
      y[sumAt(row, column)] = c[row * columns + column];

  sim::Device device;
  auto put = [&](const char *name, const auto &values) {
    return device.allocate(name, values.data(), values.size() * sizeof(values[0]));
  };
  auto output = put("y", y);
  auto counters = (*kernels)->launch(device, "k", {.block = {128, 1, 1}},
                                     {Argument::pointer(put("a", words)), Argument::pointer(put("x", tile)),
                                      Argument::pointer(output), Argument::i32(0)});
  ASSERT_TRUE(bool(counters)) << counters.message();
  ASSERT_FALSE(bool(device.copyOut(y.data(), output, y.size() * sizeof(float))));
  for (size_t row = 0; row < 64; ++row)
    for (size_t column = 0; column < columns; ++column) {
      double sum = first ? 0 : c[row * columns + column], size = std::fabs(sum);
      for (size_t j = 0; j < k; ++j) {
        double product = wide(a[row * k + j]) * wide(b[j * columns + column]);
        sum += product;
        size += std::fabs(product);
      }
      ASSERT_NEAR(y[sumAt(row, column)], sum, size * double(k) * 0x1p-22) << row << " " << column;
    }
  uint64_t products = 0;
  for (const sim::OpCounters &op : counters->ops)
    if (op.kind == "wgmma") {
      products += op.products;
      EXPECT_EQ(op.requests, static_cast<uint64_t>(4 * steps));
      EXPECT_EQ(op.bytes, static_cast<uint64_t>(bytes));
      EXPECT_EQ(op.wavefronts, static_cast<uint64_t>(bytes / 128));
    }
  EXPECT_EQ(products, 64 * k * columns);
}

TEST(SimulatorWgmma, Products) {
  for (bool bf16 : {false, true})
    for (int64_t n : {8, 64, 256})
      checkProduct(n, bf16, 3, bf16, n * 16, 128);
  checkProduct(40, false, 2, true, 128, 256);
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

TEST(SimulatorWgmma, ProxyFence) {
  auto with = [](bool before, bool behind, bool early, bool stores) {
    return trapOf([&](Kernel &k) {
      if (stores)
        k.b.storeWords({k.n, k.n, k.n, k.n}, k.at(k.shared, k.b.mul(k.thread, 16)));
      else
        k.copy();
      k.b.commitCopies();
      if (early)
        k.b.fenceProxyAsync();
      k.b.waitCopies(0);
      if (before)
        k.b.fenceProxyAsync();
      k.b.barrier();
      if (behind)
        k.b.fenceProxyAsync();
      k.store(k.b.wgmmaWait(0, k.multiply(k.start(), k.b.i32(0), k.descriptor())));
    });
  };
  for (bool stores : {false, true}) {
    EXPECT_EQ(with(true, false, false, stores), "");
    EXPECT_EQ(with(false, true, false, stores), "");
    EXPECT_TRUE(contains(with(false, false, false, stores),
                         {"wgmma reads what was written without a proxy fence", "wgmma.mma_async",
                          "expected fence.proxy.async between thread 0 and warp 0, got none at byte 0"}));
  }
  // Of a copy that may still be on its way it says nothing.
  EXPECT_TRUE(contains(with(false, false, true, false), {"without a proxy fence"}));
  EXPECT_EQ(with(false, false, true, true), "");
  // The fences of other warps, before they know of what warp 0 wrote.
  EXPECT_TRUE(contains(trapOf([](Kernel &k) {
                         k.copy();
                         k.copied();
                         k.only(k.b.lessEqual(k.b.i32(32), k.thread), [&] { k.b.fenceProxyAsync(); });
                         k.b.barrier();
                         k.store(k.b.wgmmaWait(0, k.multiply(k.start(), k.b.i32(0), k.descriptor())));
                       }),
                       {"without a proxy fence", "between thread"}));
}

TEST(SimulatorWgmma, ReadsOfShared) {
  auto after = [](llvm::function_ref<void(Kernel &)> stage) {
    return trapOf([&](Kernel &k) {
      stage(k);
      k.store(k.b.wgmmaWait(0, k.multiply(k.start(), k.b.i32(0), k.descriptor())));
    });
  };
  EXPECT_EQ(after([](Kernel &k) { k.stage(); }), "");
  EXPECT_TRUE(contains(after([](Kernel &k) {
                         k.copy();
                         k.copied();
                         k.b.fenceProxyAsync();
                       }),
                       {"race: wgmma reads what a thread wrote", "a barrier between thread 0 and warp 0"}));
  EXPECT_TRUE(contains(after([](Kernel &k) {
                         k.copy();
                         k.b.commitCopies();
                         k.b.fenceProxyAsync();
                         k.b.barrier();
                       }),
                       {"access to shared memory before its copy was waited for"}));
  EXPECT_TRUE(contains(after([](Kernel &k) {}), {"read of uninitialised shared memory"}));
}

TEST(SimulatorWgmma, WritesOfShared) {
  // Two groups, each on its own 512 bytes; then a write at `from`.
  auto writes = [](int64_t pending, int64_t from, bool barrier, bool copies) {
    return trapOf([&](Kernel &k) {
      k.stage();
      Values sums = k.multiply(k.start(), k.b.i32(0), k.descriptor(0));
      sums = k.multiply(sums, k.b.i32(1), k.descriptor(kStep));
      if (pending < 2)
        k.b.wgmmaWait(pending, {});
      if (barrier)
        k.b.barrier();
      k.only(k.b.less(k.thread, k.b.i32(32)), [&] {
        Value place = k.b.add(k.b.mul(k.thread, 16), from);
        if (copies)
          k.b.copyAsync(k.at(k.shared, place), k.at(k.x, place));
        else
          k.b.storeWords({k.n, k.n, k.n, k.n}, k.at(k.shared, place));
      });
      k.store(k.b.wgmmaWait(0, sums));
    });
  };
  for (bool copies : {false, true}) {
    EXPECT_EQ(writes(0, kStep, true, copies), "");
    EXPECT_EQ(writes(1, 0, true, copies), "");
    EXPECT_TRUE(contains(writes(1, kStep, true, copies), {"write over what wgmma reads", "got none for byte 512"}));
    EXPECT_TRUE(contains(writes(2, 0, true, copies), {"write over what wgmma reads", "got none for byte 0"}));
    // The writer has waited, the other warps may not have.
    EXPECT_TRUE(contains(writes(0, 0, false, copies), {"write over what wgmma reads"}));
  }
}

TEST(SimulatorWgmma, Descriptors) {
  auto with = [](int64_t from, int64_t leading, int64_t stride, uint64_t bits = 0) {
    return trapOf([&](Kernel &k) {
      k.stage();
      Value descriptor = k.b.wgmmaDescriptor(k.at(k.shared, k.b.i32(from)), leading, stride);
      descriptor = k.b.bitOr(descriptor, k.b.i64(static_cast<int64_t>(bits)));
      k.store(k.b.wgmmaWait(0, k.multiply(k.start(), k.b.i32(0), descriptor)));
    });
  };
  EXPECT_EQ(with(16, 128, 256), "");
  EXPECT_TRUE(contains(with(8, 128, 256), {"wrong matrix descriptor", "a multiple of 16", "got 0x0000001000084040"}));
  EXPECT_TRUE(contains(trapOf([](Kernel &k) {
                         k.stage();
                         Value further = k.b.wgmmaDescriptorAt(k.descriptor(), k.b.mul(k.n, 8));
                         k.store(k.b.wgmmaWait(0, k.multiply(k.start(), k.b.i32(0), further)));
                       }),
                       {"wrong matrix descriptor"}));
  EXPECT_TRUE(contains(with(16, 128, 256, uint64_t(1) << 62), {"wrong matrix descriptor", "no swizzle"}));
  EXPECT_TRUE(contains(with(0, 128, 8192), {"out-of-bounds access", "128 bytes in 8192 bytes of shared memory"}));
}

//===----------------------------------------------------------------------===//
// Registers
//===----------------------------------------------------------------------===//

TEST(SimulatorWgmma, ReadOfRegisters) {
  auto with = [](int64_t pending, bool commit) {
    return trapOf([&](Kernel &k) {
      k.stage();
      Values sums = k.b.wgmma(k.start(), k.b.wgmmaFence(k.words(k.b.i32(0))), k.descriptor(), k.b.f16());
      if (commit)
        k.b.wgmmaCommit();
      k.store(k.b.wgmmaWait(pending, sums));
    });
  };
  EXPECT_EQ(with(0, true), "");
  EXPECT_TRUE(contains(with(1, true), {"read of a register that wgmma has", "wgmma.wait_group",
                                       "got operand 0, in group 1 while 0 are done"}));
  EXPECT_TRUE(contains(with(0, false), {"read of a register that wgmma has"}));
}

TEST(SimulatorWgmma, WriteOfRegisters) {
  // The words of A are written each time round.
  auto with = [](int64_t pending, int64_t sets) {
    return trapOf([&](Kernel &k) {
      k.stage();
      Values sums;
      k.loop(
          3, k.start(),
          [&](Value step, Values d) {
            for (int64_t set = 0; set < sets; ++set) {
              d = k.multiply(d, step, k.descriptor());
              k.b.wgmmaWait(pending, {});
            }
            return d;
          },
          &sums);
      k.store(k.b.wgmmaWait(0, sums));
    });
  };
  EXPECT_EQ(with(0, 1), "");
  EXPECT_EQ(with(1, 2), "");
  EXPECT_TRUE(
      contains(with(1, 1), {"write of a register that wgmma has", "wgmma.fence", "in group 1 while 0 are done"}));
  EXPECT_TRUE(contains(with(2, 2), {"write of a register that wgmma has"}));
}

TEST(SimulatorWgmma, RegistersInTwoHands) {
  EXPECT_TRUE(contains(trapOf([](Kernel &k) {
                         k.stage();
                         Values sums = k.start();
                         Values one = k.multiply(sums, k.b.i32(0), k.descriptor());
                         Values other = k.multiply(sums, k.b.i32(1), k.descriptor());
                         k.store(k.b.wgmmaWait(0, one));
                         k.store(k.b.wgmmaWait(0, other));
                       }),
                       {"second use of a register that wgmma has"}));
  EXPECT_TRUE(contains(trapOf([](Kernel &k) {
                         k.stage();
                         Values sums = k.start();
                         sums[1] = sums[0];
                         k.store(k.b.wgmmaWait(0, k.multiply(sums, k.b.i32(0), k.descriptor())));
                       }),
                       {"second use of a register that wgmma has"}));
  // Words of A may go to several.
  EXPECT_EQ(trapOf([](Kernel &k) {
              k.stage();
              Values a = k.b.wgmmaFence(k.words(k.b.i32(0))), sums = k.start(), others = k.start();
              sums = k.b.wgmma(sums, a, k.descriptor(), k.b.f16());
              others = k.b.wgmma(others, a, k.descriptor(kStep), k.b.f16());
              k.b.wgmmaCommit();
              sums.append(others);
              k.store(k.b.wgmmaWait(0, sums));
            }),
            "");
}

TEST(SimulatorWgmma, RegistersWithoutFence) {
  EXPECT_TRUE(contains(trapOf([](Kernel &k) {
                         k.stage();
                         Values sums = k.b.wgmma(k.start(), k.words(k.b.i32(0)), k.descriptor(), k.b.f16());
                         k.b.wgmmaCommit();
                         k.store(k.b.wgmmaWait(0, sums));
                       }),
                       {"is given a register that was not handed to wgmma"}));
  // What was given back has to be handed over again.
  EXPECT_TRUE(contains(trapOf([](Kernel &k) {
                         k.stage();
                         Values sums = k.b.wgmmaWait(0, k.multiply(k.start(), k.b.i32(0), k.descriptor()));
                         k.store(k.b.wgmmaWait(0, k.multiply(sums, k.b.i32(1), k.descriptor())));
                       }),
                       {"is given a register that was not handed to wgmma"}));
  EXPECT_TRUE(contains(trapOf([](Kernel &k) {
                         k.stage();
                         k.store(k.multiply(k.start(), k.b.i32(0), k.descriptor()));
                       }),
                       {"'llvm.store' op uses a register that wgmma has"}));
}

//===----------------------------------------------------------------------===//
// Who takes part
//===----------------------------------------------------------------------===//

TEST(SimulatorWgmma, Participation) {
  auto once = [](Kernel &k) { k.multiply(k.start(), k.b.i32(0), k.descriptor()); };
  EXPECT_TRUE(contains(trapOf(
                           [&](Kernel &k) {
                             k.stage();
                             once(k);
                           },
                           64),
                       {"divergent wgmma", "expected the four warps of the warpgroup, got a block of 2 warps"}));
  auto below = [&](int32_t n, int64_t threads) {
    return trapOf(
        [&](Kernel &k) {
          k.stage();
          k.only(k.b.less(k.thread, k.n), [&] { once(k); });
        },
        threads, n);
  };
  EXPECT_EQ(below(128, 256), ""); // the second warpgroup does something else
  EXPECT_TRUE(contains(below(96, 128), {"divergent wgmma", "the four warps of the warpgroup, got warp 3 at its end"}));
  EXPECT_TRUE(contains(below(16, 128), {"divergent wgmma_fence", "all 32 lanes of the warp"}));
  EXPECT_TRUE(contains(trapOf([](Kernel &k) {
                         k.stage();
                         Value warp = k.b.mul(k.b.div(k.thread, 32), 16);
                         k.multiply(k.start(), k.b.i32(0), k.b.wgmmaDescriptorAt(k.descriptor(), warp));
                       }),
                       {"divergent wgmma", "thread (32,0,0)", "one descriptor"}));
  // Half of the warps come to one, half to another.
  EXPECT_TRUE(contains(trapOf(
                           [&](Kernel &k) {
                             k.stage();
                             k.only(k.b.less(k.thread, k.n), [&] { once(k); });
                             k.only(k.b.lessEqual(k.n, k.thread), [&] { once(k); });
                           },
                           128, 64),
                       {"divergent wgmma", "the four warps of the warpgroup at one wgmma"}));
}

TEST(SimulatorWgmma, ChipsWithout) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  auto module = build(context, 128, 8192, [](Kernel &k) {
    k.stage();
    k.store(k.b.wgmmaWait(0, k.multiply(k.start(), k.b.i32(0), k.descriptor())));
  });
  EXPECT_FALSE(bool(checkInstructions(*module, *parseGPUTarget("nvidia-sim:sm_90a"))));
  for (const char *name : {"nvidia-sim:sm_90", "nvidia:sm_80", "nvidia:sm_100"}) {
    auto target = parseGPUTarget(name);
    EXPECT_TRUE(contains(
        checkInstructions(*module, *target).message(),
        {"code generation failed at kernel 'k': expected sm_90a, which alone has wgmma, got " + target->chip}));
    EXPECT_FALSE(bool(emitPTX(*module, "kernels", *target)));
  }
}
