//===- GPUTarget.h - what an NVIDIA target can do ---------------*- C++ -*-===//
#ifndef SKIM_TARGET_GPU_GPUTARGET_H
#define SKIM_TARGET_GPU_GPUTARGET_H

#include "skim/Support/Error.h"

#include "llvm/ADT/StringRef.h"

#include <string>
#include <vector>

namespace skim {

/// Of `nvidia:sm_80` and the like. Kernels differ by target in instructions
/// only; layouts do not.
struct GPUTarget {
  std::string name;           // as it was given
  std::string chip;           // `sm_90a`
  int sm = 80;                // 90
  int multiprocessors = 108;  // of the largest device that is sold, to be filled; another makes other orders of sums
  double cacheOfMemory = 3.5; // bytes from the second level of cache in the time of one from memory, of such devices
  std::string features;       // for LLVM: the oldest PTX that has the chip, so that old drivers take it
  /// True for nvidia-sim: kernels run on the host.
  bool simulated = false;
  /// Of many rows weights are decoded and cuBLAS multiplies: who runs the code needs it.
  bool library = false;

  /// True if a warpgroup can multiply with A in registers (`sm_90a` alone).
  bool hasWgmma() const { return chip == "sm_90a"; }
  /// True if binary products are instructions; younger chips emulate them.
  bool hasBinary() const { return sm < 100; }
};

/// The chips that there are, oldest first.
std::vector<std::string> gpuChips();

/// `nvidia:sm_80` or `nvidia-sim:sm_80`; without a chip sm_80; with `+cublas` behind it `library`. Fails on others,
/// naming those that there are.
Expected<GPUTarget> parseGPUTarget(llvm::StringRef name);

} // namespace skim

#endif // SKIM_TARGET_GPU_GPUTARGET_H
