#include "skim/Support/AtomicOutput.h"
#include "skim/Support/Json.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace skim;
namespace fs = std::filesystem;

void skim::ignoreFileSizeSignal() { std::signal(SIGXFSZ, SIG_IGN); }

static Failure writeFailure(const std::string &path, int error) {
  return fail("cannot write", path, "a writable place with enough room", std::strerror(error));
}

//===----------------------------------------------------------------------===//
// AtomicFile
//===----------------------------------------------------------------------===//

AtomicFile::AtomicFile(AtomicFile &&other) noexcept { *this = std::move(other); }

AtomicFile &AtomicFile::operator=(AtomicFile &&other) noexcept {
  std::swap(target, other.target);
  std::swap(final, other.final);
  std::swap(temporary, other.temporary);
  std::swap(descriptor, other.descriptor);
  std::swap(keep, other.keep);
  return *this;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (descriptor < 0)
    return;
  ::close(std::exchange(descriptor, -1));
  if (!temporary.empty() && !keep)
    ::unlink(temporary.c_str());
}

/// What commit replaces: `path`, or what it points to, so that links survive.
static std::string resolveLinks(const std::string &path) {
  char *resolved = ::realpath(path.c_str(), nullptr);
  std::string result = resolved ? resolved : path;
  std::free(resolved);
  return result;
}

Expected<AtomicFile> AtomicFile::create(const std::string &path) {
  AtomicFile file;
  file.target = path;
  struct stat info;
  if (::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode))
      return fail("cannot write", path, "a file", "a directory");
    if (!S_ISREG(info.st_mode)) {
      file.descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
      if (file.descriptor < 0)
        return writeFailure(path, errno);
      return file;
    }
  }
  file.final = resolveLinks(path);
  // The process id keeps two runs apart; O_EXCL keeps us from following a link that somebody planted.
  file.temporary = file.final + ".partial." + std::to_string(::getpid());
  ::unlink(file.temporary.c_str());
  file.descriptor = ::open(file.temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file.descriptor < 0)
    return writeFailure(path, errno);
  return file;
}

Expected<AtomicFile> AtomicFile::createResumable(const std::string &path, bool resume) {
  AtomicFile file;
  file.target = path;
  file.final = resolveLinks(path);
  file.temporary = file.final + ".partial";
  file.descriptor =
      ::open(file.temporary.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (resume ? 0 : O_TRUNC), 0666);
  if (file.descriptor < 0)
    return writeFailure(path, errno);
  return file;
}

Error AtomicFile::write(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    ssize_t done = ::write(descriptor, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return writeFailure(target, done < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
  return Error::success();
}

Error AtomicFile::writeAt(uint64_t offset, std::span<const uint8_t> bytes) const {
  while (!bytes.empty()) {
    ssize_t done = ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return writeFailure(target, done < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(done));
    offset += static_cast<uint64_t>(done);
  }
  return Error::success();
}

Error AtomicFile::reserve(uint64_t bytes) const {
  if (bytes == 0 || temporary.empty())
    return Error::success();
  int result;
  do
    result = ::fallocate(descriptor, 0, 0, static_cast<off_t>(bytes));
  while (result != 0 && errno == EINTR);
  // Some file systems cannot reserve; there the writes themselves will tell.
  if (result != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
    result = ::ftruncate(descriptor, static_cast<off_t>(bytes));
  if (result != 0) {
    Failure failure = writeFailure(target, errno);
    failure.expected = "room for " + std::to_string(bytes) + " bytes";
    return failure;
  }
  return Error::success();
}

/// Some file systems and devices cannot sync; that is no failure of the write.
static bool syncFailed(int descriptor) {
  return ::fsync(descriptor) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP;
}

/// Makes a rename inside the folder of `path` durable; best effort.
static void syncParent(const std::string &path) {
  std::string parent = fs::path(path).parent_path().string();
  int folder = ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0)
    return;
  ::fsync(folder);
  ::close(folder);
}

Error AtomicFile::commit() {
  if (syncFailed(descriptor)) {
    Failure failure = writeFailure(target, errno);
    discard();
    return failure;
  }
  // close reports errors that network file systems delay until then.
  if (::close(std::exchange(descriptor, -1)) != 0) {
    int error = errno;
    if (!temporary.empty())
      ::unlink(temporary.c_str());
    return writeFailure(target, error);
  }
  if (temporary.empty())
    return Error::success();
  if (::rename(temporary.c_str(), final.c_str()) != 0) {
    int error = errno;
    ::unlink(temporary.c_str());
    return writeFailure(target, error);
  }
  syncParent(final);
  return Error::success();
}

Error skim::writeFileAtomically(const std::string &path, std::string_view contents) {
  Expected<AtomicFile> file = AtomicFile::create(path);
  if (!file)
    return file.takeError();
  if (Error error = file->write(contents))
    return error;
  return file->commit();
}

//===----------------------------------------------------------------------===//
// AtomicDirectory
//===----------------------------------------------------------------------===//

static constexpr const char *lockName = ".lock";

AtomicDirectory::AtomicDirectory(AtomicDirectory &&other) noexcept { *this = std::move(other); }

AtomicDirectory &AtomicDirectory::operator=(AtomicDirectory &&other) noexcept {
  std::swap(target, other.target);
  std::swap(work, other.work);
  std::swap(lock, other.lock);
  std::swap(stale, other.stale);
  std::swap(keep, other.keep);
  return *this;
}

AtomicDirectory::~AtomicDirectory() { discard(); }

void AtomicDirectory::discard() {
  if (lock < 0)
    return;
  if (!keep) {
    std::error_code ignored;
    fs::remove_all(work, ignored);
  }
  ::close(std::exchange(lock, -1));
}

/// Nothing, or why `path` may not be replaced.
static Error checkReplaceable(const std::string &path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0)
    return errno == ENOENT ? Error::success() : Error(writeFailure(path, errno));
  auto refuse = [&](std::string got) {
    return fail("refusing to replace", path, "nothing, or a package written by skim", std::move(got),
                "remove it or choose another output");
  };
  if (!S_ISDIR(info.st_mode))
    return refuse(S_ISLNK(info.st_mode) ? "a symbolic link" : "a file");
  std::string manifest = path + "/manifest.json";
  if (::lstat(manifest.c_str(), &info) != 0)
    return refuse("a directory without manifest.json");
  Expected<Json> json = parseJsonFile(manifest);
  if (!json || !json->is_object() || !json->contains("skim") || !json->contains("version"))
    return refuse("a directory whose manifest.json is not ours");
  return Error::success();
}

Expected<AtomicDirectory> AtomicDirectory::create(const std::string &path, bool resume) {
  AtomicDirectory directory;
  directory.target = path;
  while (directory.target.size() > 1 && directory.target.back() == '/')
    directory.target.pop_back();
  if (directory.target.empty())
    return fail("cannot write", path, "the name of an output directory", "an empty name");
  directory.work = directory.target + ".work";
  if (Error error = checkReplaceable(directory.target))
    return error;

  const std::string &work = directory.work;
  if (::mkdir(work.c_str(), 0777) != 0) {
    if (errno != EEXIST)
      return writeFailure(path, errno);
    if (!resume)
      return fail("unfinished work found", work, "no such directory", "one from an interrupted run",
                  "continue it with --resume, or remove it");
    directory.stale = true;
  }
  std::string lockPath = work + "/" + lockName;
  // Another process may hold this directory: from here on `directory` must not remove it before we have the lock.
  int lock = ::open(lockPath.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (lock < 0) {
    int error = errno;
    if (!directory.stale)
      ::rmdir(work.c_str());
    return writeFailure(work, error);
  }
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    int error = errno;
    ::close(lock);
    if (error == EWOULDBLOCK)
      return fail("output is in use", work, "no other process writing it", "another one at work");
    if (error != ENOLCK && error != EOPNOTSUPP)
      return writeFailure(work, error);
    lock = ::open(lockPath.c_str(), O_RDWR | O_CLOEXEC);
    if (lock < 0)
      return writeFailure(work, errno);
  }
  directory.lock = lock;
  return directory;
}

Error AtomicDirectory::makeFolder(std::string_view name) const {
  std::error_code error;
  fs::create_directories(file(name), error);
  if (error)
    return writeFailure(file(name), error.value());
  return Error::success();
}

Error AtomicDirectory::clear() const {
  std::error_code error;
  for (fs::directory_iterator it(work, error), end; !error && it != end; it.increment(error))
    if (it->path().filename() != lockName) {
      fs::remove_all(it->path(), error);
      if (error)
        break;
    }
  return error ? Error(writeFailure(work, error.value())) : Error::success();
}

/// Every file below `root` to disk: delayed write errors show here at the latest.
static Error syncTree(const std::string &root) {
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
    if (!it->is_regular_file(error) || it->is_symlink(error))
      continue;
    std::string path = it->path().string();
    int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0)
      return writeFailure(path, errno);
    bool failed = syncFailed(descriptor);
    int reason = errno;
    ::close(descriptor);
    if (failed)
      return writeFailure(path, reason);
  }
  if (error)
    return writeFailure(root, error.value());
  return Error::success();
}

Error AtomicDirectory::commit() {
  if (Error error = checkReplaceable(target))
    return error;
  if (Error error = syncTree(work))
    return error;
  ::unlink(file(lockName).c_str());

  struct stat info;
  bool exists = ::lstat(target.c_str(), &info) == 0;
  std::error_code ignored;
  if (!exists) {
    // rename replaces an empty directory at most, never a package.
    if (::rename(work.c_str(), target.c_str()) != 0)
      return writeFailure(target, errno);
  } else if (::renameat2(AT_FDCWD, work.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(work, ignored); // now the old package
  } else {
    // Without exchange: the old package steps aside and returns if the new one cannot take its place.
    std::string old = target + ".old." + std::to_string(::getpid());
    if (::rename(target.c_str(), old.c_str()) != 0)
      return writeFailure(target, errno);
    if (::rename(work.c_str(), target.c_str()) != 0) {
      int error = errno;
      ::rename(old.c_str(), target.c_str());
      return writeFailure(target, error);
    }
    fs::remove_all(old, ignored);
  }
  ::close(std::exchange(lock, -1));
  syncParent(target);
  return Error::success();
}
