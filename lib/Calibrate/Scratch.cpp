#include "Scratch.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace skim;

Expected<Scratch> Scratch::open(const std::string &path, uint64_t bytes, bool keep) {
  int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (keep ? 0 : O_TRUNC), 0644);
  if (file < 0)
    return fail("cannot write", path, "a file for scratch data", std::strerror(errno));
  struct stat facts;
  Error error;
  void *data = nullptr;
  if (keep && (::fstat(file, &facts) || static_cast<uint64_t>(facts.st_size) != bytes))
    error = fail("unfinished work is damaged", path, std::to_string(bytes) + " bytes", "another size",
                 "remove it and start anew");
  // Real disk blocks: a full disk must be an error here, not a signal at a write.
  else if (int code = keep || bytes == 0 ? 0 : ::posix_fallocate(file, 0, static_cast<off_t>(bytes)))
    error = fail("cannot write", path, std::to_string(bytes) + " bytes of disk", std::strerror(code));
  else if (bytes && (data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)) == MAP_FAILED)
    error = fail("cannot map", path, "", std::strerror(errno));
  ::close(file);
  if (error)
    return error;
  return Scratch(data, bytes);
}

Scratch::~Scratch() {
  if (data)
    ::munmap(data, length);
}

Error WorkFolder::check(const std::string &output, bool resume) {
  std::string folder = output + ".work";
  std::error_code code;
  if (std::filesystem::exists(folder, code) && !resume)
    return fail("unfinished work", folder, "no such folder", "one of an interrupted run",
                "continue it with --resume, or remove it");
  if (std::filesystem::is_directory(output, code))
    return fail("cannot write", output, "a file", "a directory");
  return Error::success();
}

Expected<WorkFolder> WorkFolder::create(const std::string &output, bool resume) {
  if (Error error = check(output, resume))
    return error;
  std::string folder = output + ".work";
  std::error_code code;
  bool stale = std::filesystem::exists(folder, code);
  std::filesystem::create_directories(folder, code);
  if (code)
    return fail("cannot create folder", folder, "", code.message());
  int lock = ::open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0)
    return fail("cannot write", folder, "", std::strerror(errno));
  if (::flock(lock, LOCK_EX | LOCK_NB)) {
    ::close(lock);
    return fail("unfinished work is in use", folder, "no other process", "one that holds its lock");
  }
  return WorkFolder(folder, lock, stale);
}

WorkFolder::~WorkFolder() {
  if (lock >= 0)
    ::close(lock);
}

void WorkFolder::remove() {
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}
