//===- MappedFile.h - a file read through the page cache -------*- C++ -*-===//
//
// Weights of many gigabytes are read through mappings: their pages belong to
// the page cache, so they are no anonymous memory, and those that were consumed
// can be given back.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_SUPPORT_MAPPEDFILE_H
#define SKIM_SUPPORT_MAPPEDFILE_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace skim {

/// A regular file, mapped read-only for as long as this object lives. Its pages
/// are the page cache's: they are no anonymous memory of this process.
/// Shared, so that views into it can keep it alive. The file must not shrink
/// while it is mapped.
class MappedFile {
public:
  /// How the kernel should read ahead.
  enum class Access { Normal, Sequential, Random };

  /// Fails with one line if `path` is absent, unreadable or not a regular file
  /// (a FIFO or device would hang or never end). An empty file maps to an empty
  /// view.
  static Expected<std::shared_ptr<const MappedFile>> open(const std::string &path, Access access = Access::Normal);

  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;

  std::string_view bytes() const { return {static_cast<const char *>(data), length}; }
  std::span<const uint8_t> span() const { return {begin(), length}; }
  const uint8_t *begin() const { return static_cast<const uint8_t *>(data); }
  uint64_t size() const { return length; }
  const std::string &path() const { return name; }

  /// `count` bytes from `offset`; fails, naming `what`, where they leave the file.
  Expected<std::span<const uint8_t>> slice(uint64_t offset, uint64_t count, const std::string &what) const;

  /// Asks the kernel to read [offset, offset + count) ahead. A hint; never fails.
  void willNeed(uint64_t offset, uint64_t count) const;

  /// Tells the kernel that [offset, offset + count) will not be read again soon,
  /// so that reading a model once leaves its pages to others. A hint; never fails.
  void release(uint64_t offset, uint64_t count) const;

private:
  MappedFile(std::string name, const void *data, uint64_t length) : name(std::move(name)), data(data), length(length) {}

  std::string name;
  const void *data;
  uint64_t length;
};

/// Drops pages behind a reader that walks a mapping from front to back, so that
/// not much more than `step` bytes of it stay resident.
class SequentialRelease {
public:
  explicit SequentialRelease(const MappedFile &file, uint64_t begin = 0, uint64_t step = uint64_t(8) << 20)
      : file(file), released(begin), step(step) {}
  /// Everything before `offset` has been consumed.
  void consumedUpTo(uint64_t offset) {
    if (offset < released + step)
      return;
    file.release(released, offset - released);
    released = offset;
  }

private:
  const MappedFile &file;
  uint64_t released;
  uint64_t step;
};

/// The whole of a (small) regular file. Fails like MappedFile::open, and if it
/// is longer than `limit` bytes; an empty file is an empty string.
Expected<std::string> readTextFile(const std::string &path, uint64_t limit = uint64_t(1) << 32);

} // namespace skim

#endif // SKIM_SUPPORT_MAPPEDFILE_H
