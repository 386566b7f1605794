//===- Sha256.h - FIPS 180-4 SHA-256 ---------------------------*- C++ -*-===//
#ifndef SKIM_SUPPORT_SHA256_H
#define SKIM_SUPPORT_SHA256_H

#include <cstdint>
#include <string>
#include <string_view>

namespace skim {

/// SHA-256 in pieces. Uses the CPU's SHA instructions where it has them.
class Sha256 {
public:
  Sha256();
  void update(std::string_view bytes);
  /// The digest as 64 lower-case hex digits. The object is spent afterwards.
  std::string hex();

private:
  uint32_t state[8];
  uint8_t pending[64];
  uint64_t total = 0;
};

/// The digest of `bytes` as 64 lower-case hex digits.
std::string sha256(std::string_view bytes);

} // namespace skim

#endif // SKIM_SUPPORT_SHA256_H
