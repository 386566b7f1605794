//===- Cuda.h - NVIDIA devices through their driver --------------*- C++ -*-===//
//
// The driver's library is loaded when it is first needed (libcuda.so.1, or what
// SKIM_CUDA_DRIVER names); nothing of CUDA is needed to build or to link. Errors
// are one line and say what to do. Objects belong to a Context and keep it alive;
// they may be used from any thread, but a Stream by one at a time.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_RUNTIME_CUDA_H
#define SKIM_RUNTIME_CUDA_H

#include "skim/Runtime/DeviceStep.h"
#include "skim/Support/Error.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace skim::cuda {

struct Functions;

struct DeviceInfo {
  int index = 0;
  std::string name;
  int capability = 0; ///< 90 for compute capability 9.0
  uint64_t bytes = 0; ///< of memory
  int multiprocessors = 0, clockKHz = 0, memoryClockKHz = 0, memoryBusBits = 0, l2Bytes = 0;
  int sharedBytes = 0; ///< of a block, opted in
  /// `0: NVIDIA H100 (sm_90, 79.1 GiB)`.
  std::string describe() const;
};

/// The driver with its devices. Errors: no driver library, one that is none, one older than CUDA 11.4, no device.
class Driver {
public:
  static Expected<std::shared_ptr<const Driver>> load();
  /// 12040 for CUDA 12.4.
  int version() const { return cudaVersion; }
  const std::vector<DeviceInfo> &devices() const { return list; }
  const Functions &functions() const { return *table; }
  /// A failure of a call, with the driver's name for it.
  Failure failure(int result, const std::string &what, const std::string &where) const;

private:
  Driver() = default;
  std::shared_ptr<Functions> table;
  int cudaVersion = 0;
  std::vector<DeviceInfo> list;
};

/// `sm_90a` → 90, and whether it is for that capability alone.
struct Chip {
  int capability = 0;
  bool exact = false;
  bool runsOn(int device) const { return exact ? device == capability : device >= capability; }
};
std::optional<Chip> parseChip(std::string_view name);
/// Of the targets `nvidia:sm_XX`, the one that uses most of such a device; empty: none runs on it.
std::string bestTarget(const std::vector<std::string> &targets, int capability);
/// The oldest driver that takes PTX of its `.version`, as 12040; nothing if the text has none.
std::optional<int> driverForPtx(std::string_view ptx);
/// `CUDA 12.4`.
std::string spellVersion(int version);

class Context;

/// Memory of a device, or pinned memory of the host.
class Memory {
public:
  Memory() = default;
  Memory(Memory &&other) noexcept;
  Memory &operator=(Memory &&other) noexcept;
  ~Memory();
  uint64_t address() const { return at; }
  uint8_t *host() const { return reinterpret_cast<uint8_t *>(at); }
  uint64_t size() const { return bytes; }

private:
  friend class Context;
  std::shared_ptr<Context> owner;
  uint64_t at = 0, bytes = 0;
  bool pinned = false;
};

/// A kernel of a module.
struct Function {
  struct OpaqueFunction *handle = nullptr;
  int registers = 0, sharedBytes = 0, localBytes = 0, maxThreads = 0;
};

/// Kernels on a device.
class Module {
public:
  ~Module();
  Module(const Module &) = delete;
  /// With `dynamicShared` bytes of shared memory behind its own.
  Expected<Function> function(const std::string &name, uint32_t dynamicShared = 0) const;

private:
  friend class Context;
  Module() = default;
  std::shared_ptr<Context> owner;
  struct OpaqueModule *handle = nullptr;
};

/// Launches in the order in which they were given.
class Graph {
public:
  ~Graph();
  Graph(const Graph &) = delete;

private:
  friend class Context;
  Graph() = default;
  std::shared_ptr<Context> owner;
  struct OpaqueGraphExec *exec = nullptr;
};

/// The device's primary context and one stream, in which everything happens.
class Context : public std::enable_shared_from_this<Context> {
public:
  /// Device number `index`; the error lists those that there are.
  static Expected<std::shared_ptr<Context>> open(int index);
  ~Context();
  Context(const Context &) = delete;

  const DeviceInfo &device() const { return info; }
  int driverVersion() const { return driver->version(); }
  uint64_t freeBytes() const;

  /// Aligned to 256; `what` names it in the error.
  Expected<Memory> allocate(uint64_t bytes, const std::string &what);
  Expected<Memory> allocatePinned(uint64_t bytes, const std::string &what);
  /// Kernels from machine code if it is for this device and the driver takes it,
  /// else from PTX. `chip` is what both were made for, `where` names them in errors.
  Expected<std::unique_ptr<Module>> load(const std::string &ptx, const std::string &cubin, const std::string &chip,
                                         const std::string &where);

  // All of these are done in order and not waited for.
  Error launch(const Function &function, std::array<uint32_t, 3> grid, uint32_t threads, uint32_t dynamicShared,
               std::span<const uint64_t> arguments);
  /// `from` stays as it is until then; pinned memory, else it is waited for.
  Error copyIn(uint64_t to, const void *from, uint64_t bytes);
  Error copyOut(void *to, uint64_t from, uint64_t bytes);
  Error copyWithin(uint64_t to, uint64_t from, uint64_t bytes);
  Error fill(uint64_t to, uint8_t value, uint64_t bytes);
  /// What `body` gives to the stream, as a graph; nothing of it is done.
  Expected<std::unique_ptr<Graph>> record(const std::function<Error()> &body);
  Error launch(const Graph &graph);
  /// Waits for everything; failures of kernels show here.
  Error wait();

  /// A point in the order of things.
  class Event {
  public:
    ~Event();
    Event(const Event &) = delete;

  private:
    friend class Context;
    Event() = default;
    std::shared_ptr<Context> owner;
    struct OpaqueEvent *handle = nullptr;
  };
  Expected<std::unique_ptr<Event>> event(bool timed);
  Error mark(Event &event);
  Error wait(Event &event);
  /// Milliseconds between two marks that were waited for.
  Expected<double> elapsed(const Event &begin, const Event &end);

  /// For libraries that take CUDA's own types: the stream, as a cudaStream_t; the context is current while `body` runs.
  Error withStream(const std::function<Error(void *stream)> &body);

private:
  friend class Memory;
  friend class Module;
  friend class Graph;
  class Current;
  Context() = default;
  Error check(int result, const std::string &what) const;
  std::shared_ptr<const Driver> driver;
  DeviceInfo info;
  int handle = -1;
  struct OpaqueContext *context = nullptr;
  struct OpaqueStream *stream = nullptr;
};

/// What a package has for a device.
struct StepCode {
  std::string where; ///< names the package in errors
  std::string chip;  ///< `sm_90a`
  std::string ptx, cubin;
  std::string launches; ///< DeviceStep.h
  std::span<const DeviceWeight> weights;
  int64_t vocabulary = 0;
  int64_t maxRows = 0;
  /// For measurements: makes weight `index` at `address` on the device, and no
  /// weight's data is looked at.
  std::function<Error(size_t index, uint64_t address)> makeWeight;
};

/// Loads kernels, copies the weights to the device and gives what runs steps
/// there. A step that comes again is a graph; its arguments that change lie in
/// memory of the device and are copied only where they are not there yet.
/// Errors: code for another device, too old a driver, too little memory.
Expected<std::unique_ptr<DeviceStep>> createStep(std::shared_ptr<Context> context, const StepCode &code);

} // namespace skim::cuda

#endif // SKIM_RUNTIME_CUDA_H
