//===- Blas.h - OpenBLAS inside of our own tiles ----------------*- C++ -*-===//
#ifndef SKIM_LIB_QUANTIZE_BLAS_H
#define SKIM_LIB_QUANTIZE_BLAS_H

#include <cblas.h>
#include <cstdint>

extern "C" {
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda, int *info);
}

namespace skim {

/// BLAS's results depend on its number of threads, so it always has one; the
/// parallel loops are ours. Every public function that uses BLAS begins so.
inline void useOneBlasThread() { openblas_set_num_threads(1); }

/// C [m,n] = beta·C + alpha·A·B, all row-major; `transposed`: A is stored [k,m].
inline void gemm(int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, bool transposed,
                 const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  cblas_sgemm(CblasRowMajor, transposed ? CblasTrans : CblasNoTrans, CblasNoTrans, int(m), int(n), int(k), alpha, a,
              int(lda), b, int(ldb), beta, c, int(ldc));
}

} // namespace skim

#endif // SKIM_LIB_QUANTIZE_BLAS_H
