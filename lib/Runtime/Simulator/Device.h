//===- Device.h - the memory of a simulated device --------------*- C++ -*-===//
#ifndef SKIM_LIB_RUNTIME_SIMULATOR_DEVICE_H
#define SKIM_LIB_RUNTIME_SIMULATOR_DEVICE_H

#include "Stacks.h"
#include "skim/Runtime/Simulator.h"

namespace skim::sim {

struct Buffer {
  std::string name;
  Address base = 0;
  uint64_t size = 0;
  uint8_t *data = nullptr;
  /// Empty where `data` is the host's.
  std::unique_ptr<uint8_t, void (*)(void *)> owned{nullptr, nullptr};
  bool readOnly = false;
  /// One byte for each, or empty where all are.
  std::vector<uint8_t> initialised;
  /// Device::countBytes: requests to each byte in this launch.
  std::vector<uint32_t> reads, writes;
  bool counted = false;
  uint64_t bytesRead = 0, bytesWritten = 0;

  bool holds(Address address, uint64_t bytes) const {
    return address >= base && bytes <= size && address - base <= size - bytes;
  }
};

struct Device::State {
  std::vector<std::unique_ptr<Buffer>> buffers; ///< by address
  Address next = 0x100000000;
  uint64_t requestLimit = uint64_t(1) << 30;
  Stacks stacks;

  /// The buffer with the largest base not above `address`, or null.
  Buffer *below(Address address) const;
  /// The buffer that holds all the bytes, or null.
  Buffer *find(Address address, uint64_t bytes) const;
  Buffer &add(std::string name, uint64_t bytes);
};

} // namespace skim::sim

#endif // SKIM_LIB_RUNTIME_SIMULATOR_DEVICE_H
