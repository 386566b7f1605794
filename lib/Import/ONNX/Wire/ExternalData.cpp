#include "skim/Import/ONNX/Wire.h"

#include <charconv>
#include <cstring>
#include <filesystem>
#include <sys/stat.h>

using namespace skim;
using namespace skim::wire;
namespace fs = std::filesystem;

/// Files of a model's folder that are looked at to find the other names of a
/// hard link.
static constexpr unsigned kFolderEntries = 100000;

ExternalData::ExternalData(const std::string &modelPath) : root(fs::path(modelPath).parent_path().string()) {
  if (root.empty())
    root = ".";
}

/// True if every name of the hard-linked file `info` lies below `folder`.
static bool allNamesInside(const fs::path &folder, const struct stat &info) {
  uint64_t names = 0;
  unsigned seen = 0;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, fs::directory_options::skip_permission_denied, error), end;
  for (; !error && it != end && seen < kFolderEntries; it.increment(error), ++seen) {
    struct stat other;
    if (::lstat(it->path().c_str(), &other) == 0 && other.st_ino == info.st_ino && other.st_dev == info.st_dev)
      ++names;
  }
  return names >= info.st_nlink;
}

Expected<std::shared_ptr<const MappedFile>> ExternalData::open(const std::string &location) {
  auto known = files.find(location);
  if (known != files.end())
    return known->second;

  auto refuse = [&](std::string expected, std::string got) {
    return fail("refused external data", "location '" + location + "'", std::move(expected), std::move(got));
  };
  if (location.empty() || location.find('\0') != std::string::npos)
    return refuse("a file name", location.empty() ? "an empty one" : "one with a NUL byte");
  fs::path relative(location);
  if (relative.is_absolute())
    return refuse("a path relative to the model's folder", "an absolute path");
  for (const fs::path &part : relative)
    if (part == "..")
      return refuse("a path inside the model's folder", "'..'");

  std::error_code error;
  fs::path folder = fs::canonical(root, error);
  if (error)
    return fail("cannot open the model's folder", root, "a readable folder", error.message());
  fs::path full = fs::canonical(folder / relative, error);
  if (error)
    return fail("cannot open external data", (folder / relative).string(), "a readable file", error.message());
  // canonical() followed every link: what is left must still begin with the folder.
  fs::path::iterator inside = full.begin();
  for (const fs::path &part : folder)
    if (inside == full.end() || *inside++ != part)
      return refuse("a file inside the model's folder", "a link to '" + full.string() + "'");

  struct stat info;
  if (::stat(full.c_str(), &info) != 0)
    return fail("cannot open external data", full.string(), "a readable file", std::strerror(errno));
  if (!S_ISREG(info.st_mode))
    return refuse("a regular file", S_ISDIR(info.st_mode) ? "a directory" : "a special file");
  if (info.st_nlink > 1 && !allNamesInside(folder, info))
    return fail("refused external data", "location '" + location + "'", "a file inside the model's folder",
                "a hard link with names outside", "copy the file");

  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(full.string());
  if (!file)
    return file;
  files.emplace(location, *file);
  return *file;
}

static bool parseNumber(std::string_view text, uint64_t &value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

Expected<ExternalData::Slice> ExternalData::locate(const Tensor &tensor) {
  const ExternalLocation &where = *tensor.external;
  std::string location(where.location), place = "tensor '" + std::string(tensor.name) + "'";
  Expected<std::shared_ptr<const MappedFile>> file = open(location);
  if (!file) {
    Failure failure = file.failure();
    failure.where = failure.where + " of " + place;
    return failure;
  }
  Slice slice{*file, location, 0, tensor.byteSize};
  place += " in '" + location + "'";
  if (!where.offset.empty() && !parseNumber(where.offset, slice.offset))
    return fail("bad external data", place, "a decimal offset", "'" + std::string(where.offset) + "'");
  if (!where.length.empty() && !parseNumber(where.length, slice.length))
    return fail("bad external data", place, "a decimal length", "'" + std::string(where.length) + "'");
  if (slice.length != tensor.byteSize)
    return fail("bad external data", place, std::to_string(tensor.byteSize) + " bytes for its shape and type",
                "length " + std::to_string(slice.length));
  uint64_t size = (*file)->size();
  if (slice.offset > size || slice.length > size - slice.offset)
    return fail("bad external data", place,
                "offset " + std::to_string(slice.offset) + " + length " + std::to_string(slice.length) +
                    " within the file",
                std::to_string(size) + " bytes", "the file may be truncated");
  return slice;
}
