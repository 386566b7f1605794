// cuBLAS as the machine has it: nothing of it is needed to build.
#include "Check.h"

#include <cstdlib>
#include <dlfcn.h>

using namespace skim;
using namespace skim::gpucheck;

/// The functions that we use; numbers are those of cublas_api.h (11 to 13).
struct Blas::Functions {
  int (*create)(void **handle);
  int (*destroy)(void *handle);
  int (*setStream)(void *handle, void *stream);
  int (*setWorkspace)(void *handle, void *memory, size_t bytes);
  int (*gemm)(void *handle, int transA, int transB, int m, int n, int k, const void *alpha, const void *a, int typeA,
              int strideA, const void *b, int typeB, int strideB, const void *beta, void *c, int typeC, int strideC,
              int compute, int algorithm);
  cuda::Memory workspace;
};
static constexpr int kNotTransposed = 0, kTransposed = 1, kF16 = 2, kComputeF32 = 68, kDefaultAlgorithm = -1;
static constexpr size_t kWorkspace = size_t(32) << 20;

std::unique_ptr<Blas> Blas::load(std::shared_ptr<cuda::Context> context, std::string &note) {
  void *library = nullptr;
  const char *other = std::getenv("SKIM_CUBLAS");
  if (other)
    library = ::dlopen(other, RTLD_NOW | RTLD_LOCAL);
  else
    for (const char *name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"})
      if (!library)
        library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    note = "cuBLAS is absent: no comparison with it (SKIM_CUBLAS may name its library)";
    return nullptr;
  }
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
  // Memory of our own: what the library allocates while a graph is recorded would fail.
  Expected<cuda::Memory> workspace = context->allocate(kWorkspace, "cuBLAS");
  if (whole && workspace) {
    functions.workspace = std::move(*workspace);
    Error error = context->withStream([&](void *stream) -> Error {
      if (functions.create(&blas->handle) != 0)
        return fail("cuBLAS does not start");
      if (functions.setStream(blas->handle, stream) != 0 ||
          functions.setWorkspace(blas->handle, reinterpret_cast<void *>(functions.workspace.address()), kWorkspace) !=
              0)
        return fail("cuBLAS does not take our stream");
      return Error::success();
    });
    whole = !error;
  }
  if (!whole || !blas->handle) {
    note = "cuBLAS does not start: no comparison with it";
    return nullptr;
  }
  blas->context = std::move(context);
  return blas;
}

Blas::~Blas() {
  if (handle && context)
    (void)context->withStream([&](void *) -> Error {
      functions->destroy(handle);
      return Error::success();
    });
}

Expected<double> Blas::time(int64_t n, int64_t k, int64_t rows, int nodes) {
  uint64_t bytes = static_cast<uint64_t>(n * k) * 2;
  uint64_t copies = copiesFor(context->device(), bytes, nodes);
  std::vector<cuda::Memory> weights;
  for (uint64_t i = 0; i < copies; ++i) {
    Expected<cuda::Memory> memory = context->allocate(bytes, "cuBLAS's weights");
    if (!memory)
      return memory.takeError();
    // Bytes of 0x33 are the number 0.225 in f16.
    if (Error error = context->fill(memory->address(), 0x33, bytes))
      return error;
    weights.push_back(std::move(*memory));
  }
  Expected<cuda::Memory> x = context->allocate(static_cast<uint64_t>(rows * k) * 2, "x"),
                         y = context->allocate(static_cast<uint64_t>(rows * n) * 2, "y");
  if (!x || !y)
    return x ? y.takeError() : x.takeError();
  if (Error error = context->fill(x->address(), 0x33, static_cast<uint64_t>(rows * k) * 2))
    return error;
  auto pointer = [](const cuda::Memory &memory) { return reinterpret_cast<void *>(memory.address()); };
  auto product = [&](int node) {
    float one = 1, zero = 0;
    // Columns first: yᵀ = W·xᵀ, and W lies as its transpose.
    return functions->gemm(handle, kTransposed, kNotTransposed, static_cast<int>(n), static_cast<int>(rows),
                           static_cast<int>(k), &one, pointer(weights[static_cast<size_t>(node) % copies]), kF16,
                           static_cast<int>(k), pointer(*x), kF16, static_cast<int>(k), &zero, pointer(*y), kF16,
                           static_cast<int>(n), kComputeF32, kDefaultAlgorithm);
  };
  auto all = [&](int count) {
    return context->withStream([&](void *) -> Error {
      for (int node = 0; node < count; ++node)
        if (int status = product(node))
          return fail("cuBLAS failed", "", "status 0", std::to_string(status));
      return Error::success();
    });
  };
  // Once outside of a graph: it loads its kernels then.
  if (Error error = all(1))
    return error;
  if (Error error = context->wait())
    return error;
  Expected<double> time = timeGraph(*context, [&] { return all(nodes); });
  if (!time)
    return time;
  return *time * 1000 / nodes;
}
