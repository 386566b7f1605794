//===- AtomicOutput.h - outputs that appear whole or not at all -*- C++ -*-===//
#ifndef SKIM_SUPPORT_ATOMICOUTPUT_H
#define SKIM_SUPPORT_ATOMICOUTPUT_H

#include "skim/Support/Error.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace skim {

/// Makes writing beyond a file size limit an error of the write (EFBIG)
/// instead of a signal that ends the process. Programs call it once at start.
void ignoreFileSizeSignal();

/// A file written under a temporary name beside `path` and renamed at commit.
/// Until then an existing file stays as it is; without commit nothing remains.
/// Where `path` is a device or a pipe, it is written directly.
class AtomicFile {
public:
  static Expected<AtomicFile> create(const std::string &path);
  /// As create, but under the fixed temporary name `path`.partial, which a
  /// later call with `resume` opens again with what it holds.
  static Expected<AtomicFile> createResumable(const std::string &path, bool resume);

  AtomicFile(AtomicFile &&other) noexcept;
  AtomicFile &operator=(AtomicFile &&other) noexcept;
  ~AtomicFile();

  /// Appends.
  Error write(std::span<const uint8_t> bytes);
  Error write(std::string_view text) {
    return write(std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
  }
  /// Writes at a place; safe from several threads on places that do not overlap.
  Error writeAt(uint64_t offset, std::span<const uint8_t> bytes) const;
  /// Gives the file `bytes` bytes of disk now, so that a full disk shows early.
  Error reserve(uint64_t bytes) const;
  /// Flushes to disk, closes and renames. The object is spent afterwards.
  Error commit();
  /// Leaves the temporary file in place if this object goes without commit.
  void keepIfUnfinished() { keep = true; }

  const std::string &temporaryPath() const { return temporary; }

private:
  AtomicFile() = default;
  void discard();
  std::string target;    // as the user named it
  std::string final;     // with links resolved; what commit replaces
  std::string temporary; // empty when `target` is written directly
  int descriptor = -1;
  bool keep = false;
};

/// Writes a whole file atomically.
Error writeFileAtomically(const std::string &path, std::string_view contents);

/// An output directory (`OUT.skim`). Work lies in `OUT.skim.work/`; commit
/// exchanges it with `OUT.skim` by rename.
///
/// Refuses: an existing OUT that is not a package of ours (no `manifest.json`
/// with our `skim` and `version` members); a stale `.work` without `resume`; a
/// `.work` that another process uses.
class AtomicDirectory {
public:
  static Expected<AtomicDirectory> create(const std::string &path, bool resume = false);

  AtomicDirectory(AtomicDirectory &&other) noexcept;
  AtomicDirectory &operator=(AtomicDirectory &&other) noexcept;
  /// Removes the work unless committed or kept.
  ~AtomicDirectory();

  const std::string &workPath() const { return work; }
  /// `WORK/name`; call makeFolder for names with folders in them.
  std::string file(std::string_view name) const { return work + "/" + std::string(name); }
  /// Creates `WORK/name` and what leads to it.
  Error makeFolder(std::string_view name) const;
  /// True if work of an interrupted run was found (only with `resume`).
  bool resumed() const { return stale; }
  /// Removes all that the work holds.
  Error clear() const;
  /// Keep the work for a later `resume` if this object goes without commit.
  void keepIfUnfinished() { keep = true; }

  /// Flushes every file, then puts the work in place of OUT.
  Error commit();

private:
  AtomicDirectory() = default;
  void discard();
  std::string target;
  std::string work;
  int lock = -1;
  bool stale = false;
  bool keep = false;
};

} // namespace skim

#endif // SKIM_SUPPORT_ATOMICOUTPUT_H
