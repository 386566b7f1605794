//===- SimulatorTest.cpp - what kernels compute and cost in the simulator ---===//

#include "Simulation.h"

#include <cmath>
#include <numeric>

using namespace skim;
using Argument = sim::Argument;

static std::vector<float> ramp(size_t count, float first = 0, float step = 1) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = first + step * static_cast<float>(i);
  return values;
}

// Element i of x for each thread of a grid of one dimension, below n.
static const char *kElementwise = R"mlir(
gpu.func @scale(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>, %n: i32, %factor: f32) kernel {
  %id = gpu.global_id x
  %i = arith.index_cast %id : index to i32
  %inside = arith.cmpi slt, %i, %n : i32
  scf.if %inside {
    %px = llvm.getelementptr %x[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
    %v = llvm.load %px {skim.label = "x"} : !llvm.ptr<1> -> f32
    %w = arith.mulf %v, %factor : f32
    %py = llvm.getelementptr %y[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
    llvm.store %w, %py {skim.label = "y"} : f32, !llvm.ptr<1>
  }
  gpu.return
}
)mlir";

TEST(Simulator, Elementwise) {
  Simulation s(kElementwise);
  auto x = s.put("x", ramp(1000));
  auto y = s.device.allocate("y", 4000);
  s.device.countBytes(x);
  s.device.countBytes(y);
  auto counters = s.run("scale", {.grid = {8, 1, 1}, .block = {128, 1, 1}},
                        {Argument::pointer(x), Argument::pointer(y), Argument::i32(1000), Argument::f32(2)});
  EXPECT_EQ(s.get<float>(y, 1000), ramp(1000, 0, 2));
  // 31 whole warps and one of 8 lanes; each lane 4 bytes, a warp 4 sectors.
  EXPECT_EQ(counters.blocks, 8u);
  EXPECT_EQ(counters.warps, 32u);
  for (const char *label : {"x", "y"}) {
    const sim::OpCounters *op = counters.labelled(label);
    ASSERT_TRUE(op);
    EXPECT_EQ(op->requests, 32u);
    EXPECT_EQ(op->lanes, 1000u);
    EXPECT_EQ(op->bytes, 4000u);
    EXPECT_EQ(op->sectors, 125u);
    EXPECT_EQ(op->idealSectors, 125u);
    EXPECT_EQ(op->width, 4u);
  }
  const sim::BufferCounters *bx = counters.buffer("x"), *by = counters.buffer("y");
  ASSERT_TRUE(bx && by);
  EXPECT_EQ(bx->bytesRead, 4000u);
  EXPECT_EQ(bx->leastReads, 1u);
  EXPECT_EQ(bx->mostReads, 1u);
  EXPECT_EQ(bx->mostWrites, 0u);
  EXPECT_EQ(by->bytesWritten, 4000u);
  EXPECT_EQ(by->leastWrites, 1u);
  EXPECT_EQ(by->mostWrites, 1u);
}

// A block's sum: shuffles in a warp, shared memory between warps.
TEST(Simulator, BlockSum) {
  Simulation s(R"mlir(
llvm.mlir.global internal @partial() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<8 x f32>
gpu.func @sum(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>) kernel {
  %tid = gpu.thread_id x
  %bid = gpu.block_id x
  %dim = gpu.block_dim x
  %base = arith.muli %bid, %dim : index
  %i = arith.addi %base, %tid : index
  %i64 = arith.index_cast %i : index to i64
  %px = llvm.getelementptr %x[%i64] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
  %v = llvm.load %px : !llvm.ptr<1> -> f32
  %width = arith.constant 32 : i32
  %c1 = arith.constant 1 : i32
  %c2 = arith.constant 2 : i32
  %c4 = arith.constant 4 : i32
  %c8 = arith.constant 8 : i32
  %c16 = arith.constant 16 : i32
  %a1, %p1 = gpu.shuffle xor %v, %c1, %width : f32
  %s1 = arith.addf %v, %a1 : f32
  %a2, %p2 = gpu.shuffle xor %s1, %c2, %width : f32
  %s2 = arith.addf %s1, %a2 : f32
  %a4, %p4 = gpu.shuffle xor %s2, %c4, %width : f32
  %s4 = arith.addf %s2, %a4 : f32
  %a8, %p8 = gpu.shuffle xor %s4, %c8, %width : f32
  %s8 = arith.addf %s4, %a8 : f32
  %a16, %p16 = gpu.shuffle xor %s8, %c16, %width : f32
  %s16 = arith.addf %s8, %a16 : f32
  %lane = gpu.lane_id
  %warp = gpu.subgroup_id : index
  %zero = arith.constant 0 : index
  %first = arith.cmpi eq, %lane, %zero : index
  %partial = llvm.mlir.addressof @partial : !llvm.ptr<3>
  scf.if %first {
    %w64 = arith.index_cast %warp : index to i64
    %pp = llvm.getelementptr %partial[%w64] : (!llvm.ptr<3>, i64) -> !llvm.ptr<3>, f32
    llvm.store %s16, %pp : f32, !llvm.ptr<3>
  }
  gpu.barrier
  %thread0 = arith.cmpi eq, %tid, %zero : index
  scf.if %thread0 {
    %one = arith.constant 1 : index
    %warps = gpu.num_subgroups : index
    %f0 = arith.constant 0.0 : f32
    %total = scf.for %w = %zero to %warps step %one iter_args(%acc = %f0) -> f32 {
      %w64 = arith.index_cast %w : index to i64
      %pp = llvm.getelementptr %partial[%w64] : (!llvm.ptr<3>, i64) -> !llvm.ptr<3>, f32
      %p = llvm.load %pp : !llvm.ptr<3> -> f32
      %next = arith.addf %acc, %p : f32
      scf.yield %next : f32
    }
    %b64 = arith.index_cast %bid : index to i64
    %py = llvm.getelementptr %y[%b64] : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>, f32
    llvm.store %total, %py : f32, !llvm.ptr<1>
  }
  gpu.return
})mlir");
  auto x = s.put("x", ramp(512));
  auto y = s.device.allocate("y", 8);
  auto counters = s.run("sum", {.grid = {2, 1, 1}, .block = {256, 1, 1}}, {Argument::pointer(x), Argument::pointer(y)});
  EXPECT_EQ(s.get<float>(y, 2), (std::vector<float>{255 * 128.0f, 255 * 128.0f + 256 * 256}));
  EXPECT_EQ(counters.barriers, 2u);
  EXPECT_EQ(counters.bankConflicts(), 0u);
}
