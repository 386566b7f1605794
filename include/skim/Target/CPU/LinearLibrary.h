//===- LinearLibrary.h - linear kernels by themselves -----------*- C++ -*-===//
//
// Compiles and loads kernels outside of a model, for tests and benchmarks.
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_CPU_LINEARLIBRARY_H
#define SKIM_TARGET_CPU_LINEARLIBRARY_H

#include "skim/Target/CPU/Linear.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace skim {

/// One linear: y = x·Wᵀ (+ bias), or added to y.
struct LinearCase {
  WeightEncoding term;
  int64_t n = 0, k = 0;
  std::string mode = "f32";
  LinearEpilogue epilogue = LinearEpilogue::Store;
  bool biased = false;
  /// Of the codes in LinearRun::components; null: rows.
  LayoutAttr layout = {};
};

/// The data of a run.
struct LinearRun {
  const float *x; // [rows, k]
  float *y;       // [rows, n]
  int64_t rows;
  std::vector<const void *> components; // in the order of getComponents()
  const float *bias = nullptr;          // [n], if the case is biased
};

/// Threads that run the same function together again and again.
class ThreadTeam {
public:
  explicit ThreadTeam(int32_t threads);
  ~ThreadTeam();
  int32_t size() const;
  /// Runs `body(thread)` on all threads (the caller is thread 0) and waits.
  void run(const std::function<void(int32_t thread)> &body);
  /// For skim_step_args.barrier, with `this` as context.
  static void barrier(void *context, int32_t thread);

private:
  struct State;
  std::unique_ptr<State> state;
};

/// A loaded shared object with a kernel for each case.
class LinearLibrary {
public:
  /// Fails if a case has no kernel or this host cannot run the target.
  static Expected<std::unique_ptr<LinearLibrary>> build(mlir::MLIRContext &context, const TargetInfo &target,
                                                        llvm::ArrayRef<LinearCase> cases);
  ~LinearLibrary();
  void run(size_t index, const LinearRun &run, ThreadTeam &team);

private:
  LinearLibrary() = default;
  struct Kernel;
  std::vector<Kernel> kernels;
  void *handle = nullptr;
  std::vector<char> scratch;
};

} // namespace skim

#endif // SKIM_TARGET_CPU_LINEARLIBRARY_H
