//===- sgemm.cpp - OpenBLAS on the products of a model -----------------------===//
//
//   skim-bench-sgemm ROWS THREADS NxKxCOUNT…
//
// Seconds that OpenBLAS needs for COUNT products y[ROWS, N] = x[ROWS, K]·W[N, K]ᵀ
// of each shape, every one with a weight of its own as in a model, so that
// caches help no more than there. The baseline that `make bench` sets prefill
// against. Prints the best of three turns and a checksum.
//
//===----------------------------------------------------------------------===//
#include "skim/Support/Resources.h"

#include <algorithm>
#include <cblas.h>
#include <cstdio>
#include <cstdlib>
#include <vector>

using namespace skim;

namespace {
struct Product {
  int n, k, count;
};
} // namespace

extern "C" void openblas_set_num_threads(int);

int main(int argc, char **argv) {
  std::vector<Product> products;
  int rows = argc > 2 ? std::atoi(argv[1]) : 0, threads = argc > 2 ? std::atoi(argv[2]) : 0;
  for (int i = 3; i < argc; ++i) {
    Product product{};
    if (std::sscanf(argv[i], "%dx%dx%d", &product.n, &product.k, &product.count) != 3 || product.n < 1 ||
        product.k < 1 || product.count < 1)
      rows = 0;
    products.push_back(product);
  }
  if (rows < 1 || threads < 1 || products.empty()) {
    std::fprintf(stderr, "usage: skim-bench-sgemm ROWS THREADS NxKxCOUNT...\n");
    return 2;
  }
  openblas_set_num_threads(threads);

  std::vector<std::vector<float>> weights;
  int widest = 0;
  double operations = 0;
  for (const Product &product : products) {
    widest = std::max({widest, product.n, product.k});
    operations += 2.0 * rows * product.n * product.k * product.count;
    for (int i = 0; i < product.count; ++i)
      weights.emplace_back(static_cast<size_t>(product.n) * product.k, 0.5f / product.k);
  }
  std::vector<float> x(static_cast<size_t>(rows) * widest, 1), y(static_cast<size_t>(rows) * widest);
  double best = 1e300, checksum = 0;
  for (int turn = 0; turn < 3; ++turn) {
    Stopwatch watch;
    auto weight = weights.begin();
    for (const Product &product : products)
      for (int i = 0; i < product.count; ++i)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, product.n, product.k, 1, x.data(), product.k,
                    (weight++)->data(), product.k, 0, y.data(), product.n);
    best = std::min(best, watch.seconds());
    checksum += y.front();
  }
  std::printf("{\"seconds\": %.6f, \"gflops\": %.2f, \"checksum\": %.6g}\n", best, operations / best * 1e-9, checksum);
  return 0;
}
