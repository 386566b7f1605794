//===- GPUTarget.cpp - what an NVIDIA target can do -------------------------===//

#include "skim/Target/GPU/GPUTarget.h"

using namespace skim;

namespace {
struct Chip {
  const char *name;
  int sm;
  int multiprocessors;  // A100, A6000, L40, H100 SXM, H100 SXM, B200, RTX PRO 6000
  double cacheOfMemory; // bandwidths' quotient, as Model/Devices.cpp has them
  const char *ptx;
};
/// With the first version of PTX that knows the chip and `and.popc` of bits (which no driver that we take lacks).
constexpr Chip kChips[] = {{"sm_80", 80, 108, 3.5, "+ptx71"},  {"sm_86", 86, 84, 2.5, "+ptx71"},
                           {"sm_89", 89, 142, 5, "+ptx78"},    {"sm_90", 90, 132, 1.6, "+ptx78"},
                           {"sm_90a", 90, 132, 1.6, "+ptx80"}, {"sm_100", 100, 148, 1.25, "+ptx86"},
                           {"sm_120", 120, 188, 3.9, "+ptx87"}};
} // namespace

std::vector<std::string> skim::gpuChips() {
  std::vector<std::string> names;
  for (const Chip &chip : kChips)
    names.push_back(chip.name);
  return names;
}

Expected<GPUTarget> skim::parseGPUTarget(llvm::StringRef name) {
  auto [kind, rest] = name.split(':');
  llvm::StringRef chipName = rest;
  bool library = chipName.consume_back("+cublas");
  if (kind == "nvidia" || kind == "nvidia-sim")
    for (const Chip &chip : kChips)
      if (chipName == chip.name || (chipName.empty() && chip.sm == 80))
        return GPUTarget{name.str(),           chip.name, chip.sm, chip.multiprocessors, chip.cacheOfMemory, chip.ptx,
                         kind == "nvidia-sim", library};
  std::string known;
  for (const Chip &chip : kChips)
    known += (known.empty() ? "nvidia:" : ", nvidia:") + std::string(chip.name);
  return fail("unknown target", "", "one of " + known + " (or nvidia-sim:…; with +cublas behind it)", name.str());
}
