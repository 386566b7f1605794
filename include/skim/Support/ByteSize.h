//===- ByteSize.h - sizes in bytes as people write them ---------*- C++ -*-===//
#ifndef SKIM_SUPPORT_BYTESIZE_H
#define SKIM_SUPPORT_BYTESIZE_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace skim {

/// `512MiB`, `3.9GB`, `4000000000`, `1.5 KiB`: decimal (kB MB GB TB) and binary
/// (KiB MiB GiB TiB) units, letter case ignored, a bare number in bytes.
/// Fractions of a byte are cut off, since sizes are upper bounds. Exact: no
/// floating point is involved.
Expected<uint64_t> parseByteSize(std::string_view text);

/// `3.31 MiB`, `917 B`: three digits in binary units.
std::string formatByteSize(uint64_t bytes);

} // namespace skim

#endif // SKIM_SUPPORT_BYTESIZE_H
