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

  static void fill(Tensor &tensor, double low, double high, std::mt19937 &random) {
    std::uniform_real_distribution<double> uniform(low, high);
    for (int64_t i = 0, e = tensor.getNumElements(); i < e; ++i)
      tensor.set(i, uniform(random));
  }

  static std::vector<Tensor> make(func::FuncOp function, const std::vector<Argument> &arguments, std::mt19937 &random) {
    std::vector<Tensor> values;
    for (auto [argument, type] : llvm::zip(arguments, function.getArgumentTypes())) {
      values.emplace_back(getElementTypeOrSelf(type), argument.shape);
      if (argument.integers.empty())
        fill(values.back(), argument.low, argument.high, random);
      for (auto [i, value] : llvm::enumerate(argument.integers))
        values.back().setInt(static_cast<int64_t>(i), value);
    }
    return values;
  }

  static Tensor converted(const Tensor &tensor, Type type) {
    Tensor result(type, tensor.getShape());
    for (int64_t i = 0, e = tensor.getNumElements(); i < e; ++i)
      tensor.isFloat() ? result.set(i, tensor.at(i)) : result.setInt(i, tensor.intAt(i));
    return result;
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
    std::vector<Tensor> x = make(f, arguments, random);
    std::vector<Tensor> y = call(f, x), w, v;
    for (const Tensor &result : y)
      if (result.isFloat()) {
        w.emplace_back(result.getElementType(), result.getShape());
        fill(w.back(), -1, 1, random);
      }
    std::vector<Tensor> both = x;
    both.insert(both.end(), w.begin(), w.end());
    std::vector<Tensor> gradients = call(*vjp, both);
    ASSERT_EQ(gradients.size(), wrt.size());
    double size = 0; // of what is compared
    for (auto [i, gradient] : llvm::zip(wrt, gradients)) {
      ASSERT_EQ(gradient.getShape(), x[i].getShape());
      v.emplace_back(x[i].getElementType(), x[i].getShape());
      fill(v.back(), -1, 1, random);
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

TEST_F(DifferentiateTest, elements) {
  check(R"(
    func.func @f(%a: f64, %b: f64, %t: tensor<2x3xf64>) -> tensor<2x3xf64> {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %p = arith.mulf %a, %b : f64
      %e = tensor.from_elements %a, %b, %p, %p, %b, %a : tensor<2x3xf64>
      %m = arith.mulf %e, %t : tensor<2x3xf64>
      %x = tensor.extract %m[%c1, %c0] : tensor<2x3xf64>
      %s = math.sin %x : f64
      %i = tensor.insert %s into %m[%c0, %c1] : tensor<2x3xf64>
      return %i : tensor<2x3xf64>
    })",
        {{{}}, {{}}, {{2, 3}}}, {0, 1, 2});
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

TEST_F(DifferentiateTest, generic_extrema) {
  // A softmax as others write it, beside a sum in the same operation.
  check(R"(
    func.func @f(%a: tensor<?x?xf64>, %w: tensor<?xf64>) -> (tensor<?x?xf64>, tensor<?xf64>) {
      %c0 = arith.constant 0 : index
      %n = tensor.dim %a, %c0 : tensor<?x?xf64>
      %lowest = arith.constant 0xFFF0000000000000 : f64
      %zero = arith.constant 0.0 : f64
      %e = tensor.empty(%n) : tensor<?xf64>
      %i = linalg.fill ins(%lowest : f64) outs(%e : tensor<?xf64>) -> tensor<?xf64>
      %z = linalg.fill ins(%zero : f64) outs(%e : tensor<?xf64>) -> tensor<?xf64>
      %m:2 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>,
                                              affine_map<(i, j) -> (i)>, affine_map<(i, j) -> (i)>],
                             iterator_types = ["parallel", "reduction"]}
          ins(%a, %w : tensor<?x?xf64>, tensor<?xf64>) outs(%i, %z : tensor<?xf64>, tensor<?xf64>) {
      ^bb0(%x: f64, %y: f64, %o: f64, %s: f64):
        %1 = arith.mulf %x, %y : f64
        %2 = arith.maximumf %1, %o : f64
        %3 = arith.addf %s, %1 : f64
        linalg.yield %2, %3 : f64, f64
      } -> (tensor<?xf64>, tensor<?xf64>)
      %p = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i)>, affine_map<(i, j) -> (i, j)>],
                           iterator_types = ["parallel", "parallel"]}
          ins(%m#0 : tensor<?xf64>) outs(%a : tensor<?x?xf64>) {
      ^bb0(%x: f64, %o: f64):
        %1 = arith.subf %o, %x : f64
        %2 = math.exp %1 : f64
        linalg.yield %2 : f64
      } -> tensor<?x?xf64>
      return %p, %m#1 : tensor<?x?xf64>, tensor<?xf64>
    })",
        {{{3, 5}}, {{5}}}, {0, 1});
}

TEST_F(DifferentiateTest, equal_extrema_share_the_adjoint) {
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(R"(
    func.func @f(%a: tensor<4xf64>, %z: tensor<f64>) -> tensor<f64> {
      %m = linalg.reduce { arith.minimumf } ins(%a : tensor<4xf64>) outs(%z : tensor<f64>) dimensions = [0]
      return %m : tensor<f64>
    })",
                                                             &context());
  FailureOr<func::FuncOp> vjp = differentiate(module->lookupSymbol<func::FuncOp>("f"), {0}, /*observe=*/false);
  ASSERT_TRUE(succeeded(vjp));
  Tensor a(Float64Type::get(&context()), {4}), z(a.getElementType(), {}), dy(a.getElementType(), {});
  for (auto [i, value] : llvm::enumerate(std::vector<double>{2, -1, 3, -1}))
    a.set(static_cast<int64_t>(i), value);
  z.set(0, 10);
  dy.set(0, 6);
  EXPECT_EQ(call(*vjp, {a, z, dy})[0].toFloats(), std::vector<float>({0, 3, 0, 3}));
  // From an initial value that is the extremum, none has any.
  z.set(0, -2);
  EXPECT_EQ(call(*vjp, {a, z, dy})[0].toFloats(), std::vector<float>({0, 0, 0, 0}));
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

/// A decoder block of grouped heads without a cache, in the form that
/// calibration outlines: weights are arguments.
const char *decoderBlock = R"(
  func.func @f(%h0: tensor<?x?x8xf64>, %p: tensor<?x?xi32>, %start: tensor<?xi32>, %w1: tensor<8xf64>,
               %wq: tensor<8x8xf64>, %wk: tensor<4x8xf64>, %wv: tensor<4x8xf64>, %wo: tensor<8x8xf64>,
               %w2: tensor<8xf64>, %wg: tensor<5x8xf64>, %wu: tensor<5x8xf64>, %wd: tensor<8x5xf64>) -> tensor<?x?x8xf64> {
    %f = arith.constant dense<[1.0]> : tensor<1xf64>
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %b = tensor.dim %h0, %c0 : tensor<?x?x8xf64>
    %s = tensor.dim %h0, %c1 : tensor<?x?x8xf64>
    %cos, %sin = lm.rotary_table %p, %f : tensor<?x?xi32>, tensor<1xf64> -> tensor<?x?x1xf64>
    %x = lm.rms_norm %h0, %w1 {epsilon = 1.0e-2 : f32} : tensor<?x?x8xf64>, tensor<8xf64>
    %q0 = skim.linear %x, %wq {layer = "q"} : tensor<?x?x8xf64>, tensor<8x8xf64> -> tensor<?x?x8xf64>
    %k0 = skim.linear %x, %wk {layer = "k"} : tensor<?x?x8xf64>, tensor<4x8xf64> -> tensor<?x?x4xf64>
    %v0 = skim.linear %x, %wv {layer = "v"} : tensor<?x?x8xf64>, tensor<4x8xf64> -> tensor<?x?x4xf64>
    %q = lm.rotary %q0, %cos, %sin {heads = 4 : i64} : tensor<?x?x8xf64>, tensor<?x?x1xf64>
    %k1 = lm.rotary %k0, %cos, %sin {heads = 2 : i64} : tensor<?x?x4xf64>, tensor<?x?x1xf64>
    %k2 = tensor.expand_shape %k1 [[0], [1], [2, 3]] output_shape [%b, %s, 2, 2] : tensor<?x?x4xf64> into tensor<?x?x2x2xf64>
    %v2 = tensor.expand_shape %v0 [[0], [1], [2, 3]] output_shape [%b, %s, 2, 2] : tensor<?x?x4xf64> into tensor<?x?x2x2xf64>
    %e = tensor.empty(%b, %s) : tensor<?x2x?x2xf64>
    %k = linalg.transpose ins(%k2 : tensor<?x?x2x2xf64>) outs(%e : tensor<?x2x?x2xf64>) permutation = [0, 2, 1, 3]
    %v = linalg.transpose ins(%v2 : tensor<?x?x2x2xf64>) outs(%e : tensor<?x2x?x2xf64>) permutation = [0, 2, 1, 3]
    %o0 = lm.attention %q, %k, %v, %start {heads = 4 : i64, scale = 0.7 : f32}
        : tensor<?x?x8xf64>, tensor<?x2x?x2xf64>, tensor<?xi32> -> tensor<?x?x8xf64>
    %o = skim.linear %o0, %wo {layer = "o"} : tensor<?x?x8xf64>, tensor<8x8xf64> -> tensor<?x?x8xf64>
    %h1 = arith.addf %h0, %o : tensor<?x?x8xf64>
    %y = lm.rms_norm %h1, %w2 {epsilon = 1.0e-2 : f32} : tensor<?x?x8xf64>, tensor<8xf64>
    %g0 = skim.linear %y, %wg {layer = "gate"} : tensor<?x?x8xf64>, tensor<5x8xf64> -> tensor<?x?x5xf64>
    %u = skim.linear %y, %wu {layer = "up"} : tensor<?x?x8xf64>, tensor<5x8xf64> -> tensor<?x?x5xf64>
    %g = lm.silu %g0 : tensor<?x?x5xf64>
    %m = arith.mulf %g, %u : tensor<?x?x5xf64>
    %d = skim.linear %m, %wd {layer = "down"} : tensor<?x?x5xf64>, tensor<8x5xf64> -> tensor<?x?x8xf64>
    %h2 = arith.addf %h1, %d : tensor<?x?x8xf64>
    return %h2 : tensor<?x?x8xf64>
  })";

std::vector<Argument> decoderArguments() {
  return {{{2, 3, 8}},       {{2, 3}, {0, 1, 2, 0, 1, 2}},
          {{2}, {0, 0}},     {{8}, {}, 0.5, 2},
          {{8, 8}},          {{4, 8}},
          {{4, 8}},          {{8, 8}},
          {{8}, {}, 0.5, 2}, {{5, 8}},
          {{5, 8}},          {{8, 5}}};
}

TEST_F(DifferentiateTest, decoder_block) { check(decoderBlock, decoderArguments(), {0, 3, 4, 5, 6, 7, 8, 9, 10, 11}); }

TEST_F(DifferentiateTest, observed_inputs_and_adjoints_make_weight_gradients) {
  // Once with the weights in wrt, once by what observe returns: dW = dzᵀ·x.
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(decoderBlock, &context());
  auto f = module->lookupSymbol<func::FuncOp>("f");
  std::vector<int64_t> weights{4, 5, 6, 7, 9, 10, 11};
  FailureOr<func::FuncOp> vjp = differentiate(f, weights, /*observe=*/true);
  ASSERT_TRUE(succeeded(vjp));
  std::mt19937 random(3);
  std::vector<Tensor> arguments = make(f, decoderArguments(), random);
  arguments.emplace_back(getElementTypeOrSelf(f.getResultTypes()[0]), llvm::ArrayRef<int64_t>{2, 3, 8});
  fill(arguments.back(), -1, 1, random);
  std::vector<Tensor> results = call(*vjp, arguments);
  ASSERT_EQ(results.size(), weights.size() + 4 + 7);
  std::vector<std::string> inputs;
  size_t number = 0;
  Tensor x;
  for (size_t i = weights.size(); i < results.size(); ++i) {
    if (auto layer = vjp->getResultAttrOfType<StringAttr>(i, kInputAttr)) {
      inputs.push_back(layer.str());
      x = results[i];
      continue;
    }
    ASSERT_TRUE(vjp->getResultAttr(i, kOutputAdjointAttr));
    const Tensor &dz = results[i], &expected = results[number++];
    int64_t n = expected.getDim(0), k = expected.getDim(1);
    for (int64_t row = 0; row < n; ++row)
      for (int64_t column = 0; column < k; ++column) {
        double sum = 0;
        for (int64_t token = 0; token < 6; ++token)
          sum += dz.at(token * n + row) * x.at(token * k + column);
        EXPECT_NEAR(sum, expected.at(row * k + column), 1e-13);
      }
  }
  EXPECT_EQ(inputs, std::vector<std::string>({"q", "o", "gate", "down"}));
}

TEST_F(DifferentiateTest, narrow_types_are_computed_in_f32) {
  // Against the same in f64, at the same inputs: one rounding to the type, and
  // what f32 adds to that.
  struct Case {
    const char *ir;
    std::vector<Argument> arguments;
    std::vector<int64_t> wrt;
  };
  Case cases[] = {
      {R"(func.func @f(%x: tensor<?x32xf16>, %w: tensor<32xf16>) -> tensor<?x32xf16> {
            %y = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32} : tensor<?x32xf16>, tensor<32xf16>
            return %y : tensor<?x32xf16>
          })",
       {{{16, 32}}, {{32}}},
       {0, 1}},
      {R"(func.func @f(%x: tensor<?x3xf16>) -> tensor<?x3xf16> {
            %y = lm.silu %x : tensor<?x3xf16>
            return %y : tensor<?x3xf16>
          })",
       {{{16, 3}, {}, -4, 4}},
       {0}},
      {R"(func.func @f(%x: tensor<?x32xf16>, %w: tensor<8x32xf16>, %b: tensor<8xf16>) -> tensor<?x8xf16> {
            %y = skim.linear %x, %w bias %b : tensor<?x32xf16>, tensor<8x32xf16> -> tensor<?x8xf16>
            return %y : tensor<?x8xf16>
          })",
       {{{16, 32}}, {{8, 32}}, {{8}}},
       {0, 1, 2}},
      {R"(func.func @f(%l: tensor<?x9xf16>, %t: tensor<?xi32>) -> tensor<?xf16> {
            %y = lm.cross_entropy %l, %t : tensor<?x9xf16>, tensor<?xi32> -> tensor<?xf16>
            return %y : tensor<?xf16>
          })",
       {{{3, 9}, {}, -3, 3}, {{3}, {0, 8, 4}}},
       {0}},
      {R"(func.func @f(%q: tensor<?x?x12xf16>, %k: tensor<?x2x?x3xf16>, %v: tensor<?x2x?x3xf16>, %s: tensor<?xi32>) -> tensor<?x?x12xf16> {
            %y = lm.attention %q, %k, %v, %s {heads = 4 : i64, scale = 0.7 : f32, softcap = 3.0 : f32}
               : tensor<?x?x12xf16>, tensor<?x2x?x3xf16>, tensor<?xi32> -> tensor<?x?x12xf16>
            return %y : tensor<?x?x12xf16>
          })",
       {{{1, 5, 12}}, {{1, 2, 6, 3}}, {{1, 2, 6, 3}}, {{1}, {1}}},
       {0, 1, 2}},
  };
  for (const Case &test : cases)
    for (auto [narrow, precision] :
         {std::pair<std::string, double>{"f16", 0x1p-11}, {"bf16", 0x1p-8}, {"f32", 0x1p-24}}) {
      std::string text = test.ir, wide = test.ir;
      auto spell = [](std::string &ir, const std::string &type) {
        for (size_t at = 0; (at = ir.find("xf16>", at)) != std::string::npos; ++at)
          ir.replace(at, 5, "x" + type + ">");
      };
      spell(text, narrow);
      spell(wide, "f64");
      SCOPED_TRACE(text);
      std::vector<Tensor> given, results[2];
      for (const std::string &ir : {text, wide}) {
        OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(ir, &context());
        ASSERT_TRUE(module);
        auto f = module->lookupSymbol<func::FuncOp>("f");
        FailureOr<func::FuncOp> vjp = differentiate(f, test.wrt, /*observe=*/false);
        ASSERT_TRUE(succeeded(vjp));
        if (given.empty()) {
          std::mt19937 random(5);
          given = make(f, test.arguments, random);
          for (const Tensor &result : call(f, given)) {
            given.emplace_back(result.getElementType(), result.getShape());
            fill(given.back(), -1, 1, random);
          }
          results[0] = call(*vjp, given);
        } else {
          for (auto [value, type] : llvm::zip(given, vjp->getArgumentTypes()))
            value = converted(value, getElementTypeOrSelf(type));
          results[1] = call(*vjp, given);
        }
      }
      for (auto [got, exact] : llvm::zip(results[0], results[1])) {
        double largest = 0;
        for (int64_t i = 0, e = exact.getNumElements(); i < e; ++i)
          largest = std::max(largest, std::fabs(exact.at(i)));
        for (int64_t i = 0, e = exact.getNumElements(); i < e; ++i)
          EXPECT_NEAR(got.at(i), exact.at(i), precision * std::fabs(exact.at(i)) + 64 * 0x1p-24 * largest);
      }
    }
}
} // namespace
