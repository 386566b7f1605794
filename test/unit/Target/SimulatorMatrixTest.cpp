//===- SimulatorMatrixTest.cpp - matrix operations in the simulator ---------===//

#include "Simulation.h"
#include "skim/Support/Float16.h"

#include <cmath>
#include <random>

using namespace skim;
using Argument = sim::Argument;

namespace {
/// A shape of mma.sync, M = 16 (or 8), N = 8.
struct Shape {
  const char *type; // of A and B
  unsigned bits;
  bool isSigned;
  int m, k;
};
} // namespace

static std::string names(const char *prefix, int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += (i ? ", %" : "%") + std::string(prefix) + std::to_string(i);
  return text;
}

/// Loads the words of A, B and C of each lane as they lie in x, multiplies, and
/// stores the words of D.
static std::string mmaKernel(const Shape &shape, const std::string &attributes) {
  bool f16 = shape.type == std::string("f16"), floats = shape.bits == 16;
  int each = static_cast<int>(32 / shape.bits);
  int a = shape.m / 8 * shape.k / (4 * each), b = shape.k / (4 * each), c = shape.m / 4;
  std::string multiplicand = f16 ? "vector<2xf16>" : "i32", sum = floats ? "f32" : "i32";
  std::string text = "gpu.func @mma(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>) kernel {\n"
                     "  %t = nvvm.read.ptx.sreg.tid.x : i32\n";
  int words = a + b + c, word = 0;
  text += "  %words = arith.constant " + std::to_string(words) + " : i32\n  %first = arith.muli %t, %words : i32\n" +
          "  %px = llvm.getelementptr %x[%first] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32\n";
  for (auto [prefix, count, type] : {std::tuple("a", a, multiplicand), {"b", b, multiplicand}, {"c", c, sum}})
    for (int i = 0; i < count; ++i, ++word) {
      std::string name = prefix + std::to_string(i);
      text += "  %p" + name + " = llvm.getelementptr %px[" + std::to_string(word) +
              "] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32\n  %" + name + " = llvm.load %p" + name +
              " {alignment = 4 : i64} : !llvm.ptr<1> -> " + type + "\n";
    }
  std::string result = "!llvm.struct<(";
  for (int i = 0; i < c; ++i)
    result += (i ? ", " : "") + sum;
  result += ")>";
  text += "  %d = nvvm.mma.sync A[" + names("a", a) + "] B[" + names("b", b) + "] C[" + names("c", c) + "] {" +
          attributes + "layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, shape = #nvvm.shape<m = " +
          std::to_string(shape.m) + ", n = 8, k = " + std::to_string(shape.k) + ">} : (" + multiplicand + ", " +
          multiplicand + ", " + sum + ") -> " + result + "\n";
  text += "  %outs = arith.constant " + std::to_string(c) + " : i32\n  %firstOut = arith.muli %t, %outs : i32\n" +
          "  %py = llvm.getelementptr %y[%firstOut] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32\n";
  for (int i = 0; i < c; ++i) {
    std::string n = std::to_string(i);
    text += "  %d" + n + " = llvm.extractvalue %d[" + n + "] : " + result + "\n  %q" + n +
            " = llvm.getelementptr %py[" + n + "] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32\n  llvm.store %d" + n + ", %q" +
            n + " : " + sum + ", !llvm.ptr<1>\n";
  }
  return text + "  gpu.return\n}\n";
}

/// Random words in the lanes' registers, and where PTX says that their elements are.
template <typename T> static void check(const Shape &shape, const std::string &attributes, bool ands = false) {
  SCOPED_TRACE(std::string(shape.type) + " k " + std::to_string(shape.k) + " " + attributes);
  Simulation s(mmaKernel(shape, attributes));
  int each = static_cast<int>(32 / shape.bits);
  int a = shape.m / 8 * shape.k / (4 * each), b = shape.k / (4 * each), c = shape.m / 4, words = a + b + c;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<uint32_t> x(static_cast<size_t>(32 * words));
  for (size_t i = 0; i < x.size(); ++i) {
    bool isSum = static_cast<int>(i) % words >= a + b;
    if (shape.bits != 16)
      x[i] = isSum ? random() % 1000 : static_cast<uint32_t>(random());
    else if (isSum)
      x[i] = std::bit_cast<uint32_t>(normal(random));
    else
      for (int half = 0; half < 2; ++half) {
        float value = normal(random);
        x[i] |= uint32_t(shape.type == std::string("f16") ? f32ToF16(value) : f32ToBF16(value)) << (16 * half);
      }
  }
  auto input = s.put("x", x);
  auto output = s.device.allocate("y", static_cast<uint64_t>(32 * c * 4));
  s.run("mma", {}, {Argument::pointer(input), Argument::pointer(output)});
  std::vector<uint32_t> y = s.get<uint32_t>(output, static_cast<size_t>(32 * c));

  // PTX ISA, "Matrix fragments for mma.m16n8k16 …", written once more for each element.
  auto element = [&](uint32_t word, int i) -> double {
    if (shape.bits == 16) {
      uint16_t half = static_cast<uint16_t>(word >> (16 * i));
      return shape.type == std::string("f16") ? f16ToF32(half) : bf16ToF32(half);
    }
    uint32_t value = word >> (static_cast<int>(shape.bits) * i) & ((1u << shape.bits) - 1);
    return shape.isSigned ? static_cast<int8_t>(value) : static_cast<double>(value);
  };
  auto at = [&](int lane, int word) { return x[static_cast<size_t>(lane * words + word)]; };
  auto elementOfA = [&](int row, int k) {
    int lane = row % 8 * 4 + k % (4 * each) / each;
    int word = row / 8 + k / (4 * each) * (shape.m / 8);
    return element(at(lane, word), k % each);
  };
  auto elementOfB = [&](int k, int column) {
    return element(at(column * 4 + k % (4 * each) / each, a + k / (4 * each)), k % each);
  };
  for (int row = 0; row < shape.m; ++row)
    for (int column = 0; column < 8; ++column) {
      int lane = row % 8 * 4 + column / 2, r = row / 8 * 2 + column % 2;
      uint32_t start = at(lane, a + b + r), got = y[static_cast<size_t>(lane * c + r)];
      double sum = shape.bits == 16 ? std::bit_cast<float>(start) : static_cast<int32_t>(start), size = std::fabs(sum);
      for (int k = 0; k < shape.k; ++k) {
        double left = elementOfA(row, k), right = elementOfB(k, column);
        double product = shape.bits > 1 ? left * right : ands ? left * right : left != right;
        sum += product;
        size += std::fabs(product);
      }
      if (shape.bits == 16)
        ASSERT_NEAR(std::bit_cast<float>(got), sum, size * shape.k * 0x1p-22) << row << " " << column;
      else
        ASSERT_EQ(static_cast<int32_t>(got), static_cast<int32_t>(sum)) << row << " " << column;
    }
}

TEST(SimulatorMatrix, MmaFloats) {
  check<float>({"f16", 16, false, 16, 16}, "");
  check<float>({"f16", 16, false, 16, 8}, "");
  std::string bf16 = "multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, ";
  check<float>({"bf16", 16, false, 16, 16}, bf16);
  check<float>({"bf16", 16, false, 16, 8}, bf16);
}

TEST(SimulatorMatrix, MmaIntegers) {
  std::string wrapped = "intOverflowBehavior = #nvvm.mma_int_overflow<wrapped>, ";
  for (const char *type : {"s8", "u8"}) {
    std::string types = "multiplicandAPtxType = #nvvm.mma_type<" + std::string(type) +
                        ">, multiplicandBPtxType = #nvvm.mma_type<" + type + ">, ";
    for (auto [m, k] : {std::pair(16, 32), {16, 16}, {8, 16}})
      check<int32_t>({type, 8, type[0] == 's', m, k}, wrapped + types);
  }
}

TEST(SimulatorMatrix, MmaBits) {
  std::string types = "multiplicandAPtxType = #nvvm.mma_type<b1>, multiplicandBPtxType = #nvvm.mma_type<b1>, ";
  for (auto [m, k] : {std::pair(16, 256), {16, 128}, {8, 128}}) {
    check<int32_t>({"b1", 1, false, m, k}, "b1Op = #nvvm.mma_b1op<xor_popc>, " + types);
    check<int32_t>({"b1", 1, false, m, k}, "b1Op = #nvvm.mma_b1op<and_popc>, " + types, true);
  }
}

//===----------------------------------------------------------------------===//
// ldmatrix
//===----------------------------------------------------------------------===//

/// Copies 32 rows of 8 i16 to shared memory, `stride` bytes apart, and loads them
/// as matrices into y [32 lanes, count words].
static std::string ldmatrixKernel(int count, bool transposed, int stride) {
  std::string text = R"mlir(
llvm.mlir.global internal @tile() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<4096 x i8>
gpu.func @load(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>) kernel {
  %t = nvvm.read.ptx.sreg.tid.x : i32
  %tile = llvm.mlir.addressof @tile : !llvm.ptr<3>
  %all = arith.constant -1 : i32
  %c16 = arith.constant 16 : i32
  %stride = arith.constant STRIDE : i32
  %count = arith.constant COUNT : i32
  %from = arith.muli %t, %c16 : i32
  %to = arith.muli %t, %stride : i32
  %px = llvm.getelementptr %x[%from] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i8
  %ps = llvm.getelementptr %tile[%to] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i8
  %row = llvm.load %px : !llvm.ptr<1> -> vector<4xi32>
  llvm.store %row, %ps {skim.label = "stage"} : vector<4xi32>, !llvm.ptr<3>
  SYNC
  %r = nvvm.ldmatrix %ps {skim.label = "ldmatrix", num = COUNT : i32, layout = #nvvm.mma_layout<LAYOUT>,
    shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>} : (!llvm.ptr<3>) -> TYPE
  %first = arith.muli %t, %count : i32
  %py = llvm.getelementptr %y[%first] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
)mlir";
  std::string type = count == 1 ? "i32" : "!llvm.struct<(i32";
  for (int i = 1; i < count; ++i)
    type += ", i32";
  if (count > 1)
    type += ")>";
  for (int i = 0; i < count; ++i) {
    std::string n = std::to_string(i), value = "%r";
    if (count > 1) {
      value = "%r" + n;
      text += "  %r" + n + " = llvm.extractvalue %r[" + n + "] : TYPE\n";
    }
    text += "  %q" + n + " = llvm.getelementptr %py[" + n + "] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32\n  llvm.store " +
            value + ", %q" + n + " : i32, !llvm.ptr<1>\n";
  }
  text += "  gpu.return\n}\n";
  for (auto [name, value] : {std::pair<std::string, std::string>("STRIDE", std::to_string(stride)),
                             {"COUNT", std::to_string(count)},
                             {"LAYOUT", transposed ? "col" : "row"},
                             {"TYPE", type}})
    for (size_t at; (at = text.find(name)) != std::string::npos;)
      text.replace(at, name.size(), value);
  return text;
}

static std::string withSync(std::string text, const char *sync) { return text.replace(text.find("SYNC"), 4, sync); }

TEST(SimulatorMatrix, LdMatrix) {
  for (int count : {1, 2, 4})
    for (bool transposed : {false, true})
      for (int stride : {16, 80, 128}) {
        SCOPED_TRACE(std::to_string(count) + (transposed ? " transposed " : " ") + std::to_string(stride));
        Simulation s(withSync(ldmatrixKernel(count, transposed, stride), "nvvm.bar.warp.sync %all : i32"));
        std::vector<uint16_t> x(32 * 8);
        for (size_t i = 0; i < x.size(); ++i)
          x[i] = static_cast<uint16_t>(i);
        auto input = s.put("x", x);
        auto output = s.device.allocate("y", static_cast<uint64_t>(128 * count));
        auto counters = s.run("load", {}, {Argument::pointer(input), Argument::pointer(output)});
        auto y = s.get<uint16_t>(output, static_cast<size_t>(64 * count));
        for (size_t lane = 0; lane < 32; ++lane)
          for (size_t matrix = 0; matrix < static_cast<size_t>(count); ++matrix)
            for (size_t i = 0; i < 2; ++i) {
              size_t row = lane / 4, column = 2 * (lane % 4) + i;
              if (transposed)
                std::swap(row, column);
              ASSERT_EQ(y[2 * (lane * static_cast<size_t>(count) + matrix) + i], 64 * matrix + 8 * row + column);
            }
        // Eight rows of 16 bytes: all banks once, unless they are a multiple of 128 bytes apart.
        const sim::OpCounters *op = counters.labelled("ldmatrix"), *stage = counters.labelled("stage");
        ASSERT_TRUE(op && stage);
        EXPECT_EQ(op->idealWavefronts, static_cast<uint64_t>(count));
        EXPECT_EQ(op->wavefronts, static_cast<uint64_t>(stride == 128 ? 8 * count : count));
        EXPECT_EQ(stage->idealWavefronts, 4u);
        EXPECT_EQ(stage->wavefronts, stride == 128 ? 32u : 4u);
      }
}

TEST(SimulatorMatrix, LdMatrixWithoutSync) {
  Simulation s(withSync(ldmatrixKernel(4, false, 16), ""));
  auto x = s.put("x", std::vector<uint16_t>(32 * 8));
  auto y = s.device.allocate("y", 512);
  EXPECT_TRUE(contains(s.trap("load", {}, {Argument::pointer(x), Argument::pointer(y)}),
                       {"race: read of what another thread wrote", "nvvm.ldmatrix"}));
}
