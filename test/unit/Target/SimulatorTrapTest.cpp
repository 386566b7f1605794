//===- SimulatorTrapTest.cpp - each hazard has a kernel that has it ---------===//

#include "Simulation.h"

using namespace skim;
using Argument = sim::Argument;

/// A kernel on x [256 f32 with values], y [256 f32, not initialised], the same
/// in shared memory and a number n; %t is the thread.
static std::string kernel(const std::string &body) {
  return R"mlir(
llvm.mlir.global internal @tile() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<256 x f32>
gpu.func @k(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>, %n: i32) kernel {
  %t = nvvm.read.ptx.sreg.tid.x : i32
  %tile = llvm.mlir.addressof @tile : !llvm.ptr<3>
  %c0 = arith.constant 0 : i32
  %c1 = arith.constant 1 : i32
  %c16 = arith.constant 16 : i32
  %c31 = arith.constant 31 : i32
  %c32 = arith.constant 32 : i32
  %all = arith.constant -1 : i32
  %one = arith.constant 1.0 : f32
  %px = llvm.getelementptr %x[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
  %py = llvm.getelementptr %y[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
  %ps = llvm.getelementptr %tile[%t] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, f32
  %other = arith.xori %t, %n : i32
  %po = llvm.getelementptr %tile[%other] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, f32
)mlir" + body +
         "\n  gpu.return\n}\n";
}

/// Runs one block and gives the trap's text.
static std::string trapOf(const std::string &body, uint32_t threads = 64, int32_t n = 1) {
  Simulation s(kernel(body));
  auto x = s.put("x", std::vector<float>(256, 1.0f));
  auto y = s.device.allocate("y", 1024);
  s.device.limitRequests(10000);
  return s.trap("k", {.block = {threads, 1, 1}}, {Argument::pointer(x), Argument::pointer(y), Argument::i32(n)});
}

//===----------------------------------------------------------------------===//
// Addresses
//===----------------------------------------------------------------------===//

TEST(SimulatorTrap, OutOfBounds) {
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %p = llvm.getelementptr %x[224] : (!llvm.ptr<1>) -> !llvm.ptr<1>, f32
  %q = llvm.getelementptr %p[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
  %v = llvm.load %q {skim.label = "beyond"} : !llvm.ptr<1> -> f32
  llvm.store %v, %py : f32, !llvm.ptr<1>)mlir"),
                       {"out-of-bounds access at kernel 'k', llvm.load at ", "'beyond'",
                        "block (0,0,0), thread (32,0,0): expected 4 bytes in a buffer, got byte 1024 of buffer "
                        "'x' of 1024"}));
  EXPECT_TRUE(contains(
      trapOf(R"mlir(
  %p = llvm.getelementptr %tile[224] : (!llvm.ptr<3>) -> !llvm.ptr<3>, f32
  %q = llvm.getelementptr %p[%t] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, f32
  llvm.store %one, %q : f32, !llvm.ptr<3>)mlir"),
      {"out-of-bounds access", "thread (32,0,0)", "expected 4 bytes in 1024 bytes of shared memory, got byte 1024"}));
}

TEST(SimulatorTrap, Misaligned) {
  EXPECT_TRUE(contains(trapOf("%v = llvm.load %px : !llvm.ptr<1> -> vector<4xi32>"),
                       {"misaligned access", "thread (1,0,0): expected an address that is a multiple "
                                             "of 16, got 0x100000004"}));
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %v = arith.constant dense<1> : vector<2xi32>
  llvm.store %v, %ps : vector<2xi32>, !llvm.ptr<3>)mlir"),
                       {"misaligned access", "thread (1,0,0)", "byte 4 of shared memory"}));
  // With a smaller alignment it is several requests, which are fine.
  EXPECT_EQ(trapOf("%v = llvm.load %x {alignment = 4 : i64} : !llvm.ptr<1> -> vector<4xi32>"), "");
}

TEST(SimulatorTrap, Uninitialised) {
  EXPECT_TRUE(contains(trapOf("%v = llvm.load %py : !llvm.ptr<1> -> f32"),
                       {"read of uninitialised memory", "byte 0 of buffer 'y'"}));
  EXPECT_TRUE(contains(trapOf("%v = llvm.load %ps : !llvm.ptr<3> -> f32"),
                       {"read of uninitialised shared memory", "byte 0 of shared memory"}));
  EXPECT_EQ(trapOf(R"mlir(
  llvm.store %one, %py : f32, !llvm.ptr<1>
  %v = llvm.load %py : !llvm.ptr<1> -> f32
  llvm.store %one, %ps : f32, !llvm.ptr<3>
  %w = llvm.load %ps : !llvm.ptr<3> -> f32)mlir"),
            "");
}

TEST(SimulatorTrap, SharedMemoryIsNewInEachBlock) {
  Simulation s(kernel(R"mlir(
  %block = nvvm.read.ptx.sreg.ctaid.x : i32
  %first = arith.cmpi eq, %block, %c0 : i32
  scf.if %first {
    llvm.store %one, %ps : f32, !llvm.ptr<3>
  } else {
    %v = llvm.load %ps : !llvm.ptr<3> -> f32
  })mlir"));
  auto x = s.put("x", std::vector<float>(256));
  std::vector<Argument> arguments = {Argument::pointer(x), Argument::pointer(x), Argument::i32(1)};
  EXPECT_EQ(s.trap("k", {}, arguments), "");
  EXPECT_TRUE(
      contains(s.trap("k", {.grid = {2, 1, 1}}, arguments), {"read of uninitialised shared memory", "block (1,0,0)"}));
}

TEST(SimulatorTrap, ConstantMemory) {
  Simulation s(kernel("llvm.store %one, %px : f32, !llvm.ptr<1>"));
  alignas(64) static const float weights[64] = {};
  auto x = s.device.map("weights", weights, sizeof weights);
  EXPECT_TRUE(contains(s.trap("k", {}, {Argument::pointer(x), Argument::pointer(x), Argument::i32(1)}),
                       {"write to constant memory", "buffer 'weights'"}));
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

TEST(SimulatorTrap, DivergentBarrier) {
  // Some lanes of a warp do not come.
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %low = arith.cmpi slt, %t, %c16 : i32
  scf.if %low {
    gpu.barrier
  })mlir"),
                       {"divergent barrier", "lane 16 at its end"}));
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %low = arith.cmpi slt, %t, %c16 : i32
  scf.if %low {
    gpu.barrier
  }
  llvm.store %one, %py : f32, !llvm.ptr<1>)mlir"),
                       {"divergent barrier", "lane 16 at llvm.store"}));
  // A whole warp does not come.
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %low = arith.cmpi slt, %t, %c32 : i32
  scf.if %low {
    gpu.barrier
  })mlir"),
                       {"divergent barrier", "expected 64 threads at barrier 0, got warp 1 at its end"}));
  // Warps come to different ones.
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %low = arith.cmpi slt, %t, %c32 : i32
  scf.if %low {
    gpu.barrier
  } else {
    gpu.barrier
  })mlir"),
                       {"divergent barrier", "all warps at one barrier"}));
  // Lanes are in different iterations: some wait once more than others.
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %low = arith.cmpi slt, %t, %c16 : i32
  %most = arith.select %low, %c1, %c16 : i32
  scf.for %i = %c0 to %most step %c1 : i32 {
    gpu.barrier
  })mlir"),
                       {"divergent barrier"}));
  EXPECT_EQ(trapOf(R"mlir(
  scf.for %i = %c0 to %c16 step %c1 : i32 {
    gpu.barrier
  })mlir"),
            "");
}

TEST(SimulatorTrap, NamedBarriers) {
  // A producer and a consumer at barriers of their own.
  const char *body = R"mlir(
  %two = arith.constant 2 : i32
  %c64 = arith.constant 64 : i32
  %low = arith.cmpi slt, %t, %c32 : i32
  scf.if %low {
    llvm.store %one, %ps : f32, !llvm.ptr<3>
    nvvm.barrier id = %two number_of_threads = %THREADS
  } else {
    nvvm.barrier id = %two number_of_threads = %THREADS
    %v = llvm.load %po : !llvm.ptr<3> -> f32
  })mlir";
  auto with = [&](const std::string &threads) {
    std::string text = body;
    for (size_t at; (at = text.find("%THREADS")) != std::string::npos;)
      text.replace(at, 8, threads);
    return trapOf(text, 64, 32);
  };
  EXPECT_EQ(with("%c64"), "");
  EXPECT_TRUE(contains(with("%c32"), {"race: read of what another thread wrote"}));
  EXPECT_TRUE(contains(with("%c16"), {"wrong barrier"}));
}

//===----------------------------------------------------------------------===//
// Races
//===----------------------------------------------------------------------===//

TEST(SimulatorTrap, ReadAfterWrite) {
  const char *without = R"mlir(
  llvm.store %one, %ps : f32, !llvm.ptr<3>
  %v = llvm.load %po : !llvm.ptr<3> -> f32)mlir";
  const char *barrier = R"mlir(
  llvm.store %one, %ps : f32, !llvm.ptr<3>
  gpu.barrier
  %v = llvm.load %po : !llvm.ptr<3> -> f32)mlir";
  const char *warp = R"mlir(
  llvm.store %one, %ps : f32, !llvm.ptr<3>
  nvvm.bar.warp.sync %all : i32
  %v = llvm.load %po : !llvm.ptr<3> -> f32)mlir";
  // n = 1: the neighbour in the warp; n = 32: the other warp.
  EXPECT_TRUE(contains(trapOf(without, 32, 1),
                       {"race: read of what another thread wrote",
                        "expected a barrier between threads 1 and 0, got none at byte 4 of shared memory"}));
  EXPECT_TRUE(contains(trapOf(without, 64, 32), {"shared memory"})); // the first warp reads before the second writes
  EXPECT_EQ(trapOf(without, 64, 0), "");
  EXPECT_EQ(trapOf(barrier, 64, 32), "");
  EXPECT_EQ(trapOf(barrier, 64, 1), "");
  EXPECT_EQ(trapOf(warp, 64, 1), "");
  EXPECT_TRUE(contains(trapOf(warp, 64, 32), {"shared memory"}));
}

TEST(SimulatorTrap, WriteAfterRead) {
  const std::string begin = R"mlir(
  llvm.store %one, %ps : f32, !llvm.ptr<3>
  gpu.barrier
  %v = llvm.load %po : !llvm.ptr<3> -> f32
)mlir",
                    write = "  llvm.store %v, %ps : f32, !llvm.ptr<3>";
  EXPECT_TRUE(contains(trapOf(begin + write, 64, 1), {"race: write over what another thread reads"}));
  EXPECT_TRUE(contains(trapOf(begin + write, 64, 32), {"race"}));
  EXPECT_EQ(trapOf(begin + "  gpu.barrier\n" + write, 64, 32), "");
  // Everybody reads byte 0; the thread that reads it last writes it.
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %last = arith.constant 63 : i32
  %zero = arith.cmpi eq, %t, %c0 : i32
  scf.if %zero {
    llvm.store %one, %tile : f32, !llvm.ptr<3>
  }
  gpu.barrier
  %v = llvm.load %tile : !llvm.ptr<3> -> f32
  %mine = arith.cmpi eq, %t, %last : i32
  scf.if %mine {
    llvm.store %v, %tile : f32, !llvm.ptr<3>
  })mlir"),
                       {"race: write over what another thread reads"}));
}

TEST(SimulatorTrap, WriteAfterWrite) {
  EXPECT_TRUE(contains(trapOf("llvm.store %one, %tile : f32, !llvm.ptr<3>"),
                       {"race: write over what another thread wrote", "threads 0 and 1"}));
  // Bytes of one word are no race.
  EXPECT_EQ(trapOf(R"mlir(
  %byte = arith.constant 1 : i8
  %p = llvm.getelementptr %tile[%t] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
  llvm.store %byte, %p : i8, !llvm.ptr<3>)mlir"),
            "");
}

TEST(SimulatorTrap, Atomics) {
  const std::string begin = R"mlir(
  %zero = arith.cmpi eq, %t, %c0 : i32
  scf.if %zero {
    llvm.store %c0, %tile : i32, !llvm.ptr<3>
  }
  gpu.barrier
  %old = llvm.atomicrmw add %tile, %c1 monotonic : !llvm.ptr<3>, i32
)mlir",
                    read = "  %v = llvm.load %tile : !llvm.ptr<3> -> i32";
  EXPECT_EQ(trapOf(begin), "");
  EXPECT_EQ(trapOf(begin + "  gpu.barrier\n" + read), "");
  EXPECT_TRUE(contains(trapOf(begin + read), {"race: read of what another thread wrote"}));
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

static const std::string kCopy = R"mlir(
  %words = arith.shli %t, %c1 : i32
  %offset = arith.shli %words, %c1 : i32
  %from = llvm.getelementptr %x[%offset] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
  %to = llvm.getelementptr %tile[%offset] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, f32
  nvvm.cp.async.shared.global %to, %from, 16, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>
)mlir",
                         kCommit = "  nvvm.cp.async.commit.group\n", kWait = "  nvvm.cp.async.wait.group 0\n",
                         kOwn = "  %own = llvm.load %to : !llvm.ptr<3> -> f32\n",
                         kOthers = "  %v = llvm.load %po : !llvm.ptr<3> -> f32\n";

TEST(SimulatorTrap, CopyNotWaitedFor) {
  const char *what = "access to shared memory before its copy was waited for";
  EXPECT_TRUE(contains(trapOf(kCopy + kOwn), {what}));
  EXPECT_TRUE(contains(trapOf(kCopy + kCommit + kOwn), {what}));
  EXPECT_TRUE(contains(trapOf(kCopy + kWait + kOwn), {what})); // no group, nothing to wait for
  EXPECT_TRUE(contains(trapOf(kCopy + kCommit + "  gpu.barrier\n" + kOthers), {what}));
  EXPECT_TRUE(contains(trapOf(kCopy + "  llvm.store %one, %to : f32, !llvm.ptr<3>"), {what}));
  EXPECT_EQ(trapOf(kCopy + kCommit + kWait + kOwn), "");
  // One newer group may be on its way: that was this one.
  EXPECT_TRUE(contains(trapOf(kCopy + kCommit + "  nvvm.cp.async.wait.group 1\n" + kOwn), {what}));
  EXPECT_EQ(trapOf(kCopy + kCommit + kCommit + "  nvvm.cp.async.wait.group 1\n" + kOwn), "");
}

TEST(SimulatorTrap, CopyWithoutBarrier) {
  // Waiting is for the lane's own copies; others' data needs a barrier too.
  EXPECT_TRUE(contains(trapOf(kCopy + kCommit + kWait + kOthers, 32, 8), {"race: read of what another thread wrote"}));
  EXPECT_EQ(trapOf(kCopy + kCommit + kWait + "  gpu.barrier\n" + kOthers, 64, 8), "");
  // The next copy overwrites what others still read.
  EXPECT_TRUE(
      contains(trapOf(kCopy + kCommit + kWait + "  gpu.barrier\n" + kOthers +
                          "  nvvm.cp.async.shared.global %to, %from, 16, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>\n",
                      64, 8),
               {"race: write over what another thread reads"}));
}

//===----------------------------------------------------------------------===//
// Collective operations
//===----------------------------------------------------------------------===//

TEST(SimulatorTrap, DivergentShuffle) {
  EXPECT_TRUE(contains(trapOf(R"mlir(
  %low = arith.cmpi slt, %t, %c16 : i32
  scf.if %low {
    %v = nvvm.shfl.sync bfly %all, %one, %c1, %c31 : f32 -> f32
  }
  llvm.store %one, %py : f32, !llvm.ptr<1>)mlir",
                              32),
                       {"divergent shuffle", "lane 16 at llvm.store"}));
  // A member mask of those that are there is fine, but not to read from others.
  const std::string half = R"mlir(
  %members = arith.constant 65535 : i32
  %low = arith.cmpi slt, %t, %c16 : i32
  scf.if %low {
)mlir";
  EXPECT_EQ(trapOf(half + "  %v = nvvm.shfl.sync bfly %members, %one, %c1, %c31 : f32 -> f32\n}", 32), "");
  EXPECT_TRUE(contains(trapOf(half + "  %v = nvvm.shfl.sync bfly %members, %one, %c16, %c31 : f32 -> f32\n}", 32),
                       {"shuffle from a lane that takes no part", "got lane 16"}));
  EXPECT_TRUE(contains(trapOf(half + "  %v = nvvm.shfl.sync bfly %c1, %one, %c0, %c31 : f32 -> f32\n}", 32),
                       {"wrong members of a collective operation", "thread (1,0,0)"}));
}

TEST(SimulatorTrap, DivergentMatrix) {
  const std::string mma = R"mlir(
  %h = arith.constant dense<1.0> : vector<2xf16>
  %low = arith.cmpi slt, %t, %n : i32
  scf.if %low {
    %d = nvvm.mma.sync A[%h, %h, %h, %h] B[%h, %h] C[%one, %one, %one, %one]
      {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, shape = #nvvm.shape<m = 16, n = 8, k = 16>}
      : (vector<2xf16>, vector<2xf16>, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  })mlir";
  EXPECT_EQ(trapOf(mma, 32, 32), "");
  EXPECT_TRUE(contains(trapOf(mma, 32, 31), {"divergent mma", "lane 31 at its end"}));
  EXPECT_TRUE(contains(trapOf(mma, 16, 32), {"divergent mma", "lane 16 is not in the block"}));
}

TEST(SimulatorTrap, Endless) {
  EXPECT_TRUE(contains(trapOf(R"mlir(
  llvm.store %one, %py : f32, !llvm.ptr<1>
  %true = arith.constant true
  scf.while : () -> () {
    %v = llvm.load %py : !llvm.ptr<1> -> f32
    scf.condition(%true)
  } do {
    scf.yield
  })mlir"),
                       {"GPU kernel does not end"}));
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

TEST(SimulatorTrap, Launch) {
  Simulation s(kernel(""));
  auto x = s.device.allocate("x", 64);
  Argument p = Argument::pointer(x), n = Argument::i32(1);
  EXPECT_EQ(s.trap("k", {}, {p, p, n}), "");
  EXPECT_TRUE(contains(s.trap("none", {}, {p, p, n}), {"no such kernel"}));
  EXPECT_TRUE(contains(s.trap("k", {}, {p, p}), {"expected 3 arguments, got 2"}));
  EXPECT_TRUE(contains(s.trap("k", {}, {p, p, p}), {"argument 2: expected 4 bytes, got 8"}));
  EXPECT_TRUE(contains(s.trap("k", {.block = {1025, 1, 1}}, {p, p, n}), {"1 to 1024 threads"}));
  EXPECT_TRUE(contains(s.trap("k", {.block = {0, 1, 1}}, {p, p, n}), {"1 to 1024 threads"}));
  EXPECT_TRUE(contains(s.trap("k", {.grid = {1, 0, 1}}, {p, p, n}), {"at least one block"}));
  EXPECT_TRUE(contains(s.trap("k", {.dynamicShared = 300 << 10}, {p, p, n}), {"bytes of shared memory"}));
  EXPECT_EQ(s.trap("k", {.block = {1024, 1, 1}}, {p, p, n}), "");
}
