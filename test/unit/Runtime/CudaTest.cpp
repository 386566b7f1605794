// What runs on which device; the rest needs a driver (test/Integration/GPU/cuda.test has a false one).
#include "skim/Runtime/Cuda.h"

#include <gtest/gtest.h>

using namespace skim;
using namespace skim::cuda;

TEST(Cuda, Chips) {
  EXPECT_TRUE(parseChip("sm_80")->runsOn(80));
  EXPECT_TRUE(parseChip("sm_80")->runsOn(120));
  EXPECT_FALSE(parseChip("sm_86")->runsOn(80));
  EXPECT_TRUE(parseChip("sm_90a")->runsOn(90));
  EXPECT_FALSE(parseChip("sm_90a")->runsOn(100));
  for (const char *text : {"", "sm_", "sm_x", "90", "sm_90b", "sm_90aa", "sm_-1"})
    EXPECT_FALSE(parseChip(text)) << text;
}

TEST(Cuda, BestTarget) {
  std::vector<std::string> targets = {"cpu",          "nvidia-sim:sm_80", "nvidia:sm_90a",
                                      "nvidia:sm_80", "nvidia:sm_90",     "nvidia:zork"};
  EXPECT_EQ(bestTarget(targets, 75), "");
  EXPECT_EQ(bestTarget(targets, 80), "nvidia:sm_80");
  EXPECT_EQ(bestTarget(targets, 89), "nvidia:sm_80");
  EXPECT_EQ(bestTarget(targets, 90), "nvidia:sm_90a");
  EXPECT_EQ(bestTarget(targets, 120), "nvidia:sm_90");
}

TEST(Cuda, DriverForPtx) {
  EXPECT_EQ(driverForPtx("//\n.version 7.0\n.target sm_80\n"), 11000);
  EXPECT_EQ(driverForPtx(".version 7.8"), 11080);
  EXPECT_EQ(driverForPtx(".version 8.0"), 12000);
  EXPECT_EQ(driverForPtx(".version 8.5"), 12050);
  EXPECT_EQ(driverForPtx(".version 8.6"), 12070);
  EXPECT_EQ(driverForPtx(".version 8.7"), 12080);
  EXPECT_EQ(driverForPtx(".version 9.0"), 13000);
  for (const char *text : {"", ".version", ".version x", ".version 7", ".version 6.5"})
    EXPECT_FALSE(driverForPtx(text)) << text;
  EXPECT_EQ(spellVersion(12080), "CUDA 12.8");
}

TEST(Cuda, LaunchList) {
  auto parse = [](const std::string &sampling) {
    return LaunchList::parse("{\"version\": 1, \"scratch\": 0, \"variants\": [{\"rows\": 8, \"launches\": []}], "
                             "\"sampling\": " +
                                 sampling + "}",
                             0, [](const std::string &name) { return name == "k"; });
  };
  Expected<LaunchList> list = parse("[{\"kernel\": \"k\", \"grid\": [0, 1, 1], \"threads\": 32, \"shared\": 4096, "
                                    "\"wanted\": true, \"arguments\": [[\"sampling\", 0, 0], [\"number\", -3, 0]]}]");
  ASSERT_TRUE(bool(list)) << list.message();
  ASSERT_EQ(list->sampling.size(), 1u);
  const LaunchList::Launch &launch = list->sampling.front();
  EXPECT_EQ(launch.shared, 4096u);
  LaunchValues values;
  values.rows = values.length = 6;
  values.at(LaunchList::Source::Sampling) = 256;
  EXPECT_EQ(values.grid(launch)[0], 0u) << "nobody wants rows";
  values.wantedRows = 2;
  EXPECT_EQ(values.grid(launch)[0], 2u);
  EXPECT_EQ(values.of(launch.arguments[0]), 256u);
  EXPECT_EQ(static_cast<int32_t>(values.of(launch.arguments[1])), -3);

  // Blocks of several rows: of all, and of each sequence; and launches of some lengths.
  Expected<LaunchList> other = parse("[{\"kernel\": \"k\", \"grid\": [3, -16, 2], \"threads\": 32, \"arguments\": []}, "
                                     "{\"kernel\": \"k\", \"grid\": [-8, 5, 1], \"threads\": 32, \"arguments\": [], "
                                     "\"lengths\": [9, 20]}]");
  ASSERT_TRUE(bool(other)) << other.message();
  using Grid = std::array<uint32_t, 3>;
  values.rows = 40;
  values.length = 10;
  EXPECT_EQ(values.grid(other->sampling[0]), (Grid{3, 3, 2}));
  EXPECT_EQ(values.grid(other->sampling[1]), (Grid{8, 5, 1}));
  values.length = 8;
  EXPECT_EQ(values.grid(other->sampling[1])[0], 0u);
  values.rows = values.length = 21;
  EXPECT_EQ(values.grid(other->sampling[1])[0], 0u);
  for (const char *lengths : {"[0, 1]", "[1]", "7", "[1, -1]"})
    EXPECT_NE(parse("[{\"kernel\": \"k\", \"grid\": [1, 1, 1], \"threads\": 32, \"arguments\": [], \"lengths\": " +
                    std::string(lengths) + "}]")
                  .message(),
              "")
        << lengths;
  EXPECT_EQ(list->choose(9).message(), "too many rows in a step: expected 8, got 9");
  EXPECT_NE(parse("7").message(), "");
  EXPECT_NE(parse("[{\"kernel\": \"other\", \"grid\": [0, 1, 1], \"threads\": 32, \"arguments\": []}]").message(), "");
  EXPECT_NE(parse("[{\"kernel\": \"k\", \"grid\": [0, 70000, 1], \"threads\": 32, \"arguments\": []}]").message(), "");
}
