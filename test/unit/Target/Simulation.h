//===- Simulation.h - kernels as text, run in the simulator -----*- C++ -*-===//
#ifndef SKIM_TEST_UNIT_TARGET_SIMULATION_H
#define SKIM_TEST_UNIT_TARGET_SIMULATION_H

#include "skim/Target/GPU/SimulatorLibrary.h"

#include "mlir/Parser/Parser.h"
#include <gtest/gtest.h>

/// Whether all parts are in a text.
inline testing::AssertionResult contains(const std::string &text, const std::vector<std::string> &parts) {
  for (const std::string &part : parts)
    if (text.find(part) == std::string::npos)
      return testing::AssertionFailure() << "no '" << part << "' in '" << text << "'";
  return testing::AssertionSuccess();
}

/// A device and the kernels of one module.
class Simulation {
public:
  using Argument = skim::sim::Argument;
  using Address = skim::sim::Address;

  /// `kernels`: what stands in the gpu.module.
  explicit Simulation(const std::string &kernels) {
    skim::prepareSimulation(context);
    std::string text = "gpu.module @kernels {\n" + kernels + "\n}\n";
    auto source = mlir::parseSourceString<mlir::ModuleOp>(text, mlir::ParserConfig(&context));
    if (!source) {
      ADD_FAILURE() << "no kernels:\n" << text;
      return;
    }
    auto built = skim::simulateKernels(*source);
    if (!built)
      ADD_FAILURE() << built.message();
    else
      module = std::move(*built);
  }

  /// The counters, or empty ones and a failure.
  skim::sim::Counters run(const std::string &kernel, const skim::sim::LaunchShape &shape,
                          const std::vector<Argument> &arguments) {
    if (!module)
      return {};
    auto counters = module->launch(device, kernel, shape, arguments);
    if (counters)
      return std::move(*counters);
    ADD_FAILURE() << counters.message();
    return {};
  }
  /// The trap's text; "" if there is none.
  std::string trap(const std::string &kernel, const skim::sim::LaunchShape &shape,
                   const std::vector<Argument> &arguments) {
    return module ? module->launch(device, kernel, shape, arguments).message() : "no module";
  }

  template <typename T> Address put(const std::string &name, const std::vector<T> &values) {
    return device.allocate(name, values.data(), values.size() * sizeof(T));
  }
  template <typename T> std::vector<T> get(Address address, size_t count) {
    std::vector<T> values(count);
    skim::Error error = device.copyOut(values.data(), address, count * sizeof(T));
    EXPECT_FALSE(bool(error)) << error.message();
    return values;
  }

  mlir::MLIRContext context;
  skim::sim::Device device;
  std::unique_ptr<skim::sim::Module> module;
};

#endif // SKIM_TEST_UNIT_TARGET_SIMULATION_H
