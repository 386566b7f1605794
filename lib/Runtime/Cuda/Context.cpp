#include "DriverApi.h"
#include "skim/Runtime/Cuda.h"
#include "skim/Support/ByteSize.h"

#include <utility>

using namespace skim;
using namespace skim::cuda;

/// Makes the context current for a scope, whatever the caller's was.
class Context::Current {
public:
  explicit Current(const Context &context) : functions(context.driver->functions()) {
    result = functions.contextPush(context.context);
  }
  ~Current() {
    ContextHandle ignored;
    if (result == kSuccess)
      functions.contextPop(&ignored);
  }
  const Functions &functions;
  Result result;
};

Error Context::check(int result, const std::string &what) const {
  if (result == kSuccess)
    return Error::success();
  return driver->failure(result, what, "device " + info.describe());
}

Expected<std::shared_ptr<Context>> Context::open(int index) {
  Expected<std::shared_ptr<const Driver>> driver = Driver::load();
  if (!driver)
    return driver.takeError();
  const std::vector<DeviceInfo> &devices = (*driver)->devices();
  if (index < 0 || static_cast<size_t>(index) >= devices.size()) {
    std::string names;
    for (const DeviceInfo &device : devices)
      names += (names.empty() ? "" : ", ") + device.describe();
    return fail("no such device", "", "one of " + names, std::to_string(index));
  }
  std::shared_ptr<Context> context(new Context());
  context->driver = *driver;
  context->info = devices[static_cast<size_t>(index)];
  const Functions &functions = (*driver)->functions();
  if (Error error = context->check(functions.deviceGet(&context->handle, index), "cannot use the device"))
    return error;
  if (Error error =
          context->check(functions.contextRetain(&context->context, context->handle), "cannot use the device")) {
    context->context = nullptr;
    return error;
  }
  Current current(*context);
  if (Error error = context->check(current.result, "cannot use the device"))
    return error;
  // Not ordered with what others do in the default stream.
  if (Error error =
          context->check(functions.streamCreate(&context->stream, kStreamNonBlocking), "cannot create a stream"))
    return error;
  return context;
}

Context::~Context() {
  if (!context)
    return;
  {
    Current current(*this);
    if (stream)
      current.functions.streamDestroy(stream);
  }
  driver->functions().contextRelease(handle);
}

uint64_t Context::freeBytes() const {
  Current current(*this);
  size_t free = 0, total = 0;
  return current.functions.memoryInfo(&free, &total) == kSuccess ? free : 0;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Memory::Memory(Memory &&other) noexcept
    : owner(std::move(other.owner)), at(std::exchange(other.at, 0)), bytes(std::exchange(other.bytes, 0)),
      pinned(other.pinned) {}

Memory &Memory::operator=(Memory &&other) noexcept {
  std::swap(owner, other.owner);
  std::swap(at, other.at);
  std::swap(bytes, other.bytes);
  std::swap(pinned, other.pinned);
  return *this;
}

Memory::~Memory() {
  if (!owner)
    return;
  Context::Current current(*owner);
  if (pinned)
    current.functions.pinnedFree(host());
  else
    current.functions.memoryFree(at);
}

Expected<Memory> Context::allocate(uint64_t bytes, const std::string &what) {
  Current current(*this);
  Memory memory;
  Address address = 0;
  Result result = current.functions.memoryAllocate(&address, std::max<uint64_t>(bytes, 256));
  if (result == kOutOfMemory)
    return fail("not enough device memory for " + what, "device " + info.describe(), formatByteSize(bytes),
                formatByteSize(freeBytes()) + " free", "end other programs on it, or use a smaller package or context");
  if (result != kSuccess)
    return driver->failure(result, "cannot allocate " + what, "device " + info.describe());
  memory.owner = shared_from_this();
  memory.at = address;
  memory.bytes = bytes;
  return memory;
}

Expected<Memory> Context::allocatePinned(uint64_t bytes, const std::string &what) {
  Current current(*this);
  void *address = nullptr;
  Result result = current.functions.pinnedAllocate(&address, std::max<uint64_t>(bytes, 256));
  if (result != kSuccess)
    return driver->failure(result, "not enough pinned memory for " + what, "the host");
  Memory memory;
  memory.owner = shared_from_this();
  memory.at = reinterpret_cast<uintptr_t>(address);
  memory.bytes = bytes;
  memory.pinned = true;
  return memory;
}

Error Context::copyIn(uint64_t to, const void *from, uint64_t bytes) {
  Current current(*this);
  return check(current.functions.copyIn(to, from, bytes, stream), "cannot copy to the device");
}

Error Context::copyOut(void *to, uint64_t from, uint64_t bytes) {
  Current current(*this);
  return check(current.functions.copyOut(to, from, bytes, stream), "cannot copy from the device");
}

Error Context::copyWithin(uint64_t to, uint64_t from, uint64_t bytes) {
  Current current(*this);
  return check(current.functions.copyWithin(to, from, bytes, stream), "cannot copy on the device");
}

Error Context::fill(uint64_t to, uint8_t value, uint64_t bytes) {
  Current current(*this);
  return check(bytes ? current.functions.memorySet(to, value, bytes, stream) : kSuccess, "cannot fill device memory");
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

/// The line of a log that says most.
static std::string firstLine(const std::string &log) {
  size_t begin = log.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos)
    return "no reason given";
  return log.substr(begin, log.find_first_of("\r\n", begin) - begin);
}

Expected<std::unique_ptr<Module>> Context::load(const std::string &ptx, const std::string &cubin,
                                                const std::string &chipName, const std::string &where) {
  std::optional<Chip> chip = parseChip(chipName);
  if (!chip)
    return fail("unknown chip", where, "sm_80 and the like", chipName);
  if (!chip->runsOn(info.capability))
    return fail("kernels for another device", where, "a device of " + chipName + (chip->exact ? "" : " or newer"),
                info.describe(), "skim compile adds another --target; nvidia:sm_80 runs on most devices");
  Current current(*this);
  std::unique_ptr<Module> module(new Module());
  module->owner = shared_from_this();
  // Machine code is for its major version; a driver older than the assembler may not know its form.
  bool fits = info.capability / 10 == chip->capability / 10;
  if (fits && !cubin.empty() &&
      current.functions.moduleLoad(&module->handle, cubin.data(), 0, nullptr, nullptr) == kSuccess)
    return module;
  if (std::optional<int> needed = driverForPtx(ptx); needed && *needed > driver->version())
    return fail("NVIDIA driver is too old", where, spellVersion(*needed) + " or newer for " + chipName,
                spellVersion(driver->version()), "install a newer driver, or skim compile for an older chip");
  std::string log(4096, '\0');
  int options[] = {kJitErrorLogBuffer, kJitErrorLogBufferSizeBytes};
  void *values[] = {log.data(), reinterpret_cast<void *>(log.size() - 1)};
  Result result = current.functions.moduleLoad(&module->handle, ptx.c_str(), 2, options, values);
  if (result != kSuccess) {
    module->handle = nullptr;
    log.resize(log.find('\0'));
    Failure failure = driver->failure(result, "the driver does not take the kernels", where);
    if (!log.empty())
      failure.hint = firstLine(log);
    return failure;
  }
  return module;
}

Module::~Module() {
  if (!handle)
    return;
  Context::Current current(*owner);
  current.functions.moduleUnload(handle);
}

Expected<Function> Module::function(const std::string &name, uint32_t dynamicShared) const {
  Context::Current current(*owner);
  Function function;
  Result result = current.functions.moduleFunction(&function.handle, handle, name.c_str());
  if (result == kNotFound)
    return fail("no such kernel", "the package's kernels", name, "none of that name", "skim compile makes them anew");
  if (Error error = owner->check(result, "cannot use kernel " + name))
    return error;
  auto attribute = [&](int which) {
    int value = 0;
    return current.functions.functionAttribute(&value, which, function.handle) == kSuccess ? value : 0;
  };
  function.registers = attribute(kRegisters);
  function.sharedBytes = attribute(kSharedSizeBytes);
  function.localBytes = attribute(kLocalSizeBytes);
  function.maxThreads = attribute(kMaxThreadsPerBlock);
  // More than 48 KiB, the sum of both kinds, must be asked for.
  if (function.sharedBytes + static_cast<int64_t>(dynamicShared) > 48 * 1024)
    if (Error error = owner->check(current.functions.functionSetAttribute(function.handle, kMaxDynamicSharedSizeBytes,
                                                                          static_cast<int>(dynamicShared)),
                                   "too much shared memory for kernel " + name + " (" +
                                       std::to_string(function.sharedBytes) + " + " + std::to_string(dynamicShared) +
                                       " of " + std::to_string(owner->info.sharedBytes) + " bytes)"))
      return error;
  return function;
}

Error Context::launch(const Function &function, std::array<uint32_t, 3> grid, uint32_t threads, uint32_t dynamicShared,
                      std::span<const uint64_t> arguments) {
  // The driver reads as many bytes of each as the kernel's argument has: the low ones.
  std::vector<void *> pointers;
  for (const uint64_t &argument : arguments)
    pointers.push_back(const_cast<uint64_t *>(&argument));
  Current current(*this);
  return check(current.functions.launch(function.handle, grid[0], grid[1], grid[2], threads, 1, 1, dynamicShared,
                                        stream, pointers.data(), nullptr),
               "cannot launch a kernel");
}

//===----------------------------------------------------------------------===//
// Order and time
//===----------------------------------------------------------------------===//

Expected<std::unique_ptr<Graph>> Context::record(const std::function<Error()> &body) {
  Current current(*this);
  const Functions &functions = current.functions;
  if (Error error = check(functions.captureBegin(stream, kCaptureThreadLocal), "cannot record a graph"))
    return error;
  Error failed = body();
  GraphHandle graph = nullptr;
  Result ended = functions.captureEnd(stream, &graph);
  if (failed || ended != kSuccess) {
    if (graph)
      functions.graphDestroy(graph);
    return failed ? failed : check(ended, "cannot record a graph");
  }
  std::unique_ptr<Graph> recorded(new Graph());
  recorded->owner = shared_from_this();
  Result result = functions.graphInstantiate(&recorded->exec, graph, 0);
  functions.graphDestroy(graph);
  if (Error error = check(result, "cannot instantiate a graph")) {
    recorded->exec = nullptr;
    return error;
  }
  return recorded;
}

Graph::~Graph() {
  if (!exec)
    return;
  Context::Current current(*owner);
  current.functions.graphExecDestroy(exec);
}

Error Context::launch(const Graph &graph) {
  Current current(*this);
  return check(current.functions.graphLaunch(graph.exec, stream), "cannot launch a graph");
}

Error Context::wait() {
  Current current(*this);
  return check(current.functions.streamSynchronize(stream), "work on the device failed");
}

Expected<std::unique_ptr<Context::Event>> Context::event(bool timed) {
  Current current(*this);
  std::unique_ptr<Event> made(new Event());
  if (Error error = check(current.functions.eventCreate(&made->handle, timed ? kEventDefault : kEventDisableTiming),
                          "cannot create an event"))
    return error;
  made->owner = shared_from_this();
  return made;
}

Context::Event::~Event() {
  if (!owner)
    return;
  Current current(*owner);
  current.functions.eventDestroy(handle);
}

Error Context::mark(Event &event) {
  Current current(*this);
  return check(current.functions.eventRecord(event.handle, stream), "cannot record an event");
}

Error Context::wait(Event &event) {
  Current current(*this);
  return check(current.functions.eventSynchronize(event.handle), "work on the device failed");
}

Expected<double> Context::elapsed(const Event &begin, const Event &end) {
  Current current(*this);
  float milliseconds = 0;
  if (Error error =
          check(current.functions.eventElapsed(&milliseconds, begin.handle, end.handle), "cannot read the clock"))
    return error;
  return static_cast<double>(milliseconds);
}

Error Context::withStream(const std::function<Error(void *stream)> &body) {
  Current current(*this);
  if (Error error = check(current.result, "cannot use the device"))
    return error;
  return body(stream);
}
