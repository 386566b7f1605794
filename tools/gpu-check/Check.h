//===- Check.h - what the runner of scripts/gpu-check is made of -*- C++ -*-===//
#ifndef SKIM_TOOLS_GPUCHECK_CHECK_H
#define SKIM_TOOLS_GPUCHECK_CHECK_H

#include "Cuda/Blas.h"
#include "skim/Support/Json.h"

#include <memory>
#include <string>
#include <vector>

namespace skim::gpucheck {

/// A launch with its kernel found.
struct Launch {
  cuda::Function function;
  std::array<uint32_t, 3> grid;
  uint32_t threads;
  struct Argument {
    enum Kind { X, Y, Scratch, Weight, Zeros, Number } kind;
    int64_t value;
    uint64_t offset;
  };
  std::vector<Argument> arguments;
};

/// A linear of Pack.cpp.
struct Case {
  std::string format;
  int64_t n, k, rows;
  bool check;
  struct Weight {
    uint64_t bytes;
    uint64_t at;         // checked: where it lies among the references
    uint32_t mask, base; // timed: what it is filled with
  };
  std::vector<Weight> weights;
  uint64_t weightBytes, scratchBytes, expected;
  std::vector<Launch> launches;
  Json predicted; // by devices' keys
  std::string name() const;
};

/// Bytes a second, of kernels and copies much larger than the L2 cache; microseconds of a node.
struct Bandwidth {
  double read = 0;
  double copy = 0; ///< read and written, each counted
  uint64_t bytes = 0;
  uint32_t checksum = 0; ///< of what was read, as it should be
  double node = 0;       ///< of a graph: a kernel that does nothing, after another
};

/// The kernels of DIR that use most of the device, and their cases.
class Cases {
public:
  static Expected<std::unique_ptr<Cases>> load(std::shared_ptr<cuda::Context> context, const std::string &folder);
  /// Compares every case that has an expectation; an entry for each.
  Expected<Json> check();
  /// Microseconds of every other case, of `nodes` launches of it in a graph, over
  /// copies of the weights that are more than the L2 cache holds.
  Expected<Json> time(int nodes);
  /// Fails if what was read has another checksum than it should have.
  Expected<Bandwidth> bandwidth(int nodes);
  /// Random words on the device (Pack.h); not waited for.
  Error fill(uint64_t address, uint64_t bytes, uint32_t mask, uint32_t base, uint32_t seed);
  const std::string &chip() const { return name; }
  /// The device as the performance model knows it (key, name, read_gbps), or null.
  const Json &modelled() const { return figures; }
  const std::vector<Case> &all() const { return cases; }

private:
  struct Loaded {
    std::vector<cuda::Memory> memory;
    std::vector<std::vector<uint64_t>> copies; // addresses of the weights
    uint64_t x, y, scratch, zeros;
  };
  Error readCase(const JsonCursor &value);
  Expected<Loaded> prepare(const Case &one, uint64_t copies);
  Error launch(const Case &one, const Loaded &loaded, size_t copy);
  Expected<Json> compare(const Case &one);

  std::shared_ptr<cuda::Context> context;
  std::unique_ptr<cuda::Module> module;
  cuda::Function fillKernel, readKernel, nothingKernel;
  std::string name;
  std::vector<Case> cases;
  std::string references;
  Json figures;
};

/// Milliseconds of a graph of what `body` launches: the best of several runs.
Expected<double> timeGraph(cuda::Context &context, const std::function<Error()> &body);

/// So many copies of `bytes` that they are four times what the L2 cache holds, if they fit in a tenth of the memory;
/// not more than `nodes` and at least two.
uint64_t copiesFor(const cuda::DeviceInfo &device, uint64_t bytes, int nodes);

/// Microseconds of cuBLAS for y = x·Wᵀ in f16, measured as Cases::time does.
Expected<double> timeBlas(cuda::Blas &blas, cuda::Context &context, int64_t n, int64_t k, int64_t rows, int nodes);

/// Greedy tokens and logits of every package in FOLDER/packages against a CPU's; an entry for each.
Expected<Json> checkPackages(const std::string &folder, int device);

/// A token of the step in FOLDER/CHIP.step.*, a model of 7B random weights.
class Step {
public:
  static Expected<std::unique_ptr<Step>> load(const std::string &folder, const std::string &chip);
  /// What it wants of the device's memory.
  uint64_t bytes() const;
  Expected<Json> time(std::shared_ptr<cuda::Context> context, Cases &cases);

private:
  Step() = default;
  cuda::StepCode code;
  std::string name;
  std::vector<Case::Weight> weights;
  int64_t capacity = 0, context = 0, prompt = 0, cacheBytes = 0, scratch = 0;
  uint64_t linearBytes = 0;
  Json predicted, linears;
};

/// Adds to the timed linears and the step what stands beside them: limit, cuBLAS, prediction. `blas` may be null.
Error addComparisons(Json &kernels, Json &step, const Cases &cases, const Bandwidth &bandwidth, cuda::Blas *blas,
                     cuda::Context &context, int nodes);
/// The table of both.
void printTable(const Json &kernels, const Json &step);

} // namespace skim::gpucheck

#endif // SKIM_TOOLS_GPUCHECK_CHECK_H
