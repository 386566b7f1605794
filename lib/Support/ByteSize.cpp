#include "skim/Support/ByteSize.h"

#include <cctype>
#include <cstdio>

using namespace skim;

Expected<uint64_t> skim::parseByteSize(std::string_view text) {
  auto invalid = [&](const char *expected) {
    return fail("invalid size", {}, expected, "'" + std::string(text) + "'", "for example 512MiB, 3.9GB or 4000000000");
  };
  static constexpr const char *form = "a number with an optional unit of B, kB, MB, GB, TB, KiB, MiB, GiB or TiB";
  // The number is mantissa / scale, both exact: 20 digits times a unit of 2^40 fit in 128 bits.
  unsigned __int128 mantissa = 0, scale = 1;
  int digits = 0;
  bool point = false, seen = false;
  size_t at = 0;
  for (; at < text.size(); ++at) {
    char c = text[at];
    if (c == '.' && !point) {
      point = true;
      continue;
    }
    if (c < '0' || c > '9')
      break;
    seen = true;
    if (mantissa != 0 || c != '0' || point)
      ++digits;
    if (digits > 20)
      return invalid("at most 20 digits");
    mantissa = mantissa * 10 + static_cast<unsigned>(c - '0');
    if (point)
      scale *= 10;
  }
  if (!seen)
    return invalid(form);
  while (at < text.size() && text[at] == ' ')
    ++at;
  std::string unit;
  for (; at < text.size(); ++at)
    unit += static_cast<char>(std::tolower(static_cast<unsigned char>(text[at])));
  static constexpr struct {
    const char *name;
    uint64_t bytes;
  } units[] = {
      {"", 1},
      {"b", 1},
      {"kb", 1000},
      {"mb", 1000000},
      {"gb", 1000000000},
      {"tb", 1000000000000},
      {"kib", uint64_t(1) << 10},
      {"mib", uint64_t(1) << 20},
      {"gib", uint64_t(1) << 30},
      {"tib", uint64_t(1) << 40},
  };
  for (const auto &candidate : units) {
    if (unit != candidate.name)
      continue;
    unsigned __int128 bytes = mantissa * candidate.bytes / scale;
    if (bytes > UINT64_MAX)
      return invalid("a size below 2^64 bytes");
    return static_cast<uint64_t>(bytes);
  }
  return invalid(form);
}

std::string skim::formatByteSize(uint64_t bytes) {
  static constexpr const char *names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  char buffer[48];
  if (bytes < 1024) {
    std::snprintf(buffer, sizeof buffer, "%llu B", static_cast<unsigned long long>(bytes));
    return buffer;
  }
  double value = static_cast<double>(bytes);
  int unit = 0;
  // 999.5 rather than 1024, so that three digits always suffice.
  while (value >= 999.5 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::snprintf(buffer, sizeof buffer, "%.*f %s", decimals, value, names[unit]);
  return buffer;
}
