#include "DriverApi.h"
#include "skim/Runtime/Cuda.h"
#include "skim/Support/ByteSize.h"

#include <cstdlib>
#include <dlfcn.h>

using namespace skim;
using namespace skim::cuda;

/// cuGraphInstantiateWithFlags is the youngest function that we use.
static constexpr int kOldestDriver = 11040;

std::string DeviceInfo::describe() const {
  return std::to_string(index) + ": " + name + " (sm_" + std::to_string(capability) + ", " + formatByteSize(bytes) +
         ")";
}

Failure Driver::failure(int result, const std::string &what, const std::string &where) const {
  const char *name = nullptr, *text = nullptr;
  if (table->errorName(result, &name) != kSuccess || !name)
    name = "unknown error";
  if (table->errorText(result, &text) != kSuccess || !text)
    text = "";
  return fail(what, where, "success", std::string(name) + " (" + std::to_string(result) + ")", text);
}

Expected<std::shared_ptr<const Driver>> Driver::load() {
  const char *named = std::getenv("SKIM_CUDA_DRIVER");
  std::string path = named && *named ? named : "libcuda.so.1";
  // Never unloaded: the driver's threads may live as long as the process.
  void *library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *text = ::dlerror();
    return fail("no NVIDIA driver", path, "the driver's library", text ? text : "none",
                "install NVIDIA's driver, or choose another target");
  }
  std::shared_ptr<Driver> driver(new Driver());
  driver->table = std::make_shared<Functions>();
  Functions &table = *driver->table;
  auto find = [&](const char *symbol) { return ::dlsym(library, symbol); };
  table.init = reinterpret_cast<decltype(table.init)>(find("cuInit"));
  table.driverVersion = reinterpret_cast<decltype(table.driverVersion)>(find("cuDriverGetVersion"));
  if (!table.init || !table.driverVersion)
    return fail("not an NVIDIA driver", path, "the functions of CUDA's driver interface", "a library without them");
  // The version is known before cuInit, and says why functions are missing.
  int version = 0;
  if (table.driverVersion(&version) == kSuccess && version < kOldestDriver)
    return fail("NVIDIA driver is too old", path, spellVersion(kOldestDriver) + " or newer", spellVersion(version),
                "install a newer driver");
  std::string missing;
#define SKIM_CUDA_FIND(name, symbol, arguments)                                                                        \
  if (!(table.name = reinterpret_cast<decltype(table.name)>(find(#symbol))) && missing.empty())                        \
    missing = #symbol;
  SKIM_CUDA_FUNCTIONS(SKIM_CUDA_FIND)
#undef SKIM_CUDA_FIND
  if (!missing.empty())
    return fail("not an NVIDIA driver", path, "the function " + missing, "a library without it");
  driver->cudaVersion = version;
  Result result = table.init(0);
  int count = 0;
  if (result == kSuccess)
    result = table.deviceCount(&count);
  if (result == kNoDevice || (result == kSuccess && count == 0))
    return fail("no NVIDIA device", path, "at least one device", "none", "CUDA_VISIBLE_DEVICES may hide them");
  if (result != kSuccess)
    return driver->failure(result, "NVIDIA driver does not start", path);

  for (int index = 0; index < count; ++index) {
    DeviceHandle handle = 0;
    if (Result failed = table.deviceGet(&handle, index))
      return driver->failure(failed, "cannot ask for a device", "device " + std::to_string(index));
    auto attribute = [&](int which) {
      int value = 0;
      return table.deviceAttribute(&value, which, handle) == kSuccess ? value : 0;
    };
    DeviceInfo info;
    info.index = index;
    char name[128] = "";
    if (table.deviceName(name, sizeof name - 1, handle) == kSuccess)
      info.name = name;
    size_t bytes = 0;
    if (table.deviceMemory(&bytes, handle) == kSuccess)
      info.bytes = bytes;
    info.capability = 10 * attribute(kCapabilityMajor) + attribute(kCapabilityMinor);
    info.multiprocessors = attribute(kMultiprocessors);
    info.clockKHz = attribute(kClockRate);
    info.memoryClockKHz = attribute(kMemoryClockRate);
    info.memoryBusBits = attribute(kMemoryBusWidth);
    info.l2Bytes = attribute(kL2CacheSize);
    info.sharedBytes = attribute(kSharedMemoryOptIn);
    driver->list.push_back(std::move(info));
  }
  return std::shared_ptr<const Driver>(std::move(driver));
}
