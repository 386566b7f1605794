//===- Blas.h - products of cuBLAS ------------------------------*- C++ -*-===//
#ifndef SKIM_LIB_RUNTIME_CUDA_BLAS_H
#define SKIM_LIB_RUNTIME_CUDA_BLAS_H

#include "skim/Runtime/Cuda.h"

namespace skim::cuda {

/// cuBLAS, loaded at run time ($SKIM_CUBLAS names another library).
class Blas {
public:
  /// Fails where it is absent or does not start.
  static Expected<std::unique_ptr<Blas>> load(std::shared_ptr<Context> context);
  ~Blas();

  /// y (+)= x·Wᵀ with sums in f32: W [n, k], x [rows, k], y [rows, n] with `stride` elements from row to row.
  struct Product {
    int64_t n, k, rows, stride;
    bool bf16 = false;  ///< of W and x; else f16
    bool add = false;   ///< to y
    bool floats = true; ///< y is f32; else as W
  };
  /// On the context's stream; pointers of the device. The first product of a shape loads kernels, which fails while a
  /// graph is recorded.
  Error multiply(const Product &product, uint64_t w, uint64_t x, uint64_t y);

private:
  Blas() = default;
  struct Functions;
  std::shared_ptr<Context> context;
  std::unique_ptr<Functions> functions;
  Memory workspace;
  void *handle = nullptr;
};

} // namespace skim::cuda

#endif // SKIM_LIB_RUNTIME_CUDA_BLAS_H
