//===- Region.h - anonymous memory straight from the kernel ------*- C++ -*-===//
#ifndef SKIM_LIB_RUNTIME_REGION_H
#define SKIM_LIB_RUNTIME_REGION_H

#include "skim/Support/Error.h"

#include <cstdint>
#include <string>

namespace skim {

/// Zeroed memory whose pages exist only once they are touched, aligned to a
/// page. Sized for the largest case, it costs only what is used of it.
class Region {
public:
  enum class Pages {
    Small, // for memory that is used here and there
    Huge   // for memory that is used from front to back
  };
  /// `what` names the memory in the error.
  static Expected<Region> allocate(uint64_t bytes, const std::string &what, Pages pages);

  Region() = default;
  Region(Region &&other) noexcept;
  Region &operator=(Region &&other) noexcept;
  ~Region();

  uint8_t *data() const { return start; }
  uint64_t size() const { return length; }

private:
  uint8_t *start = nullptr;
  uint64_t length = 0;
};

} // namespace skim

#endif // SKIM_LIB_RUNTIME_REGION_H
