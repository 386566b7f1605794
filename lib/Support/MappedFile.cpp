#include "skim/Support/MappedFile.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace skim;

Expected<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string &path, Access access) {
  if (path.find('\0') != std::string::npos)
    return fail("cannot open a file", path, "a name without NUL bytes");
  // O_NONBLOCK: opening a FIFO without a writer would hang before fstat can tell.
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return fail("cannot open a file", path, "a readable file", std::strerror(errno));
  struct stat info;
  if (::fstat(fd, &info) != 0) {
    int error = errno;
    ::close(fd);
    return fail("cannot open a file", path, "a readable file", std::strerror(error));
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    return fail("cannot open a file", path, "a regular file", S_ISDIR(info.st_mode) ? "a directory" : "a special file");
  }
  const void *data = nullptr;
  uint64_t length = static_cast<uint64_t>(info.st_size);
  if (length) {
    void *mapped = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
      int error = errno;
      ::close(fd);
      return fail("cannot map a file", path, std::to_string(length) + " bytes of address space", std::strerror(error));
    }
    data = mapped;
    if (access != Access::Normal)
      ::madvise(mapped, length, access == Access::Sequential ? MADV_SEQUENTIAL : MADV_RANDOM);
  }
  ::close(fd);
  return std::shared_ptr<const MappedFile>(new MappedFile(path, data, length));
}

MappedFile::~MappedFile() {
  if (data)
    ::munmap(const_cast<void *>(data), length);
}

Expected<std::span<const uint8_t>> MappedFile::slice(uint64_t offset, uint64_t count, const std::string &what) const {
  if (offset > length || count > length - offset)
    return fail("data of " + what + " leaves its file", name,
                std::to_string(count) + " bytes from byte " + std::to_string(offset),
                "a file of " + std::to_string(length) + " bytes", "the file may be truncated");
  return std::span<const uint8_t>(begin() + offset, count);
}

void MappedFile::willNeed(uint64_t offset, uint64_t count) const {
  if (!data || offset >= length)
    return;
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t first = offset / page * page, end = count > length - offset ? length : offset + count;
  ::madvise(static_cast<char *>(const_cast<void *>(data)) + first, end - first, MADV_WILLNEED);
}

void MappedFile::release(uint64_t offset, uint64_t count) const {
  if (!data || offset >= length)
    return;
  uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t end = count > length - offset ? length : offset + count;
  uint64_t first = (offset + page - 1) / page * page, last = end / page * page;
  if (first < last)
    ::madvise(static_cast<char *>(const_cast<void *>(data)) + first, last - first, MADV_DONTNEED);
}

Expected<std::string> skim::readTextFile(const std::string &path, uint64_t limit) {
  Expected<std::shared_ptr<const MappedFile>> file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  if ((*file)->size() > limit)
    return fail("file is too long", path, "at most " + std::to_string(limit) + " bytes",
                std::to_string((*file)->size()));
  return std::string((*file)->bytes());
}
