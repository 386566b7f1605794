//===- Sha256.h - FIPS 180-4 SHA-256 ---------------------------*- C++ -*-===//
//
// Own code rather than libcrypto: the runtime hashes a model's code within its
// start-up budget and should not load a library of megabytes for one function;
// with the CPU's SHA instructions this is as fast.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_SUPPORT_SHA256_H
#define SKIM_SUPPORT_SHA256_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace skim {

/// SHA-256 in pieces. Uses the CPU's SHA instructions where it has them.
class Sha256 {
public:
  Sha256();
  void update(std::string_view bytes);
  void update(std::span<const uint8_t> bytes) {
    update(std::string_view(reinterpret_cast<const char *>(bytes.data()), bytes.size()));
  }
  /// The digest as 64 lower-case hex digits. The object is spent afterwards.
  std::string hex();

private:
  uint32_t state[8];
  uint8_t pending[64];
  uint64_t total = 0;
};

/// The digest of `bytes` as 64 lower-case hex digits.
std::string sha256(std::string_view bytes);

/// The digest of a file, read through a mapping whose pages are given back.
Expected<std::string> sha256OfFile(const std::string &path);

} // namespace skim

#endif // SKIM_SUPPORT_SHA256_H
