// The functions of lib/Runtime/Cuda/DriverApi.h over the simulator.
#include "FakeDevice.h"

#include "skim/Runtime/SimulatedProduct.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sstream>

using namespace skim;
using namespace skim::cuda;

static constexpr Result kInvalidContext = 201, kUnsupportedPtxVersion = 222, kNotReady = 600, kCaptureUnsupported = 900;

/// Declared as the runtime declares them: another signature does not compile.
#define SKIM_CUDA_DECLARE(name, symbol, arguments) extern "C" Result symbol arguments;
SKIM_CUDA_FUNCTIONS(SKIM_CUDA_DECLARE)
#undef SKIM_CUDA_DECLARE

static thread_local std::vector<ContextHandle> current;

/// Holds the lock; `result` is what a call fails with that has no context.
struct Call {
  Call() : state(State::get()), lock(state.mutex), result(current.empty() ? kInvalidContext : state.sticky) {}
  State &state;
  std::lock_guard<std::recursive_mutex> lock;
  Result result;
};

/// What must not happen while a stream is captured.
static bool anyCapturing(State &state) {
  return std::any_of(state.streams.begin(), state.streams.end(),
                     [](OpaqueStream *stream) { return stream->capturing; });
}

Result cuInit(unsigned) { return static_cast<Result>(settingNumber("init", kSuccess)); }
Result cuDriverGetVersion(int *version) {
  *version = static_cast<int>(settingNumber("driver", 12080));
  return kSuccess;
}
Result cuGetErrorName(Result result, const char **name) {
  *name = result == kOutOfMemory      ? "CUDA_ERROR_OUT_OF_MEMORY"
          : result == kIllegalAddress ? "CUDA_ERROR_ILLEGAL_ADDRESS"
          : result == kInvalidPtx     ? "CUDA_ERROR_INVALID_PTX"
          : result == kInvalidContext ? "CUDA_ERROR_INVALID_CONTEXT"
          : result == kNotFound       ? "CUDA_ERROR_NOT_FOUND"
          : result == kNotInitialized ? "CUDA_ERROR_NOT_INITIALIZED"
                                      : "CUDA_ERROR_UNKNOWN";
  return kSuccess;
}
Result cuGetErrorString(Result, const char **text) {
  *text = "as the fake driver has it";
  return kSuccess;
}

Result cuDeviceGetCount(int *count) {
  *count = static_cast<int>(settingNumber("devices", 1));
  return kSuccess;
}
Result cuDeviceGet(DeviceHandle *device, int index) {
  *device = index;
  return kSuccess;
}
Result cuDeviceGetName(char *name, int bytes, DeviceHandle) {
  std::snprintf(name, static_cast<size_t>(bytes), "%s", setting("name", "Simulator").c_str());
  return kSuccess;
}
Result cuDeviceGetAttribute(int *value, int attribute, DeviceHandle) {
  int arch = static_cast<int>(settingNumber("arch", 80));
  *value = attribute == kCapabilityMajor     ? arch / 10
           : attribute == kCapabilityMinor   ? arch % 10
           : attribute == kMultiprocessors   ? 1
           : attribute == kSharedMemoryOptIn ? 163 << 10
           : attribute == kL2CacheSize       ? 1 << 16
                                             : 0;
  return kSuccess;
}
Result cuDeviceTotalMem_v2(size_t *bytes, DeviceHandle) {
  *bytes = static_cast<size_t>(settingNumber("memory", int64_t(1) << 30));
  return kSuccess;
}

Result cuDevicePrimaryCtxRetain(ContextHandle *context, DeviceHandle device) {
  State &state = State::get();
  std::lock_guard<std::recursive_mutex> lock(state.mutex);
  ++state.contexts;
  state.context.device = device;
  *context = &state.context;
  return kSuccess;
}
Result cuDevicePrimaryCtxRelease_v2(DeviceHandle) {
  State &state = State::get();
  std::lock_guard<std::recursive_mutex> lock(state.mutex);
  if (--state.contexts == 0)
    state.writeLog();
  return kSuccess;
}
Result cuCtxPushCurrent_v2(ContextHandle context) {
  current.push_back(context);
  return kSuccess;
}
Result cuCtxPopCurrent_v2(ContextHandle *context) {
  if (current.empty())
    return kInvalidContext;
  *context = current.back();
  current.pop_back();
  return kSuccess;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Result cuMemGetInfo_v2(size_t *free, size_t *total) {
  Call call;
  *total = static_cast<size_t>(settingNumber("memory", int64_t(1) << 30));
  *free = *total - std::min<size_t>(*total, call.state.used);
  return call.result;
}
Result cuMemAlloc_v2(Address *address, size_t bytes) {
  Call call;
  if (call.result != kSuccess || bytes == 0)
    return call.result ? call.result : kInvalidValue;
  size_t free = 0, total = 0;
  cuMemGetInfo_v2(&free, &total);
  // For tests of what fails late: the driver cannot give all that it says is free.
  if (bytes + static_cast<size_t>(settingNumber("reserve", 0)) > free)
    return kOutOfMemory;
  *address = call.state.device.allocate("memory " + std::to_string(call.state.counts["allocations"]++), bytes,
                                        sim::Device::Content::Uninitialised);
  call.state.memory[*address] = bytes;
  call.state.used += bytes;
  return kSuccess;
}
Result cuMemFree_v2(Address address) {
  Call call;
  auto found = call.state.memory.find(address);
  if (found == call.state.memory.end() || current.empty())
    return kInvalidValue;
  call.state.drainAll(); // as freeing waits for the device
  call.state.used -= found->second;
  call.state.memory.erase(found);
  call.state.device.release(address);
  return kSuccess;
}
Result cuMemAllocHost_v2(void **memory, size_t bytes) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  auto *data = new uint8_t[bytes];
  call.state.pinned[data] = bytes;
  *memory = data;
  return kSuccess;
}
Result cuMemFreeHost(void *memory) {
  Call call;
  auto found = call.state.pinned.find(static_cast<uint8_t *>(memory));
  if (found == call.state.pinned.end() || current.empty())
    return kInvalidValue;
  call.state.drainAll();
  delete[] found->first;
  call.state.pinned.erase(found);
  return kSuccess;
}

/// Prints what went wrong; a device that did something impossible is broken.
static bool succeeded(const Error &error) {
  if (error)
    std::fprintf(stderr, "fake CUDA: %s\n", error.message().c_str());
  return !error;
}

Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, StreamHandle stream) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  auto work = [=, &state = call.state] {
    ++state.counts["copies_in"];
    state.counts["bytes_in"] += static_cast<int64_t>(bytes);
    return succeeded(state.device.copyIn(to, from, bytes));
  };
  if (call.state.isPinned(from, bytes))
    return call.state.push(*stream, work);
  if (stream->capturing)
    return kCaptureUnsupported;
  call.state.drain(*stream);
  return work() ? call.state.sticky : kInvalidValue;
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, StreamHandle stream) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  auto work = [=, &state = call.state] {
    ++state.counts["copies_out"];
    state.counts["bytes_out"] += static_cast<int64_t>(bytes);
    return succeeded(state.device.copyOut(to, from, bytes));
  };
  if (call.state.isPinned(to, bytes))
    return call.state.push(*stream, work);
  if (stream->capturing)
    return kCaptureUnsupported;
  call.state.drain(*stream);
  return call.state.sticky ? call.state.sticky : work() ? kSuccess : kInvalidValue;
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, StreamHandle stream) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  return call.state.push(*stream, [=, &state = call.state] {
    const void *data = state.device.host(from, bytes);
    if (!data)
      return succeeded(fail("copy from outside of memory"));
    return succeeded(state.device.copyIn(to, data, bytes));
  });
}
Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes, StreamHandle stream) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  return call.state.push(*stream, [=, &state = call.state] {
    return succeeded(state.device.copyIn(to, std::vector<unsigned char>(bytes, value).data(), bytes));
  });
}

/// No function of a driver: what fake-cublas gives to the stream (sim::Product).
extern "C" Result cuFakeProduct(Address w, Address x, Address y, int n, int rows, int k, int stride, bool bf16,
                                bool floats, bool add, StreamHandle stream) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  return call.state.push(*stream, [=, &state = call.state] {
    ++state.counts["products"];
    return succeeded(sim::multiply(state.device, {n, k, rows, stride, bf16, add, floats}, w, x, y));
  });
}

//===----------------------------------------------------------------------===//
// Streams, events, graphs
//===----------------------------------------------------------------------===//

Result cuStreamCreate(StreamHandle *stream, unsigned) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  *stream = new OpaqueStream();
  call.state.streams.insert(*stream);
  return kSuccess;
}
Result cuStreamDestroy_v2(StreamHandle stream) {
  Call call;
  call.state.drain(*stream);
  call.state.streams.erase(stream);
  delete stream;
  return kSuccess;
}
Result cuStreamSynchronize(StreamHandle stream) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  if (stream->capturing)
    return kCaptureUnsupported;
  return call.state.drain(*stream);
}
Result cuEventCreate(EventHandle *event, unsigned) {
  Call call;
  if (call.result == kSuccess)
    *event = new OpaqueEvent();
  return call.result;
}
Result cuEventRecord(EventHandle event, StreamHandle stream) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  event->done = false;
  return call.state.push(*stream, [event] {
    event->done = true;
    event->time = std::chrono::steady_clock::now();
    return true;
  });
}
Result cuEventSynchronize(EventHandle event) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  for (OpaqueStream *stream : call.state.streams)
    if (!event->done)
      call.state.drain(*stream, event);
  return call.state.sticky;
}
Result cuEventElapsedTime(float *milliseconds, EventHandle begin, EventHandle end) {
  Call call;
  if (!begin->done || !end->done)
    return kNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return call.result;
}
Result cuEventDestroy_v2(EventHandle event) {
  Call call;
  call.state.drainAll();
  delete event;
  return kSuccess;
}

Result cuStreamBeginCapture_v2(StreamHandle stream, int) {
  Call call;
  if (call.result != kSuccess || stream->capturing)
    return call.result ? call.result : kCaptureUnsupported;
  stream->capturing = true;
  return kSuccess;
}
Result cuStreamEndCapture(StreamHandle stream, GraphHandle *graph) {
  Call call;
  if (!stream->capturing)
    return kInvalidValue;
  stream->capturing = false;
  *graph = new OpaqueGraph{std::move(stream->captured)};
  stream->captured.clear();
  return call.result;
}
Result cuGraphInstantiateWithFlags(GraphExecHandle *exec, GraphHandle graph, unsigned long long) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  ++call.state.counts["graphs"];
  *exec = new OpaqueGraphExec{graph->nodes};
  return kSuccess;
}
Result cuGraphLaunch(GraphExecHandle exec, StreamHandle stream) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  ++call.state.counts["graph_launches"];
  for (const Work &work : exec->nodes)
    call.state.push(*stream, work);
  return call.state.sticky;
}
Result cuGraphExecDestroy(GraphExecHandle exec) {
  Call call;
  call.state.drainAll();
  delete exec;
  return kSuccess;
}
Result cuGraphDestroy(GraphHandle graph) {
  delete graph;
  return kSuccess;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

/// The simulator's kernels that are those of the image, by their names.
static Result loadKernels(OpaqueModule &module, std::string &log) {
  std::istringstream files(setting("kernels"));
  for (std::string path; std::getline(files, path, ',');) {
    Expected<std::unique_ptr<sim::Module>> kernels = sim::Module::open(path);
    if (!kernels) {
      log = kernels.message();
      return kInvalidImage;
    }
    std::vector<std::string> names = (*kernels)->kernels();
    if (names.size() != module.entries.size() || !std::all_of(names.begin(), names.end(), [&](const std::string &name) {
          return module.entries.contains(name);
        }))
      continue;
    module.kernels = std::move(*kernels);
    return kSuccess;
  }
  log = "none of the simulator's modules has the kernels of the image";
  return kInvalidImage;
}

Result cuModuleLoadDataEx(ModuleHandle *module, const void *image, unsigned count, int *options, void **values) {
  Call call;
  if (call.result != kSuccess || anyCapturing(call.state))
    return call.result ? call.result : kCaptureUnsupported;
  std::string log;
  auto made = std::make_unique<OpaqueModule>();
  Result result = kSuccess;
  bool isPtx = false;
  Expected<std::map<std::string, unsigned>> entries = readImage(static_cast<const char *>(image), isPtx);
  if (isPtx && setting("jit") == "fail")
    entries = fail("ptxas application ptx input, line 7; error   : Unknown modifier '.cs'");
  if (!entries) {
    log = entries.message();
    result = kInvalidPtx;
  } else if (!isPtx && setting("cubin") == "refuse") {
    result = kNoBinaryForGpu;
  } else if (isPtx && settingNumber("driver", 12080) < 11040) {
    result = kUnsupportedPtxVersion;
  } else {
    made->entries = std::move(*entries);
    result = loadKernels(*made, log);
  }
  if (result != kSuccess) {
    std::map<int, void *> given;
    for (unsigned i = 0; i < count; ++i)
      given[options[i]] = values[i];
    if (given.contains(kJitErrorLogBuffer)) {
      size_t room = reinterpret_cast<size_t>(given[kJitErrorLogBufferSizeBytes]);
      std::snprintf(static_cast<char *>(given[kJitErrorLogBuffer]), room, "%s\n", log.c_str());
    } else if (!log.empty()) {
      std::fprintf(stderr, "fake CUDA: %s\n", log.c_str());
    }
    return result;
  }
  ++call.state.counts[isPtx ? "modules_from_ptx" : "modules_from_cubin"];
  *module = made.release();
  return kSuccess;
}
Result cuModuleUnload(ModuleHandle module) {
  Call call;
  call.state.drainAll();
  delete module;
  return kSuccess;
}
Result cuModuleGetFunction(FunctionHandle *function, ModuleHandle module, const char *name) {
  Call call;
  const sim::Module::Kernel *kernel = module->kernels->kernel(name);
  if (!kernel)
    return kNotFound;
  auto [entry, isNew] =
      module->functions.try_emplace(name, OpaqueFunction{name, kernel, module->kernels.get(), module->entries[name]});
  *function = &entry->second;
  return call.result;
}
Result cuFuncGetAttribute(int *value, int attribute, FunctionHandle function) {
  *value = attribute == kSharedSizeBytes      ? static_cast<int>(function->kernel->shared)
           : attribute == kMaxThreadsPerBlock ? 1024
           : attribute == kRegisters          ? 32
                                              : 0;
  return kSuccess;
}
Result cuFuncSetAttribute(FunctionHandle function, int attribute, int value) {
  if (attribute != kMaxDynamicSharedSizeBytes || value + static_cast<int>(function->kernel->shared) > 163 << 10)
    return kInvalidValue;
  function->dynamicShared = value;
  return kSuccess;
}
Result cuLaunchKernel(FunctionHandle function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
                      unsigned blockY, unsigned blockZ, unsigned sharedBytes, StreamHandle stream, void **parameters,
                      void **extra) {
  Call call;
  if (call.result != kSuccess)
    return call.result;
  bool rightThreads = !function->threads || (blockX == function->threads && blockY == 1 && blockZ == 1);
  bool rightShared =
      sharedBytes + function->kernel->shared <=
      std::max<uint32_t>(48 << 10, static_cast<uint32_t>(function->dynamicShared) + function->kernel->shared);
  if (extra || !rightThreads || !rightShared || gridX == 0 || gridY == 0 || gridZ == 0)
    return kInvalidValue;
  // Arguments are read now, as many bytes as the kernel's have.
  std::vector<sim::Argument> arguments;
  for (uint32_t bytes : function->kernel->arguments) {
    sim::Argument argument{0, bytes};
    std::memcpy(&argument.bits, parameters[arguments.size()], bytes);
    arguments.push_back(argument);
  }
  sim::LaunchShape shape{{gridX, gridY, gridZ}, {blockX, blockY, blockZ}, sharedBytes};
  if (!stream->capturing)
    ++call.state.counts["launches"];
  return call.state.push(*stream, [=, &state = call.state] {
    ++state.counts["kernels"];
    return succeeded(function->module->launch(state.device, function->name, shape, arguments).takeError());
  });
}
