//===- SimulatorLibrary.h - GPU kernels in the simulator --------*- C++ -*-===//
//
// Compiles the kernels of a gpu.module for the simulator and loads them, for
// tests and proofs. docs/gpu.md lists the operations that kernels may use.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_GPU_SIMULATORLIBRARY_H
#define SKIM_TARGET_GPU_SIMULATORLIBRARY_H

#include "skim/Runtime/Simulator.h"

#include "mlir/IR/BuiltinOps.h"

namespace skim {

/// Loads the dialects that GPU kernels are written in. To be called before
/// building kernels; harmless to repeat.
void prepareSimulation(mlir::MLIRContext &context);

/// Compiles every kernel of the gpu.modules in `module` (consumed) and loads
/// them under the names of their gpu.func. Fails on an operation that the
/// simulator does not know, naming it and its place.
///
///   auto library = simulateKernels(*module);
///   sim::Device device;
///   sim::Address x = device.allocate("x", data, bytes), y = device.allocate("y", bytes);
///   auto counters = (*library)->launch(device, "scale", {.grid = {4, 1, 1}, .block = {128, 1, 1}},
///                                      {sim::Argument::pointer(x), sim::Argument::pointer(y), sim::Argument::i32(n)});
Expected<std::unique_ptr<sim::Module>> simulateKernels(mlir::ModuleOp module);

/// The same into a shared object at `path`, for sim::Module::open.
Error emitSimulation(mlir::ModuleOp module, const std::string &path);

} // namespace skim

#endif // SKIM_TARGET_GPU_SIMULATORLIBRARY_H
