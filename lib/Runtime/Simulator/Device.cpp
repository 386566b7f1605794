#include "Device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

using namespace skim;
using namespace skim::sim;

//===----------------------------------------------------------------------===//
// Stacks
//===----------------------------------------------------------------------===//

static size_t pageSize() {
  static const size_t size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

size_t Stacks::usable() { return kBytes - pageSize(); }

bool Stacks::reserve(size_t wanted) {
  if (wanted <= count)
    return true;
  void *fresh = ::mmap(nullptr, wanted * kBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (fresh == MAP_FAILED)
    return false;
  if (memory)
    ::munmap(memory, count * kBytes);
  memory = static_cast<char *>(fresh);
  count = wanted;
  for (size_t i = 0; i < count; ++i)
    if (::mprotect(memory + i * kBytes, pageSize(), PROT_NONE))
      return false;
  return true;
}

Stacks::~Stacks() {
  if (memory)
    ::munmap(memory, count * kBytes);
}

//===----------------------------------------------------------------------===//
// Device
//===----------------------------------------------------------------------===//

static constexpr uint64_t kAlignment = 256;
// Accesses that miss a buffer by less than this hit nothing.
static constexpr uint64_t kGap = 1 << 16;

Device::Device() : impl(std::make_unique<State>()) {}
Device::~Device() = default;

Buffer *Device::State::below(Address address) const {
  auto above = std::upper_bound(buffers.begin(), buffers.end(), address,
                                [](Address wanted, const auto &buffer) { return wanted < buffer->base; });
  return above == buffers.begin() ? nullptr : std::prev(above)->get();
}

Buffer *Device::State::find(Address address, uint64_t bytes) const {
  Buffer *buffer = below(address);
  return buffer && buffer->holds(address, bytes) ? buffer : nullptr;
}

Buffer &Device::State::add(std::string name, uint64_t bytes) {
  auto buffer = std::make_unique<Buffer>();
  buffer->name = std::move(name);
  buffer->base = next;
  buffer->size = bytes;
  next += (bytes + kGap + kAlignment - 1) / kAlignment * kAlignment;
  buffers.push_back(std::move(buffer));
  return *buffers.back();
}

Address Device::allocate(std::string name, uint64_t bytes, Content content) {
  Buffer &buffer = impl->add(std::move(name), bytes);
  uint64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void *memory = std::aligned_alloc(kAlignment, std::max(rounded, kAlignment));
  if (!memory)
    std::abort(); // as operator new would
  buffer.owned = {static_cast<uint8_t *>(memory), std::free};
  buffer.data = buffer.owned.get();
  std::memset(buffer.data, 0, rounded);
  if (content == Content::Uninitialised)
    buffer.initialised.assign(bytes, 0);
  return buffer.base;
}

Address Device::allocate(std::string name, const void *data, uint64_t bytes) {
  Address address = allocate(std::move(name), bytes, Content::Zero);
  std::memcpy(impl->buffers.back()->data, data, bytes);
  return address;
}

Address Device::map(std::string name, const void *data, uint64_t bytes) {
  Buffer &buffer = impl->add(std::move(name), bytes);
  buffer.data = static_cast<uint8_t *>(const_cast<void *>(data));
  buffer.readOnly = true;
  return buffer.base;
}

Address Device::share(std::string name, void *data, uint64_t bytes) {
  Buffer &buffer = impl->add(std::move(name), bytes);
  buffer.data = static_cast<uint8_t *>(data);
  return buffer.base;
}

void Device::countBytes(Address address) {
  Buffer *buffer = impl->find(address, 0);
  if (!buffer)
    return;
  buffer->counted = true;
  buffer->reads.assign(buffer->size, 0);
  buffer->writes.assign(buffer->size, 0);
}

void Device::release(Address address) {
  std::erase_if(impl->buffers, [&](const auto &buffer) { return buffer->base == address; });
}

std::optional<Device::BufferPlace> Device::bufferAt(Address address) const {
  Buffer *buffer = impl->find(address, 1);
  if (!buffer)
    return std::nullopt;
  return BufferPlace{buffer->name, buffer->base, buffer->size};
}

void Device::limitRequests(uint64_t requests) { impl->requestLimit = requests; }

void *Device::host(Address address, uint64_t bytes) const {
  Buffer *buffer = impl->find(address, bytes);
  return buffer ? buffer->data + (address - buffer->base) : nullptr;
}

static Failure outside(Address address, uint64_t bytes) {
  return fail("cannot copy", "device address " + std::to_string(address),
              "a buffer with " + std::to_string(bytes) + " bytes there", "none");
}

Error Device::copyIn(Address address, const void *data, uint64_t bytes) {
  Buffer *buffer = impl->find(address, bytes);
  if (!buffer || buffer->readOnly)
    return outside(address, bytes);
  uint64_t offset = address - buffer->base;
  std::memcpy(buffer->data + offset, data, bytes);
  if (!buffer->initialised.empty())
    std::fill_n(buffer->initialised.begin() + static_cast<int64_t>(offset), bytes, uint8_t(1));
  return Error::success();
}

Error Device::copyOut(void *data, Address address, uint64_t bytes) const {
  const void *from = host(address, bytes);
  if (!from)
    return outside(address, bytes);
  std::memcpy(data, from, bytes);
  return Error::success();
}
