#include "skim/Support/PackageManifest.h"

#include "skim/Support/Sha256.h"

#include <cerrno>
#include <cstring>
#include <sys/stat.h>

using namespace skim;

/// No real model's manifest comes near.
static constexpr uint64_t maxManifestBytes = uint64_t(1) << 28;

std::string skim::manifestPath(const std::string &folder) { return folder + "/manifest.json"; }

Expected<Json> skim::readPackageManifest(const std::string &folder) {
  std::string path = manifestPath(folder);
  struct stat info;
  if (::stat(folder.c_str(), &info) != 0)
    return fail("cannot open a package", folder, "a package folder", std::strerror(errno));
  if (!S_ISDIR(info.st_mode))
    return fail("cannot open a package", folder, "a package folder", "a file",
                "skim quantize makes packages from models");
  if (::stat(path.c_str(), &info) != 0)
    return fail("cannot open a package", folder, "a folder with a manifest.json", std::strerror(errno));
  if (static_cast<uint64_t>(info.st_size) > maxManifestBytes)
    return fail("manifest is too long", path, "at most " + std::to_string(maxManifestBytes) + " bytes",
                std::to_string(info.st_size));
  Expected<Json> json = parseJsonFile(path);
  if (!json)
    return json;
  Expected<int64_t> version = JsonCursor(*json, path).integer("version");
  if (!version)
    return version.takeError();
  if (*version != packageVersion)
    return fail("package of another version", path + " /version", std::to_string(packageVersion),
                std::to_string(*version), "rebuild the package with this skim, or use a newer one");
  return json;
}

Error skim::checkPackageFile(const JsonCursor &manifest, const std::string &folder, const std::string &name) {
  Expected<JsonCursor> files = manifest.member("files");
  if (!files)
    return files.takeError();
  Expected<JsonCursor> facts = files->member(name);
  if (!facts)
    return facts.takeError();
  Expected<std::string> expected = facts->string("sha256"), found = sha256OfFile(folder + "/" + name);
  if (!expected)
    return expected.takeError();
  if (!found)
    return found.takeError();
  if (*expected != *found)
    return fail("damaged file", folder + "/" + name, "sha256 " + *expected, *found);
  return Error::success();
}
