//===- CudaStep.h - a model's step on an NVIDIA device ----------*- C++ -*-===//
#ifndef SKIM_LIB_RUNTIME_CUDA_CUDASTEP_H
#define SKIM_LIB_RUNTIME_CUDA_CUDASTEP_H

#include "Blas.h"
#include "skim/Runtime/Cuda.h"

#include <list>
#include <map>
#include <mutex>

namespace skim::cuda {

/// The arguments of a step that change from one to the next, as they lie in the
/// device's memory: arrays of `rows` elements each, one behind the other.
class StepState {
public:
  explicit StepState(int64_t rows) : rows(static_cast<size_t>(rows)), bytes(this->rows * 64) {}
  size_t size() const { return bytes.size(); }
  const uint8_t *data() const { return bytes.data(); }
  bool operator==(const StepState &) const = default;

  /// Where a source's array begins.
  size_t offset(LaunchList::Source source) const;
  int32_t *numbers(LaunchList::Source source) { return reinterpret_cast<int32_t *>(bytes.data() + offset(source)); }
  uint64_t *wide(LaunchList::Source source) { return reinterpret_cast<uint64_t *>(bytes.data() + offset(source)); }
  SampleState *sampling() {
    return reinterpret_cast<SampleState *>(bytes.data() + offset(LaunchList::Source::Sampling));
  }

private:
  size_t rows;
  std::vector<uint8_t> bytes;
};

class CudaStep : public DeviceStep {
public:
  static Expected<std::unique_ptr<DeviceStep>> create(std::shared_ptr<Context> context, const StepCode &code);
  ~CudaStep() override;

  Error run(const skim_step_args &args) override;
  bool samples() const override { return !list.sampling.empty(); }
  Error sample(const skim_step_args &args, std::span<SampleState> states, int32_t *tokens) override;
  Expected<void *> allocate(uint64_t bytes, const std::string &what) override;
  void release(void *memory) override;
  Error copy(std::span<const Copy> copies) override;

private:
  CudaStep(std::shared_ptr<Context> context, int64_t maxRows)
      : context(std::move(context)), maxRows(maxRows), next(maxRows), there(maxRows) {}
  Error findKernels();
  Error copyWeights(std::span<const DeviceWeight> weights);
  Error makeRoom(int64_t wantedRows);
  Error step(const skim_step_args &args, std::span<SampleState> states, int32_t *tokens);
  void describe(const skim_step_args &args, std::span<const SampleState> states);
  Error launch(std::span<const LaunchList::Launch> launches, const LaunchValues &values);
  Error launchStep(const LaunchList::Variant &variant, const LaunchValues &values, bool sampling);

  /// What is fixed in a graph.
  struct Shape {
    int64_t variant, rows, length, wanted;
    bool sampling;
    auto operator<=>(const Shape &) const = default;
  };
  struct Recorded {
    Shape shape;
    std::unique_ptr<Graph> graph; // null: seen once
  };

  std::shared_ptr<Context> context;
  LaunchList list;
  std::unique_ptr<Module> module;
  std::unique_ptr<Blas> blas; // null where no launch is a library's
  std::map<std::string, Function, std::less<>> functions;
  int64_t maxRows, vocabulary = 0;

  std::mutex mutex; // guards what follows and the stream
  Memory weights, scratch, state, chosen, logits, staging;
  std::vector<uint64_t> weightAddresses;
  int64_t logitRows = 0;
  StepState next, there; // what a step needs, and what the device has
  bool stateKnown = false;
  std::list<Recorded> graphs; // the last used first
  std::map<void *, Memory> blocks;
};

} // namespace skim::cuda

#endif // SKIM_LIB_RUNTIME_CUDA_CUDASTEP_H
