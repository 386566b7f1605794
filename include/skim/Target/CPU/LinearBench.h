//===- LinearBench.h - how fast linear kernels are --------------*- C++ -*-===//
#ifndef SKIM_TARGET_CPU_LINEARBENCH_H
#define SKIM_TARGET_CPU_LINEARBENCH_H

#include "skim/Target/CPU/LinearLibrary.h"

namespace skim {

/// Reads a buffer with all threads of a team, to know what the memory gives.
class ReadProbe {
public:
  /// `bytes` should be far beyond the last cache.
  explicit ReadProbe(size_t bytes);
  /// Seconds of one pass; adds to `checksum`, so that it cannot be left out.
  double run(ThreadTeam &team, uint64_t &checksum);
  /// Bytes that a pass reads: a part of the buffer, another at each pass.
  size_t bytes() const { return words.size() / kSlices * sizeof(uint64_t); }

private:
  static constexpr size_t kSlices = 64;
  size_t next = 0;
  std::vector<uint64_t> words;
};

struct LinearBenchOptions {
  std::string format = "w4g128"; // short name or #skim.…
  std::string mode;              // empty: the target's default
  int64_t n = 0, k = 0, batch = 1;
  /// Of the codes: `rows`, `turned`, or empty for what a package has.
  std::string layout;
  int32_t threads = 2;
  double seconds = 2;                    // spent measuring
  size_t workingSet = size_t(640) << 20; // weights are rotated over copies of this many bytes together
};

struct LinearBenchResult {
  std::string format, mode;
  int64_t n = 0, k = 0, batch = 0;
  double microseconds = 0;        // best call
  int64_t bytes = 0;              // stored bytes of the weight
  double gbps = 0;                // bytes ÷ time
  double readBandwidthGbps = 0;   // best pass of the probe in between
  double fractionOfBandwidth = 0; // gbps ÷ readBandwidthGbps
  uint64_t checksum = 0;
};

/// Times a kernel on random weights in turns with the read probe (and with
/// `between`, if given: a baseline to be timed under the same load).
Expected<LinearBenchResult> benchLinear(mlir::MLIRContext &context, const TargetInfo &target,
                                        const LinearBenchOptions &options, ThreadTeam &team, ReadProbe &probe,
                                        llvm::function_ref<void()> between = {});

} // namespace skim

#endif // SKIM_TARGET_CPU_LINEARBENCH_H
