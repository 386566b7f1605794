//===- GPUEmbedTest.cpp - rows of encoded tables on the device --------------===//

#include "RandomWeights.h"
#include "Step/Kernels.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/SimulatorLibrary.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace mlir;
using namespace skim;

TEST(GPUEmbed, EncodedRows) {
  constexpr int64_t rows = 7, channels = 301;
  const std::vector<int32_t> tokens = {6, 0, 3, 3};
  for (const char *text : {"w8", "w4g32a", "w3g64", "w1a", "w7g128a", "#skim.uniform<bits = 5, group = 20, asymmetric>",
                           "#skim.uniform<bits = 4, group = 32, asymmetric, zero = f16>",
                           "#skim.uniform<bits = 4, group = 64, scale = f32>", "k1", "k3", "k4", "k6", "k3i", "k8i",
                           "#skim.codebook<bits = 4, table = bf16, scope = tensor>",
                           "#skim.codebook<bits = 2, table = i8, scope = tensor>"}) {
    SCOPED_TRACE(text);
    MLIRContext context(MLIRContext::Threading::DISABLED);
    context.loadDialect<SkimDialect>();
    prepareGPUEmission(context);
    prepareSimulation(context);
    std::mt19937 random(11);
    RandomWeight weight = randomWeight(context, text, rows, channels, random);
    ASSERT_TRUE(weight.term);
    ASSERT_TRUE(device::hasEmbedKernel(weight.term));
    OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
    OpBuilder builder(module->getBodyRegion());
    auto kernels = gpu::GPUModuleOp::create(builder, module->getLoc(), "step");
    device::StepKernel kernel = device::encodedEmbedKernel({builder, module->getLoc(), kernels}, channels, weight.term,
                                                           static_cast<int64_t>(weight.bytes.size()));
    auto library = simulateKernels(*module);
    ASSERT_TRUE(bool(library)) << library.message();
    sim::Device device;
    std::vector<sim::Argument> arguments = {
        sim::Argument::pointer(device.allocate("tokens", tokens.data(), tokens.size() * 4))};
    for (const std::vector<uint8_t> &bytes : weight.bytes)
      arguments.push_back(sim::Argument::pointer(device.allocate("component", bytes.data(), bytes.size())));
    sim::Address y = device.allocate("y", tokens.size() * channels * 4);
    arguments.push_back(sim::Argument::pointer(y));
    sim::LaunchShape shape{{static_cast<uint32_t>(tokens.size()), static_cast<uint32_t>(kernel.gridY), 1},
                           {static_cast<uint32_t>(kernel.threads), 1, 1}};
    auto counters = (*library)->launch(device, kernel.name, shape, arguments);
    ASSERT_TRUE(bool(counters)) << counters.message();
    std::vector<float> got(tokens.size() * channels);
    ASSERT_FALSE(bool(device.copyOut(got.data(), y, got.size() * 4)));
    for (size_t row = 0; row < tokens.size(); ++row)
      for (int64_t column = 0; column < channels; ++column) {
        float expected = weight.values[static_cast<size_t>(tokens[row] * channels + column)];
        // One rounding of q − z and one of the product, as the reference has.
        ASSERT_NEAR(got[row * channels + static_cast<size_t>(column)], expected, 2e-7 * std::abs(expected))
            << "row " << row << ", column " << column;
      }
  }
}
