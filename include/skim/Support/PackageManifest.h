//===- PackageManifest.h - manifest.json of a package -----------*- C++ -*-===//
//
// What every reader of a package does first, so that all of them refuse the
// same packages in the same words.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_SUPPORT_PACKAGEMANIFEST_H
#define SKIM_SUPPORT_PACKAGEMANIFEST_H

#include "skim/Support/Json.h"

namespace skim {

/// The version of packages that is written and read.
inline constexpr int64_t packageVersion = 1;

/// Where the manifest of the package `folder` is.
std::string manifestPath(const std::string &folder);

/// The manifest of a package. Errors: no folder, no manifest in it, a manifest
/// that is too long or no JSON, a package of another version.
Expected<Json> readPackageManifest(const std::string &folder);

/// Checks a file of the package, by its name in `files`, against its sha256.
Error checkPackageFile(const JsonCursor &manifest, const std::string &folder, const std::string &name);

} // namespace skim

#endif // SKIM_SUPPORT_PACKAGEMANIFEST_H
