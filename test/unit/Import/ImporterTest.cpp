//===- ImporterTest.cpp - what text tests cannot ask for --------------------===//
#include "Importer.h"

#include "skim/ONNX/ONNXOps.h"
#include "skim/Skim/SkimDialect.h"
#include "skim/Skim/SkimOps.h"
#include "skim/Support/Sha256.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

using namespace skim;
using namespace mlir;
namespace fs = std::filesystem;

TEST(Importer, ExternalConstantsCarryTheirHash) {
  std::string folder = (fs::temp_directory_path() / "skim-import-XXXXXX").string();
  ASSERT_TRUE(::mkdtemp(folder.data()));
  std::string path = folder + "/model.onnx", contents(20, '\1');
  std::ofstream(path, std::ios::binary) << contents;
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file) << file.message();

  // A graph that hands out its one initializer, 16 bytes from byte 4 of the file.
  wire::Model model;
  model.file = *file;
  model.opsets.push_back({"", 17});
  wire::Tensor weight;
  weight.name = "model.norm.weight";
  weight.type = wire::DataType::Float;
  weight.dims = {4};
  weight.byteSize = 16;
  weight.elements = 4;
  weight.bytes = (*file)->bytes().substr(4);
  model.graph.initializers.push_back(weight);
  wire::ValueInfo output;
  output.name = weight.name;
  output.type.kind = wire::Type::Kind::Tensor;
  output.type.element = wire::DataType::Float;
  model.graph.outputs.push_back(output);

  MLIRContext context;
  context.loadDialect<func::FuncDialect, arith::ArithDialect, SkimDialect, onnx::ONNXDialect>();
  ImportONNXOptions options;
  options.hash = true;
  options.inlineBytes = 0;
  options.filePrefix = "elsewhere/";
  ImportedONNX result = onnx::Importer(std::move(model), path, &context, options).run();
  ASSERT_TRUE(result) << result.failures[0].message();
  unsigned found = 0;
  result.module->walk([&](ExternalOp op) {
    ++found;
    EXPECT_EQ(op.getFile(), "elsewhere/model.onnx");
    EXPECT_EQ(op.getOffset(), 4u);
    EXPECT_EQ(op.getName(), "model.norm.weight");
    EXPECT_EQ(op.getSha256(), sha256(std::string(16, '\1')));
  });
  EXPECT_EQ(found, 1u);
  fs::remove_all(folder);
}

TEST(Importer, PrefixLeadsFromOutputToModel) {
  EXPECT_EQ(*externalPrefix("model.onnx", "-"), "");
  EXPECT_EQ(*externalPrefix("a/model.onnx", "-"), "a/");
  EXPECT_EQ(*externalPrefix("a/model.onnx", "a/out.mlir"), "");
  EXPECT_EQ(*externalPrefix("a/model.onnx", "b/out.mlir"), "../a/");
  EXPECT_EQ(*externalPrefix("model.onnx", "b/c/out.mlir"), "../../");
}
