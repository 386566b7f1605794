//===- FakeDevice.h - a device behind a fake driver -------------*- C++ -*-===//
//
// What NVIDIA's driver promises and no more: copies and launches in a stream are
// done when somebody waits for them, not before, so that memory that is used too
// early or freed too late shows; asynchronous copies want pinned memory; what is
// called without a current context fails. Kernels run in the simulator, which
// traps what hardware leaves undefined.
//
//   SKIM_FAKE_CUDA="arch=80;kernels=a.skim/targets/nvidia-sim-sm_80/model.so"
//
// | key | |
// |---|---|
// | arch | compute capability times ten (80) |
// | name | of every device (`Simulator`) |
// | devices | how many (1); all have the same memory |
// | driver | version as 12040 (12080) |
// | kernels | the shared object of the same kernels for the simulator, several by ',' |
// | memory | bytes of the device (1 GiB) |
// | reserve | bytes of them that are free but cannot be had (0) |
// | jit | `fail`: PTX does not compile |
// | cubin | `refuse`: machine code is not taken |
// | init | what cuInit returns |
// | log | file for the counts, written when the last context is released |
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TEST_TOOLS_FAKECUDA_FAKEDEVICE_H
#define SKIM_TEST_TOOLS_FAKECUDA_FAKEDEVICE_H

#include "Cuda/DriverApi.h"
#include "Simulator/Kernel.h"

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace skim::cuda {

/// The settings in SKIM_FAKE_CUDA.
std::string setting(const std::string &key, const std::string &otherwise = {});
int64_t settingNumber(const std::string &key, int64_t otherwise);

// What the handles point to.
struct OpaqueContext {
  int device;
};
struct OpaqueFunction {
  std::string name;
  const sim::Module::Kernel *kernel;
  sim::Module *module;
  unsigned threads; // that the code requires; 0: any
  int dynamicShared = 0;
};
struct OpaqueModule {
  std::unique_ptr<sim::Module> kernels;
  std::map<std::string, unsigned> entries; // of the image, with their threads
  std::map<std::string, OpaqueFunction> functions;
};
struct OpaqueEvent {
  bool done = true; // one that was never recorded
  std::chrono::steady_clock::time_point time;
};
/// Something that a stream will do; false: the device is broken.
using Work = std::function<bool()>;
struct OpaqueGraph {
  std::vector<Work> nodes;
};
struct OpaqueGraphExec {
  std::vector<Work> nodes;
};
struct OpaqueStream {
  std::deque<Work> queue;
  bool capturing = false;
  std::vector<Work> captured;
};

/// Kernels of an image: names with the threads that they require. Fails with a line for the log.
Expected<std::map<std::string, unsigned>> readImage(const char *image, bool &isPtx);

/// All of the driver's state, behind one lock.
struct State {
  std::recursive_mutex mutex;
  sim::Device device;
  std::map<Address, uint64_t> memory;
  std::map<uint8_t *, uint64_t> pinned;
  uint64_t used = 0;
  int contexts = 0;
  Result sticky = kSuccess; // of a kernel that failed
  std::set<OpaqueStream *> streams;
  std::map<std::string, int64_t> counts;
  OpaqueContext context{};

  static State &get();
  bool isPinned(const void *data, size_t bytes) const;
  /// Runs what the stream holds, up to `event` if there is one.
  Result drain(OpaqueStream &stream, const OpaqueEvent *event = nullptr);
  Result drainAll();
  /// Appends to the queue, or to what is being captured.
  Result push(OpaqueStream &stream, Work work);
  void writeLog();
};

} // namespace skim::cuda

#endif // SKIM_TEST_TOOLS_FAKECUDA_FAKEDEVICE_H
