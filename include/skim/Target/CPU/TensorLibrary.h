//===- TensorLibrary.h - functions on dense tensors, compiled ---*- C++ -*-===//
//
// Calibration and tuning compute with dense float weights: functions of lm,
// skim, linalg, tensor, arith and math become machine code that runs in this
// process. Products of matrices are calls of the host's BLAS; everything else is
// fused loops that LLVM vectorises. (Kernels of packages are another matter:
// Linear.h, Step.h.)
//
//===----------------------------------------------------------------------===//
#ifndef SKIM_TARGET_CPU_TENSORLIBRARY_H
#define SKIM_TARGET_CPU_TENSORLIBRARY_H

#include "skim/Support/Error.h"
#include "skim/Target/CPU/TargetInfo.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace skim {

/// What compiled tensor code asks of its host. Called from any thread.
struct TensorHost {
  /// `bytes` bytes aligned to 64; never null (throws where there is no memory).
  void *(*allocate)(int64_t bytes);
  void (*release)(void *memory);
  /// C[m,n] += A[m,k] · B[k,n] in f32, all at any strides (in elements).
  void (*product)(int64_t m, int64_t n, int64_t k, const float *a, int64_t aRow, int64_t aColumn, const float *b,
                  int64_t bRow, int64_t bColumn, float *c, int64_t cRow, int64_t cColumn);
};

/// BLAS on one thread (callers run sequences and tiles side by side), memory
/// from a pool of each thread.
const TensorHost &defaultTensorHost();
/// C[m,n] (ldc) += or = op(A) · op(B), row-major, by that BLAS on one thread.
void blasProduct(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                 const float *b, int64_t ldb, bool accumulate, float *c, int64_t ldc);
/// Floating-point operations of all its products in this process so far.
double blasOperations();

/// The type of a tensor that a function takes or returns.
struct TensorSlot {
  std::vector<int64_t> shape; ///< −1: the call's size
  mlir::Type element;
  /// Elements where unknown dimensions are `size`.
  int64_t elements(int64_t size) const;
};

/// Loaded code of a module's public functions. Each is exported as
/// `NAME(const void **tensors, int64_t size)`: arguments, then results, all
/// row-major; `size` is every unknown dimension.
class TensorLibrary {
public:
  struct Function {
    std::string name;
    std::vector<TensorSlot> arguments, results;
    void (*code)(const void *const *tensors, int64_t size) = nullptr;
    /// Runs it; thread-safe. Results must not overlap anything.
    void run(std::span<const void *const> inputs, std::span<void *const> outputs, int64_t size) const;
  };

  /// Compiles the public functions of `module` (consumed), which take and return
  /// ranked tensors without encodings, for a target that this machine runs.
  static Expected<std::unique_ptr<TensorLibrary>> build(mlir::ModuleOp module, const TargetInfo &target,
                                                        const TensorHost &host = defaultTensorHost());
  ~TensorLibrary();
  /// The function of that name, or null.
  const Function *find(std::string_view name) const;

private:
  TensorLibrary() = default;
  std::vector<Function> functions;
  void *handle = nullptr;
};

} // namespace skim

#endif // SKIM_TARGET_CPU_TENSORLIBRARY_H
