// Random components of every term, decoded and multiplied by the reference and
// by what the reference lowering makes of the same function.
#include "skim/Conversion/SkimToUpstream.h"

#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "skim/InitAll.h"
#include "skim/Reference/Interpreter.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Support/Float16.h"
#include "gtest/gtest.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace skim;
using namespace skim::reference;

namespace {
/// One context for all terms: registering every dialect takes a while.
MLIRContext &sharedContext() {
  static MLIRContext *context = [] {
    DialectRegistry registry;
    mlir::registerAllDialects(registry);
    mlir::registerAllExtensions(registry);
    skim::registerAllDialects(registry);
    return new MLIRContext(registry);
  }();
  return *context;
}

struct Random {
  uint64_t state = 1;
  uint32_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 33);
  }
};

/// Bytes that any component of the kind may hold: floats are moderate, exponents near 127.
Tensor randomComponent(const Component &component, Random &random) {
  Tensor tensor(component.type.getElementType(), component.type.getShape());
  for (int64_t i = 0, e = tensor.getNumElements(); i < e; ++i) {
    int64_t value = random.next() & 255;
    if (component.kind == ComponentKind::Permutation)
      tensor.setInt(i, e - 1 - i);
    else if (component.kind == ComponentKind::Exponents)
      tensor.setInt(i, 120 + value % 12);
    else if (tensor.isFloat())
      tensor.set(i, static_cast<double>(value - 128) / 64);
    else
      tensor.setInt(i, value);
  }
  return tensor;
}

class TermTest : public ::testing::TestWithParam<const char *> {};

void compare(const Tensor &expected, const Tensor &got) {
  ASSERT_EQ(expected.getShape(), got.getShape());
  for (int64_t i = 0, e = expected.getNumElements(); i < e; ++i)
    ASSERT_NEAR(expected.at(i), got.at(i), 1e-5 * (1 + std::fabs(expected.at(i)))) << "element " << i;
}

TEST_P(TermTest, lowering_computes_the_reference) {
  MLIRContext &context = sharedContext();
  for (auto [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {15, 37}}) {
    std::string activations, error;
    std::string text = GetParam();
    // rows wants its counts to sum to n.
    if (size_t at = text.find("$N"); at != std::string::npos)
      text.replace(at, 2, std::to_string(n));
    if (size_t at = text.find("$SPLIT"); at != std::string::npos) {
      if (n < 3)
        continue;
      text.replace(at, 6, std::to_string(n - 2));
    }
    WeightEncoding term = parseTerm(text, &context, activations, error);
    ASSERT_TRUE(term) << text << ": " << error;
    auto type = RankedTensorType::get({n, k}, Float16Type::get(&context), term);
    std::string ir;
    llvm::raw_string_ostream stream(ir);
    stream << "func.func @forward(%x: tensor<2x" << k << "xf32>, %w: " << type << ", %ids: tensor<3xi32>) -> (tensor<"
           << n << "x" << k << "xf32>, tensor<2x" << n << "xf32>, tensor<3x" << k << "xf32>) {\n"
           << "  %0 = skim.convert %w : " << type << " to tensor<" << n << "x" << k << "xf32>\n"
           << "  %1 = skim.linear %x, %w : tensor<2x" << k << "xf32>, " << type << " -> tensor<2x" << n << "xf32>\n"
           << "  %2 = skim.embed %ids, %w : tensor<3xi32>, " << type << " -> tensor<3x" << k << "xf32>\n"
           << "  return %0, %1, %2 : tensor<" << n << "x" << k << "xf32>, tensor<2x" << n << "xf32>, tensor<3x" << k
           << "xf32>\n}\n";
    OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(ir, &context);
    ASSERT_TRUE(module) << ir;

    Random random;
    std::vector<Tensor> components;
    for (const Component &component : getComponents(term, {n, k}))
      components.push_back(randomComponent(component, random));
    Tensor x(Float32Type::get(&context), {2, k});
    for (int64_t i = 0; i < 2 * k; ++i)
      x.set(i, (static_cast<double>(random.next() & 63) - 32) / 16);
    Tensor ids = Tensor::integers(&context, 32, {3}, {0, n - 1, n / 2});

    auto expected = interpret(module->lookupSymbol<func::FuncOp>("forward"), {x, Tensor(type, components), ids});
    ASSERT_TRUE(expected) << expected.message();

    PassManager passes(&context);
    passes.addPass(createSkimToUpstream());
    ASSERT_TRUE(succeeded(passes.run(*module)));
    // The weight has become its components.
    std::vector<Tensor> arguments{x};
    llvm::append_range(arguments, components);
    arguments.push_back(ids);
    auto got = interpret(module->lookupSymbol<func::FuncOp>("forward"), arguments);
    ASSERT_TRUE(got) << got.message();
    for (size_t i = 0; i < expected->size(); ++i)
      compare((*expected)[i], (*got)[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Terms, TermTest,
    ::testing::Values(
        "f16", "bf16", "f32", "w1", "w2", "w3", "w4", "w5", "w8", "w4g16", "w3g32a", "w2a",
        "#skim.uniform<bits = 5, group = 8, asymmetric, zero = f16>", "#skim.uniform<bits = 3, scale = f32>", "k1",
        "k2", "k3", "k4", "k3i", "k7", "#skim.codebook<bits = 4, table = bf16, scope = tensor>",
        "#skim.codebook<bits = 2, table = i8, scope = tensor>", "mx2", "mx4", "mx8",
        "#skim.block_float<bits = 5, block = 32, element = ocp_int>",
        "#skim.block_float<bits = 4, block = 32, element = e2m1>", "p1", "p2", "p2b", "p3b", "p8",
        "#skim.planes<bits = 2, levels = 5, group = 16>", "#skim.rows<[#skim.codebook<bits = 3> : $N]>",
        "#skim.rows<[#skim.codebook<bits = 2> : 1, #skim.uniform<bits = 4> : 1, #skim.codebook<bits = 3> : "
        "$SPLIT]>",
        "#skim.scaled<#skim.planes<bits = 2, levels = 5>>", "mx4+r1", "k3i+r1",
        "#skim.low_rank<#skim.scaled<#skim.rows<[#skim.codebook<bits = 2> : 2, #skim.codebook<bits = 3, "
        "table = i8> : $SPLIT]>>, rank = 2, factors = #skim.uniform<bits = 8, group = 16>>"));
} // namespace
