//===- kmeans.cpp - rows a second of exact k-means, on one core -----------===//
//
// The goal that `make bench` prints against: 600 rows/s a core at 4096 columns
// and 8 centroids, on normally distributed float32 (all values differ, the
// slowest case). Prints a checksum, so that nothing is optimised away.
//
//===----------------------------------------------------------------------===//
#include "skim/Quantize/KMeans.h"
#include "skim/Quantize/Codebook.h"
#include "skim/Quantize/RoundToNearest.h"
#include "skim/Support/Resources.h"

#include <cstdio>
#include <random>
#include <vector>

using namespace skim;

static std::vector<float> normal(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(count);
  for (float &value : values)
    value = distribution(random);
  return values;
}

/// Fits rows of `columns` values to `centroids` for about half a second.
static void fits(size_t columns, unsigned centroids, bool weighted, bool onlyMax) {
  constexpr size_t rows = 16;
  std::vector<float> values = normal(rows * columns, 1), weights = normal(rows * columns, 2);
  for (float &weight : weights)
    weight *= weight;
  KMeans1D solver;
  double checksum = 0;
  size_t done = 0;
  Stopwatch watch;
  do {
    size_t row = done % rows;
    solver.fit(std::span(values).subspan(row * columns, columns), weighted ? &weights[row * columns] : nullptr,
               centroids, onlyMax);
    checksum += solver.error(centroids);
    ++done;
  } while (watch.seconds() < 0.5 || done < rows);
  std::printf("%7zu columns %4u centroids%s %-9s %8.0f rows/s/core   (checksum %.6g)\n", columns, centroids,
              onlyMax ? "     " : ", all", weighted ? "weighted" : "plain", double(done) / watch.seconds(),
              checksum / double(done));
}

int main() {
  for (bool weighted : {false, true})
    fits(4096, 8, weighted, true);
  fits(4096, 16, true, true);
  fits(4096, 256, true, true);
  for (size_t columns : {576u, 1536u})
    fits(columns, 32, true, false);

  constexpr int64_t rows = 256, columns = 4096;
  std::vector<float> values = normal(rows * columns, 3);
  MatrixView block(values.data(), rows, columns);
  auto report = [&](const char *name, auto quantize) {
    Stopwatch watch;
    auto result = quantize();
    if (!result) {
      std::fprintf(stderr, "%s\n", result.message().c_str());
      return;
    }
    std::printf("%-24s %8.0f rows/s/core   (relative error %.4e)\n", name, rows / watch.seconds(),
                result->squaredError / result->squaredNorm);
  };
  UniformOptions options;
  options.threads = 1;
  report("k3, complete", [&] { return quantizeCodebook(block, {}, CodebookFormat{}, options); });
  CodebookFormat small;
  small.table = DType::I8;
  report("k3i, complete", [&] { return quantizeCodebook(block, {}, small, options); });
  UniformFormat grid;
  grid.group = 128;
  report("w4g128, complete", [&] { return quantizeUniform(block, grid, options); });
  grid.asymmetric = true;
  report("w4g128a, complete", [&] { return quantizeUniform(block, grid, options); });
  options.searchClipping = true;
  report("w4g128a, clipping", [&] { return quantizeUniform(block, grid, options); });
  return 0;
}
