#include "skim/Support/MappedFile.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace skim;

Expected<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string &path) {
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
  }
  ::close(fd);
  return std::shared_ptr<const MappedFile>(new MappedFile(path, data, length));
}

MappedFile::~MappedFile() {
  if (data)
    ::munmap(const_cast<void *>(data), length);
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
