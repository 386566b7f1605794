//===- TargetInfo.h - what a CPU target can do ------------------*- C++ -*-===//
//
// Parses the contract's CPU target names. A target fixes the LLVM triple, CPU
// and features, the width of schedules, and which lowerings of lane operations
// may be used.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_CPU_TARGETINFO_H
#define SKIM_TARGET_CPU_TARGETINFO_H

#include "skim/Support/Error.h"

#include <string>
#include <string_view>
#include <vector>

namespace skim {

/// Instruction sets that lane operations have lowerings for.
enum class LaneSet { Portable, AVX2, AVX512 };

/// A CPU target.
struct TargetInfo {
  /// As the user wrote it: `cpu`, `cpu:x86-64-v4`, `cpu-sim:x86-64-v4`, ….
  std::string name;
  /// LLVM's triple, CPU and feature string (`+avx512f,…`).
  std::string triple;
  std::string cpu;
  std::string features;
  /// Lowering of lane operations. A simulated target is Portable.
  LaneSet lanes = LaneSet::Portable;
  /// Width of the vectors that schedules use, in bits (128, 256 or 512).
  unsigned vectorBits = 128;
  /// A wide target's schedules and layouts, lowered for this host.
  bool simulated = false;
  /// Instructions that lowerings may use.
  bool hasFMA = false, hasF16C = false, hasVBMI = false, hasBF16 = false, hasVNNI = false;
  /// vdpbf16ps does more products in a time than an f32 FMA. (Zen 5: two a
  /// cycle, as FMA. Intel: half a one, against FMA's two.) Where it does not,
  /// batches are computed in f32, also in bf16 mode.
  bool fastBF16 = false;
  /// What the processor must have for the code to run, in LLVM's spelling
  /// (`avx512f`): the manifest's `cpu_features`.
  std::vector<std::string> requiredFeatures;

  /// Number of f32 in a vector.
  int64_t f32Lanes() const { return vectorBits / 32; }
  /// The activation mode used where none was asked for.
  std::string defaultMode() const { return hasBF16 ? "bf16" : "f32"; }
};

/// `lower-lane{isa=…}` spells a lane set like this.
std::string_view spellLaneSet(LaneSet set);

/// Parses `cpu`, `cpu:x86-64-v3`, `cpu:x86-64-v4`, `cpu:aarch64`, `cpu:portable`
/// or `cpu-sim:` before one of the named ones. `cpu` is this host with
/// everything that it reports. Fails on any other name.
Expected<TargetInfo> parseCPUTarget(std::string_view name);

/// True if this process's host can run the target's code.
bool hostCanRun(const TargetInfo &target);

} // namespace skim

#endif // SKIM_TARGET_CPU_TARGETINFO_H
