//===- SimulatedStep.h - a model's step on a simulated GPU ------*- C++ -*-===//
#ifndef SKIM_RUNTIME_SIMULATEDSTEP_H
#define SKIM_RUNTIME_SIMULATEDSTEP_H

#include "skim/Runtime/DeviceStep.h"
#include "skim/Runtime/Simulator.h"

#include <functional>
#include <span>
#include <vector>

namespace skim::sim {

using StepWeight = DeviceWeight;

/// The launches of a step (DeviceStep.h), one after the other, on the simulator.
class SimulatedStep : public DeviceStep {
public:
  /// `launches` is the list as text. Fails where it is damaged or names a kernel
  /// or weight that there is not.
  static Expected<std::unique_ptr<SimulatedStep>> create(std::unique_ptr<Module> kernels, std::string_view launches,
                                                         std::span<const StepWeight> weights, int64_t vocabulary,
                                                         int64_t cacheBytesPerToken);
  Error run(const skim_step_args &args) override;
  bool samples() const override { return !list.sampling.empty(); }
  Error sample(const skim_step_args &args, std::span<SampleState> states, int32_t *tokens) override;
  /// Cache blocks are memory of the host.
  Expected<void *> allocate(uint64_t, const std::string &) override { return static_cast<void *>(nullptr); }
  void release(void *) override {}
  Error copy(std::span<const Copy> copies) override;

  /// If set, collects the counters of every launch.
  std::vector<Counters> *trace = nullptr;
  /// If set, is called for every launch instead of it.
  std::function<Error(Module &, Device &, const std::string &kernel, const LaunchShape &,
                      const std::vector<Argument> &)>
      runner;
  /// The same for products of a library; called with the rows.
  std::function<Error(const LaunchList::Product &, int64_t rows)> productRunner;

private:
  SimulatedStep() = default;
  /// Both kinds of steps; no states: logits go to args.logits.
  Error step(const skim_step_args &args, std::span<SampleState> states, int32_t *chosen);
  Error launch(std::span<const LaunchList::Launch> launches, const LaunchValues &values);
  Error multiply(const LaunchList::Launch &launch, const LaunchValues &values);

  LaunchList list;
  std::unique_ptr<Module> kernels;
  Device device;
  std::vector<Address> weights;
  Address scratch = 0;
  int64_t vocabulary = 0, cacheBytesPerToken = 0;
};

} // namespace skim::sim

#endif // SKIM_RUNTIME_SIMULATEDSTEP_H
