//===- MappedFile.h - a file read through the page cache -------*- C++ -*-===//
#ifndef SKIM_SUPPORT_MAPPEDFILE_H
#define SKIM_SUPPORT_MAPPEDFILE_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace skim {

/// A regular file, mapped read-only for as long as this object lives. Its pages
/// are the page cache's: they are no anonymous memory of this process.
/// Shared, so that views into it can keep it alive.
class MappedFile {
public:
  /// Fails with one line if `path` is absent, unreadable or not a regular file
  /// (a FIFO or device would hang or never end). An empty file maps to an empty
  /// view.
  static Expected<std::shared_ptr<const MappedFile>> open(const std::string &path);

  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;

  std::string_view bytes() const { return {static_cast<const char *>(data), length}; }
  const uint8_t *begin() const { return static_cast<const uint8_t *>(data); }
  uint64_t size() const { return length; }
  const std::string &path() const { return name; }

  /// Tells the kernel that [offset, offset + count) will not be read again soon,
  /// so that reading a model once leaves its pages to others. A hint; never fails.
  void release(uint64_t offset, uint64_t count) const;

private:
  MappedFile(std::string name, const void *data, uint64_t length) : name(std::move(name)), data(data), length(length) {}

  std::string name;
  const void *data;
  uint64_t length;
};

} // namespace skim

#endif // SKIM_SUPPORT_MAPPEDFILE_H
