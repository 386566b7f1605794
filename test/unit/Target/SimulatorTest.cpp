//===- SimulatorTest.cpp - what kernels compute and cost in the simulator ---===//

#include "Simulation.h"
#include "skim/Support/Float16.h"

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

//===----------------------------------------------------------------------===//
// Counts
//===----------------------------------------------------------------------===//

/// A kernel of one warp on x and y; %t is the thread.
static std::string oneWarp(const std::string &body) {
  return R"mlir(
llvm.mlir.global internal @tile() {addr_space = 3 : i32, alignment = 128 : i64} : !llvm.array<4096 x i8>
gpu.func @k(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>, %n: i32) kernel {
  %t = nvvm.read.ptx.sreg.tid.x : i32
  %tile = llvm.mlir.addressof @tile : !llvm.ptr<3>
  %c0 = arith.constant 0 : i32
  %c1 = arith.constant 1 : i32
  %c2 = arith.constant 2 : i32
  %c4 = arith.constant 4 : i32
  %c31 = arith.constant 31 : i32
  %all = arith.constant -1 : i32
)mlir" + body +
         "\n  gpu.return\n}\n";
}

/// The counters of the operation labelled `it` in one warp; x has 64 KiB of 0, 1, 2, … as i32.
static sim::OpCounters countOf(const std::string &body, int32_t n = 0, uint32_t threads = 32) {
  Simulation s(oneWarp(body));
  std::vector<int32_t> values(16384);
  std::iota(values.begin(), values.end(), 0);
  auto x = s.put("x", values), y = s.put("y", values);
  auto counters =
      s.run("k", {.block = {threads, 1, 1}}, {Argument::pointer(x), Argument::pointer(y), Argument::i32(n)});
  const sim::OpCounters *op = counters.labelled("it");
  EXPECT_TRUE(op);
  return op ? *op : sim::OpCounters();
}

/// A load of `type` at x + t · stride bytes.
static std::string strided(int stride, const std::string &type, const std::string &attributes = "") {
  return "%s = arith.constant " + std::to_string(stride) + " : i32\n%o = arith.muli %t, %s : i32\n" +
         "%p = llvm.getelementptr %x[%o] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i8\n" +
         "%v = llvm.load %p {skim.label = \"it\"" + attributes + "} : !llvm.ptr<1> -> " + type;
}

TEST(SimulatorCounts, Sectors) {
  auto expect = [](const std::string &body, uint64_t requests, uint64_t sectors, uint64_t ideal) {
    sim::OpCounters op = countOf(body);
    EXPECT_EQ(op.requests, requests) << body;
    EXPECT_EQ(op.sectors, sectors) << body;
    EXPECT_EQ(op.idealSectors, ideal) << body;
  };
  expect(strided(16, "vector<4xi32>"), 1, 16, 16); // 512 consecutive bytes
  expect(strided(4, "i32"), 1, 4, 4);
  expect(strided(2, "i16"), 1, 2, 2);
  expect(strided(8, "i32"), 1, 8, 4); // every other word
  expect(strided(32, "i32"), 1, 32, 4);
  expect(strided(128, "i32"), 1, 32, 4);
  expect(strided(0, "i32"), 1, 1, 1); // all the same
  expect("%r = arith.subi %c31, %t : i32\n%p = llvm.getelementptr %x[%r] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32\n"
         "%v = llvm.load %p {skim.label = \"it\"} : !llvm.ptr<1> -> i32",
         1, 4, 4);                                                          // backwards
  expect(strided(32, "vector<8xi32>"), 2, 64, 32);                          // two halves, each every other 16 bytes
  expect(strided(16, "vector<4xi32>", ", alignment = 4 : i64"), 4, 64, 16); // four times every fourth word
}

TEST(SimulatorCounts, InlineLoads) {
  sim::OpCounters op = countOf(R"mlir(
  %o = arith.shli %t, %c4 : i32
  %p = llvm.getelementptr %x[%o] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i8
  %v = llvm.inline_asm {skim.label = "it"}
    "ld.global.nc.L1::no_allocate.L2::evict_first.v4.b32 {$0, $1, $2, $3}, [$4];", "=r,=r,=r,=r,l" %p : (!llvm.ptr<1>) -> !llvm.struct<(i32, i32, i32, i32)>)mlir");
  EXPECT_EQ(op.requests, 1u);
  EXPECT_EQ(op.width, 16u);
  EXPECT_EQ(op.sectors, 16u);
  EXPECT_EQ(op.loadsInFlight, 1u);
}

/// A store of `type` at tile + t · stride bytes.
static std::string staged(int stride, const std::string &type) {
  return "%s = arith.constant " + std::to_string(stride) + " : i32\n%o = arith.muli %t, %s : i32\n" +
         "%p = llvm.getelementptr %tile[%o] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8\n%v = llvm.mlir.zero : " + type +
         "\nllvm.store %v, %p {skim.label = \"it\"} : " + type + ", !llvm.ptr<3>";
}

TEST(SimulatorCounts, Banks) {
  auto expect = [](const std::string &body, uint64_t wavefronts, uint64_t ideal) {
    sim::OpCounters op = countOf(body);
    EXPECT_EQ(op.wavefronts, wavefronts) << body;
    EXPECT_EQ(op.idealWavefronts, ideal) << body;
    EXPECT_TRUE(op.shared);
    EXPECT_EQ(op.sectors, 0u);
  };
  expect(staged(4, "i32"), 1, 1);
  expect(staged(8, "i32"), 2, 1);  // two lanes to a bank
  expect(staged(12, "i32"), 1, 1); // an odd stride
  expect(staged(16, "i32"), 4, 1);
  expect(staged(128, "i32"), 32, 1);
  expect(staged(1, "i8"), 1, 1); // four lanes to a word
  expect(staged(8, "vector<2xi32>"), 2, 2);
  expect(staged(16, "vector<2xi32>"), 4, 2);
  expect(staged(16, "vector<4xi32>"), 4, 4);
  expect(staged(32, "vector<4xi32>"), 8, 4);
  // A word for all is one cycle.
  expect(R"mlir(
  %zero = arith.cmpi eq, %t, %c0 : i32
  scf.if %zero {
    llvm.store %c1, %tile : i32, !llvm.ptr<3>
  }
  nvvm.bar.warp.sync %all : i32
  %v = llvm.load %tile {skim.label = "it"} : !llvm.ptr<3> -> i32)mlir",
         1, 1);
}

TEST(SimulatorCounts, Divergence) {
  // An access on both sides of a branch is two requests, one behind it is one again.
  const std::string branch = R"mlir(
  %odd = arith.andi %t, %c1 : i32
  %is = arith.cmpi eq, %odd, %c0 : i32
  %p = llvm.getelementptr %x[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
  scf.if %is {
    %v = llvm.load %p {skim.label = "then"} : !llvm.ptr<1> -> i32
  } else {
    %v = llvm.load %p {skim.label = "else"} : !llvm.ptr<1> -> i32
  }
  %w = llvm.load %p {skim.label = "behind"} : !llvm.ptr<1> -> i32)mlir";
  Simulation s(oneWarp(branch));
  auto x = s.put("x", std::vector<int32_t>(32));
  auto counters = s.run("k", {}, {Argument::pointer(x), Argument::pointer(x), Argument::i32(0)});
  for (const char *label : {"then", "else"}) {
    ASSERT_TRUE(counters.labelled(label));
    EXPECT_EQ(counters.labelled(label)->requests, 1u);
    EXPECT_EQ(counters.labelled(label)->lanes, 16u);
    EXPECT_EQ(counters.labelled(label)->sectors, 4u);
    EXPECT_EQ(counters.labelled(label)->idealSectors, 2u);
  }
  EXPECT_EQ(counters.labelled("behind")->requests, 1u);
  EXPECT_EQ(counters.labelled("behind")->lanes, 32u);

  // Lane t is in the loop t + 1 times: 32 requests with 32, 31, … lanes.
  sim::OpCounters loop = countOf(R"mlir(
  %end = arith.addi %t, %c1 : i32
  scf.for %i = %c0 to %end step %c1 : i32 {
    %p = llvm.getelementptr %x[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    %v = llvm.load %p {skim.label = "it"} : !llvm.ptr<1> -> i32
  })mlir");
  EXPECT_EQ(loop.requests, 32u);
  EXPECT_EQ(loop.lanes, 32u * 33 / 2);

  // Each lane in an iteration of its own: nothing is together, though every lane comes just once.
  sim::OpCounters own = countOf(R"mlir(
  %end = arith.constant 32 : i32
  scf.for %i = %c0 to %end step %c1 : i32 {
    %mine = arith.cmpi eq, %i, %t : i32
    scf.if %mine {
      %p = llvm.getelementptr %x[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
      %v = llvm.load %p {skim.label = "it"} : !llvm.ptr<1> -> i32
    }
    %q = llvm.getelementptr %y[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    %w = llvm.load %q : !llvm.ptr<1> -> i32
  })mlir");
  EXPECT_EQ(own.requests, 32u);
  EXPECT_EQ(own.lanes, 32u);
  EXPECT_EQ(own.sectors, 32u);
}

TEST(SimulatorCounts, LoadsInFlight) {
  auto load = [](int index, const std::string &label = "") {
    std::string n = std::to_string(index);
    return "%p" + n + " = llvm.getelementptr %x[" + n + "] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32\n%v" + n +
           " = llvm.load %p" + n + (label.empty() ? "" : " {skim.label = \"" + label + "\"}") +
           " : !llvm.ptr<1> -> i32\n";
  };
  auto add = [](const std::string &name, const std::string &a, const std::string &b) {
    return "%" + name + " = arith.addi %" + a + ", %" + b + " : i32\n";
  };
  // One after the other, or all before the first use.
  EXPECT_EQ(countOf(load(0, "it") + add("a", "v0", "v0") + load(1) + add("b", "v1", "a")).loadsInFlight, 1u);
  sim::OpCounters four =
      countOf(load(0, "it") + load(1) + load(2) + load(3) + add("a", "v0", "v1") + add("b", "v2", "v3"));
  EXPECT_EQ(four.loadsInFlight, 4u);
  EXPECT_EQ(four.bytesInFlight, 16u);
  // The last of them is on its way with one other when it is used.
  EXPECT_EQ(
      countOf(load(0) + load(1) + load(2) + load(3, "it") + add("a", "v0", "v1") + add("b", "v2", "v3")).loadsInFlight,
      2u);
  // A loop that loads for its next iteration.
  EXPECT_EQ(countOf(R"mlir(
  %first = llvm.load %x : !llvm.ptr<1> -> i32
  %sum, %last = scf.for %i = %c0 to %c31 step %c1 iter_args(%acc = %c0, %now = %first) -> (i32, i32) : i32 {
    %p = llvm.getelementptr %x[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    %a = llvm.load %p {skim.label = "it"} : !llvm.ptr<1> -> i32
    %b = llvm.load %p : !llvm.ptr<1> -> i32
    %both = arith.addi %acc, %now : i32
    %next = arith.xori %a, %b : i32
    scf.yield %both, %next : i32, i32
  })mlir")
                .loadsInFlight,
            2u);
}

TEST(SimulatorCounts, Copies) {
  // 16 bytes a lane; the lanes above n copy nothing and leave zeros.
  Simulation s(oneWarp(R"mlir(
  %o = arith.shli %t, %c4 : i32
  %from = llvm.getelementptr %x[%o] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i8
  %to = llvm.getelementptr %tile[%o] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
  %inside = arith.cmpi slt, %t, %n : i32
  %c16 = arith.constant 16 : i32
  %bytes = arith.select %inside, %c16, %c0 : i32
  nvvm.cp.async.shared.global %to, %from, 16, cache = cg, %bytes {skim.label = "it"} : !llvm.ptr<3>, !llvm.ptr<1>, i32
  nvvm.cp.async.commit.group
  nvvm.cp.async.wait.group 0
  %v = llvm.load %to : !llvm.ptr<3> -> vector<4xi32>
  %py = llvm.getelementptr %y[%o] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i8
  llvm.store %v, %py : vector<4xi32>, !llvm.ptr<1>)mlir"));
  std::vector<int32_t> x(80), y(128);
  std::iota(x.begin(), x.end(), 1);
  auto input = s.put("x", x), output = s.put("y", std::vector<int32_t>(128, -1));
  auto counters = s.run("k", {}, {Argument::pointer(input), Argument::pointer(output), Argument::i32(20)});
  std::copy(x.begin(), x.end(), y.begin());
  EXPECT_EQ(s.get<int32_t>(output, 128), y);
  const sim::OpCounters *op = counters.labelled("it");
  ASSERT_TRUE(op);
  EXPECT_EQ(op->kind, "copy");
  EXPECT_EQ(op->sectors, 10u);
  EXPECT_EQ(op->bytes, 320u);
  EXPECT_EQ(op->wavefronts, 4u);
  EXPECT_EQ(counters.buffer("x")->bytesRead, 320u);
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

/// y[t] of a warp, where `body` computes %r of x[t].
template <typename T>
static std::vector<T> apply(const std::string &body, const std::vector<T> &x, const std::string &type) {
  Simulation s(oneWarp("%p = llvm.getelementptr %x[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, " + type +
                       "\n%v = llvm.load %p : !llvm.ptr<1> -> " + type + "\n" + body +
                       "\n%q = llvm.getelementptr %y[%t] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, " + type +
                       "\nllvm.store %r, %q : " + type + ", !llvm.ptr<1>"));
  auto input = s.put("x", x);
  auto output = s.device.allocate("y", 32 * sizeof(T));
  s.run("k", {}, {Argument::pointer(input), Argument::pointer(output), Argument::i32(0)});
  return s.get<T>(output, 32);
}

static std::vector<uint32_t> randomWords() {
  std::vector<uint32_t> words(32);
  uint32_t state = 1;
  for (uint32_t &word : words)
    word = state = state * 1664525 + 1013904223;
  return words;
}

TEST(SimulatorOps, Votes) {
  std::vector<uint32_t> x = randomWords();
  uint32_t ballot = 0;
  for (uint32_t i = 0; i < 32; ++i)
    ballot |= (x[i] & 1) << i;
  const std::string predicate = "%one = arith.andi %v, %c1 : i32\n%is = arith.cmpi ne, %one, %c0 : i32\n";
  EXPECT_EQ(apply(predicate + "%r = nvvm.vote.sync ballot %all, %is -> i32", x, "i32"),
            std::vector<uint32_t>(32, ballot));
  for (auto [kind, value] : {std::pair("any", 1u), {"all", 0u}, {"uni", 0u}})
    EXPECT_EQ(apply(predicate + "%b = nvvm.vote.sync " + kind + " %all, %is -> i1\n%r = arith.extui %b : i1 to i32", x,
                    "i32"),
              std::vector<uint32_t>(32, value))
        << kind;
  EXPECT_EQ(apply("%b = nvvm.elect.sync -> i1\n%r = arith.extui %b : i1 to i32", x, "i32")[0], 1u);
}

TEST(SimulatorOps, Redux) {
  std::vector<uint32_t> x = randomWords();
  auto fold = [&](auto step) { return std::vector<uint32_t>(32, std::accumulate(x.begin() + 1, x.end(), x[0], step)); };
  auto redux = [&](const std::string &kind) {
    return apply("%r = nvvm.redux.sync " + kind + " %v, %all : i32 -> i32", x, "i32");
  };
  EXPECT_EQ(redux("add"), fold([](uint32_t a, uint32_t b) { return a + b; }));
  EXPECT_EQ(redux("and"), fold([](uint32_t a, uint32_t b) { return a & b; }));
  EXPECT_EQ(redux("or"), fold([](uint32_t a, uint32_t b) { return a | b; }));
  EXPECT_EQ(redux("xor"), fold([](uint32_t a, uint32_t b) { return a ^ b; }));
  EXPECT_EQ(redux("umin"), fold([](uint32_t a, uint32_t b) { return std::min(a, b); }));
  EXPECT_EQ(redux("umax"), fold([](uint32_t a, uint32_t b) { return std::max(a, b); }));
  EXPECT_EQ(redux("min"), fold([](uint32_t a, uint32_t b) { return int32_t(a) < int32_t(b) ? a : b; }));
  EXPECT_EQ(redux("max"), fold([](uint32_t a, uint32_t b) { return int32_t(a) > int32_t(b) ? a : b; }));
}

TEST(SimulatorOps, Shuffles) {
  std::vector<uint32_t> x(32);
  std::iota(x.begin(), x.end(), 0);
  auto shuffle = [&](const std::string &mode, const std::string &clamp) {
    return apply("%m = arith.constant " + clamp + " : i32\n%r = nvvm.shfl.sync " + mode +
                     " %all, %v, %c2, %m : i32 -> i32",
                 x, "i32");
  };
  auto expect = [&](const std::vector<uint32_t> &lanes, auto source) {
    for (uint32_t i = 0; i < 32; ++i)
      EXPECT_EQ(lanes[i], source(i)) << i;
  };
  expect(shuffle("bfly", "31"), [](uint32_t i) { return i ^ 2; });
  expect(shuffle("down", "31"), [](uint32_t i) { return i + 2 < 32 ? i + 2 : i; });
  expect(shuffle("up", "0"), [](uint32_t i) { return i >= 2 ? i - 2 : i; });
  expect(shuffle("idx", "31"), [](uint32_t) { return 2u; });
  // In segments of eight lanes: bits 8 to 12 of the clamp are 24.
  expect(shuffle("down", "6175"), [](uint32_t i) { return i % 8 + 2 < 8 ? i + 2 : i; });
  expect(shuffle("up", "6144"), [](uint32_t i) { return i % 8 >= 2 ? i - 2 : i; });
  expect(shuffle("idx", "6175"), [](uint32_t i) { return i / 8 * 8 + 2; });
}

TEST(SimulatorOps, Bytes) {
  std::vector<uint32_t> x = randomWords();
  auto bytes = [](uint32_t word, int i) { return word >> (8 * i) & 255; };
  std::vector<uint32_t> permuted, dots, lops;
  for (uint32_t v : x) {
    uint32_t w = ~v;
    permuted.push_back(bytes(v, 3) | bytes(w, 0) << 8 | (bytes(w, 2) >> 7 ? 255u : 0u) << 16 | bytes(v, 1) << 24);
    int32_t sum = 5;
    for (int i = 0; i < 4; ++i)
      sum += static_cast<int32_t>(bytes(v, i)) * static_cast<int8_t>(bytes(w, i));
    dots.push_back(static_cast<uint32_t>(sum));
    lops.push_back((v & 0x0f0f0f0f) | w << 3);
  }
  const std::string flip = "%w = arith.xori %v, %all : i32\n";
  // Nibbles from the lowest: 3, 4, 6 with its sign (14), 1.
  EXPECT_EQ(apply(flip + "%s = arith.constant 7747 : i32\n%r = nvvm.prmt <default> %s, %v, %w : i32", x, "i32"),
            permuted);
  EXPECT_EQ(apply(flip + R"mlir(
  %five = arith.constant 5 : i32
  %a = llvm.bitcast %v : i32 to vector<4xi8>
  %b = llvm.bitcast %w : i32 to vector<4xi8>
  %r = nvvm.dot.accumulate.4way %a <unsigned>, %b <signed>, %five : vector<4xi8>, vector<4xi8>)mlir",
                  x, "i32"),
            dots);
  EXPECT_EQ(apply(flip + R"mlir(
  %mask = arith.constant 252645135 : i32
  %c3 = arith.constant 3 : i32
  %u = arith.shli %w, %c3 : i32
  %r = llvm.inline_asm "lop3.b32 $0, $1, $2, $3, 0xEA;", "=r,r,r,r" %v, %mask, %u : (i32, i32, i32) -> i32)mlir",
                  x, "i32"),
            lops);
}

TEST(SimulatorOps, Functions) {
  std::vector<float> x = ramp(32, 0.125f, 0.25f);
  for (auto [name, function] : std::initializer_list<std::pair<const char *, float (*)(float)>>{{"exp", std::exp},
                                                                                                {"exp2", std::exp2},
                                                                                                {"log", std::log},
                                                                                                {"log2", std::log2},
                                                                                                {"sin", std::sin},
                                                                                                {"cos", std::cos},
                                                                                                {"tanh", std::tanh},
                                                                                                {"erf", std::erf},
                                                                                                {"sqrt", std::sqrt}}) {
    std::vector<float> y = apply(std::string("%r = math.") + name + " %v : f32", x, "f32");
    for (size_t i = 0; i < 32; ++i)
      EXPECT_FLOAT_EQ(y[i], function(x[i])) << name;
  }
  std::vector<float> y = apply(R"mlir(
  %a = math.rsqrt %v : f32
  %b = llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f"(%a) : (f32) -> f32
  %c = nvvm.rcp.approx.ftz.f %b : f32
  %d = math.fma %c, %v, %v : f32
  %e = vector.broadcast %d : f32 to vector<4xf32>
  %f = math.exp %e : vector<4xf32>
  %r = vector.extract %f[3] : f32 from vector<4xf32>)mlir",
                               x, "f32");
  for (size_t i = 0; i < 32; ++i)
    EXPECT_NEAR(y[i], std::exp(x[i] / std::exp2(1 / std::sqrt(x[i])) + x[i]), 1e-5 * y[i]);
}

TEST(SimulatorOps, Halves) {
  std::vector<float> x = ramp(32, 0.3f, 0.7f);
  for (bool f16 : {true, false}) {
    std::string type = f16 ? "f16" : "bf16";
    std::vector<float> y = apply(
        "%h = arith.truncf %v : f32 to " + type + "\n%p2 = vector.broadcast %h : " + type + " to vector<2x" + type +
            ">\n%m = arith.mulf %p2, %p2 : vector<2x" + type + ">\n%f = math.fma %m, %p2, %p2 : vector<2x" + type +
            ">\n%g = llvm.intr.fma(%f, %p2, %p2) : (vector<2x" + type + ">, vector<2x" + type + ">, vector<2x" + type +
            ">) -> vector<2x" + type + ">\n%e = vector.extract %g[1] : " + type + " from vector<2x" + type +
            ">\n%r = arith.extf %e : " + type + " to f32",
        x, "f32");
    auto round = f16 ? roundToF16 : roundToBF16;
    for (size_t i = 0; i < 32; ++i) {
      float h = round(x[i]), m = round(h * h), f = round(std::fma(m, h, h));
      EXPECT_EQ(y[i], round(std::fma(f, h, h))) << type << " " << x[i];
    }
  }
}

TEST(SimulatorOps, AtomicsOfAllBlocks) {
  Simulation s(R"mlir(
gpu.func @k(%y: !llvm.ptr<1>) kernel {
  %c1 = arith.constant 1 : i32
  %one = arith.constant 1.0 : f32
  %pf = llvm.getelementptr %y[1] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32
  %old = llvm.atomicrmw add %y, %c1 monotonic : !llvm.ptr<1>, i32
  %sum = llvm.atomicrmw fadd %pf, %one monotonic : !llvm.ptr<1>, f32
  gpu.return
})mlir");
  auto y = s.device.allocate("y", 8, sim::Device::Content::Zero);
  s.run("k", {.grid = {3, 2, 2}, .block = {8, 4, 2}}, {Argument::pointer(y)});
  EXPECT_EQ(s.get<int32_t>(y, 1)[0], 12 * 64);
  EXPECT_EQ(s.get<float>(y + 4, 1)[0], 12 * 64.0f);
}

TEST(SimulatorOps, PlacesAndDynamicMemory) {
  Simulation s(R"mlir(
llvm.mlir.global internal @fixed() {addr_space = 3 : i32} : !llvm.array<5 x i32>
llvm.mlir.global external @dynamic() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<0 x i8>
gpu.func @k(%y: !llvm.ptr<1>) kernel {
  %x = gpu.thread_id x
  %yy = gpu.thread_id y
  %z = gpu.thread_id z
  %bx = gpu.block_id x
  %gy = gpu.grid_dim y
  %dx = gpu.block_dim x
  %dy = gpu.block_dim y
  %a = arith.muli %z, %dy : index
  %b = arith.addi %a, %yy : index
  %c = arith.muli %b, %dx : index
  %thread = arith.addi %c, %x : index
  %warp = gpu.subgroup_id : index
  %c32 = arith.constant 32 : index
  %lane = gpu.lane_id
  %e = arith.muli %warp, %c32 : index
  %again = arith.addi %e, %lane : index
  %same = arith.cmpi eq, %again, %thread : index
  scf.if %same {
    %fixed = llvm.mlir.addressof @fixed : !llvm.ptr<3>
    %dynamic = llvm.mlir.addressof @dynamic : !llvm.ptr<3>
    %i = arith.index_cast %thread : index to i32
    %p = llvm.getelementptr %dynamic[%i] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    llvm.store %i, %p : i32, !llvm.ptr<3>
    %c0 = arith.constant 0 : i32
    %zero = arith.cmpi eq, %i, %c0 : i32
    scf.if %zero {
      llvm.store %i, %fixed : i32, !llvm.ptr<3>
    }
    %v = llvm.load %p : !llvm.ptr<3> -> i32
    %q = llvm.getelementptr %y[%v] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    llvm.store %v, %q : i32, !llvm.ptr<1>
  }
  gpu.return
})mlir");
  auto y = s.device.allocate("y", 4 * 48);
  s.run("k", {.block = {4, 6, 2}, .dynamicShared = 4 * 48}, {Argument::pointer(y)});
  std::vector<int32_t> expected(48);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(s.get<int32_t>(y, 48), expected);
  EXPECT_TRUE(contains(s.trap("k", {.block = {4, 6, 2}, .dynamicShared = 4 * 47}, {Argument::pointer(y)}),
                       {"out-of-bounds access", "thread (3,5,1)"}));
}
