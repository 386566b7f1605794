#include "Region.h"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <utility>

using namespace skim;

Expected<Region> Region::allocate(uint64_t bytes, const std::string &what, Pages pages) {
  Region region;
  if (bytes == 0)
    return region;
  void *mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED)
    return fail("not enough memory for " + what, "", std::to_string(bytes) + " bytes of address space",
                std::strerror(errno));
  // A hint either way: a kernel may give huge pages to everybody or to nobody.
  ::madvise(mapped, bytes, pages == Pages::Huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  region.start = static_cast<uint8_t *>(mapped);
  region.length = bytes;
  return region;
}

Region::Region(Region &&other) noexcept
    : start(std::exchange(other.start, nullptr)), length(std::exchange(other.length, 0)) {}

Region &Region::operator=(Region &&other) noexcept {
  std::swap(start, other.start);
  std::swap(length, other.length);
  return *this;
}

Region::~Region() {
  if (start)
    ::munmap(start, length);
}
