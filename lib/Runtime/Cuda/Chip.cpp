// Which code runs on which device, and with which driver.
#include "skim/Runtime/Cuda.h"

#include <charconv>

using namespace skim;
using namespace skim::cuda;

/// The number that `text` begins with, which is removed.
static std::optional<int> takeNumber(std::string_view &text) {
  int value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || value < 0)
    return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

std::optional<Chip> cuda::parseChip(std::string_view name) {
  if (!name.starts_with("sm_"))
    return std::nullopt;
  name.remove_prefix(3);
  std::optional<int> number = takeNumber(name);
  if (!number || (!name.empty() && name != "a"))
    return std::nullopt;
  return Chip{*number, name == "a"};
}

std::string cuda::bestTarget(const std::vector<std::string> &targets, int capability) {
  std::string best;
  Chip bestChip;
  for (const std::string &target : targets) {
    constexpr std::string_view prefix = "nvidia:";
    std::optional<Chip> chip =
        target.starts_with(prefix) ? parseChip(std::string_view(target).substr(prefix.size())) : std::nullopt;
    if (!chip || !chip->runsOn(capability))
      continue;
    if (best.empty() || std::pair(chip->capability, chip->exact) > std::pair(bestChip.capability, bestChip.exact)) {
      best = target;
      bestChip = *chip;
    }
  }
  return best;
}

std::optional<int> cuda::driverForPtx(std::string_view ptx) {
  constexpr std::string_view directive = ".version ";
  size_t at = ptx.find(directive);
  if (at == std::string_view::npos)
    return std::nullopt;
  std::string_view rest = ptx.substr(at + directive.size(), 16);
  std::optional<int> major = takeNumber(rest);
  if (!major || !rest.starts_with("."))
    return std::nullopt;
  rest.remove_prefix(1);
  std::optional<int> minor = takeNumber(rest);
  if (!minor || *major < 7)
    return std::nullopt;
  // PTX 7.n came with CUDA 11.n, 8.n with 12.n; no PTX of its own had CUDA 12.6.
  int cudaMinor = *major == 8 && *minor > 5 ? *minor + 1 : *minor;
  return (*major + 4) * 1000 + cudaMinor * 10;
}

std::string cuda::spellVersion(int version) {
  return "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}
