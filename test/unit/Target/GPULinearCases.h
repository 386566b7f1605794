//===- GPULinearCases.h - linears in the simulator against the reference ----*- C++ -*-===//
#ifndef SKIM_TEST_UNIT_TARGET_GPULINEARCASES_H
#define SKIM_TEST_UNIT_TARGET_GPULINEARCASES_H

#include "RandomWeights.h"
#include "skim/Target/GPU/Linear.h"
#include "skim/Target/GPU/SimulatorLibrary.h"

namespace skim {

/// Whether SKIM_TEST_FULL is set.
bool fullTests();

/// Calls body(index, context) for so many cases, each with a context of its own that has what emission and simulation
/// want.
void inParallel(size_t count, llvm::function_ref<void(size_t index, mlir::MLIRContext &context)> body);

/// One linear in the simulator, or some on the same x.
struct Case {
  RandomWeight weight;
  int64_t n, k;
  std::string mode = "f16";
  LinearEpilogue epilogue = LinearEpilogue::Store;
  bool biased = false;
  std::vector<std::pair<RandomWeight, int64_t>> more = {}; // with their rows
  int multiprocessors = 108;
  bool descending = false;  // order of blocks
  int repeats = 1;          // of all launches, on the same memory
  int32_t firstCounter = 0; // what the counters begin with
  uint64_t requests = uint64_t(1) << 30;
  const char *target = "nvidia-sim:sm_80";
  const device::LinearFamily *family = nullptr;

  int64_t columns() const {
    int64_t sum = n;
    for (const auto &[other, rows] : more)
      sum += rows;
    return sum;
  }
};

/// What the launches of a case did, by kernel.
struct Outcome {
  std::vector<float> y;
  std::vector<sim::Counters> counters;
  std::vector<std::array<int64_t, 3>> grids;
  std::vector<std::string> kernels;
  std::vector<uint8_t> scratch;
  std::string error;
};

/// Whether a term has a low-rank pair.
bool hasPair(llvm::StringRef text);
/// x of so few bits that rounding to f16 and bf16 leaves it alone.
std::vector<float> exactFloats(size_t count, std::mt19937 &random);
/// Plans and runs a case for `m` rows of x.
Outcome simulate(mlir::MLIRContext &context, const Case &test, int64_t m, const std::vector<float> &x,
                 const std::vector<float> &bias, const std::vector<float> &gate, float before);
/// The same with random x, bias and gate, and the results compared with the reference.
Outcome compare(mlir::MLIRContext &context, const Case &test, int64_t m, std::mt19937 &random);

struct Shape {
  int64_t n, k;
};
inline constexpr Shape kShapes[] = {{1, 1}, {3, 5}, {15, 37}, {33, 130}, {145, 1024}};

/// Rows of x for the schedules: few, tiles of 16, tiles of 64 (and one more slab); all of them in a full run.
std::vector<int64_t> rowsOf(size_t number);

/// The chip with wgmma, and rows of x for its schedule: parts of a slab of 128, one, one and a part.
inline constexpr const char *kWgmma = "nvidia-sim:sm_90a";
std::vector<int64_t> wideRowsOf(size_t number);

/// A term, its shape and a number that chooses what is around it.
struct Work {
  std::string text;
  Shape shape;
  size_t number;
};
/// A case of a sweep, with what is around the weight chosen by its number.
Case caseOf(mlir::MLIRContext &context, const Work &work, const std::string &mode, std::mt19937 &random);

} // namespace skim

#endif // SKIM_TEST_UNIT_TARGET_GPULINEARCASES_H
