// cuBLAS as the machine has it: nothing of it is needed to build.
#include "Blas.h"

#include <cstdlib>
#include <dlfcn.h>

using namespace skim;
using namespace skim::cuda;

/// The functions that we use; numbers are those of cublas_api.h and library_types.h (11 to 13).
struct Blas::Functions {
  int (*create)(void **handle);
  int (*destroy)(void *handle);
  int (*setStream)(void *handle, void *stream);
  int (*setWorkspace)(void *handle, void *memory, size_t bytes);
  int (*gemm)(void *handle, int transA, int transB, int m, int n, int k, const void *alpha, const void *a, int typeA,
              int strideA, const void *b, int typeB, int strideB, const void *beta, void *c, int typeC, int strideC,
              int compute, int algorithm);
};
static constexpr int kNotTransposed = 0, kTransposed = 1, kF32 = 0, kF16 = 2, kBF16 = 14, kComputeF32 = 68,
                     kDefaultAlgorithm = -1;
static constexpr size_t kWorkspace = size_t(32) << 20;

Expected<std::unique_ptr<Blas>> Blas::load(std::shared_ptr<Context> context) {
  void *library = nullptr;
  const char *named = std::getenv("SKIM_CUBLAS");
  if (named && *named)
    library = ::dlopen(named, RTLD_NOW | RTLD_LOCAL);
  else
    for (const char *name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"})
      if (!library)
        library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  std::string path = named && *named ? named : "libcublas.so";
  if (!library)
    return fail("no cuBLAS", path, "the library", "none", "install it, or name it by SKIM_CUBLAS");
  std::unique_ptr<Blas> blas(new Blas());
  blas->functions = std::make_unique<Functions>();
  Functions &functions = *blas->functions;
  bool whole = true;
  auto find = [&](auto &function, const char *symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, symbol));
    whole &= function != nullptr;
  };
  find(functions.create, "cublasCreate_v2");
  find(functions.destroy, "cublasDestroy_v2");
  find(functions.setStream, "cublasSetStream_v2");
  find(functions.setWorkspace, "cublasSetWorkspace_v2");
  find(functions.gemm, "cublasGemmEx");
  if (!whole)
    return fail("not cuBLAS", path, "its functions", "a library without them");
  // Memory of our own: what the library allocates while a graph is recorded would fail.
  Expected<Memory> workspace = context->allocate(kWorkspace, "cuBLAS");
  if (!workspace)
    return workspace.takeError();
  blas->workspace = std::move(*workspace);
  Error error = context->withStream([&](void *stream) -> Error {
    int status = functions.create(&blas->handle);
    if (!status)
      status = functions.setStream(blas->handle, stream);
    if (!status)
      status = functions.setWorkspace(blas->handle, reinterpret_cast<void *>(blas->workspace.address()), kWorkspace);
    return status ? fail("cuBLAS does not start", path, "status 0", std::to_string(status)) : Error::success();
  });
  blas->context = std::move(context);
  if (error)
    return error;
  return blas;
}

Blas::~Blas() {
  if (handle)
    (void)context->withStream([&](void *) -> Error {
      functions->destroy(handle);
      return Error::success();
    });
}

Error Blas::multiply(const Product &product, uint64_t w, uint64_t x, uint64_t y) {
  return context->withStream([&](void *) -> Error {
    float one = 1, before = product.add ? 1 : 0;
    int type = product.bf16 ? kBF16 : kF16, k = static_cast<int>(product.k);
    auto pointer = [](uint64_t address) { return reinterpret_cast<void *>(address); };
    // Columns first: yᵀ = W·xᵀ, and W lies as its transpose.
    int status = functions->gemm(handle, kTransposed, kNotTransposed, static_cast<int>(product.n),
                                 static_cast<int>(product.rows), k, &one, pointer(w), type, k, pointer(x), type, k,
                                 &before, pointer(y), product.floats ? kF32 : type, static_cast<int>(product.stride),
                                 kComputeF32, kDefaultAlgorithm);
    return status ? fail("cuBLAS failed", "", "status 0", std::to_string(status)) : Error::success();
  });
}
