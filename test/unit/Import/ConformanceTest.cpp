//===- ConformanceTest.cpp - onnx's node cases through the importer ---------===//
//
// Each case whose operators we know is imported twice: as it is, where the types
// that we infer must be those that the case declares, and with its inputs as
// initializers, where what folds must be the case's output.
//
//===----------------------------------------------------------------------===//
#include "Importer.h"
#include "Types.h"

#include "skim/ONNX/ONNXOps.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Skim/SkimOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Matchers.h"

#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>

using namespace skim;
using namespace mlir;
namespace fs = std::filesystem;

namespace {

struct Case {
  fs::path path;
  std::string name;
};

std::vector<Case> cases() {
  std::vector<Case> out;
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(fs::path(SKIM_ONNX_TESTDATA) / "node", error))
    if (fs::exists(entry.path() / "model.onnx"))
      out.push_back({entry.path(), entry.path().filename().string()});
  std::sort(out.begin(), out.end(), [](const Case &a, const Case &b) { return a.name < b.name; });
  return out;
}

bool isUnsupported(const ImportedONNX &imported) {
  for (const Failure &failure : imported.failures)
    if (failure.what.find("unsupported") != 0)
      return false;
  return !imported.failures.empty();
}

/// True if `type` says nothing that `declared` contradicts.
bool agrees(Type type, const wire::ValueInfo &declared, MLIRContext *context) {
  auto tensor = dyn_cast<TensorType>(type);
  if (!tensor || tensor.getElementType() != onnx::elementType(declared.type.element, context))
    return false;
  if (!tensor.hasRank() || !declared.type.shape)
    return true;
  if (tensor.getRank() != static_cast<int64_t>(declared.type.shape->size()))
    return false;
  for (auto [dim, expected] : llvm::zip(tensor.getShape(), *declared.type.shape))
    if (dim != ShapedType::kDynamic && expected.value && dim != *expected.value)
      return false;
  return true;
}

bool close(double got, double expected) {
  if (std::isnan(got) || std::isnan(expected))
    return std::isnan(got) && std::isnan(expected);
  return got == expected || std::fabs(got - expected) <= 1e-7 + 1e-3 * std::fabs(expected);
}

} // namespace

class Conformance : public testing::Test {
protected:
  Conformance() { context.loadDialect<func::FuncDialect, arith::ArithDialect, SkimDialect, onnx::ONNXDialect>(); }
  MLIRContext context;
};

TEST_F(Conformance, InferredTypesAreTheDeclaredOnes) {
  std::vector<Case> all = cases();
  if (all.empty())
    GTEST_SKIP() << "onnx's node cases are absent (libonnx-testdata)";
  unsigned imported = 0, complete = 0;
  for (const Case &test : all) {
    std::string path = (test.path / "model.onnx").string();
    ImportedONNX result = importONNX(path, &context);
    if (isUnsupported(result))
      continue;
    if (!result) {
      ADD_FAILURE() << test.name << ": " << result.failures[0].message();
      continue;
    }
    ++imported;
    Expected<wire::Model> model = wire::readModel(path);
    ASSERT_TRUE(model);
    auto function = *result.module->getOps<func::FuncOp>().begin();
    bool allStatic = true;
    for (auto [type, declared] : llvm::zip(function.getResultTypes(), model->graph.outputs)) {
      std::string text;
      llvm::raw_string_ostream(text) << type;
      EXPECT_TRUE(agrees(type, declared, &context)) << test.name << ": " << text;
      allStatic &= cast<ShapedType>(type).hasStaticShape();
    }
    complete += allStatic;
  }
  RecordProperty("imported", imported);
  RecordProperty("complete", complete);
  EXPECT_GE(imported, 400u);
  EXPECT_GE(complete, 300u);
}

TEST_F(Conformance, FoldedValuesAreTheExpectedOnes) {
  std::vector<Case> all = cases();
  if (all.empty())
    GTEST_SKIP() << "onnx's node cases are absent (libonnx-testdata)";
  unsigned folded = 0;
  for (const Case &test : all) {
    std::string path = (test.path / "model.onnx").string();
    Expected<wire::Model> model = wire::readModel(path);
    ASSERT_TRUE(model) << model.message();
    fs::path data = test.path / "test_data_set_0";
    // onnx 1.12 rounded these data towards zero, against its own definition.
    if (test.name == "test_cast_FLOAT_to_BFLOAT16")
      continue;
    // Inputs become initializers; the files outlive the model.
    std::vector<std::shared_ptr<const MappedFile>> files;
    bool usable = true;
    for (size_t i = 0; i < model->graph.inputs.size() && usable; ++i) {
      auto file = MappedFile::open((data / ("input_" + std::to_string(i) + ".pb")).string());
      if (!(usable = static_cast<bool>(file)))
        break;
      Expected<wire::Tensor> tensor = wire::readTensor((*file)->bytes(), test.name, model->owned);
      // Some cases of bfloat16 store their data as uint16.
      if (!(usable = tensor && tensor->type == model->graph.inputs[i].type.element))
        break;
      tensor->name = model->graph.inputs[i].name;
      model->graph.initializers.push_back(*tensor);
      files.push_back(*file);
    }
    if (!usable)
      continue;
    model->graph.inputs.clear();
    std::vector<wire::ValueInfo> outputs = model->graph.outputs;
    ImportONNXOptions options;
    options.inlineBytes = 16384;
    std::string modelPath = path;
    ImportedONNX result = onnx::Importer(std::move(*model), modelPath, &context, options).run();
    if (!result)
      continue; // unsupported, or an operand that must be a smaller constant
    auto function = *result.module->getOps<func::FuncOp>().begin();
    auto *terminator = function.getBody().front().getTerminator();
    for (size_t i = 0; i < outputs.size(); ++i) {
      DenseElementsAttr value;
      if (!matchPattern(terminator->getOperand(i), m_Constant(&value)))
        continue;
      auto file = MappedFile::open((data / ("output_" + std::to_string(i) + ".pb")).string());
      ASSERT_TRUE(file) << file.message();
      std::deque<std::string> owned;
      Expected<wire::Tensor> expected = wire::readTensor((*file)->bytes(), test.name, owned);
      ASSERT_TRUE(expected) << expected.message();
      ASSERT_EQ(value.getType().getShape(), ArrayRef<int64_t>(expected->dims)) << test.name;
      DenseElementsAttr wanted = onnx::denseAttribute(cast<RankedTensorType>(value.getType()), expected->bytes);
      ASSERT_TRUE(wanted) << test.name;
      ++folded;
      if (!isa<FloatType>(value.getElementType())) {
        EXPECT_EQ(value, wanted) << test.name;
        continue;
      }
      for (auto [got, want] : llvm::zip(value.getValues<APFloat>(), wanted.getValues<APFloat>())) {
        bool loses;
        got.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &loses);
        want.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &loses);
        EXPECT_TRUE(close(got.convertToDouble(), want.convertToDouble()))
            << test.name << ": " << got.convertToDouble() << " instead of " << want.convertToDouble();
      }
    }
  }
  RecordProperty("folded", folded);
  EXPECT_GE(folded, 150u);
}
