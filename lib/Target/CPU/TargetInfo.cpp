//===- TargetInfo.cpp - what a CPU target can do ----------------------------===//

#include "skim/Target/CPU/TargetInfo.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

using namespace skim;

static constexpr const char *baseline[] = {"sse2"};
static constexpr const char *level3[] = {"sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx",
                                         "avx2", "bmi",  "bmi2",  "f16c",   "fma",    "lzcnt",  "movbe"};
static constexpr const char *level4[] = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"};
/// Beyond x86-64-v4; used where the host has them.
static constexpr const char *extras[] = {"avx512vbmi", "avx512bf16", "avx512vnni"};

template <size_t N> static void require(TargetInfo &info, const char *const (&names)[N]) {
  for (const char *name : names) {
    info.features += (info.features.empty() ? "+" : ",+") + std::string(name);
    info.requiredFeatures.push_back(name);
  }
}

static TargetInfo x86Portable() {
  TargetInfo info;
  info.triple = "x86_64-unknown-linux-gnu";
  info.cpu = "x86-64";
  require(info, baseline);
  return info;
}

static TargetInfo x86Level3() {
  TargetInfo info;
  info.triple = "x86_64-unknown-linux-gnu";
  info.cpu = "x86-64-v3";
  info.lanes = LaneSet::AVX2;
  info.vectorBits = 256;
  info.hasFMA = info.hasF16C = true;
  require(info, level3);
  return info;
}

static TargetInfo x86Level4() {
  TargetInfo info = x86Level3();
  info.cpu = "x86-64-v4";
  info.lanes = LaneSet::AVX512;
  info.vectorBits = 512;
  require(info, level4);
  return info;
}

static TargetInfo aarch64() {
  TargetInfo info;
  info.triple = "aarch64-unknown-linux-gnu";
  info.cpu = "generic";
  info.features = "+neon";
  info.requiredFeatures = {"neon"};
  info.hasFMA = info.hasF16C = true;
  return info;
}

static bool hostIsX86() { return llvm::Triple(llvm::sys::getProcessTriple()).getArch() == llvm::Triple::x86_64; }
static bool hostIsAArch64() { return llvm::Triple(llvm::sys::getProcessTriple()).isAArch64(); }

template <size_t N> static bool hostHas(const llvm::StringMap<bool> &features, const char *const (&names)[N]) {
  for (const char *name : names)
    if (!features.lookup(name))
      return false;
  return true;
}

/// This machine, with all that schedules can use of it.
static Expected<TargetInfo> host() {
  if (hostIsAArch64())
    return aarch64();
  if (!hostIsX86())
    return fail("unsupported host", llvm::sys::getProcessTriple(), "x86_64 or aarch64", "", "cross-compile with cpu:…");
  llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
  if (!hostHas(features, level3))
    return x86Portable();
  if (!hostHas(features, level4))
    return x86Level3();
  TargetInfo info = x86Level4();
  for (const char *extra : extras)
    if (features.lookup(extra)) {
      const char *one[] = {extra};
      require(info, one);
    }
  info.hasVBMI = features.lookup("avx512vbmi");
  info.hasBF16 = features.lookup("avx512bf16");
  info.hasVNNI = features.lookup("avx512vnni");
  info.fastBF16 = info.hasBF16 && llvm::sys::getHostCPUName() == "znver5";
  return info;
}

std::string_view skim::spellLaneSet(LaneSet set) {
  switch (set) {
  case LaneSet::Portable:
    return "portable";
  case LaneSet::AVX2:
    return "avx2";
  case LaneSet::AVX512:
    return "avx512";
  }
  return "portable";
}

Expected<TargetInfo> skim::parseCPUTarget(std::string_view name) {
  llvm::StringRef rest(name);
  Expected<TargetInfo> info =
      fail(rest.starts_with("nvidia") ? "not a CPU target" : "unknown target", "",
           "cpu, cpu:x86-64-v3, cpu:x86-64-v4, cpu:aarch64, cpu:portable or cpu-sim:…", std::string(name));
  bool simulated = rest.consume_front("cpu-sim:");
  if (!simulated && !rest.consume_front("cpu:")) {
    if (rest != "cpu")
      return info;
    info = host();
  } else if (rest == "x86-64-v3") {
    info = x86Level3();
  } else if (rest == "x86-64-v4") {
    info = x86Level4();
  } else if (rest == "aarch64") {
    info = aarch64();
  } else if (rest == "portable") {
    if (hostIsAArch64())
      info = aarch64();
    else
      info = x86Portable();
  }
  if (!info)
    return info;
  if (simulated) {
    // The wide target's schedules, in instructions that every host of this architecture has.
    unsigned bits = info->vectorBits;
    *info = hostIsAArch64() ? aarch64() : x86Portable();
    info->vectorBits = bits;
    info->simulated = true;
    info->fastBF16 = true; // so that those schedules are tested everywhere
  }
  info->name = name;
  return info;
}

bool skim::hostCanRun(const TargetInfo &target) {
  llvm::Triple triple(target.triple);
  if (triple.getArch() != llvm::Triple(llvm::sys::getProcessTriple()).getArch())
    return false;
  if (!hostIsX86())
    return true;
  llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
  llvm::SmallVector<llvm::StringRef> wanted;
  llvm::StringRef(target.features).split(wanted, ',');
  for (llvm::StringRef feature : wanted)
    if (!features.lookup(feature.drop_front()))
      return false;
  return true;
}
