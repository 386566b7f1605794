//===- MutationTest.cpp - damaged models through the whole importer ---------===//
//
// Bits of real models are flipped; the importer may accept or refuse what comes
// out, in one line, but must come back. Folding and inference see numbers here
// that no exporter writes.
//
//===----------------------------------------------------------------------===//
#include "Importer.h"

#include "skim/ONNX/ONNXOps.h"
#include "skim/Skim/SkimDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <random>

using namespace skim;
namespace fs = std::filesystem;

namespace {

/// Number of imports; more by SKIM_MUTATIONS.
unsigned rounds() {
  const char *text = std::getenv("SKIM_MUTATIONS");
  return text ? static_cast<unsigned>(std::atoi(text)) : 200;
}

void mutate(const std::vector<fs::path> &models) {
  std::mt19937_64 random(7);
  std::vector<std::string> contents;
  for (const fs::path &path : models) {
    std::ifstream file(path, std::ios::binary);
    contents.emplace_back((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  }
  unsigned accepted = 0, refused = 0;
  for (unsigned i = 0; i < rounds(); ++i) {
    size_t which = random() % models.size();
    std::string bytes = contents[which];
    ASSERT_FALSE(bytes.empty()) << models[which];
    for (unsigned n = 1 + random() % 6; n; --n) {
      size_t at = random() % bytes.size();
      if (random() % 3)
        bytes[at] ^= static_cast<char>(1u << random() % 8);
      else
        bytes[at] = static_cast<char>(random() % 2 ? 0xff : 0x7f);
    }
    std::string path = models[which].string();
    Expected<wire::Model> model = wire::readModel(bytes, nullptr, path);
    if (!model) {
      ++refused;
      continue;
    }
    mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
    context.loadDialect<mlir::func::FuncDialect, mlir::arith::ArithDialect, SkimDialect, onnx::ONNXDialect>();
    ImportONNXOptions options;
    ImportedONNX result = onnx::Importer(std::move(*model), path, &context, options).run();
    ASSERT_TRUE(result || !result.failures.empty());
    for (const Failure &failure : result.failures)
      ASSERT_EQ(failure.message().find('\n'), std::string::npos);
    if (result)
      ++accepted;
    else
      ++refused;
  }
  EXPECT_EQ(accepted + refused, rounds());
}

} // namespace

TEST(Mutation, NodeCases) {
  std::vector<fs::path> models;
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(fs::path(SKIM_ONNX_TESTDATA) / "node", error))
    if (fs::exists(entry.path() / "model.onnx"))
      models.push_back(entry.path() / "model.onnx");
  if (models.empty())
    GTEST_SKIP() << "onnx's node cases are absent (libonnx-testdata)";
  std::sort(models.begin(), models.end());
  mutate(models);
}

TEST(Mutation, Exports) {
  const char *shared = std::getenv("SKIM_SHARED");
  fs::path models = fs::path(shared ? shared : SKIM_SHARED_DEFAULT) / "data" / "models";
  if (!fs::exists(models))
    GTEST_SKIP() << models << " is absent";
  mutate({models / "stories260K-genai-int4" / "model.onnx", models / "tok105-genai-fp32" / "model.onnx",
          models / "stories260K-dynamo23-past" / "model.onnx"});
}
