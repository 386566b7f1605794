//===- TensorHost.cpp - BLAS and memory for compiled tensor code ------------===//

#include "skim/Target/CPU/TensorLibrary.h"

#include <algorithm>
#include <atomic>
#include <cblas.h>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <unordered_map>

using namespace skim;

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

namespace {
constexpr size_t headerBytes = 64;

/// Blocks that a thread released, by size: a model's functions ask for the same
/// sizes again and again, and fresh pages from the system cost more than loops.
class Pool {
public:
  ~Pool() {
    for (auto &[bytes, blocks] : free)
      for (void *block : blocks)
        std::free(block);
  }
  void *allocate(size_t bytes) {
    // Sizes in steps of an eighth: lengths that differ a little share blocks.
    size_t step = 64;
    while (step * 16 < bytes)
      step *= 2;
    size_t rounded = (bytes + step - 1) / step * step + headerBytes;
    std::vector<void *> &blocks = free[rounded];
    void *block;
    if (blocks.empty()) {
      block = std::aligned_alloc(64, rounded);
      if (!block)
        throw std::bad_alloc();
      *static_cast<size_t *>(block) = rounded;
    } else {
      block = blocks.back();
      blocks.pop_back();
    }
    return static_cast<char *>(block) + headerBytes;
  }
  void release(void *memory) {
    void *block = static_cast<char *>(memory) - headerBytes;
    free[*static_cast<size_t *>(block)].push_back(block);
  }

private:
  std::unordered_map<size_t, std::vector<void *>> free;
};
} // namespace

namespace {
/// A thread's pool; threads come and go, pools stay for the next ones.
class OwnPool {
public:
  OwnPool() {
    std::lock_guard<std::mutex> lock(mutex());
    if (idle().empty()) {
      pool = std::make_unique<Pool>();
    } else {
      pool = std::move(idle().back());
      idle().pop_back();
    }
  }
  ~OwnPool() {
    std::lock_guard<std::mutex> lock(mutex());
    idle().push_back(std::move(pool));
  }
  Pool &operator*() { return *pool; }

private:
  // Never destroyed: threads may end after main does.
  static std::mutex &mutex() {
    static auto *made = new std::mutex();
    return *made;
  }
  static std::vector<std::unique_ptr<Pool>> &idle() {
    static auto *made = new std::vector<std::unique_ptr<Pool>>();
    return *made;
  }
  std::unique_ptr<Pool> pool;
};
} // namespace

static Pool &pool() {
  static thread_local OwnPool own;
  return *own;
}
static void *allocate(int64_t bytes) { return pool().allocate(static_cast<size_t>(std::max<int64_t>(bytes, 1))); }
static void release(void *memory) {
  if (memory)
    pool().release(memory);
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// OpenBLAS's results depend on its number of threads: we have our own.
static void useOneThread() {
  static std::once_flag once;
  std::call_once(once, [] { openblas_set_num_threads(1); });
}

static std::atomic<uint64_t> operations;

double skim::blasOperations() { return static_cast<double>(operations.load()); }

void skim::blasProduct(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                       const float *b, int64_t ldb, bool accumulate, float *c, int64_t ldc) {
  useOneThread();
  if (m == 0 || n == 0)
    return;
  operations.fetch_add(2 * static_cast<uint64_t>(m * n * k), std::memory_order_relaxed);
  cblas_sgemm(CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1, a,
              static_cast<blasint>(lda), b, static_cast<blasint>(ldb), accumulate ? 1 : 0, c,
              static_cast<blasint>(ldc));
}

namespace {
/// A matrix as BLAS takes it: rows that follow each other, or columns.
struct BlasView {
  bool fits = false, transposed = false;
  int64_t leading = 1;
};
} // namespace

static BlasView viewOf(int64_t rows, int64_t columns, int64_t rowStride, int64_t columnStride) {
  if ((columnStride == 1 || columns == 1) && (rowStride >= columns || rows == 1))
    return {true, false, std::max(rows == 1 ? columns : rowStride, columns)};
  if ((rowStride == 1 || rows == 1) && (columnStride >= rows || columns == 1))
    return {true, true, std::max(columns == 1 ? rows : columnStride, rows)};
  return {};
}

static void product(int64_t m, int64_t n, int64_t k, const float *a, int64_t aRow, int64_t aColumn, const float *b,
                    int64_t bRow, int64_t bColumn, float *c, int64_t cRow, int64_t cColumn) {
  if (m == 0 || n == 0 || k == 0)
    return;
  BlasView va = viewOf(m, k, aRow, aColumn), vb = viewOf(k, n, bRow, bColumn), vc = viewOf(m, n, cRow, cColumn);
  if (va.fits && vb.fits && vc.fits && !vc.transposed)
    return blasProduct(va.transposed, vb.transposed, m, n, k, a, va.leading, b, vb.leading, true, c, vc.leading);
  if (va.fits && vb.fits && vc.fits) // Cᵀ += Bᵀ·Aᵀ
    return blasProduct(!vb.transposed, !va.transposed, n, m, k, b, vb.leading, a, va.leading, true, c, vc.leading);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float sum = c[i * cRow + j * cColumn];
      for (int64_t l = 0; l < k; ++l)
        sum += a[i * aRow + l * aColumn] * b[l * bRow + j * bColumn];
      c[i * cRow + j * cColumn] = sum;
    }
}

const TensorHost &skim::defaultTensorHost() {
  static const TensorHost host = {allocate, release, product};
  return host;
}
