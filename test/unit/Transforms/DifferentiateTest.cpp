// Reverse mode against differences of the reference, in f64: for random
// directions, the change of <w, f> along v is <v, vjp(w)>.
#include "skim/Transforms/Differentiate.h"

#include "mlir/IR/Verifier.h"
#include "mlir/InitAllDialects.h"
#include "mlir/Parser/Parser.h"
#include "skim/InitAll.h"
#include "skim/Reference/Interpreter.h"
#include "gtest/gtest.h"

#include <cmath>
#include <random>

using namespace mlir;
using namespace skim;
using namespace skim::reference;

namespace {
/// An argument: its sizes, and its values if they are integers or have to be within bounds.
struct Argument {
  std::vector<int64_t> shape;
  std::vector<int64_t> integers = {};
  double low = -1, high = 1;
};

class DifferentiateTest : public ::testing::Test {
protected:
  static MLIRContext &context() {
    static MLIRContext *shared = [] {
      DialectRegistry registry;
      mlir::registerAllDialects(registry);
      skim::registerAllDialects(registry);
      return new MLIRContext(registry);
    }();
    return *shared;
  }

  static double dot(const std::vector<Tensor> &x, const std::vector<Tensor> &y) {
    double sum = 0;
    for (size_t t = 0; t < x.size(); ++t)
      for (int64_t i = 0, e = x[t].getNumElements(); i < e; ++i)
        sum += x[t].at(i) * y[t].at(i);
    return sum;
  }

  /// Calls a function; fails the test where the reference does.
  static std::vector<Tensor> call(func::FuncOp function, llvm::ArrayRef<Tensor> arguments) {
    Expected<std::vector<Tensor>> results = interpret(function, arguments);
    EXPECT_TRUE(results) << results.message();
    return results ? *results : std::vector<Tensor>();
  }

  static std::vector<Tensor> floatsOf(const std::vector<Tensor> &values) {
    std::vector<Tensor> floats;
    for (const Tensor &value : values)
      if (value.isFloat())
        floats.push_back(value);
    return floats;
  }

  /// Differentiates @f with respect to `wrt` and compares.
  void check(llvm::StringRef ir, std::vector<Argument> arguments, std::vector<int64_t> wrt) {
    SCOPED_TRACE(ir.str());
    OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(ir, &context());
    ASSERT_TRUE(module);
    auto f = module->lookupSymbol<func::FuncOp>("f");
    FailureOr<func::FuncOp> vjp = differentiate(f, wrt, /*observe=*/false);
    ASSERT_TRUE(succeeded(vjp));
    ASSERT_TRUE(succeeded(mlir::verify(*module)));

    std::mt19937 random(7);
    auto fill = [&](Tensor &tensor, double low, double high) {
      std::uniform_real_distribution<double> uniform(low, high);
      for (int64_t i = 0, e = tensor.getNumElements(); i < e; ++i)
        tensor.set(i, uniform(random));
    };
    std::vector<Tensor> x;
    for (auto [argument, type] : llvm::zip(arguments, f.getArgumentTypes())) {
      x.emplace_back(getElementTypeOrSelf(type), argument.shape);
      if (argument.integers.empty())
        fill(x.back(), argument.low, argument.high);
      for (auto [i, value] : llvm::enumerate(argument.integers))
        x.back().setInt(static_cast<int64_t>(i), value);
    }
    std::vector<Tensor> y = call(f, x), w, v;
    for (const Tensor &result : y)
      if (result.isFloat()) {
        w.emplace_back(result.getElementType(), result.getShape());
        fill(w.back(), -1, 1);
      }
    std::vector<Tensor> both = x;
    both.insert(both.end(), w.begin(), w.end());
    std::vector<Tensor> gradients = call(*vjp, both);
    ASSERT_EQ(gradients.size(), wrt.size());
    double size = 0; // of what is compared
    for (auto [i, gradient] : llvm::zip(wrt, gradients)) {
      ASSERT_EQ(gradient.getShape(), x[i].getShape());
      v.emplace_back(x[i].getElementType(), x[i].getShape());
      fill(v.back(), -1, 1);
      for (int64_t j = 0, e = gradient.getNumElements(); j < e; ++j)
        size += std::fabs(gradient.at(j) * v.back().at(j));
    }

    // Central differences D(ε) err by c·ε² + O(ε⁴): what D(ε) and D(ε/2) differ
    // by is three times the error of the second. Rounding adds at most what a few
    // hundred roundings of each term of <w, f> come to, divided by ε.
    double magnitude = 0;
    auto along = [&](double step) {
      std::vector<Tensor> moved = x;
      for (auto [i, direction] : llvm::zip(wrt, v)) {
        moved[i] = Tensor(x[i].getElementType(), x[i].getShape());
        for (int64_t j = 0, e = x[i].getNumElements(); j < e; ++j)
          moved[i].set(j, x[i].at(j) + step * direction.at(j));
      }
      std::vector<Tensor> result = floatsOf(call(f, moved));
      for (size_t t = 0; t < w.size(); ++t)
        for (int64_t i = 0, e = w[t].getNumElements(); i < e; ++i)
          magnitude = std::max(magnitude, std::fabs(w[t].at(i) * result[t].at(i)) * static_cast<double>(e));
      return dot(w, result);
    };
    auto difference = [&](double step) { return (along(step) - along(-step)) / (2 * step); };
    double step = 1e-4, coarse = difference(step), fine = difference(step / 2);
    double rounding = 256 * 0x1p-52 * magnitude / step;
    double bound = std::fabs(coarse - fine) + rounding;
    EXPECT_NEAR(dot(v, gradients), fine, bound);
    // The bound is so small that a wrong factor anywhere would show.
    EXPECT_LT(bound, 1e-5 * size);
  }
};

TEST_F(DifferentiateTest, elementwise) {
  const char *binary[] = {"arith.addf",     "arith.subf",    "arith.mulf",    "arith.divf", "arith.maximumf",
                          "arith.minimumf", "arith.maxnumf", "arith.minnumf", "math.powf"};
  for (std::string op : binary) {
    check("func.func @f(%a: tensor<?x3xf64>, %b: tensor<?x3xf64>) -> tensor<?x3xf64> {\n  %y = " + op +
              " %a, %b : tensor<?x3xf64>\n  return %y : tensor<?x3xf64>\n}",
          {{{5, 3}, {}, 0.5, 2}, {{5, 3}, {}, 0.5, 2}}, {0, 1});
    check("func.func @f(%a: f64, %b: f64) -> f64 {\n  %y = " + op + " %a, %b : f64\n  return %y : f64\n}",
          {{{}, {}, 0.5, 2}, {{}, {}, 0.5, 2}}, {0, 1});
  }
  const char *unary[] = {"arith.negf", "math.absf", "math.sqrt", "math.rsqrt", "math.exp", "math.exp2",
                         "math.log",   "math.sin",  "math.cos",  "math.tanh",  "math.erf"};
  for (std::string op : unary)
    check("func.func @f(%a: tensor<?x3xf64>) -> tensor<?x3xf64> {\n  %y = " + op +
              " %a : tensor<?x3xf64>\n  return %y : tensor<?x3xf64>\n}",
          {{{5, 3}, {}, 0.5, 2}}, {0});
}

TEST_F(DifferentiateTest, select_and_fma) {
  check(R"(
    func.func @f(%a: tensor<?x3xf64>, %b: tensor<?x3xf64>) -> tensor<?x3xf64> {
      %c = arith.cmpf olt, %a, %b : tensor<?x3xf64>
      %s = arith.select %c, %a, %b : tensor<?x3xi1>, tensor<?x3xf64>
      %n = math.absf %s : tensor<?x3xf64>
      %y = math.fma %n, %a, %b : tensor<?x3xf64>
      return %y : tensor<?x3xf64>
    })",
        {{{5, 3}}, {{5, 3}}}, {0, 1});
}

TEST_F(DifferentiateTest, shapes) {
  check(R"(
    func.func @f(%a: tensor<?x6xf64>, %n: index) -> (tensor<?x2x?xf64>, tensor<?xf64>, tensor<3x2x?xf64>) {
      %c0 = arith.constant 0 : index
      %s = tensor.dim %a, %c0 : tensor<?x6xf64>
      %e = tensor.expand_shape %a [[0], [1, 2]] output_shape [%s, 3, 2] : tensor<?x6xf64> into tensor<?x3x2xf64>
      %i0 = tensor.empty(%s) : tensor<3x2x?xf64>
      %t = linalg.transpose ins(%e : tensor<?x3x2xf64>) outs(%i0 : tensor<3x2x?xf64>) permutation = [1, 2, 0]
      %x = tensor.extract_slice %t[1, 0, 1] [%n, 2, 3] [1, 1, 1] : tensor<3x2x?xf64> to tensor<?x2x3xf64>
      %l = tensor.cast %x : tensor<?x2x3xf64> to tensor<?x2x?xf64>
      %m = arith.mulf %l, %l : tensor<?x2x?xf64>
      %r = tensor.extract_slice %t[0, 0, 0] [1, 1, %s] [1, 1, 1] : tensor<3x2x?xf64> to tensor<?xf64>
      %q = arith.mulf %t, %t : tensor<3x2x?xf64>
      %k = tensor.insert_slice %r into %q[2, 1, 0] [1, 1, %s] [1, 1, 1] : tensor<?xf64> into tensor<3x2x?xf64>
      %z = arith.mulf %r, %r : tensor<?xf64>
      return %m, %z, %k : tensor<?x2x?xf64>, tensor<?xf64>, tensor<3x2x?xf64>
    })",
        {{{5, 6}}, {{}, {2}}}, {0});
  check(R"(
    func.func @f(%a: tensor<?x3x2xf64>, %b: tensor<?x3x2xf64>, %v: f64) -> (tensor<?x6xf64>, tensor<?xf64>) {
      %c = tensor.concat dim(0) %a, %b, %a : (tensor<?x3x2xf64>, tensor<?x3x2xf64>, tensor<?x3x2xf64>) -> tensor<?x3x2xf64>
      %m = arith.mulf %c, %c : tensor<?x3x2xf64>
      %y = tensor.collapse_shape %m [[0], [1, 2]] : tensor<?x3x2xf64> into tensor<?x6xf64>
      %zero = arith.constant 0.0 : f64
      %p = tensor.pad %y low[1, 2] high[0, 1] {
      ^bb0(%i: index, %j: index):
        tensor.yield %zero : f64
      } : tensor<?x6xf64> to tensor<?x9xf64>
      %c1 = arith.constant 1 : index
      %c3 = arith.constant 3 : index
      %e = tensor.extract %p[%c1, %c3] : tensor<?x9xf64>
      %u = arith.mulf %e, %v : f64
      %s = tensor.splat %u[%c3] : tensor<?xf64>
      return %y, %s : tensor<?x6xf64>, tensor<?xf64>
    })",
        {{{2, 3, 2}}, {{1, 3, 2}}, {{}}}, {0, 1, 2});
}

TEST_F(DifferentiateTest, reshape) {
  check(R"(
    func.func @f(%a: tensor<?x3xf64>, %s: tensor<3xi64>) -> tensor<?x2x3xf64> {
      %m = arith.mulf %a, %a : tensor<?x3xf64>
      %y = tensor.reshape %m(%s) : (tensor<?x3xf64>, tensor<3xi64>) -> tensor<?x2x3xf64>
      return %y : tensor<?x2x3xf64>
    })",
        {{{4, 3}}, {{3}, {2, 2, 3}}}, {0});
}

TEST_F(DifferentiateTest, generic_broadcasts_and_indices) {
  // Twice the same input, one read through a permutation, the loop's index, a value from outside.
  check(R"(
    func.func @f(%a: tensor<?x?xf64>, %b: tensor<?xf64>, %c: tensor<?x?xf64>, %s: f64) -> (tensor<?x?xf64>, tensor<?x?xf64>) {
      %k = arith.constant 0.5 : f64
      %y:2 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>,
                                              affine_map<(i, j) -> (j, i)>, affine_map<(i, j) -> (i, j)>,
                                              affine_map<(i, j) -> ()>,
                                              affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j, i)>],
                             iterator_types = ["parallel", "parallel"]}
          ins(%a, %b, %c, %a, %s : tensor<?x?xf64>, tensor<?xf64>, tensor<?x?xf64>, tensor<?x?xf64>, f64)
          outs(%a, %c : tensor<?x?xf64>, tensor<?x?xf64>) {
      ^bb0(%p: f64, %q: f64, %r: f64, %t: f64, %u: f64, %o0: f64, %o1: f64):
        %i = linalg.index 0 : index
        %n = arith.index_cast %i : index to i64
        %x = arith.sitofp %n : i64 to f64
        %1 = arith.mulf %p, %q : f64
        %2 = math.exp %r : f64
        %3 = arith.mulf %1, %2 : f64
        %4 = arith.mulf %t, %x : f64
        %5 = arith.addf %3, %4 : f64
        %6 = arith.mulf %5, %u : f64
        %7 = arith.mulf %o1, %k : f64
        %8 = arith.mulf %7, %q : f64
        linalg.yield %6, %8 : f64, f64
      } -> (tensor<?x?xf64>, tensor<?x?xf64>)
      return %y#0, %y#1 : tensor<?x?xf64>, tensor<?x?xf64>
    })",
        {{{2, 3}}, {{3}}, {{3, 2}}, {{}}}, {0, 1, 2, 3});
}

TEST_F(DifferentiateTest, generic_sums) {
  // Sums over one loop and over all, beside an output of all loops, into initial values.
  check(R"(
    func.func @f(%a: tensor<?x?xf64>, %b: tensor<?xf64>, %c: tensor<f64>) -> (tensor<?xf64>, tensor<f64>, tensor<?x?xf64>) {
      %y:3 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>,
                                              affine_map<(i, j) -> ()>, affine_map<(i, j) -> (i, j)>],
                             iterator_types = ["parallel", "reduction"]}
          ins(%a : tensor<?x?xf64>) outs(%b, %c, %a : tensor<?xf64>, tensor<f64>, tensor<?x?xf64>) {
      ^bb0(%x: f64, %s: f64, %t: f64, %o: f64):
        %1 = math.sin %x : f64
        %2 = arith.mulf %x, %1 : f64
        %3 = arith.addf %s, %2 : f64
        %4 = arith.addf %1, %t : f64
        linalg.yield %3, %4, %2 : f64, f64, f64
      } -> (tensor<?xf64>, tensor<f64>, tensor<?x?xf64>)
      return %y#0, %y#1, %y#2 : tensor<?xf64>, tensor<f64>, tensor<?x?xf64>
    })",
        {{{3, 5}}, {{3}}, {{}}}, {0, 1, 2});
}

TEST_F(DifferentiateTest, named_structured_operations) {
  check(R"(
    func.func @f(%s: f64, %a: tensor<3xf64>, %m: tensor<3x5xf64>) -> (tensor<3x5xf64>, tensor<5xf64>) {
      %e = tensor.empty() : tensor<3x5xf64>
      %z = linalg.fill ins(%s : f64) outs(%e : tensor<3x5xf64>) -> tensor<3x5xf64>
      %b = linalg.broadcast ins(%a : tensor<3xf64>) outs(%e : tensor<3x5xf64>) dimensions = [1]
      %p = linalg.mul ins(%z, %b : tensor<3x5xf64>, tensor<3x5xf64>) outs(%e : tensor<3x5xf64>) -> tensor<3x5xf64>
      %q = linalg.map { math.exp } ins(%p : tensor<3x5xf64>) outs(%e : tensor<3x5xf64>)
      %y = linalg.div ins(%q, %m : tensor<3x5xf64>, tensor<3x5xf64>) outs(%e : tensor<3x5xf64>) -> tensor<3x5xf64>
      %i = linalg.fill ins(%s : f64) outs(%m : tensor<3x5xf64>) -> tensor<3x5xf64>
      %row = tensor.extract_slice %i[0, 0] [1, 5] [1, 1] : tensor<3x5xf64> to tensor<5xf64>
      %r = linalg.reduce { arith.addf } ins(%y : tensor<3x5xf64>) outs(%row : tensor<5xf64>) dimensions = [0]
      return %y, %r : tensor<3x5xf64>, tensor<5xf64>
    })",
        {{{}}, {{3}}, {{3, 5}, {}, 0.5, 2}}, {0, 1, 2});
}

TEST_F(DifferentiateTest, products) {
  // Either operand as it is or turned, one matrix and batches, into an initial value.
  for (std::string left : {"m, k", "k, m"})
    for (std::string right : {"k, n", "n, k"}) {
      auto shape = [](std::string dims) {
        std::vector<int64_t> sizes;
        for (char c : dims)
          if (c != ',' && c != ' ')
            sizes.push_back(c == 'm' ? 2 : c == 'n' ? 3 : 4);
        return sizes;
      };
      auto batched = [](std::vector<int64_t> sizes) {
        sizes.insert(sizes.begin(), 2);
        return sizes;
      };
      check("func.func @f(%a: tensor<?x?xf64>, %b: tensor<?x?xf64>, %c: tensor<?x?xf64>) -> tensor<?x?xf64> {\n"
            "  %y = linalg.matmul indexing_maps = [affine_map<(m, n, k) -> (" +
                left + ")>, affine_map<(m, n, k) -> (" + right +
                ")>, affine_map<(m, n, k) -> (m, n)>] ins(%a, %b : tensor<?x?xf64>, tensor<?x?xf64>) outs(%c : "
                "tensor<?x?xf64>) -> tensor<?x?xf64>\n  return %y : tensor<?x?xf64>\n}",
            {{shape(left)}, {shape(right)}, {{2, 3}}}, {0, 1, 2});
      check("func.func @f(%a: tensor<?x?x?xf64>, %b: tensor<?x?x?xf64>, %c: tensor<?x?x?xf64>) -> tensor<?x?x?xf64> {\n"
            "  %y = linalg.batch_matmul indexing_maps = [affine_map<(b, m, n, k) -> (b, " +
                left + ")>, affine_map<(b, m, n, k) -> (b, " + right +
                ")>, affine_map<(b, m, n, k) -> (b, m, n)>] ins(%a, %b : tensor<?x?x?xf64>, tensor<?x?x?xf64>) "
                "outs(%c : tensor<?x?x?xf64>) -> tensor<?x?x?xf64>\n  return %y : tensor<?x?x?xf64>\n}",
            {{batched(shape(left))}, {batched(shape(right))}, {{2, 2, 3}}}, {0, 1, 2});
    }
  // A broadcast operand and other products go through their bodies.
  check(R"(
    func.func @f(%a: tensor<4xf64>, %b: tensor<4x3xf64>, %c: tensor<2x3xf64>, %v: tensor<3xf64>) -> (tensor<2x3xf64>, tensor<2xf64>) {
      %y = linalg.matmul indexing_maps = [affine_map<(m, n, k) -> (k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]
             ins(%a, %b : tensor<4xf64>, tensor<4x3xf64>) outs(%c : tensor<2x3xf64>) -> tensor<2x3xf64>
      %e = tensor.empty() : tensor<2xf64>
      %zero = arith.constant 0.0 : f64
      %z = linalg.fill ins(%zero : f64) outs(%e : tensor<2xf64>) -> tensor<2xf64>
      %w = linalg.matvec ins(%y, %v : tensor<2x3xf64>, tensor<3xf64>) outs(%z : tensor<2xf64>) -> tensor<2xf64>
      return %y, %w : tensor<2x3xf64>, tensor<2xf64>
    })",
        {{{4}}, {{4, 3}}, {{2, 3}}, {{3}}}, {0, 1, 2, 3});
}

TEST_F(DifferentiateTest, linear) {
  check(R"(
    func.func @f(%x: tensor<?x?x5xf64>, %w: tensor<3x5xf64>, %b: tensor<3xf64>) -> tensor<?x?x3xf64> {
      %y = skim.linear %x, %w bias %b : tensor<?x?x5xf64>, tensor<3x5xf64> -> tensor<?x?x3xf64>
      return %y : tensor<?x?x3xf64>
    })",
        {{{2, 3, 5}}, {{3, 5}}, {{3}}}, {0, 1, 2});
  check(R"(
    func.func @f(%x: tensor<5xf64>, %w: tensor<3x5xf16>) -> tensor<3xf64> {
      %y = skim.linear %x, %w : tensor<5xf64>, tensor<3x5xf16> -> tensor<3xf64>
      return %y : tensor<3xf64>
    })",
        {{{5}}, {{3, 5}}}, {0});
}

TEST_F(DifferentiateTest, rms_norm) {
  for (std::string attributes : {"epsilon = 1.0e-2 : f32", "epsilon = 1.0e-2 : f32, offset = 1.0 : f32"}) {
    check("func.func @f(%x: tensor<?x?x5xf64>, %w: tensor<5xf64>) -> tensor<?x?x5xf64> {\n"
          "  %y = lm.rms_norm %x, %w {" +
              attributes + "} : tensor<?x?x5xf64>, tensor<5xf64>\n  return %y : tensor<?x?x5xf64>\n}",
          {{{2, 3, 5}}, {{5}}}, {0, 1});
    check("func.func @f(%x: tensor<?x6xf64>, %w: tensor<2xf64>) -> tensor<?x6xf64> {\n"
          "  %y = lm.rms_norm %x, %w {heads = 3 : i64, " +
              attributes + "} : tensor<?x6xf64>, tensor<2xf64>\n  return %y : tensor<?x6xf64>\n}",
          {{{3, 6}}, {{2}}}, {0, 1});
  }
}

TEST_F(DifferentiateTest, silu) {
  check(R"(
    func.func @f(%x: tensor<?x3xf64>) -> tensor<?x3xf64> {
      %y = lm.silu %x : tensor<?x3xf64>
      return %y : tensor<?x3xf64>
    })",
        {{{5, 3}, {}, -4, 4}}, {0});
}

TEST_F(DifferentiateTest, rotary) {
  for (std::string interleaved : {"", ", interleaved"})
    check("func.func @f(%x: tensor<?x?x10xf64>, %c: tensor<?x?x2xf64>, %s: tensor<?x?x2xf64>) -> tensor<?x?x10xf64> {\n"
          "  %y = lm.rotary %x, %c, %s {heads = 2 : i64" +
              interleaved + "} : tensor<?x?x10xf64>, tensor<?x?x2xf64>\n  return %y : tensor<?x?x10xf64>\n}",
          {{{2, 3, 10}}, {{2, 3, 2}}, {{2, 3, 2}}}, {0});
}

TEST_F(DifferentiateTest, attention) {
  // Heads alone and in groups, values of another size than keys, batches at different starts.
  for (std::string attributes :
       {"", ", window = 2 : i64", ", softcap = 1.5 : f32", ", window = 3 : i64, softcap = 2.0 : f32"})
    for (int64_t heads : {2, 6}) {
      std::string q = "tensor<?x?x" + std::to_string(heads * 3) + "xf64>";
      std::string y = "tensor<?x?x" + std::to_string(heads * 4) + "xf64>";
      check("func.func @f(%q: " + q + ", %k: tensor<?x2x?x3xf64>, %v: tensor<?x2x?x4xf64>, %s: tensor<?xi32>) -> " + y +
                " {\n  %y = \"lm.attention\"(%q, %k, %v, %s) {heads = " + std::to_string(heads) +
                " : i64, scale = 0.7 : f32" + attributes + "} : (" + q +
                ", tensor<?x2x?x3xf64>, tensor<?x2x?x4xf64>, tensor<?xi32>) -> " + y + "\n  return %y : " + y + "\n}",
            {{{2, 3, heads * 3}}, {{2, 2, 5, 3}}, {{2, 2, 5, 4}}, {{2}, {0, 2}}}, {0, 1, 2});
    }
}

TEST_F(DifferentiateTest, attention_padding_behind_the_cache) {
  check(R"(
    func.func @f(%q: tensor<1x?x6xf64>, %k: tensor<1x2x?x3xf64>, %v: tensor<1x2x?x3xf64>, %s: tensor<1xi32>) -> tensor<1x?x6xf64> {
      %y = lm.attention %q, %k, %v, %s {heads = 2 : i64, scale = 1.0 : f32, window = 2 : i64}
         : tensor<1x?x6xf64>, tensor<1x2x?x3xf64>, tensor<1xi32> -> tensor<1x?x6xf64>
      return %y : tensor<1x?x6xf64>
    })",
        {{{1, 3, 6}}, {{1, 2, 4, 3}}, {{1, 2, 4, 3}}, {{1}, {3}}}, {0, 1, 2});
}

TEST_F(DifferentiateTest, cache_append) {
  check(R"(
    func.func @f(%x: tensor<?x?x6xf64>, %c: tensor<?x2x?x3xf64>, %s: tensor<?xi32>, %n: tensor<?xi32>) -> tensor<?x2x?x3xf64> {
      %y = lm.cache_append %x, %c, %s, %n : tensor<?x?x6xf64>, tensor<?x2x?x3xf64>, tensor<?xi32>
      return %y : tensor<?x2x?x3xf64>
    })",
        {{{2, 3, 6}}, {{2, 2, 5, 3}}, {{2}, {0, 2}}, {{2}, {2, 3}}}, {0, 1});
}

TEST_F(DifferentiateTest, gather_rows) {
  check(R"(
    func.func @f(%x: tensor<?x?x3xf64>, %r: tensor<?xi32>) -> tensor<?x3xf64> {
      %y = lm.gather_rows %x, %r : tensor<?x?x3xf64>, tensor<?xi32> -> tensor<?x3xf64>
      return %y : tensor<?x3xf64>
    })",
        {{{2, 3, 3}}, {{4}, {5, 1, 5, 0}}}, {0});
}

TEST_F(DifferentiateTest, cross_entropy) {
  check(R"(
    func.func @f(%l: tensor<?x?x7xf64>, %t: tensor<?x?xi32>) -> tensor<?x?xf64> {
      %y = lm.cross_entropy %l, %t : tensor<?x?x7xf64>, tensor<?x?xi32> -> tensor<?x?xf64>
      return %y : tensor<?x?xf64>
    })",
        {{{2, 2, 7}, {}, -3, 3}, {{2, 2}, {0, 6, 3, 3}}}, {0});
  check(R"(
    func.func @f(%l: tensor<7xf64>, %t: tensor<i64>) -> tensor<f64> {
      %y = lm.cross_entropy %l, %t : tensor<7xf64>, tensor<i64> -> tensor<f64>
      return %y : tensor<f64>
    })",
        {{{7}, {}, -3, 3}, {{}, {4}}}, {0});
}
} // namespace
