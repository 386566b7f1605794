// Statistics files: written, read, damaged, merged.
#include "skim/Quantize/Statistics.h"

#include "skim/Support/Float16.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <random>
#include <unistd.h>

using namespace skim;

#define EXPECT_HAS(TEXT, PART) EXPECT_NE((TEXT).find(PART), std::string::npos) << (TEXT)

namespace {

class StatisticsTest : public ::testing::Test {
protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("skim-statistics-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::string path(const std::string &name) const { return folder / name; }

  std::vector<float> numbers(int64_t count, float scale = 1) {
    std::uniform_real_distribution<float> uniform(0, scale);
    std::vector<float> out(count);
    for (float &value : out)
      value = uniform(random);
    return out;
  }

  /// Two layers on one input, with gradients unless `groups` is 0; returns the squared gradients of "a".
  std::vector<float> write(const std::string &name, const std::string &text, int groups = 1) {
    StatisticsFacts facts;
    facts.modelHash = "model";
    facts.textHash = text;
    facts.tokens = 10;
    facts.sequences = 2;
    facts.gradients = groups > 0;
    facts.groups = std::max(1, groups);
    std::vector<StatisticsLayer> layers = {{"a", "a", 3, 5, true, true, /*outputMoment=*/true}, {"b", "a", 2, 5}};
    Expected<StatisticsWriter> writer = StatisticsWriter::create(path(name), layers, facts);
    EXPECT_TRUE(writer) << writer.message();
    std::vector<float> second = numbers(15), guided = numbers(15 * groups), first = numbers(5), most = numbers(5);
    EXPECT_FALSE(writer->writeInput(0, second, first, most));
    std::vector<float> gradients = numbers(15, 1e-9f);
    if (groups > 0) {
      EXPECT_FALSE(writer->writeGuided(0, guided));
      EXPECT_FALSE(writer->writeGuided(1, guided));
      EXPECT_FALSE(writer->writeSquaredGradients(0, 0, std::span(gradients).first(10)));
      EXPECT_FALSE(writer->writeSquaredGradients(0, 2, std::span(gradients).subspan(10)));
      EXPECT_FALSE(writer->writeSquaredGradients(1, 0, std::vector<float>(10)));
      EXPECT_FALSE(writer->writeOutputGradients(0, numbers(3)));
      EXPECT_FALSE(writer->writeOutputGradients(1, numbers(2)));
      EXPECT_FALSE(writer->writeOutputMoment(0, numbers(6)));
    }
    EXPECT_FALSE(writer->finish());
    return gradients;
  }

  std::mt19937 random{7};
  std::filesystem::path folder;
};

/// Writes a file of a plain layer "a" whose tensors `change` may spoil.
std::string spoilt(const std::string &path,
                   const std::function<void(std::vector<TensorSpec> &, std::map<std::string, std::string> &)> &change) {
  std::vector<TensorSpec> specs = {{"a.input_second_moment", DType::F32, {3}},
                                   {"a.input_first_moment", DType::F32, {2}},
                                   {"a.input_abs_max", DType::F32, {2}}};
  std::map<std::string, std::string> metadata = {{"format", "skim-statistics"},
                                                 {"version", "1"},
                                                 {"model_hash", "m"},
                                                 {"text_hash", "t"},
                                                 {"options", "{}"},
                                                 {"tokens", "4"},
                                                 {"sequences", "1"},
                                                 {"reads", R"({"a":"a"})"}};
  change(specs, metadata);
  std::vector<uint8_t> zeros(1024);
  std::vector<NamedTensor> tensors;
  for (const TensorSpec &spec : specs)
    tensors.push_back({spec, std::span<const uint8_t>(zeros).first(*tensorBytes(spec.type, spec.shape))});
  EXPECT_FALSE(writeSafetensors(path, tensors, metadata));
  Expected<Statistics> statistics = Statistics::open(path);
  EXPECT_EQ(statistics.message().find('\n'), std::string::npos);
  return statistics.message();
}

} // namespace

TEST_F(StatisticsTest, TheHeadHasNoGradientsOfWeights) {
  for (const char *name : {"one", "two"}) {
    StatisticsFacts facts;
    facts.modelHash = "model";
    facts.textHash = name;
    facts.tokens = 10;
    facts.sequences = 2;
    Expected<StatisticsWriter> writer = StatisticsWriter::create(path(name), {{"h", "h", 3, 2, true, false}}, facts);
    ASSERT_TRUE(writer) << writer.message();
    const std::vector<float> triangle = {1, 2, 5}, two = {1, 2}, three = {1, 2, 3};
    EXPECT_FALSE(writer->writeInput(0, triangle, two, two));
    EXPECT_FALSE(writer->writeGuided(0, triangle));
    EXPECT_FALSE(writer->writeOutputGradients(0, three));
    EXPECT_FALSE(writer->finish());
  }
  ASSERT_FALSE(mergeStatistics({path("one"), path("two")}, path("both")));
  Expected<Statistics> file = Statistics::open(path("both"));
  ASSERT_TRUE(file) << file.message();
  const LayerStatistics *head = file->find("h");
  ASSERT_TRUE(head);
  EXPECT_EQ(head->rows, 3);
  EXPECT_TRUE(head->squaredGradient.empty());
  ASSERT_EQ(head->outputSquaredGradient.size(), 3u);
  EXPECT_EQ(head->outputSquaredGradient[2], 6);
  EXPECT_EQ(head->guidedMoment[1], 4);
}

TEST_F(StatisticsTest, RoundTrip) {
  for (int groups : {0, 1, 4}) {
    std::vector<float> gradients = write("s", "text", groups);
    Expected<Statistics> file = Statistics::open(path("s"));
    ASSERT_TRUE(file) << file.message();
    EXPECT_EQ(file->tokens(), 10u);
    EXPECT_EQ(file->sequences(), 2u);
    EXPECT_EQ(file->hasGradients(), groups > 0);
    const LayerStatistics *a = file->find("a"), *b = file->find("b");
    ASSERT_TRUE(a && b);
    EXPECT_EQ(b->input, "a");
    EXPECT_EQ(a->secondMoment.data(), b->secondMoment.data());
    EXPECT_EQ(a->columns, 5);
    EXPECT_EQ(a->guidedMoment.size(), 15u * groups);
    EXPECT_EQ(a->outputMoment.size(), groups > 0 ? 6u : 0u);
    EXPECT_TRUE(b->outputMoment.empty());
    EXPECT_EQ(file->find("c"), nullptr);
    EXPECT_TRUE(file->get("a", 3, 5));
    EXPECT_HAS(file->get("a", 3, 6).message(), "statistics of another shape");
    EXPECT_HAS(file->get("c", 3, 5).message(), "lack a layer");
    EXPECT_FALSE(file->checkModel("model"));
    EXPECT_HAS(file->checkModel("other").message(), "statistics of another model");
    if (groups == 0)
      continue;
    EXPECT_EQ(a->groups, groups);
    ASSERT_EQ(a->rows, 3);
    for (int64_t i = 0; i < 3; ++i) {
      float row[5];
      a->squaredGradientRow(i, row);
      for (int64_t j = 0; j < 5; ++j) {
        EXPECT_EQ(row[j], gradients[i * 5 + j]);
        float half = bf16ToF32(a->squaredGradient[i * 5 + j]) * a->squaredGradientScale[i];
        EXPECT_LE(std::fabs(half - gradients[i * 5 + j]), gradients[i * 5 + j] / 256);
      }
    }
  }
}

TEST_F(StatisticsTest, Triangle) {
  std::vector<float> packed = {1, 2, 3, 4, 5, 6}, full(9);
  unpackTriangle(packed, 3, full.data());
  EXPECT_EQ(full, (std::vector<float>{1, 2, 3, 2, 4, 5, 3, 5, 6}));
  EXPECT_EQ(triangleIndex(3, 1, 2), 4);
}

TEST_F(StatisticsTest, DamagedFiles) {
  using Specs = std::vector<TensorSpec>;
  using Metadata = std::map<std::string, std::string>;
  EXPECT_EQ(spoilt(path("d"), [](Specs &, Metadata &) {}), "");
  EXPECT_HAS(spoilt(path("d"), [](Specs &, Metadata &m) { m.erase("format"); }), "not a statistics file");
  EXPECT_HAS(spoilt(path("d"), [](Specs &, Metadata &m) { m["version"] = "2"; }), "another version");
  EXPECT_HAS(spoilt(path("d"), [](Specs &, Metadata &m) { m["tokens"] = "-4"; }), "a number");
  EXPECT_HAS(spoilt(path("d"), [](Specs &, Metadata &m) { m["reads"] = "{"; }), "malformed JSON");
  EXPECT_HAS(spoilt(path("d"), [](Specs &, Metadata &m) { m["reads"] = "{}"; }), "empty statistics");
  EXPECT_HAS(spoilt(path("d"), [](Specs &, Metadata &m) { m["reads"] = R"({"a":"b"})"; }), "b.input_abs_max");
  EXPECT_HAS(spoilt(path("d"), [](Specs &s, Metadata &) { s.pop_back(); }), "a.input_abs_max");
  EXPECT_HAS(spoilt(path("d"), [](Specs &s, Metadata &) { s[0].shape = {4}; }), "F32 [3], got F32 [4]");
  EXPECT_HAS(spoilt(path("d"), [](Specs &s, Metadata &) { s[1].type = DType::I32; }), "F32 [2], got I32 [2]");
  EXPECT_HAS(spoilt(path("d"), [](Specs &s, Metadata &) { s.push_back({"a.squared_gradient", DType::BF16, {2, 2}}); }),
             "a.output_squared_gradient");
  auto outputs = [](std::vector<int64_t> shape, DType type, bool energy) {
    return [=](Specs &s, Metadata &) {
      if (energy)
        s.push_back({"a.output_squared_gradient", DType::F32, {3}});
      s.push_back({"a.output_gradient_second_moment", type, shape});
    };
  };
  EXPECT_EQ(spoilt(path("d"), outputs({6}, DType::F32, true)), "");
  EXPECT_HAS(spoilt(path("d"), outputs({9}, DType::F32, true)),
             "(a.output_gradient_second_moment): expected F32 [6], got F32 [9]");
  EXPECT_HAS(spoilt(path("d"), outputs({6}, DType::I32, true)), "expected F32 [6], got I32 [6]");
  EXPECT_HAS(spoilt(path("d"), outputs({6}, DType::F32, false)), "a.output_squared_gradient, got none");
  std::ofstream(path("text")) << "no statistics";
  EXPECT_FALSE(Statistics::open(path("text")));
  EXPECT_FALSE(Statistics::open(path("absent")));
}

TEST_F(StatisticsTest, MergeIsTheSumInAnyOrder) {
  std::vector<float> a = write("a", "t1", 4), b = write("b", "t2", 4);
  ASSERT_EQ(mergeStatistics({path("a"), path("b")}, path("ab")).message(), "");
  ASSERT_EQ(mergeStatistics({path("b"), path("a")}, path("ba")).message(), "");
  auto contents = [&](const char *name) { return *readTextFile(path(name)); };
  EXPECT_EQ(contents("ab"), contents("ba"));
  Expected<Statistics> merged = Statistics::open(path("ab")), first = Statistics::open(path("a")),
                       second = Statistics::open(path("b"));
  ASSERT_TRUE(merged) << merged.message();
  EXPECT_EQ(merged->tokens(), 20u);
  EXPECT_EQ(merged->sequences(), 4u);
  const LayerStatistics *m = merged->find("a"), *x = first->find("a"), *y = second->find("a");
  for (size_t i = 0; i < m->guidedMoment.size(); ++i)
    EXPECT_FLOAT_EQ(m->guidedMoment[i], x->guidedMoment[i] + y->guidedMoment[i]);
  ASSERT_EQ(m->outputMoment.size(), 6u);
  for (size_t i = 0; i < m->outputMoment.size(); ++i)
    EXPECT_FLOAT_EQ(m->outputMoment[i], x->outputMoment[i] + y->outputMoment[i]);
  EXPECT_TRUE(merged->find("b")->outputMoment.empty());
  for (size_t i = 0; i < m->absMax.size(); ++i)
    EXPECT_EQ(m->absMax[i], std::max(x->absMax[i], y->absMax[i]));
  float row[5];
  m->squaredGradientRow(1, row);
  for (int64_t j = 0; j < 5; ++j)
    EXPECT_NEAR(row[j], a[5 + j] + b[5 + j], 1e-6 * (a[5 + j] + b[5 + j]));

  write("plain", "t3", 0);
  EXPECT_HAS(mergeStatistics({path("a"), path("plain")}, path("x")).message(), "other options");
  EXPECT_HAS(mergeStatistics({path("a"), path("a")}, path("x")).message(), "the same text twice");
  EXPECT_HAS(mergeStatistics({}, path("x")).message(), "nothing to merge");
  EXPECT_FALSE(std::filesystem::exists(path("x")));
}
