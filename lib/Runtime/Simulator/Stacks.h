//===- Stacks.h - one stack for each lane -----------------------*- C++ -*-===//
#ifndef SKIM_LIB_RUNTIME_SIMULATOR_STACKS_H
#define SKIM_LIB_RUNTIME_SIMULATOR_STACKS_H

#include <cstddef>

namespace skim::sim {

/// Stacks with a page below each that cannot be touched; kept between launches.
class Stacks {
public:
  static constexpr size_t kBytes = 128 << 10;
  Stacks() = default;
  ~Stacks();
  Stacks(const Stacks &) = delete;
  Stacks &operator=(const Stacks &) = delete;
  /// False where there is no memory for that many.
  bool reserve(size_t count);
  /// The address behind stack `index`, from which it grows down.
  char *top(size_t index) const { return memory + (index + 1) * kBytes; }
  /// What of kBytes can be used.
  static size_t usable();

private:
  char *memory = nullptr;
  size_t count = 0;
};

} // namespace skim::sim

#endif // SKIM_LIB_RUNTIME_SIMULATOR_STACKS_H
