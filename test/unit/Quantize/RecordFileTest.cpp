#include "skim/Quantize/RecordFile.h"
#include "Layer.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace skim;

namespace {

class RecordFileTest : public ::testing::Test {
protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("skim-record-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder);
    path = (folder / "record.safetensors").string();
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
  std::string path;
};

TEST_F(RecordFileTest, HoldsWhatWasRecorded) {
  const TestLayer first(10, 40), second(6, 33, 2);
  RecordOptions options;
  const std::map<std::string, std::string> hashes = {{"model_hash", "a"}, {"statistics_hash", "b"}};
  auto one = recordLayer("one", first.view(), first.sensitivity(), options);
  auto two = recordLayer("two", second.view(), second.sensitivity(), options);
  ASSERT_TRUE(one && two);
  {
    auto writer = RecordWriter::create(path, {{"one", 10, 40}, {"two", 6, 33}}, options, hashes);
    ASSERT_TRUE(writer) << writer.message();
    ASSERT_FALSE(writer->add("two", *two));
    EXPECT_TRUE(writer->finish()); // a layer is missing
    EXPECT_TRUE(writer->add("three", *two));
    ASSERT_FALSE(writer->add("one", *one));
    EXPECT_FALSE(std::filesystem::exists(path));
    Error error = writer->finish();
    ASSERT_FALSE(error) << error.message();
  }
  auto file = RecordFile::open(path, options, hashes);
  ASSERT_TRUE(file) << file.message();
  auto errors = file->errors("one", 40);
  ASSERT_TRUE(errors) << errors.message();
  EXPECT_EQ(errors->errors, one->errors);
  EXPECT_TRUE(errors->codes.empty());
  auto loaded = file->load("two", 33);
  ASSERT_TRUE(loaded) << loaded.message();
  EXPECT_EQ(loaded->columns, 33);
  const std::vector<uint8_t> bits = {1, 2, 3, 4, 5, 3};
  auto fromFile = finishLayer("two", *loaded, bits, second.view(), second.sensitivity());
  auto direct = finishLayer("two", *two, bits, second.view(), second.sensitivity());
  ASSERT_TRUE(fromFile && direct);
  for (size_t part = 0; part < direct->parts.size(); ++part)
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(fromFile->parts[part].matrix.components[i].bytes, direct->parts[part].matrix.components[i].bytes);
  EXPECT_NE(file->load("two", 34).message().find("record does not fit the layer"), std::string::npos);
  EXPECT_FALSE(file->load("three", 33));
}

TEST_F(RecordFileTest, OfSomethingElseIsAnError) {
  const TestLayer layer(4, 20);
  RecordOptions options;
  auto record = recordLayer("one", layer.view(), layer.sensitivity(), options);
  ASSERT_TRUE(record);
  auto writer = RecordWriter::create(path, {{"one", 4, 20}}, options, {{"model_hash", "a"}});
  ASSERT_TRUE(writer && !writer->add("one", *record) && !writer->finish());
  EXPECT_NE(RecordFile::open(path, options, {{"model_hash", "b"}}).message().find("model_hash: expected b, got a"),
            std::string::npos);
  RecordOptions other = options;
  other.threads = 7; // decides nothing
  EXPECT_TRUE(RecordFile::open(path, other, {{"model_hash", "a"}}));
  other.rounds = 9;
  EXPECT_NE(RecordFile::open(path, other, {{"model_hash", "a"}}).message().find("options"), std::string::npos);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_FALSE(RecordFile::open(path, options, {{"model_hash", "a"}}));
}

} // namespace
