// How long cuBLAS takes for the products that we time.
#include "Check.h"

using namespace skim;
using namespace skim::gpucheck;

Expected<double> gpucheck::timeBlas(cuda::Blas &blas, cuda::Context &context, int64_t n, int64_t k, int64_t rows,
                                    int nodes) {
  uint64_t bytes = static_cast<uint64_t>(n * k) * 2;
  uint64_t copies = copiesFor(context.device(), bytes, nodes);
  std::vector<cuda::Memory> weights;
  for (uint64_t i = 0; i < copies; ++i) {
    Expected<cuda::Memory> memory = context.allocate(bytes, "cuBLAS's weights");
    if (!memory)
      return memory.takeError();
    // Bytes of 0x33 are the number 0.225 in f16.
    if (Error error = context.fill(memory->address(), 0x33, bytes))
      return error;
    weights.push_back(std::move(*memory));
  }
  Expected<cuda::Memory> x = context.allocate(static_cast<uint64_t>(rows * k) * 2, "x"),
                         y = context.allocate(static_cast<uint64_t>(rows * n) * 2, "y");
  if (!x || !y)
    return x ? y.takeError() : x.takeError();
  if (Error error = context.fill(x->address(), 0x33, static_cast<uint64_t>(rows * k) * 2))
    return error;
  cuda::Blas::Product product = {.n = n, .k = k, .rows = rows, .stride = n, .floats = false};
  auto all = [&](int count) -> Error {
    for (int node = 0; node < count; ++node)
      if (Error error =
              blas.multiply(product, weights[static_cast<size_t>(node) % copies].address(), x->address(), y->address()))
        return error;
    return Error::success();
  };
  // Once outside of a graph: it loads its kernels then.
  if (Error error = all(1))
    return error;
  if (Error error = context.wait())
    return error;
  Expected<double> time = timeGraph(context, [&] { return all(nodes); });
  if (!time)
    return time;
  return *time * 1000 / nodes;
}
