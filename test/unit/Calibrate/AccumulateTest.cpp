#include "Accumulate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

using namespace skim;

namespace {
/// Two layers on one input of 3 channels.
class Accumulate : public testing::Test {
protected:
  Accumulate() {
    Expected<PartSums> created = PartSums::create(testing::TempDir() + "/sums", layers, {{0, 3}}, 1, GradientSums::All);
    EXPECT_TRUE(bool(created)) << created.takeError().message();
    sums.emplace(std::move(*created));
    sums->prepare(one, 2);
    for (std::vector<float> *values : {&one.x[0], &one.dz[0], &one.dz[1]})
      for (size_t i = 0; i < values->size(); ++i)
        (*values)[i] = 0.25f * float(i + 1);
  }
  std::string message() { return sums->derive(one).message(); }

  const std::vector<PartLayer> layers = {{"blocks.0.up", 4, 3, 0, 0}, {"blocks.0.gate", 2, 3, 0, 1}};
  std::optional<PartSums> sums;
  SequenceObservation one;
};

TEST_F(Accumulate, EnergyOfOutputsAndTokens) {
  ASSERT_EQ(message(), "");
  // gate's dz: 0.25, 0.5 | 0.75, 1.
  EXPECT_EQ(one.outputSquares[1], (std::vector<double>{0.0625 + 0.5625, 0.25 + 1}));
  EXPECT_EQ(one.sensitivity[1], (std::vector<float>{0.15625f, 0.78125f}));
  EXPECT_EQ(one.firstMoment[0], (std::vector<double>{1.25, 1.75, 2.25}));
}

TEST_F(Accumulate, GradientThatIsNoNumberNamesItsLayer) {
  one.dz[1][3] = std::nanf("");
  EXPECT_EQ(message(), "a gradient is no number at blocks.0.gate: expected finite gradients, got nan");
}

TEST_F(Accumulate, GradientWhoseSquareNoMomentHoldsNamesItsLayer) {
  one.dz[0][5] = -1e20f;
  EXPECT_TRUE(message().starts_with("a gradient is no number at blocks.0.up: expected finite gradients, got 1"))
      << message();
}

TEST_F(Accumulate, ActivationThatIsNoNumberNamesTheFirstLayerThatReadsIt) {
  one.x[0][4] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(message(), "an activation is no number at blocks.0.up: expected finite inputs, got -inf");
}

} // namespace
