#include "TestPackage.h"
#include "skim/Support/Safetensors.h"
#include "skim/Support/Sha256.h"

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

using namespace skim;
using namespace skim::test;

static float scaleOf(int64_t token) { return static_cast<float>(token % 3 + 1); }

TestPackage::TestPackage(const std::string &code) {
  std::string pattern = testing::TempDir() + "skim-package-XXXXXX";
  if (::mkdtemp(pattern.data()))
    folder = pattern;
  std::filesystem::create_directories(folder + "/targets/test");
  std::filesystem::copy_file(std::string(TEST_MODELS) + "/" + code + ".so", folder + "/targets/test/model.so");

  std::vector<float> scale;
  for (int64_t token = 0; token < vocabulary; ++token)
    scale.push_back(scaleOf(token));
  int32_t offset = 1;
  std::string weights = folder + "/weights.safetensors";
  Expected<SafetensorsWriter> writer =
      SafetensorsWriter::create(weights, {{"offset", DType::I32, {1}}, {"model.scale", DType::F32, {vocabulary}}}, {});
  EXPECT_TRUE(bool(writer)) << writer.message();
  EXPECT_FALSE(writer->write(0, std::span(reinterpret_cast<const uint8_t *>(&offset), sizeof offset)));
  EXPECT_FALSE(
      writer->write(1, std::span(reinterpret_cast<const uint8_t *>(scale.data()), scale.size() * sizeof(float))));
  EXPECT_FALSE(writer->finish());

  manifest = {{"version", 1},
              {"skim", "0.1.0"},
              {"model", {{"name", "test"}, {"hash", "0"}, {"file", "test.onnx"}}},
              {"tokenizer", nullptr},
              {"end_tokens", {2}},
              {"begin_token", 1},
              {"files", {{"weights.safetensors", {{"bytes", std::filesystem::file_size(weights)}}}}}};
  program() = {{"abi", 1},
               {"target", "cpu:test"},
               {"code", "targets/test/model.so"},
               {"code_sha256", *sha256OfFile(folder + "/targets/test/model.so")},
               {"weights_file", "weights.safetensors"},
               {"weights", {"model.scale", "offset"}},
               {"weight_bytes", {vocabulary * 4, 4}},
               {"caches", Json::array({{{"heads", 2}, {"dim", 4}, {"bytes_per_element", 4}},
                                       {{"heads", 1}, {"dim", 3}, {"bytes_per_element", 2}}})},
               {"vocabulary", vocabulary},
               {"context", 100},
               {"max_rows", 16},
               {"scratch", {{"fixed", 64}, {"per_row", 8}, {"per_thread", 64}}},
               {"sample_scratch", 4096},
               {"cpu_features", Json::array()}};
  save();
}

TestPackage::~TestPackage() { std::filesystem::remove_all(folder); }

void TestPackage::save() {
  for (auto &[name, entry] : manifest["targets"].items()) {
    entry.erase("sha256");
    entry["sha256"] = sha256(dumpJson(entry));
  }
  write("manifest.json", dumpJson(manifest, 1));
}

void TestPackage::write(const std::string &name, const std::string &contents) const {
  // A new file: file systems flush one that is cut to nothing and written again.
  std::filesystem::remove(folder + "/" + name);
  std::ofstream(folder + "/" + name, std::ios::binary) << contents;
}

std::string TestPackage::read(const std::string &name) const {
  std::ostringstream out;
  out << std::ifstream(folder + "/" + name, std::ios::binary).rdbuf();
  return out.str();
}

std::vector<float> skim::test::expectedLogits(const std::vector<int32_t> &tokens) {
  int64_t sum = 0;
  for (size_t i = 0; i < tokens.size(); ++i)
    sum += (tokens[i] + 1) * static_cast<int64_t>(i + 1) * static_cast<int64_t>(scaleOf(tokens[i]));
  std::vector<float> logits;
  for (int64_t v = 0; v < vocabulary; ++v)
    logits.push_back(static_cast<float>((sum + v * v) % 251));
  return logits;
}
