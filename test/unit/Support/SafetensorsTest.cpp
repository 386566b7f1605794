#include "skim/Support/Safetensors.h"
#include "TemporaryFolder.h"
#include "skim/Support/Threads.h"

#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <sys/resource.h>

using namespace skim;

namespace {

std::vector<uint8_t> pattern(size_t count, unsigned seed) {
  std::vector<uint8_t> out(count);
  for (size_t i = 0; i < count; ++i)
    out[i] = static_cast<uint8_t>(i * 7 + seed * 31 + (i >> 8));
  return out;
}

std::string withHeader(const std::string &header, const std::string &data) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i)
    out[i] = static_cast<char>(uint64_t(header.size()) >> (8 * i));
  return out + header + data;
}

std::string failureOf(const std::string &contents) {
  TemporaryFolder folder;
  Expected<SafetensorsFile> file = SafetensorsFile::open(folder.write("x.safetensors", contents));
  return file ? std::string("opened") : file.message();
}

#define EXPECT_HAS(TEXT, PART) EXPECT_NE((TEXT).find(PART), std::string::npos) << (TEXT)

} // namespace

TEST(Safetensors, RoundTrip) {
  TemporaryFolder folder;
  std::vector<TensorSpec> specs = {{"codes", DType::U8, {3, 5}},   {"scalar", DType::F32, {}},
                                   {"empty", DType::F16, {0, 7}},  {"scales \"q\"\n", DType::F16, {33}},
                                   {"longs", DType::I64, {2, 2}},  {"flags", DType::BOOL, {1}},
                                   {"opaque", DType::F8_E4M3, {9}}};
  std::string path = folder / "w.safetensors";
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(path, specs, {{"a", "1"}, {"b", "\"x\""}});
  ASSERT_TRUE(writer) << writer.message();
  // Out of order and in pieces.
  for (size_t i = specs.size(); i-- > 0;) {
    std::vector<uint8_t> data = pattern(writer->layout()[i].bytes, i);
    size_t half = data.size() / 2;
    ASSERT_FALSE(writer->write(i, half, std::span(data).subspan(half)));
    ASSERT_FALSE(writer->write(i, 0, std::span(data).first(half)));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  Error finished = writer->finish();
  ASSERT_FALSE(finished) << finished.message();
  EXPECT_EQ(folder.entries(), 1u);

  Expected<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.message();
  ASSERT_EQ(file->tensors().size(), specs.size());
  EXPECT_EQ(file->metadata().at("b"), "\"x\"");
  EXPECT_EQ(std::filesystem::file_size(path), writer->fileBytes());
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorInfo *info = file->find(specs[i].name);
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(info->type, specs[i].type);
    EXPECT_EQ(info->shape, specs[i].shape);
    EXPECT_EQ(info->offset % 64, 0u);
    EXPECT_EQ(info->offset, writer->layout()[i].offset);
    std::vector<uint8_t> data = pattern(info->bytes, i);
    EXPECT_TRUE(std::equal(data.begin(), data.end(), file->bytes(*info).begin()));
  }
  EXPECT_TRUE(file->as<int64_t>(*file->find("longs")));
  EXPECT_HAS(file->as<int32_t>(*file->find("longs")).message(), "got I64");
  EXPECT_HAS(file->get("nothing").message(), "missing tensor");
}

TEST(Safetensors, PlainLayoutHasOnlyTheTensors) {
  TemporaryFolder folder;
  std::vector<uint8_t> data = pattern(12, 1);
  std::string path = folder / "logits.safetensors";
  ASSERT_FALSE(writeSafetensors(path, {{{"0", DType::F32, {1, 3}}, data}, {{"1", DType::F32, {3, 1}}, data}}));
  EXPECT_EQ(slurp(path).find("__padding__"), std::string::npos);
  Expected<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->tensors().size(), 2u);
}

TEST(Safetensors, UnfinishedLeavesNothing) {
  TemporaryFolder folder;
  {
    Expected<SafetensorsWriter> writer = SafetensorsWriter::create(folder / "w", {{"a", DType::U8, {100}}});
    ASSERT_TRUE(writer);
    EXPECT_HAS(writer->finish().message(), "not written completely");
    EXPECT_TRUE(writer->write(0, 99, pattern(2, 0)));
    EXPECT_TRUE(writer->write(0, pattern(99, 0)));
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(Safetensors, Resume) {
  TemporaryFolder folder;
  std::vector<TensorSpec> specs = {{"a", DType::U8, {100}}, {"b", DType::U8, {100}}};
  SafetensorsWriter::Options options;
  options.resumable = true;
  {
    Expected<SafetensorsWriter> writer = SafetensorsWriter::create(folder / "w", specs, {}, options);
    ASSERT_TRUE(writer);
    ASSERT_FALSE(writer->write(0, pattern(100, 0)));
  }
  EXPECT_EQ(folder.entries(), 1u);
  options.resume = true;
  {
    // Other metadata: nothing of the old file counts.
    TemporaryFolder copy;
    std::filesystem::copy(folder.path, copy.path, std::filesystem::copy_options::recursive);
    Expected<SafetensorsWriter> other = SafetensorsWriter::create(copy / "w", specs, {{"k", "v"}}, options);
    ASSERT_TRUE(other);
    EXPECT_FALSE(other->resumed());
  }
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(folder / "w", specs, {}, options);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(writer->resumed());
  writer->adopt(0);
  ASSERT_FALSE(writer->write(1, pattern(100, 1)));
  ASSERT_FALSE(writer->finish());
  Expected<SafetensorsFile> file = SafetensorsFile::open(folder / "w");
  ASSERT_TRUE(file);
  std::vector<uint8_t> data = pattern(100, 0);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), file->bytes(*file->find("a")).begin()));
}

TEST(Safetensors, RefusesBadSpecs) {
  TemporaryFolder folder;
  EXPECT_HAS(SafetensorsWriter::create(folder / "w", {{"a", DType::U8, {1}}, {"a", DType::U8, {1}}}).message(),
             "invalid tensor name");
  EXPECT_HAS(SafetensorsWriter::create(folder / "w", {{"__metadata__", DType::U8, {1}}}).message(),
             "invalid tensor name");
  EXPECT_HAS(SafetensorsWriter::create(folder / "w", {{"a", DType::F32, {int64_t(1) << 62}}}).message(), "too large");
  EXPECT_HAS(SafetensorsWriter::create(folder / "none"
                                                "/w",
                                       {{"a", DType::F32, {1}}})
                 .message(),
             "No such file");
}

TEST(Safetensors, FullDisk) {
  TemporaryFolder folder;
  EXPECT_HAS(SafetensorsWriter::create("/dev/full", {{"a", DType::F32, {1}}}).message(), "No space left");
  // A limit on file sizes acts like a full disk at some byte.
  ignoreFileSizeSignal();
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = 4096;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::string message = SafetensorsWriter::create(folder / "w", {{"a", DType::F32, {5000}}}).message();
  std::string plain = writeFileAtomically(folder / "p", std::string(10000, 'x')).message();
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_HAS(message, "cannot write");
  EXPECT_HAS(plain, "File too large");
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(Safetensors, HostileHeaders) {
  std::string good = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  EXPECT_EQ(failureOf(withHeader(good, "abcd")), "opened");
  EXPECT_HAS(failureOf(""), "at least 8 bytes");
  EXPECT_HAS(failureOf("1234567"), "at least 8 bytes");
  EXPECT_HAS(failureOf(std::string(8, '\xff')), "header of at most 0 bytes");
  EXPECT_HAS(failureOf(withHeader("{", "")), "malformed JSON");
  EXPECT_HAS(failureOf(withHeader("[]", "")), "expected an object");
  EXPECT_HAS(failureOf(withHeader(std::string(200000, '['), "")), "nested too deeply");
  EXPECT_HAS(failureOf(withHeader(good + "x", "abcd")), "malformed JSON");
  EXPECT_HAS(failureOf(withHeader(good, "abc")), "out of range");
  EXPECT_HAS(failureOf(withHeader(good, "abcde")), "after the last tensor");
  auto entry = [](const std::string &type, const std::string &shape, const std::string &offsets) {
    return failureOf(withHeader(
        "{\"a\":{\"dtype\":\"" + type + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}", "abcd"));
  };
  EXPECT_HAS(entry("F4", "[4]", "[0,4]"), "element type");
  EXPECT_HAS(entry("U8", "[5]", "[0,4]"), "expected 5 bytes, got 4");
  EXPECT_HAS(entry("U8", "[-4]", "[0,4]"), "at least 0");
  EXPECT_HAS(entry("U8", "[4.0]", "[0,4]"), "an integer");
  EXPECT_HAS(entry("U8", "4", "[0,4]"), "an array");
  EXPECT_HAS(entry("U8", "[4]", "[4,0]"), "out of range");
  EXPECT_HAS(entry("U8", "[4]", "[0,4,4]"), "a begin and an end");
  EXPECT_HAS(entry("U8", "[3]", "[1,4]"), "hole before");
  EXPECT_HAS(entry("U8", "[4]", "[0,18446744073709551615]"), "an integer");
  EXPECT_HAS(entry("F64", "[4611686018427387904,4611686018427387904]", "[0,4]"), "fewer than 2^63");
  EXPECT_HAS(entry("F64", "[4611686018427387904,4611686018427387904,0]", "[0,0]"), "fewer than 2^63");
  EXPECT_HAS(failureOf(withHeader(R"({"a":{"dtype":"U8","shape":[4]}})", "abcd")), "a member 'data_offsets'");
  EXPECT_HAS(failureOf(withHeader(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                                  R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                                  "abcd")),
             "overlap");
  EXPECT_HAS(failureOf(withHeader(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                                  R"("a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                                  "abcd")),
             "duplicate key");
  EXPECT_HAS(failureOf(withHeader(R"({"__metadata__":{"a":1}})", "")), "/__metadata__/a: expected a string, got 1");
}

// Any damage gives an error or a file whose entries are still sound; never a crash.
TEST(Safetensors, Mutations) {
  TemporaryFolder folder;
  std::vector<uint8_t> data = pattern(24, 1);
  std::string path = folder / "w";
  ASSERT_FALSE(writeSafetensors(
      path, {{{"a", DType::F32, {2, 3}}, data}, {{"b.c", DType::I64, {3}}, data}, {{"d", DType::F16, {12}}, data}},
      {{"version", "1"}}));
  std::string original = slurp(path);
  std::mt19937 random(1);
  size_t opened = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = original;
    switch (random() % 4) {
    case 0:
      damaged.resize(random() % damaged.size());
      break;
    case 1:
      damaged.insert(random() % damaged.size(), 1 + random() % 5, static_cast<char>(random()));
      break;
    default:
      for (unsigned flips = 1 + random() % 3; flips; --flips)
        damaged[random() % damaged.size()] ^= static_cast<char>(1 << (random() % 8));
    }
    Expected<SafetensorsFile> file = SafetensorsFile::open(folder.write("damaged", damaged));
    if (!file) {
      EXPECT_FALSE(file.message().empty());
      EXPECT_EQ(file.message().find('\n'), std::string::npos);
      continue;
    }
    ++opened;
    uint64_t sum = 0;
    for (const TensorInfo &info : file->tensors())
      for (uint8_t byte : file->bytes(info))
        sum += byte;
    EXPECT_GT(sum, 0u);
  }
  EXPECT_GT(opened, 0u); // flips in the data do no harm
}

TEST(Safetensors, ParallelWrites) {
  TemporaryFolder folder;
  Expected<SafetensorsWriter> writer = SafetensorsWriter::create(folder / "w", {{"a", DType::U8, {100000}}});
  ASSERT_TRUE(writer);
  std::vector<uint8_t> data = pattern(100000, 3);
  Error error = parallelForWithErrors(data.size(), 777, 4, [&](size_t begin, size_t end, unsigned) {
    return writer->write(0, begin, std::span(data).subspan(begin, end - begin));
  });
  ASSERT_FALSE(error);
  ASSERT_FALSE(writer->finish());
  Expected<SafetensorsFile> file = SafetensorsFile::open(folder / "w");
  ASSERT_TRUE(file);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), file->bytes(*file->find("a")).begin()));
}
