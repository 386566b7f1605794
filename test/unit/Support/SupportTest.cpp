#include "TemporaryFolder.h"
#include "skim/Support/AtomicOutput.h"
#include "skim/Support/ByteSize.h"
#include "skim/Support/Float16.h"
#include "skim/Support/Json.h"
#include "skim/Support/MappedFile.h"
#include "skim/Support/Resources.h"
#include "skim/Support/Sha256.h"
#include "skim/Support/Threads.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <sys/stat.h>

using namespace skim;

#define EXPECT_HAS(TEXT, PART) EXPECT_NE((TEXT).find(PART), std::string::npos) << (TEXT)

TEST(Error, OneLine) { EXPECT_EQ(fail("a", "b\nc", "d", "e", "f").message(), "a at b\\x0ac: expected d, got e (f)"); }

TEST(MappedFile, OpensOnlyRegularFiles) {
  TemporaryFolder folder;
  EXPECT_HAS(MappedFile::open(folder / "none").message(), "No such file");
  EXPECT_HAS(MappedFile::open(folder.path).message(), "a directory");
  EXPECT_HAS(MappedFile::open("/dev/zero").message(), "a special file");
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_HAS(MappedFile::open(folder / "fifo").message(), "a special file");
  auto empty = MappedFile::open(folder.write("empty", ""));
  ASSERT_TRUE(empty);
  EXPECT_TRUE((*empty)->bytes().empty());
}

TEST(MappedFile, SlicesAndRelease) {
  TemporaryFolder folder;
  std::string contents(300000, 'x');
  contents.back() = 'y';
  auto file = MappedFile::open(folder.write("f", contents), MappedFile::Access::Sequential);
  ASSERT_TRUE(file);
  EXPECT_TRUE((*file)->slice(0, 300000, "t"));
  EXPECT_TRUE((*file)->slice(300000, 0, "t"));
  EXPECT_HAS((*file)->slice(300000, 1, "t").message(), "data of t leaves its file");
  EXPECT_FALSE((*file)->slice(UINT64_MAX, 2, "t"));
  EXPECT_FALSE((*file)->slice(2, UINT64_MAX, "t"));
  (*file)->willNeed(5000, UINT64_MAX);
  (*file)->release(0, UINT64_MAX);
  SequentialRelease behind(**file, 0, 4096);
  behind.consumedUpTo(299999);
  EXPECT_EQ((*file)->bytes(), contents);
}

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::string million(1000000, 'a');
  std::string answer = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  EXPECT_EQ(sha256(million), answer);
  Sha256 pieces;
  for (size_t at = 0, step = 1; at < million.size(); at += step, step = step % 200 + 1)
    pieces.update(std::string_view(million).substr(at, step));
  EXPECT_EQ(pieces.hex(), answer);
  TemporaryFolder folder;
  EXPECT_EQ(*sha256OfFile(folder.write("f", million)), answer);
  EXPECT_EQ(*sha256OfFile(folder.write("e", "")), sha256(""));
  EXPECT_FALSE(sha256OfFile(folder / "none"));
}

TEST(Float16, EveryHalf) {
  for (uint32_t h = 0; h < 65536; ++h) {
    uint16_t half = static_cast<uint16_t>(h);
    float value = f16ToF32(half);
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    float expected = exponent == 0    ? std::ldexp(float(mantissa), -24)
                     : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                      : std::ldexp(float(1024 + mantissa), exponent - 25);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(f16ToF32(f32ToF16(value))));
      continue;
    }
    EXPECT_EQ(value, h & 0x8000 ? -expected : expected);
    EXPECT_EQ(f32ToF16(value), half);
    // Halfway to the next larger magnitude: ties go to even; a hair above goes up.
    if (exponent < 30) {
      float next = f16ToF32(static_cast<uint16_t>(half + 1));
      float middle = (value + next) / 2;
      EXPECT_EQ(f32ToF16(middle), h & 1 ? half + 1 : half);
      EXPECT_EQ(f32ToF16(std::nextafter(middle, next)), half + 1);
      EXPECT_EQ(f32ToF16(std::nextafter(middle, value)), half);
    }
  }
  EXPECT_EQ(f32ToF16(65519.996f), 0x7BFF);
  EXPECT_EQ(f32ToF16(65520.0f), 0x7C00);
  EXPECT_EQ(f32ToF16(-1e30f), 0xFC00);
  EXPECT_EQ(f32ToF16(1e-30f), 0);
}

TEST(Float16, EveryBFloat) {
  for (uint32_t h = 0; h < 65536; ++h) {
    float value = bf16ToF32(static_cast<uint16_t>(h));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(roundToBF16(value)));
    else
      EXPECT_EQ(f32ToBF16(value), h);
  }
  EXPECT_EQ(roundToBF16(1.00390625f), 1.0f);      // tie to even
  EXPECT_EQ(roundToBF16(1.01171875f), 1.015625f); // tie to even, upwards
  EXPECT_TRUE(std::isnan(roundToBF16(std::numeric_limits<float>::signaling_NaN())));
}

TEST(Float16, ArraysMatchScalars) {
  std::mt19937 random(3);
  std::vector<float> in(1003), back(1003);
  std::vector<uint16_t> half(1003);
  for (float &value : in)
    value = std::bit_cast<float>(static_cast<uint32_t>(random()));
  convertF32ToF16(in.data(), half.data(), in.size());
  convertF16ToF32(half.data(), back.data(), in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_EQ(half[i], f32ToF16(in[i]));
    EXPECT_EQ(std::bit_cast<uint32_t>(back[i]), std::bit_cast<uint32_t>(f16ToF32(half[i])));
  }
  convertF32ToBF16(in.data(), half.data(), in.size());
  convertBF16ToF32(half.data(), back.data(), in.size());
  for (size_t i = 0; i < in.size(); ++i)
    EXPECT_EQ(half[i], f32ToBF16(in[i]));
}

TEST(ByteSize, Parses) {
  EXPECT_EQ(*parseByteSize("512MiB"), 512u << 20);
  EXPECT_EQ(*parseByteSize("3.9GB"), 3900000000u);
  EXPECT_EQ(*parseByteSize("4000000000"), 4000000000u);
  EXPECT_EQ(*parseByteSize("1.5 KiB"), 1536u);
  EXPECT_EQ(*parseByteSize("0.0001kb"), 0u);
  EXPECT_EQ(*parseByteSize("007b"), 7u);
  EXPECT_EQ(*parseByteSize("18446744073709551615"), UINT64_MAX);
  for (const char *bad : {"", "MiB", "-1", "1e9", "1 MiB x", "18446744073709551616", "99999999TiB", "1.2.3", ".", "3M",
                          "0.00000000000000000000000000000000000000000000001"})
    EXPECT_FALSE(parseByteSize(bad)) << bad;
}

TEST(ByteSize, Prints) {
  EXPECT_EQ(formatByteSize(917), "917 B");
  EXPECT_EQ(formatByteSize(3470787), "3.31 MiB");
  EXPECT_EQ(formatByteSize(uint64_t(1023) << 20), "1.00 GiB");
  EXPECT_EQ(formatByteSize(UINT64_MAX), "16777216 TiB");
}

TEST(Threads, EveryIndexOnce) {
  for (unsigned threads : {1u, 2u, 7u}) {
    std::vector<int> seen(1001);
    parallelFor(seen.size(), 10, threads, [&](size_t begin, size_t end, unsigned worker) {
      EXPECT_LT(worker, threads);
      for (size_t i = begin; i < end; ++i)
        ++seen[i];
    });
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 1001);
  }
  parallelFor(0, 0, 0, [](size_t, size_t, unsigned) { FAIL(); });
}

TEST(Threads, FirstFailureWins) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    Error error = parallelForWithErrors(100, 1, 5, [&](size_t begin, size_t, unsigned) {
      return begin % 10 == 7 ? Error(fail(std::to_string(begin))) : Error::success();
    });
    EXPECT_EQ(error.message(), "7");
  }
}

TEST(Resources, SamplesMemory) {
  AnonymousMemorySampler sampler;
  uint64_t before = sampler.peakBytes();
  {
    std::vector<char> block(64 << 20);
    for (size_t i = 0; i < block.size(); i += 512)
      const_cast<volatile char *>(block.data())[i] = 1;
    EXPECT_GE(sampler.peakBytes(), before + (60 << 20));
  }
  EXPECT_GE(sampler.peakBytes(), before + (60 << 20));
  EXPECT_LT(currentAnonymousBytes(), before + (32 << 20));
}

TEST(Json, ParsesAndRefuses) {
  Expected<Json> json = parseJson(R"({"a":[1,-2,3.5,"x",null,true],"b":{"c/d":7}})", "f");
  ASSERT_TRUE(json) << json.message();
  EXPECT_EQ(dumpJson(*json), R"({"a":[1,-2,3.5,"x",null,true],"b":{"c/d":7}})");
  EXPECT_HAS(parseJson("{\"a\":1,}", "f").message(), "malformed JSON at f byte 8");
  EXPECT_HAS(parseJson("", "f").message(), "malformed JSON");
  EXPECT_HAS(parseJson("\"\xff\"", "f").message(), "malformed JSON");
  EXPECT_HAS(parseJson("1e999", "f").message(), "at f");
  EXPECT_HAS(parseJson(R"({"a":1,"a":2})", "f").message(), "duplicate key");
  EXPECT_HAS(parseJson(std::string(1 << 20, '['), "f").message(), "nested too deeply");
  EXPECT_TRUE(parseJson("[[1]]", "f", 2));
  EXPECT_FALSE(parseJson("[[[1]]]", "f", 2));
  EXPECT_EQ(dumpJson(Json("\xff")), "\"\xef\xbf\xbd\"");
}

TEST(Json, TypedAccess) {
  Json json = *parseJson(R"({"n":7,"big":18446744073709551615,"f":1.5,"s":"x","l":[1,2],"o":{"p/q":null},"t":["a"]})",
                         "f.json");
  JsonCursor root(json, "f.json");
  EXPECT_EQ(*root.integer("n"), 7);
  EXPECT_EQ(*root.number("n"), 7.0);
  EXPECT_EQ(*root.number("f"), 1.5);
  EXPECT_EQ(*root.string("s"), "x");
  EXPECT_EQ(*root.integerOr("absent", 3), 3);
  EXPECT_EQ(*root.stringOr("absent", "d"), "d");
  EXPECT_EQ(*root.booleanOr("absent", true), true);
  EXPECT_EQ(root.member("l")->integers()->size(), 2u);
  EXPECT_EQ(root.member("t")->strings()->front(), "a");
  EXPECT_FALSE(root.member("o")->find("p/q"));
  EXPECT_EQ(root.member("o")->member("p/q")->place(), "f.json /o/p~1q");
  EXPECT_EQ(root.integer("n", 10, 20).message(),
            "invalid value at f.json /n: expected an integer from 10 to 20, got 7");
  EXPECT_FALSE(root.integer("big"));
  EXPECT_FALSE(root.integer("f"));
  EXPECT_HAS(root.integerOr("s", 1).message(), "got \"x\"");
  EXPECT_HAS(root.integer("absent").message(), "a member 'absent'");
  EXPECT_HAS(root.member("l")->integers(2).message(), "f.json /l/0");
  EXPECT_HAS(root.member("l")->string().message(), "an array of 2 elements");
  EXPECT_HAS(root.member("n")->member("x").message(), "expected an object, got 7");
  EXPECT_FALSE(root.boolean("n"));
}

TEST(AtomicFile, AppearsWhole) {
  TemporaryFolder folder;
  std::string path = folder.write("f", "old");
  {
    Expected<AtomicFile> file = AtomicFile::create(path);
    ASSERT_TRUE(file);
    ASSERT_FALSE(file->write("new"));
    EXPECT_EQ(slurp(path), "old");
  }
  EXPECT_EQ(slurp(path), "old");
  EXPECT_EQ(folder.entries(), 1u);
  std::filesystem::create_symlink("f", folder / "link");
  ASSERT_FALSE(writeFileAtomically(folder / "link", "new"));
  EXPECT_EQ(slurp(path), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_HAS(writeFileAtomically(folder.path, "x").message(), "a directory");
  EXPECT_HAS(writeFileAtomically("/dev/full", "x").message(), "No space left");
  EXPECT_FALSE(writeFileAtomically("/dev/null", "x"));
}

TEST(AtomicDirectory, CommitAndReplace) {
  TemporaryFolder folder;
  std::string out = folder / "m.skim";
  auto build = [&](const std::string &text) {
    Expected<AtomicDirectory> directory = AtomicDirectory::create(out + "/");
    if (!directory)
      return directory.takeError();
    if (Error error = directory->makeFolder("targets/cpu"))
      return error;
    if (Error error = writeFileAtomically(directory->file("targets/cpu/model.so"), text))
      return error;
    if (Error error = writeFileAtomically(directory->file("manifest.json"), R"({"version":1,"skim":"0.1.0"})"))
      return error;
    return directory->commit();
  };
  ASSERT_FALSE(build("one"));
  EXPECT_EQ(slurp(out + "/targets/cpu/model.so"), "one");
  Error second = build("two");
  ASSERT_FALSE(second) << second.message();
  EXPECT_EQ(slurp(out + "/targets/cpu/model.so"), "two");
  EXPECT_EQ(folder.entries(), 1u);
  EXPECT_FALSE(std::filesystem::exists(out + "/.lock"));
}

TEST(AtomicDirectory, RefusesForeignOutputs) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "d");
  EXPECT_HAS(AtomicDirectory::create(folder / "d").message(), "without manifest.json");
  folder.write("d/manifest.json", "{}");
  EXPECT_HAS(AtomicDirectory::create(folder / "d").message(), "not ours");
  folder.write("f", "");
  EXPECT_HAS(AtomicDirectory::create(folder / "f").message(), "got a file");
  std::filesystem::create_directory_symlink("d", folder / "l");
  EXPECT_HAS(AtomicDirectory::create(folder / "l").message(), "a symbolic link");
  EXPECT_HAS(AtomicDirectory::create(folder / "none/x").message(), "No such file");
  EXPECT_FALSE(AtomicDirectory::create(""));
  EXPECT_EQ(folder.entries(), 3u);
}

TEST(AtomicDirectory, StaleWork) {
  TemporaryFolder folder;
  std::string out = folder / "m.skim";
  {
    Expected<AtomicDirectory> first = AtomicDirectory::create(out);
    ASSERT_TRUE(first);
    EXPECT_HAS(AtomicDirectory::create(out, /*resume=*/true).message(), "in use");
  }
  EXPECT_EQ(folder.entries(), 0u);
  {
    Expected<AtomicDirectory> kept = AtomicDirectory::create(out);
    ASSERT_TRUE(kept);
    ASSERT_FALSE(writeFileAtomically(kept->file("part"), "1"));
    kept->keepIfUnfinished();
  }
  EXPECT_HAS(AtomicDirectory::create(out).message(), "--resume");
  Expected<AtomicDirectory> resumed = AtomicDirectory::create(out, /*resume=*/true);
  ASSERT_TRUE(resumed);
  EXPECT_TRUE(resumed->resumed());
  EXPECT_EQ(slurp(resumed->file("part")), "1");
  ASSERT_FALSE(resumed->commit());
  EXPECT_TRUE(std::filesystem::exists(out + "/part"));
}
