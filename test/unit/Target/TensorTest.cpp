// Functions on dense tensors: compiled code against the reference.
#include "skim/Target/CPU/TensorLibrary.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Parser/Parser.h"
#include "skim/InitAll.h"
#include "skim/Reference/Interpreter.h"
#include "skim/Target/CPU/Emit.h"
#include "gtest/gtest.h"

#include <cmath>

using namespace mlir;
using namespace skim;
using skim::reference::Tensor;

namespace {
MLIRContext &sharedContext() {
  static MLIRContext *context = [] {
    DialectRegistry registry;
    skim::registerAllDialects(registry);
    registry.insert<linalg::LinalgDialect, tensor::TensorDialect>();
    auto *made = new MLIRContext(registry);
    prepareEmission(*made);
    made->loadAllAvailableDialects();
    return made;
  }();
  return *context;
}

double number(uint64_t &state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<double>(static_cast<int64_t>(state >> 33) % 4096 - 2048) / 1024;
}

/// Runs `@f` of `text` compiled and by the reference on the same numbers; unknown sizes are `size`.
void compareWithReference(const std::string &text, int64_t size, int64_t limit = 7) {
  MLIRContext &context = sharedContext();
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context);
  ASSERT_TRUE(module);
  OwningOpRef<ModuleOp> compiled = module->clone();
  Expected<TargetInfo> target = parseCPUTarget("cpu");
  ASSERT_TRUE(target) << target.message();
  auto library = TensorLibrary::build(*compiled, *target);
  ASSERT_TRUE(library) << library.message();
  const TensorLibrary::Function *function = (*library)->find("f");
  ASSERT_TRUE(function);

  uint64_t state = 1;
  std::vector<Tensor> arguments;
  std::vector<const void *> inputs;
  for (const TensorSlot &slot : function->arguments) {
    std::vector<int64_t> shape = slot.shape;
    for (int64_t &extent : shape)
      extent = extent < 0 ? size : extent;
    Tensor tensor(slot.element, shape);
    for (int64_t i = 0; i < tensor.getNumElements(); ++i)
      if (tensor.isFloat())
        tensor.set(i, number(state));
      else
        tensor.setInt(i, (i * 5 + 3) % limit);
    arguments.push_back(tensor);
  }
  for (const Tensor &tensor : arguments)
    inputs.push_back(tensor.getBytes().data());
  auto expected = reference::interpret(module->lookupSymbol<func::FuncOp>("f"), arguments);
  ASSERT_TRUE(expected) << expected.message();

  std::vector<std::vector<float>> results;
  std::vector<void *> outputs;
  for (const TensorSlot &slot : function->results)
    results.emplace_back(slot.elements(size), -77.0f);
  for (std::vector<float> &result : results)
    outputs.push_back(result.data());
  for (int run = 0; run < 2; ++run) {
    function->run(inputs, outputs, size);
    for (auto [result, tensor] : llvm::zip(results, *expected)) {
      ASSERT_EQ(static_cast<int64_t>(result.size()), tensor.getNumElements());
      for (size_t i = 0; i < result.size(); ++i)
        ASSERT_NEAR(result[i], tensor.at(i), 2e-5 * (1 + std::fabs(tensor.at(i)))) << "element " << i << " of " << size;
    }
  }
}
} // namespace

TEST(TensorLibrary, Elementwise) {
  for (int64_t size : {1, 5, 33})
    compareWithReference(R"(
      func.func @f(%x: tensor<1x?x24xf32>, %w: tensor<24xf32>, %v: tensor<6xf32>) -> (tensor<1x?x24xf32>, tensor<1x?x24xf32>) {
        %0 = lm.rms_norm %x, %w {epsilon = 1.0e-5 : f32, offset = 1.0 : f32} : tensor<1x?x24xf32>, tensor<24xf32>
        %1 = lm.silu %0 : tensor<1x?x24xf32>
        %2 = arith.addf %1, %x : tensor<1x?x24xf32>
        %3 = lm.rms_norm %2, %v {epsilon = 1.0e-5 : f32, heads = 4 : i64} : tensor<1x?x24xf32>, tensor<6xf32>
        %4 = math.tanh %3 : tensor<1x?x24xf32>
        %5 = math.exp %4 : tensor<1x?x24xf32>
        %6 = arith.mulf %5, %2 : tensor<1x?x24xf32>
        return %6, %2 : tensor<1x?x24xf32>, tensor<1x?x24xf32>
      })",
                         size);
}

TEST(TensorLibrary, Rotary) {
  for (const char *attributes : {"heads = 2 : i64", "heads = 2 : i64, interleaved"})
    for (const char *pairs : {"6", "4"}) {
      std::string table = std::string("tensor<1x?x") + pairs + "xf32>",
                  frequencies = std::string("tensor<") + pairs + "xf32>";
      compareWithReference("func.func @f(%x: tensor<1x?x24xf32>, %p: tensor<1x?xi32>, %q: " + frequencies +
                               ") -> tensor<1x?x24xf32> {\n%cos, %sin = lm.rotary_table %p, %q : tensor<1x?xi32>, " +
                               frequencies + " -> " + table + "\n%y = lm.rotary %x, %cos, %sin {" + attributes +
                               "} : tensor<1x?x24xf32>, " + table + "\nreturn %y : tensor<1x?x24xf32>\n}",
                           9, 3000);
    }
}

TEST(TensorLibrary, Attention) {
  for (const char *attributes : {"", ", window = 3 : i64", ", softcap = 2.0 : f32"})
    for (int64_t size : {1, 7, 40})
      compareWithReference(std::string(R"(
        func.func @f(%q: tensor<1x?x32xf32>, %k: tensor<1x2x?x8xf32>, %v: tensor<1x2x?x8xf32>) -> tensor<1x?x32xf32> {
          %start = arith.constant dense<0> : tensor<1xi32>
          %y = lm.attention %q, %k, %v, %start {heads = 4 : i64, scale = 0.35 : f32)") +
                               attributes + R"(}
             : tensor<1x?x32xf32>, tensor<1x2x?x8xf32>, tensor<1xi32> -> tensor<1x?x32xf32>
          return %y : tensor<1x?x32xf32>
        })",
                           size);
}

TEST(TensorLibrary, ProductsAndLoss) {
  for (int64_t size : {1, 6, 50})
    compareWithReference(R"(
      func.func @f(%x: tensor<1x?x12xf32>, %w: tensor<20x12xf32>, %u: tensor<7x20xf32>, %b: tensor<7xf32>, %t: tensor<?xi32>)
          -> (tensor<?xf32>, tensor<?x20xf32>) {
        %0 = skim.linear %x, %w : tensor<1x?x12xf32>, tensor<20x12xf32> -> tensor<1x?x20xf32>
        %1 = tensor.collapse_shape %0 [[0, 1], [2]] : tensor<1x?x20xf32> into tensor<?x20xf32>
        %2 = skim.linear %1, %u bias %b : tensor<?x20xf32>, tensor<7x20xf32> -> tensor<?x7xf32>
        %3 = lm.cross_entropy %2, %t : tensor<?x7xf32>, tensor<?xi32> -> tensor<?xf32>
        return %3, %1 : tensor<?xf32>, tensor<?x20xf32>
      })",
                         size);
}

TEST(TensorLibrary, TransposedProducts) {
  // x·wᵀ, x·w, xᵀ·y, and one that no call of BLAS takes as it is.
  compareWithReference(R"(
    #a = affine_map<(d0, d1, d2) -> (d2, d0)>
    #b = affine_map<(d0, d1, d2) -> (d2, d1)>
    #c = affine_map<(d0, d1, d2) -> (d1, d0)>
    func.func @f(%x: tensor<?x12xf32>, %y: tensor<?x10xf32>, %w: tensor<12x10xf32>) -> (tensor<10x12xf32>, tensor<?x10xf32>) {
      %zero = arith.constant 0.0 : f32
      %e = tensor.empty() : tensor<10x12xf32>
      %i = linalg.fill ins(%zero : f32) outs(%e : tensor<10x12xf32>) -> tensor<10x12xf32>
      %g = linalg.generic {indexing_maps = [#a, #b, #c], iterator_types = ["parallel", "parallel", "reduction"]}
          ins(%x, %y : tensor<?x12xf32>, tensor<?x10xf32>) outs(%i : tensor<10x12xf32>) {
        ^bb0(%p: f32, %q: f32, %s: f32):
          %m = arith.mulf %q, %p : f32
          %t = arith.addf %m, %s : f32
          linalg.yield %t : f32
      } -> tensor<10x12xf32>
      %r = linalg.matmul ins(%x, %w : tensor<?x12xf32>, tensor<12x10xf32>) outs(%y : tensor<?x10xf32>) -> tensor<?x10xf32>
      return %g, %r : tensor<10x12xf32>, tensor<?x10xf32>
    })",
                       17);
}

TEST(TensorLibrary, RefusesWhatItCannotCompile) {
  MLIRContext &context = sharedContext();
  Expected<TargetInfo> target = parseCPUTarget("cpu");
  ASSERT_TRUE(target);
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(R"(
    func.func @f(%x: tensor<?x4xf32>, %w: tensor<4x4xf16, #skim.codebook<bits = 2>>) -> tensor<?x4xf32> {
      %y = skim.linear %x, %w : tensor<?x4xf32>, tensor<4x4xf16, #skim.codebook<bits = 2>> -> tensor<?x4xf32>
      return %y : tensor<?x4xf32>
    })",
                                                             &context);
  ASSERT_TRUE(module);
  auto library = TensorLibrary::build(*module, *target);
  ASSERT_FALSE(library);
  EXPECT_NE(library.message().find("ranked tensors without encodings"), std::string::npos) << library.message();
}
