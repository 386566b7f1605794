// The interpreter's own manners: types, sizes, files, observation, errors.
#include "skim/Reference/Interpreter.h"

#include "mlir/InitAllDialects.h"
#include "mlir/Parser/Parser.h"
#include "skim/InitAll.h"
#include "skim/Reference/Activation.h"
#include "skim/Skim/SkimDialect.h"
#include "gtest/gtest.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

using namespace mlir;
using namespace skim;
using namespace skim::reference;

namespace {
class InterpreterTest : public ::testing::Test {
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

  Expected<std::vector<Tensor>> run(llvm::StringRef ir, llvm::ArrayRef<Tensor> arguments = {},
                                    const InterpreterOptions &options = {}) {
    module = parseSourceString<ModuleOp>(ir, &context());
    if (!module)
      return skim::fail("does not parse");
    return interpret(module->lookupSymbol<func::FuncOp>("forward"), arguments, options);
  }
  static Tensor floats(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<float> values) {
    return Tensor::floats(&context(), shape, values);
  }

  OwningOpRef<ModuleOp> module;
};

TEST_F(InterpreterTest, dynamic_sizes_come_from_arguments) {
  auto result = run(R"(
    func.func @forward(%x: tensor<?x2xf32>) -> (tensor<?x3xf32>, index) {
      %w = arith.constant dense<[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]> : tensor<3x2xf16>
      %b = arith.constant dense<[0.0, 0.0, 0.5]> : tensor<3xf32>
      %y = skim.linear %x, %w bias %b : tensor<?x2xf32>, tensor<3x2xf16> -> tensor<?x3xf32>
      %zero = arith.constant 0 : index
      %rows = tensor.dim %y, %zero : tensor<?x3xf32>
      return %y, %rows : tensor<?x3xf32>, index
    })",
                    floats({2, 2}, {1, 2, 3, 4}));
  ASSERT_TRUE(result) << result.message();
  EXPECT_EQ((*result)[0].toFloats(), std::vector<float>({1, 2, 3.5f, 3, 4, 7.5f}));
  EXPECT_EQ((*result)[1].intAt(0), 2);
}

TEST_F(InterpreterTest, arguments_must_fit_the_types) {
  const char *ir = "func.func @forward(%x: tensor<?x2xf32>) { return }";
  EXPECT_EQ(run(ir, floats({2, 3}, std::vector<float>(6))).message(),
            "cannot interpret @forward at argument 0: expected tensor<?x2xf32>, got 2x3xf32");
  EXPECT_EQ(run(ir).message(), "cannot interpret @forward: expected 1 arguments, got 0");
}

TEST_F(InterpreterTest, unknown_operations_are_named) {
  std::string message = run(R"(
    func.func @forward(%x: tensor<2xf32>) -> tensor<2xf32> {
      %y = math.asin %x : tensor<2xf32>
      return %y : tensor<2xf32>
    })",
                            floats({2}, {0, 0}))
                            .message();
  EXPECT_NE(message.find("cannot interpret math.asin"), std::string::npos) << message;
  EXPECT_NE(message.find("expected an operation that the reference knows"), std::string::npos) << message;
}

TEST_F(InterpreterTest, ids_and_rows_outside_are_errors) {
  std::string message = run(R"(
    func.func @forward(%t: tensor<2x1xf32>) -> tensor<1x1xf32> {
      %i = arith.constant dense<2> : tensor<1xi32>
      %y = skim.embed %i, %t {layer = "model.embed_tokens"} : tensor<1xi32>, tensor<2x1xf32> -> tensor<1x1xf32>
      return %y : tensor<1x1xf32>
    })",
                            floats({2, 1}, {0, 0}))
                            .message();
  EXPECT_NE(message.find("model.embed_tokens"), std::string::npos) << message;
  EXPECT_NE(message.find("expected ids below 2, got 2"), std::string::npos) << message;
}

TEST_F(InterpreterTest, a_full_cache_is_an_error) {
  std::string message = run(R"(
    func.func @forward(%x: tensor<1x2x1xf32>, %c: tensor<1x1x2x1xf32>) -> tensor<1x1x2x1xf32> {
      %start = arith.constant dense<1> : tensor<1xi32>
      %count = arith.constant dense<2> : tensor<1xi32>
      %y = lm.cache_append %x, %c, %start, %count : tensor<1x2x1xf32>, tensor<1x1x2x1xf32>, tensor<1xi32>
      return %y : tensor<1x1x2x1xf32>
    })",
                            {floats({1, 2, 1}, {1, 2}), floats({1, 1, 2, 1}, {0, 0})})
                            .message();
  EXPECT_NE(message.find("expected new tokens that fit a cache of capacity 2, got 2 from 1"), std::string::npos)
      << message;
}

TEST_F(InterpreterTest, externals_are_read_where_strides_say) {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / "skim-interpreter-test";
  std::filesystem::create_directories(folder);
  {
    std::ofstream file(folder / "w.bin", std::ios::binary);
    float values[7] = {99, 1, 2, 3, 4, 5, 6};
    // One byte before, so that nothing is aligned.
    file.put('x');
    file.write(reinterpret_cast<const char *>(values), sizeof(values));
  }
  InterpreterOptions options;
  options.baseDirectory = folder.string();
  auto result = run(R"(
    func.func @forward() -> (tensor<2x3xf32>, tensor<3x2xf32>) {
      %0 = skim.external "w.bin" offset = 5 : tensor<2x3xf32>
      %1 = skim.external "w.bin" offset = 5 strides = [1, 3] : tensor<3x2xf32>
      return %0, %1 : tensor<2x3xf32>, tensor<3x2xf32>
    })",
                    {}, options);
  ASSERT_TRUE(result) << result.message();
  EXPECT_EQ((*result)[0].toFloats(), std::vector<float>({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ((*result)[1].toFloats(), std::vector<float>({1, 4, 2, 5, 3, 6}));
  EXPECT_FALSE(run(R"(
    func.func @forward() -> tensor<3x3xf32> {
      %0 = skim.external "w.bin" offset = 5 : tensor<3x3xf32>
      return %0 : tensor<3x3xf32>
    })",
                   {}, options));
  EXPECT_FALSE(run(R"(
    func.func @forward() -> tensor<3x3xf32> {
      %0 = skim.external "w.bin" offset = 5 strides = [9223372036854775807, 9223372036854775807] : tensor<3x3xf32>
      return %0 : tensor<3x3xf32>
    })",
                   {}, options));
  std::filesystem::remove_all(folder);
}

TEST_F(InterpreterTest, observations_reach_the_caller) {
  std::vector<std::string> seen;
  InterpreterOptions options;
  options.observe = [&](llvm::StringRef layer, const Tensor &x) { seen.push_back(layer.str() + " " + x.describe()); };
  ASSERT_TRUE(run(R"(
    func.func @forward(%x: tensor<?x2xf32>) {
      skim.observe %x {layer = "a"} : tensor<?x2xf32>
      return
    })",
                  floats({3, 2}, std::vector<float>(6)), options));
  EXPECT_EQ(seen, std::vector<std::string>{"a 3x2xf32"});
}

TEST_F(InterpreterTest, control_flow_and_shapes) {
  auto result = run(R"(
    func.func @forward(%x: tensor<2x3xf32>) -> (tensor<6xf32>, tensor<3x2xf32>, index, tensor<1x2xf32>) {
      %0 = tensor.collapse_shape %x [[0, 1]] : tensor<2x3xf32> into tensor<6xf32>
      %e = tensor.empty() : tensor<3x2xf32>
      %1 = linalg.transpose ins(%x : tensor<2x3xf32>) outs(%e : tensor<3x2xf32>) permutation = [1, 0]
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c5 = arith.constant 5 : index
      %2 = scf.for %i = %c0 to %c5 step %c1 iter_args(%sum = %c0) -> index {
        %next = arith.addi %sum, %i : index
        scf.yield %next : index
      }
      %3 = tensor.extract_slice %x[1, 0] [1, 2] [1, 2] : tensor<2x3xf32> to tensor<1x2xf32>
      return %0, %1, %2, %3 : tensor<6xf32>, tensor<3x2xf32>, index, tensor<1x2xf32>
    })",
                    floats({2, 3}, {1, 2, 3, 4, 5, 6}));
  ASSERT_TRUE(result) << result.message();
  EXPECT_EQ((*result)[0].toFloats(), std::vector<float>({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ((*result)[1].toFloats(), std::vector<float>({1, 4, 2, 5, 3, 6}));
  EXPECT_EQ((*result)[2].intAt(0), 10);
  EXPECT_EQ((*result)[3].toFloats(), std::vector<float>({4, 6}));
}

TEST_F(InterpreterTest, halves_round_once) {
  auto result = run(R"(
    func.func @forward(%x: tensor<3xf32>) -> (tensor<3xf16>, tensor<3xbf16>) {
      %0 = arith.truncf %x : tensor<3xf32> to tensor<3xf16>
      %1 = arith.truncf %x : tensor<3xf32> to tensor<3xbf16>
      return %0, %1 : tensor<3xf16>, tensor<3xbf16>
    })",
                    floats({3}, {1.00048828125f, 65520.0f, 1.00390625f}));
  ASSERT_TRUE(result) << result.message();
  EXPECT_EQ((*result)[0].at(0), 1.0); // half of the last place: to even
  EXPECT_TRUE(std::isinf((*result)[0].at(1)));
  EXPECT_EQ((*result)[1].at(2), 1.0);
  // A double just above a half-way point must not be rounded to f32 first.
  Tensor half(Float16Type::get(&context()), {1});
  half.set(0, 1.00048828125 + 1e-12);
  EXPECT_EQ(half.at(0), 1.0009765625);
}

TEST_F(InterpreterTest, activations_are_quantized_token_by_token) {
  MLIRContext *c = &context();
  c->loadDialect<SkimDialect>();
  // Symmetric, 3 bits: s = 3/3 = 1; then an empty token.
  Tensor x = floats({2, 3}, {3, 0.5f, -1.6f, 0, 0, 0});
  auto symmetric = quantizeActivation(x, PerTokenAttr::get(c, 3, false));
  ASSERT_TRUE(symmetric);
  EXPECT_EQ(symmetric->toFloats(), std::vector<float>({3, 0, -2, 0, 0, 0}));
  // Asymmetric, 2 bits, 0 to 3: s = 1, z = 0.
  auto asymmetric = quantizeActivation(floats({1, 4}, {0, 1.4f, 2.6f, 3}), PerTokenAttr::get(c, 2, true));
  EXPECT_EQ(asymmetric->toFloats(), std::vector<float>({0, 1, 3, 3}));
  // MXINT4: e = 0 for a largest of 1 (⌈log2⌉): steps of 1/8, saturating at 7/8.
  auto blocks = quantizeActivation(floats({1, 3}, {1, 0.3f, -0.4f}), BlockFloatAttr::get(c, 4, 2, BlockElement::Int));
  EXPECT_EQ(blocks->toFloats(), std::vector<float>({0.875f, 0.25f, -0.375f}));
  // OCP: e2m1 with 6 = the largest: exponent 0.
  auto e2m1 =
      quantizeActivation(floats({1, 4}, {6, 2.4f, -0.6f, 5.1f}), BlockFloatAttr::get(c, 4, 32, BlockElement::E2M1));
  EXPECT_EQ(e2m1->toFloats(), std::vector<float>({6, 2, -0.5f, 6}));
  // ocp_int of 8 bits: largest 1: exponent 0, steps of 1/64.
  auto ocp = quantizeActivation(floats({1, 2}, {1, 0.01f}), BlockFloatAttr::get(c, 8, 32, BlockElement::OcpInt));
  EXPECT_EQ(ocp->toFloats(), std::vector<float>({1, 0.015625f}));
  EXPECT_FALSE(quantizeActivation(x, DenseAttr::get(c, Float16Type::get(c))));
}

TEST_F(InterpreterTest, encoded_caches_quantize_what_comes) {
  auto result = run(R"(
    func.func @forward(%x: tensor<1x1x2xf32>, %c: tensor<1x2x2x1xf32>) -> tensor<1x2x2x1xf32, #skim.per_token<bits = 8>> {
      %e = skim.convert %c : tensor<1x2x2x1xf32> to tensor<1x2x2x1xf32, #skim.per_token<bits = 8>>
      %start = arith.constant dense<1> : tensor<1xi32>
      %count = arith.constant dense<1> : tensor<1xi32>
      %y = lm.cache_append %x, %e, %start, %count : tensor<1x1x2xf32>, tensor<1x2x2x1xf32, #skim.per_token<bits = 8>>, tensor<1xi32>
      return %y : tensor<1x2x2x1xf32, #skim.per_token<bits = 8>>
    })",
                    {floats({1, 1, 2}, {1.27f, -2.54f}), floats({1, 2, 2, 1}, {0, 0, 0, 0})});
  ASSERT_TRUE(result) << result.message();
  std::vector<float> values = result->front().toFloats();
  EXPECT_EQ(values[0], 0);
  EXPECT_FLOAT_EQ(values[1], 1.27f);
  EXPECT_FLOAT_EQ(values[3], -2.54f);
}
} // namespace
