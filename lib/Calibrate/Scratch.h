//===- Scratch.h - files that hold what memory should not -------*- C++ -*-===//
#ifndef SKIM_LIB_CALIBRATE_SCRATCH_H
#define SKIM_LIB_CALIBRATE_SCRATCH_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <string>
#include <utility>

namespace skim {

/// A file mapped for reading and writing: its pages are the page cache's, not
/// anonymous memory of this process.
class Scratch {
public:
  /// New and zero, or, with `keep`, as an earlier run left it (an error if it has another size).
  static Expected<Scratch> open(const std::string &path, uint64_t bytes, bool keep = false);
  Scratch(Scratch &&other) noexcept : data(std::exchange(other.data, nullptr)), length(other.length) {}
  Scratch &operator=(Scratch &&other) noexcept {
    std::swap(data, other.data);
    std::swap(length, other.length);
    return *this;
  }
  ~Scratch();

  template <typename T> T *as() const { return static_cast<T *>(data); }

private:
  Scratch(void *data, uint64_t length) : data(data), length(length) {}
  void *data;
  uint64_t length;
};

/// The folder `OUT.work` of unfinished work, locked for this process.
class WorkFolder {
public:
  /// Fails where a stale one is there and `resume` is not asked for.
  static Error check(const std::string &output, bool resume);
  /// Also fails where another process works in it.
  static Expected<WorkFolder> create(const std::string &output, bool resume);
  WorkFolder(WorkFolder &&other) noexcept
      : folder(std::move(other.folder)), lock(std::exchange(other.lock, -1)), stale(other.stale) {}
  WorkFolder &operator=(WorkFolder &&) = delete;
  ~WorkFolder();

  std::string file(const std::string &name) const { return folder + "/" + name; }
  bool resumed() const { return stale; }
  /// Removes it with all that it holds.
  void remove();

private:
  WorkFolder(std::string folder, int lock, bool stale) : folder(std::move(folder)), lock(lock), stale(stale) {}
  std::string folder;
  int lock;
  bool stale;
};

} // namespace skim

#endif // SKIM_LIB_CALIBRATE_SCRATCH_H
