//===- Counting.h - kernels, run in part --------------------------*- C++ -*-===//
#ifndef SKIM_LIB_TARGET_GPU_MODEL_COUNTING_H
#define SKIM_LIB_TARGET_GPU_MODEL_COUNTING_H

#include "Ptx.h"
#include "Sass.h"
#include "skim/Runtime/Simulator.h"
#include "skim/Target/GPU/Emit.h"
#include "skim/Target/GPU/LaunchModel.h"

#include "llvm/ADT/StringSet.h"

#include <memory>

namespace skim::device {

/// The kernels of a gpu.module, for the simulator and as PTX.
struct CountedKernels {
  std::unique_ptr<sim::Module> simulated;
  std::vector<PtxKernel> ptx;
  std::vector<KernelUsage> usage;   ///< empty without ptxas
  llvm::StringMap<SassKernel> sass; ///< empty without a disassembler
  /// Blocks x that multiply first factors (kFirstBlocksAttr), of kernels that have such.
  llvm::StringMap<int64_t> firstBlocks;
  double seconds = 0; ///< to PTX
};

/// Compiles those of the kernels in `module`'s gpu.module `name` that are `used`.
Expected<CountedKernels> compileKernels(mlir::ModuleOp module, llvm::StringRef name, const llvm::StringSet<> &used,
                                        const GPUTarget &target, const ModelOptions &options);

/// Runs a launch in part and walks through it. Buffers named `weight …` and
/// `cache` come from the device's memory, of caches at most `cacheBytes`; the rest is in L2.
Expected<LaunchCosts> countLaunch(const CountedKernels &kernels, sim::Module &simulated, sim::Device &memory,
                                  const std::string &kernel, sim::LaunchShape shape,
                                  const std::vector<sim::Argument> &arguments, const DeviceFigures &device,
                                  double cacheBytes, const ModelOptions &options);

/// Zeros that take no memory until somebody writes.
class ZeroPages {
public:
  explicit ZeroPages(uint64_t bytes);
  ~ZeroPages();
  ZeroPages(const ZeroPages &) = delete;
  ZeroPages &operator=(const ZeroPages &) = delete;
  /// Null if the system has no room.
  void *data() const { return memory; }

private:
  void *memory = nullptr;
  uint64_t size;
};

/// Adds a library's product: y = x·Wᵀ of halves.
void addProduct(ModelledLaunches &all, int64_t n, int64_t k, int64_t rows, const DeviceFigures &device);

/// Puts a launch with others like it.
void addLaunch(ModelledLaunches &all, const LaunchCosts &costs, const DeviceFigures &device);

} // namespace skim::device

#endif // SKIM_LIB_TARGET_GPU_MODEL_COUNTING_H
