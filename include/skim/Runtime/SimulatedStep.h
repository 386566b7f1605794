//===- SimulatedStep.h - a model's step on a simulated GPU ------*- C++ -*-===//
//
// A step on a device is a list of launches (JSON, written by skim::device::
// generateStep):
//   { "version": 1, "scratch": bytes,
//     "variants": [ { "rows": most rows, "launches": [
//       { "kernel": name, "grid": [x, y, z], "threads": of a block, "wanted": bool,
//         "arguments": [ [kind, value, offset], … ] } ] } ] }
// The variant with the fewest rows that suffice runs. Blocks x = 0: one for each
// row, of the wanted rows if `wanted`; such launches are left out where nobody
// wants rows. Arguments: `scratch` and `logits` (pointers, `offset` bytes on),
// `weight` number `value`, `tokens`, `start`, `count`, `wanted`, `caches`,
// `capacity` (the pointers of skim_step_args), `rows`, `wanted_rows`, `length`
// and `number` (i32).
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_RUNTIME_SIMULATEDSTEP_H
#define SKIM_RUNTIME_SIMULATEDSTEP_H

#include "skim-rt/abi.h"
#include "skim/Runtime/Simulator.h"

#include <functional>
#include <span>
#include <vector>

namespace skim::sim {

/// A weight as the package maps it, aligned to 64.
struct StepWeight {
  std::string name;
  const void *data;
  uint64_t bytes;
};

class SimulatedStep {
public:
  /// `launches` is the list as text. Fails where it is damaged or names a kernel
  /// or weight that there is not.
  static Expected<std::unique_ptr<SimulatedStep>> create(std::unique_ptr<Module> kernels, std::string_view launches,
                                                         std::span<const StepWeight> weights, int64_t vocabulary,
                                                         int64_t cacheBytesPerToken);
  /// A step, as skim_step; args.weights and args.scratch are not looked at.
  Error run(const skim_step_args &args);
  /// If set, collects the counters of every launch.
  std::vector<Counters> *trace = nullptr;
  /// If set, is called for every launch instead of it.
  std::function<Error(Module &, Device &, const std::string &kernel, const LaunchShape &,
                      const std::vector<Argument> &)>
      runner;

private:
  SimulatedStep() = default;
  enum class Source {
    Scratch,
    Logits,
    Weight,
    Tokens,
    Start,
    Count,
    Wanted,
    Caches,
    Capacity,
    Rows,
    WantedRows,
    Length,
    Number
  };
  struct Value {
    Source source;
    int64_t value, offset;
  };
  struct Launch {
    std::string kernel;
    std::array<uint32_t, 3> grid;
    uint32_t threads;
    bool wanted;
    std::vector<Value> arguments;
  };
  struct Variant {
    int64_t rows;
    std::vector<Launch> launches;
  };
  friend struct StepParser;

  std::unique_ptr<Module> kernels;
  Device device;
  std::vector<Variant> variants; ///< by rows
  std::vector<Address> weights;
  Address scratch = 0;
  int64_t vocabulary = 0, cacheBytesPerToken = 0;
};

} // namespace skim::sim

#endif // SKIM_RUNTIME_SIMULATEDSTEP_H
